//! Dispatches in order: recorded once per shape, replayed for every token.

use super::{Access, Gpu, GpuError, Kernel, Launch, Tensor, lock};
use std::fmt;

/// GPU time that one submit may take: drivers kill longer ones (FIELD.md §2a).
const SUBMIT_BUDGET_SECS: f64 = 0.1;

/// How fast the device works through recordings, learnt from timed replays.
pub(super) struct Pace {
    cost_per_sec: f64,
}

impl Pace {
    pub(super) fn new(is_cpu: bool) -> Self {
        // Low guesses: the first submits come out short, never too long.
        Self { cost_per_sec: if is_cpu { 4e9 } else { 1e11 } }
    }
}

/// What `plan` shows of one dispatch.
#[derive(Clone, Debug)]
pub struct StepPlan {
    /// Where in the model, such as `layer 3`.
    pub place: String,
    pub kernel: &'static str,
    pub variant: String,
    pub shapes: String,
    pub grid: [u32; 3],
    pub flops: u64,
    pub read_bytes: u64,
    pub written_bytes: u64,
}

impl StepPlan {
    /// Work in one number: arithmetic, memory traffic and the launch itself.
    fn cost(&self) -> f64 {
        self.flops as f64 + (self.read_bytes + self.written_bytes) as f64 + 1e5
    }
}

struct Step {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    plan: StepPlan,
}

/// Collects launches; [`finish`](Recorder::finish) turns them into a [`Recording`].
pub struct Recorder {
    gpu: Gpu,
    place: String,
    launches: Vec<(String, Launch)>,
}

/// A list of dispatches with their pipelines and bindings.
pub struct Recording {
    steps: Vec<Step>,
}

impl Recorder {
    pub fn new(gpu: &Gpu) -> Self {
        Self { gpu: gpu.clone(), place: String::new(), launches: vec![] }
    }

    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Names where in the model the kernels that follow belong.
    pub fn at(&mut self, place: impl Into<String>) {
        self.place = place.into();
    }

    /// Adds a kernel.
    pub fn run(&mut self, kernel: impl Kernel) {
        for launch in kernel.launches(&self.gpu) {
            check(&self.gpu, &launch);
            self.launches.push((self.place.clone(), launch));
        }
    }

    /// Compiles what is not compiled yet and binds everything.
    pub fn finish(self) -> Result<Recording, GpuError> {
        let device = &self.gpu.0.device;
        let align = self.gpu.caps().uniform_alignment.max(16) as usize;
        let mut table = vec![];
        let mut offsets = vec![];
        for (_, launch) in &self.launches {
            offsets.push(table.len());
            table.extend_from_slice(&launch.params);
            table.resize(table.len().next_multiple_of(align), 0u8);
        }
        let params = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("params"),
            size: table.len().max(16) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.gpu.0.queue.write_buffer(&params, 0, &table);

        let pipelines = self.gpu.pipelines(self.launches.iter().map(|(_, launch)| &launch.program));
        let mut steps = vec![];
        for (((place, launch), offset), pipeline) in self.launches.into_iter().zip(offsets).zip(pipelines) {
            let mut entries = vec![wgpu::BindGroupEntry {
                binding: 0,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &params,
                    offset: offset as u64,
                    size: wgpu::BufferSize::new(launch.params.len() as u64),
                }),
            }];
            entries.extend(
                launch.bindings.iter().map(|(binding, _, tensor)| wgpu::BindGroupEntry { binding: *binding, resource: tensor.binding() }),
            );
            let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(launch.program.name),
                layout: &pipeline.get_bind_group_layout(0),
                entries: &entries,
            });
            steps.push(Step { pipeline, bind_group, plan: plan(place, &launch) });
        }
        self.gpu.fault()?;
        Ok(Recording { steps })
    }
}

/// Our own slips, caught where both sides are known.
fn check(gpu: &Gpu, launch: &Launch) {
    let name = launch.program.name;
    let most = gpu.caps().max_workgroups;
    assert!(launch.grid.iter().all(|&n| n <= most), "{name}: grid {:?} exceeds {most} workgroups an axis", launch.grid);
    let same = |a: &Tensor, b: &Tensor| a.memory == b.memory;
    for (i, (_, access, tensor)) in launch.bindings.iter().enumerate() {
        let again = launch
            .bindings
            .iter()
            .skip(i + 1)
            .any(|(_, other, t)| same(tensor, t) && (*access == Access::Write || *other == Access::Write));
        assert!(!again, "{name}: a written tensor {tensor:?} is bound twice");
    }
}

fn plan(place: String, launch: &Launch) -> StepPlan {
    let shape = |tensor: &Tensor| tensor.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("×");
    let list = |wanted: Access| {
        let chosen = launch.bindings.iter().filter(|(_, access, _)| *access == wanted);
        chosen.map(|(_, _, tensor)| shape(tensor)).collect::<Vec<_>>().join(" ")
    };
    StepPlan {
        place,
        kernel: launch.program.name,
        variant: launch.program.label(),
        shapes: format!("{} → {}", list(Access::Read), list(Access::Write)),
        grid: launch.grid,
        flops: launch.flops,
        read_bytes: launch.read_bytes,
        written_bytes: launch.written_bytes,
    }
}

impl Recording {
    /// What the steps are, in order.
    pub fn plan(&self) -> impl ExactSizeIterator<Item = &StepPlan> {
        self.steps.iter().map(|step| &step.plan)
    }

    /// Work in the unit that [`Gpu::observe`] learns the pace of.
    pub fn cost(&self) -> f64 {
        self.steps.iter().map(|step| step.plan.cost()).sum()
    }

    /// Submits all steps, cut so that no submit takes much longer than 100 ms.
    pub fn replay(&self, gpu: &Gpu) {
        let budget = lock(&gpu.0.pace).cost_per_sec * SUBMIT_BUDGET_SECS;
        let mut from = 0;
        while from < self.steps.len() {
            let mut cost = self.steps[from].plan.cost();
            let mut to = from + 1;
            while to < self.steps.len() && cost + self.steps[to].plan.cost() <= budget {
                cost += self.steps[to].plan.cost();
                to += 1;
            }
            gpu.submit(&self.steps[from..to]);
            from = to;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.steps.len()
    }

    pub(super) fn encode_step(&self, index: usize, pass: &mut wgpu::ComputePass<'_>) {
        self.steps[index].encode(pass);
    }
}

impl Step {
    fn encode(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        let [x, y, z] = self.plan.grid;
        pass.dispatch_workgroups(x, y, z);
    }
}

impl Gpu {
    fn submit(&self, steps: &[Step]) {
        let mut encoder = self.0.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            steps.iter().for_each(|step| step.encode(&mut pass));
        }
        self.0.queue.submit([encoder.finish()]);
    }

    /// Runs one kernel at once; models record many and replay them instead.
    pub fn run(&self, kernel: impl Kernel) -> Result<(), GpuError> {
        let mut recorder = Recorder::new(self);
        recorder.run(kernel);
        recorder.finish()?.replay(self);
        Ok(())
    }

    /// Tells how long a replay took from submit to result, so that later submits are cut well.
    pub fn observe(&self, cost: f64, secs: f64) {
        if secs > 0.0 && cost > 0.0 {
            let mut pace = lock(&self.0.pace);
            pace.cost_per_sec += 0.3 * (cost / secs - pace.cost_per_sec);
        }
    }

    /// Seconds that work of this cost is expected to take.
    pub fn expected_secs(&self, cost: f64) -> f64 {
        cost / lock(&self.0.pace).cost_per_sec
    }
}

/// The plan, one dispatch a line.
impl fmt::Display for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plan().try_for_each(|step| {
            let [x, y, z] = step.grid;
            let grid = format!("{x}×{y}×{z}");
            writeln!(
                f,
                "{:<10} {:<16} {:<58} {:<12} {:>12} {:>10}",
                step.place, step.kernel, step.shapes, grid, step.read_bytes, step.written_bytes
            )
        })
    }
}
