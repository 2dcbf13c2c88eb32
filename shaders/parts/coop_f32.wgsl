// Matrices of 8 × 8 numbers as they are.
alias Number = f32;
alias WeightMatrix = coop_mat8x8<f32, A>;
alias XMatrix = coop_mat8x8<f32, B>;
alias SumMatrix = coop_mat8x8<f32, C>;
const EDGE = 8u;
const NUMBER_BYTES = 4u;

fn fitting_scale(largest: f32) -> f32 {
    return 1.0;
}
