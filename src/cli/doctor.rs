//! `fathom doctor`: what this machine offers, whether the kernels compute rightly on it, and where models are.

use std::io::Write;
use std::path::PathBuf;

use fathom::checkpoint::Checkpoint;
use fathom::engine::default_model_path;
use fathom::gpu::{Gpu, adapters, host_memory_bytes};
use fathom::kernels::{CacheFormat, Tuned, Tuner};
use fathom::model::ModelConfig;

use super::args::{DeviceArgs, DoctorArgs};
use super::table::{self, Table};

pub async fn run(args: DoctorArgs, device: &DeviceArgs) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let options = device.gpu();
    writeln!(out, "adapters, best first")?;
    let mut list = Table::new(&["  ", "name", "backend", "kind", "driver"]);
    for (index, adapter) in adapters(&options).await.into_iter().enumerate() {
        list.row([format!("  {index}"), adapter.name, adapter.backend, adapter.kind, adapter.driver]);
    }
    write!(out, "{list}")?;

    let gpu = Gpu::open(&options).await?;
    let caps = gpu.caps();
    writeln!(out, "\ndevice")?;
    let yes = |holds: bool| if holds { "yes" } else { "no" };
    let limit = gpu.memory_limit_bytes().map_or("not known; --memory sets one".to_string(), table::bytes);
    let facts = [
        ("adapter", caps.adapter.clone()),
        ("backend", caps.backend.clone()),
        ("driver", caps.driver.clone()),
        ("tier", caps.tier()),
        ("subgroup size", format!("{} to {}", caps.subgroup_min, caps.subgroup_max)),
        ("timestamps", yes(caps.timestamps).to_string()),
        ("largest binding", table::bytes(caps.max_binding_bytes)),
        ("largest buffer", table::bytes(caps.max_buffer_bytes)),
        ("workgroups an axis", caps.max_workgroups.to_string()),
        ("shared memory", table::bytes(caps.max_shared_bytes.into())),
        ("memory limit", limit),
        ("host memory free", host_memory_bytes().map_or("not known".to_string(), table::bytes)),
    ];
    for (name, value) in facts {
        writeln!(out, "  {name:<20}{value}")?;
    }

    let tuner = Tuner::of(&options, &gpu);
    if let Some(tuner) = &tuner {
        tuner.apply(&gpu);
    }
    writeln!(out, "\nkernels")?;
    let results = fathom::kernels::self_test(&gpu).await?;
    let wrong: Vec<_> = results.iter().filter_map(|(name, result)| Some((name, result.as_ref().err()?))).collect();
    let worst = results.iter().filter_map(|(_, result)| result.as_ref().ok()).fold(0.0f64, |a, &b| a.max(b));
    writeln!(
        out,
        "  {:<20}{} of {} cases right, largest error (NMSE) {worst:.1e}",
        "self-test",
        results.len() - wrong.len(),
        results.len()
    )?;
    for (name, reason) in &wrong {
        writeln!(out, "  wrong: {name}: {reason}")?;
    }

    if let Some(tuner) = tuner.filter(|tuner| !tuner.tuned(caps).is_empty()) {
        writeln!(out, "\nlanes by kernel")?;
        for Tuned { kernel, lanes, gain, done } in tuner.tuned(caps) {
            let how = match gain {
                Some(gain) => format!("measured: {gain:.1} times as fast as usual"),
                None if done => "the usual, as good as any".into(),
                None => "the usual; measured when a model is first opened".into(),
            };
            writeln!(out, "  {kernel:<20}{lanes} ({how})")?;
        }
    }

    writeln!(out, "\nmodel")?;
    match args.model.map_or_else(default_model_path, Ok) {
        Ok(path) => model(&mut out, path, device.cache_format())?,
        Err(error) => writeln!(out, "  {error}")?,
    }
    if !wrong.is_empty() {
        anyhow::bail!(
            "{} of {} kernel cases are wrong on {caps}; try another --adapter, or --disable subgroups,f16",
            wrong.len(),
            results.len()
        );
    }
    Ok(())
}

fn model(out: &mut impl Write, path: PathBuf, format: CacheFormat) -> anyhow::Result<()> {
    let checkpoint = Checkpoint::open(&path)?;
    let config = ModelConfig::from_checkpoint(&checkpoint)?;
    let size: u64 = checkpoint.names().filter_map(|name| checkpoint.tensor(name)).map(|tensor| tensor.bytes.size_bytes()).sum();
    let cache = config.cache_bytes_per_token(format);
    let facts = [
        ("file", path.display().to_string()),
        ("type", format!("{}, {} layers, hidden {}, vocabulary {}", config.model_type, config.layers, config.hidden, config.vocab_size)),
        ("weights", table::bytes(size)),
        ("longest context", format!("{} tokens", config.max_positions)),
        ("latent cache", format!("{} layers × {} in {format} = {cache} bytes a token", config.layers, config.cache_entry())),
    ];
    for (name, value) in facts {
        writeln!(out, "  {name:<20}{value}")?;
    }
    Ok(())
}
