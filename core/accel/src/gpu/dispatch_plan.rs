//! Translates matrix steps to dispatches: lookup tables, and the position of each pass's tiles in the matrix.

use super::multi_pass::PARAMETER_WORDS;
use crate::device::rotation_passes::{Axis, MatrixStep, RotationPass, Signs, exponent_limit, passes, scale};
use quantoscope_core::rotation::Rotation;
use quantoscope_core::rotation::hadamard::Hadamard;
use std::ops::Range;

/// Values of a tile, `tile` of `hadamard.wgsl`.
const TILE: usize = 4096;
/// Maximum number of lanes of a tile; neighbouring lanes read neighbouring values.
const LANES: usize = 16;
/// Values per workgroup of the element-wise kernels.
pub(super) const GROUP: usize = 256;

/// Kernel of a dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DispatchKind {
    Gain,
    Rotate,
}

/// A gain, or one pass of a rotation.
enum MatrixDispatch {
    Gain { along: Axis, at: u32, divides: bool },
    Rotate { along: Axis, at: usize, len: usize, pass: RotationPass, offsets: UniformOffsets },
}

/// Parameters of a pass: offsets into the tables (0 for none), order of the dense part, scale, exponent
/// limit.
struct UniformOffsets {
    base: u32,
    dense: u32,
    before: u32,
    after: u32,
    scale: u32,
    limit: u32,
}

/// Steps on a matrix as dispatches for any range of its rows.
pub(super) struct DispatchPlan {
    /// Lookup tables of the kernels. The first word is 0, which the shader compiler cannot know.
    pub tables: Vec<u32>,
    width: usize,
    dispatches: Vec<MatrixDispatch>,
}

impl DispatchPlan {
    /// Plans steps, which must fit the matrix.
    pub(super) fn new(steps: &[MatrixStep<'_>], width: usize) -> DispatchPlan {
        let mut plan = DispatchPlan { tables: vec![0], width, dispatches: Vec::new() };
        let mut cache = CachedTables::default();
        for step in steps {
            match *step {
                MatrixStep::Gain { along, gain, divides } => {
                    let at = plan.append(gain.iter().map(|g| g.to_bits()));
                    plan.dispatches.push(MatrixDispatch::Gain { along, at, divides });
                }
                MatrixStep::Rotate { along, at, rotation } => {
                    for pass in passes(rotation, |stride| TILE / lanes(along, stride, width)) {
                        let offsets = plan.offsets(&mut cache, &pass, rotation);
                        let len = rotation.len();
                        plan.dispatches.push(MatrixDispatch::Rotate { along, at, len, pass, offsets });
                    }
                }
            }
        }
        plan
    }

    /// Appends words to the tables; returns their offset.
    fn append(&mut self, words: impl IntoIterator<Item = u32>) -> u32 {
        let at = self.tables.len() as u32;
        self.tables.extend(words);
        at
    }

    /// The parameters of a pass, with its signs and dense part in the tables.
    fn offsets<'a>(
        &mut self,
        cache: &mut CachedTables<'a>,
        pass: &RotationPass,
        rotation: &'a Rotation,
    ) -> UniformOffsets {
        let mut offset_of = |signs: Option<Signs>| match signs {
            Some(signs) => cache.signs(self, rotation, signs),
            None => 0,
        };
        let (before, after) = (offset_of(pass.before), offset_of(pass.after));
        let h = rotation.hadamard();
        UniformOffsets {
            base: if pass.dense.is_some() { h.base() as u32 } else { 1 },
            dense: pass.dense.map_or(0, |transposed| cache.dense(self, h, transposed)),
            before,
            after,
            scale: if pass.scaled { scale(rotation).to_bits() } else { 0 },
            limit: if pass.begins { exponent_limit(h) } else { 0 },
        }
    }

    /// Kernels, parameters and numbers of workgroups for a range of rows.
    pub(super) fn dispatches(
        &self,
        rows: Range<usize>,
    ) -> impl Iterator<Item = (DispatchKind, [u32; PARAMETER_WORDS], u32)> {
        let width = self.width;
        self.dispatches.iter().map(move |dispatch| match dispatch {
            MatrixDispatch::Gain { along, at, divides } => {
                let values = rows.len() * width;
                let columns = *along == Axis::In;
                let at = if columns { *at } else { at + rows.start as u32 };
                let words = [values as u32, width as u32, at, u32::from(columns), u32::from(*divides)];
                (DispatchKind::Gain, padded(words), values.div_ceil(GROUP) as u32)
            }
            MatrixDispatch::Rotate { along, at, len, pass, offsets } => {
                let (parameters, groups) = tiles(*along, *at, *len, pass, offsets, rows.len(), width);
                (DispatchKind::Rotate, parameters, groups)
            }
        })
    }
}

fn padded<const N: usize>(words: [u32; N]) -> [u32; PARAMETER_WORDS] {
    let mut all = [0; PARAMETER_WORDS];
    all[..N].copy_from_slice(&words);
    all
}

/// Number of lanes of a tile for groups of this stride. Lanes are groups whose first elements are neighbours
/// in memory.
fn lanes(along: Axis, stride: usize, width: usize) -> usize {
    let neighbours = if along == Axis::In { stride } else { stride * width };
    neighbours.min(LANES).next_power_of_two()
}

/// The parameters of `hadamard.wgsl`, in its order, and the number of tiles.
fn tiles(
    along: Axis,
    at: usize,
    len: usize,
    pass: &RotationPass,
    offsets: &UniformOffsets,
    rows: usize,
    width: usize,
) -> ([u32; PARAMETER_WORDS], u32) {
    let (vectors, unit) = if along == Axis::In { (rows, 1) } else { (1, width) };
    let step = pass.stride * unit;
    let run_stride = step * pass.len;
    let chunks = len / (pass.stride * pass.len);
    let runs = vectors * chunks;
    let max_lanes = 1 << (TILE / pass.len).ilog2();
    let lanes = lanes(along, pass.stride, width).min(max_lanes);
    let runs_per_tile = (TILE / (pass.len * lanes)).min(runs);
    let parameters = [
        runs,
        chunks,
        at * unit,
        width,
        run_stride,
        step,
        unit,
        step,
        pass.len,
        runs_per_tile,
        lanes.ilog2() as usize,
        pass.rounds,
    ];
    let words = [offsets.base, offsets.dense, offsets.before, offsets.after, offsets.scale, offsets.limit];
    let mut all = padded(parameters.map(|p| p as u32));
    all[parameters.len()..].copy_from_slice(&words);
    (all, (runs.div_ceil(runs_per_tile) * step.div_ceil(lanes)) as u32)
}

/// Offsets of signs and dense parts that are in the tables already. Heads share the order of their rotations,
/// and often the rotation.
#[derive(Default)]
struct CachedTables<'a> {
    signs: Vec<(&'a [bool], u32)>,
    dense: Vec<(usize, bool, u32)>,
}

impl<'a> CachedTables<'a> {
    fn signs(&mut self, plan: &mut DispatchPlan, rotation: &'a Rotation, signs: Signs) -> u32 {
        let signs = signs.of(rotation);
        if let Some((_, at)) = self.signs.iter().find(|(known, _)| std::ptr::eq(*known, signs)) {
            return *at;
        }
        let at = plan.append(signs.chunks(32).map(|bits| mask(bits.iter().copied())));
        self.signs.push((signs, at));
        at
    }

    /// The dense part or its transpose, one bit per entry (1 for -1), rows padded to whole words.
    fn dense(&mut self, plan: &mut DispatchPlan, h: &Hadamard, transposed: bool) -> u32 {
        let base = h.base();
        if let Some((_, _, at)) = self.dense.iter().find(|(b, t, _)| (*b, *t) == (base, transposed)) {
            return *at;
        }
        let entry = |row: usize, col: usize| {
            if transposed { h.dense_entry(col, row) } else { h.dense_entry(row, col) }
        };
        let words = (0..base).flat_map(|row| {
            (0..base).step_by(32).map(move |col| mask((col..base.min(col + 32)).map(|c| entry(row, c) < 0)))
        });
        let at = plan.append(words);
        self.dense.push((base, transposed, at));
        at
    }
}

/// Packs up to 32 bits into a word, the first bit lowest.
fn mask(bits: impl Iterator<Item = bool>) -> u32 {
    bits.enumerate().fold(0, |word, (n, bit)| word | u32::from(bit) << n)
}
