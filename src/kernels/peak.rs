//! What a device can do at best, to set kernels' times against: copying, and multiplying and adding in registers.

use super::Lanes;
use super::case::{Case, F32_SUMS, Rng, Stage};
use crate::gpu::{Gpu, Kernel, Launch, Part, Program, Tensor};
use crate::{params, wgsl};

const BODY: Part = wgsl!("peak.wgsl");
const FACTOR: f64 = -0.75;

/// `y = v`, where v ← v · FACTOR + x, eight times a round, from v = x.
struct Peak<'a> {
    /// `[numbers]`, a multiple of 4
    x: &'a Tensor,
    /// `[numbers]` or more
    y: &'a Tensor,
    rounds: u32,
}

params!(
    /// As `peak.wgsl` has it.
    Params { quads: u32, rounds: u32 }
);

fn program(lanes: Lanes) -> Program {
    let storage = lanes.storage();
    let program = Program::new("peak", Params::FIELDS, [BODY, super::BOUND]).set("WORKGROUP_SIZE", lanes.workgroup);
    program.quads("x", storage).puts("y", storage)
}

pub(super) fn programs() -> Vec<Program> {
    [Lanes::ALL[0], Lanes::ALL[2]].map(program).to_vec()
}

impl Kernel for Peak<'_> {
    fn launches(&self, gpu: &Gpu) -> Vec<Launch> {
        let lanes = Lanes::of(gpu);
        let (numbers, bytes) = (self.x.len() as u64, self.x.size_bytes());
        let launch = Launch::new(program(lanes), Params { quads: self.x.len() as u32 / 4, rounds: self.rounds });
        let launch = launch.read(self.x).write(self.y).writes(bytes).flops(16 * numbers * u64::from(self.rounds));
        let groups = (self.x.len() / 4).div_ceil(4 * lanes.workgroup as usize);
        vec![launch.grid(groups.min(1 << 15), groups.div_ceil(1 << 15), 1)]
    }
}

/// One number.
pub fn reference(x: f32, rounds: u32) -> f32 {
    (0..8 * rounds).fold(f64::from(x), |v, _| v * FACTOR + f64::from(x)) as f32
}

fn case(name: &str, numbers: usize, rounds: u32) -> Case {
    Case::new(format!("peak {name}, {numbers} numbers, {rounds} rounds"), move |gpu| {
        let mut stage = Stage::new(gpu);
        let x = Rng(61).numbers(numbers);
        let expected: Vec<f32> = x.iter().map(|&x| reference(x, rounds)).collect();
        let (x, y) = (stage.quads(&[numbers], &x)?, stage.fresh_quads(&[numbers + 4])?);
        stage.run(Peak { x: &x, y: &y, rounds });
        stage.expect("y", &y, &expected, F32_SUMS);
        stage.finish()
    })
}

/// Copying, then arithmetic.
pub fn limits() -> [Case; 2] {
    [case("copy", 8 << 20, 0).bench(), case("arithmetic", 1 << 18, 125).bench()]
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = vec![case("copy", 4, 0), case("arithmetic", 1028, 7), case("arithmetic", 4096, 40)];
    all.extend(limits());
    all
}
