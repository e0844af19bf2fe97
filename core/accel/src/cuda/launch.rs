//! Kernel launches and their arguments, the same for real devices and for the PTX interpreter of the tests.

use super::ptx_modules::{PtxModule, SOURCES, TYPES};
use crate::device::rotation_passes::{RotationPass, Signs, passes, scale};
use quantoscope_core::DType;
use quantoscope_core::job::Axis;
use quantoscope_core::rotation::Rotation;

/// A buffer of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferId {
    /// Input values.
    Src,
    /// Output.
    Out,
    /// Output of a launch that the next launch reads.
    Intermediate,
    /// One 32-bit word, 0 until a value is refused.
    Refused,
    /// Importance weights of the columns.
    Weights,
    /// Signs and dense parts of rotations.
    Table,
}

/// An argument of a kernel entry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Argument {
    /// Address of a buffer, plus an offset in bytes.
    Address(BufferId, u64),
    /// The null address.
    Null,
    /// A 32-bit integer.
    U32(u32),
    /// A 64-bit integer.
    U64(u64),
    /// A binary32 number.
    F32(f32),
}

/// One kernel launch.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// Module of the entry.
    pub module: PtxModule,
    /// Name of the entry.
    pub entry: &'static str,
    /// Thread blocks (CUDA grid size), at least one.
    pub groups: u32,
    /// Threads per thread block.
    pub threads: u32,
    /// Bytes of dynamic shared memory per thread block.
    pub shared: u32,
    /// Arguments, in the order of the entry's parameters.
    pub arguments: Vec<Argument>,
}

/// Position of a launch in rows with importance weights.
#[derive(Clone, Copy, Debug)]
pub struct WeightedColumns {
    /// Blocks per row.
    pub row: u32,
    /// Index of the first block in its row.
    pub first: u32,
}

/// Threads per thread block and blocks that they process, for types of 32 values.
const SMALL_BLOCKS: (u32, u32) = (256, 32);
/// Threads per thread block, for types of 256 values.
const SUPER_BLOCK_THREADS: u32 = 64;

/// Launch that encodes `blocks` blocks from float type `from`: `Src` to `Out`. `None` if there is no such
/// kernel.
pub fn quantize(from: DType, to: DType, blocks: u32, columns: Option<WeightedColumns>) -> Option<Launch> {
    let source = SOURCES.iter().position(|&s| s == from)?;
    if blocks == 0 || !TYPES.contains(&to) {
        return None;
    }
    let module = PtxModule::Type(to);
    let mut arguments = buffers_and_count(blocks);
    if to.block_len() < 256 {
        let (threads, per_group) = SMALL_BLOCKS;
        let entry = *module.entries().get(source).filter(|_| columns.is_none())?;
        let groups = blocks.div_ceil(per_group);
        return Some(Launch { module, entry, groups, threads, shared: 0, arguments });
    }
    arguments.push(Argument::U32(source as u32));
    if let Some(WeightedColumns { row, first }) = columns {
        arguments.extend([
            Argument::Address(BufferId::Weights, 0),
            Argument::U32(row.max(1)),
            Argument::U32(first),
        ]);
    }
    // One thread per sub-block of 32 or 16 values.
    let threads_per_block = if matches!(to, DType::Q4_K | DType::Q5_K) { 8 } else { 16 };
    let groups = blocks.div_ceil(SUPER_BLOCK_THREADS / threads_per_block);
    let entry = module.entries()[usize::from(columns.is_some())];
    Some(Launch { module, entry, groups, threads: SUPER_BLOCK_THREADS, shared: 0, arguments })
}

/// The first arguments of all block kernels: `Src`, `Out`, `Refused` and the number of blocks.
fn buffers_and_count(blocks: u32) -> Vec<Argument> {
    let buffers = [BufferId::Src, BufferId::Out, BufferId::Refused];
    buffers.map(|buffer| Argument::Address(buffer, 0)).into_iter().chain([Argument::U32(blocks)]).collect()
}

/// Launch that decodes `blocks` blocks to F32: `Src` to `Out`. `None` if there is no such kernel.
pub fn dequantize(from: DType, blocks: u32) -> Option<Launch> {
    if blocks == 0 || !TYPES.contains(&from) {
        return None;
    }
    // A thread decodes four values of a small block; a warp decodes one super-block.
    let (threads, per_group) =
        if from.block_len() == 256 { (SUPER_BLOCK_THREADS, SUPER_BLOCK_THREADS / 32) } else { SMALL_BLOCKS };
    let (groups, arguments) = (blocks.div_ceil(per_group), buffers_and_count(blocks));
    Some(Launch { module: PtxModule::Type(from), entry: "decode", groups, threads, shared: 0, arguments })
}

/// Values in the shared memory of a thread block, without padding.
const SHARED_VALUES: usize = 11_520;
/// Maximum group length of a pass over contiguous values.
const CONTIGUOUS_LEN: usize = 8192;
/// Neighbouring groups that a thread block reads together, so that memory is read by whole cache lines.
const NEIGHBOURS: usize = 16;
/// Maximum number of groups per thread block.
const MAX_LINES: usize = 128;
/// Preferred number of values per thread block.
const PREFERRED_VALUES: usize = 4096;
/// Threads per thread block.
const THREADS: u32 = 256;

/// A matrix of F32 values, row-major, and the vectors in it that are rotated.
#[derive(Clone, Copy, Debug)]
pub struct MatrixLayout {
    /// Number of rows.
    pub rows: u32,
    /// Values per row.
    pub width: u32,
    /// Axis of the vectors.
    pub along: Axis,
    /// Index of their first element on the axis.
    pub at: u32,
}

/// Launches of a rotation of F32 values, and the words of their [`BufferId::Table`]. The first launch reads
/// `Src` and writes `Out`, which may be the same buffer; the others update `Out`. Values that are not rotated
/// are not copied.
///
/// `None` if a vector does not fit the matrix, or the matrix is too large for one launch.
pub fn rotate(rotation: &Rotation, matrix: MatrixLayout) -> Option<(Vec<Launch>, Vec<u32>)> {
    let MatrixLayout { rows, width, along, at } = matrix;
    let side = if along == Axis::In { width } else { rows };
    let len = u32::try_from(rotation.len()).ok()?;
    if len.checked_add(at)? > side || rows == 0 || width == 0 {
        return None;
    }
    let base = rotation.hadamard().base();
    let max_len = |stride| {
        let contiguous = stride == 1 && along == Axis::In;
        if contiguous { CONTIGUOUS_LEN } else { (SHARED_VALUES / (NEIGHBOURS + 1)).max(base) }
    };
    let mut table = Vec::new();
    let mut launches = Vec::new();
    for pass in passes(rotation, max_len) {
        let from = if launches.is_empty() { BufferId::Src } else { BufferId::Out };
        launches.push(launch(rotation, matrix, &pass, from, &mut table)?);
    }
    Some((launches, table))
}

/// The launch of one pass, from buffer `from` to `Out`; appends to `table`.
fn launch(
    rotation: &Rotation,
    MatrixLayout { rows, width, along, at }: MatrixLayout,
    pass: &RotationPass,
    from: BufferId,
    table: &mut Vec<u32>,
) -> Option<Launch> {
    let contiguous = along == Axis::In && pass.stride == 1;
    let starts = (rotation.len() / pass.len) as u32;
    // Rows are one vector each; columns are neighbouring vectors whose elements are a row apart.
    let (vectors, unit) = if along == Axis::In { (rows, 1) } else { (1, width) };
    let count = vectors.checked_mul(starts)?.checked_mul(unit)?;
    let fits = |lines: usize| pass.len * (lines | 1) <= SHARED_VALUES && lines <= MAX_LINES;
    let useful = |lines: usize| pass.len * lines <= PREFERRED_VALUES || !contiguous && lines <= NEIGHBOURS;
    let mut lines = 1;
    while fits(2 * lines) && useful(2 * lines) && (lines as u32) < count {
        lines *= 2;
    }
    if !fits(lines) {
        return None;
    }
    let h = rotation.hadamard();
    let (base, dense) = match pass.dense {
        Some(transposed) => {
            (h.base(), Argument::Address(BufferId::Table, append_dense(table, rotation, transposed)))
        }
        None => (1, Argument::Null),
    };
    let mut signs = |signs: Option<Signs>| match signs {
        Some(signs) => {
            Argument::Address(BufferId::Table, append_bits(table, signs.of(rotation).iter().copied()))
        }
        None => Argument::Null,
    };
    let (before, after) = (signs(pass.before), signs(pass.after));
    let u32 = |n: usize| Argument::U32(n as u32);
    Some(Launch {
        module: PtxModule::Hadamard,
        entry: "turn",
        groups: count.div_ceil(lines as u32),
        threads: THREADS,
        shared: (4 * pass.len * (lines | 1)) as u32,
        arguments: vec![
            Argument::Address(from, 0),
            Argument::Address(BufferId::Out, 0),
            Argument::Address(BufferId::Refused, 0),
            Argument::U32(count),
            u32(pass.len),
            u32(pass.stride),
            Argument::U32(starts),
            Argument::U32(unit),
            Argument::U64(u64::from(width)),
            Argument::U64(u64::from(at) * u64::from(unit)),
            u32(lines),
            u32(pass.rounds),
            u32(base),
            dense,
            before,
            after,
            Argument::F32(if pass.scaled { scale(rotation) } else { 0.0 }),
        ],
    })
}

/// Appends bits to a table, the first bit lowest, padded to whole words. Returns their offset in bytes.
fn append_bits(table: &mut Vec<u32>, bits: impl IntoIterator<Item = bool>) -> u64 {
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

/// Appends the dense part or its transpose, one bit per entry (1 for -1). Returns its offset in bytes.
fn append_dense(table: &mut Vec<u32>, rotation: &Rotation, transposed: bool) -> u64 {
    let (at, h) = (4 * table.len() as u64, rotation.hadamard());
    for row in 0..h.base() {
        let entry = |col| if transposed { h.dense_entry(col, row) } else { h.dense_entry(row, col) };
        append_bits(table, (0..h.base()).map(|col| entry(col) < 0));
    }
    at
}
