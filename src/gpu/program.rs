//! WGSL programs composed from parts, and what a kernel says about its launch.

use super::{Gpu, IMAGE_WIDTH, Storage, Tensor};

/// One optional ability a part may lean on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needs {
    Subgroups,
    F16,
    /// Cooperative matrices, an extension of wgpu's that no browser has.
    Coop,
}

/// A piece of WGSL that programs are assembled from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    pub name: &'static str,
    pub source: &'static str,
    pub needs: &'static [Needs],
}

/// A [`Part`] from a file under `shaders/`, with the abilities it needs.
#[macro_export]
macro_rules! wgsl {
    ($path:literal $(, $need:ident)*) => {
        $crate::gpu::Part {
            name: $path,
            source: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $path)),
            needs: &[$($crate::gpu::Needs::$need),*],
        }
    };
}

/// A field of a params struct: its name and byte offset, compared with WGSL's by a test.
pub type Field = (&'static str, usize);

/// Declares a kernel's params as WGSL's `struct Params` lays them out.
#[macro_export]
macro_rules! params {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),+ $(,)? }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type),+ }

        impl $name {
            /// Names and byte offsets, for the test that compares them with WGSL's.
            pub const FIELDS: &'static [$crate::gpu::Field] = &[$((stringify!($field), std::mem::offset_of!($name, $field))),+];
        }
    };
}

/// What an [`Accessor`]'s functions take and give.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// `NAME_at(quad) -> vec4<f32>`
    ReadQuads,
    /// `NAME_at(quad) -> vec4<u32>`
    ReadQuadsU32,
    /// `NAME_at(word) -> u32`
    ReadWords,
    /// `NAME_put(number, values, count)`: the first `count` of four neighbours; in an image the others become zeros.
    WriteQuads,
    /// `NAME_put(quad, values)`
    WriteQuadsU32,
}

/// A tensor that a program reads or writes through functions, so that its text does not depend on the tensor's storage.
#[derive(Clone, Debug)]
struct Accessor {
    name: &'static str,
    binding: u32,
    storage: Storage,
    form: Form,
}

impl Accessor {
    fn wgsl(&self) -> String {
        let Self { name, binding, .. } = self;
        let at = format!("@group(0) @binding({binding}) var");
        let texel = |i: &str| format!("vec2<u32>({i} % {IMAGE_WIDTH}u, {i} / {IMAGE_WIDTH}u)");
        // Read as storage: llvmpipe fetches sampled texels by way of a function that looks up every lane's mip level.
        let image = |format: &str| format!("{at} {name}: texture_storage_2d<{format}, read>;");
        let is_buffer = self.storage == Storage::Buffer;
        match self.form {
            Form::ReadQuads | Form::ReadQuadsU32 => {
                let (number, format) = if self.form == Form::ReadQuads { ("f32", "rgba32float") } else { ("u32", "rgba32uint") };
                let (variable, value) = match is_buffer {
                    true => (format!("{at}<storage, read> {name}: array<vec4<{number}>>;"), format!("{name}[i]")),
                    false => (image(format), format!("textureLoad({name}, {})", texel("i"))),
                };
                format!("{variable}\nfn {name}_at(i: u32) -> vec4<{number}> {{ return {value}; }}\n")
            }
            Form::ReadWords => {
                let (variable, value) = match self.storage {
                    Storage::Buffer => (format!("{at}<storage, read> {name}: array<u32>;"), format!("{name}[i]")),
                    Storage::WordImage => (image("r32uint"), format!("textureLoad({name}, {}).x", texel("i"))),
                    Storage::Image => {
                        let quad = format!("textureLoad({name}, {})", texel("(i / 4u)"));
                        (image("rgba32float"), format!("bitcast<vec4<u32>>({quad})[i % 4u]"))
                    }
                };
                format!("{variable}\nfn {name}_at(i: u32) -> u32 {{ return {value}; }}\n")
            }
            Form::WriteQuadsU32 => {
                let (variable, store) = match is_buffer {
                    true => (format!("{at}<storage, read_write> {name}: array<vec4<u32>>;"), format!("{name}[i] = v")),
                    false => {
                        (format!("{at} {name}: texture_storage_2d<rgba32uint, write>;"), format!("textureStore({name}, {}, v)", texel("i")))
                    }
                };
                format!("{variable}\nfn {name}_put(i: u32, v: vec4<u32>) {{ {store}; }}\n")
            }
            Form::WriteQuads if is_buffer => format!(
                "{at}<storage, read_write> {name}: array<f32>;\n\
                 fn {name}_put(at: u32, v: vec4<f32>, count: u32) {{\n\
                 \x20   if count > 0u {{ {name}[at] = v.x; }}\n    if count > 1u {{ {name}[at + 1u] = v.y; }}\n\
                 \x20   if count > 2u {{ {name}[at + 2u] = v.z; }}\n    if count > 3u {{ {name}[at + 3u] = v.w; }}\n}}\n"
            ),
            Form::WriteQuads => format!(
                "{at} {name}: texture_storage_2d<rgba32float, write>;\n\
                 fn {name}_put(at: u32, v: vec4<f32>, count: u32) {{\n\
                 \x20   let inside = vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(count);\n\
                 \x20   if count > 0u {{ textureStore({name}, {}, select(vec4<f32>(0.0), v, inside)); }}\n}}\n",
                texel("(at / 4u)")
            ),
        }
    }
}

/// The text of one pipeline: a body, the parts it calls, and its constants.
#[derive(Clone, Debug)]
pub struct Program {
    /// The kernel's name, which is also the entry point's.
    pub name: &'static str,
    pub parts: Vec<Part>,
    pub constants: Vec<(&'static str, u32)>,
    pub fields: &'static [Field],
    accessors: Vec<Accessor>,
    /// Text that a kernel's file writes: what a loop would say, said out.
    generated: String,
}

impl Program {
    pub fn new(name: &'static str, fields: &'static [Field], parts: impl Into<Vec<Part>>) -> Self {
        Self { name, parts: parts.into(), constants: vec![], fields, accessors: vec![], generated: String::new() }
    }

    /// Adds a `const` that the text may use.
    pub fn set(mut self, name: &'static str, value: u32) -> Self {
        self.constants.push((name, value));
        self
    }

    fn access(mut self, name: &'static str, binding: Option<u32>, storage: Storage, form: Form) -> Self {
        let next = 1 + self.accessors.iter().filter(|accessor| accessor.binding < PART_BINDINGS).count() as u32;
        self.accessors.push(Accessor { name, binding: binding.unwrap_or(next), storage, form });
        self
    }

    /// The body's next tensor, read by `NAME_at(quad) -> vec4<f32>`.
    pub fn quads(self, name: &'static str, storage: Storage) -> Self {
        self.access(name, None, storage, Form::ReadQuads)
    }

    /// The body's next tensor, read by `NAME_at(word) -> u32`.
    pub fn words(self, name: &'static str, storage: Storage) -> Self {
        self.access(name, None, storage, Form::ReadWords)
    }

    /// The body's next tensor, written by `NAME_put(number, values, count)`, in an image whole quads at a time.
    pub fn puts(self, name: &'static str, storage: Storage) -> Self {
        self.access(name, None, storage, Form::WriteQuads)
    }

    /// The body's next tensor, read by `NAME_at(quad) -> vec4<u32>`.
    pub fn quads_u32(self, name: &'static str, storage: Storage) -> Self {
        self.access(name, None, storage, Form::ReadQuadsU32)
    }

    /// The body's next tensor, written by `NAME_put(quad, vec4<u32>)`.
    pub fn puts_u32(self, name: &'static str, storage: Storage) -> Self {
        self.access(name, None, storage, Form::WriteQuadsU32)
    }

    /// A part's tensor, as [`Self::quads`].
    pub fn quads_at(self, binding: u32, name: &'static str, storage: Storage) -> Self {
        self.access(name, Some(binding), storage, Form::ReadQuads)
    }

    /// A part's tensor, as [`Self::puts`].
    pub fn puts_at(self, binding: u32, name: &'static str, storage: Storage) -> Self {
        self.access(name, Some(binding), storage, Form::WriteQuads)
    }

    /// A part's tensor, read by `NAME_at(quad) -> vec4<u32>`.
    pub fn quads_u32_at(self, binding: u32, name: &'static str, storage: Storage) -> Self {
        self.access(name, Some(binding), storage, Form::ReadQuadsU32)
    }

    /// A part's tensor, as [`Self::words`].
    pub fn words_at(self, binding: u32, name: &'static str, storage: Storage) -> Self {
        self.access(name, Some(binding), storage, Form::ReadWords)
    }

    /// Adds text that the constants tell from that of other variants.
    pub fn generated(mut self, text: String) -> Self {
        self.generated = text;
        self
    }

    /// Adds a part.
    pub fn with(mut self, part: Part) -> Self {
        self.parts.push(part);
        self
    }

    pub fn needs(&self, need: Needs) -> bool {
        self.parts.iter().any(|part| part.needs.contains(&need))
    }

    /// A name that tells this combination of parts and constants from others of the same kernel.
    pub fn label(&self) -> String {
        let parts = self.parts.iter().map(|part| part.name.trim_start_matches("parts/").trim_end_matches(".wgsl").to_string());
        let constants = self.constants.iter().map(|(name, value)| format!("{name}={value}"));
        let images = self.accessors.iter().filter(|accessor| accessor.storage != Storage::Buffer);
        let images = images.map(|accessor| format!("{}:image", accessor.name));
        parts.chain(constants).chain(images).collect::<Vec<_>>().join(" ")
    }

    /// The composed text. The body comes first, so that compile errors in it keep the file's own line numbers.
    pub fn wgsl(&self, browser: bool) -> String {
        let mut text = String::new();
        if self.needs(Needs::F16) {
            text += "enable f16; ";
        }
        if self.needs(Needs::Coop) {
            text += "enable wgpu_cooperative_matrix; ";
        }
        // Browsers demand this line; naga refuses it (gfx-rs/wgpu#8202).
        if self.needs(Needs::Subgroups) && browser {
            text += "enable subgroups; ";
        }
        for part in &self.parts {
            text += part.source;
        }
        text += &self.generated;
        for accessor in &self.accessors {
            text += &accessor.wgsl();
        }
        for (name, value) in &self.constants {
            text += &format!("const {name} = {value}u;\n");
        }
        text
    }
}

/// How a program uses a tensor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    Uniform,
    Read,
    Write,
}

/// One dispatch, ready to be recorded.
pub struct Launch {
    pub program: Program,
    pub params: Vec<u8>,
    /// Binding number, access and tensor; binding 0 holds the params.
    pub bindings: Vec<(u32, Access, Tensor)>,
    pub grid: [u32; 3],
    /// Multiply-adds count twice.
    pub flops: u64,
    /// Bytes of device memory the dispatch has to read and write at least.
    pub read_bytes: u64,
    pub written_bytes: u64,
}

impl Launch {
    /// A launch of `program`; the body's tensors follow in binding order, from binding 1 on.
    pub fn new<P: bytemuck::Pod>(program: Program, params: P) -> Self {
        let params = bytemuck::bytes_of(&params).to_vec();
        Self { program, params, bindings: vec![], grid: [1; 3], flops: 0, read_bytes: 0, written_bytes: 0 }
    }

    fn body_binding(&self) -> u32 {
        1 + self.bindings.iter().filter(|(binding, ..)| *binding < PART_BINDINGS).count() as u32
    }

    /// The body's next tensor, read only.
    pub fn read(self, tensor: &Tensor) -> Self {
        let binding = self.body_binding();
        self.read_at(binding, tensor)
    }

    /// The body's next tensor, a uniform.
    pub fn uniform(self, tensor: &Tensor) -> Self {
        let binding = self.body_binding();
        self.uniform_at(binding, tensor)
    }

    /// A uniform that a part owns, at the part's own binding number.
    pub fn uniform_at(mut self, binding: u32, tensor: &Tensor) -> Self {
        assert!(tensor.uniform, "{}: {tensor:?} is not a uniform", self.program.name);
        self.bindings.push((binding, Access::Uniform, tensor.clone()));
        self
    }

    /// The body's next tensor, written (and read, where the body adds to it).
    pub fn write(mut self, tensor: &Tensor) -> Self {
        self.written_bytes += tensor.size_bytes();
        self.bindings.push((self.body_binding(), Access::Write, tensor.clone()));
        self
    }

    /// A tensor that a part owns, at the part's own binding number.
    pub fn read_at(mut self, binding: u32, tensor: &Tensor) -> Self {
        self.read_bytes += tensor.size_bytes();
        self.bindings.push((binding, Access::Read, tensor.clone()));
        self
    }

    /// A tensor that a part writes, at the part's own binding number.
    pub fn write_at(mut self, binding: u32, tensor: &Tensor) -> Self {
        self.written_bytes += tensor.size_bytes();
        self.bindings.push((binding, Access::Write, tensor.clone()));
        self
    }

    /// Workgroups to launch.
    pub fn grid(mut self, x: usize, y: usize, z: usize) -> Self {
        self.grid = [x as u32, y as u32, z as u32];
        self
    }

    pub fn flops(mut self, flops: u64) -> Self {
        self.flops = flops;
        self
    }

    /// Replaces the count of bytes read, where only a part of a bound tensor is touched.
    pub fn reads(mut self, bytes: u64) -> Self {
        self.read_bytes = bytes;
        self
    }

    /// Replaces the count of bytes written.
    pub fn writes(mut self, bytes: u64) -> Self {
        self.written_bytes = bytes;
        self
    }
}

/// Bindings from this number on belong to parts, each at a fixed number in its file.
pub const PART_BINDINGS: u32 = 8;

/// A GPU computation: named arguments as fields, one method that says how it is launched.
///
/// Most kernels are one dispatch; one whose weight spans slabs is one dispatch a slab.
pub trait Kernel {
    fn launches(&self, gpu: &Gpu) -> Vec<Launch>;
}
