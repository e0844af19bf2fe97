//! ggml's IQ3_S: `f16 d`, 64 bytes, each the low bits of an entry of a grid of 512 for 4 values, eight bytes of the
//! entries' upper bits, 32 of signs, four of scales, a nibble for 32 values; `w = d * (2 * scale + 1) * level`, where a
//! grid has the eight odd levels up to 15. Knows nothing but its 110 bytes.
//!
//! `quantize_iq3_s`: without an importance row a value's weight is its square. Unless the best scale has all groups on
//! the grid they are all placed anew with it, scales are shared out so that the greatest is 31/2 steps, and the `d`
//! that is stored is 1.033 times theirs. All zeros: everything 0.
//!
//! A sub-block of zeros among others is a case of its own: the reference does not step over its place, so that
//! the low bits and signs of all later ones lie one sub-block too early, while their upper bits and scales do not. What
//! such a super-block decodes to is not what went in, there as here; the bytes are the contract.

use super::EncodeError;
use super::block::{Overflow, decode_all, read_field, scale_field};
use super::grid;
use super::grid_block::{GridSearch, encode_columns, mean_square, share, weigh};
use super::grid_fit::{RefitRule, ScaleCandidates};
use super::grids::{IQ3_S, IQ3_S_LEVELS};
use super::sign_grid::put_iq3;
use super::super_block::SuperBlockValues;

const BYTES: usize = 110;
const SEARCH: GridSearch<4, 2> = GridSearch {
    grid: &grid::IQ3_S,
    scales: ScaleCandidates { top: 15.0, step: 0.2, reach: 9 },
    again: RefitRule::AllUnlessOn,
    // Only zeros are zeros.
    least: f32::from_bits(1),
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
        None => values.map(|x| x * x),
    };
    let subs = SEARCH.all::<8, 4, 8, 20>(values, &weights)?;
    let zeros = values.as_chunks::<32>().0.iter().map(|x| x.iter().all(|&x| x == 0.0));
    let loud = subs.iter().enumerate().zip(zeros).filter(|(_, zeros)| !zeros);
    // `place` falls behind `j` where there were zeros.
    for (place, ((j, sub), _)) in loud.enumerate() {
        for (k, &point) in sub.points.iter().enumerate() {
            let index = SEARCH.grid.index(point);
            out[2 + 8 * place + k] = index as u8;
            out[66 + j] |= ((index >> 8) as u8) << k;
        }
        out[74 + 4 * place..][..4].copy_from_slice(&sub.signs);
    }
    let Some((d, steps)) = share(subs.map(|s| s.scale), 15) else { return Ok(()) };
    out[..2].copy_from_slice(&scale_field(d * 1.033, values)?);
    for (byte, [low, high]) in out[106..].iter_mut().zip(steps.as_chunks::<2>().0) {
        *byte = low | high << 4;
    }
    Ok(())
}

pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut SuperBlockValues| {
        let d = read_field(bytes, 0);
        let entries = bytes[2..66].as_chunks::<2>().0;
        for (k, (out, low)) in values.as_chunks_mut::<8>().0.iter_mut().zip(entries).enumerate() {
            let upper = bytes[66 + k / 4] >> (2 * (k % 4));
            let at = |low: u8, upper: u8| IQ3_S[usize::from(u16::from(upper & 1) << 8 | u16::from(low))];
            let scale = bytes[106 + k / 8] >> (4 * (k / 4 % 2)) & 15;
            let step = d * f32::from(2 * scale + 1);
            put_iq3(out, &IQ3_S_LEVELS, [at(low[0], upper), at(low[1], upper >> 1)], step, bytes[74 + k]);
        }
    });
}
