//! Where the bytes of a window go. Blocks are taken apart where a file stores their parts as tensors of their own.

use super::{Job, Payload, Region, Window, Workspace, Write};
use crate::error::{Code, Error, Result};
use crate::plan::{FileRange, Output, OutputOp, OutputStream, Segment};
use alloc::vec::Vec;

/// Moves the parts of all blocks together, in the order of the job's writes. Other payloads stay as they are.
pub(super) fn separate(
    job: &Job,
    inputs: &[&[u8]],
    scratch: &mut Workspace,
    payload: Payload,
) -> Result<Payload> {
    let block: usize = job.writes.iter().filter_map(|w| w.part).map(|part| part.len as usize).sum();
    if block == 0 || payload == Payload::None {
        return Ok(payload);
    }
    let Workspace { out, bytes, .. } = scratch;
    let blocks = match payload {
        Payload::Input => inputs.first().copied().unwrap_or_default(),
        _ => out.as_slice(),
    };
    let misfit = || Error::new(Code::Overflow, "a window does not hold whole blocks");
    if !blocks.len().is_multiple_of(block) {
        return Err(misfit());
    }
    bytes.clear();
    bytes.reserve(blocks.len());
    for part in job.writes.iter().filter_map(|w| w.part) {
        let range = part.at as usize..part.at as usize + part.len as usize;
        for whole in blocks.chunks_exact(block) {
            bytes.extend_from_slice(whole.get(range.clone()).ok_or_else(misfit)?);
        }
    }
    core::mem::swap(out, bytes);
    Ok(Payload::Scratch)
}

/// Where the bytes of a window go.
pub(crate) fn writes(output: &Output, piece: &Segment, window: &Window) -> Vec<Write> {
    let cols = output.grid.cols;
    let target = match piece.op {
        OutputOp::Measure => return Vec::new(),
        OutputOp::Copy => piece.from.dtype,
        OutputOp::Encode(e) => e.dtype(),
        OutputOp::Transcode(to) => to,
    };
    if output.streams.is_empty() {
        let write = |place: FileRange| {
            let region = Region::of(target, place.at, cols, &window.rows, &window.cols);
            Write { file: place.file, region, part: None }
        };
        return output.place.map(write).into_iter().collect();
    }
    let stream = |stream: &OutputStream| {
        let (place, part) = (stream.place?, stream.part);
        let (len, bytes) = (target.block_len().max(1), u64::from(part.len));
        let blocks = |cols: u64| cols / len * bytes;
        let (row, run) = (blocks(cols), blocks(window.width()));
        let offset = place.at + window.rows.start * row + blocks(window.cols.start);
        let region = match run == row {
            true => Region { offset, run: run * window.height(), stride: run * window.height(), count: 1 },
            false => Region { offset, run, stride: row, count: window.height() },
        };
        Some(Write { file: place.file, region, part: Some(part) })
    };
    output.streams.iter().filter_map(stream).collect()
}
