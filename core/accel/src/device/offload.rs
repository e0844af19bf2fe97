//! Runs jobs on a device and the CPU: the device decodes, rotates and encodes with kernels that passed the
//! probe; the CPU recomputes a random sample of blocks, measures, and does everything else.

use super::rotation_passes::{MatrixStep, RotationTask};
use super::{Arithmetic, Device, DeviceOutcome, Kernel, KernelTask, ProbeVerdict, probe_kernel, stages};
use quantoscope_core::DType;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::job::{self, Axis, DeviceTask, Done, Job, Op, OutputSlot, SpotCheck, Workspace};
use quantoscope_core::kernels::Kernels;
use quantoscope_core::quant::Encoding;
use quantoscope_core::rotation::Rotation;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Default seed of the spot check.
const SEED: u64 = 0x7E57_ED0F_7E57_ED0F;

/// An engine that uses a device where its kernels are exact, and the CPU elsewhere.
pub struct Offload {
    name: &'static str,
    device: Arc<dyn Device>,
    /// The kernels and their verdicts; `None` before the probe, and then the kernel is not used.
    kernels: Mutex<Vec<(Kernel, Option<ProbeVerdict>)>>,
    cpu: &'static dyn Kernels,
    seed: u64,
    trust: Arc<DeviceTrust>,
    rotations: Mutex<Vec<Arc<Rotation>>>,
}

/// Rotations kept in memory; each head of a layer may have its own.
const CACHED_ROTATIONS: usize = 256;

/// Whether a device is still used.
#[derive(Default)]
struct DeviceTrust {
    ended: AtomicBool,
    reason: Mutex<Option<String>>,
}

impl DeviceTrust {
    fn end(&self, reason: String) {
        self.ended.store(true, Ordering::Relaxed);
        lock(&self.reason).get_or_insert(reason);
    }
}

impl Offload {
    /// Wraps a device. No kernel is used before it is probed; `cpu` does what the device does not.
    pub fn new(name: &'static str, device: Box<dyn Device>, cpu: &'static dyn Kernels) -> Offload {
        let kernels = device.kernels().into_iter().map(|k| (k, None)).collect();
        let (kernels, rotations) = (Mutex::new(kernels), Mutex::default());
        Offload { name, device: device.into(), kernels, cpu, seed: SEED, trust: Arc::default(), rotations }
    }

    /// Probes the kernels that `wanted` selects and that were not probed yet.
    ///
    /// # Errors
    /// [`Code::Device`] if the device fails.
    pub async fn probe(&self, wanted: impl Fn(Kernel) -> bool) -> Result<()> {
        for (at, (kernel, verdict)) in self.verdicts().into_iter().enumerate() {
            if verdict.is_none() && wanted(kernel) {
                let verdict = probe_kernel(&*self.device, kernel).await?;
                lock(&self.kernels)[at].1 = Some(verdict);
            }
        }
        Ok(())
    }

    /// Probes the kernels that the jobs need.
    ///
    /// # Errors
    /// [`Code::Device`] if the device fails, or if none of these kernels passes the probe.
    pub async fn ready(&self, jobs: impl Iterator<Item = Job>) -> Result<()> {
        let mut wanted: Vec<Kernel> = Vec::new();
        for job in jobs {
            for kernel in job.device_tasks().flat_map(|task| kernels(&task)) {
                if !wanted.contains(&kernel) {
                    wanted.push(kernel);
                }
            }
        }
        self.probe(|k| wanted.contains(&k)).await?;
        let verdicts = self.verdicts();
        let mut probed = verdicts.iter().filter(|(k, v)| v.is_some() && wanted.contains(k)).peekable();
        if probed.peek().is_some() && probed.all(|(_, v)| *v == Some(ProbeVerdict::Refused)) {
            let message =
                format!("{} gave wrong bytes when it was probed, so it is not used", self.device.name());
            return Err(Error::new(Code::Device, message));
        }
        Ok(())
    }

    /// Sets the seed of the spot check.
    pub fn with_seed(self, seed: u64) -> Offload {
        Offload { seed, ..self }
    }

    /// Restricts the device to some kernels; the CPU does the others.
    pub fn choosing(self, chosen: impl Fn(Kernel) -> bool) -> Offload {
        lock(&self.kernels).retain(|(kernel, _)| chosen(*kernel));
        self
    }

    /// Returns an engine on the same device with some of its kernels. A fault of one ends the use of the
    /// device in both.
    pub fn part(&self, chosen: impl Fn(Kernel) -> bool) -> Offload {
        let kernels = self.verdicts().into_iter().filter(|(kernel, _)| chosen(*kernel)).collect();
        Offload {
            device: Arc::clone(&self.device),
            kernels: Mutex::new(kernels),
            trust: Arc::clone(&self.trust),
            rotations: Mutex::default(),
            ..*self
        }
    }

    /// Engine name, as `--engine` takes it: `cuda`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The device.
    pub fn device(&self) -> &dyn Device {
        &*self.device
    }

    /// Kernels and their verdicts; `None` before the probe.
    pub fn verdicts(&self) -> Vec<(Kernel, Option<ProbeVerdict>)> {
        lock(&self.kernels).clone()
    }

    /// The CPU kernels beside the device.
    pub fn cpu(&self) -> &'static dyn Kernels {
        self.cpu
    }

    /// Reason why the device is no longer used; `None` while it is.
    pub fn ended(&self) -> Option<String> {
        lock(&self.trust.reason).clone()
    }

    /// Whether a kernel passed the probe.
    pub fn is_exact(&self, kernel: Kernel) -> bool {
        lock(&self.kernels).contains(&(kernel, Some(ProbeVerdict::Exact)))
    }

    fn is_trusted(&self) -> bool {
        !self.trust.ended.load(Ordering::Relaxed)
    }

    /// Runs a task on the device if all its kernels are exact and the device is still used; else declines. A
    /// device failure ends the use of the device.
    pub async fn make(&self, task: KernelTask<'_>, out: &mut [u8]) -> DeviceOutcome {
        if !self.is_trusted() || !task.kernels().all(|k| self.is_exact(k)) {
            return DeviceOutcome::Declined;
        }
        match self.device.run(task, out).await {
            Ok(outcome) => outcome,
            Err(e) => {
                self.trust.end(e.to_string());
                DeviceOutcome::Declined
            }
        }
    }

    /// Rotates a matrix on the device: by hardware floats, or by integers if these decline.
    pub async fn rotate(&self, matrix: RotationTask<'_>, out: &mut [u8]) -> DeviceOutcome {
        let encodes = matrix.encode_kernel().is_none_or(|k| self.is_exact(k));
        for arithmetic in [Arithmetic::HardwareF32, Arithmetic::SoftF32] {
            if !self.is_trusted() || !encodes || !self.is_exact(Kernel::Rotate(arithmetic)) {
                continue;
            }
            match self.device.rotate(matrix, arithmetic, out).await {
                Ok(DeviceOutcome::Done) => return DeviceOutcome::Done,
                Ok(DeviceOutcome::Declined) => {}
                Err(e) => self.trust.end(e.to_string()),
            }
        }
        DeviceOutcome::Declined
    }

    /// Runs a job. If the device declines, fails or returns wrong bytes, the CPU does the whole job.
    ///
    /// # Errors
    /// Those of [`job::run`] on the CPU.
    pub async fn run(&self, job: &Job, inputs: &[&[u8]], scratch: &mut Workspace) -> Result<Done> {
        if !self.run_device_tasks(job, inputs, scratch).await? {
            return job::run(self.cpu, job, inputs, scratch);
        }
        let mut check = SpotCheck::new(self.seed);
        match job::complete(self.cpu, job, inputs, scratch, &mut check) {
            Ok(done) if check.found.differing == 0 => Ok(done),
            completed => {
                // If the CPU fails too, the device is not at fault.
                let done = job::run(self.cpu, job, inputs, scratch)?;
                // Output that could not be measured counts as one differing block.
                check.found.differing += u64::from(completed.is_err());
                self.trust.end(format!("{} made wrong bytes", self.device.name()));
                Ok(Done { made: check.found, ..done })
            }
        }
    }

    /// Runs the device tasks of a job; returns whether the device did any of them.
    async fn run_device_tasks(&self, job: &Job, inputs: &[&[u8]], scratch: &mut Workspace) -> Result<bool> {
        let Some(input) = inputs.first().filter(|_| self.is_trusted()) else { return Ok(false) };
        let mut output = std::mem::take(&mut scratch.device_output);
        output.written = false;
        output.measured.resize_with(job.metrics.encodings.len(), || None);
        output.measured.iter_mut().for_each(|m| *m = None);
        let mut prepared = false;
        let mut any = false;
        for task in job.device_tasks() {
            let Some(bytes) = self.output_bytes(job, &task) else { continue };
            if !prepared {
                job::prepare(self.cpu, job, inputs, scratch)?;
                prepared = true;
            }
            if task.weighted == scratch.weights().is_empty() {
                continue;
            }
            let mut out = match task.slot {
                OutputSlot::Written => std::mem::take(&mut scratch.out),
                OutputSlot::Measured(_) => Vec::new(),
            };
            out.resize(bytes, 0);
            let done =
                self.run_device_task(&task, job, input, scratch, &mut out).await == DeviceOutcome::Done;
            any |= done;
            match task.slot {
                OutputSlot::Written => (scratch.out, output.written) = (out, done),
                OutputSlot::Measured(i) => output.measured[i] = done.then_some(out),
            }
        }
        scratch.device_output = output;
        Ok(any)
    }

    /// Runs one device task of a job.
    async fn run_device_task(
        &self,
        task: &DeviceTask<'_>,
        job: &Job,
        src: &[u8],
        scratch: &Workspace,
        out: &mut [u8],
    ) -> DeviceOutcome {
        let (from, to) = (task.from, task.to.dtype());
        let (Ok(rows), Ok(width)) = (job.window.height().try_into(), job.window.width().try_into()) else {
            return DeviceOutcome::Declined;
        };
        if task.ops.is_empty() {
            return self.make(KernelTask { from, to, width, src, weights: scratch.weights() }, out).await;
        }
        let Some(rotations) = self.rotations(task.ops) else { return DeviceOutcome::Declined };
        let Some(steps) = steps(task.ops, &rotations, scratch.gain(), (rows, width)) else {
            return DeviceOutcome::Declined;
        };
        self.rotate(RotationTask { from, src, rows, width, steps: &steps, to }, out).await
    }

    /// The rotations of `ops`, in order; `None` if one is invalid.
    fn rotations(&self, ops: &[Op]) -> Option<Vec<Arc<Rotation>>> {
        let mut known = lock(&self.rotations);
        let wanted = ops.iter().filter_map(|op| if let Op::Rotate(op) = op { Some(op) } else { None });
        let found = wanted.map(|op| {
            let same =
                |r: &&Arc<Rotation>| (r.len() as u64, r.form(), r.seed()) == (op.len, op.form, op.seed);
            if let Some(rotation) = known.iter().find(same) {
                return Some(Arc::clone(rotation));
            }
            if known.len() >= CACHED_ROTATIONS {
                known.clear();
            }
            known.push(Arc::new(Rotation::new(op.len, op.form, op.seed).ok()?));
            known.last().cloned()
        });
        found.collect()
    }

    /// Output bytes of a task; `None` if the device cannot do it. One exact kind of rotation kernel is
    /// enough.
    fn output_bytes(&self, job: &Job, task: &DeviceTask<'_>) -> Option<usize> {
        let Encoding::Type(to) = task.to else { return None };
        let (rotations, others): (Vec<Kernel>, Vec<Kernel>) =
            kernels(task).into_iter().partition(|k| matches!(k, Kernel::Rotate(_)));
        let rotates = rotations.is_empty() || rotations.iter().any(|k| self.is_exact(*k));
        let exact = rotates && others.iter().all(|k| self.is_exact(*k));
        // Importance weights belong to columns that are not rotated: no task has both.
        let possible =
            !(rotations.is_empty() && others.is_empty()) && (task.ops.is_empty() || !task.weighted);
        let values = job.window.height().checked_mul(job.window.width());
        values.filter(|n| exact && possible && *n > 0).and_then(|n| to.bytes_for(n)?.try_into().ok())
    }
}

/// The steps of a window in the order of the CPU reference: gains, rotations of rows, rotations of columns.
/// `None` if an op is none of these.
fn steps<'a>(
    ops: &[Op],
    rotations: &'a [Arc<Rotation>],
    gain: &'a [f32],
    (rows, width): (usize, usize),
) -> Option<Vec<MatrixStep<'a>>> {
    let (mut gains, mut of_rows, mut of_columns) = (Vec::new(), Vec::new(), Vec::new());
    let mut rotations = rotations.iter();
    for op in ops {
        match *op {
            Op::Gain(along) | Op::Ungain(along) => {
                let gain = gain.get(..if along == Axis::In { width } else { rows })?;
                gains.push(MatrixStep::Gain { along, gain, divides: matches!(op, Op::Ungain(_)) });
            }
            Op::Rotate(op) => {
                let step = MatrixStep::Rotate {
                    along: op.axis,
                    at: op.at.try_into().ok()?,
                    rotation: rotations.next()?,
                };
                if op.axis == Axis::In { &mut of_rows } else { &mut of_columns }.push(step);
            }
            Op::Add(_)
            | Op::Mean(_)
            | Op::Scale(_)
            | Op::TensorScale
            | Op::Set(_)
            | Op::NegExp
            | Op::LogNeg
            | Op::RoundF16
            | Op::Widen => return None,
        }
    }
    gains.append(&mut of_rows);
    gains.append(&mut of_columns);
    Some(gains)
}

/// All kernels that a task may need.
pub fn kernels(task: &DeviceTask<'_>) -> Vec<Kernel> {
    let Encoding::Type(to) = task.to else { return Vec::new() };
    if task.ops.is_empty() {
        return stages(task.from, to, task.weighted).collect();
    }
    let decode = stages(task.from, DType::F32, false).filter(|k| matches!(k, Kernel::Dequantize(_)));
    let rotate = [Arithmetic::HardwareF32, Arithmetic::SoftF32].map(Kernel::Rotate);
    let encode = Kernel::Quantize { from: DType::F32, to, weighted: task.weighted };
    decode.chain(rotate).chain((to != DType::F32).then_some(encode)).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Offload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.name, self.device.name())
    }
}
