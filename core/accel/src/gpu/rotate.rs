//! Decode, gains, rotations and encode in one submission: stored bytes in, bytes of blocks out, and nothing between.

use super::chain::{Chain, Dispatch, End, Input, Room};
use super::course::{Course, GROUP, Kind};
use super::device::Device;
use super::kernel::Kernel;
use super::{Gpu, Outcome, SLICE, Verdict};
use crate::device::turn::Step;
use quantoscope_core::DType;
use quantoscope_core::error::Result;
use quantoscope_core::plan::Along;
use std::fmt;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Values of a matrix that cannot be cut by rows: what every device has in one buffer.
const MOST: usize = 1 << 25;

/// What adds, subtracts and scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floats {
    /// The device's floats, each result forced to exist; exact where the device rounds to nearest.
    Guarded,
    /// Integers; exact everywhere.
    Soft,
}

impl fmt::Display for Floats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = if *self == Floats::Guarded { "floats" } else { "integers" };
        write!(f, "rotations by {by}")
    }
}

/// Kernels between decode and encode.
pub struct Rotator {
    widen: Vec<(DType, wgpu::ComputePipeline)>,
    gain: wgpu::ComputePipeline,
    /// The faster one first.
    pub turn: Vec<(Floats, wgpu::ComputePipeline, Verdict)>,
    /// The way that is taken, if not any.
    only: Option<Floats>,
    /// The buffers of the last submission, for the next.
    idle: Mutex<Option<Chain>>,
    /// Values that were asked for and made, since the probe.
    pub made: AtomicUsize,
}

/// A matrix, and what is to be done with it.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// How its values are stored.
    pub from: DType,
    /// The stored values, row by row.
    pub src: &'a [u8],
    /// How many rows there are.
    pub rows: usize,
    /// Values of a row.
    pub width: usize,
    /// The steps, one after the other.
    pub steps: &'a [Step<'a>],
    /// What it becomes: blocks, or binary32.
    pub to: DType,
}

impl Rotator {
    /// The kernels, none of them probed. `edit` may change the text of the one with this name.
    pub fn new(device: &Device, edit: &dyn Fn(&str, String) -> String) -> Rotator {
        let head = [include_str!("float.wgsl"), include_str!("chain.wgsl")].concat();
        let compile = |name: &str, entry: &str, texts: &[&str]| {
            device.compile(name, entry, edit(name, [&*head, &texts.concat()].concat()))
        };
        let loads = [
            (DType::F32, include_str!("f32.wgsl")),
            (DType::F16, include_str!("f16.wgsl")),
            (DType::BF16, include_str!("bf16.wgsl")),
        ];
        let widen = |(from, load)| {
            (from, compile(&format!("widen {from}"), "widen", &[load, include_str!("widen.wgsl")]))
        };
        let turns =
            [(Floats::Guarded, include_str!("guarded.wgsl")), (Floats::Soft, include_str!("soft.wgsl"))];
        let turn = |(floats, text): (Floats, &str)| {
            let pipeline = compile(&floats.to_string(), "turn", &[text, include_str!("hadamard.wgsl")]);
            (floats, pipeline, Verdict::Refused)
        };
        Rotator {
            widen: loads.map(widen).into(),
            gain: compile("gain", "scale", &[include_str!("gain.wgsl")]),
            turn: turns.map(turn).into(),
            only: None,
            idle: Mutex::new(None),
            made: AtomicUsize::new(0),
        }
    }
}

impl Gpu {
    /// Decodes a matrix, takes the steps, and quantizes into `out` without importance.
    ///
    /// Fails and declines as [`Gpu::quantize`] does; declines steps that do not fit, rows that are not whole blocks,
    /// more than 2^25 values that are rotated along the rows, and values that are not finite or near overflow.
    pub async fn rotate(&self, matrix: &Matrix<'_>, out: &mut [u8]) -> Result<Outcome> {
        for (floats, _, verdict) in &self.rotator.turn {
            let other = self.rotator.only.is_some_and(|only| only != *floats);
            if other || *verdict == Verdict::Refused || self.lost.load(Ordering::Relaxed) {
                continue;
            }
            let end = self.turn(*floats, matrix, out).await;
            self.lost.fetch_or(end.is_err(), Ordering::Relaxed);
            match end? {
                End::Done => {
                    self.rotator.made.fetch_add(matrix.rows * matrix.width, Ordering::Relaxed);
                    return Ok(Outcome::Done);
                }
                End::Unsure => {}
                End::Doubted => return Ok(Outcome::Declined),
            }
        }
        Ok(Outcome::Declined)
    }

    /// What the probe found of the ways to rotate.
    pub fn rotations(&self) -> impl Iterator<Item = (Floats, Verdict)> + '_ {
        self.rotator.turn.iter().map(|(floats, _, verdict)| (*floats, *verdict))
    }

    /// Values that were rotated, the probe's not counted.
    pub fn rotated(&self) -> usize {
        self.rotator.made.load(Ordering::Relaxed)
    }

    /// The same device, which rotates in one way only, if that way is exact; or in any that is.
    pub fn rotating(mut self, by: Option<Floats>) -> Gpu {
        self.rotator.only = by;
        self
    }

    /// In one way, probed or not; a run of rows after the other, where no vector runs along the rows.
    pub(super) async fn turn(&self, by: Floats, matrix: &Matrix<'_>, out: &mut [u8]) -> Result<End> {
        let Some(plan) = self.plan(by, matrix, out.len()) else { return Ok(End::Doubted) };
        let (row_in, row_out) = (matrix.src.len() / matrix.rows, out.len() / matrix.rows);
        let parts = matrix.src.chunks(plan.rows * row_in).zip(out.chunks_mut(plan.rows * row_out));
        for (n, (src, out)) in parts.enumerate() {
            let first = n * plan.rows;
            let dispatches = plan.dispatches(matrix, first..first + src.len() / row_in);
            let room = Room {
                source: src.len(),
                tables: plan.course.tables.len() * 4,
                matrix: plan.rows * matrix.width * 4,
                result: if plan.encode.is_some() { out.len() } else { 0 },
                dispatches: dispatches.len(),
            };
            let kept = self.rotator.idle.lock().ok().and_then(|mut idle| idle.take());
            let chain = Chain::with_room(&self.device, kept, &room)?;
            let end = chain.run(&self.device, &dispatches, src, &plan.course.tables, out).await?;
            if let Ok(mut idle) = self.rotator.idle.lock() {
                *idle = Some(chain);
            }
            if end != End::Done {
                return Ok(end);
            }
        }
        Ok(End::Done)
    }

    /// Which kernels, and how many rows at once; none where it cannot be done.
    fn plan(&self, by: Floats, matrix: &Matrix<'_>, out: usize) -> Option<Plan<'_>> {
        let Matrix { steps, rows, width, from, src, to } = *matrix;
        let values = rows.checked_mul(width).filter(|n| *n > 0)?;
        let whole = src.len() as u64 == from.bytes_for(values as u64)?
            && out as u64 == to.bytes_for(values as u64)?
            && (width as u64).is_multiple_of(to.block_len());
        let fit = steps.iter().all(|step| step.fits(rows, width));
        let down = |step: &Step<'_>| matches!(step, Step::Turn { along: Along::Rows, .. });
        let at_once = if steps.iter().any(down) { rows } else { (SLICE / width).clamp(1, rows) };
        if !whole || !fit || at_once * width > MOST {
            return None;
        }
        let rotator = &self.rotator;
        let encode = Kernel::Quantize { from: DType::F32, to };
        let encode = match to {
            DType::F32 => None,
            _ => Some(self.kernels.iter().find(|(k, _, v)| *k == encode && *v == Verdict::Exact)?),
        };
        Some(Plan {
            course: Course::new(steps, width),
            rows: at_once,
            widen: &rotator.widen.iter().find(|(known, _)| *known == from)?.1,
            gain: &rotator.gain,
            turn: &rotator.turn.iter().find(|(floats, _, _)| *floats == by)?.1,
            encode: encode.map(|(kernel, pipeline, _)| (*kernel, pipeline)),
        })
    }
}

/// How a matrix is gone through.
struct Plan<'a> {
    course: Course,
    /// Rows at once.
    rows: usize,
    widen: &'a wgpu::ComputePipeline,
    gain: &'a wgpu::ComputePipeline,
    turn: &'a wgpu::ComputePipeline,
    encode: Option<(Kernel, &'a wgpu::ComputePipeline)>,
}

impl<'a> Plan<'a> {
    fn dispatches(&self, matrix: &Matrix<'_>, rows: Range<usize>) -> Vec<Dispatch<'a>> {
        let values = rows.len() * matrix.width;
        let size = |n: usize| std::array::from_fn(|at| if at == 0 { n as u32 } else { 0 });
        let mut all = vec![Dispatch {
            pipeline: self.widen,
            input: Input::Source,
            last: false,
            parameters: size(values),
            groups: values.div_ceil(GROUP) as u32,
        }];
        all.extend(self.course.dispatches(rows).map(|(kind, parameters, groups)| {
            let pipeline = if kind == Kind::Gain { self.gain } else { self.turn };
            Dispatch { pipeline, input: Input::Tables, last: false, parameters, groups }
        }));
        if let Some((kernel, pipeline)) = self.encode {
            let blocks = values * size_of::<f32>() / kernel.bytes_in(1);
            let groups = kernel.groups(blocks as u32);
            let parameters = size(blocks);
            all.push(Dispatch { pipeline, input: Input::Matrix, last: true, parameters, groups });
        }
        all
    }
}
