// Matrices of 8 × 8 numbers in single precision.
alias WeightMatrix = coop_mat8x8<f32, A>;
alias XMatrix = coop_mat8x8<f32, B>;
alias SumMatrix = coop_mat8x8<f32, C>;
const EDGE = 8u;
