//! Decode, gains, rotations and encode in one submission. Decoded values stay on the device.

use super::device::Program;
use super::dispatch_plan::{DispatchKind, DispatchPlan, GROUP};
use super::multi_pass::{BufferSizes, Dispatch, Input, MultiPass, PARAMETER_WORDS};
use super::{SLICE, WgpuDevice, kernel};
use crate::device::rotation_passes::{Axis, MatrixStep, RotationTask};
use crate::device::{Arithmetic, DeviceOutcome, Kernel};
use quantoscope_core::DType;
use quantoscope_core::error::Result;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Maximum number of values of a matrix that cannot be split by rows: 128 MiB, which every device has in one
/// buffer.
const MAX_VALUES: usize = 1 << 25;

/// Programs between decode and encode, and their buffers.
pub(super) struct Rotator {
    widen: Vec<(DType, Program)>,
    gain: Program,
    rotate: Vec<(Arithmetic, Program)>,
    /// Buffers of the last submission, for reuse.
    idle: Mutex<Option<MultiPass>>,
}

impl Rotator {
    /// Creates the programs. `edit(name, source)` returns the source to use.
    pub(super) fn new(edit: &dyn Fn(&str, String) -> String) -> Rotator {
        let head =
            [include_str!("kernels/soft_f32.wgsl"), include_str!("kernels/matrix_memory.wgsl")].concat();
        let program = |name: &str, entry: &'static str, texts: &[&str]| {
            Program::new(name, entry, edit(name, [&*head, &texts.concat()].concat()))
        };
        let loads = [
            (DType::F32, include_str!("kernels/load_f32.wgsl")),
            (DType::F16, include_str!("kernels/load_f16.wgsl")),
            (DType::BF16, include_str!("kernels/load_bf16.wgsl")),
        ];
        let widen = |(from, load)| {
            (from, program(&format!("widen {from}"), "widen", &[load, include_str!("kernels/widen.wgsl")]))
        };
        let operations = [
            (Arithmetic::HardwareF32, include_str!("kernels/rotate_hardware_f32.wgsl")),
            (Arithmetic::SoftF32, include_str!("kernels/rotate_soft_f32.wgsl")),
        ];
        let rotate = |(arithmetic, operations): (Arithmetic, &str)| {
            let name = Kernel::Rotate(arithmetic).to_string();
            (arithmetic, program(&name, "rotate", &[operations, include_str!("kernels/hadamard.wgsl")]))
        };
        Rotator {
            widen: loads.map(widen).into(),
            gain: program("gain", "scale", &[include_str!("kernels/gain.wgsl")]),
            rotate: operations.map(rotate).into(),
            idle: Mutex::new(None),
        }
    }

    /// All programs.
    pub(super) fn programs(&self) -> impl Iterator<Item = &Program> {
        let widen = self.widen.iter().map(|(_, p)| p);
        widen.chain([&self.gain]).chain(self.rotate.iter().map(|(_, p)| p))
    }
}

impl WgpuDevice {
    /// Processes a matrix range of rows by range of rows; whole, and at most [`MAX_VALUES`] values, if a step
    /// rotates columns.
    ///
    /// # Errors
    /// [`Code::Device`](quantoscope_core::error::Code::Device) if the device was lost or is out of memory.
    pub(super) async fn rotate(
        &self,
        matrix: RotationTask<'_>,
        arithmetic: Arithmetic,
        out: &mut [u8],
    ) -> Result<DeviceOutcome> {
        let Some(traversal) = self.traversal(&matrix, arithmetic, out.len()).await else {
            return Ok(DeviceOutcome::Declined);
        };
        let (row_in, row_out) = (matrix.src.len() / matrix.rows, out.len() / matrix.rows);
        let parts = matrix.src.chunks(traversal.rows * row_in).zip(out.chunks_mut(traversal.rows * row_out));
        for (n, (src, out)) in parts.enumerate() {
            let first = n * traversal.rows;
            let dispatches = traversal.dispatches(&matrix, first..first + src.len() / row_in);
            let tables = &traversal.steps.tables;
            let sizes = BufferSizes {
                source: src.len(),
                tables: tables.len() * size_of::<u32>(),
                matrix: traversal.rows * matrix.width * size_of::<f32>(),
                result: if traversal.encode.is_some() { out.len() } else { 0 },
                dispatches: dispatches.len(),
            };
            let idle = self.rotator.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
            let buffers = MultiPass::with_sizes(&self.driver, idle, &sizes)?;
            let complete = buffers.run(&self.driver, &dispatches, src, tables, out).await?;
            *self.rotator.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(buffers);
            if !complete {
                return Ok(DeviceOutcome::Declined);
            }
        }
        Ok(DeviceOutcome::Done)
    }

    /// Selects the programs and the number of rows per submission; `None` if the task cannot be done.
    async fn traversal(
        &self,
        matrix: &RotationTask<'_>,
        arithmetic: Arithmetic,
        out: usize,
    ) -> Option<MatrixTraversal<'_>> {
        let RotationTask { steps, rows, width, from, to, .. } = *matrix;
        let bytes = to.bytes_for(matrix.values()? as u64)?;
        let rotates_columns =
            |step: &MatrixStep<'_>| matches!(step, MatrixStep::Rotate { along: Axis::Out, .. });
        let rows_at_once =
            if steps.iter().any(rotates_columns) { rows } else { (SLICE / width).clamp(1, rows) };
        if out as u64 != bytes || rows_at_once * width > MAX_VALUES {
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
        let encode = match matrix.encode_kernel() {
            Some(kernel) => Some((kernel, self.pipeline(kernel).await?)),
            None => None,
        };
        let rotate = rotator.rotate.iter().find(|(known, _)| *known == arithmetic)?;
        let (gain, rotate) = match steps {
            [] => (None, None),
            _ => (Some(self.program(&rotator.gain).await?), Some(self.program(&rotate.1).await?)),
        };
        Some(MatrixTraversal {
            decode,
            gain,
            rotate,
            encode,
            steps: DispatchPlan::new(steps, width),
            rows: rows_at_once,
        })
    }
}

/// Programs of a task, and rows per submission.
struct MatrixTraversal<'a> {
    steps: DispatchPlan,
    /// Rows per submission.
    rows: usize,
    /// The dequantize kernel, or `None` and the program that widens floats.
    decode: (Option<Kernel>, &'a wgpu::ComputePipeline),
    gain: Option<&'a wgpu::ComputePipeline>,
    rotate: Option<&'a wgpu::ComputePipeline>,
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
        all.extend(self.steps.dispatches(rows).filter_map(|(kind, parameters, groups)| {
            let pipeline = if kind == DispatchKind::Gain { self.gain } else { self.rotate }?;
            Some(Dispatch { pipeline, input: Input::Tables, last: false, parameters, groups })
        }));
        if let Some((kernel, pipeline)) = self.encode {
            let (parameters, groups) = (size(blocks(kernel)), kernel::groups(kernel, blocks(kernel)));
            all.push(Dispatch { pipeline, input: Input::Matrix, last: true, parameters, groups });
        }
        all
    }
}

/// The `Size` parameters of a block kernel, in rows of one block.
fn size(blocks: u32) -> [u32; PARAMETER_WORDS] {
    std::array::from_fn(|at| [blocks, 1].get(at).copied().unwrap_or(0))
}
