//! A device that models are opened on, one after another.

use super::{Cancel, EngineError, OpenEvent};
use crate::gpu::{Gpu, GpuOptions};
use crate::kernels::{Tuner, open_tested};

/// A device that passed the self-test. Kernels are compiled once for all models that are opened on it.
#[derive(Clone)]
pub struct Device {
    pub(super) gpu: Gpu,
    /// As it was asked for: the self-test may have turned more off.
    pub(super) options: GpuOptions,
}

impl Device {
    pub(super) async fn open(options: &GpuOptions, cancel: &Cancel, on_event: &mut dyn FnMut(OpenEvent)) -> Result<Self, EngineError> {
        let (mut gpu, turned_off) = open_tested(options).await?;
        turned_off.into_iter().for_each(|off| on_event(OpenEvent::TurnedOff(off)));
        if let Some(mut tuner) = Tuner::of(options, &gpu) {
            let mut proceed = |done, total| {
                on_event(OpenEvent::Tune { done, total });
                !cancel.is_cancelled()
            };
            // What broke the device is not tried again.
            while tuner.measure(&gpu, &mut proceed).await.is_err() {
                gpu = open_tested(options).await?.0;
            }
        }
        Ok(Self { gpu, options: options.clone() })
    }

    /// Whether it works and is what these options ask for.
    pub fn suits(&self, options: &GpuOptions) -> bool {
        self.options == *options && self.gpu.fault().is_ok()
    }
}
