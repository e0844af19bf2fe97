//! Decode, gains, rotations and encode in one submission: stored bytes in, bytes of blocks out, and nothing between.

use super::device::Program;
use super::dispatch_plan::{DispatchKind, DispatchPlan, GROUP};
use super::multi_pass::{BufferSizes, Dispatch, Input, MultiPass, WORDS};
use super::{SLICE, WgpuDevice, kernel};
use crate::device::rotation_passes::{Axis, MatrixStep, RotationTask};
use crate::device::{Arithmetic, DeviceOutcome, Kernel};
use quantoscope_core::DType;
use quantoscope_core::error::Result;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Values of a matrix that cannot be cut by rows: what every device has in one buffer.
const MOST: usize = 1 << 25;

/// Kernels between decode and encode.
pub struct Rotator {
    widen: Vec<(DType, Program)>,
    gain: Program,
    turn: Vec<(Arithmetic, Program)>,
    /// The buffers of the last submission, for the next.
    idle: Mutex<Option<MultiPass>>,
}

impl Rotator {
    /// The kernels. `edit` may change the text of the one with this name.
    pub fn new(edit: &dyn Fn(&str, String) -> String) -> Rotator {
        let head = [include_str!("float.wgsl"), include_str!("chain.wgsl")].concat();
        let compile = |name: &str, entry: &'static str, texts: &[&str]| {
            Program::new(name, entry, edit(name, [&*head, &texts.concat()].concat()))
        };
        let loads = [
            (DType::F32, include_str!("f32.wgsl")),
            (DType::F16, include_str!("f16.wgsl")),
            (DType::BF16, include_str!("bf16.wgsl")),
        ];
        let widen = |(from, load)| {
            (from, compile(&format!("widen {from}"), "widen", &[load, include_str!("widen.wgsl")]))
        };
        let ways = [
            (Arithmetic::Guarded, include_str!("turn_guarded.wgsl")),
            (Arithmetic::Exact, include_str!("turn_soft.wgsl")),
        ];
        let turn = |(by, text): (Arithmetic, &str)| {
            let kernel = Kernel::Rotate(by);
            (by, compile(&kernel.to_string(), kernel.entry(), &[text, include_str!("hadamard.wgsl")]))
        };
        Rotator {
            widen: loads.map(widen).into(),
            gain: compile("gain", "scale", &[include_str!("gain.wgsl")]),
            turn: ways.map(turn).into(),
            idle: Mutex::new(None),
        }
    }

    /// All of them.
    pub fn programs(&self) -> impl Iterator<Item = &Program> {
        let widen = self.widen.iter().map(|(_, p)| p);
        widen.chain([&self.gain]).chain(self.turn.iter().map(|(_, p)| p))
    }
}

impl WgpuDevice {
    /// A run of rows after the other, where no vector runs along the rows; else at most 2^25 values.
    pub(super) async fn rotate(
        &self,
        matrix: RotationTask<'_>,
        by: Arithmetic,
        out: &mut [u8],
    ) -> Result<DeviceOutcome> {
        let Some(plan) = self.plan(&matrix, by, out.len()).await else { return Ok(DeviceOutcome::Declined) };
        let (row_in, row_out) = (matrix.src.len() / matrix.rows, out.len() / matrix.rows);
        let parts = matrix.src.chunks(plan.rows * row_in).zip(out.chunks_mut(plan.rows * row_out));
        for (n, (src, out)) in parts.enumerate() {
            let first = n * plan.rows;
            let dispatches = plan.dispatches(&matrix, first..first + src.len() / row_in);
            let room = BufferSizes {
                source: src.len(),
                tables: plan.course.tables.len() * size_of::<u32>(),
                matrix: plan.rows * matrix.width * size_of::<f32>(),
                result: if plan.encode.is_some() { out.len() } else { 0 },
                dispatches: dispatches.len(),
            };
            let kept = self.rotator.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
            let chain = MultiPass::with_room(&self.driver, kept, &room)?;
            let sure = chain.run(&self.driver, &dispatches, src, &plan.course.tables, out).await?;
            *self.rotator.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(chain);
            if !sure {
                return Ok(DeviceOutcome::Declined);
            }
        }
        Ok(DeviceOutcome::Done)
    }

    /// Which kernels, and how many rows at once; none where it cannot be done.
    async fn plan(
        &self,
        matrix: &RotationTask<'_>,
        by: Arithmetic,
        out: usize,
    ) -> Option<MatrixTraversal<'_>> {
        let RotationTask { steps, rows, width, from, to, .. } = *matrix;
        let bytes = to.bytes_for(matrix.values()? as u64)?;
        let down = |step: &MatrixStep<'_>| matches!(step, MatrixStep::Rotate { along: Axis::Out, .. });
        let at_once = if steps.iter().any(down) { rows } else { (SLICE / width).clamp(1, rows) };
        if out as u64 != bytes || at_once * width > MOST {
            return None;
        }
        let rotator = &self.rotator;
        let decode = match from {
            DType::F32 | DType::F16 | DType::BF16 => {
                let widen = rotator.widen.iter().find(|(known, _)| *known == from)?;
                (None, self.program(&widen.1).await?)
            }
            _ => {
                let kernel = Kernel::Dequantize(from);
                (Some(kernel), self.pipeline(kernel).await?)
            }
        };
        let encode = match matrix.encodes() {
            Some(kernel) => Some((kernel, self.pipeline(kernel).await?)),
            None => None,
        };
        let turn = rotator.turn.iter().find(|(known, _)| *known == by)?;
        let (gain, turn) = match steps {
            [] => (None, None),
            _ => (Some(self.program(&rotator.gain).await?), Some(self.program(&turn.1).await?)),
        };
        Some(MatrixTraversal {
            decode,
            gain,
            turn,
            encode,
            course: DispatchPlan::new(steps, width),
            rows: at_once,
        })
    }
}

/// How a matrix is gone through.
struct MatrixTraversal<'a> {
    course: DispatchPlan,
    /// Rows at once.
    rows: usize,
    /// What is stored is widened where it is of no block type.
    decode: (Option<Kernel>, &'a wgpu::ComputePipeline),
    gain: Option<&'a wgpu::ComputePipeline>,
    turn: Option<&'a wgpu::ComputePipeline>,
    encode: Option<(Kernel, &'a wgpu::ComputePipeline)>,
}

impl<'a> MatrixTraversal<'a> {
    fn dispatches(&self, matrix: &RotationTask<'_>, rows: Range<usize>) -> Vec<Dispatch<'a>> {
        let values = rows.len() * matrix.width;
        let blocks = |kernel: Kernel| (values / kernel.block().block_len() as usize) as u32;
        let (parameters, groups) = match self.decode.0 {
            Some(kernel) => (size(blocks(kernel)), kernel::groups(kernel, blocks(kernel))),
            None => (size(values as u32), values.div_ceil(GROUP) as u32),
        };
        let mut all =
            vec![Dispatch { pipeline: self.decode.1, input: Input::Source, last: false, parameters, groups }];
        all.extend(self.course.dispatches(rows).filter_map(|(kind, parameters, groups)| {
            let pipeline = if kind == DispatchKind::Gain { self.gain } else { self.turn }?;
            Some(Dispatch { pipeline, input: Input::Tables, last: false, parameters, groups })
        }));
        if let Some((kernel, pipeline)) = self.encode {
            let (parameters, groups) = (size(blocks(kernel)), kernel::groups(kernel, blocks(kernel)));
            all.push(Dispatch { pipeline, input: Input::Matrix, last: true, parameters, groups });
        }
        all
    }
}

/// The parameters of a kernel that knows blocks: as many as these, in rows of one.
fn size(blocks: u32) -> [u32; WORDS] {
    std::array::from_fn(|at| [blocks, 1].get(at).copied().unwrap_or(0))
}
