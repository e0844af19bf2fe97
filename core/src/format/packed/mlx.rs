//! MLX's affine mode: `NAME.weight`, U32 words of 2 to 8 bits, `NAME.scales` and `NAME.biases`.
//!
//! `config.json` tells the bits: without it several fit. Other modes are not decoded.

use super::{Misfit, UnitedWeight, Uniter};
use crate::dtype::DType;
use crate::tensor::packed::{CodeOrder, IntegerFormat, Integers, Layout, Packed, Zero};
use crate::tensor::{Shape, TensorInfo};
use alloc::format;
use alloc::vec::Vec;

const CODES: &str = ".weight";

/// Bits of a word.
const WORD: u64 = 32;

/// Whether a tensor may be the codes of such a weight.
pub(super) fn is_codes(tensor: &TensorInfo) -> bool {
    tensor.dtype == DType::U32 && tensor.name.ends_with(CODES)
}

pub(super) fn find(uniter: &mut Uniter<'_>) {
    if !uniter.quantization.is_mlx() {
        return;
    }
    for (index, codes) in uniter.free().filter(|(_, t)| is_codes(t)) {
        let Some(stem) = codes.name.strip_suffix(CODES) else { continue };
        let Some((bits, group)) = uniter.quantization.affine(stem) else { continue };
        let part = |suffix: &str| uniter.find(&format!("{stem}.{suffix}"));
        let (Some(scales), Some(biases)) = (part("scales"), part("biases")) else {
            let missing = if part("scales").is_none() { "scales" } else { "biases" };
            uniter.take(index);
            uniter.report(codes, format!("{stem}.{missing} is missing"));
            continue;
        };
        let all = [index, scales.0, biases.0];
        match layout(codes, [scales.1, biases.1], bits, group) {
            Err((part, wanted)) => {
                all.iter().for_each(|i| uniter.take(*i));
                let shape = part.shape.axes();
                uniter.report(part, format!("it is {} {shape:?}; {wanted}", part.dtype));
            }
            Ok((layout, cols, shape)) => {
                let parts = Vec::from([codes.clone(), scales.1.clone(), biases.1.clone()]);
                let packed = Packed { layout: Layout::Integers(layout), rows: shape.rows(), cols, parts };
                let name = codes.name.as_str();
                uniter.unite(&all, UnitedWeight { name, dtype: DType::F32, shape }, packed);
            }
        }
    }
}

/// The layout of a weight, its columns and its shape.
fn layout<'a>(
    codes: &'a TensorInfo,
    floats: [&'a TensorInfo; 2],
    bits: u64,
    group: u64,
) -> Result<(Integers, u64, Shape), Misfit<'a>> {
    let wrong = || (codes, format!("{bits} bits in groups of {group} do not fit"));
    let [stack @ .., words] = codes.shape.axes() else { return Err(wrong()) };
    let cols = words.checked_mul(WORD).filter(|n| n.is_multiple_of(bits)).map(|n| n / bits);
    let cols = cols.filter(|n| n.is_multiple_of(group) && !stack.is_empty()).ok_or_else(wrong)?;
    let of = |last: u64| stack.iter().copied().chain([last]).collect::<Vec<_>>();
    let groups = cols / group;
    for part in floats {
        let float = matches!(part.dtype, DType::F32 | DType::F16 | DType::BF16);
        if !float || part.shape.axes() != of(groups) {
            return Err((part, format!("{bits} bits in groups of {group} need floats {:?}", of(groups))));
        }
    }
    let shape = Shape::new(of(cols)).filter(|s| s.numel() > 0).ok_or_else(wrong)?;
    let (format, order, zero) = (IntegerFormat::Mlx, CodeOrder::Rows, Zero::Offset);
    Ok((Integers { format, bits: bits as u8, order, group, groups, zero, indexed: false }, cols, shape))
}
