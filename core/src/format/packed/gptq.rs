//! GPTQ and AWQ: `NAME.qweight`, `NAME.qzeros`, `NAME.scales`, and GPTQ's `NAME.g_idx`, the group of each column.
//!
//! A weight `[out, in]` is stored transposed. GPTQ packs its inputs into words, AWQ its outputs.

use super::blocks::block_len;
use super::{Misfit, UnitedWeight, Uniter};
use crate::dtype::DType;
use crate::tensor::packed::{CodeOrder, IntegerFormat, Integers, Layout, Packed, Zero};
use crate::tensor::{Shape, TensorInfo};
use alloc::format;
use alloc::vec::Vec;

/// Last parts of the names of a weight's parts, codes first.
const CODES: &str = ".qweight";
const SCALES: &str = ".scales";
const ZEROS: &str = ".qzeros";
const INDEX: &str = ".g_idx";

/// Bits of a word.
const WORD: u64 = 32;

/// Whether a tensor may be a part of such a weight.
pub(super) fn is_part(tensor: &TensorInfo) -> bool {
    tensor.name.ends_with(CODES)
}

/// The parts of a weight, by their index.
struct GptqParts<'a> {
    codes: (usize, &'a TensorInfo),
    scales: (usize, &'a TensorInfo),
    zeros: (usize, &'a TensorInfo),
    index: Option<(usize, &'a TensorInfo)>,
}

pub(super) fn find(uniter: &mut Uniter<'_>) {
    let method = uniter.quantization.method.as_deref();
    if !matches!(method, None | Some("gptq" | "awq")) || !uniter.quantization.has_usual_codes {
        return;
    }
    let declared = method.is_some();
    for (index, tensor) in uniter.free() {
        if let Some(stem) = tensor.name.strip_suffix(CODES) {
            gather(uniter, stem, (index, tensor), declared);
        } else if declared && let Some(why) = stray(uniter, tensor) {
            uniter.report(tensor, why);
        }
    }
}

/// Unites the parts of one weight, or reports those that are missing.
fn gather(uniter: &mut Uniter<'_>, stem: &str, codes: (usize, &TensorInfo), declared: bool) {
    let part = |suffix: &str| uniter.find(&format!("{stem}{suffix}"));
    let (scales, zeros, index) = (part(SCALES), part(ZEROS), part(INDEX));
    let (Some(scales), Some(zeros)) = (scales, zeros) else {
        let missing = [(SCALES, scales), (ZEROS, zeros)].into_iter().filter(|(_, part)| part.is_none());
        for (suffix, _) in missing.filter(|_| declared) {
            uniter.report(codes.1, format!("{stem}{suffix} is missing"));
        }
        return;
    };
    let parts = GptqParts { codes, scales, zeros, index };
    match parts.layout(uniter) {
        Err((part, why)) => {
            parts.indices().for_each(|i| uniter.take(i));
            uniter.report(part, why);
        }
        Ok((layout, rows, cols)) => {
            let Some(shape) = Shape::new([rows, cols]) else { return };
            let all: Vec<usize> = parts.indices().collect();
            let stored = all.iter().filter_map(|i| uniter.tensors.get(*i)).cloned().collect();
            let packed = Packed { layout: Layout::Integers(layout), rows, cols, parts: stored };
            let name = format!("{stem}.weight");
            uniter.unite(&all, UnitedWeight { name: &name, dtype: DType::F32, shape }, packed);
        }
    }
}

/// Why a tensor, a part of a weight by its name, is not needed.
fn stray(uniter: &Uniter<'_>, tensor: &TensorInfo) -> Option<&'static str> {
    let stem = [ZEROS, INDEX].iter().find_map(|suffix| tensor.name.strip_suffix(suffix))?;
    let lonely = uniter.find(&format!("{stem}{CODES}")).is_none();
    lonely.then_some("it is a part of a weight that the checkpoint does not have")
}

impl<'a> GptqParts<'a> {
    fn indices(&self) -> impl Iterator<Item = usize> {
        [self.codes.0, self.scales.0, self.zeros.0].into_iter().chain(self.index.map(|i| i.0))
    }

    /// The layout with rows and columns of the weight.
    fn layout(&self, uniter: &Uniter<'_>) -> Result<(Integers, u64, u64), Misfit<'a>> {
        let (codes, scales, zeros) = (self.codes.1, self.scales.1, self.zeros.1);
        for (part, dtypes) in [
            (codes, &[DType::I32][..]),
            (zeros, &[DType::I32]),
            (scales, &[DType::F16, DType::BF16, DType::F32]),
        ] {
            if !dtypes.contains(&part.dtype) || part.shape.axes().len() != 2 || part.shape.numel() == 0 {
                let message = format!("it is {} {:?}", part.dtype, part.shape.axes());
                return Err((part, message));
            }
        }
        let (rows, groups) = (scales.shape.cols(), scales.shape.rows());
        let awq = match uniter.quantization.method.as_deref() {
            Some(method) => method == "awq",
            None => codes.shape.cols() != rows,
        };
        let bits = if awq { 4 } else { self.bits(rows).ok_or_else(|| misshapen(zeros, [groups, 0]))? };
        let packed = |n: u64| n.checked_mul(bits).filter(|n| n.is_multiple_of(WORD)).map(|n| n / WORD);
        let wrong = |part, wanted| Err(misshapen(part, wanted));
        let packed_rows = packed(rows).ok_or_else(|| misshapen(scales, [groups, rows]))?;
        let words = codes.shape.rows();
        let cols = if awq { words } else { words.saturating_mul(WORD) / bits };
        let wanted = if awq { [cols, packed_rows] } else { [codes.shape.rows(), rows] };
        if codes.shape.axes() != wanted || (!awq && packed(cols) != Some(codes.shape.rows())) {
            return wrong(codes, wanted);
        }
        if zeros.shape.axes() != [groups, packed_rows] {
            return wrong(zeros, [groups, packed_rows]);
        }
        let configured = uniter.quantization.group.map(|group| group.min(cols));
        if let Some(group) = configured.filter(|group| cols.div_ceil(*group) != groups) {
            return wrong(scales, [cols.div_ceil(group), rows]);
        }
        let Some(group) = configured.or_else(|| block_len(cols, groups, core::iter::empty())) else {
            let message = "how many columns share a scale is not known without config.json";
            return Err((scales, message.into()));
        };
        if let Some((_, index)) = self.index
            && (index.dtype != DType::I32 || index.shape.axes() != [cols])
        {
            return Err((
                index,
                format!("it is {} {:?}, not I32 {:?}", index.dtype, index.shape.axes(), [cols]),
            ));
        }
        let add = i16::from(!awq && !uniter.quantization.is_gptq_v2);
        let (format, order) = match awq {
            true => (IntegerFormat::Awq, CodeOrder::Interleaved),
            false => (IntegerFormat::Gptq, CodeOrder::Columns),
        };
        let (zero, indexed, bits) = (Zero::Packed { add }, self.index.is_some(), bits as u8);
        Ok((Integers { format, bits, order, group, groups, zero, indexed }, rows, cols))
    }

    /// Bits of a code of GPTQ, by the zeros of `rows` outputs.
    fn bits(&self, rows: u64) -> Option<u64> {
        let words = self.zeros.1.shape.cols();
        [2, 3, 4, 8].into_iter().find(|bits| rows.checked_mul(*bits) == words.checked_mul(WORD))
    }
}

fn misshapen(part: &TensorInfo, wanted: [u64; 2]) -> Misfit<'_> {
    (part, format!("its shape is {:?}; the other parts need {wanted:?}", part.shape.axes()))
}
