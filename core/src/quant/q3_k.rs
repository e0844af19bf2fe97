//! ggml's Q3_K: 32 bytes of upper bits, 64 bytes of two-bit codes, twelve bytes of 16 scales, `f16 d`;
//! `w = d * (scale - 32) * (q - 4)`, one scale for 16 values. Knows nothing but its 110 bytes.
//!
//! `quantize_row_q3_K_ref`: scales are shared out so that the one of greatest magnitude (the first of equals) is -32
//! steps, and codes are chosen anew from the stored ones. Where a stored scale is 0 the codes stay those of the
//! search. All zeros: everything 0, the packed scales too.

use super::Refused;
use super::block::{Overflow, decode_all, encode_all, read_field, scale_field};
use super::search::{loudest, refined, signed_max};
use super::six_bits::{pack_sixteen, unpack_sixteen};
use super::wide::{Values, add_plane, pack_plane, pack_quarters, recode, unpack_quarters};
use crate::float::{f16_to_f32, nearest_even};

const BYTES: usize = 110;

pub fn encode(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), Refused> {
    encode_all(src, out, encode_block)
}

fn encode_block(values: &Values, out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    let mut codes = [0; 256];
    let mut fits = [0.0; 16];
    let parts = values.as_chunks::<16>().0.iter().zip(codes.as_chunks_mut::<16>().0);
    for (fit, (x, codes)) in fits.iter_mut().zip(parts) {
        *fit = refined(x, 4, codes);
    }
    // ggml writes nonsense for sub-blocks so loud that their sums overflow.
    if !fits.iter().all(|s| s.is_finite()) {
        return Err(loudest(values));
    }
    let max = signed_max(&fits);
    let (mut field, mut scales) = ([0; 2], [0; 16]);
    out[96..108].fill(0);
    if max != 0.0 {
        let inverse = -32.0 / max;
        scales = fits.map(|s| (nearest_even(inverse * s).clamp(-32, 31) + 32) as u8);
        out[96..108].copy_from_slice(&pack_sixteen(&scales));
        field = scale_field(1.0 / inverse, values)?;
    }
    let d = f16_to_f32(u16::from_le_bytes(field));
    recode::<16>(values, &mut codes, (-4, 3), |j| (d * f32::from(scales[j] as i8 - 32), 0.0));
    out[..32].copy_from_slice(&pack_plane(&codes, 2));
    pack_quarters(&codes, &mut out[32..96]);
    out[108..].copy_from_slice(&field);
    Ok(())
}

#[inline(always)]
pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut Values) {
    let d = read_field(bytes, 108);
    let mut codes = unpack_quarters(&bytes[32..96]);
    add_plane(&mut codes, &bytes[..32], 2);
    let mut packed = [0; 12];
    packed.copy_from_slice(&bytes[96..108]);
    let parts = values.as_chunks_mut::<16>().0.iter_mut().zip(codes.as_chunks::<16>().0);
    for ((values, codes), scale) in parts.zip(unpack_sixteen(packed)) {
        let d = d * f32::from(scale as i8 - 32);
        for (x, &q) in values.iter_mut().zip(codes) {
            *x = d * f32::from(q as i8 - 4);
        }
    }
}
