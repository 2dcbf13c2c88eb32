//! Compiled programs: each once, many side by side, and kept between runs where the driver can.

use super::{Gpu, Program, lock};
use crate::files::write_in_folder;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A device's pipelines by their text.
pub(super) struct Pipelines {
    compiled: Mutex<HashMap<String, wgpu::ComputePipeline>>,
    kept: Option<Kept>,
}

/// The driver's own form of them, in a file.
struct Kept {
    cache: wgpu::PipelineCache,
    path: PathBuf,
    /// How many pipelines the file knows of.
    saved: AtomicUsize,
}

impl Pipelines {
    /// Takes up what an earlier run left in `dir`, if the driver wants it.
    pub(super) fn new(device: &wgpu::Device, info: &wgpu::AdapterInfo, dir: Option<&Path>) -> Self {
        let key = dir.filter(|_| device.features().contains(wgpu::Features::PIPELINE_CACHE));
        let path = key.and_then(|dir| Some(dir.join(wgpu::util::pipeline_cache_key(info)?)));
        let kept = path.map(|path| {
            let data = std::fs::read(&path).ok().and_then(|file| checked(&file).map(<[u8]>::to_vec));
            let descriptor = wgpu::PipelineCacheDescriptor { label: Some("fathom"), data: data.as_deref(), fallback: true };
            // SAFETY: the data is what `PipelineCache::get_data` gave an earlier run: its hash shows that the file is whole; wgpu and
            // the driver refuse what another adapter or driver version made.
            let cache = unsafe { device.create_pipeline_cache(&descriptor) };
            Kept { cache, path, saved: AtomicUsize::new(0) }
        });
        Self { compiled: Mutex::default(), kept }
    }
}

/// A file's data, if it is as it was written.
fn checked(file: &[u8]) -> Option<&[u8]> {
    let (hash, data) = file.split_first_chunk()?;
    (u64::from_le_bytes(*hash) == hash_of(data)).then_some(data)
}

fn hash_of(data: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(data);
    hasher.finish()
}

impl Gpu {
    /// The pipelines of these programs, in their order: what is not compiled yet is, as many at once as there are cores.
    pub(super) fn pipelines<'a>(&self, programs: impl Iterator<Item = &'a Program>) -> Vec<wgpu::ComputePipeline> {
        let texts: Vec<(String, &str)> = programs.map(|program| (program.wgsl(cfg!(target_arch = "wasm32")), program.name)).collect();
        let missing: HashMap<&str, &str> = {
            let compiled = lock(&self.0.pipelines.compiled);
            texts.iter().filter(|(text, _)| !compiled.contains_key(text)).map(|(text, name)| (text.as_str(), *name)).collect()
        };
        // Browsers compile on threads of their own.
        let threads = if cfg!(target_arch = "wasm32") { 1 } else { std::thread::available_parallelism().map_or(1, usize::from) };
        if threads.min(missing.len()) < 2 {
            missing.into_iter().for_each(|(text, name)| self.compile(text, name));
        } else {
            let queue = Mutex::new(missing.into_iter());
            let work = || {
                loop {
                    let next = lock(&queue).next();
                    let Some((text, name)) = next else { break };
                    self.compile(text, name);
                }
            };
            std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
        }
        let compiled = lock(&self.0.pipelines.compiled);
        texts.iter().map(|(text, _)| compiled[text].clone()).collect()
    }

    fn compile(&self, text: &str, name: &str) {
        let pipelines = &self.0.pipelines;
        let descriptor = wgpu::ShaderModuleDescriptor { label: Some(name), source: wgpu::ShaderSource::Wgsl(text.into()) };
        // SAFETY: every program is validated by the tests, every index is bounded by params that `Launch`
        // takes from tensor shapes, ids that come from outside are checked before upload, and every loop
        // has a bound. Loop bounding alone slows matrix kernels many times.
        let module = unsafe {
            let checks = wgpu::ShaderRuntimeChecks { bounds_checks: false, force_loop_bounding: false, ..Default::default() };
            self.0.device.create_shader_module_trusted(descriptor, checks)
        };
        let pipeline = self.0.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(name),
            layout: None,
            module: &module,
            entry_point: Some(name),
            compilation_options: wgpu::PipelineCompilationOptions { zero_initialize_workgroup_memory: false, ..Default::default() },
            cache: pipelines.kept.as_ref().map(|kept| &kept.cache),
        });
        lock(&pipelines.compiled).insert(text.to_string(), pipeline);
    }

    /// How many pipelines were compiled so far.
    pub fn pipeline_count(&self) -> usize {
        lock(&self.0.pipelines.compiled).len()
    }

    /// Writes what the driver made of the pipelines to the cache folder, if there is anything new.
    ///
    /// # Errors
    /// Those of the file system; nothing is lost but time at the next start.
    pub fn keep_pipelines(&self) -> Result<(), String> {
        let Some(kept) = &self.0.pipelines.kept else { return Ok(()) };
        let count = self.pipeline_count();
        if kept.saved.swap(count, Ordering::Relaxed) == count {
            return Ok(());
        }
        let Some(data) = kept.cache.get_data() else { return Ok(()) };
        write_in_folder(&kept.path, &[&hash_of(&data).to_le_bytes()[..], &data].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::GpuOptions;
    use pollster::block_on;

    #[test]
    fn kept_pipelines_come_back_and_damaged_ones_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let options = GpuOptions { cache_dir: Some(dir.path().join("deeper")), ..GpuOptions::default() };
        let open = || block_on(Gpu::open(&options)).unwrap();
        let gpu = open();
        let Some(path) = gpu.0.pipelines.kept.as_ref().map(|kept| kept.path.clone()) else {
            assert!(!gpu.caps().backend.eq_ignore_ascii_case("vulkan"), "Vulkan keeps pipelines");
            return;
        };
        gpu.pipelines(crate::kernels::every_program().iter().filter(|program| program.name == "copy"));
        block_on(crate::kernels::self_test(&gpu)).unwrap();
        gpu.keep_pipelines().unwrap();
        let file = std::fs::read(&path).unwrap();
        assert!(checked(&file).is_some_and(|data| !data.is_empty()));
        std::fs::remove_file(&path).unwrap();
        gpu.keep_pipelines().unwrap();
        assert!(!path.exists(), "written again without anything new");

        for damage in [0, file.len() / 2, file.len() - 1] {
            let mut damaged = file.clone();
            damaged[damage] ^= 1;
            assert!(checked(&damaged).is_none());
        }
        assert!(checked(&file[..file.len() - 1]).is_none() && checked(&[]).is_none());
        for content in [file.clone(), b"nonsense".to_vec()] {
            std::fs::write(&path, content).unwrap();
            let gpu = open();
            let results = block_on(crate::kernels::self_test(&gpu)).unwrap();
            assert!(results.iter().all(|(_, result)| result.is_ok()));
        }
    }
}
