//! The paged latent cache: pages of 64 tokens, shared between sequences where their beginnings are the same.

use super::{ModelConfig, ModelError};
use crate::gpu::Gpu;
use crate::kernels::{CacheFormat, LatentCache, PAGE};

/// All layers' pages and who uses them.
pub struct Cache {
    /// `[pages * PAGE]` entries of latent + rope a layer
    pub layers: Vec<LatentCache>,
    /// How many sequences use each page.
    users: Vec<u32>,
    free: Vec<u32>,
    entry_bytes: u64,
}

impl Cache {
    pub fn new(gpu: &Gpu, config: &ModelConfig, format: CacheFormat, pages: usize) -> Result<Self, ModelError> {
        let entry = config.cache_entry();
        let layer = |_| LatentCache::new(gpu, format, pages * PAGE, entry);
        let layers = (0..config.layers).map(layer).collect::<Result<_, _>>()?;
        let free = (0..pages as u32).rev().collect();
        Ok(Self { layers, users: vec![0; pages], free, entry_bytes: 4 * format.words(entry) as u64 })
    }

    /// A page for one more sequence, if any is free.
    pub fn take(&mut self) -> Option<u32> {
        let page = self.free.pop()?;
        self.users[page as usize] = 1;
        Some(page)
    }

    /// Another sequence uses this page too.
    pub fn share(&mut self, page: u32) {
        self.users[page as usize] += 1;
    }

    pub fn is_shared(&self, page: u32) -> bool {
        self.users[page as usize] > 1
    }

    /// A sequence uses this page no more.
    pub fn give(&mut self, page: u32) {
        let users = &mut self.users[page as usize];
        *users -= 1;
        if *users == 0 {
            self.free.push(page);
        }
    }

    /// Copies a page's first `tokens` entries in every layer.
    pub fn copy_page(&self, gpu: &Gpu, from: u32, to: u32, tokens: usize) {
        let page_bytes = PAGE as u64 * self.entry_bytes;
        for layer in &self.layers {
            gpu.copy_within(&layer.entries, u64::from(from) * page_bytes, u64::from(to) * page_bytes, tokens as u64 * self.entry_bytes);
        }
    }

    pub fn size_bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.entries.size_bytes()).sum()
    }
}
