//! How much device memory is held, uploads in bounded pieces, and reading back.

use super::tensor::{IMAGE_WIDTH, Memory};
use super::{Gpu, GpuError, Tensor, lock};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// The account of device memory.
pub(super) struct Held {
    bytes: AtomicU64,
    limit: Mutex<Option<u64>>,
    /// The limit is what this machine had, not what the user said.
    is_measured: bool,
}

/// A share of the account, given back when its tensor is dropped.
pub(super) struct Lease {
    held: Arc<Held>,
    bytes: u64,
}

impl Held {
    /// As much as the user said; else, for a software adapter, as much as this machine has: a card's memory we cannot measure.
    pub(super) fn new(limit: Option<u64>, is_cpu: bool) -> Self {
        let held = Self { bytes: AtomicU64::new(0), limit: Mutex::new(limit), is_measured: is_cpu && limit.is_none() };
        held.measure();
        held
    }

    /// Looks again at how much memory there is.
    pub(super) fn measure(&self) {
        if self.is_measured {
            *lock(&self.limit) = host_memory_bytes().map(|free| free.saturating_add(self.bytes()));
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn limit(&self) -> Option<u64> {
        *lock(&self.limit)
    }

    pub(super) fn lease(held: &Arc<Held>, what: &str, bytes: u64) -> Result<Lease, GpuError> {
        let before = held.bytes.fetch_add(bytes, Ordering::Relaxed);
        let lease = Lease { held: held.clone(), bytes };
        match held.limit() {
            Some(limit_bytes) if before.saturating_add(bytes) > limit_bytes => {
                Err(GpuError::OverLimit { what: what.to_string(), wanted_bytes: bytes, held_bytes: before, limit_bytes })
            }
            _ => Ok(lease),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.held.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Memory of this machine that programs can use, in bytes.
#[cfg(not(target_arch = "wasm32"))]
pub fn host_memory_bytes() -> Option<u64> {
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_memory();
    let available = system.available_memory();
    let available = system.cgroup_limits().map_or(available, |limits| available.min(limits.free_memory.max(limits.total_memory / 2)));
    (available > 0).then_some(available)
}

/// A tab does not tell.
#[cfg(target_arch = "wasm32")]
pub fn host_memory_bytes() -> Option<u64> {
    None
}

#[derive(Default)]
struct Arrival {
    result: Option<Result<(), wgpu::BufferAsyncError>>,
    waker: Option<Waker>,
}

/// Bytes on their way back from the device: await it, or drop it.
pub struct Download {
    gpu: Gpu,
    staging: wgpu::Buffer,
    /// Where in `staging` the wanted bytes lie: an image comes in whole rows.
    wanted: std::ops::Range<usize>,
    submission: wgpu::SubmissionIndex,
    arrival: Arc<Mutex<Arrival>>,
}

impl Gpu {
    /// Starts reading `bytes` from `offset_bytes` of a tensor, after all that was submitted so far.
    pub fn download(&self, tensor: &Tensor, offset_bytes: u64, bytes: u64) -> Download {
        assert!(offset_bytes + bytes <= tensor.size_bytes(), "read of {bytes} bytes at {offset_bytes} from {tensor:?}");
        let row_bytes = tensor.storage.row_bytes() as u64;
        let (first_row, end_row) = (offset_bytes / row_bytes, (offset_bytes + bytes).div_ceil(row_bytes));
        let (begin, size) = match &tensor.memory {
            Memory::Buffer(_) => (0, bytes),
            Memory::Image(..) => (offset_bytes % row_bytes, (end_row - first_row) * row_bytes),
        };
        let staging = self.staging(size);
        let mut encoder = self.0.device.create_command_encoder(&Default::default());
        match &tensor.memory {
            Memory::Buffer(buffer) => encoder.copy_buffer_to_buffer(buffer, offset_bytes, &staging, 0, bytes),
            Memory::Image(texture, _) => encoder.copy_texture_to_buffer(
                wgpu::TexelCopyTextureInfo { origin: wgpu::Origin3d { x: 0, y: first_row as u32, z: 0 }, ..texture.as_image_copy() },
                wgpu::TexelCopyBufferInfo {
                    buffer: &staging,
                    layout: wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(row_bytes as u32), rows_per_image: None },
                },
                wgpu::Extent3d { width: IMAGE_WIDTH as u32, height: (end_row - first_row) as u32, depth_or_array_layers: 1 },
            ),
        }
        self.land(encoder, staging, begin as usize..(begin + bytes) as usize)
    }

    /// Starts reading runs of bytes (tensor, offset, length) that lie in buffers, one after another, as [`Self::download`] does.
    pub fn download_runs(&self, runs: &[(&Tensor, u64, u64)]) -> Download {
        let size = runs.iter().map(|(.., bytes)| bytes).sum();
        let staging = self.staging(size);
        let mut encoder = self.0.device.create_command_encoder(&Default::default());
        let mut done = 0;
        for &(tensor, offset_bytes, bytes) in runs {
            let Memory::Buffer(buffer) = &tensor.memory else { panic!("{tensor:?} does not lie in a buffer") };
            assert!(offset_bytes + bytes <= tensor.size_bytes(), "read of {bytes} bytes at {offset_bytes} from {tensor:?}");
            encoder.copy_buffer_to_buffer(buffer, offset_bytes, &staging, done, bytes);
            done += bytes;
        }
        self.land(encoder, staging, 0..size as usize)
    }

    fn staging(&self, size: u64) -> wgpu::Buffer {
        self.0.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("readback"),
            size,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }

    /// Submits copies into `staging` and starts mapping it.
    fn land(&self, encoder: wgpu::CommandEncoder, staging: wgpu::Buffer, wanted: std::ops::Range<usize>) -> Download {
        let submission = self.0.queue.submit([encoder.finish()]);
        self.0.read_back_bytes.fetch_add(wanted.len() as u64, Ordering::Relaxed);
        let arrival = Arc::new(Mutex::new(Arrival::default()));
        let there = arrival.clone();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            let mut arrival = lock(&there);
            arrival.result = Some(result);
            if let Some(waker) = arrival.waker.take() {
                waker.wake();
            }
        });
        Download { gpu: self.clone(), staging, wanted, submission, arrival }
    }

    /// Reads a whole tensor of four-byte numbers.
    pub async fn read<T: bytemuck::Pod>(&self, tensor: &Tensor) -> Result<Vec<T>, GpuError> {
        let bytes = self.download(tensor, 0, tensor.size_bytes()).await?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }

    /// Waits until everything submitted is done and its staging memory is free again.
    pub async fn settle(&self) -> Result<(), GpuError> {
        let probe = self.zeros_u32("settle", &[4])?;
        self.download(&probe, 0, 16).await.map(drop)
    }
}

impl Future for Download {
    type Output = Result<Vec<u8>, GpuError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        lock(&self.arrival).waker = Some(context.waker().clone());
        // Native programs block here; in a browser this does nothing and the callback wakes us.
        #[cfg(not(target_arch = "wasm32"))]
        {
            let wait = wgpu::PollType::Wait { submission_index: Some(self.submission.clone()), timeout: None };
            if let Err(error) = self.gpu.0.device.poll(wait) {
                self.gpu.fault()?;
                return Poll::Ready(Err(GpuError::Readback(error.to_string())));
            }
        }
        let _ = &self.submission;
        let result = lock(&self.arrival).result.take();
        match result {
            None => Poll::Pending,
            Some(Err(error)) => {
                self.gpu.fault()?;
                Poll::Ready(Err(GpuError::Readback(error.to_string())))
            }
            Some(Ok(())) => {
                self.gpu.fault()?;
                let bytes = match self.staging.get_mapped_range(..) {
                    Ok(view) => view[self.wanted.clone()].to_vec(),
                    Err(error) => return Poll::Ready(Err(GpuError::Readback(error.to_string()))),
                };
                self.staging.unmap();
                Poll::Ready(Ok(bytes))
            }
        }
    }
}
