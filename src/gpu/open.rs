//! Choosing an adapter and opening it with the highest limits it gives.

use super::{Caps, CoopShape, Disabled, Feature, Gpu, GpuError, Inner, lock, memory, pipelines, recording};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// What the user may say about the device.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct GpuOptions {
    /// Part of an adapter's name, or its index in `fathom doctor`'s list.
    pub adapter: Option<String>,
    /// `vulkan`, `metal`, `dx12` or `gl`.
    pub backend: Option<String>,
    pub disabled: Disabled,
    /// The most bytes tensors may hold.
    pub memory_bytes: Option<u64>,
    /// Where compiled pipelines are kept between runs, if anywhere.
    pub cache_dir: Option<PathBuf>,
    /// On first use of a device, kernels' lanes are chosen by measuring; what was found is kept in `cache_dir`, and without one nothing
    /// is measured.
    pub autotune: bool,
}

/// One line of `fathom doctor`'s adapter list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AdapterSummary {
    pub name: String,
    pub backend: String,
    pub kind: String,
    pub driver: String,
}

fn backends(wanted: Option<&str>) -> wgpu::Backends {
    match wanted {
        Some("vulkan") => wgpu::Backends::VULKAN,
        Some("metal") => wgpu::Backends::METAL,
        Some("dx12") => wgpu::Backends::DX12,
        Some("gl") => wgpu::Backends::GL,
        _ => wgpu::Backends::PRIMARY,
    }
}

fn instance(options: &GpuOptions) -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backends(options.backend.as_deref());
    wgpu::Instance::new(descriptor)
}

/// Best first: discrete, integrated, virtual, then software.
fn rank(info: &wgpu::AdapterInfo) -> u32 {
    match info.device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}

async fn candidates(options: &GpuOptions) -> Vec<wgpu::Adapter> {
    let instance = instance(options);
    #[cfg(target_arch = "wasm32")]
    let mut found: Vec<wgpu::Adapter> = instance.request_adapter(&Default::default()).await.into_iter().collect();
    #[cfg(not(target_arch = "wasm32"))]
    let mut found = instance.enumerate_adapters(backends(options.backend.as_deref())).await;
    // A compute engine needs compute shaders: old GL drivers list adapters without them.
    found.retain(|adapter| adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS));
    found.sort_by_key(|adapter| rank(&adapter.get_info()));
    found
}

/// All adapters, best first.
pub async fn adapters(options: &GpuOptions) -> Vec<AdapterSummary> {
    let summary = |adapter: &wgpu::Adapter| {
        let info = adapter.get_info();
        AdapterSummary {
            name: info.name,
            backend: info.backend.to_string(),
            kind: format!("{:?}", info.device_type),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
        }
    };
    candidates(options).await.iter().map(summary).collect()
}

fn choose(found: Vec<wgpu::Adapter>, options: &GpuOptions) -> Result<wgpu::Adapter, GpuError> {
    let backend = options.backend.as_ref().map(|backend| format!(" for backend {backend}")).unwrap_or_default();
    if found.is_empty() {
        return Err(GpuError::NoAdapter { backend });
    }
    let Some(wanted) = &options.adapter else {
        return found.into_iter().next().ok_or(GpuError::NoAdapter { backend });
    };
    let names: Vec<String> = found.iter().map(|adapter| adapter.get_info().name).collect();
    let index = match wanted.parse::<usize>() {
        Ok(index) => Some(index).filter(|&index| index < names.len()),
        Err(_) => names.iter().position(|name| name.to_lowercase().contains(&wanted.to_lowercase())),
    };
    let listed = || names.iter().enumerate().map(|(i, name)| format!("{i}: {name}")).collect::<Vec<_>>().join("; ");
    let index = index.ok_or_else(|| GpuError::UnknownAdapter { wanted: wanted.clone(), found: listed() })?;
    found.into_iter().nth(index).ok_or(GpuError::NoAdapter { backend })
}

/// The cooperative matrices that kernels know and the adapter has, if it may use them.
fn coop_shapes(adapter: &wgpu::Adapter, features: wgpu::Features) -> Vec<CoopShape> {
    let all = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SUBGROUP;
    if !adapter.features().contains(all) || !features.contains(wgpu::Features::SUBGROUP) {
        return vec![];
    }
    let found = adapter.cooperative_matrix_properties();
    // Tiles in half precision lie in vectors, from which Metal loads no matrix; in single precision its matrices are as fast.
    let is_vulkan = adapter.get_info().backend == wgpu::Backend::Vulkan;
    let has = |shape: &CoopShape| {
        let number = if shape.is_f16() { wgpu::CooperativeScalarType::F16 } else { wgpu::CooperativeScalarType::F32 };
        let is_square = |size: &wgpu::CooperativeMatrixProperties| [size.m_size, size.n_size, size.k_size] == [shape.edge(); 3];
        let sums = wgpu::CooperativeScalarType::F32;
        found.iter().any(|size| is_square(size) && size.ab_type == number && size.cr_type == sums)
            && (!shape.is_f16() || is_vulkan && features.contains(wgpu::Features::SHADER_F16))
    };
    CoopShape::ALL.into_iter().filter(has).collect()
}

/// The least and most lanes of a subgroup, where the device was asked for them.
#[cfg(target_arch = "wasm32")]
fn subgroup_sizes() -> Option<[u32; 2]> {
    let sizes = js_sys::Reflect::get(&js_sys::global(), &"fathomSubgroups".into()).ok()?;
    let size = |name: &str| js_sys::Reflect::get(&sizes, &name.into()).ok()?.as_f64().map(|size| size as u32);
    Some([size("min")?, size("max")?])
}

impl Gpu {
    /// Opens the best adapter (or the one asked for) with everything it offers and the user allows.
    pub async fn open(options: &GpuOptions) -> Result<Self, GpuError> {
        let adapter = choose(candidates(options).await, options)?;
        let info = adapter.get_info();
        let allowed = |feature| !options.disabled.0.contains(&feature);

        let mut features = wgpu::Features::empty();
        if allowed(Feature::Subgroups) {
            features |= wgpu::Features::SUBGROUP;
        }
        if allowed(Feature::F16) {
            features |= wgpu::Features::SHADER_F16;
        }
        features |= wgpu::Features::TIMESTAMP_QUERY;
        if options.cache_dir.is_some() {
            features |= wgpu::Features::PIPELINE_CACHE;
        }
        let features = adapter.features() & features;
        let limits = adapter.limits();
        let coop = if allowed(Feature::Coop) { coop_shapes(&adapter, features) } else { vec![] };

        let descriptor = wgpu::DeviceDescriptor {
            label: Some("fathom"),
            required_features: features,
            required_limits: limits.clone(),
            memory_hints: wgpu::MemoryHints::Performance,
            ..Default::default()
        };
        let mut opened = None;
        if !coop.is_empty() {
            // SAFETY: cooperative matrices are used by a few kernels of our own, each compared with its twin on this very device before it
            // is chosen; nothing of the feature's API comes from outside.
            let experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
            let required_features = features | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
            let descriptor = wgpu::DeviceDescriptor { required_features, experimental_features, ..descriptor.clone() };
            opened = adapter.request_device(&descriptor).await.ok();
        }
        let refused = |error: wgpu::RequestDeviceError| GpuError::NoDevice { adapter: info.name.clone(), reason: error.to_string() };
        let (coop, (device, queue)) = match opened {
            Some(opened) => (coop, opened),
            None => (vec![], adapter.request_device(&descriptor).await.map_err(refused)?),
        };

        let fault = Arc::new(Mutex::new(None));
        let sticky = fault.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let error = match error {
                wgpu::Error::OutOfMemory { .. } => GpuError::OutOfMemory(None),
                wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
                    GpuError::Driver(description.replace('\n', " "))
                }
            };
            lock(&sticky).get_or_insert(error);
        }));
        let sticky = fault.clone();
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                lock(&sticky).get_or_insert(GpuError::Lost(message));
            }
        });

        // wgpu maps no subgroups of a browser's: the page asks for them (`web/page/subgroups.js`) and leaves their sizes.
        #[cfg(target_arch = "wasm32")]
        let subgroups = subgroup_sizes().filter(|_| allowed(Feature::Subgroups));
        #[cfg(not(target_arch = "wasm32"))]
        let subgroups = features.contains(wgpu::Features::SUBGROUP).then_some([info.subgroup_min_size, info.subgroup_max_size]);
        let [subgroup_min, subgroup_max] = subgroups.unwrap_or_default();

        let is_cpu = info.device_type == wgpu::DeviceType::Cpu;
        let caps = Caps {
            adapter: info.name.clone(),
            backend: info.backend.to_string(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
            is_cpu,
            subgroups: subgroups.is_some(),
            f16: features.contains(wgpu::Features::SHADER_F16),
            coop,
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            timestamp_period_ns: queue.get_timestamp_period(),
            images: is_cpu
                && allowed(Feature::Images)
                && subgroup_min >= 8
                && limits.max_storage_textures_per_shader_stage >= 8
                && limits.max_texture_dimension_2d as usize >= super::tensor::IMAGE_WIDTH,
            barriers: allowed(Feature::Barriers) && !(is_cpu && info.subgroup_min_size < 8),
            max_image_rows: limits.max_texture_dimension_2d,
            subgroup_min,
            subgroup_max,
            // A binding is addressed with 32-bit byte offsets by many drivers; whole slabs of 2 GiB are plenty.
            max_binding_bytes: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size).min(2 << 30),
            max_buffer_bytes: limits.max_buffer_size,
            max_workgroups: limits.max_compute_workgroups_per_dimension,
            max_shared_bytes: limits.max_compute_workgroup_storage_size,
            uniform_alignment: limits.min_uniform_buffer_offset_alignment,
        };
        let pipelines = pipelines::Pipelines::new(&device, &info, options.cache_dir.as_deref());
        Ok(Gpu(Arc::new(Inner {
            device,
            queue,
            pace: Mutex::new(recording::Pace::new(is_cpu)),
            caps,
            pipelines,
            fault,
            held: Arc::new(memory::Held::new(options.memory_bytes, is_cpu)),
            read_back_bytes: Default::default(),
            choices: Default::default(),
        })))
    }
}
