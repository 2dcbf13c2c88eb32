//! How weights are stored for the kernels, and what the stored bits mean: the CPU's side of the shaders' `weight_*` and
//! `scale_*` parts. How files store them is left to `pack`.

use std::fmt;

use half::{bf16, f16};

use super::Dtype;

/// Columns are stored in blocks of this many; a matrix is padded to whole blocks.
pub const BLOCK_COLS: usize = 32;

/// Rows and columns that share one fp8 scale in a file; columns that share one as stored.
pub const FP8_BLOCK: usize = 128;

/// How the pair (scale, bias) of an affine group is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Scale {
    /// One u32, the scale in its low half, the bias in its high half.
    F16,
    /// As `F16`.
    Bf16,
    /// Two f32: scale, bias.
    F32,
}

/// How a matrix is stored, row by row, little endian.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum WeightFormat {
    F32,
    F16,
    Bf16,
    /// e4m3 (DEEPSEEK.md §12.6), with one f32 scale for each 128 columns of a row.
    Fp8,
    /// `w = scale * q + bias`, q unsigned with the first in the lowest bits, a (scale, bias) for each group of columns.
    Affine {
        /// 4 or 8.
        bits: u8,
        /// 32, 64 or 128.
        group: u16,
        scale: Scale,
    },
}

impl Scale {
    /// Bytes of one (scale, bias).
    pub fn pair_bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 4,
            Self::F32 => 8,
        }
    }
}

impl WeightFormat {
    /// Bytes of one row's weights; `cols` is a multiple of 32.
    pub fn row_bytes(self, cols: usize) -> usize {
        match self {
            Self::F32 => cols * 4,
            Self::F16 | Self::Bf16 => cols * 2,
            Self::Fp8 => cols,
            Self::Affine { bits, .. } => cols * usize::from(bits) / 8,
        }
    }

    /// Bytes of one row's scales; 0 where the format has none.
    pub fn scale_row_bytes(self, cols: usize) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 0,
            Self::Fp8 => cols.div_ceil(FP8_BLOCK) * 4,
            Self::Affine { group, scale, .. } => cols.div_ceil(usize::from(group)) * scale.pair_bytes(),
        }
    }

    /// Bits of a weight, its share of the scales included.
    pub fn bits_per_weight(self) -> f64 {
        const COLS: usize = 128;
        (self.row_bytes(COLS) + self.scale_row_bytes(COLS)) as f64 * 8.0 / COLS as f64
    }
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::F32 => f.write_str("f32"),
            Self::F16 => f.write_str("f16"),
            Self::Bf16 => f.write_str("bf16"),
            Self::Fp8 => f.write_str("fp8"),
            Self::Affine { bits, group, scale } => {
                let scale = match scale {
                    Scale::F16 => "f16",
                    Scale::Bf16 => "bf16",
                    Scale::F32 => "f32",
                };
                write!(f, "affine {bits}-bit, groups of {group}, {scale} scales")
            }
        }
    }
}

/// Exact.
pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Exact.
pub fn f16_to_f32(bits: u16) -> f32 {
    f16::from_bits(bits).to_f32()
}

/// E4M3FN (DEEPSEEK.md §12.6), exact; 0x7f and 0xff are NaN.
pub fn e4m3_to_f32(code: u8) -> f32 {
    let (exponent, mantissa) = (u32::from(code >> 3 & 15), u32::from(code & 7));
    let magnitude = match (exponent, mantissa) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa as f32 / 512.0,
        _ => f32::from_bits((exponent + 120) << 23 | mantissa << 20),
    };
    if code < 0x80 { magnitude } else { -magnitude }
}

/// E8M0: the power of two `code - 127`, exact; 0xff is NaN.
pub fn e8m0_to_f32(code: u8) -> f32 {
    match code {
        0xff => f32::NAN,
        // The smallest is below f32's normal numbers.
        0 => f32::from_bits(1 << 22),
        _ => f32::from_bits(u32::from(code) << 23),
    }
}

/// Number `index` of little-endian floats: exact but for F64, which is rounded. The caller has checked dtype and length.
pub(super) fn float_at(bytes: &[u8], dtype: Dtype, index: usize) -> f32 {
    match dtype {
        Dtype::F64 => f64::from_le_bytes(array_at(bytes, index)) as f32,
        Dtype::F32 => f32::from_le_bytes(array_at(bytes, index)),
        Dtype::F16 => f16_to_f32(u16::from_le_bytes(array_at(bytes, index))),
        Dtype::Bf16 => bf16_to_f32(u16::from_le_bytes(array_at(bytes, index))),
        Dtype::F8E8m0 => e8m0_to_f32(bytes[index]),
        other => unreachable!("{other} is no float"),
    }
}

fn array_at<const N: usize>(bytes: &[u8], index: usize) -> [u8; N] {
    bytes.as_chunks::<N>().0[index]
}

/// Appends a stored row's numbers, those of its padding included, each the f32 nearest to what the stored bits mean.
pub fn decode_row(format: WeightFormat, quants: &[u8], scales: &[u8], out: &mut Vec<f32>) {
    let halves = || quants.as_chunks::<2>().0.iter().map(|&bytes| u16::from_le_bytes(bytes));
    match format {
        WeightFormat::F32 => out.extend(quants.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes))),
        WeightFormat::F16 => out.extend(halves().map(f16_to_f32)),
        WeightFormat::Bf16 => out.extend(halves().map(bf16_to_f32)),
        WeightFormat::Fp8 => {
            for (codes, &scale) in quants.chunks(FP8_BLOCK).zip(scales.as_chunks::<4>().0) {
                let scale = f32::from_le_bytes(scale);
                out.extend(codes.iter().map(|&code| e4m3_to_f32(code) * scale));
            }
        }
        WeightFormat::Affine { bits, group, scale } => {
            let group_bytes = usize::from(group) * usize::from(bits) / 8;
            for (bytes, pair) in quants.chunks(group_bytes).zip(scales.chunks_exact(scale.pair_bytes())) {
                let (step, bias) = decode_pair(scale, pair);
                // One rounding, as the shaders' fma; the product of a 16-bit scale and q is exact, so it can do without.
                let value = |q: u8| match scale {
                    Scale::F32 => step.mul_add(f32::from(q), bias),
                    Scale::F16 | Scale::Bf16 => step * f32::from(q) + bias,
                };
                match bits {
                    4 => out.extend(bytes.iter().flat_map(|&byte| [value(byte & 15), value(byte >> 4)])),
                    _ => out.extend(bytes.iter().map(|&byte| value(byte))),
                }
            }
        }
    }
}

fn decode_pair(scale: Scale, pair: &[u8]) -> (f32, f32) {
    let dtype = match scale {
        Scale::F16 => Dtype::F16,
        Scale::Bf16 => Dtype::Bf16,
        Scale::F32 => Dtype::F32,
    };
    (float_at(pair, dtype, 0), float_at(pair, dtype, 1))
}

/// The bits of a bf16 or f16 whose absolute value is the largest finite one's, or less.
pub(super) fn is_finite_16(scale: Scale, bits: u16) -> bool {
    match scale {
        Scale::F16 => f16::from_bits(bits).is_finite(),
        Scale::Bf16 => bf16::from_bits(bits).is_finite(),
        Scale::F32 => unreachable!("f32 has 32 bits"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e4m3_agrees_with_its_definition() {
        for code in 0..=255u8 {
            let (e, m) = (i32::from(code >> 3 & 15), f64::from(code & 7));
            let sign = if code & 0x80 == 0 { 1.0 } else { -1.0 };
            let expected = if e == 0 { m * 2f64.powi(-9) } else { (1.0 + m / 8.0) * 2f64.powi(e - 7) } * sign;
            let found = e4m3_to_f32(code);
            if code & 0x7f == 0x7f {
                assert!(found.is_nan(), "{code:#x}");
            } else {
                assert_eq!(f64::from(found), expected, "{code:#x}");
                assert_eq!(found.is_sign_negative(), code >= 0x80, "{code:#x}");
            }
        }
        assert_eq!(e4m3_to_f32(0x7e), 448.0);
    }

    #[test]
    fn sixteen_bits_agree_with_half() {
        for bits in 0..=u16::MAX {
            assert_eq!(bf16_to_f32(bits).to_bits(), (u32::from(bits)) << 16);
            let (sign, e, m) = (if bits >> 15 == 0 { 1.0 } else { -1.0 }, i32::from(bits >> 10 & 31), f64::from(bits & 1023));
            let found = f64::from(f16_to_f32(bits));
            match e {
                31 => assert!(!found.is_finite()),
                0 => assert_eq!(found, sign * m * 2f64.powi(-24)),
                _ => assert_eq!(found, sign * (1.0 + m / 1024.0) * 2f64.powi(e - 15)),
            }
            assert_eq!(is_finite_16(Scale::F16, bits), e != 31);
            assert_eq!(is_finite_16(Scale::Bf16, bits), bf16_to_f32(bits).is_finite());
        }
    }

    #[test]
    fn e8m0_is_a_power_of_two() {
        for code in 0..255u8 {
            assert_eq!(f64::from(e8m0_to_f32(code)), 2f64.powi(i32::from(code) - 127));
        }
        assert!(e8m0_to_f32(255).is_nan());
    }

    #[test]
    fn sizes_of_rows() {
        let affine = |bits, group, scale| WeightFormat::Affine { bits, group, scale };
        assert_eq!((WeightFormat::F32.row_bytes(96), WeightFormat::F32.scale_row_bytes(96)), (384, 0));
        assert_eq!((WeightFormat::Fp8.row_bytes(160), WeightFormat::Fp8.scale_row_bytes(160)), (160, 8));
        assert_eq!((affine(4, 64, Scale::F16).row_bytes(96), affine(4, 64, Scale::F16).scale_row_bytes(96)), (48, 8));
        assert_eq!((affine(8, 32, Scale::F32).row_bytes(96), affine(8, 32, Scale::F32).scale_row_bytes(96)), (96, 24));
        assert_eq!(affine(4, 64, Scale::Bf16).bits_per_weight(), 4.5);
        assert_eq!(WeightFormat::Fp8.bits_per_weight(), 8.25);
        assert_eq!(affine(4, 64, Scale::Bf16).to_string(), "affine 4-bit, groups of 64, bf16 scales");
    }
}
