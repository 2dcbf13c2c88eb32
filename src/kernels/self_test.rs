//! One small case of every kernel, run at start-up and by `fathom doctor`: a driver that computes wrongly is found before it
//! speaks nonsense.

use super::SOURCES;
use crate::gpu::{Feature, Gpu, GpuError, GpuOptions};

/// The first case of every kernel: its name, and its error (NMSE) or what was wrong.
///
/// # Errors
/// Those of the device itself.
pub async fn self_test(gpu: &Gpu) -> Result<Vec<(String, Result<f64, String>)>, GpuError> {
    let mut results = vec![];
    for case in SOURCES.iter().filter_map(|source| (source.cases)().into_iter().next()) {
        let checked = case.prepare(gpu)?.check(gpu).await?;
        results.push((case.name, checked));
    }
    Ok(results)
}

/// An ability that was turned off because a kernel came out wrong with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TurnedOff {
    pub feature: Feature,
    /// The case, and what was wrong.
    pub why: String,
}

impl std::fmt::Display for TurnedOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the driver computes wrongly with {}, which are not used now: {}", self.feature, self.why)
    }
}

/// Opens a device on which the self-test passes: where it does not, abilities are turned off, the boldest first.
///
/// # Errors
/// Those of the device; kernels that are wrong even without any ability.
pub async fn open_tested(options: &GpuOptions) -> Result<(Gpu, Vec<TurnedOff>), GpuError> {
    open_tested_by(options, async |gpu| self_test(gpu).await).await
}

async fn open_tested_by(
    options: &GpuOptions,
    test: impl AsyncFn(&Gpu) -> Result<Vec<(String, Result<f64, String>)>, GpuError>,
) -> Result<(Gpu, Vec<TurnedOff>), GpuError> {
    let mut options = options.clone();
    let mut turned_off = vec![];
    loop {
        let gpu = Gpu::open(&options).await?;
        // A pipeline that the driver refuses is as bad as a wrong number.
        let why = match test(&gpu).await {
            Ok(results) => results.into_iter().find_map(|(name, result)| Some(format!("{name}: {}", result.err()?))),
            Err(GpuError::Driver(reason)) => Some(reason),
            Err(error) => return Err(error),
        };
        let Some(why) = why else { return Ok((gpu, turned_off)) };
        let caps = gpu.caps();
        let coop = !caps.coop.is_empty();
        let bold = [(caps.images, Feature::Images), (coop, Feature::Coop), (caps.f16, Feature::F16), (caps.subgroups, Feature::Subgroups)];
        let Some(feature) = bold.into_iter().find_map(|(has, feature)| has.then_some(feature)) else {
            return Err(GpuError::Driver(format!("this device computes wrongly, even on core WebGPU: {why}; --adapter chooses another")));
        };
        options.disabled.0.push(feature);
        turned_off.push(TurnedOff { feature, why });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Caps;

    fn opened(is_right: impl Fn(&Caps) -> bool) -> Result<(Gpu, Vec<TurnedOff>), GpuError> {
        let test = async |gpu: &Gpu| {
            let result = if is_right(gpu.caps()) { Ok(0.0) } else { Err("1 is not 2".to_string()) };
            Ok(vec![("a case".to_string(), Ok(1e-14)), ("another".to_string(), result)])
        };
        pollster::block_on(open_tested_by(&GpuOptions::default(), test))
    }

    #[test]
    fn what_computes_wrongly_is_turned_off() {
        let (gpu, off) = opened(|_| true).unwrap();
        assert!(off.is_empty());
        let (core, off) = opened(|caps| !caps.subgroups).unwrap();
        assert_eq!(core.caps().tier(), "core");
        assert_eq!(off.last().map(|off| off.feature), gpu.caps().subgroups.then_some(Feature::Subgroups));
        assert!(off.iter().all(|off| off.why == "another: 1 is not 2"));
        let error = opened(|_| false).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("even on core WebGPU: another: 1 is not 2"), "{error}");
    }
}
