// Matrices of 16 × 16 numbers in half precision, summed in single.
alias WeightMatrix = coop_mat16x16<f16, A>;
alias XMatrix = coop_mat16x16<f16, B>;
alias SumMatrix = coop_mat16x16<f32, C>;
const EDGE = 16u;
