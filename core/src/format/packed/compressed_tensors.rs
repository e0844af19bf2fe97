//! Integers of compressed-tensors: `NAME.weight_packed`, I32 words of 2, 4 or 8 bits, or `NAME.weight`, I8; with
//! `NAME.weight_scale`, and where they are there `NAME.weight_zero_point`, `NAME.weight_g_idx` and `NAME.weight_shape`.
//!
//! Other widths were packed in two ways by different versions, and are not decoded.

use super::config::IntegerScheme;
use super::{Misfit, UnitedWeight, Uniter};
use crate::dtype::DType;
use crate::tensor::packed::{CodeOrder, IntegerFormat, Integers, Layout, Packed, Zero};
use crate::tensor::{Shape, TensorInfo};
use alloc::format;
use alloc::vec::Vec;

const PACKED: &str = ".weight_packed";
const PLAIN: &str = ".weight";

/// Bits of a word.
const WORD: u64 = 32;

/// Whether a tensor may be the codes of such a weight.
pub(super) fn is_codes(tensor: &TensorInfo) -> bool {
    let packed = tensor.name.ends_with(PACKED) && tensor.dtype == DType::I32;
    packed || (tensor.name.ends_with(PLAIN) && tensor.dtype == DType::I8)
}

pub(super) fn find(uniter: &mut Uniter<'_>) {
    let schemes = uniter.quantization.integers.clone();
    if uniter.quantization.method.as_deref() != Some("compressed-tensors") || schemes.is_empty() {
        return;
    }
    for (index, codes) in uniter.free().filter(|(_, t)| is_codes(t) && t.shape.axes().len() == 2) {
        let stem = codes.name.strip_suffix(PACKED).or_else(|| codes.name.strip_suffix(PLAIN));
        let Some(stem) = stem else { continue };
        let part = |suffix: &str| uniter.find(&format!("{stem}.{suffix}"));
        let Some(scales) = part("weight_scale") else {
            // 2:4 sparse weights, which are not decoded.
            if part("scale_packed").is_some() {
                continue;
            }
            uniter.take(index);
            uniter.report(codes, format!("{stem}.weight_scale is missing"));
            continue;
        };
        let (zeros, shape) = (part("weight_zero_point"), part("weight_shape"));
        let parts =
            IntegerParts { codes, scales: scales.1, zeros: zeros.map(|z| z.1), index: part("weight_g_idx") };
        let all: Vec<usize> = [Some(index), Some(scales.0), zeros.map(|z| z.0), parts.index.map(|i| i.0)]
            .into_iter()
            .flatten()
            .chain(shape.map(|s| s.0))
            .collect();
        let shaped = |t: &TensorInfo| matches!(t.dtype, DType::I64 | DType::I32) && t.shape.axes() == [2];
        if let Some((_, shape)) = shape.filter(|(_, t)| !shaped(t)) {
            all.iter().for_each(|i| uniter.take(*i));
            uniter.report(shape, "it is not I64 [2] or I32 [2]");
            continue;
        }
        match parts.layout(&schemes) {
            Err((part, why)) => {
                all.iter().for_each(|i| uniter.take(*i));
                uniter.report(part, why);
            }
            Ok(None) => {}
            Ok(Some((layout, rows, cols))) => {
                let Some(shape) = Shape::new([rows, cols]) else { continue };
                let stored = all.iter().filter_map(|i| uniter.tensors.get(*i)).cloned().collect();
                let packed = Packed { layout: Layout::Integers(layout), rows, cols, parts: stored };
                let name = format!("{stem}{PLAIN}");
                uniter.unite(&all, UnitedWeight { name: &name, dtype: DType::F32, shape }, packed);
            }
        }
    }
}

/// The parts of a weight.
struct IntegerParts<'a> {
    codes: &'a TensorInfo,
    scales: &'a TensorInfo,
    zeros: Option<&'a TensorInfo>,
    index: Option<(usize, &'a TensorInfo)>,
}

impl<'a> IntegerParts<'a> {
    /// The layout with rows and columns of the weight; `None` if it is none that is decoded.
    fn layout(&self, schemes: &[IntegerScheme]) -> Result<Option<(Integers, u64, u64)>, Misfit<'a>> {
        let [rows, words] = *self.codes.shape.axes() else { return Ok(None) };
        let packed = self.codes.dtype == DType::I32;
        if rows == 0 || words == 0 {
            return Err((self.codes, "it has no elements".into()));
        }
        if !matches!(self.scales.dtype, DType::F32 | DType::F16 | DType::BF16) {
            return Err((self.scales, format!("a scale of {} is not known", self.scales.dtype)));
        }
        let groups = match *self.scales.shape.axes() {
            [n] if n == rows => 1,
            [n, groups] if n == rows => groups,
            // One scale for the tensor.
            _ if self.scales.shape.numel() == 1 => return Ok(None),
            _ => {
                return Err((
                    self.scales,
                    format!("its shape is {:?}; the codes have {rows} rows", self.scales.shape.axes()),
                ));
            }
        };
        let decoded = |s: &&IntegerScheme| if packed { matches!(s.bits, 2 | 4 | 8) } else { s.bits == 8 };
        let cols = |s: &IntegerScheme| if packed { words.saturating_mul(WORD / s.bits) } else { words };
        let fits = |s: &&IntegerScheme| s.group.map_or(1, |g| cols(s).div_ceil(g)) == groups;
        let mut known = schemes.iter().filter(decoded).peekable();
        if known.peek().is_none() {
            return Ok(None);
        }
        let mut fitting: Vec<&IntegerScheme> = known.filter(fits).collect();
        fitting.dedup_by_key(|s| (s.bits, s.group));
        let [scheme] = *fitting else {
            let which = if fitting.is_empty() { "none" } else { "several" };
            return Err((self.scales, format!("its shape fits {which} of the groups of config.json")));
        };
        let (cols, bits) = (cols(scheme), scheme.bits);
        let (zero, wanted) = match (self.zeros, packed) {
            (None, true) => (Zero::Fixed(1 << (bits - 1)), None),
            (None, false) => (Zero::Fixed(0), None),
            (Some(_), true) => (Zero::PackedRows, Some((DType::I32, [(rows * bits).div_ceil(WORD), groups]))),
            (Some(_), false) => (Zero::Bytes, Some((DType::I8, [rows, groups]))),
        };
        if let (Some(zeros), Some((dtype, shape))) = (self.zeros, wanted)
            && (zeros.dtype != dtype || zeros.shape.axes() != shape)
        {
            let axes = zeros.shape.axes();
            return Err((zeros, format!("it is {} {axes:?}, not {dtype} {shape:?}", zeros.dtype)));
        }
        if let Some((_, index)) = self.index
            && (index.dtype != DType::I32 || index.shape.axes() != [cols])
        {
            return Err((index, format!("it is {} {:?}, not I32 [{cols}]", index.dtype, index.shape.axes())));
        }
        let order = if packed { CodeOrder::Rows } else { CodeOrder::Bytes };
        let (format, indexed) = (IntegerFormat::CompressedTensors, self.index.is_some());
        let group = scheme.group.unwrap_or(cols).min(cols).max(1);
        Ok(Some((Integers { format, bits: bits as u8, order, group, groups, zero, indexed }, rows, cols)))
    }
}
