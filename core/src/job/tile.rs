//! One tile of a window: decoding, steps, encoding or the spot check of a device's bytes, and measurements.

use super::freivalds::TileChecks;
use super::measure::MetricCollector;
use super::nonfinite::passed;
use super::rounding::Allowed;
use super::row_map::{append, reorder, transpose};
use super::steps::{Gain, Rotations, TileSteps, plain};
use super::tile_bytes::{lies_apart, misfit, scatter, slice_of, tile_span};
use super::wide::{self, TileValues};
use super::{DeviceCheck, Job, Read, TILE, Tally, Window, Workspace, local_bytes, whole_rows};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::kernels::Kernels;
use crate::plan::{NonFinite, Op, OutputOp, RowMap, Side};
use crate::quant::{EncodeError, Encoding, check_finite};
use alloc::vec::Vec;
use core::ops::Range;

/// Cuts the window into tiles: whole rows in groups, or parts of a long row.
pub(super) fn tiles(job: &Job) -> impl Iterator<Item = Window> + use<> {
    let (width, height, group) = (job.window.width(), job.window.height(), job.row_group.max(1));
    let weighted = job.reads.iter().any(|r| r.side == Side::Importance);
    let turned = job.reads.iter().flat_map(|r| &r.ops).any(|op| matches!(op, Op::Rotate(_)));
    let turned = turned || job.reads.iter().any(|r| r.map.needs_whole_windows());
    let splittable = group == 1 && width > TILE && !turned && !(weighted && whole_rows(job.op, &job.metrics));
    let transposed = job.reads.iter().any(|r| matches!(r.map, RowMap::Transpose { .. }));
    let (step_rows, step_cols) = if transposed {
        (height.max(1), width.max(1))
    } else if splittable {
        (1, TILE)
    } else if group > 1 && group.saturating_mul(width) > TILE && job.col_group < width {
        (group, tile_cols(group, job.col_group))
    } else {
        ((TILE / width.max(1) / group).max(1) * group, width.max(1))
    };
    (0..height).step_by(step_rows as usize).flat_map(move |row| {
        (0..width).step_by(step_cols as usize).map(move |col| Window {
            rows: row..(row + step_rows).min(height),
            cols: col..(col + step_cols).min(width),
        })
    })
}

/// Columns of a tile of `rows` rows: about [`TILE`] elements, a multiple of `col_group` columns.
pub(crate) fn tile_cols(rows: u64, col_group: u64) -> u64 {
    (TILE / rows.max(1) / col_group.max(1)).max(1).saturating_mul(col_group.max(1))
}

/// Decodes a tile of a read, reorders its rows and applies its steps on single values.
pub(super) fn load(
    kernels: &dyn Kernels,
    read: &Read,
    src: &[u8],
    tile: &Window,
    values: &mut Vec<f32>,
    mapped: &mut Vec<f32>,
) -> Result<(), EncodeError> {
    let n = (tile.width() * tile.height()) as usize;
    values.resize(n, 0.0);
    match read.map {
        RowMap::Transpose { step } => {
            let columns = tile.height().saturating_sub(1) * step + 1;
            mapped.clear();
            mapped.resize((tile.width() * columns) as usize, 0.0);
            kernels.decode(read.dtype, src, mapped)?;
            transpose(mapped, values, (tile.height() as usize, tile.width() as usize), step as usize);
        }
        map => {
            kernels.decode(read.dtype, src, values)?;
            reorder(map, values, mapped, tile.width() as usize);
        }
    }
    for op in &read.ops {
        plain(*op, values);
    }
    Ok(())
}

/// The error for a value of a tile that cannot be encoded, with the element of the grid.
pub(super) fn refused(job: &Job, tile: &Window, refused: EncodeError) -> Error {
    refused.error().map_element(|i| element(job, tile, i))
}

/// The element of the output's grid that is element `i` of a tile.
pub(super) fn element(job: &Job, tile: &Window, i: u64) -> u64 {
    let (width, window) = (tile.width().max(1), &job.window);
    let row = window.rows.start + tile.rows.start + i / width;
    row * job.grid.cols + window.cols.start + tile.cols.start + i % width
}

/// The first refused value of a tile: NaN or infinity if such are not allowed, or the value that is too large.
fn earliest(job: &Job, values: &[f32], refused: EncodeError) -> EncodeError {
    let (EncodeError::F16Overflow { index }
    | EncodeError::BF16Overflow { index }
    | EncodeError::F32Overflow { index }) = refused
    else {
        return refused;
    };
    let passes = |e: Encoding| e.dtype().block_len() == 1 && e != Encoding::F16Finite;
    match job.op {
        OutputOp::Encode(e) if passes(e) && job.metrics.nonfinite != NonFinite::Refused => refused,
        _ => check_finite(values.get(..index).unwrap_or_default()).err().unwrap_or(refused),
    }
}

/// True if the job only re-encodes and measures nothing.
fn only_recodes(job: &Job) -> bool {
    !job.metrics.measures() && job.reads.len() == 1 && job.reads.iter().all(is_plain)
}

/// Whether the values are those that are stored, in their order.
fn is_plain(read: &Read) -> bool {
    read.map == RowMap::Identity && read.ops.is_empty()
}

/// The bytes of `elements`, whole blocks, in a buffer.
fn part<'a>(dtype: DType, buffer: &'a [u8], elements: &Range<usize>) -> Option<&'a [u8]> {
    let start = dtype.bytes_for(elements.start as u64)? as usize;
    let len = dtype.bytes_for(elements.len() as u64)? as usize;
    buffer.get(start..start.checked_add(len)?)
}

/// Whether `make` yields exactly the elements' blocks in `made`.
fn recomputes_equal(
    dtype: DType,
    made: &[u8],
    elements: &Range<usize>,
    bytes: &mut Vec<u8>,
    make: impl FnOnce(&mut [u8]) -> Result<(), EncodeError>,
) -> bool {
    let Some(made) = part(dtype, made, elements) else { return false };
    bytes.clear();
    bytes.resize(made.len(), 0);
    make(bytes).is_ok() && bytes == made
}

/// One tile of a window: its source, its candidate, and its weights.
struct Tile<'a> {
    kernels: &'a dyn Kernels,
    job: &'a Job,
    /// Rows and columns within the window.
    at: &'a Window,
    read: &'a Read,
    /// The stored bytes of the source.
    src: &'a [u8],
    /// The candidate, with the bytes of its whole window.
    candidate: Option<(&'a Read, &'a [u8])>,
    /// One weight per column.
    weights: Option<&'a [f32]>,
    /// The norm gain of the window's vectors.
    gain: &'a [f32],
    /// The same in binary64, if the steps run in it.
    wide_gain: &'a [f64],
}

/// The buffers that a tile is worked on in.
struct TileBuffers<'a> {
    /// The bytes of the whole window, or those of the tile where its rows lie apart.
    out: &'a mut Vec<u8>,
    /// Room for the bytes of a tile whose rows lie apart.
    gathered: &'a mut Vec<u8>,
    values: &'a mut Vec<f32>,
    other: &'a mut Vec<f32>,
    mapped: &'a mut Vec<f32>,
    doubles: &'a mut [Vec<f64>; 3],
    bytes: &'a mut Vec<u8>,
    rotations: &'a mut Rotations,
    checks: &'a mut TileChecks,
}

/// The decoded values of a tile.
struct Loaded {
    /// Whether they are measured in binary64.
    wide: bool,
    /// Whether binary32 can hold all of them.
    fits: bool,
}

/// Runs a job on one tile: leaves its bytes in [`Workspace::out`], and its measurements in `collector`.
pub(super) fn tile_of(
    kernels: &dyn Kernels,
    job: &Job,
    inputs: &[&[u8]],
    scratch: &mut Workspace,
    at: &Window,
    collector: &mut MetricCollector,
    made: Option<&mut DeviceCheck<'_>>,
) -> Result<()> {
    let Workspace {
        out,
        gathered: [stored, gathered, made_tile],
        values,
        other,
        mapped,
        doubles,
        bytes,
        weights,
        gain,
        wide_gain,
        rotations,
        checks,
        ..
    } = scratch;
    let Some((read, input)) = job.read(Side::Source, inputs) else { return Ok(()) };
    let width = job.window.width();
    let apart = job.op.dtype().filter(|_| lies_apart(at, width));
    if let Some(dtype) = apart {
        slice_of(dtype, width, at, out, made_tile)?;
    }
    let tile = Tile {
        kernels,
        job,
        at,
        read,
        src: match read.map {
            // The tile is the whole window.
            RowMap::Transpose { .. } => input,
            _ => slice_of(read.dtype, width, at, input, stored)?,
        },
        candidate: job.read(Side::Candidate, inputs),
        weights: weights.get(at.cols.start as usize..at.cols.end as usize).filter(|w| !w.is_empty()),
        gain,
        wide_gain,
    };
    let whole = &mut *out;
    let out = if apart.is_some() { &mut *made_tile } else { &mut *whole };
    let buffers =
        &mut TileBuffers { out, gathered, values, other, mapped, doubles, bytes, rotations, checks };
    tile.run(buffers, collector, made)?;
    match apart {
        Some(dtype) => scatter(dtype, width, at, made_tile, whole),
        None => Ok(()),
    }
}

impl Tile<'_> {
    /// Works on the tile: its bytes are in `b.out` afterwards, and its measurements in `collector`.
    fn run(
        &self,
        b: &mut TileBuffers<'_>,
        collector: &mut MetricCollector,
        mut made: Option<&mut DeviceCheck<'_>>,
    ) -> Result<()> {
        if let OutputOp::Transcode(to) = self.job.op {
            self.transcode(to, b, collector)?;
            if self.candidate.is_none() || self.job.metrics.identity.is_empty() {
                return Ok(());
            }
        }
        if let (OutputOp::Encode(encoding), true) = (self.job.op, only_recodes(self.job)) {
            return self.recode(encoding, b, collector, made);
        }
        let Some(loaded) = self.load(b, collector)? else { return Ok(()) };
        if let OutputOp::Encode(encoding) = self.job.op {
            self.encode(encoding, &loaded, b, collector, made.as_deref_mut())?;
        }
        self.compare(&loaded, b, collector)?;
        self.measure(&loaded, b, collector, made)
    }

    fn refused(&self, why: EncodeError) -> Error {
        refused(self.job, self.at, why)
    }

    /// The tile's bytes in the output.
    fn written<'b>(&self, dtype: DType, out: &'b mut [u8]) -> Result<&'b mut [u8]> {
        if lies_apart(self.at, self.job.window.width()) {
            return Ok(out);
        }
        let span = tile_span(dtype, self.job.window.width(), self.at).ok_or_else(misfit)?;
        out.get_mut(span).ok_or_else(misfit)
    }

    /// Rearranges blocks without loss. With a candidate, blocks that cannot be are a finding, not an error.
    fn transcode(&self, to: DType, b: &mut TileBuffers<'_>, collector: &mut MetricCollector) -> Result<()> {
        let dst = self.written(to, b.out)?;
        let src = match self.read.map {
            RowMap::Identity => self.src,
            map => {
                b.bytes.clear();
                append(map, self.src, b.bytes, local_bytes(self.read.dtype, 1, self.at.width())?);
                b.bytes.as_slice()
            }
        };
        let outcome = self.kernels.transcode(self.read.dtype, to, src, dst);
        let Some((_, input)) = self.candidate else { return outcome.map_err(|r| self.refused(r)) };
        let stored = slice_of(to, self.job.window.width(), self.at, input, b.gathered)?;
        collector.transcoded(self.at, to, outcome.is_ok().then_some(dst), stored);
        Ok(())
    }

    /// Encodes values that nothing measures or changes.
    fn recode(
        &self,
        encoding: Encoding,
        b: &mut TileBuffers<'_>,
        collector: &mut MetricCollector,
        made: Option<&mut DeviceCheck<'_>>,
    ) -> Result<()> {
        let (kernels, read) = (self.kernels, self.read);
        b.values.resize((self.at.width() * self.at.height()) as usize, 0.0);
        let dst = self.written(encoding.dtype(), b.out)?;
        if let Some(made) = made.filter(|m| m.by_device.written) {
            made.spot_check.tile(self.job, self.at, (read.dtype, encoding.dtype()), |at| {
                let values = &mut b.values[..at.len()];
                recomputes_equal(encoding.dtype(), dst, &at, b.bytes, |again| {
                    let stored = part(read.dtype, self.src, &at).ok_or(EncodeError::NoCodec)?;
                    kernels.recode(read.dtype, stored, encoding, values, again)
                })
            });
            return Ok(());
        }
        if let Err(r) = kernels.recode(read.dtype, self.src, encoding, b.values, dst) {
            // An engine may have left the values of a part only.
            let _ = kernels.decode(read.dtype, self.src, b.values);
            return Err(self.refused(earliest(self.job, b.values, r)));
        }
        collector.passed(&passed(self.job, self.at, encoding.dtype(), dst)?);
        Ok(())
    }

    /// Decodes the source, and applies gain and rotations. `None` if nothing is written and the values cannot be encoded:
    /// then that is what is measured.
    fn load(&self, b: &mut TileBuffers<'_>, collector: &mut MetricCollector) -> Result<Option<Loaded>> {
        let job = self.job;
        let [double, _, mapped] = &mut *b.doubles;
        let wide = job.metrics.measures() && wide::load(self.read, self.src, self.at, double, mapped);
        let loaded = load(self.kernels, self.read, self.src, self.at, b.values, b.mapped);
        if let Err(r) = loaded {
            let why = self.refused(earliest(job, b.values, r));
            if job.op != OutputOp::Measure {
                return Err(why);
            }
            // Nothing is written: what binary32 cannot hold is measured as it is, and no encoding holds it.
            collector.refuse(&why);
        }
        let fits = loaded.is_ok();
        let steps = TileSteps::new(&self.read.ops, Gain(self.gain), self.at);
        if !steps.any() {
            return Ok(Some(Loaded { wide, fits }));
        }
        if !fits {
            return Ok(None);
        }
        let rotated = match self.read.ops.contains(&Op::Widen) {
            true => self.rotate_in_f64(b),
            false => self.rotate(&steps, b),
        };
        match rotated {
            Ok(()) => Ok(Some(Loaded { wide, fits })),
            Err(e) if job.op == OutputOp::Measure => {
                collector.refuse(&e);
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Applies gain and rotations, and verifies them with Freivalds' check.
    fn rotate(&self, steps: &TileSteps<'_, f32>, b: &mut TileBuffers<'_>) -> Result<()> {
        // After a rotation every value of the vector would be NaN or infinite.
        check_finite(b.values).map_err(|r| self.refused(r))?;
        let check = b.checks.before(steps, b.rotations, b.values)?;
        steps.apply(self.kernels, b.rotations, b.values)?;
        b.checks.after(steps, &check, b.values)
    }

    /// The same in binary64; the result is rounded once.
    fn rotate_in_f64(&self, b: &mut TileBuffers<'_>) -> Result<()> {
        check_finite(b.values).map_err(|r| self.refused(r))?;
        let steps = TileSteps::new(&self.read.ops, Gain(self.wide_gain), self.at);
        let [values, ..] = &mut *b.doubles;
        wide::widen(self.read, self.src, b.values, values);
        let check = b.checks.before(&steps, b.rotations, values)?;
        steps.apply(self.kernels, b.rotations, values)?;
        b.checks.after(&steps, &check, values)?;
        b.values.iter_mut().zip(values.iter()).for_each(|(to, &v)| *to = v as f32);
        check_finite(b.values).map_err(|r| match r {
            EncodeError::NonFinite { index } => self.refused(EncodeError::F32Overflow { index }),
            other => self.refused(other),
        })
    }

    /// Encodes the values, or spot-checks the bytes that a device made of them.
    fn encode(
        &self,
        encoding: Encoding,
        loaded: &Loaded,
        b: &mut TileBuffers<'_>,
        collector: &mut MetricCollector,
        made: Option<&mut DeviceCheck<'_>>,
    ) -> Result<()> {
        let dst = self.written(encoding.dtype(), b.out)?;
        match made.filter(|m| m.by_device.written) {
            None => self
                .kernels
                .encode(encoding, b.values, self.weights, dst)
                .map_err(|r| self.refused(earliest(self.job, b.values, r)))?,
            Some(made) => self.recompute(encoding, b.values, dst, made, b.bytes),
        }
        collector.passed(&passed(self.job, self.at, encoding.dtype(), dst)?);
        if self.job.metrics.error {
            b.other.resize(b.values.len(), 0.0);
            self.kernels.decode(encoding.dtype(), dst, b.other).map_err(|r| self.refused(r))?;
            let reference = reference(loaded, b.values, b.doubles);
            collector.error(self.kernels, self.at, reference, TileValues::Single(b.other));
        }
        Ok(())
    }

    /// Measures the candidate's values and bytes against the source, if there is a candidate.
    fn compare(
        &self,
        loaded: &Loaded,
        b: &mut TileBuffers<'_>,
        collector: &mut MetricCollector,
    ) -> Result<()> {
        let Some((against, input)) = self.candidate else { return Ok(()) };
        let stored = match against.map {
            // The tile is the whole window.
            RowMap::Transpose { .. } => input,
            _ => slice_of(against.dtype, self.job.window.width(), self.at, input, b.gathered)?,
        };
        let [_, double, mapped] = &mut *b.doubles;
        let wide = wide::load(against, stored, self.at, double, mapped);
        if !wide {
            load(self.kernels, against, stored, self.at, b.other, b.mapped).map_err(|r| self.refused(r))?;
        }
        let reference = reference(loaded, b.values, b.doubles);
        let candidate = if wide { TileValues::Double(&b.doubles[1]) } else { TileValues::Single(b.other) };
        collector.error(self.kernels, self.at, reference, candidate);
        if let Some(allowed) = Allowed::between(self.read, against).filter(|_| self.job.metrics.rounding) {
            let Tally { count, first } = allowed.exceeded(reference, candidate);
            let first = first.map(|i| element(self.job, self.at, i));
            collector.beyond_rounding(&Tally { count, first });
        }
        if loaded.fits {
            collector.identity(self.kernels, self.at, b.values, self.weights, stored, b.bytes);
        }
        Ok(())
    }

    /// Measures the source, and the error of each encoding that is only measured.
    fn measure(
        &self,
        loaded: &Loaded,
        b: &mut TileBuffers<'_>,
        collector: &mut MetricCollector,
        mut made: Option<&mut DeviceCheck<'_>>,
    ) -> Result<()> {
        let (kernels, at) = (self.kernels, self.at);
        let reference = reference(loaded, b.values, b.doubles);
        collector.source(kernels, at, reference);
        for (i, encoding) in self.job.metrics.encodings.iter().enumerate() {
            let by_device =
                made.as_deref().and_then(|m| m.by_device.measured.get(i)).and_then(Option::as_ref);
            let Some(by_device) = by_device else {
                collector.encoding(kernels, i, at, (b.values, reference), self.weights, b.bytes, b.other);
                continue;
            };
            let by_device = slice_of(encoding.dtype(), self.job.window.width(), at, by_device, b.gathered)?;
            collector.device_output(kernels, i, at, reference, by_device, b.other);
            if let Some(made) = made.as_deref_mut() {
                self.recompute(*encoding, b.values, by_device, made, b.bytes);
            }
        }
        Ok(())
    }

    /// Spot-checks the blocks that a device made of the tile's values.
    fn recompute(
        &self,
        encoding: Encoding,
        values: &[f32],
        by_device: &[u8],
        made: &mut DeviceCheck<'_>,
        bytes: &mut Vec<u8>,
    ) {
        let dtype = encoding.dtype();
        made.spot_check.tile(self.job, self.at, (self.read.dtype, dtype), |at| {
            let values = &values[at.clone()];
            let first = at.start % self.at.width().max(1) as usize;
            let weights = self.weights.and_then(|w| w.get(first..first + at.len()));
            recomputes_equal(dtype, by_device, &at, bytes, |again| {
                self.kernels.encode(encoding, values, weights, again)
            })
        });
    }
}

/// The source's values as they are measured.
fn reference<'a>(loaded: &Loaded, values: &'a [f32], doubles: &'a [Vec<f64>; 3]) -> TileValues<'a> {
    if loaded.wide { TileValues::Double(&doubles[0]) } else { TileValues::Single(values) }
}
