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

/// What a tensor lies in.
///
/// llvmpipe gathers texels several times faster than it reads storage buffers (`tests/bench/LOG.md`), so there weights and most
/// activations lie in images; real GPUs read buffers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Storage {
    Buffer,
    /// Rows of [`IMAGE_WIDTH`] texels of four numbers, one after another.
    Image,
    /// The same with texels of one number.
    WordImage,
}

/// Texels in a row of an image.
pub const IMAGE_WIDTH: usize = 2048;

impl Storage {
    /// Bytes of a texel.
    pub(super) fn texel_bytes(self) -> usize {
        if self == Self::Image { 16 } else { 4 }
    }

    /// Bytes of a row of texels.
    pub(super) fn row_bytes(self) -> usize {
        self.texel_bytes() * IMAGE_WIDTH
    }
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Memory {
    Buffer(wgpu::Buffer),
    Image(wgpu::Texture, wgpu::TextureView),
}

/// Row-major numbers in one buffer or image, at most one binding in size; cheap to clone.
///
/// What may be larger than a binding (weights) is a list of tensors, cut by rows.
#[derive(Clone)]
pub struct Tensor {
    /// Slowest axis first.
    pub shape: Vec<usize>,
    pub element: Element,
    pub storage: Storage,
    pub(super) memory: Memory,
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

    /// The same memory, from its beginning, with another shape.
    pub fn view(&self, shape: &[usize]) -> Self {
        assert!(shape.iter().product::<usize>() <= self.len(), "a view {shape:?} of {self:?}");
        Self { shape: shape.to_vec(), ..self.clone() }
    }

    pub(super) fn binding(&self) -> wgpu::BindingResource<'_> {
        match &self.memory {
            Memory::Buffer(buffer) => buffer.as_entire_binding(),
            Memory::Image(_, view) => wgpu::BindingResource::TextureView(view),
        }
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
        self.check_allocated(what, size_bytes)?;
        let memory = Memory::Buffer(buffer);
        Ok(Tensor { shape: shape.to_vec(), element, storage: Storage::Buffer, memory, uniform, _lease: Arc::new(lease) })
    }

    /// Native backends report a failed allocation at once, through the uncaptured-error handler.
    fn check_allocated(&self, what: &str, size_bytes: u64) -> Result<(), GpuError> {
        if let Some(GpuError::OutOfMemory(_)) = &*lock(&self.0.fault) {
            let held = self.held_bytes();
            let detail = format!("{what}: {size_bytes} bytes wanted, {held} bytes held");
            return Err(GpuError::OutOfMemory(Some(detail)));
        }
        Ok(())
    }

    /// The most bytes that one tensor of this storage may have.
    pub fn max_tensor_bytes(&self, storage: Storage) -> u64 {
        let image = storage.row_bytes() as u64 * u64::from(self.caps().max_image_rows);
        if storage == Storage::Buffer { self.caps().max_binding_bytes } else { image.min(self.caps().max_binding_bytes) }
    }

    /// A tensor of zeros in this storage, its length rounded up to whole texels.
    pub fn stored(&self, what: &str, shape: &[usize], element: Element, storage: Storage) -> Result<Tensor, GpuError> {
        if storage == Storage::Buffer {
            return self.allocate(what, shape, element, false);
        }
        self.fault()?;
        let row_bytes = storage.row_bytes() as u64;
        let numbers = shape.iter().try_fold(1u64, |size, &dim| size.checked_mul(dim as u64)).unwrap_or(u64::MAX / 8);
        let rows = (4 * numbers).div_ceil(row_bytes).max(1);
        let (size_bytes, limit_bytes) = (rows.saturating_mul(row_bytes), self.max_tensor_bytes(storage));
        if size_bytes > limit_bytes {
            return Err(GpuError::TooLargeForBinding { what: what.to_string(), size_bytes, limit_bytes });
        }
        let lease = Held::lease(&self.0.held, what, size_bytes)?;
        let format = match (storage, element) {
            (Storage::WordImage, _) => wgpu::TextureFormat::R32Uint,
            (_, Element::F32) => wgpu::TextureFormat::Rgba32Float,
            (_, Element::U32) => wgpu::TextureFormat::Rgba32Uint,
        };
        let usage = wgpu::TextureUsages::STORAGE_BINDING | wgpu::TextureUsages::COPY_SRC | wgpu::TextureUsages::COPY_DST;
        let texture = self.0.device.create_texture(&wgpu::TextureDescriptor {
            label: Some(what),
            size: wgpu::Extent3d { width: IMAGE_WIDTH as u32, height: rows as u32, depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format,
            usage,
            view_formats: &[],
        });
        self.check_allocated(what, size_bytes)?;
        let view = texture.create_view(&Default::default());
        let memory = Memory::Image(texture, view);
        Ok(Tensor { shape: shape.to_vec(), element, storage, memory, uniform: false, _lease: Arc::new(lease) })
    }

    /// What activations lie in on this device.
    pub fn activation_storage(&self) -> Storage {
        if self.caps().images { Storage::Image } else { Storage::Buffer }
    }

    /// An f32 tensor of zeros that kernels write and read by quads; its last axis is a multiple of 4.
    pub fn activation(&self, what: &str, shape: &[usize]) -> Result<Tensor, GpuError> {
        assert!(shape.last().is_some_and(|cols| cols.is_multiple_of(4)), "{what}: {shape:?} is not made of quads");
        self.stored(what, shape, Element::F32, self.activation_storage())
    }

    /// [`Self::activation`] holding `data`.
    pub fn activation_of(&self, what: &str, shape: &[usize], data: &[f32]) -> Result<Tensor, GpuError> {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "{what}: shape {shape:?} does not match the data");
        let tensor = self.activation(what, shape)?;
        self.write(&tensor, 0, bytemuck::cast_slice(data));
        Ok(tensor)
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
        match &tensor.memory {
            Memory::Buffer(buffer) => self.0.queue.write_buffer(buffer, offset_bytes, bytes),
            Memory::Image(texture, _) => self.write_image(texture, tensor.storage, offset_bytes as usize, bytes),
        }
    }

    /// Whole texels, row by row: the end of a first row, whole rows, the beginning of a last one.
    fn write_image(&self, texture: &wgpu::Texture, storage: Storage, offset_bytes: usize, bytes: &[u8]) {
        let (texel_bytes, row_bytes) = (storage.texel_bytes(), storage.row_bytes());
        assert!(offset_bytes.is_multiple_of(texel_bytes), "write at byte {offset_bytes} of an image");
        // A tensor's numbers may end within a texel.
        let mut padded = vec![];
        let bytes = match bytes.len() % texel_bytes {
            0 => bytes,
            rest => {
                padded.extend_from_slice(bytes);
                padded.resize(bytes.len() + texel_bytes - rest, 0);
                &padded
            }
        };
        let mut done = 0;
        while done < bytes.len() {
            let (y, x_bytes) = ((offset_bytes + done) / row_bytes, (offset_bytes + done) % row_bytes);
            let rest = bytes.len() - done;
            let count = if x_bytes == 0 && rest >= row_bytes { rest / row_bytes * row_bytes } else { rest.min(row_bytes - x_bytes) };
            let size = wgpu::Extent3d {
                width: (count.min(row_bytes) / texel_bytes) as u32,
                height: count.div_ceil(row_bytes) as u32,
                depth_or_array_layers: 1,
            };
            let place = wgpu::TexelCopyTextureInfo {
                origin: wgpu::Origin3d { x: (x_bytes / texel_bytes) as u32, y: y as u32, z: 0 },
                ..texture.as_image_copy()
            };
            let layout = wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(row_bytes as u32), rows_per_image: None };
            self.0.queue.write_texture(place, &bytes[done..done + count], layout, size);
            done += count;
        }
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
        match &tensor.memory {
            Memory::Buffer(buffer) => {
                encoder.copy_buffer_to_buffer(buffer, from, &way, 0, bytes);
                encoder.copy_buffer_to_buffer(&way, 0, buffer, to, bytes);
            }
            Memory::Image(texture, _) => {
                let (texel_bytes, row_bytes) = (tensor.storage.texel_bytes() as u64, tensor.storage.row_bytes() as u64);
                // Runs within one row of the image: where in it, where in the buffer, how many texels.
                let runs = |begin: u64| {
                    let mut done = 0;
                    std::iter::from_fn(move || {
                        let at = begin + done;
                        let count = (bytes - done).min(row_bytes - at % row_bytes);
                        let place = wgpu::Origin3d { x: (at % row_bytes / texel_bytes) as u32, y: (at / row_bytes) as u32, z: 0 };
                        let size = wgpu::Extent3d { width: (count / texel_bytes) as u32, height: 1, depth_or_array_layers: 1 };
                        let run = (count > 0).then_some((place, done, size));
                        done += count;
                        run
                    })
                };
                let image = |origin| wgpu::TexelCopyTextureInfo { origin, ..texture.as_image_copy() };
                let buffer = |offset| wgpu::TexelCopyBufferInfo {
                    buffer: &way,
                    layout: wgpu::TexelCopyBufferLayout { offset, bytes_per_row: None, rows_per_image: None },
                };
                runs(from).for_each(|(place, offset, size)| encoder.copy_texture_to_buffer(image(place), buffer(offset), size));
                runs(to).for_each(|(place, offset, size)| encoder.copy_buffer_to_texture(buffer(offset), image(place), size));
            }
        }
        self.0.queue.submit([encoder.finish()]);
    }
}
