//! One tile of a window: decoded, stepped, encoded or held against what a device made, and measured.

use super::measure::MetricCollector;
use super::nonfinite::passed;
use super::rounding::Allowed;
use super::row_map::{append, reorder};
use super::steps::{Gain, TileSteps, plain};
use super::wide::{self, TileValues};
use super::{DeviceCheck, Job, Read, TILE, Tally, Window, Workspace, local_bytes, whole_rows};
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::kernels::Kernels;
use crate::plan::{NonFinite, Op, OutputOp, RowMap, Side};
use crate::quant::{EncodeError, Encoding, check_finite};
use alloc::vec::Vec;
use core::ops::Range;

/// The window cut into tiles: whole rows in groups, or parts of one group of long rows.
pub(super) fn tiles(job: &Job) -> impl Iterator<Item = Window> + use<> {
    let (width, height, group) = (job.window.width(), job.window.height(), job.row_group.max(1));
    let weighted = job.reads.iter().any(|r| r.side == Side::Importance);
    let turned = job.reads.iter().flat_map(|r| &r.ops).any(|op| matches!(op, Op::Rotate(_)));
    let splittable = group == 1 && width > TILE && !turned && !(weighted && whole_rows(job.op, &job.metrics));
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
    kernels.decode(read.dtype, src, values)?;
    reorder(read.map, values, mapped, tile.width() as usize);
    for op in &read.ops {
        plain(*op, values);
    }
    Ok(())
}

/// Turns a refusal inside a tile into an error that names the element of the tensor.
pub(super) fn refused(job: &Job, tile: &Window, refused: EncodeError) -> Error {
    refused.error().map_element(|i| element(job, tile, i))
}

/// The element of the output's grid that is element `i` of a tile.
pub(super) fn element(job: &Job, tile: &Window, i: u64) -> u64 {
    let (width, window) = (tile.width().max(1), &job.window);
    let row = window.rows.start + tile.rows.start + i / width;
    row * job.grid.cols + window.cols.start + tile.cols.start + i % width
}

/// What stands first in the values of a tile: NaN or infinity, where such do not pass, or the value that is too large.
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

/// Whether the values between decoding and encoding are nobody's concern.
fn only_recodes(job: &Job) -> bool {
    !job.metrics.measures() && job.reads.len() == 1 && job.reads.iter().all(is_plain)
}

/// Whether the values are what is stored, in its order.
fn is_plain(read: &Read) -> bool {
    read.map == RowMap::Identity && read.ops.is_empty()
}

/// The bytes of whole blocks of a buffer of them.
fn part<'a>(dtype: DType, buffer: &'a [u8], elements: &Range<usize>) -> Option<&'a [u8]> {
    let start = dtype.bytes_for(elements.start as u64)? as usize;
    let len = dtype.bytes_for(elements.len() as u64)? as usize;
    buffer.get(start..start.checked_add(len)?)
}

/// Whether the elements' blocks are what `make` makes.
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

pub(super) fn tile_of(
    kernels: &dyn Kernels,
    job: &Job,
    inputs: &[&[u8]],
    scratch: &mut Workspace,
    tile: &Window,
    probe: &mut MetricCollector,
    mut made: Option<&mut DeviceCheck<'_>>,
) -> Result<()> {
    let Workspace { out, values, other, mapped, doubles, bytes, weights, gain, rotations, checks, .. } =
        scratch;
    let [double, other_double, mapped_double] = doubles;
    let width = job.window.width();
    let Some((read, input)) = job.read(Side::Source, inputs) else { return Ok(()) };
    let candidate = job.read(Side::Candidate, inputs);
    let weights = weights.get(tile.cols.start as usize..tile.cols.end as usize).filter(|w| !w.is_empty());
    let src = slice_of(read.dtype, width, tile, input)?;
    let misfit = || Error::new(Code::Overflow, "a tile does not fall on block borders");
    if let OutputOp::Transcode(to) = job.op {
        let span = tile_span(to, width, tile).ok_or_else(misfit)?;
        let dst = out.get_mut(span).ok_or_else(misfit)?;
        bytes.clear();
        let src = match read.map {
            RowMap::Identity => src,
            map => {
                append(map, src, bytes, local_bytes(read.dtype, 1, tile.width())?);
                bytes.as_slice()
            }
        };
        let outcome = kernels.transcode(read.dtype, to, src, dst);
        let Some((_, input)) = candidate else { return outcome.map_err(|r| refused(job, tile, r)) };
        probe.transcoded(tile, to, outcome.is_ok().then_some(dst), slice_of(to, width, tile, input)?);
        if job.metrics.identity.is_empty() {
            return Ok(());
        }
    }
    if let (OutputOp::Encode(encoding), true) = (job.op, only_recodes(job)) {
        values.resize((tile.width() * tile.height()) as usize, 0.0);
        let span = tile_span(encoding.dtype(), width, tile).ok_or_else(misfit)?;
        let dst = out.get_mut(span).ok_or_else(misfit)?;
        if let Some(made) = made.filter(|m| m.premade.written) {
            made.recheck.tile(job, tile, (read.dtype, encoding.dtype()), |at| {
                let values = &mut values[..at.len()];
                recomputes_equal(encoding.dtype(), dst, &at, bytes, |again| {
                    let stored = part(read.dtype, src, &at).ok_or(EncodeError::NoCodec)?;
                    kernels.recode(read.dtype, stored, encoding, values, again)
                })
            });
            return Ok(());
        }
        if let Err(r) = kernels.recode(read.dtype, src, encoding, values, dst) {
            // An engine may have left the values of some stretch only.
            let _ = kernels.decode(read.dtype, src, values);
            return Err(refused(job, tile, earliest(job, values, r)));
        }
        probe.passed(&passed(job, tile, encoding.dtype(), dst)?);
        return Ok(());
    }
    let wide = job.metrics.measures() && wide::load(read, src, tile, double, mapped_double);
    let loaded = load(kernels, read, src, tile, values, mapped);
    if let Err(r) = loaded {
        let why = refused(job, tile, earliest(job, values, r));
        if job.op != OutputOp::Measure {
            return Err(why);
        }
        // Where nothing is written, what binary32 cannot hold is measured as it is, and told as what cannot be encoded is.
        probe.refuse(&why);
    }
    let turned = TileSteps::new(&read.ops, Gain(gain), tile);
    if turned.any() && loaded.is_err() {
        return Ok(());
    }
    if turned.any() {
        let finite = turned.check_finite(values).map_err(|r| refused(job, tile, r));
        let done = finite.and_then(|()| {
            let check = checks.before(&turned, rotations, values)?;
            turned.apply(kernels, rotations, values)?;
            checks.after(&turned, &check, values)
        });
        match done {
            // Where nothing is written, what cannot be turned is told as what cannot be encoded is.
            Err(e) if job.op == OutputOp::Measure => {
                probe.refuse(&e);
                return Ok(());
            }
            done => done?,
        }
    }
    if let OutputOp::Encode(encoding) = job.op {
        let span = tile_span(encoding.dtype(), width, tile).ok_or_else(misfit)?;
        let dst = out.get_mut(span).ok_or_else(misfit)?;
        match made.as_deref_mut().filter(|m| m.premade.written) {
            None => kernels
                .encode(encoding, values, weights, dst)
                .map_err(|r| refused(job, tile, earliest(job, values, r)))?,
            Some(made) => {
                recompute(kernels, job, tile, (read.dtype, encoding), (values, weights), dst, (made, bytes))
            }
        }
        probe.passed(&passed(job, tile, encoding.dtype(), dst)?);
        if job.metrics.error {
            other.resize(values.len(), 0.0);
            kernels.decode(encoding.dtype(), dst, other).map_err(|r| refused(job, tile, r))?;
            let reference = if wide { TileValues::Double(double) } else { TileValues::Single(values) };
            probe.error(kernels, tile, reference, TileValues::Single(other));
        }
    }
    let reference = if wide { TileValues::Double(double) } else { TileValues::Single(values) };
    if let Some((against, input)) = candidate {
        let stored = slice_of(against.dtype, width, tile, input)?;
        let wide = wide::load(against, stored, tile, other_double, mapped_double);
        if !wide {
            load(kernels, against, stored, tile, other, mapped).map_err(|r| refused(job, tile, r))?;
        }
        let candidate = if wide { TileValues::Double(other_double) } else { TileValues::Single(other) };
        probe.error(kernels, tile, reference, candidate);
        if let Some(allowed) = Allowed::between(read, against).filter(|_| job.metrics.rounding) {
            let Tally { count, first } = allowed.exceeded(reference, candidate);
            probe.beyond_rounding(&Tally { count, first: first.map(|i| element(job, tile, i)) });
        }
        if loaded.is_ok() {
            probe.identity(kernels, tile, values, weights, stored, bytes);
        }
    }
    probe.source(kernels, tile, reference);
    for (i, encoding) in job.metrics.encodings.iter().enumerate() {
        let premade = made.as_deref().and_then(|m| m.premade.measured.get(i)).and_then(Option::as_ref);
        let Some(premade) = premade else {
            probe.encoding(kernels, i, tile, (values, reference), weights, bytes, other);
            continue;
        };
        let premade = slice_of(encoding.dtype(), width, tile, premade)?;
        probe.premade(kernels, i, tile, reference, premade, other);
        if let Some(made) = made.as_deref_mut() {
            recompute(kernels, job, tile, (read.dtype, *encoding), (values, weights), premade, (made, bytes));
        }
    }
    Ok(())
}

/// Makes some blocks of a tile again that a device made of its values.
fn recompute(
    kernels: &dyn Kernels,
    job: &Job,
    tile: &Window,
    (from, encoding): (DType, Encoding),
    (values, weights): (&[f32], Option<&[f32]>),
    premade: &[u8],
    (made, bytes): (&mut DeviceCheck<'_>, &mut Vec<u8>),
) {
    let dtype = encoding.dtype();
    made.recheck.tile(job, tile, (from, dtype), |at| {
        let values = &values[at.clone()];
        let first = at.start % tile.width().max(1) as usize;
        let weights = weights.and_then(|w| w.get(first..first + at.len()));
        recomputes_equal(dtype, premade, &at, bytes, |again| kernels.encode(encoding, values, weights, again))
    });
}
