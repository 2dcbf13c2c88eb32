//! GPU time of every dispatch, by timestamp queries.

use super::{Gpu, GpuError, Recording};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use web_time::Instant;

/// What one dispatch of a recording took.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Index in [`Recording::plan`].
    pub step: usize,
    pub secs: f64,
}

/// What all dispatches of one kernel in a recording took.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct KernelTime {
    pub kernel: Cow<'static, str>,
    pub dispatches: usize,
    pub secs: f64,
}

impl Gpu {
    /// A recording's GPU time by kernel, longest first. It is replayed twice, since the first time may compile.
    ///
    /// `None` where the device has no timestamp queries.
    pub async fn kernel_times(&self, recording: &Recording) -> Result<Option<Vec<KernelTime>>, GpuError> {
        self.profile(recording).await?;
        let Some(timings) = self.profile(recording).await? else { return Ok(None) };
        let mut kernels: BTreeMap<&str, KernelTime> = BTreeMap::new();
        for (step, timing) in recording.plan().zip(timings) {
            let kernel = step.kernel;
            let time = kernels.entry(kernel).or_insert(KernelTime { kernel: Cow::Borrowed(kernel), dispatches: 0, secs: 0.0 });
            time.dispatches += 1;
            time.secs += timing.secs;
        }
        let mut times: Vec<KernelTime> = kernels.into_values().collect();
        times.sort_by(|a, b| b.secs.total_cmp(&a.secs));
        Ok(Some(times))
    }

    /// Seconds of GPU time that a replay takes; where the device has no timestamp queries, by the clock and with submitting.
    pub async fn replay_secs(&self, recording: &Recording) -> Result<f64, GpuError> {
        if let Some(timings) = self.profile(recording).await? {
            return Ok(timings.iter().map(|timing| timing.secs).sum());
        }
        let since = Instant::now();
        recording.replay(self);
        self.settle().await?;
        Ok(since.elapsed().as_secs_f64())
    }

    /// Replays a recording with a pass a dispatch, each between two timestamps.
    ///
    /// `None` where the device has no timestamp queries.
    pub async fn profile(&self, recording: &Recording) -> Result<Option<Vec<Timing>>, GpuError> {
        if !self.caps().timestamps {
            return Ok(None);
        }
        let mut timings = vec![];
        // A query set holds at most 4096 queries.
        for first in (0..recording.len()).step_by(2048) {
            let count = (recording.len() - first).min(2048);
            let queries = 2 * count as u32;
            let device = &self.0.device;
            let set = device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("profile"),
                ty: wgpu::QueryType::Timestamp,
                count: queries,
            });
            let resolved = device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("profile"),
                size: 8 * u64::from(queries),
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            });
            let landing = self.zeros_u32("profile", &[2 * queries as usize])?;
            let mut encoder = device.create_command_encoder(&Default::default());
            for i in 0..count {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: None,
                    timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                        query_set: &set,
                        beginning_of_pass_write_index: Some(2 * i as u32),
                        end_of_pass_write_index: Some(2 * i as u32 + 1),
                    }),
                });
                recording.encode_step(first + i, &mut pass);
            }
            encoder.resolve_query_set(&set, 0..queries, &resolved, 0);
            let super::tensor::Memory::Buffer(buffer) = &landing.memory else { unreachable!("zeros lie in buffers") };
            encoder.copy_buffer_to_buffer(&resolved, 0, buffer, 0, 8 * u64::from(queries));
            self.0.queue.submit([encoder.finish()]);
            let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&self.download(&landing, 0, landing.size_bytes()).await?);
            let period = f64::from(self.caps().timestamp_period_ns) * 1e-9;
            timings.extend(
                ticks
                    .chunks(2)
                    .enumerate()
                    .map(|(i, pair)| Timing { step: first + i, secs: pair[1].saturating_sub(pair[0]) as f64 * period }),
            );
        }
        Ok(Some(timings))
    }
}
