//! `fathom plan`: the recorded dispatches of a step, as a table.

use std::io::Write;

use fathom::gpu::StepPlan;

use super::args::{DeviceArgs, PlanArgs};
use super::load::open;
use super::table::{self, Table};

pub async fn run(args: PlanArgs, device: &DeviceArgs) -> anyhow::Result<()> {
    // A step has room for its rows.
    let device = DeviceArgs { chunk: args.prefill.or(device.chunk), ..device.clone() };
    let mut engine = open(args.model, &device).await?;
    let recording = match args.prefill {
        Some(rows) => engine.prefill_plan(rows)?,
        None => engine.decode_plan()?,
    };
    let steps: Vec<StepPlan> = recording.plan().cloned().collect();
    let mut out = std::io::stdout().lock();
    write!(out, "{}", lines(&steps, args.full))?;
    let sum = |of: fn(&StepPlan) -> u64| steps.iter().map(of).sum::<u64>();
    let (read, written) = (sum(|step| step.read_bytes), sum(|step| step.written_bytes));
    let flops = table::flops(sum(|step| step.flops));
    writeln!(out, "\ntotal: {} dispatches, {} read, {} written, {flops}", steps.len(), table::bytes(read), table::bytes(written))?;
    match args.prefill {
        Some(rows) => writeln!(out, "a prompt's step of {rows} tokens; nothing comes back before the prompt's end")?,
        None => writeln!(out, "4 bytes come back per token, no host wait between layers")?,
    }
    let (config, cache) = (engine.config(), engine.cache_format());
    let (layers, [c, r], per_token) = (config.layers, config.cache_parts(), config.cache_bytes_per_token(cache));
    let whole = table::bytes(per_token * engine.context() as u64);
    writeln!(
        out,
        "latent cache: {layers} layers × ({c} + {r}) in {cache} = {per_token} bytes a token; {} tokens: {whole}",
        engine.context()
    )?;
    Ok(())
}

/// The steps in order; layers that equal the one before are one line unless `full`.
fn lines(steps: &[StepPlan], full: bool) -> Table {
    let mut table = Table::new(&["place", "kernel", "shapes", "grid", ">bytes read", ">written"]);
    let groups: Vec<&[StepPlan]> = steps.chunk_by(|a, b| a.place == b.place).collect();
    let mut at = 0;
    while at < groups.len() {
        for step in groups[at] {
            let [x, y, z] = step.grid;
            let (read, written) = (step.read_bytes.to_string(), step.written_bytes.to_string());
            table.row([step.place.clone(), step.kernel.into(), step.shapes.clone(), format!("{x}×{y}×{z}"), read, written]);
        }
        let same = if full { 0 } else { groups[at + 1..].iter().take_while(|group| is_same(group, groups[at])).count() };
        if same > 0 {
            let (first, last) = (&groups[at + 1][0].place, &groups[at + same][0].place);
            let range = if same == 1 { first.clone() } else { format!("{}–{}", first.replacen("layer", "layers", 1), number(last)) };
            table.row([format!("{range}: same as {}", groups[at][0].place)]);
        }
        at += 1 + same;
    }
    table
}

/// The number at the end of `layer 7`.
fn number(place: &str) -> &str {
    place.rsplit(' ').next().unwrap_or(place)
}

fn is_same(a: &[StepPlan], b: &[StepPlan]) -> bool {
    let all = |step: &StepPlan| {
        (step.kernel, step.variant.clone(), step.shapes.clone(), step.grid, step.read_bytes, step.written_bytes, step.flops)
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| all(a) == all(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(place: &str, grid: u32) -> StepPlan {
        StepPlan {
            place: place.into(),
            kernel: "matvec",
            variant: String::new(),
            shapes: "1×2 → 1×3".into(),
            grid: [grid, 1, 1],
            flops: 6,
            read_bytes: 8,
            written_bytes: 12,
        }
    }

    #[test]
    fn equal_layers_are_folded() {
        let places = ["embed", "layer 0", "layer 1", "layer 1", "layer 2", "layer 2", "layer 3", "layer 3", "head"];
        let steps = places.map(|place| step(place, 5));
        let text = lines(&steps, false).to_string();
        assert!(text.contains("layers 2–3: same as layer 1\n"), "{text}");
        assert_eq!(text.lines().count(), 1 + 1 + 1 + 2 + 1 + 1);
        assert_eq!(lines(&steps, true).to_string().lines().count(), 10);
        let mut other = steps;
        other[7].grid = [6, 1, 1];
        let text = lines(&other, false).to_string();
        assert!(text.contains("layer 2: same as layer 1\n") && text.contains("6×1×1"), "{text}");
    }
}
