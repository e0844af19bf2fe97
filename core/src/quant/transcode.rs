//! Lossless conversion between the blocks of lattice and APR and ggml's 4-bit blocks. Nothing is decoded or rounded:
//! headers are kept, nibbles are reordered, and a block with a value that would change is refused.
//!
//! A lattice block and a Q4_1 block have the same header and formula. The lattice loader requires a positive
//! finite scale and a finite bias, which a Q4_1 block need not have. A symmetric lattice block is a Q4_0
//! block if its stored bias is exactly -8 stored scales, that is, unless the scale is subnormal.

use super::EncodeError;
use super::block::{LEN, pack_halves, read_field, unpack_halves};
use super::lattice::unpack_pairs;

/// 1.0 as a little-endian binary16.
const ONE: [u8; 2] = [0x00, 0x3C];

/// The target type cannot represent a value of the block.
struct Inexact;

/// Converts `src` block by block.
fn each<const A: usize, const B: usize>(
    src: &[u8],
    out: &mut [u8],
    rewrite: impl Fn(&[u8; A], &mut [u8; B]) -> Result<(), Inexact>,
) -> Result<(), EncodeError> {
    let (src, rest) = src.as_chunks::<A>();
    let (out, over) = out.as_chunks_mut::<B>();
    assert!(rest.is_empty() && over.is_empty() && src.len() == out.len(), "blocks and as many blocks");
    for (block, (from, to)) in src.iter().zip(out).enumerate() {
        rewrite(from, to).map_err(|Inexact| EncodeError::NotExact { block })?;
    }
    Ok(())
}

/// Converts lattice blocks to Q4_1; always exact.
pub(super) fn lattice_to_q4_1(src: &[u8], out: &mut [u8]) -> Result<(), EncodeError> {
    each(src, out, |from: &[u8; 20], to: &mut [u8; 20]| {
        to[..4].copy_from_slice(&from[..4]);
        to[4..].copy_from_slice(&pack_halves(&unpack_pairs(&from[4..])));
        Ok(())
    })
}

/// Converts lattice blocks to Q4_0; exact for a positive finite scale and a bias of exactly -8 scales.
pub(super) fn lattice_to_q4_0(src: &[u8], out: &mut [u8]) -> Result<(), EncodeError> {
    each(src, out, |from: &[u8; 20], to: &mut [u8; 18]| {
        let (scale, bias) = (read_field(from, 0), read_field(from, 2));
        if !(scale.is_finite() && scale > 0.0 && bias == -8.0 * scale) {
            return Err(Inexact);
        }
        to[..2].copy_from_slice(&from[..2]);
        to[2..].copy_from_slice(&pack_halves(&unpack_pairs(&from[4..])));
        Ok(())
    })
}

/// Converts APR's q4 blocks to Q4_0; always exact.
pub(super) fn apr_q4_to_q4_0(src: &[u8], out: &mut [u8]) -> Result<(), EncodeError> {
    each(src, out, |from: &[u8; 18], to: &mut [u8; 18]| {
        to[..2].copy_from_slice(&from[..2]);
        to[2..].copy_from_slice(&pack_halves(&unpack_pairs(&from[2..])));
        Ok(())
    })
}

/// Converts Q4_1 to lattice blocks; exact for a finite minimum and a finite scale that is positive or zero.
///
/// With scale 0, the lattice block has scale 1 and codes 0.
pub(super) fn q4_1_to_lattice(src: &[u8], out: &mut [u8]) -> Result<(), EncodeError> {
    each(src, out, |from: &[u8; 20], to: &mut [u8; 20]| {
        let (d, m) = (read_field(from, 0), read_field(from, 2));
        // d = m = -0 decodes to -0, which a positive scale cannot produce.
        let negative_zero = d.is_sign_negative() && m == 0.0 && m.is_sign_negative();
        if !m.is_finite() || !d.is_finite() || d < 0.0 || negative_zero {
            return Err(Inexact);
        }
        to[2..4].copy_from_slice(&from[2..4]);
        if d == 0.0 {
            to[..2].copy_from_slice(&ONE);
            to[4..].fill(0);
            return Ok(());
        }
        to[..2].copy_from_slice(&from[..2]);
        let codes = unpack_halves(&from[4..]);
        for (byte, pair) in to[4..].iter_mut().zip(codes.as_chunks::<2>().0) {
            *byte = pair[0] | (pair[1] << 4);
        }
        Ok(())
    })
}

const _: () = assert!(LEN == 32, "the byte counts above are those of 32 values");
