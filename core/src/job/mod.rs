//! One window of work: what to read, what to do, what to write. Self-contained: a message to a worker, a unit of
//! resume, a part that another machine could run.
//!
//! A job never touches a file. Its driver reads the regions, calls [`run`], and writes the bytes. Inside, a window
//! is worked on tile by tile, so that values stay in cache; results depend on neither windows nor tiles.

mod algebra;
mod probe;
mod steps;

use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::kernels::Kernels;
use crate::metric::{Histogram, Moments, Node, PairSums};
use crate::plan::{Ask, Finish, Grid, Op, RowMap, Side};
use crate::quant::{Encoding, Refused};
use crate::tensor::FileId;
use alloc::format;
use alloc::vec::Vec;
use core::ops::Range;
use probe::Probe;
use steps::{Gain, Rotations};

pub use algebra::LIMIT as ALGEBRA_LIMIT;

use serde::Serialize;

/// `count` runs of `run` bytes, `stride` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Region {
    /// Byte offset of the first run.
    pub offset: u64,
    /// Bytes of one run.
    pub run: u64,
    /// Bytes from one run's start to the next.
    pub stride: u64,
    /// Number of runs.
    pub count: u64,
}

impl Region {
    /// Number of bytes in all runs.
    pub fn len(&self) -> u64 {
        self.run * self.count
    }

    /// Whether there is nothing to read or write.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The runs as `(offset, bytes)`.
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64)> + use<> {
        let Region { offset, run, stride, count } = *self;
        (0..count).map(move |i| (offset + i * stride, run))
    }
}

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
}

/// Where a job's bytes go, run after run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Write {
    /// Index in [`Plan::files`](crate::plan::Plan::files).
    pub file: u32,
    /// Which bytes.
    pub region: Region,
}

/// Rows and columns of an output's grid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    /// The source, what it is compared with, the weights of the window's columns, and the gain; the last three only if
    /// there are any.
    pub reads: Vec<Read>,
    /// Whether the last read is a gain that the source's steps take.
    pub gain: bool,
    /// What becomes of the values.
    pub finish: Finish,
    /// Where the bytes go; absent when only measuring.
    pub write: Option<Write>,
    /// What is measured.
    pub ask: Ask,
}

impl Job {
    /// Which stored values become which encoding, where nothing happens to them in between and no weights steer: the
    /// bytes that a device may make for [`complete`].
    pub fn recodes(&self) -> Option<(DType, Encoding)> {
        let Finish::Encode(to) = self.finish else { return None };
        let weighted = self.gain || self.reads.iter().any(|r| r.side == Side::Importance);
        let read = self.reads.first().filter(|r| r.side == Side::Source && is_plain(r))?;
        (self.write.is_some() && !weighted).then_some((read.dtype, to))
    }

    /// The read from `side` and its bytes among `inputs`. A gain is none, whatever side it is from.
    fn read<'a>(&'a self, side: Side, inputs: &[&'a [u8]]) -> Option<(&'a Read, &'a [u8])> {
        let reads = self.reads.len().saturating_sub(usize::from(self.gain));
        let at = self.reads.iter().take(reads).position(|r| r.side == side)?;
        Some((self.reads.get(at)?, inputs.get(at)?))
    }
}

/// Whether some encoding of the work must see whole rows where there are weights.
pub(crate) fn whole_rows(finish: Finish, ask: &Ask) -> bool {
    let own = match finish {
        Finish::Encode(e) => Some(e),
        _ => None,
    };
    own.iter().chain(&ask.encodings).chain(&ask.identity).any(|e| e.needs_whole_rows())
}

/// Exact comparison of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Blocks (bytes for copies) that differ.
    pub differing: u64,
    /// Element at which the first differing block starts, row-major.
    pub first: Option<u64>,
    /// The encoding cannot take these values at all.
    pub refused: bool,
}

impl Identity {
    /// Adds what another window found; the order of windows does not matter.
    pub fn merge(&mut self, other: &Identity) {
        self.differing += other.differing;
        self.refused |= other.refused;
        self.first = match (self.first, other.first) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}

/// What a job measured: complete nodes of the fixed merge trees.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Moments of the source.
    pub moments: Vec<Node<Moments>>,
    /// Histogram of the source.
    pub histogram: Option<Histogram>,
    /// Error of the result, or of the candidate.
    pub error: Vec<Node<PairSums>>,
    /// Error of each asked encoding; an error where the encoding refuses the values.
    pub encodings: Vec<Result<Vec<Node<PairSums>>, Error>>,
    /// For each asked encoding, how it compares with the candidate's bytes.
    pub identity: Vec<Identity>,
    /// For copies and transcodes with a candidate: whether the bytes are equal.
    pub bytes: Option<Identity>,
}

/// Where a finished job's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing is written.
    None,
    /// The bytes of the first read, unchanged.
    Input,
    /// The bytes in [`Scratch::out`].
    Scratch,
}

/// A finished job.
#[derive(Clone, Debug)]
pub struct Done {
    /// Where its bytes are.
    pub payload: Payload,
    /// What it measured.
    pub measured: Measured,
}

/// Buffers that a worker keeps between jobs.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The bytes to write after a job with [`Payload::Scratch`].
    pub out: Vec<u8>,
    values: Vec<f32>,
    other: Vec<f32>,
    mapped: Vec<f32>,
    bytes: Vec<u8>,
    weights: Vec<f32>,
    gain: Vec<f32>,
    rotations: Rotations,
    checks: algebra::Checks,
}

/// Elements of a tile: 128 KiB of values, which stay in a second-level cache with their bytes.
const TILE: u64 = 32 * 1024;

/// Runs a job on the bytes of its reads.
///
/// Fails when a value cannot be encoded, with the element's index in the tensor.
pub fn run(kernels: &dyn Kernels, job: &Job, inputs: &[&[u8]], scratch: &mut Scratch) -> Result<Done> {
    work(kernels, job, inputs, scratch, false)
}

/// Does what is left of a job whose bytes a device made and put into [`Scratch::out`]: measures, on the processor.
///
/// Fails where there are more or fewer bytes than the job writes.
pub fn complete(kernels: &dyn Kernels, job: &Job, inputs: &[&[u8]], scratch: &mut Scratch) -> Result<Done> {
    let (rows, cols) = (job.window.height(), job.window.width());
    let made = job.recodes().map(|(_, to)| local_bytes(to.dtype(), rows, cols)).transpose()?;
    let misfit = || Error::new(Code::Device, "a device made other bytes than a job writes");
    made.filter(|bytes| *bytes == scratch.out.len()).ok_or_else(misfit)?;
    work(kernels, job, inputs, scratch, true)
}

fn work(
    kernels: &dyn Kernels,
    job: &Job,
    inputs: &[&[u8]],
    scratch: &mut Scratch,
    made: bool,
) -> Result<Done> {
    check_inputs(job, inputs)?;
    if job.finish == Finish::Copy {
        return Ok(copy(job, inputs));
    }
    let mut probe = Probe::new(job);
    let window = &job.window;
    let payload = match job.finish {
        Finish::Transcode(_) | Finish::Encode(_) if job.write.is_some() => Payload::Scratch,
        _ => Payload::None,
    };
    if let Some(dtype) = finish_dtype(job.finish) {
        scratch.out.resize(local_bytes(dtype, window.height(), window.width())?, 0);
    }
    load_weights(kernels, job, inputs, scratch)?;
    load_gain(kernels, job, inputs, scratch)?;
    for tile in tiles(job) {
        tile_of(kernels, job, inputs, scratch, &tile, &mut probe, made)?;
    }
    Ok(Done { payload, measured: probe.finish() })
}

fn finish_dtype(finish: Finish) -> Option<DType> {
    match finish {
        Finish::Encode(e) => Some(e.dtype()),
        Finish::Transcode(to) => Some(to),
        Finish::Copy | Finish::Measure => None,
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

fn copy(job: &Job, inputs: &[&[u8]]) -> Done {
    let mut measured = Measured::default();
    if let [a, b] = inputs {
        let differing = a.iter().zip(*b).filter(|(x, y)| x != y).count() as u64;
        let first = a.iter().zip(*b).position(|(x, y)| x != y).map(|i| job.window.cols.start + i as u64);
        measured.bytes = Some(Identity { differing, first, refused: false });
    }
    let payload = if job.write.is_some() { Payload::Input } else { Payload::None };
    Done { payload, measured }
}

/// The window cut into tiles: whole rows in groups, or parts of one group of long rows.
fn tiles(job: &Job) -> impl Iterator<Item = Window> + use<> {
    let (width, height, group) = (job.window.width(), job.window.height(), job.row_group.max(1));
    let weighted = job.reads.iter().any(|r| r.side == Side::Importance);
    let turned = job.reads.iter().flat_map(|r| &r.ops).any(|op| matches!(op, Op::Rotate(_)));
    let splittable = group == 1 && width > TILE && !turned && !(weighted && whole_rows(job.finish, &job.ask));
    let step_rows = if splittable { 1 } else { (TILE / width.max(1) / group).max(1) * group };
    let step_cols = if splittable { TILE } else { width.max(1) };
    (0..height).step_by(step_rows as usize).flat_map(move |row| {
        (0..width).step_by(step_cols as usize).map(move |col| Window {
            rows: row..(row + step_rows).min(height),
            cols: col..(col + step_cols).min(width),
        })
    })
}

/// The bytes of a tile within a buffer that holds the window row after row.
fn tile_span(dtype: DType, width: u64, tile: &Window) -> Option<Range<usize>> {
    let start = if tile.width() == width {
        dtype.bytes_for(tile.rows.start.checked_mul(width)?)?
    } else {
        let row = dtype.bytes_for(width)?.checked_mul(tile.rows.start)?;
        row.checked_add(dtype.bytes_for(tile.cols.start)?)?
    };
    let len = dtype.bytes_for(tile.height().checked_mul(tile.width())?)?;
    Some(usize::try_from(start).ok()?..usize::try_from(start.checked_add(len)?).ok()?)
}

fn slice_of<'a>(dtype: DType, width: u64, tile: &Window, buffer: &'a [u8]) -> Result<&'a [u8]> {
    let misfit = || Error::new(Code::Overflow, "a tile does not fall on block borders");
    tile_span(dtype, width, tile).and_then(|s| buffer.get(s)).ok_or_else(misfit)
}

/// Decodes a tile of a read, brings its rows into the output's order and applies its steps.
fn load(
    kernels: &dyn Kernels,
    read: &Read,
    src: &[u8],
    tile: &Window,
    values: &mut Vec<f32>,
    mapped: &mut Vec<f32>,
) -> Result<(), Refused> {
    let n = (tile.width() * tile.height()) as usize;
    values.resize(n, 0.0);
    kernels.decode(read.dtype, src, values)?;
    if let RowMap::RotaryHalves { head } = read.map {
        unmap_rotary(values, mapped, head as usize, tile.width() as usize);
    }
    for op in &read.ops {
        steps::plain(*op, values);
    }
    Ok(())
}

/// Makes the weights of the window's columns ready; none, where there are none.
fn load_weights(kernels: &dyn Kernels, job: &Job, inputs: &[&[u8]], scratch: &mut Scratch) -> Result<()> {
    scratch.weights.clear();
    let Some((read, input)) = job.read(Side::Importance, inputs) else { return Ok(()) };
    let row = Window { rows: 0..1, cols: 0..job.window.width() };
    let (weights, mapped) = (&mut scratch.weights, &mut scratch.mapped);
    load(kernels, read, input, &row, weights, mapped).map_err(|r| refused(job, &row, r))
}

/// Makes the gain of the window's vectors ready; none, where there is none.
fn load_gain(kernels: &dyn Kernels, job: &Job, inputs: &[&[u8]], scratch: &mut Scratch) -> Result<()> {
    scratch.gain.clear();
    let (true, Some(read), Some(input)) = (job.gain, job.reads.last(), inputs.last()) else { return Ok(()) };
    let row = Window { rows: 0..1, cols: 0..read.region.len() / read.dtype.block_bytes() };
    let (gain, mapped) = (&mut scratch.gain, &mut scratch.mapped);
    load(kernels, read, input, &row, gain, mapped).map_err(|r| refused(job, &row, r))
}

fn unmap_rotary(values: &mut Vec<f32>, mapped: &mut Vec<f32>, head: usize, width: usize) {
    mapped.clear();
    mapped.reserve(values.len());
    for rows in values.chunks_exact(head * width) {
        for row in 0..head {
            let from = (row % (head / 2)) * 2 + row / (head / 2);
            mapped.extend_from_slice(&rows[from * width..(from + 1) * width]);
        }
    }
    core::mem::swap(values, mapped);
}

/// Turns a refusal inside a tile into an error that names the element of the tensor.
fn refused(job: &Job, tile: &Window, refused: Refused) -> Error {
    let (width, window) = (tile.width().max(1), &job.window);
    refused.error().map_element(|i| {
        let row = window.rows.start + tile.rows.start + i / width;
        row * job.grid.cols + window.cols.start + tile.cols.start + i % width
    })
}

/// Whether the values between decoding and encoding are nobody's concern.
fn only_recodes(job: &Job) -> bool {
    job.ask == Ask::default() && job.reads.len() == 1 && job.reads.iter().all(is_plain)
}

/// Whether the values are what is stored, in its order.
fn is_plain(read: &Read) -> bool {
    read.map == RowMap::Identity && read.ops.is_empty()
}

fn tile_of(
    kernels: &dyn Kernels,
    job: &Job,
    inputs: &[&[u8]],
    scratch: &mut Scratch,
    tile: &Window,
    probe: &mut Probe,
    made: bool,
) -> Result<()> {
    let Scratch { out, values, other, mapped, bytes, weights, gain, rotations, checks } = scratch;
    let width = job.window.width();
    let Some((read, input)) = job.read(Side::Source, inputs) else { return Ok(()) };
    let candidate = job.read(Side::Candidate, inputs);
    let weights = weights.get(tile.cols.start as usize..tile.cols.end as usize).filter(|w| !w.is_empty());
    let src = slice_of(read.dtype, width, tile, input)?;
    let misfit = || Error::new(Code::Overflow, "a tile does not fall on block borders");
    if let Finish::Transcode(to) = job.finish {
        let span = tile_span(to, width, tile).ok_or_else(misfit)?;
        let dst = out.get_mut(span).ok_or_else(misfit)?;
        let outcome = kernels.transcode(read.dtype, to, src, dst);
        let Some((_, input)) = candidate else { return outcome.map_err(|r| refused(job, tile, r)) };
        probe.transcoded(tile, to, outcome.is_ok().then_some(dst), slice_of(to, width, tile, input)?);
        if job.ask.identity.is_empty() {
            return Ok(());
        }
    }
    if let (Finish::Encode(encoding), true) = (job.finish, only_recodes(job)) {
        if made {
            return Ok(());
        }
        values.resize((tile.width() * tile.height()) as usize, 0.0);
        let span = tile_span(encoding.dtype(), width, tile).ok_or_else(misfit)?;
        let dst = out.get_mut(span).ok_or_else(misfit)?;
        return kernels.recode(read.dtype, src, encoding, values, dst).map_err(|r| refused(job, tile, r));
    }
    load(kernels, read, src, tile, values, mapped).map_err(|r| refused(job, tile, r))?;
    let turned = steps::Steps::new(&read.ops, Gain(gain), tile);
    if turned.any() {
        let finite = turned.check_finite(values).map_err(|r| refused(job, tile, r));
        let done = finite.and_then(|()| {
            let check = checks.before(&turned, rotations, values)?;
            turned.apply(kernels, rotations, values)?;
            checks.after(&turned, &check, values)
        });
        match done {
            // Where nothing is written, what cannot be turned is told as what cannot be encoded is.
            Err(e) if job.finish == Finish::Measure => {
                probe.refuse(&e);
                return Ok(());
            }
            done => done?,
        }
    }
    if let Finish::Encode(encoding) = job.finish {
        let span = tile_span(encoding.dtype(), width, tile).ok_or_else(misfit)?;
        let dst = out.get_mut(span).ok_or_else(misfit)?;
        if !made {
            kernels.encode(encoding, values, weights, dst).map_err(|r| refused(job, tile, r))?;
        }
        if job.ask.error {
            other.resize(values.len(), 0.0);
            kernels.decode(encoding.dtype(), dst, other).map_err(|r| refused(job, tile, r))?;
            probe.error(kernels, tile, values, other);
        }
    }
    if let Some((read, input)) = candidate {
        let candidate = slice_of(read.dtype, width, tile, input)?;
        load(kernels, read, candidate, tile, other, mapped).map_err(|r| refused(job, tile, r))?;
        probe.error(kernels, tile, values, other);
        probe.identity(kernels, tile, values, weights, candidate, bytes);
    }
    probe.source(kernels, tile, values);
    probe.encodings(kernels, tile, values, weights, bytes, other);
    Ok(())
}
