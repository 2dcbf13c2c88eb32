//! Arrays in device memory.

use super::memory::{Held, Lease};
use super::{Gpu, GpuError, lock};
use std::sync::Arc;

/// What a tensor's numbers are; all are four bytes wide on the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Element {
    F32,
    U32,
}

/// Row-major numbers in one buffer, at most one binding in size; cheap to clone.
///
/// What may be larger than a binding (weights) is a list of tensors, cut by rows.
#[derive(Clone)]
pub struct Tensor {
    /// Slowest axis first.
    pub shape: Vec<usize>,
    pub element: Element,
    pub(super) buffer: wgpu::Buffer,
    pub(super) uniform: bool,
    _lease: Arc<Lease>,
}

impl Tensor {
    /// Size of one axis.
    pub fn dim(&self, axis: usize) -> u32 {
        self.shape[axis] as u32
    }

    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn size_bytes(&self) -> u64 {
        4 * self.len() as u64
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}{:?}", self.element, self.shape)
    }
}

impl Gpu {
    fn allocate(&self, what: &str, shape: &[usize], element: Element, uniform: bool) -> Result<Tensor, GpuError> {
        self.fault()?;
        let size_bytes = shape.iter().try_fold(4u64, |size, &dim| size.checked_mul(dim as u64)).unwrap_or(u64::MAX);
        let limit_bytes = self.caps().max_binding_bytes;
        if size_bytes > limit_bytes {
            return Err(GpuError::TooLargeForBinding { what: what.to_string(), size_bytes, limit_bytes });
        }
        let lease = Held::lease(&self.0.held, what, size_bytes)?;
        let usage = if uniform { wgpu::BufferUsages::UNIFORM } else { wgpu::BufferUsages::STORAGE };
        let buffer = self.0.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(what),
            size: size_bytes.max(16),
            usage: usage | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        // Native backends report a failed allocation at once, through the uncaptured-error handler.
        if let Some(GpuError::OutOfMemory(_)) = &*lock(&self.0.fault) {
            let held = self.held_bytes();
            let detail = format!("{what}: {size_bytes} bytes wanted, {held} bytes held");
            return Err(GpuError::OutOfMemory(Some(detail)));
        }
        Ok(Tensor { shape: shape.to_vec(), element, buffer, uniform, _lease: Arc::new(lease) })
    }

    /// An f32 tensor of zeros.
    pub fn zeros(&self, what: &str, shape: &[usize]) -> Result<Tensor, GpuError> {
        self.allocate(what, shape, Element::F32, false)
    }

    /// A u32 tensor of zeros.
    pub fn zeros_u32(&self, what: &str, shape: &[usize]) -> Result<Tensor, GpuError> {
        self.allocate(what, shape, Element::U32, false)
    }

    /// A small table that kernels read as a uniform, zeros at first.
    pub fn uniform(&self, what: &str, words: usize) -> Result<Tensor, GpuError> {
        self.allocate(what, &[words], Element::U32, true)
    }

    /// An f32 tensor holding `data`.
    pub fn tensor(&self, what: &str, shape: &[usize], data: &[f32]) -> Result<Tensor, GpuError> {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "{what}: shape {shape:?} does not match the data");
        let tensor = self.zeros(what, shape)?;
        self.write(&tensor, 0, bytemuck::cast_slice(data));
        Ok(tensor)
    }

    /// A u32 tensor holding `data`.
    pub fn tensor_u32(&self, what: &str, shape: &[usize], data: &[u32]) -> Result<Tensor, GpuError> {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "{what}: shape {shape:?} does not match the data");
        let tensor = self.zeros_u32(what, shape)?;
        self.write(&tensor, 0, bytemuck::cast_slice(data));
        Ok(tensor)
    }

    /// Writes bytes from `offset_bytes` on, before anything submitted later runs.
    pub fn write(&self, tensor: &Tensor, offset_bytes: u64, bytes: &[u8]) {
        let end = offset_bytes + bytes.len() as u64;
        assert!(end <= tensor.size_bytes(), "write of {end} bytes into a tensor of {}", tensor.size_bytes());
        self.0.queue.write_buffer(&tensor.buffer, offset_bytes, bytes);
    }

    /// Copies `bytes` bytes within a tensor, from one place to another that does not overlap it.
    pub fn copy_within(&self, tensor: &Tensor, from: u64, to: u64, bytes: u64) {
        // A command may not read and write one buffer: the copy goes by way of another.
        let way = self.0.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("copy"),
            size: bytes,
            usage: wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = self.0.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(&tensor.buffer, from, &way, 0, bytes);
        encoder.copy_buffer_to_buffer(&way, 0, &tensor.buffer, to, bytes);
        self.0.queue.submit([encoder.finish()]);
    }
}
