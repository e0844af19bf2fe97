//! Jobs with a device beside the processor: the device makes the bytes that it is trusted with, the processor makes some
//! of them again, measures, and does everything else.

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

/// Which blocks are made again, unless somebody wants others.
const SEED: u64 = 0x7E57_ED0F_7E57_ED0F;

/// An engine that asks a device where its kernels are exact, and the processor elsewhere.
pub struct Offload {
    name: &'static str,
    device: Arc<dyn Device>,
    /// What it may be asked for, and what the probe found; what was not probed is not asked for.
    kernels: Mutex<Vec<(Kernel, Option<ProbeVerdict>)>>,
    cpu: &'static dyn Kernels,
    seed: u64,
    trust: Arc<Trust>,
    rotations: Mutex<Vec<Arc<Rotation>>>,
}

/// Rotations at hand: the heads of a layer have one each.
const AT_HAND: usize = 256;

/// Whether a device is still asked.
#[derive(Default)]
struct Trust {
    ended: AtomicBool,
    why: Mutex<Option<String>>,
}

impl Trust {
    fn end(&self, why: String) {
        self.ended.store(true, Ordering::Relaxed);
        lock(&self.why).get_or_insert(why);
    }
}

impl Offload {
    /// A device of which no kernel is used before it is probed; `cpu` does what the device does not.
    pub fn new(name: &'static str, device: Box<dyn Device>, cpu: &'static dyn Kernels) -> Offload {
        let kernels = device.kernels().into_iter().map(|k| (k, None)).collect();
        let (kernels, rotations) = (Mutex::new(kernels), Mutex::default());
        Offload { name, device: device.into(), kernels, cpu, seed: SEED, trust: Arc::default(), rotations }
    }

    /// Probes every kernel that `wanted` names and was not probed yet. Fails where the device does.
    pub async fn probe(&self, wanted: impl Fn(Kernel) -> bool) -> Result<()> {
        for (at, (kernel, verdict)) in self.verdicts().into_iter().enumerate() {
            if verdict.is_none() && wanted(kernel) {
                let verdict = probe_kernel(&*self.device, kernel).await?;
                lock(&self.kernels)[at].1 = Some(verdict);
            }
        }
        Ok(())
    }

    /// Probes what the jobs need. Fails where the device does, and where it is refused for everything that it was to do.
    pub async fn ready(&self, jobs: impl Iterator<Item = Job>) -> Result<()> {
        let mut wanted: Vec<Kernel> = Vec::new();
        for job in jobs {
            for kernel in job.device_tasks().flat_map(|m| kernels(&m)) {
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

    /// The same engine, which makes other blocks again.
    pub fn reseeded(self, seed: u64) -> Offload {
        Offload { seed, ..self }
    }

    /// The same engine, which asks its device for some kernels only: for others the processor is faster.
    pub fn choosing(self, chosen: impl Fn(Kernel) -> bool) -> Offload {
        lock(&self.kernels).retain(|(kernel, _)| chosen(*kernel));
        self
    }

    /// The same device, asked for some of its kernels only, and given up together with this one.
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

    /// What it is asked for by, such as `cuda`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The device.
    pub fn device(&self) -> &dyn Device {
        &*self.device
    }

    /// What the probe found of each kernel; nothing where it was not asked yet.
    pub fn verdicts(&self) -> Vec<(Kernel, Option<ProbeVerdict>)> {
        lock(&self.kernels).clone()
    }

    /// What does what the device does not.
    pub fn cpu(&self) -> &'static dyn Kernels {
        self.cpu
    }

    /// Why the device is not asked any more, if it is not.
    pub fn ended(&self) -> Option<String> {
        lock(&self.trust.why).clone()
    }

    /// Whether a kernel was found exact.
    pub fn is_exact(&self, kernel: Kernel) -> bool {
        lock(&self.kernels).contains(&(kernel, Some(ProbeVerdict::Exact)))
    }

    fn is_trusted(&self) -> bool {
        !self.trust.ended.load(Ordering::Relaxed)
    }

    /// Has the device do a task, if it is trusted with it and still there.
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

    /// Has the device turn a matrix, by floats if that is exact, and by whatever is always so where they decline.
    pub async fn rotate(&self, matrix: RotationTask<'_>, out: &mut [u8]) -> DeviceOutcome {
        let encodes = matrix.encodes().is_none_or(|k| self.is_exact(k));
        for by in [Arithmetic::Guarded, Arithmetic::Exact] {
            if !self.is_trusted() || !encodes || !self.is_exact(Kernel::Rotate(by)) {
                continue;
            }
            match self.device.rotate(matrix, by, out).await {
                Ok(DeviceOutcome::Done) => return DeviceOutcome::Done,
                Ok(DeviceOutcome::Declined) => {}
                Err(e) => self.trust.end(e.to_string()),
            }
        }
        DeviceOutcome::Declined
    }

    /// Runs a job. What the device declines, or fails at, or is caught at, is done by the processor alone.
    pub async fn run(&self, job: &Job, inputs: &[&[u8]], scratch: &mut Workspace) -> Result<Done> {
        if !self.made(job, inputs, scratch).await? {
            return job::run(self.cpu, job, inputs, scratch);
        }
        let mut recheck = SpotCheck::new(self.seed);
        match job::complete(self.cpu, job, inputs, scratch, &mut recheck) {
            Ok(done) if recheck.found.differing == 0 => Ok(done),
            completed => {
                // Where the processor fails too, it is not the device's fault.
                let done = job::run(self.cpu, job, inputs, scratch)?;
                // What could not even be measured is no block.
                recheck.found.differing += u64::from(completed.is_err());
                self.trust.end(format!("{} made wrong bytes", self.device.name()));
                Ok(Done { made: recheck.found, ..done })
            }
        }
    }

    /// Whether the device made any of the bytes of a job.
    async fn made(&self, job: &Job, inputs: &[&[u8]], scratch: &mut Workspace) -> Result<bool> {
        let Some(input) = inputs.first().filter(|_| self.is_trusted()) else { return Ok(false) };
        let mut premade = std::mem::take(&mut scratch.device_output);
        premade.written = false;
        premade.measured.resize_with(job.metrics.encodings.len(), || None);
        premade.measured.iter_mut().for_each(|m| *m = None);
        let mut ready = false;
        let mut any = false;
        for making in job.device_tasks() {
            let Some(bytes) = self.wants(job, &making) else { continue };
            if !ready {
                job::prepare(self.cpu, job, inputs, scratch)?;
                ready = true;
            }
            if making.weighted == scratch.weights().is_empty() {
                continue;
            }
            let mut out = match making.slot {
                OutputSlot::Written => std::mem::take(&mut scratch.out),
                OutputSlot::Measured(_) => Vec::new(),
            };
            out.resize(bytes, 0);
            let done = self.one(&making, job, input, scratch, &mut out).await == DeviceOutcome::Done;
            any |= done;
            match making.slot {
                OutputSlot::Written => (scratch.out, premade.written) = (out, done),
                OutputSlot::Measured(i) => premade.measured[i] = done.then_some(out),
            }
        }
        scratch.device_output = premade;
        Ok(any)
    }

    /// Has the device make one of the things that a job makes.
    async fn one(
        &self,
        making: &DeviceTask<'_>,
        job: &Job,
        src: &[u8],
        scratch: &Workspace,
        out: &mut [u8],
    ) -> DeviceOutcome {
        let (from, to) = (making.from, making.to.dtype());
        let (Ok(rows), Ok(width)) = (job.window.height().try_into(), job.window.width().try_into()) else {
            return DeviceOutcome::Declined;
        };
        if making.ops.is_empty() {
            return self.make(KernelTask { from, to, width, src, weights: scratch.weights() }, out).await;
        }
        let Some(rotations) = self.rotations(making.ops) else { return DeviceOutcome::Declined };
        let Some(steps) = steps(making.ops, &rotations, scratch.gain(), (rows, width)) else {
            return DeviceOutcome::Declined;
        };
        self.rotate(RotationTask { from, src, rows, width, steps: &steps, to }, out).await
    }

    /// The rotations of steps, in their order; none where one cannot be made.
    fn rotations(&self, ops: &[Op]) -> Option<Vec<Arc<Rotation>>> {
        let mut known = lock(&self.rotations);
        let turns = ops.iter().filter_map(|op| if let Op::Rotate(turn) = op { Some(turn) } else { None });
        let found = turns.map(|turn| {
            let same =
                |r: &&Arc<Rotation>| (r.len() as u64, r.form(), r.seed()) == (turn.len, turn.form, turn.seed);
            if let Some(rotation) = known.iter().find(same) {
                return Some(Arc::clone(rotation));
            }
            if known.len() >= AT_HAND {
                known.clear();
            }
            known.push(Arc::new(Rotation::new(turn.len, turn.form, turn.seed).ok()?));
            known.last().cloned()
        });
        found.collect()
    }

    /// The bytes that a making takes, where the device may be asked for it.
    fn wants(&self, job: &Job, making: &DeviceTask<'_>) -> Option<usize> {
        let Encoding::Type(to) = making.to else { return None };
        let needed = kernels(making);
        let turns = |k: &&Kernel| matches!(k, Kernel::Rotate(_));
        let any_way =
            needed.iter().any(|k| turns(&k) && self.is_exact(*k)) || !needed.iter().any(|k| turns(&k));
        let known = any_way && needed.iter().filter(|k| !turns(k)).all(|k| self.is_exact(*k));
        // Weights are of columns as they are, and nobody asks for both.
        let sane = !needed.is_empty() && (making.ops.is_empty() || !making.weighted);
        let values = job.window.height().checked_mul(job.window.width());
        values.filter(|n| known && sane && *n > 0).and_then(|n| to.bytes_for(n)?.try_into().ok())
    }
}

/// What happens to the values of a window: gains, then rotations along the columns, then along the rows, as the definition
/// does it; none where there is anything else.
fn steps<'a>(
    ops: &[Op],
    rotations: &'a [Arc<Rotation>],
    gain: &'a [f32],
    (rows, width): (usize, usize),
) -> Option<Vec<MatrixStep<'a>>> {
    let (mut gains, mut across, mut down) = (Vec::new(), Vec::new(), Vec::new());
    let mut rotations = rotations.iter();
    for op in ops {
        match *op {
            Op::Gain(along) | Op::Ungain(along) => {
                let gain = gain.get(..if along == Axis::In { width } else { rows })?;
                gains.push(MatrixStep::Gain { along, gain, divides: matches!(op, Op::Ungain(_)) });
            }
            Op::Rotate(turn) => {
                let step = MatrixStep::Rotate {
                    along: turn.axis,
                    at: turn.at.try_into().ok()?,
                    rotation: rotations.next()?,
                };
                if turn.axis == Axis::In { &mut across } else { &mut down }.push(step);
            }
            Op::Add(_) | Op::Mean(_) | Op::Set(_) => return None,
        }
    }
    gains.append(&mut across);
    gains.append(&mut down);
    Some(gains)
}

/// Every kernel that a making may need.
pub fn kernels(making: &DeviceTask<'_>) -> Vec<Kernel> {
    let Encoding::Type(to) = making.to else { return Vec::new() };
    if making.ops.is_empty() {
        return stages(making.from, to, making.weighted).collect();
    }
    let decode = stages(making.from, DType::F32, false).filter(|k| matches!(k, Kernel::Dequantize(_)));
    let ways = [Arithmetic::Guarded, Arithmetic::Exact].map(Kernel::Rotate);
    let encode = Kernel::Quantize { from: DType::F32, to, weighted: making.weighted };
    decode.chain(ways).chain((to != DType::F32).then_some(encode)).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Offload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.name, self.device.name())
    }
}
