//! Takes the blocks of a window apart, where a file stores their parts as tensors of their own.

use super::{Job, Payload, Workspace};
use crate::error::{Code, Error, Result};

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
