//! The short subcommands: `generate`, `logits`, `wgsl`.

use std::io::Write;

use anyhow::Error;
use fathom::engine::{Cancel, Event, Input, Request};
use fathom::files::write_whole;
use fathom::gpu::Program;
use fathom::sampler::Sampling;

use super::WrongUsage;
use super::args::{DeviceArgs, GenerateArgs, LogitsArgs, WgslArgs};
use super::load::open;

/// New ids on one line, as they come.
pub async fn generate(args: GenerateArgs, device: &DeviceArgs) -> anyhow::Result<()> {
    let mut engine = open(Some(args.model), &device.exact()).await?;
    let request = Request {
        sampling: args.sampling.over(Sampling::default(), || 0),
        max_tokens: args.max_tokens,
        ignore_eos: args.ignore_eos,
        ..Request::new(Input::Ids(args.ids))
    };
    let mut out = std::io::stdout().lock();
    let (mut separator, mut written) = ("", Ok(()));
    let cancel = Cancel::default();
    let mut on_event = |event| {
        if let Event::Token(id) = event
            && written.is_ok()
        {
            written = write!(out, "{separator}{id}").and_then(|()| out.flush());
            separator = ",";
            if written.is_err() {
                cancel.cancel();
            }
        }
    };
    let result = engine.run(request, &cancel, &mut on_event).await;
    written?;
    if result.is_ok() || !separator.is_empty() {
        writeln!(out)?;
    }
    result?;
    Ok(())
}

/// All logits into a safetensors file.
pub async fn logits(args: LogitsArgs, device: &DeviceArgs) -> anyhow::Result<()> {
    let mut engine = open(Some(args.model), &device.exact()).await?;
    let logits = engine.logits(&args.ids).await?;
    let shape = vec![args.ids.len(), engine.config().vocab_size];
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, bytemuck::cast_slice(&logits))?;
    let bytes = safetensors::serialize([("logits", view)], None)?;
    write_whole(&args.output, &bytes).map_err(Error::msg)
}

/// A kernel's text, or the list of its variants.
pub fn wgsl(args: WgslArgs) -> anyhow::Result<()> {
    let programs = fathom::kernels::every_program();
    let variants: Vec<&Program> = programs.iter().filter(|program| program.name == args.kernel).collect();
    if variants.is_empty() {
        let mut names: Vec<&str> = programs.iter().map(|program| program.name).collect();
        names.sort_unstable();
        names.dedup();
        return Err(WrongUsage(format!("kernel {:?}: expected one of {}", args.kernel, names.join(", "))).into());
    }
    let mut out = std::io::stdout().lock();
    if args.list {
        for (number, program) in variants.iter().enumerate() {
            writeln!(out, "{number:>3}  {}", program.label())?;
        }
        return Ok(());
    }
    let Some(program) = variants.get(args.variant) else {
        let (found, last) = (args.variant, variants.len() - 1);
        return Err(WrongUsage(format!("--variant: expected 0 to {last} for {}, found {found}; see --list", args.kernel)).into());
    };
    Ok(write!(out, "{}", program.wgsl(args.browser))?)
}
