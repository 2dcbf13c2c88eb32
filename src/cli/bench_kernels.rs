//! `fathom bench kernels`: GPU time of every kernel's cases, beside what the device can do at best.

use std::io::Write;

use anyhow::bail;
use fathom::gpu::{Gpu, Recording, StepPlan};
use fathom::kernels::{Tuner, limits};
use serde_json::json;

use super::args::{BenchKernelsArgs, DeviceArgs};
use super::table::{self, Table};

pub async fn run(args: BenchKernelsArgs, device: &DeviceArgs) -> anyhow::Result<()> {
    let options = device.gpu();
    let gpu = Gpu::open(&options).await?;
    if let Some(tuner) = Tuner::of(&options, &gpu) {
        tuner.apply(&gpu);
    }
    let only = args.only.as_deref().unwrap_or_default();
    let mut rows = vec![];
    for case in fathom::kernels::cases() {
        if !case.name.contains(only) || !(case.bench || args.all) {
            continue;
        }
        let prepared = case.prepare(&gpu)?;
        let recording = &prepared.recording;
        let secs = median_secs(&gpu, recording, args.runs).await?;
        let sum = |of: fn(&StepPlan) -> u64| recording.plan().map(of).sum::<u64>();
        rows.push((case.name, secs, sum(|step| step.flops), sum(|step| step.read_bytes + step.written_bytes)));
    }
    let mut best = [0.0; 2];
    for (best, case) in best.iter_mut().zip(limits()) {
        let recording = case.prepare(&gpu)?.recording;
        let secs = median_secs(&gpu, &recording, args.runs).await?;
        *best = recording.plan().map(|step| if step.flops > 0 { step.flops } else { step.read_bytes + step.written_bytes }).sum::<u64>()
            as f64
            / secs;
    }
    let [copy, arithmetic] = best;
    if rows.is_empty() {
        bail!("--only {only:?}: expected part of a case's name, found no such case; --all has more");
    }
    let mut out = std::io::stdout().lock();
    let per_sec = |count: u64, secs: f64| count as f64 / secs.max(1e-9) / 1e9;
    if args.json {
        let case = |(name, secs, flops, bytes): &(String, f64, u64, u64)| json!({"name": name, "secs": secs, "flops": flops, "bytes": bytes, "gflops": per_sec(*flops, *secs), "gbytes_per_sec": per_sec(*bytes, *secs)});
        let all: Vec<_> = rows.iter().map(case).collect();
        let report = json!({"device": gpu.caps().to_string(), "timestamps": gpu.caps().timestamps,
            "copy_bytes_per_sec": copy, "flops_per_sec": arithmetic, "kernels": all});
        return Ok(writeln!(out, "{report:#}")?);
    }
    let mut list = Table::new(&["case", ">time", ">GFLOP/s", ">of peak", ">GB/s", ">of copy"]);
    for (name, secs, flops, bytes) in rows {
        let share = |count: u64, best: f64| format!("{:.0} %", 100.0 * count as f64 / secs.max(1e-9) / best.max(1e-9));
        let (gflops, gbytes) = (format!("{:.2}", per_sec(flops, secs)), format!("{:.2}", per_sec(bytes, secs)));
        list.row([name, table::secs(secs), gflops, share(flops, arithmetic), gbytes, share(bytes, copy)]);
    }
    writeln!(out, "{}", gpu.caps())?;
    writeln!(out, "at best: copies {:.1} GB/s (read and written), multiplies and adds {:.1} GFLOP/s", copy / 1e9, arithmetic / 1e9)?;
    if !gpu.caps().timestamps {
        writeln!(out, "no timestamp queries on this device: times include submitting")?;
    }
    Ok(write!(out, "{list}")?)
}

/// The median time of a replay, after one that does not count.
async fn median_secs(gpu: &Gpu, recording: &Recording, runs: usize) -> anyhow::Result<f64> {
    let mut all = vec![];
    for _ in 0..=runs {
        all.push(gpu.replay_secs(recording).await?);
    }
    Ok(super::bench::median(&mut all[1..]))
}
