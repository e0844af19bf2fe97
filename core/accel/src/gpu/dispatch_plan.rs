//! From steps to dispatches: tables, and for each pass where its tiles lie in the matrix.

use super::multi_pass::WORDS;
use crate::device::rotation_passes::{Axis, MatrixStep, RotationPass, Signs, limit, passes, scale};
use quantoscope_core::rotation::Rotation;
use quantoscope_core::rotation::hadamard::Hadamard;
use std::ops::Range;

/// Values of a tile, `tile` of `hadamard.wgsl`.
const TILE: usize = 4096;
/// Lanes of a tile: what they read together is a line of memory.
const LANES: usize = 16;
/// Values that a workgroup of the other kernels takes.
pub const GROUP: usize = 256;

/// Which kernel a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DispatchKind {
    Gain,
    Turn,
}

/// One step, or a part of one.
enum MatrixDispatch {
    Gain { along: Axis, at: u32, divides: bool },
    Turn { along: Axis, at: usize, axis: usize, pass: RotationPass, words: UniformOffsets },
}

/// What a pass reads besides values; 0 for nothing.
struct UniformOffsets {
    base: u32,
    dense: u32,
    before: u32,
    after: u32,
    scale: u32,
    limit: u32,
}

/// Steps on a matrix, ready for any run of its rows.
pub struct DispatchPlan {
    /// What the kernels look up. The first word is 0, which no compiler knows.
    pub tables: Vec<u32>,
    width: usize,
    links: Vec<MatrixDispatch>,
}

impl DispatchPlan {
    /// Of steps that fit.
    pub fn new(steps: &[MatrixStep<'_>], width: usize) -> DispatchPlan {
        let mut course = DispatchPlan { tables: vec![0], width, links: Vec::new() };
        let mut known = CachedTables::default();
        for step in steps {
            match *step {
                MatrixStep::Gain { along, gain, divides } => {
                    let at = course.append(gain.iter().map(|g| g.to_bits()));
                    course.links.push(MatrixDispatch::Gain { along, at, divides });
                }
                MatrixStep::Rotate { along, at, rotation } => {
                    for pass in passes(rotation, |stride| TILE / lanes(along, stride, width)) {
                        let words = course.words(&mut known, &pass, rotation);
                        course.links.push(MatrixDispatch::Turn {
                            along,
                            at,
                            axis: rotation.len(),
                            pass,
                            words,
                        });
                    }
                }
            }
        }
        course
    }

    fn append(&mut self, words: impl IntoIterator<Item = u32>) -> u32 {
        let at = self.tables.len() as u32;
        self.tables.extend(words);
        at
    }

    fn words<'a>(
        &mut self,
        known: &mut CachedTables<'a>,
        pass: &RotationPass,
        rotation: &'a Rotation,
    ) -> UniformOffsets {
        let mut flips = |signs: Option<Signs>| match signs {
            Some(signs) => known.signs(self, rotation, signs),
            None => 0,
        };
        let (before, after) = (flips(pass.before), flips(pass.after));
        let h = rotation.hadamard();
        UniformOffsets {
            base: if pass.dense.is_some() { h.base() as u32 } else { 1 },
            dense: pass.dense.map_or(0, |transposed| known.dense(self, h, transposed)),
            before,
            after,
            scale: if pass.scaled { scale(rotation).to_bits() } else { 0 },
            limit: if pass.begins { limit(h) } else { 0 },
        }
    }

    /// The kernels to run on a run of rows, with their parameters and numbers of workgroups.
    pub fn dispatches(&self, rows: Range<usize>) -> impl Iterator<Item = (DispatchKind, [u32; WORDS], u32)> {
        let width = self.width;
        self.links.iter().map(move |link| match link {
            MatrixDispatch::Gain { along, at, divides } => {
                let values = rows.len() * width;
                let columns = *along == Axis::In;
                let at = if columns { *at } else { at + rows.start as u32 };
                let words = [values as u32, width as u32, at, u32::from(columns), u32::from(*divides)];
                (DispatchKind::Gain, padded(words), values.div_ceil(GROUP) as u32)
            }
            MatrixDispatch::Turn { along, at, axis, pass, words } => {
                let (parameters, groups) = tiles(*along, *at, *axis, pass, words, rows.len(), width);
                (DispatchKind::Turn, parameters, groups)
            }
        })
    }
}

fn padded<const N: usize>(words: [u32; N]) -> [u32; WORDS] {
    let mut all = [0; WORDS];
    all[..N].copy_from_slice(&words);
    all
}

/// Lanes of a tile for groups whose elements are so far apart on the axis: only groups that begin beside each other in
/// memory are lanes.
fn lanes(along: Axis, stride: usize, width: usize) -> usize {
    let beside = if along == Axis::In { stride } else { stride * width };
    beside.min(LANES).next_power_of_two()
}

/// The parameters of `hadamard.wgsl`, in its order, and how many tiles there are.
fn tiles(
    along: Axis,
    at: usize,
    axis: usize,
    pass: &RotationPass,
    words: &UniformOffsets,
    rows: usize,
    width: usize,
) -> ([u32; WORDS], u32) {
    let (vectors, unit) = if along == Axis::In { (rows, 1) } else { (1, width) };
    let step = pass.stride * unit;
    let hop = step * pass.len;
    let chunks = axis / (pass.stride * pass.len);
    let stretches = vectors * chunks;
    let most = 1 << (TILE / pass.len).ilog2();
    let lanes = lanes(along, pass.stride, width).min(most);
    let tall = (TILE / (pass.len * lanes)).min(stretches);
    let parameters = [
        stretches,
        chunks,
        at * unit,
        width,
        hop,
        step,
        unit,
        step,
        pass.len,
        tall,
        lanes.ilog2() as usize,
        pass.rounds,
    ];
    let words = [words.base, words.dense, words.before, words.after, words.scale, words.limit];
    let mut all = padded(parameters.map(|p| p as u32));
    all[parameters.len()..].copy_from_slice(&words);
    (all, (stretches.div_ceil(tall) * step.div_ceil(lanes)) as u32)
}

/// What is in the tables already: heads have rotations of one order, and often one rotation.
#[derive(Default)]
struct CachedTables<'a> {
    signs: Vec<(&'a [bool], u32)>,
    dense: Vec<(usize, bool, u32)>,
}

impl<'a> CachedTables<'a> {
    fn signs(&mut self, course: &mut DispatchPlan, rotation: &'a Rotation, signs: Signs) -> u32 {
        let signs = signs.of(rotation);
        if let Some((_, at)) = self.signs.iter().find(|(known, _)| std::ptr::eq(*known, signs)) {
            return *at;
        }
        let at = course.append(signs.chunks(32).map(|bits| mask(bits.iter().copied())));
        self.signs.push((signs, at));
        at
    }

    /// The dense part, or its transpose, a set bit for -1: rows of whole words.
    fn dense(&mut self, course: &mut DispatchPlan, h: &Hadamard, transposed: bool) -> u32 {
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
        let at = course.append(words);
        self.dense.push((base, transposed, at));
        at
    }
}

/// Bits of a word, the first the lowest.
fn mask(bits: impl Iterator<Item = bool>) -> u32 {
    bits.enumerate().fold(0, |word, (n, bit)| word | u32::from(bit) << n)
}
