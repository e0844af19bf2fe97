//! Copies stored bytes, with their rows in another order if the plan says so.

use super::nonfinite::passed;
use super::tile::element;
use super::{Done, Job, Payload, Read, SpotCheckStats, Window, Workspace};
use super::{local_bytes, row_map};
use crate::error::Result;
use crate::metric::ByteComparison;
use crate::plan::{RowMap, Side};
use alloc::vec::Vec;

/// Runs a job that copies. Bytes that differ from the first read are left in [`Workspace::out`].
pub(super) fn copy(job: &Job, inputs: &[&[u8]], scratch: &mut Workspace) -> Result<Done> {
    let mut measured = job.metrics.measurements(&job.grid);
    let mut payload = Payload::Input;
    if let Some((read, input)) = job.read(Side::Source, inputs) {
        let all = Window { rows: 0..job.window.height(), cols: 0..job.window.width() };
        if read.map != RowMap::Identity || !read.literal.is_empty() {
            payload = Payload::Scratch;
        }
        let bytes = reordered(job, read, input, &mut scratch.out)?;
        measured.nonfinite = passed(job, &all, read.dtype, bytes)?;
        if let Some((against, other)) = job.read(Side::Candidate, inputs) {
            let other = reordered(job, against, other, &mut scratch.bytes)?;
            let differing = bytes.iter().zip(other).filter(|(x, y)| x != y).count() as u64;
            let first = bytes.iter().zip(other).position(|(x, y)| x != y);
            let (len, size) = (read.dtype.block_len(), read.dtype.block_bytes().max(1));
            let first = first.map(|i| element(job, &all, i as u64 / size * len));
            measured.bytes = Some(ByteComparison { differing, first, refused: false });
        }
    }
    let payload = if !job.writes.is_empty() { payload } else { Payload::None };
    Ok(Done { payload, measured, made: SpotCheckStats::default() })
}

/// The bytes of a read in the order of the output: `input` itself, or a copy in `buffer`.
fn reordered<'a>(job: &Job, read: &Read, input: &'a [u8], buffer: &'a mut Vec<u8>) -> Result<&'a [u8]> {
    if read.map == RowMap::Identity && read.literal.is_empty() {
        return Ok(input);
    }
    let row = match read.map {
        RowMap::Identity => input.len(),
        _ => local_bytes(read.dtype, 1, job.window.width())?,
    };
    buffer.clear();
    row_map::append(read.map, input, buffer, row);
    Ok(buffer)
}
