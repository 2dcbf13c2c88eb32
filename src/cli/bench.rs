//! `fathom bench model`: loading, first token, prefill, decode, and where the time of a decoded token goes.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::anyhow;
use fathom::checkpoint::{Checkpoint, Scale, WeightFormat};
use fathom::engine::default_model_path;
use fathom::gpu::{Gpu, KernelTime, StepPlan};
use fathom::model::{Model, ModelConfig};
use fathom::sampler::Sampling;
use fathom::session::{Runtime, RuntimeOptions, Session, spread_ids};
use serde_json::{Value, json};

use super::args::{BenchModelArgs, DeviceArgs, Weights};
use super::table::{self, Table};

/// The medians at one depth.
struct At {
    depth: usize,
    first_token_secs: f64,
    decode_secs: f64,
}

pub async fn run(args: BenchModelArgs, device: &DeviceArgs) -> anyhow::Result<()> {
    let before = args.compare.as_deref().map(read_report).transpose()?;
    let gpu = Gpu::open(&device.gpu()).await?;
    let since = Instant::now();
    let (name, model) = load(&args, &gpu).await?;
    let load_secs = since.elapsed().as_secs_f64();
    let deepest = args.depth.iter().copied().max().unwrap_or(0);
    let needed = deepest + args.prompt + args.tokens + 1;
    let defaults = RuntimeOptions::default();
    let options = RuntimeOptions {
        context: device.context.unwrap_or(needed).max(needed),
        chunk: device.chunk.unwrap_or(defaults.chunk),
        deterministic: device.deterministic,
        cache: device.cache_format(),
        ..defaults
    };
    let (chunk, cache) = (options.chunk, options.cache);
    let mut runtime = Runtime::new(model.clone(), options)?;
    let mut session = runtime.session()?;
    let mut depths = vec![];
    for &depth in &args.depth {
        depths.push(measure(&mut runtime, &mut session, &args, depth).await?);
    }
    runtime.rewind(&mut session, args.depth[0]);
    let (prefill, prefill_secs) = by_kernel(runtime.kernel_times(&mut session, args.prompt.min(chunk)).await?);
    let (kernels, decode_secs) = by_kernel(runtime.kernel_times(&mut session, 1).await?);
    let plan: Vec<StepPlan> = runtime.decode_plan()?.plan().cloned().collect();
    let bytes = |steps: &mut dyn Iterator<Item = &StepPlan>| steps.map(|step| step.read_bytes + step.written_bytes).sum::<u64>();
    let moved = bytes(&mut plan.iter());
    // Every weight that a token needs has to be read once, never more than all; the rest are activations and cache.
    let least: u64 = plan.iter().filter(|step| step.variant.contains("weight_")).map(|step| step.read_bytes).sum();
    let least = least.min(model.weight_bytes());
    let speeds = |at: &At| {
        json!({
            "depth": at.depth, "first_token_secs": at.first_token_secs,
            "prefill_tokens_per_sec": args.prompt as f64 / at.first_token_secs, "decode_tokens_per_sec": args.tokens as f64 / at.decode_secs,
        })
    };
    let mut report = json!({
        "model": name, "device": gpu.caps().to_string(), "prompt": args.prompt, "tokens": args.tokens,
        "runs": args.runs, "chunk": chunk, "cache": cache.to_string(), "load_secs": load_secs,
        "dispatches_per_token": plan.len(), "bytes_per_token": moved, "least_bytes_per_token": least,
        "gpu_secs_per_token": decode_secs, "kernels": kernels,
        "gpu_secs_per_chunk": prefill_secs, "prefill_kernels": prefill, "weight_bytes": model.weight_bytes(),
        "device_bytes": gpu.held_bytes(), "host_peak_bytes": host_peak_bytes(),
        "depths": depths.iter().map(speeds).collect::<Vec<_>>(),
    });
    // The first depth's speeds are the report's own: what `--compare` looks at.
    if let (Value::Object(report), Some(Value::Object(first))) = (&mut report, depths.first().map(speeds)) {
        report.extend(first);
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        return Ok(writeln!(out, "{report:#}")?);
    }
    Ok(write!(out, "{}", text(&report, before.as_ref()))?)
}

/// Rows for the report, and the sum; none where the device has no timestamp queries.
fn by_kernel(times: Option<Vec<KernelTime>>) -> (Vec<Value>, Option<f64>) {
    let rows = times.iter().flatten().map(|time| json!({"kernel": time.kernel, "dispatches": time.dispatches, "secs": time.secs}));
    (rows.collect(), times.as_ref().map(|times| times.iter().map(|time| time.secs).sum()))
}

async fn load(args: &BenchModelArgs, gpu: &Gpu) -> anyhow::Result<(String, Arc<Model>)> {
    let mut bar = super::load::LateBar::new("loading {wide_bar} {bytes}/{total_bytes}");
    let mut progress = |at: fathom::model::LoadProgress| bar.at(at.done_bytes, at.total_bytes);
    let loaded = match &args.shape {
        Some(shape) => {
            let config =
                ModelConfig::named_shape(shape).ok_or_else(|| anyhow!("--shape {shape}: expected one of {:?}", ModelConfig::SHAPES))?;
            let name = format!("{shape} {:?}", args.weights).to_lowercase();
            Model::random(gpu, config, format(args.weights), 1, &mut progress).await.map(|model| (name, model))
        }
        None => {
            let path = args.model.clone().map_or_else(default_model_path, Ok)?;
            let checkpoint = Checkpoint::open(&path)?;
            let model = Model::load(gpu, &checkpoint, &mut progress).await;
            checkpoint.release_pages();
            model.map(|model| (path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(), model))
        }
    };
    bar.clear();
    Ok(loaded?)
}

fn format(weights: Weights) -> WeightFormat {
    let affine = |bits| WeightFormat::Affine { bits, group: 64, scale: Scale::F16 };
    match weights {
        Weights::F32 => WeightFormat::F32,
        Weights::Bf16 => WeightFormat::Bf16,
        Weights::Fp8 => WeightFormat::Fp8,
        Weights::Q8 => affine(8),
        Weights::Q4 => affine(4),
    }
}

/// Medians of a prompt after `depth` tokens, and of `tokens` decoded ones after the first.
async fn measure(runtime: &mut Runtime, session: &mut Session, args: &BenchModelArgs, depth: usize) -> anyhow::Result<At> {
    let ids: Vec<u32> = spread_ids(runtime.model().config().vocab_size).take(depth + args.prompt).collect();
    runtime.rewind(session, depth);
    // What a smaller depth left stays.
    let held = session.len();
    if held < depth {
        let mut bar = super::load::LateBar::new("filling the cache {wide_bar} {pos}/{len}");
        let mut progress = |done: usize, total: usize| {
            bar.at(done as u64, total as u64);
            true
        };
        runtime.prefill(session, &ids[held..depth], &mut progress).await?;
        bar.clear();
    }
    let (mut first, mut decode) = (vec![], vec![]);
    for _ in 0..args.runs {
        runtime.rewind(session, depth);
        let since = Instant::now();
        runtime.begin(session, &ids[depth..], &Sampling::default(), &mut |_, _| true).await?;
        runtime.next(session).await?;
        first.push(since.elapsed().as_secs_f64());
        let since = Instant::now();
        for _ in 0..args.tokens {
            runtime.next(session).await?;
        }
        decode.push(since.elapsed().as_secs_f64());
        runtime.end(session).await?;
    }
    Ok(At { depth, first_token_secs: median(&mut first), decode_secs: median(&mut decode) })
}

/// The middle value, or the mean of the two in the middle.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// The most memory that this process has used; where the system does not tell, what it uses now.
fn host_peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    if let Some(kib) = peak {
        return Some(kib * 1024);
    }
    let pid = sysinfo::get_current_pid().ok()?;
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_processes(sysinfo::ProcessesToUpdate::Some(&[pid]), true);
    Some(system.process(pid)?.memory())
}

fn read_report(path: &Path) -> anyhow::Result<Value> {
    let wrong = |found: String| anyhow!("{}: expected a report of `fathom bench model --json`, found {found}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    let report: Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if report["decode_tokens_per_sec"].is_f64() { Ok(report) } else { Err(wrong("no decode_tokens_per_sec".into())) }
}

fn text(report: &Value, before: Option<&Value>) -> String {
    let number = |name: &str| report[name].as_f64().unwrap_or(0.0);
    let count = |name: &str| report[name].as_u64().unwrap_or(0);
    let change = |name: &str| match before.and_then(|before| before[name].as_f64()) {
        Some(old) if old > 0.0 => format!("  {:+.1} % from {old:.3}", (number(name) / old - 1.0) * 100.0),
        _ => String::new(),
    };
    let word = |name: &str| report[name].as_str().unwrap_or_default().to_string();
    let mut facts = vec![
        ("model", word("model")),
        ("device", word("device")),
        ("load", table::secs(number("load_secs")) + &change("load_secs")),
        ("first token", table::secs(number("first_token_secs")) + &change("first_token_secs")),
        ("prefill", format!("{:.1} tokens/s{}", number("prefill_tokens_per_sec"), change("prefill_tokens_per_sec"))),
        ("decode", format!("{:.2} tokens/s{}", number("decode_tokens_per_sec"), change("decode_tokens_per_sec"))),
        ("a decoded token", format!("{} dispatches", count("dispatches_per_token"))),
        ("  bytes moved", table::bytes(count("bytes_per_token"))),
        ("  least possible", format!("{} of weights", table::bytes(count("least_bytes_per_token")))),
        ("  weights read at", format!("{:.2} GB/s", number("least_bytes_per_token") * number("decode_tokens_per_sec") / 1e9)),
        ("weights", table::bytes(count("weight_bytes"))),
        ("device memory", table::bytes(count("device_bytes"))),
    ];
    if let Some(peak) = report["host_peak_bytes"].as_u64() {
        facts.push(("host memory, peak", table::bytes(peak)));
    }
    let mut text: String = facts.iter().map(|(name, value)| format!("{name:<18}{value}\n")).collect();
    if let Some(depths) = report["depths"].as_array().filter(|depths| depths.len() > 1) {
        let mut list = Table::new(&[">depth", ">prefill tokens/s", ">decode tokens/s"]);
        for at in depths {
            let speed = |name: &str| format!("{:.2}", at[name].as_f64().unwrap_or(0.0));
            list.row([at["depth"].to_string(), speed("prefill_tokens_per_sec"), speed("decode_tokens_per_sec")]);
        }
        text += &format!("\n{list}");
    }
    if !report["gpu_secs_per_token"].is_f64() {
        return text + "no timestamp queries on this device: no times of kernels\n";
    }
    for (title, list, whole) in
        [("a decoded token", "kernels", "gpu_secs_per_token"), ("a chunk of the prompt", "prefill_kernels", "gpu_secs_per_chunk")]
    {
        if let (Some(kernels), Some(whole)) = (report[list].as_array(), report[whole].as_f64()) {
            text += &format!("\n{title}\n{}", kernel_table(kernels, whole));
        }
    }
    text
}

fn kernel_table(kernels: &[Value], whole: f64) -> String {
    let secs = |kernel: &Value| kernel["secs"].as_f64().unwrap_or(0.0);
    let mut list = Table::new(&["kernel", ">dispatches", ">GPU time", ">share"]);
    for kernel in kernels {
        let share = format!("{:.1} %", 100.0 * secs(kernel) / whole.max(1e-12));
        list.row([
            kernel["kernel"].as_str().unwrap_or_default().into(),
            kernel["dispatches"].to_string(),
            table::secs(secs(kernel)),
            share,
        ]);
    }
    let dispatches: u64 = kernels.iter().filter_map(|kernel| kernel["dispatches"].as_u64()).sum();
    list.row(["all".into(), dispatches.to_string(), table::secs(whole), "100.0 %".into()]);
    list.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&mut []), 0.0);
    }

    #[test]
    fn reports_compare_with_earlier_ones() {
        let report = |speed: f64| {
            json!({"model": "m", "device": "d", "decode_tokens_per_sec": speed, "gpu_secs_per_token": 0.5,
            "kernels": [{"kernel": "matvec", "dispatches": 3, "secs": 0.25}]})
        };
        let shown = text(&report(12.0), Some(&report(10.0)));
        assert!(shown.contains("12.00 tokens/s  +20.0 % from 10.000") && shown.contains("50.0 %"), "{shown}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{}").unwrap();
        assert!(read_report(file.path()).unwrap_err().to_string().contains("no decode_tokens_per_sec"));
        std::fs::write(file.path(), report(10.0).to_string()).unwrap();
        assert_eq!(read_report(file.path()).unwrap()["model"], "m");
    }
}
