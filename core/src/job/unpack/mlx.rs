//! Codes, scales and biases of MLX's affine mode as blocks, whose bytes are compared with those of an encoder.

use super::PackedPart;
use crate::dtype::MlxType;
use crate::error::{Code, Error, Result};

/// Puts the parts of each group together in `out`.
pub(super) fn interleave(of: MlxType, parts: &[PackedPart<'_>], out: &mut [u8]) -> Result<()> {
    let missing = || Error::new(Code::Overflow, "a window lacks a part of its weight");
    let [codes, scales, biases] = parts else { return Err(missing()) };
    let field = of.float().dtype().block_bytes() as usize;
    let code_bytes = of.code_bytes() as usize;
    let groups = codes.bytes.chunks_exact(code_bytes);
    let fields = scales.bytes.chunks_exact(field).zip(biases.bytes.chunks_exact(field));
    let blocks = out.chunks_exact_mut(code_bytes + 2 * field);
    if blocks.len() != groups.len() || blocks.len() != fields.len() {
        return Err(missing());
    }
    for ((block, codes), (scale, bias)) in blocks.zip(groups).zip(fields) {
        let (head, tail) = block.split_at_mut(code_bytes);
        let (first, second) = tail.split_at_mut(field);
        head.copy_from_slice(codes);
        first.copy_from_slice(scale);
        second.copy_from_slice(bias);
    }
    Ok(())
}
