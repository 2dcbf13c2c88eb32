// Matrices of 8 × 8 numbers in half precision, summed in single.
alias WeightMatrix = coop_mat8x8<f16, A>;
alias XMatrix = coop_mat8x8<f16, B>;
alias SumMatrix = coop_mat8x8<f32, C>;
const EDGE = 8u;
