//! 8-bit floats times the scale of their block, in binary32.

use super::PackedPart;
use crate::dtype::DType;
use crate::float::e8m0_to_f32;
use crate::kernels::Kernels;
use crate::quant::EncodeError;
use crate::tensor::packed::ScaleBlocks;
use alloc::vec;
use alloc::vec::Vec;

/// Decodes `codes` to `out`, row-major.
pub(super) fn decode(
    kernels: &dyn Kernels,
    blocks: &ScaleBlocks,
    codes: &PackedPart<'_>,
    scales: &PackedPart<'_>,
    out: &mut [f32],
) -> Result<(), EncodeError> {
    kernels.decode(codes.dtype, codes.bytes, out)?;
    let values = numbers(kernels, scales)?;
    let (cols, scale_cols) = (codes.at.cols.clone(), scales.at.cols.clone());
    let width = (cols.end - cols.start) as usize;
    let scale_width = (scale_cols.end - scale_cols.start) as usize;
    for (row, line) in (0_u64..).zip(out.chunks_exact_mut(width.max(1))) {
        let row = codes.at.rows.first + row * codes.at.rows.step;
        let at = (blocks.scale_row(row) - scales.at.rows.first) as usize * scale_width;
        let line_scales = values.get(at..at + scale_width).ok_or(EncodeError::NoCodec)?;
        scale_row(line, cols.start, blocks.cols, line_scales);
    }
    // Values are stored little-endian, as in files.
    out.iter_mut().for_each(|v| *v = f32::from_bits(v.to_bits().to_le()));
    Ok(())
}

/// Multiplies each value of a row, whose first column is `start`, by the scale of its block of `block` columns.
fn scale_row(line: &mut [f32], start: u64, block: u64, scales: &[f32]) {
    if block == 1 {
        return line.iter_mut().zip(scales).for_each(|(v, s)| *v *= s);
    }
    let mut rest = line;
    let mut left = block - start % block.max(1);
    for scale in scales {
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        let (part, tail) = rest.split_at_mut(len);
        part.iter_mut().for_each(|v| *v *= scale);
        (rest, left) = (tail, block);
    }
}

/// The scales; bytes are powers of two.
fn numbers(kernels: &dyn Kernels, scales: &PackedPart<'_>) -> Result<Vec<f32>, EncodeError> {
    if matches!(scales.dtype, DType::F8_E8M0 | DType::U8) {
        return Ok(scales.bytes.iter().map(|b| e8m0_to_f32(*b)).collect());
    }
    let mut values = vec![0.0; scales.bytes.len() / scales.dtype.block_bytes().max(1) as usize];
    kernels.decode(scales.dtype, scales.bytes, &mut values)?;
    Ok(values)
}
