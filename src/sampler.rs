//! How the next token is chosen: the settings, checked, and the choice on the CPU, which is the twin of
//! `shaders/sample.wgsl`. Which ids end an answer is the engine's business.

/// How to choose among the logits. The default is greedy.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the largest.
    pub temperature: f32,
    /// Only the most likely so many, and what ties with the last of them; 0 = all.
    pub top_k: u32,
    /// Only the most likely that together reach this share; 1 = all.
    pub top_p: f32,
    /// Only those with at least this part of the best one's share; 0 = all.
    pub min_p: f32,
    pub seed: u64,
}

/// A setting out of its range.
#[derive(thiserror::Error, Clone, PartialEq, Debug)]
#[error("{field}: expected {expected}, found {found}")]
pub struct SamplingError {
    pub field: &'static str,
    pub expected: &'static str,
    pub found: f32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 0 }
    }
}

impl Sampling {
    /// Whether every setting is within its range.
    ///
    /// # Errors
    /// The field that is not.
    pub fn check(&self) -> Result<(), SamplingError> {
        let fields = [
            ("temperature", "a number of at least 0", self.temperature, self.temperature.is_finite() && self.temperature >= 0.0),
            ("top_p", "a number above 0 and up to 1", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0),
            ("min_p", "a number from 0 to 1", self.min_p, (0.0..=1.0).contains(&self.min_p)),
        ];
        match fields.into_iter().find(|(.., holds)| !holds) {
            Some((field, expected, found, _)) => Err(SamplingError { field, expected, found }),
            None => Ok(()),
        }
    }

    /// Whether the choice needs no draw.
    pub fn is_greedy(&self) -> bool {
        self.temperature <= 0.0
    }

    /// The settings as `struct Sampling` of `parts/sampling.wgsl` has them. `tokens`: ids from here on are never chosen.
    pub fn gpu_row(&self, tokens: usize) -> [u32; 8] {
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        let seed = [self.seed as u32, (self.seed >> 32) as u32];
        [self.temperature.to_bits(), self.top_k, self.top_p.to_bits(), self.min_p.to_bits(), seed[0], seed[1], tokens, 0]
    }
}

/// A whole number that orders as the logit does; NaN comes last.
pub(crate) fn order_key(logit: f32) -> u32 {
    let bits = logit.to_bits();
    match bits {
        _ if logit.is_nan() => 0,
        0x8000_0000.. => !bits,
        _ => bits | 0x8000_0000,
    }
}

/// PCG (O'Neill 2014): one step and its output.
fn pcg(value: u32) -> u32 {
    let state = value.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let word = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
    (word >> 22) ^ word
}

/// A uniform number in [0, 1), a multiple of 2^-24.
fn draw(seed: u64, position: u32) -> f32 {
    (pcg(pcg(pcg(position) ^ seed as u32) ^ (seed >> 32) as u32) >> 8) as f32 / 16_777_216.0
}

/// The next token after the one at `position`, of the first `tokens` logits.
///
/// The order is temperature, top-k, top-p over what top-k left, min-p; ties with the last one kept are kept. Sums are taken in
/// f64, so where a draw falls within rounding of a border the GPU may choose the neighbour.
pub fn sample(logits: &[f32], sampling: &Sampling, position: u32, tokens: usize) -> u32 {
    let logits = &logits[..tokens.min(logits.len())];
    let best = (0..logits.len()).rev().max_by_key(|&i| order_key(logits[i])).unwrap_or(0);
    if sampling.is_greedy() || logits.is_empty() {
        return best as u32;
    }
    let largest = logits[best];
    let share = |i: usize| f64::from(((logits[i] - largest) / sampling.temperature).exp());
    let key = |i: usize| order_key(logits[i]);

    let mut ranked: Vec<usize> = (0..logits.len()).filter(|&i| !logits[i].is_nan()).collect();
    ranked.sort_by_key(|&i| std::cmp::Reverse(key(i)));
    let mut cut = 1;
    if sampling.top_k > 0
        && let Some(&last) = ranked.get(sampling.top_k as usize - 1)
    {
        cut = key(last);
    }
    if sampling.top_p < 1.0 {
        let left = || ranked.iter().copied().take_while(|&i| key(i) >= cut);
        let wanted = f64::from(sampling.top_p) * left().map(share).sum::<f64>();
        let reached = left().scan(0.0, |sum, i| {
            *sum += share(i);
            Some((*sum, key(i)))
        });
        if let Some((_, reach)) = reached.into_iter().find(|(sum, _)| *sum >= wanted) {
            cut = reach;
        }
    }
    if sampling.min_p > 0.0 {
        cut = cut.max(order_key(largest + sampling.min_p.ln() * sampling.temperature));
    }
    cut = cut.min(key(best));

    let kept = || (0..logits.len()).filter(|&i| key(i) >= cut);
    let target = f64::from(draw(sampling.seed, position)) * kept().map(share).sum::<f64>();
    let mut reached = 0.0;
    let chosen = kept().find(|&i| {
        reached += share(i);
        reached > target
    });
    chosen.unwrap_or(best) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(logits: &[f32], sampling: Sampling, draws: u32) -> Vec<u32> {
        let mut counts = vec![0; logits.len()];
        for position in 0..draws {
            counts[sample(logits, &sampling, position, logits.len()) as usize] += 1;
        }
        counts
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest_and_no_nan() {
        let greedy = Sampling::default();
        assert_eq!(sample(&[1.0, 3.0, 3.0, 2.0], &greedy, 0, 4), 1);
        assert_eq!(sample(&[f32::NAN, -5.0, f32::NEG_INFINITY], &greedy, 0, 3), 1);
        assert_eq!(sample(&[1.0, 2.0, 9.0], &greedy, 0, 2), 1);
        assert_eq!(sample(&[f32::NAN; 3], &greedy, 0, 3), 0);
        assert_eq!(sample(&[], &Sampling { temperature: 1.0, ..greedy }, 0, 5), 0);
        assert_eq!(sample(&[0.0, f32::INFINITY, 1.0], &Sampling { temperature: 1.0, ..greedy }, 0, 3), 1);
    }

    #[test]
    fn draws_follow_the_distribution() {
        let logits = [0.0f32, 1.0, -1.0, 2.0, 0.5, -3.0];
        for (temperature, seed) in [(1.0, 1), (0.7, 2), (2.0, u64::MAX)] {
            let found = counts(&logits, Sampling { temperature, seed, ..Sampling::default() }, 20_000);
            let shares: Vec<f64> = logits.iter().map(|&l| f64::from(l / temperature).exp()).collect();
            let total: f64 = shares.iter().sum();
            let chi2: f64 = shares.iter().zip(&found).map(|(s, &n)| (f64::from(n) - 2e4 * s / total).powi(2) / (2e4 * s / total)).sum();
            // Five degrees of freedom: 20.5 is exceeded once in a thousand.
            assert!(chi2 < 20.5, "temperature {temperature}: chi-square {chi2}, {found:?}");
            let wrong: f64 = found.iter().map(|&n| (f64::from(n) - 2e4 / 6.0).powi(2) / (2e4 / 6.0)).sum();
            assert!(wrong > 100.0, "the test cannot tell a uniform distribution");
        }
    }

    #[test]
    fn cuts_keep_the_right_tokens() {
        // Shares 0.4, 0.3, 0.2, 0.1.
        let logits: Vec<f32> = [0.2f32, 0.4, 0.1, 0.3].iter().map(|p| p.ln()).collect();
        let kept = |sampling: Sampling| -> Vec<bool> { counts(&logits, sampling, 2_000).iter().map(|&n| n > 0).collect() };
        let hot = Sampling { temperature: 1.0, ..Sampling::default() };
        assert_eq!(kept(hot), [true; 4]);
        assert_eq!(kept(Sampling { top_k: 2, ..hot }), [false, true, false, true]);
        assert_eq!(kept(Sampling { top_k: 9, ..hot }), [true; 4]);
        assert_eq!(kept(Sampling { top_p: 0.69, ..hot }), [false, true, false, true]);
        assert_eq!(kept(Sampling { top_p: 0.71, ..hot }), [true, true, false, true]);
        assert_eq!(kept(Sampling { top_p: 1e-6, ..hot }), [false, true, false, false]);
        // Of 0.4, 0.3 and 0.2, the first holds 0.44.
        assert_eq!(kept(Sampling { top_k: 3, top_p: 0.44, ..hot }), [false, true, false, false]);
        assert_eq!(kept(Sampling { min_p: 0.6, ..hot }), [false, true, false, true]);
        assert_eq!(kept(Sampling { min_p: 1.0, ..hot }), [false, true, false, false]);
        let ties = counts(&[1.0, 1.0, 1.0, 0.0], Sampling { top_k: 2, ..hot }, 2_000);
        assert!(ties[..3].iter().all(|&n| n > 500) && ties[3] == 0, "{ties:?}");
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let ok = Sampling { temperature: 0.6, top_k: 5, top_p: 0.95, min_p: 0.1, seed: 7 };
        assert_eq!(ok.check(), Ok(()));
        let cases = [
            (Sampling { temperature: -1.0, ..ok }, "temperature: expected a number of at least 0, found -1"),
            (Sampling { temperature: f32::NAN, ..ok }, "temperature: expected a number of at least 0, found NaN"),
            (Sampling { temperature: f32::INFINITY, ..ok }, "temperature: expected a number of at least 0, found inf"),
            (Sampling { top_p: 0.0, ..ok }, "top_p: expected a number above 0 and up to 1, found 0"),
            (Sampling { top_p: f32::NAN, ..ok }, "top_p: expected a number above 0 and up to 1, found NaN"),
            (Sampling { min_p: 1.5, ..ok }, "min_p: expected a number from 0 to 1, found 1.5"),
        ];
        for (sampling, expected) in cases {
            assert_eq!(sampling.check().unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn the_device_row_is_laid_out_as_the_shader_has_it() {
        let sampling = Sampling { temperature: 0.5, top_k: 3, top_p: 0.25, min_p: 2.0, seed: 0x1122_3344_5566_7788 };
        let row = sampling.gpu_row(49_152);
        assert_eq!(row, [0.5f32.to_bits(), 3, 0.25f32.to_bits(), 2.0f32.to_bits(), 0x5566_7788, 0x1122_3344, 49_152, 0]);
        let text = include_str!("../shaders/parts/sampling.wgsl");
        let body = text.split_once("struct Sampling {").and_then(|(_, rest)| rest.split_once('}')).unwrap().0;
        let names: Vec<&str> = body.lines().filter_map(|line| line.trim().split_once(':')).map(|(name, _)| name).collect();
        assert_eq!(names, ["temperature", "top_k", "top_p", "min_p", "seed_low", "seed_high", "tokens", "unused"]);
    }

    #[test]
    fn draws_depend_on_seed_and_position() {
        let all: Vec<f32> = (0..4).flat_map(|seed| (0..50).map(move |at| draw(seed << 31, at))).collect();
        assert!(all.iter().all(|d| (0.0..1.0).contains(d)));
        let mut distinct = all.clone();
        distinct.sort_by(f32::total_cmp);
        distinct.dedup();
        assert_eq!(distinct.len(), all.len());
    }

    proptest! {
        #[test]
        fn one_token_of_top_k_is_the_largest(logits in prop::collection::vec(-50f32..50.0, 1..40), seed: u64, position: u32) {
            let one = Sampling { temperature: 1.5, top_k: 1, seed, ..Sampling::default() };
            let chosen = sample(&logits, &one, position, logits.len()) as usize;
            prop_assert_eq!(logits[chosen], logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }

        #[test]
        fn never_outside_and_never_below_the_cuts(
            logits in prop::collection::vec(prop_oneof![8 => -50f32..50.0, 1 => Just(f32::NAN), 1 => Just(f32::NEG_INFINITY)], 1..40),
            tokens in 1usize..60,
            (temperature, top_p, min_p, top_k) in (0f32..3.0, 0.01f32..=1.0, 0f32..=1.0, 0u32..50),
            seed: u64,
            position: u32,
        ) {
            let sampling = Sampling { temperature, top_k, top_p, min_p, seed };
            prop_assert!(sampling.check().is_ok());
            let chosen = sample(&logits, &sampling, position, tokens) as usize;
            let within = &logits[..tokens.min(logits.len())];
            prop_assert!(chosen < within.len());
            let better = within.iter().filter(|&&other| other > within[chosen]).count();
            prop_assert!(top_k == 0 || better < top_k as usize);
            if within.iter().any(|l| !l.is_nan()) {
                prop_assert!(!within[chosen].is_nan());
            }
            prop_assert_eq!(chosen as u32, sample(&logits, &sampling, position, tokens));
        }
    }
}
