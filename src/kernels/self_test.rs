//! One small case of every kernel, run at start-up and by `fathom doctor`: a driver that computes wrongly is found before it
//! speaks nonsense.

use super::SOURCES;
use crate::gpu::{Gpu, GpuError};

/// The first case of every kernel: its name, and its error (NMSE) or what was wrong.
///
/// # Errors
/// Those of the device itself.
pub async fn self_test(gpu: &Gpu) -> Result<Vec<(String, Result<f64, String>)>, GpuError> {
    let mut results = vec![];
    for case in SOURCES.iter().filter_map(|source| (source.cases)().into_iter().next()) {
        let prepared = case.prepare(gpu)?;
        prepared.recording.replay(gpu);
        let mut worst = Ok(0.0);
        for output in &prepared.outputs {
            let found = output.compare(&gpu.read(&output.tensor).await?);
            worst = worst.and_then(|worst: f64| found.map(|nmse| nmse.max(worst)));
        }
        results.push((case.name, worst));
    }
    Ok(results)
}
