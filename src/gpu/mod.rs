//! The device: adapter choice, memory, pipelines, and the waiting for both.
//!
//! Everything above this folder speaks of [`Tensor`], [`Kernel`] and
//! [`Recording`]; only this folder speaks of wgpu. What a kernel computes is `kernels/`'s business.

mod caps;
mod error;
mod memory;
mod open;
mod pipelines;
mod profile;
mod program;
mod recording;
mod tensor;

pub use caps::{Caps, CoopShape, Disabled, Feature};
pub use error::GpuError;
pub use memory::{Download, host_memory_bytes};
pub use open::{AdapterSummary, GpuOptions, adapters};
pub use profile::{KernelTime, Timing};
pub use program::{Access, Field, Kernel, Launch, Needs, PART_BINDINGS, Part, Program};
pub use recording::{Recorder, Recording, StepPlan};
pub use tensor::{Element, IMAGE_WIDTH, Storage, Tensor};

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// A device, its abilities and its compiled pipelines; cheap to clone.
#[derive(Clone)]
pub struct Gpu(Arc<Inner>);

struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    caps: Caps,
    pipelines: pipelines::Pipelines,
    /// The first error the driver reported on its own; everything later fails with it.
    fault: Arc<Mutex<Option<GpuError>>>,
    pace: Mutex<recording::Pace>,
    /// Bytes of device memory held by tensors, and the most we may hold.
    held: Arc<memory::Held>,
    /// Bytes that downloads asked for so far.
    read_back_bytes: AtomicU64,
    /// What was found to be best on this device, by what it is for.
    choices: Mutex<BTreeMap<String, String>>,
}

/// A poisoned lock only means that another thread panicked; the data here stays valid.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Gpu {
    /// What this device can do, after kill switches.
    pub fn caps(&self) -> &Caps {
        &self.0.caps
    }

    /// What was chosen for this device, of what kernels leave open.
    pub fn choice(&self, of: &str) -> Option<String> {
        lock(&self.0.choices).get(of).cloned()
    }

    /// Chooses for launches that are made from now on; `None` for the usual.
    pub fn choose(&self, of: &str, choice: Option<String>) {
        let mut choices = lock(&self.0.choices);
        match choice {
            Some(choice) => choices.insert(of.to_string(), choice),
            None => choices.remove(of),
        };
    }

    /// The error that broke the device, if one did.
    pub fn fault(&self) -> Result<(), GpuError> {
        match &*lock(&self.0.fault) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Takes the device from all who share it and frees its memory, as a driver that resets it does: from now on everything
    /// fails, with [`GpuError::Lost`] where nothing was wrong before.
    pub fn destroy(&self) {
        lock(&self.0.fault).get_or_insert_with(|| GpuError::Lost("it was given up".into()));
        self.0.device.destroy();
    }

    /// Bytes of device memory that tensors hold now.
    pub fn held_bytes(&self) -> u64 {
        self.0.held.bytes()
    }

    /// Bytes that were asked back from the device so far.
    pub fn read_back_bytes(&self) -> u64 {
        self.0.read_back_bytes.load(Ordering::Relaxed)
    }

    /// Looks again at how much memory a software adapter may hold, which lives in this machine's: other programs take and free it.
    pub fn measure_memory(&self) {
        self.0.held.measure();
    }

    /// The most bytes tensors may hold: `--memory`, or what the host has for a software adapter; none when unknown.
    pub fn memory_limit_bytes(&self) -> Option<u64> {
        self.0.held.limit()
    }
}
