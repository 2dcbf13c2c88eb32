//! Rotary frequencies: plain, YaRN and per-pair factors, in the config's old and new spelling (DEEPSEEK.md §2.3, §2.4).

use super::ModelError;
use super::fields::Fields;
use serde_json::Value;

/// What positions turn by, and what that does to scores.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    /// Radians a position, one a pair.
    pub frequencies: Vec<f32>,
    /// Multiplies cos and sin (YaRN's A).
    pub attention_factor: f32,
    /// Multiplies the softmax scale (YaRN's g squared).
    pub scale_factor: f64,
}

/// YaRN's magnitude correction g(s, m).
fn magnitude(factor: f64, m: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 1.0 + 0.1 * m * factor.ln() }
}

fn factors(fields: &Fields, name: &str, pairs: usize) -> Result<Vec<f64>, ModelError> {
    let wrong = |found: String| fields.wrong(name, &format!("{pairs} positive numbers"), found);
    let list = fields.get(name).and_then(Value::as_array).ok_or_else(|| wrong("no list".into()))?;
    let list: Option<Vec<f64>> = list.iter().map(|v| v.as_f64().filter(|v| v.is_finite() && *v > 0.0)).collect();
    list.filter(|list| list.len() == pairs).ok_or_else(|| wrong("another list".into()))
}

impl Rotary {
    /// Reads `rope_scaling` or `rope_parameters` beside the top-level fields, for `dim` rotary numbers a head.
    pub(super) fn from_config(top: &Fields, dim: usize, max_positions: usize) -> Result<Self, ModelError> {
        let empty = Value::Object(Default::default());
        let (name, object) = ["rope_scaling", "rope_parameters"]
            .into_iter()
            .find_map(|name| top.get(name).filter(|v| !v.is_null()).map(|v| (name, v)))
            .unwrap_or(("rope_scaling", &empty));
        let fields = Fields::within(name, object)?;
        let kind = match fields.string("rope_type")? {
            Some(kind) => kind,
            None => fields.string("type")?.unwrap_or("default"),
        };
        let theta = match fields.positive("rope_theta")? {
            Some(theta) => theta,
            None => top.positive("rope_theta")?.unwrap_or(10000.0),
        };
        let pairs = dim / 2;
        let plain: Vec<f64> = (0..pairs).map(|i| theta.powf(-2.0 * i as f64 / dim as f64)).collect();
        match kind {
            "default" | "none" => Ok(Self::new(&plain, 1.0, 1.0)),
            "linear" => {
                let factor = fields.positive("factor")?.ok_or_else(|| fields.wrong("factor", "a number", "none".into()))?;
                let scaled: Vec<f64> = plain.iter().map(|f| f / factor).collect();
                Ok(Self::new(&scaled, 1.0, 1.0))
            }
            "yarn" => Self::yarn(&fields, &plain, theta, dim, max_positions),
            "longrope" => Self::longrope(&fields, &plain, max_positions),
            other => Err(ModelError::Unsupported {
                field: format!("{name}.rope_type"),
                found: format!("{other:?}"),
                hint: "expected default, linear, yarn or longrope".into(),
            }),
        }
    }

    fn new(frequencies: &[f64], attention_factor: f64, scale_factor: f64) -> Self {
        // As transformers keeps them: rounded to f32.
        let frequencies = frequencies.iter().map(|&f| f as f32).collect();
        Self { frequencies, attention_factor: attention_factor as f32, scale_factor }
    }

    /// Frequencies that are given, such as a GGUF's.
    pub fn given(frequencies: Vec<f32>) -> Self {
        Self { frequencies, attention_factor: 1.0, scale_factor: 1.0 }
    }

    fn yarn(fields: &Fields, plain: &[f64], theta: f64, dim: usize, max_positions: usize) -> Result<Self, ModelError> {
        let original = fields.positive("original_max_position_embeddings")?.unwrap_or(max_positions as f64);
        let factor = fields.positive("factor")?.unwrap_or(max_positions as f64 / original);
        let nonzero = |value: Option<f64>| value.filter(|v| *v != 0.0);
        let fast = nonzero(fields.number("beta_fast")?).unwrap_or(32.0);
        let slow = nonzero(fields.number("beta_slow")?).unwrap_or(1.0);
        let r = dim as f64;
        let turns = |x: f64| r * (original / (2.0 * std::f64::consts::PI * x)).ln() / (2.0 * theta.ln());
        let low = turns(fast).floor().max(0.0);
        let high = turns(slow).ceil().min(r - 1.0);
        let high = if low == high { high + 0.001 } else { high };
        let blend = |(i, e): (usize, &f64)| {
            let m = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
            e / factor * m + e * (1.0 - m)
        };
        let frequencies: Vec<f64> = plain.iter().enumerate().map(blend).collect();
        let mscale = nonzero(fields.number("mscale")?);
        let all_dim = nonzero(fields.number("mscale_all_dim")?);
        let attention = match (fields.number("attention_factor")?, mscale, all_dim) {
            (Some(given), _, _) => given,
            (None, Some(m), Some(all)) => magnitude(factor, m) / magnitude(factor, all),
            (None, _, _) => magnitude(factor, 1.0),
        };
        let scale = all_dim.map_or(1.0, |all| magnitude(factor, all).powi(2));
        Ok(Self::new(&frequencies, attention, scale))
    }

    fn longrope(fields: &Fields, plain: &[f64], max_positions: usize) -> Result<Self, ModelError> {
        let original = fields.positive("original_max_position_embeddings")?.unwrap_or(max_positions as f64);
        let long = max_positions as f64 > original;
        let list = factors(fields, if long { "long_factor" } else { "short_factor" }, plain.len())?;
        let frequencies: Vec<f64> = plain.iter().zip(&list).map(|(f, by)| f / by).collect();
        let factor = fields.positive("factor")?.unwrap_or(max_positions as f64 / original);
        let attention = match fields.number("attention_factor")? {
            Some(given) => given,
            None if factor <= 1.0 => 1.0,
            None => (1.0 + factor.ln() / original.ln()).sqrt(),
        };
        let all_dim = fields.number("mscale_all_dim")?.filter(|v| *v != 0.0);
        let scale = all_dim.map_or(1.0, |all| magnitude(factor, all).powi(2));
        Ok(Self::new(&frequencies, attention, scale))
    }

    /// cos and sin of every position's turns, `[positions, cols]`, zeros beyond the pairs' own.
    ///
    /// The product is rounded to f32 before cos and sin, as transformers does (DEEPSEEK.md §2.4).
    pub fn table(&self, positions: usize, cols: usize) -> Vec<f32> {
        let mut table = vec![0.0; positions * cols];
        for (position, row) in table.chunks_mut(cols).enumerate() {
            for (turn, &frequency) in row.chunks_mut(2).zip(&self.frequencies) {
                let (sin, cos) = f64::from(position as f32 * frequency).sin_cos();
                turn[0] = (cos * f64::from(self.attention_factor)) as f32;
                turn[1] = (sin * f64::from(self.attention_factor)) as f32;
            }
        }
        table
    }
}
