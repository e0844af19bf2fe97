//! ggml's IQ2_S: `f16 d`, 32 bytes, each the low bits of an entry of a grid of 1024 for 8 values, 32 bytes of signs,
//! eight of the entries' two upper bits, eight of scales, a nibble for 16 values;
//! `w = d * (scale + 1/2) / 4 * level`, where a grid has the levels 8, 25 and 43. Knows nothing but its 82 bytes.
//!
//! `quantize_iq2_s`: without an importance row a value's weight is its square and half the mean square. Groups off the
//! grid are placed anew with the best scale, scales are shared out so that the greatest is 31/2 steps, and the
//! `d` that is stored is 0.9875 times theirs. All zeros: everything 0.

use super::EncodeError;
use super::block::{Overflow, decode_all, read_field, scale_field};
use super::grid;
use super::grid_block::{GridSearch, encode_columns, mean_square, share, weigh};
use super::grid_fit::{RefitRule, ScaleCandidates};
use super::grids::IQ2_S;
use super::sign_grid::put_iq2;
use super::super_block::SuperBlockValues;

const BYTES: usize = 82;
const SEARCH: GridSearch<8, 4> = GridSearch {
    grid: &grid::IQ2_S,
    scales: ScaleCandidates { top: 5.0, step: 0.1, reach: 9 },
    again: RefitRule::OffGrid,
    least: 1e-8,
    even: false,
    first: None,
};

pub fn encode(src: &[f32], importance: Option<&[f32]>, out: &mut [u8]) -> Result<(), EncodeError> {
    encode_columns(src, importance, out, encode_block)
}

fn encode_block(
    values: &SuperBlockValues,
    importance: Option<&SuperBlockValues>,
    out: &mut [u8; BYTES],
) -> Result<(), Overflow> {
    *out = [0; BYTES];
    let sigma2 = mean_square(values, 2.0)?;
    let weights = match importance {
        Some(importance) => weigh(values, importance, sigma2),
        None => values.map(|x| 0.25 * sigma2 + x * x),
    };
    let subs = SEARCH.all::<2, 2, 16, 20>(values, &weights)?;
    for (j, sub) in subs.iter().enumerate() {
        for (k, &point) in sub.points.iter().enumerate() {
            let index = SEARCH.grid.index(point);
            out[2 + 2 * j + k] = index as u8;
            out[66 + j / 2] |= ((index >> 8) as u8) << (4 * (j % 2) + 2 * k);
        }
        out[34 + 2 * j..][..2].copy_from_slice(&sub.signs);
    }
    let Some((d, steps)) = share(subs.map(|s| s.scale), 15) else { return Ok(()) };
    out[..2].copy_from_slice(&scale_field(d * 0.9875, values)?);
    for (byte, [low, high]) in out[74..].iter_mut().zip(steps.as_chunks::<2>().0) {
        *byte = low | high << 4;
    }
    Ok(())
}

pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut SuperBlockValues| {
        let d = read_field(bytes, 0);
        for (k, out) in values.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let upper = u16::from(bytes[66 + k / 4] >> (2 * (k % 4)) & 3);
            let scale = bytes[74 + k / 4] >> (4 * (k / 2 % 2)) & 15;
            let step = d * (0.5 + f32::from(scale)) * 0.25;
            put_iq2(out, IQ2_S[usize::from(upper << 8 | u16::from(bytes[2 + k]))], step, bytes[34 + k]);
        }
    });
}
