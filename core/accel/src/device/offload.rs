//! Jobs with a device beside the processor: the device makes the bytes that it is trusted with, the processor makes some
//! of them again, measures, and does everything else.

use super::turn::Matrix;
use super::{Arithmetic, Device, Kernel, Outcome, Task, Verdict, judge, stages};
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::job::{self, Done, Job, Making, Recheck, Scratch, Slot};
use quantoscope_core::kernels::Kernels;
use quantoscope_core::quant::Encoding;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Which blocks are made again, unless somebody wants others.
const SEED: u64 = 0x7E57_ED0F_7E57_ED0F;

/// An engine that asks a device where its kernels are exact, and the processor elsewhere.
pub struct Offload {
    name: &'static str,
    device: Box<dyn Device>,
    kernels: Vec<(Kernel, Verdict)>,
    cpu: &'static dyn Kernels,
    seed: u64,
    trust: Trust,
}

/// Whether a device is still asked.
#[derive(Default)]
struct Trust {
    ended: AtomicBool,
    why: Mutex<Option<String>>,
}

impl Trust {
    fn end(&self, why: String) {
        self.ended.store(true, Ordering::Relaxed);
        self.why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    }
}

impl Offload {
    /// Probes every kernel of the device; `cpu` does what the device does not. A device that fails when it is probed is
    /// an error; one of which no kernel is exact too.
    pub async fn open(
        name: &'static str,
        device: Box<dyn Device>,
        cpu: &'static dyn Kernels,
    ) -> Result<Offload> {
        let offload = Offload::probed(name, device, cpu).await?;
        if offload.kernels.iter().all(|(_, verdict)| *verdict == Verdict::Refused) {
            let name = offload.device.name();
            let message = format!("{name} gave wrong bytes when it was probed, so it is not used");
            return Err(Error::new(Code::Device, message));
        }
        Ok(offload)
    }

    /// The same, of any device: one that is not exact is never asked.
    pub async fn probed(
        name: &'static str,
        device: Box<dyn Device>,
        cpu: &'static dyn Kernels,
    ) -> Result<Offload> {
        let mut kernels = Vec::new();
        for kernel in device.kernels() {
            kernels.push((kernel, judge(&*device, kernel).await?));
        }
        Ok(Offload { name, device, kernels, cpu, seed: SEED, trust: Trust::default() })
    }

    /// The same engine, which makes other blocks again.
    pub fn reseeded(self, seed: u64) -> Offload {
        Offload { seed, ..self }
    }

    /// The same engine, which asks its device for some kernels only: for others the processor is faster.
    pub fn choosing(mut self, chosen: impl Fn(Kernel) -> bool) -> Offload {
        self.kernels.retain(|(kernel, _)| chosen(*kernel));
        self
    }

    /// What it is asked for by, such as `cuda`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The device.
    pub fn device(&self) -> &dyn Device {
        &*self.device
    }

    /// What the probe found of each kernel.
    pub fn verdicts(&self) -> &[(Kernel, Verdict)] {
        &self.kernels
    }

    /// What does what the device does not.
    pub fn cpu(&self) -> &'static dyn Kernels {
        self.cpu
    }

    /// Why the device is not asked any more, if it is not.
    pub fn ended(&self) -> Option<String> {
        self.trust.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_exact(&self, kernel: Kernel) -> bool {
        self.kernels.contains(&(kernel, Verdict::Exact))
    }

    fn is_trusted(&self) -> bool {
        !self.trust.ended.load(Ordering::Relaxed)
    }

    /// Has the device do a task, if it is trusted with it and still there.
    pub async fn make(&self, task: Task<'_>, out: &mut [u8]) -> Outcome {
        if !self.is_trusted() || !task.kernels().all(|k| self.is_exact(k)) {
            return Outcome::Declined;
        }
        match self.device.run(task, out).await {
            Ok(outcome) => outcome,
            Err(e) => {
                self.trust.end(e.to_string());
                Outcome::Declined
            }
        }
    }

    /// Has the device turn a matrix, by floats if that is exact, and by whatever is always so where they decline.
    pub async fn rotate(&self, matrix: Matrix<'_>, out: &mut [u8]) -> Outcome {
        let encodes = matrix.encodes().is_none_or(|k| self.is_exact(k));
        for by in [Arithmetic::Guarded, Arithmetic::Exact] {
            if !self.is_trusted() || !encodes || !self.is_exact(Kernel::Rotate(by)) {
                continue;
            }
            match self.device.rotate(matrix, by, out).await {
                Ok(Outcome::Done) => return Outcome::Done,
                Ok(Outcome::Declined) => {}
                Err(e) => self.trust.end(e.to_string()),
            }
        }
        Outcome::Declined
    }

    /// Runs a job. What the device declines, or fails at, or is caught at, is done by the processor alone.
    pub async fn run(&self, job: &Job, inputs: &[&[u8]], scratch: &mut Scratch) -> Result<Done> {
        if !self.made(job, inputs, scratch).await? {
            return job::run(self.cpu, job, inputs, scratch);
        }
        let mut recheck = Recheck::new(self.seed);
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
    async fn made(&self, job: &Job, inputs: &[&[u8]], scratch: &mut Scratch) -> Result<bool> {
        let Some(input) = inputs.first().filter(|_| self.is_trusted()) else { return Ok(false) };
        let mut premade = std::mem::take(&mut scratch.premade);
        premade.written = false;
        premade.measured.resize_with(job.ask.encodings.len(), || None);
        premade.measured.iter_mut().for_each(|m| *m = None);
        let mut ready = false;
        let mut any = false;
        for making in job.makings() {
            let Some(bytes) = self.wants(job, &making) else { continue };
            if !ready {
                job::prepare(self.cpu, job, inputs, scratch)?;
                ready = true;
            }
            let (Encoding::Type(to), false) = (making.to, making.weighted == scratch.weights().is_empty())
            else {
                continue;
            };
            let mut out = match making.slot {
                Slot::Written => std::mem::take(&mut scratch.out),
                Slot::Measured(_) => Vec::new(),
            };
            out.resize(bytes, 0);
            let width = usize::try_from(job.window.width()).unwrap_or(0);
            let task = Task { from: making.from, to, width, src: input, weights: scratch.weights() };
            let done = self.make(task, &mut out).await == Outcome::Done;
            any |= done;
            match making.slot {
                Slot::Written => (scratch.out, premade.written) = (out, done),
                Slot::Measured(i) => premade.measured[i] = done.then_some(out),
            }
        }
        scratch.premade = premade;
        Ok(any)
    }

    /// The bytes that a making takes, where the device may be asked for it.
    fn wants(&self, job: &Job, making: &Making<'_>) -> Option<usize> {
        let Encoding::Type(to) = making.to else { return None };
        let mut kernels = stages(making.from, to, making.weighted);
        let known = making.ops.is_empty() && kernels.all(|k| self.is_exact(k));
        let values = job.window.height().checked_mul(job.window.width()).filter(|n| known && *n > 0)?;
        to.bytes_for(values).and_then(|n| usize::try_from(n).ok())
    }
}

impl fmt::Debug for Offload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.name, self.device.name())
    }
}
