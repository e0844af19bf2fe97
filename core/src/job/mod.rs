//! One window of work: what to read, what to do, what to write. Self-contained: a message to a worker, a unit of
//! resume, a part that another machine could run.
//!
//! A job never touches a file. Its driver reads the regions, calls [`run`], and writes the bytes. Inside, a window
//! is worked on tile by tile, so that values stay in cache; results depend on neither windows nor tiles.

#![expect(
    clippy::indexing_slicing,
    reason = "tiles lie in their window, and windows in the buffers whose lengths `run` checks"
)]

mod copy;
mod freivalds;
mod measure;
mod nonfinite;
mod region;
mod rounding;
mod row_map;
mod spot_check;
mod steps;
mod streams;
mod tile;
mod tile_bytes;
mod unpack;
mod wide;

use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::kernels::Kernels;
use crate::metric::{Measurements, Tally};
use crate::plan::{BlockPart, Grid, MetricSet, OutputOp, RowMap, Side};
use crate::quant::{Encoding, check_finite};
use crate::tensor::FileId;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use copy::copy;
use core::ops::Range;
use measure::MetricCollector;
use serde::{Deserialize, Serialize};
use steps::Rotations;
use tile::{load, refused, tile_of, tiles};

pub use crate::plan::{Axis, Op};
pub use freivalds::LIMIT as ALGEBRA_LIMIT;
pub use region::{LONG_RUN, Piece, Region};
pub use spot_check::{SAMPLE_RATE, SpotCheck, SpotCheckStats};
pub(crate) use streams::writes;
pub(crate) use tile::tile_cols;
pub use unpack::PackedWindow;

/// Bytes that a job needs, gathered run after run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Read {
    /// Which checkpoint.
    pub side: Side,
    /// Which of its files.
    pub file: FileId,
    /// Which bytes.
    pub region: Region,
    /// How the elements are stored.
    pub dtype: DType,
    /// How the rows are ordered.
    pub map: RowMap,
    /// What happens to the values after decoding.
    pub ops: Vec<Op>,
    /// The bytes themselves, if the plan carries them; the region is empty then.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub literal: Vec<u8>,
    /// The packed weight whose codes these bytes are; the reads of its other parts follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packed: Option<Box<PackedWindow>>,
}

impl Read {
    /// The bytes: those that the driver read, or those of the plan.
    fn bytes<'a>(&'a self, input: &'a [u8]) -> &'a [u8] {
        if self.literal.is_empty() { input } else { &self.literal }
    }
}

/// Where bytes of a job go, run after run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Write {
    /// Index in [`Plan::files`](crate::plan::Plan::files).
    pub file: u32,
    /// Which bytes.
    pub region: Region,
    /// The part of each block that they are; absent where blocks are stored whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<BlockPart>,
}

/// Rows and columns of an output's grid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Rows.
    pub rows: Range<u64>,
    /// Columns.
    pub cols: Range<u64>,
}

impl Window {
    /// Columns of the window.
    pub fn width(&self) -> u64 {
        self.cols.end - self.cols.start
    }

    /// Rows of the window.
    pub fn height(&self) -> u64 {
        self.rows.end - self.rows.start
    }
}

/// One window of work.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Job {
    /// Index in [`Plan::outputs`](crate::plan::Plan::outputs).
    pub output: u32,
    /// The output's grid.
    pub grid: Grid,
    /// The part of it that this job works on.
    pub window: Window,
    /// Rows that a tile must not split.
    pub row_group: u64,
    /// Columns that a tile of several rows must not split, counted from the window's first.
    pub col_group: u64,
    /// The source, what it is compared with (each with the other parts of a packed weight behind it), the weights of the window's columns, the scales of tensors that have one
    /// (in the order of the first two), and the gain; all but the first only if there are any.
    pub reads: Vec<Read>,
    /// Whether the last read is a gain that the source's steps take.
    pub has_gain: bool,
    /// What becomes of the values.
    pub op: OutputOp,
    /// Where the bytes go: those of the first write, then those of the next. None when only measuring.
    pub writes: Vec<Write>,
    /// What is measured.
    pub metrics: MetricSet,
}

impl Job {
    /// What a device may make of this job for [`complete`]: the bytes that are written, and those that are measured only.
    /// Nothing where rows are put in order.
    pub fn device_tasks(&self) -> impl Iterator<Item = DeviceTask<'_>> {
        let plain = |r: &&Read| {
            let stored = r.literal.is_empty() && r.packed.is_none();
            let unchanged = r.map == RowMap::Identity && !r.ops.contains(&Op::TensorScale);
            r.side == Side::Source && unchanged && stored && !r.ops.contains(&Op::Widen)
        };
        let weighted = self.reads.iter().any(|r| r.side == Side::Importance);
        let written = match self.op {
            OutputOp::Encode(to) if !self.writes.is_empty() => Some((OutputSlot::Written, to)),
            _ => None,
        };
        let measured =
            self.metrics.encodings.iter().enumerate().map(|(i, to)| (OutputSlot::Measured(i), *to));
        let read = self.reads.first().filter(plain);
        read.into_iter().flat_map(move |read| {
            let making =
                move |(slot, to)| DeviceTask { slot, from: read.dtype, to, ops: &read.ops, weighted };
            written.into_iter().chain(measured.clone()).map(making)
        })
    }

    /// The job with the stored scales in place of [`Op::TensorScale`]; `None` if there are none.
    fn with_scales(&self, inputs: &[&[u8]]) -> Option<Job> {
        let scaled = |r: &Read| r.ops.contains(&Op::TensorScale);
        let first = self.reads.iter().position(scaled)?;
        let mut job = self.clone();
        for at in first..job.reads.len() {
            let Some(read) = job.reads.get_mut(at).filter(|r| scaled(r)) else { continue };
            let (side, len) = (read.side, self.reads.len().saturating_sub(usize::from(self.has_gain)));
            // The last read of a side, gains apart.
            let stored = self.reads.iter().take(len).rposition(|r| r.side == side && !scaled(r));
            let bytes = stored.and_then(|stored| inputs.get(stored)?.first_chunk::<4>());
            // A job that was planned has the read; without it no value is known.
            let scale = bytes.map_or(f32::NAN, |bytes| f32::from_le_bytes(*bytes));
            read.ops.iter_mut().filter(|op| **op == Op::TensorScale).for_each(|op| *op = Op::Scale(scale));
        }
        Some(job)
    }

    /// The read from `side` and its bytes among `inputs`. A gain is none, whatever side it is from.
    fn read<'a>(&'a self, side: Side, inputs: &[&'a [u8]]) -> Option<(&'a Read, &'a [u8])> {
        let reads = self.reads.len().saturating_sub(usize::from(self.has_gain));
        let at = self.reads.iter().take(reads).position(|r| r.side == side)?;
        let (read, input) = (self.reads.get(at)?, *inputs.get(at)?);
        Some((read, read.bytes(input)))
    }
}

/// How bytes of a job come about: the first read's values, rows of the window's width, after `ops`, encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceTask<'a> {
    /// Which bytes.
    pub slot: OutputSlot,
    /// How the values are stored.
    pub from: DType,
    /// What they become.
    pub to: Encoding,
    /// What happens in between; see [`Workspace::gain`].
    pub ops: &'a [Op],
    /// Whether columns have weights; see [`Workspace::weights`].
    pub weighted: bool,
}

/// Bytes that a job makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputSlot {
    /// Those that are written.
    Written,
    /// Those of the asked encoding with this index.
    Measured(usize),
}

/// What a device made of a window.
#[derive(Debug, Default)]
pub struct DeviceOutput {
    /// Whether the bytes in [`Workspace::out`] are the window's.
    pub written: bool,
    /// The bytes of each asked encoding, where there are any; none are longer than this list.
    pub measured: Vec<Option<Vec<u8>>>,
}

/// Whether some encoding of the work must see whole rows where there are weights.
pub(crate) fn whole_rows(finish: OutputOp, ask: &MetricSet) -> bool {
    let own = match finish {
        OutputOp::Encode(e) => Some(e),
        _ => None,
    };
    own.iter().chain(&ask.encodings).chain(&ask.identity).any(|e| e.needs_whole_rows())
}

/// Where a finished job's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing is written.
    None,
    /// The bytes of the first read, unchanged.
    Input,
    /// The bytes in [`Workspace::out`].
    Scratch,
}

/// A finished job.
#[derive(Clone, Debug)]
pub struct Done {
    /// Where its bytes are.
    pub payload: Payload,
    /// What it measured.
    pub measured: Measurements,
    /// What of it a device made, and what came of making that again. Where something differs, all that the device made
    /// before is in doubt; the bytes of this job are the processor's.
    pub made: SpotCheckStats,
}

/// Buffers that a worker keeps between jobs.
#[derive(Debug, Default)]
pub struct Workspace {
    /// The bytes to write after a job with [`Payload::Scratch`].
    pub out: Vec<u8>,
    /// What a device made for [`complete`].
    pub device_output: DeviceOutput,
    values: Vec<f32>,
    other: Vec<f32>,
    mapped: Vec<f32>,
    /// Bytes of a tile whose rows lie apart in the window: the source's, a candidate's or a device's, and those made.
    gathered: [Vec<u8>; 3],
    /// The decoded windows of packed weights: the source's and a candidate's.
    unpacked: unpack::Room,
    /// Values of binary64 tensors, for what is measured: of the source, of the candidate, and room to put rows in order.
    doubles: [Vec<f64>; 3],
    bytes: Vec<u8>,
    weights: Vec<f32>,
    gain: Vec<f32>,
    /// The gain in binary64, if the steps run in it.
    wide_gain: Vec<f64>,
    rotations: Rotations,
    checks: freivalds::TileChecks,
}

impl Workspace {
    /// Bytes that the buffers of a window hold; the tables of rotations, which do not depend on windows, are not counted.
    pub fn bytes_held(&self) -> u64 {
        let gathered = self.gathered.iter().map(Vec::capacity).sum::<usize>();
        let bytes = self.out.capacity() + self.bytes.capacity() + gathered;
        let [first, second] = &self.unpacked;
        let floats = [&self.values, &self.other, &self.mapped, &self.weights, &self.gain, first, second];
        let doubles = self.doubles.iter().chain([&self.wide_gain]);
        let single = floats.iter().map(|values| values.capacity() as u64 * 4).sum::<u64>();
        bytes as u64 + single + doubles.map(|values| values.capacity() as u64 * 8).sum::<u64>()
    }

    /// One weight for each of the window's columns, once [`prepare`] was called; empty where there are none.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The gain of the window's vectors, once [`prepare`] was called; empty where there is none.
    pub fn gain(&self) -> &[f32] {
        &self.gain
    }
}

/// Elements of a tile: 128 KiB of values, which stay in a second-level cache with their bytes.
const TILE: u64 = 32 * 1024;

/// Runs a job on the bytes of its reads.
///
/// # Errors
///
/// `non_finite` for a value that cannot be encoded, with the element's index in the tensor; `io` if
/// inputs do not have the lengths of the reads.
pub fn run(kernels: &dyn Kernels, job: &Job, inputs: &[&[u8]], scratch: &mut Workspace) -> Result<Done> {
    let done = work(kernels, job, inputs, scratch, None)?;
    let payload = streams::separate(job, inputs, scratch, done.payload)?;
    Ok(Done { payload, ..done })
}

/// Makes ready what all values of a job have in common: weights and gain. For a device; [`run`] and [`complete`] do it
/// themselves.
///
/// # Errors
///
/// `io` if inputs do not have the lengths of the reads, and those of decoding the weights and the gain.
pub fn prepare(kernels: &dyn Kernels, job: &Job, inputs: &[&[u8]], scratch: &mut Workspace) -> Result<()> {
    check_inputs(job, inputs)?;
    load_weights(kernels, job, inputs, scratch)?;
    load_gain(kernels, job, inputs, scratch)
}

/// Does what is left of a job of which a device made a part, as [`Workspace::device_output`] says: makes some of that again, all
/// that is missing, and measures, on the processor.
///
/// # Errors
///
/// Those of [`run`]; `io` if the device made more or fewer bytes than it should have.
pub fn complete(
    kernels: &dyn Kernels,
    job: &Job,
    inputs: &[&[u8]],
    scratch: &mut Workspace,
    spot_check: &mut SpotCheck,
) -> Result<Done> {
    let by_device = core::mem::take(&mut scratch.device_output);
    let (rows, cols) = (job.window.height(), job.window.width());
    for making in job.device_tasks() {
        let made = match making.slot {
            OutputSlot::Written => by_device.written.then_some(&scratch.out),
            OutputSlot::Measured(i) => by_device.measured.get(i).and_then(Option::as_ref),
        };
        let bytes = local_bytes(making.to.dtype(), rows, cols)?;
        let misfit = || Error::new(Code::Device, "a device made other bytes than a job has");
        made.is_none_or(|m| m.len() == bytes).then_some(()).ok_or_else(misfit)?;
    }
    let done =
        work(kernels, job, inputs, scratch, Some(&mut DeviceCheck { by_device: &by_device, spot_check }));
    scratch.device_output = by_device;
    let done = done?;
    let payload = streams::separate(job, inputs, scratch, done.payload)?;
    Ok(Done { payload, ..done })
}

/// What a device made, and what of it is made again.
struct DeviceCheck<'a> {
    by_device: &'a DeviceOutput,
    spot_check: &'a mut SpotCheck,
}

fn work(
    kernels: &dyn Kernels,
    job: &Job,
    inputs: &[&[u8]],
    scratch: &mut Workspace,
    mut made: Option<&mut DeviceCheck<'_>>,
) -> Result<Done> {
    check_inputs(job, inputs)?;
    if job.reads.iter().any(|r| r.packed.is_some()) {
        return unpack::work_unpacked(kernels, job, inputs, scratch, made);
    }
    if job.op == OutputOp::Copy {
        return copy(job, inputs, scratch);
    }
    let scaled = job.with_scales(inputs);
    let job = scaled.as_ref().unwrap_or(job);
    let mut probe = MetricCollector::new(job);
    let window = &job.window;
    let payload = match job.op {
        OutputOp::Transcode(_) | OutputOp::Encode(_) if !job.writes.is_empty() => Payload::Scratch,
        _ => Payload::None,
    };
    if let Some(dtype) = finish_dtype(job.op) {
        scratch.out.resize(local_bytes(dtype, window.height(), window.width())?, 0);
    }
    prepare(kernels, job, inputs, scratch)?;
    for tile in tiles(job) {
        tile_of(kernels, job, inputs, scratch, &tile, &mut probe, made.as_deref_mut())?;
    }
    let made = made.map(|m| m.spot_check.found).unwrap_or_default();
    Ok(Done { payload, measured: probe.finish(), made })
}

fn finish_dtype(finish: OutputOp) -> Option<DType> {
    match finish {
        OutputOp::Encode(e) => Some(e.dtype()),
        OutputOp::Transcode(to) => Some(to),
        OutputOp::Copy | OutputOp::Measure => None,
    }
}

/// Bytes of `rows` rows of `cols` columns that lie together.
fn local_bytes(dtype: DType, rows: u64, cols: u64) -> Result<usize> {
    let bytes = rows.checked_mul(cols).and_then(|n| dtype.bytes_for(n));
    let overflow = || Error::new(Code::Overflow, "a window of the work does not fit this machine");
    usize::try_from(bytes.ok_or_else(overflow)?).map_err(|_| overflow())
}

/// A driver that gives other bytes than the job asked for is wrong; say so rather than read beside them.
fn check_inputs(job: &Job, inputs: &[&[u8]]) -> Result<()> {
    let right = inputs.len() == job.reads.len()
        && job.reads.iter().zip(inputs).all(|(r, i)| r.region.len() == i.len() as u64);
    let wrong =
        || Error::new(Code::Io, format!("output {} was given other bytes than it asked for", job.output));
    right.then_some(()).ok_or_else(wrong)
}

/// Makes the weights of the window's columns ready; none, where there are none.
fn load_weights(kernels: &dyn Kernels, job: &Job, inputs: &[&[u8]], scratch: &mut Workspace) -> Result<()> {
    scratch.weights.clear();
    let Some((read, input)) = job.read(Side::Importance, inputs) else { return Ok(()) };
    let row = Window { rows: 0..1, cols: 0..job.window.width() };
    let (weights, mapped) = (&mut scratch.weights, &mut scratch.mapped);
    load(kernels, read, input, &row, weights, mapped).map_err(|r| refused(job, &row, r))
}

/// Makes the gain of the window's vectors ready; none, where there is none.
fn load_gain(kernels: &dyn Kernels, job: &Job, inputs: &[&[u8]], scratch: &mut Workspace) -> Result<()> {
    scratch.gain.clear();
    let (true, Some(read), Some(input)) = (job.has_gain, job.reads.last(), inputs.last()) else {
        return Ok(());
    };
    let input = read.bytes(input);
    let row = Window { rows: 0..1, cols: 0..input.len() as u64 / read.dtype.block_bytes() };
    let (gain, mapped) = (&mut scratch.gain, &mut scratch.mapped);
    load(kernels, read, input, &row, gain, mapped).map_err(|r| refused(job, &row, r))?;
    let bad =
        |_| Error::new(Code::NonFinite, "the norm gain that is folded into this tensor is NaN or infinite");
    check_finite(gain).map_err(bad)?;
    scratch.wide_gain.clear();
    if job.reads.first().is_some_and(|r| r.ops.contains(&Op::Widen)) {
        wide::gain(kernels, read, input, &mut scratch.wide_gain, mapped)
            .map_err(|r| refused(job, &row, r))?;
    }
    Ok(())
}
