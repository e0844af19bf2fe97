//! Decodes windows of packed weights before anything else sees them: the job that remains reads plain values or blocks.
//!
//! The decoder of a format is a function of the parts of a window, chosen by its [`Layout`]. Nothing is rounded here beyond the
//! format's own arithmetic in binary32.

mod integers;
mod mlx;
mod mxfp4;
mod scaled_float;

use super::{DeviceCheck, Done, Job, Payload, Read, Region, Workspace, work};
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::kernels::Kernels;
use crate::tensor::packed::{Layout, Packed, Rectangle};
use alloc::sync::Arc;
use alloc::vec::Vec;
use serde::Serialize;

/// A rectangle of a packed weight.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PackedWindow {
    /// The parts, and how they are decoded.
    pub packed: Arc<Packed>,
    /// Rows and columns of the weight.
    pub at: Rectangle,
}

/// Room for the decoded windows of the source and of a candidate, as binary32 so that it is aligned.
pub(super) type Room = [Vec<f32>; 2];

/// A job without packed weights, and where the bytes of its reads are.
struct Unpacked {
    job: Job,
    from: Vec<Place>,
}

/// The bytes of a read.
enum Place {
    /// Those of this input.
    Input(usize),
    /// The first bytes of this room.
    Room(usize, usize),
}

impl Unpacked {
    /// The bytes of the job's reads.
    fn inputs<'a>(&self, inputs: &[&'a [u8]], room: &'a Room) -> Vec<&'a [u8]> {
        let place = |place: &Place| match *place {
            Place::Input(index) => inputs.get(index).copied(),
            Place::Room(index, len) => room.get(index).and_then(|r| bytemuck::cast_slice(r).get(..len)),
        };
        self.from.iter().map(|p| place(p).unwrap_or_default()).collect()
    }
}

/// One part of the window of a packed weight.
struct PackedPart<'a> {
    dtype: DType,
    /// Its rows and columns.
    at: Rectangle,
    /// The rows, one after the other.
    bytes: &'a [u8],
}

impl PackedPart<'_> {
    /// Columns.
    fn width(&self) -> usize {
        (self.at.cols.end - self.at.cols.start) as usize
    }

    /// Bytes of one row.
    fn row_bytes(&self) -> usize {
        self.width() * self.dtype.block_bytes() as usize
    }

    /// The bytes of each row.
    fn rows(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.row_bytes().max(1))
    }
}

/// Runs a job with packed weights, whose inputs were checked.
pub(super) fn work_unpacked(
    kernels: &dyn Kernels,
    job: &Job,
    inputs: &[&[u8]],
    scratch: &mut Workspace,
    made: Option<&mut DeviceCheck<'_>>,
) -> Result<Done> {
    let mut room = core::mem::take(&mut scratch.unpacked);
    let plain = unpack(kernels, job, inputs, &mut room);
    let done = plain.and_then(|plain| work(kernels, &plain.job, &plain.inputs(inputs, &room), scratch, made));
    scratch.unpacked = room;
    done.map(|done| Done { payload: payload(job, done.payload, scratch), ..done })
}

/// Decodes the packed weights of a job.
fn unpack(kernels: &dyn Kernels, job: &Job, inputs: &[&[u8]], room: &mut Room) -> Result<Unpacked> {
    let mut plain = Unpacked { job: Job { reads: Vec::new(), ..job.clone() }, from: Vec::new() };
    let mut rooms = room.iter_mut().enumerate();
    let mut index = 0;
    while let Some(read) = job.reads.get(index) {
        let Some(window) = &read.packed else {
            plain.job.reads.push(read.clone());
            plain.from.push(Place::Input(index));
            index += 1;
            continue;
        };
        let count = window.packed.parts.len();
        let (Some(bytes), Some((at, room))) = (inputs.get(index..index + count), rooms.next()) else {
            return Err(Error::new(Code::Overflow, "a window has more packed weights than a job takes"));
        };
        let len = decode(kernels, read.dtype, window, bytes, room)?;
        let run = len as u64;
        let region = Region { offset: 0, run, stride: run, count: 1 };
        plain.job.reads.push(Read { region, packed: None, ..read.clone() });
        plain.from.push(Place::Room(at, len));
        index += count;
    }
    Ok(plain)
}

/// Decodes a window to `dtype`, and returns its length in bytes.
fn decode(
    kernels: &dyn Kernels,
    dtype: DType,
    window: &PackedWindow,
    inputs: &[&[u8]],
    room: &mut Vec<f32>,
) -> Result<usize> {
    let PackedWindow { packed, at } = window;
    let stored = packed.parts.iter().zip(inputs).enumerate();
    let parts: Vec<PackedPart<'_>> = stored
        .map(|(i, (info, bytes))| PackedPart { dtype: info.dtype, at: packed.part(i, at), bytes })
        .collect();
    let elements = at.rows.count * (at.cols.end - at.cols.start);
    let len = dtype.bytes_for(elements).unwrap_or(0) as usize;
    room.clear();
    room.resize(len.div_ceil(size_of::<f32>()), 0.0);
    if let DType::MLX(of) = dtype {
        let out = bytemuck::cast_slice_mut(room).get_mut(..len).unwrap_or_default();
        mlx::interleave(of, &parts, out)?;
        return Ok(len);
    }
    match (packed.layout, parts.as_slice()) {
        (Layout::ScaledFloat(blocks), [codes, scales]) => {
            scaled_float::decode(kernels, &blocks, codes, scales, room).map_err(|e| e.error())?
        }
        (Layout::Mxfp4, [codes, scales]) => {
            let out = bytemuck::cast_slice_mut(room);
            mxfp4::decode(codes, scales, out.get_mut(..len).unwrap_or_default());
        }
        (Layout::Integers(layout), parts) => {
            integers::decode(kernels, &layout, (at, [packed.rows, packed.cols]), parts, room)?
        }
        _ => return Err(Error::new(Code::Overflow, "a window lacks a part of its weight")),
    }
    Ok(len)
}

/// Moves bytes that a job passes on unchanged to the workspace, if they are those of a packed weight.
fn payload(job: &Job, payload: Payload, scratch: &mut Workspace) -> Payload {
    if payload != Payload::Input || job.reads.first().is_none_or(|r| r.packed.is_none()) {
        return payload;
    }
    let len = job.writes.iter().map(|write| write.region.len() as usize).sum();
    let bytes: &[u8] = bytemuck::cast_slice(&scratch.unpacked[0]);
    scratch.out.clear();
    scratch.out.extend_from_slice(bytes.get(..len).unwrap_or_default());
    Payload::Scratch
}
