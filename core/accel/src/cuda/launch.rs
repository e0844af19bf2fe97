//! What is launched for a piece of work, and with what: the same for every device, and for what stands for one in tests.

use super::ptx_modules::{PtxModule, SOURCES, TYPES};
use crate::device::rotation_passes::{RotationPass, passes, scale};
use quantoscope_core::DType;
use quantoscope_core::job::Axis;
use quantoscope_core::rotation::Rotation;

/// Memory of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferId {
    /// What was brought there.
    Src,
    /// What is fetched.
    Out,
    /// What one launch writes for the next.
    Between,
    /// One 32-bit word: 0, until something is refused.
    Refused,
    /// Weights of columns.
    Weights,
    /// Words of a `Table`.
    Table,
}

/// What an entry is given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Argument {
    /// An address: where a room begins, and so many bytes on.
    At(BufferId, u64),
    /// The address that is none.
    Nowhere,
    /// A 32-bit number.
    Word(u32),
    /// A 64-bit number.
    Long(u64),
    /// A float.
    Float(f32),
}

/// One launch.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// Whose entry.
    pub text: PtxModule,
    /// Which.
    pub entry: &'static str,
    /// Groups of threads, at least one.
    pub groups: u32,
    /// Threads of each.
    pub threads: u32,
    /// Bytes that the threads of a group share, besides those that the entry declares.
    pub shared: u32,
    /// In the order of its parameters.
    pub arguments: Vec<Argument>,
}

/// The weights of columns for the first block of a launch and those that follow.
#[derive(Clone, Copy, Debug)]
pub struct WeightedColumns {
    /// Blocks of a row.
    pub row: u32,
    /// The place of the first in its row.
    pub first: u32,
}

/// Threads of a group, for each kind of kernel, and blocks that they do.
const SMALL: (u32, u32) = (256, 32);
const WIDE: u32 = 64;

/// Encodes blocks of values that are stored as `from`: `Src` to `Out`. `None` where there is no such kernel.
pub fn quantize(from: DType, to: DType, blocks: u32, columns: Option<WeightedColumns>) -> Option<Launch> {
    let source = SOURCES.iter().position(|&s| s == from)?;
    if blocks == 0 || !TYPES.contains(&to) {
        return None;
    }
    let text = PtxModule::Type(to);
    let rooms = [BufferId::Src, BufferId::Out, BufferId::Refused].map(|room| Argument::At(room, 0));
    let mut arguments: Vec<Argument> = rooms.into_iter().chain([Argument::Word(blocks)]).collect();
    if to.block_len() < 256 {
        let (threads, of_group) = SMALL;
        let entry = *text.entries().get(source).filter(|_| columns.is_none())?;
        return Some(Launch {
            text,
            entry,
            groups: blocks.div_ceil(of_group),
            threads,
            shared: 0,
            arguments,
        });
    }
    arguments.push(Argument::Word(source as u32));
    if let Some(WeightedColumns { row, first }) = columns {
        let weights = [Argument::At(BufferId::Weights, 0), Argument::Word(row.max(1)), Argument::Word(first)];
        arguments.extend(weights);
    }
    // A thread has a sub-block: of 32 values, or of 16.
    let threads_of_block = if matches!(to, DType::Q4_K | DType::Q5_K) { 8 } else { 16 };
    let groups = blocks.div_ceil(WIDE / threads_of_block);
    let entry = text.entries()[usize::from(columns.is_some())];
    Some(Launch { text, entry, groups, threads: WIDE, shared: 0, arguments })
}

/// Decodes blocks: `Src` to `Out`.
pub fn dequantize(from: DType, blocks: u32) -> Option<Launch> {
    if blocks == 0 || !TYPES.contains(&from) {
        return None;
    }
    // A thread has four values of a small block, and a warp a large one.
    let (threads, of_group) = if from.block_len() == 256 { (WIDE, WIDE / 32) } else { SMALL };
    let rooms = [BufferId::Src, BufferId::Out, BufferId::Refused].map(|room| Argument::At(room, 0));
    let arguments = rooms.into_iter().chain([Argument::Word(blocks)]).collect();
    let groups = blocks.div_ceil(of_group);
    Some(Launch { text: PtxModule::Type(from), entry: "decode", groups, threads, shared: 0, arguments })
}

/// Values that a group of threads can share, besides what finds them.
const SHARED: usize = 11_520;
/// Values of one vector that a group does at once where it has them to itself.
const ALONE: usize = 8192;
/// Lines that lie beside each other: those of a group are a multiple, so that memory is read by whole lines of its own.
const BESIDE: usize = 16;
/// Lines of a group.
const MOST: usize = 128;
/// Values that a group likes to have.
const LIKED: usize = 4096;
/// Threads of a group.
const THREADS: u32 = 256;

/// Where vectors are rotated, in rows of `width` values.
#[derive(Clone, Copy, Debug)]
pub struct MatrixBuffers {
    /// Rows that are there, of which all are changed if vectors lie along columns.
    pub rows: u32,
    /// Values of a row.
    pub width: u32,
    /// Along which side vectors lie.
    pub along: Axis,
    /// Where on it they begin.
    pub at: u32,
}

/// The launches of a rotation of binary32 values, and the words that they look up in [`BufferId::Table`]. The first goes from `Src`
/// to `Out`, which may be one room; all others change `Out`. Values of the matrix that are not rotated are not copied.
///
/// `None` where a vector is not wholly there, or the matrix too large for one launch.
pub fn rotate(rotation: &Rotation, matrix: MatrixBuffers) -> Option<(Vec<Launch>, Vec<u32>)> {
    let MatrixBuffers { rows, width, along, at } = matrix;
    let side = if along == Axis::In { width } else { rows };
    let len = u32::try_from(rotation.len()).ok()?;
    if len.checked_add(at)? > side || rows == 0 || width == 0 {
        return None;
    }
    let alone = along == Axis::In;
    let base = rotation.hadamard().base();
    let room = |stride| if stride == 1 && alone { ALONE } else { (SHARED / (BESIDE + 1)).max(base) };
    let mut table = Vec::new();
    let mut launches = Vec::new();
    for pass in passes(rotation, room) {
        let from = if launches.is_empty() { BufferId::Src } else { BufferId::Out };
        launches.push(launch(rotation, matrix, &pass, from, &mut table)?);
    }
    Some((launches, table))
}

fn launch(
    rotation: &Rotation,
    MatrixBuffers { rows, width, along, at }: MatrixBuffers,
    pass: &RotationPass,
    from: BufferId,
    table: &mut Vec<u32>,
) -> Option<Launch> {
    let alone = along == Axis::In && pass.stride == 1;
    let starts = (rotation.len() / pass.len) as u32;
    // Vectors along columns are one a row; along rows, the rows are one matrix whose values lie a row apart.
    let (vectors, unit) = if along == Axis::In { (rows, 1) } else { (1, width) };
    let count = vectors.checked_mul(starts)?.checked_mul(unit)?;
    let fits = |lines: usize| pass.len * (lines | 1) <= SHARED && lines <= MOST;
    let likes = |lines: usize| pass.len * lines <= LIKED || !alone && lines <= BESIDE;
    let mut lines = 1;
    while fits(2 * lines) && likes(2 * lines) && (lines as u32) < count {
        lines *= 2;
    }
    if !fits(lines) {
        return None;
    }
    let h = rotation.hadamard();
    let (base, dense) = match pass.dense {
        Some(transposed) => (h.base(), Argument::At(BufferId::Table, matrix_of(table, rotation, transposed))),
        None => (1, Argument::Nowhere),
    };
    let mut signs = |signs: Option<crate::device::rotation_passes::Signs>| match signs {
        Some(signs) => Argument::At(BufferId::Table, bits(table, signs.of(rotation).iter().copied())),
        None => Argument::Nowhere,
    };
    let (before, after) = (signs(pass.before), signs(pass.after));
    let word = |n: usize| Argument::Word(n as u32);
    Some(Launch {
        text: PtxModule::Hadamard,
        entry: "turn",
        groups: count.div_ceil(lines as u32),
        threads: THREADS,
        shared: (4 * pass.len * (lines | 1)) as u32,
        arguments: vec![
            Argument::At(from, 0),
            Argument::At(BufferId::Out, 0),
            Argument::At(BufferId::Refused, 0),
            Argument::Word(count),
            word(pass.len),
            word(pass.stride),
            Argument::Word(starts),
            Argument::Word(unit),
            Argument::Long(u64::from(width)),
            Argument::Long(u64::from(at) * u64::from(unit)),
            word(lines),
            word(pass.rounds),
            word(base),
            dense,
            before,
            after,
            Argument::Float(if pass.scaled { scale(rotation) } else { 0.0 }),
        ],
    })
}

/// Puts bits into whole words of a table, the first the lowest; where they begin, in bytes.
fn bits(table: &mut Vec<u32>, bits: impl IntoIterator<Item = bool>) -> u64 {
    let at = 4 * table.len() as u64;
    for (n, bit) in bits.into_iter().enumerate() {
        if n % 32 == 0 {
            table.push(0);
        }
        if let Some(word) = table.last_mut() {
            *word |= u32::from(bit) << (n % 32);
        }
    }
    at
}

/// The dense part or its transpose, a bit for each -1.
fn matrix_of(table: &mut Vec<u32>, rotation: &Rotation, transposed: bool) -> u64 {
    let (at, h) = (4 * table.len() as u64, rotation.hadamard());
    for row in 0..h.base() {
        let entry = |col| if transposed { h.dense_entry(col, row) } else { h.dense_entry(row, col) };
        bits(table, (0..h.base()).map(|col| entry(col) < 0));
    }
    at
}
