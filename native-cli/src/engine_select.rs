//! Which engine `auto` is: measured on this machine, for the work at hand.

use quantoscope_accel::device::{Kernel, Offload, benchmark, kernels};
use quantoscope_accel::{DEVICES, Engine, open_device};
use quantoscope_core::job::Job;
use quantoscope_core::kernels::Kernels;
use std::thread;
use std::time::Instant;

/// Work that the processor does in so many seconds is done before a device is ready.
const SHORT: f64 = 10.0;
/// A device has to be so much faster: the processor measures meanwhile.
const FASTER: f64 = 1.25;

/// The engine for these jobs, on so many threads. Devices are opened only where that could pay.
pub fn engine(jobs: impl Iterator<Item = Job>, threads: u32) -> Engine {
    let cpu = Engine::auto();
    let work: Vec<KernelLoad> =
        work(jobs).into_iter().map(|(k, n)| KernelLoad::new(k, n, cpu.kernels(), threads)).collect();
    if work.iter().map(|w| w.seconds()).sum::<f64>() < SHORT {
        return cpu;
    }
    let mut best = (0.0, None);
    for name in DEVICES {
        let Ok(offload) = pollster::block_on(open_device(name)) else { continue };
        let probed = |k: Kernel| work.iter().any(|w| w.kernel == k) || matches!(k, Kernel::Dequantize(_));
        if offload.device().is_software() || pollster::block_on(offload.probe(probed)).is_err() {
            continue;
        }
        let chosen: Vec<Kernel> =
            work.iter().filter(|w| w.faster(&offload, threads)).map(|w| w.kernel).collect();
        let saved = work.iter().filter(|w| chosen.contains(&w.kernel)).map(KernelLoad::seconds).sum::<f64>();
        if saved > best.0 {
            let kept = |k: Kernel| chosen.contains(&k) || matches!(k, Kernel::Dequantize(_));
            best = (saved, Some(offload.choosing(kept)));
        }
    }
    best.1.map_or(cpu, Engine::of)
}

/// What is asked of a kernel, and how fast the processor is at it.
struct KernelLoad {
    kernel: Kernel,
    values: u64,
    rate: f64,
}

impl KernelLoad {
    fn new(kernel: Kernel, values: u64, cpu: &dyn Kernels, threads: u32) -> KernelLoad {
        let rate = processor(cpu, kernel, 1).unwrap_or(f64::INFINITY) * f64::from(threads);
        KernelLoad { kernel, values, rate }
    }

    fn seconds(&self) -> f64 {
        self.values as f64 / self.rate
    }

    fn faster(&self, offload: &Offload, threads: u32) -> bool {
        device(offload, self.kernel, threads).is_some_and(|rate| is_worth_it(rate, self.rate))
    }
}

/// The encoders that the values of jobs go through, and how many do.
fn work(jobs: impl Iterator<Item = Job>) -> Vec<(Kernel, u64)> {
    let mut work: Vec<(Kernel, u64)> = Vec::new();
    for job in jobs {
        let values = job.window.height().saturating_mul(job.window.width());
        for kernel in
            job.device_tasks().flat_map(|m| kernels(&m)).filter(|k| matches!(k, Kernel::Quantize { .. }))
        {
            match work.iter_mut().find(|(k, _)| *k == kernel) {
                Some((_, n)) => *n += values,
                None => work.push((kernel, values)),
            }
        }
    }
    work
}

/// Whether a device that does so many weights per second is to be taken.
pub fn is_worth_it(device: f64, processor: f64) -> bool {
    device > FASTER * processor
}

fn clock() -> impl Fn() -> f64 {
    let start = Instant::now();
    move || start.elapsed().as_secs_f64()
}

/// Weights per second of the processor on so many threads.
pub fn processor(cpu: &dyn Kernels, kernel: Kernel, threads: u32) -> Option<f64> {
    sum_of_threads(threads, || benchmark::of_processor(cpu, kernel, &clock()))
}

/// Weights per second of a device that so many threads ask; none where its kernel is not exact.
pub fn device(offload: &Offload, kernel: Kernel, threads: u32) -> Option<f64> {
    let rate = || pollster::block_on(benchmark::of_device(offload, kernel, &clock()));
    offload.is_exact(kernel).then(|| sum_of_threads(threads, rate)).flatten()
}

/// Weights per second that a device's copies alone allow.
pub fn copies(offload: &Offload, kernel: Kernel, threads: u32) -> Option<f64> {
    sum_of_threads(threads, || pollster::block_on(benchmark::of_copies(offload, kernel, &clock())))
}

/// The sum of what threads measure at the same time.
fn sum_of_threads(threads: u32, measure: impl Fn() -> Option<f64> + Sync) -> Option<f64> {
    thread::scope(|scope| {
        let start = |_| thread::Builder::new().spawn_scoped(scope, &measure).ok();
        let workers: Vec<_> = (0..threads).map_while(start).collect();
        workers.into_iter().map(|w| w.join().ok().flatten()).sum()
    })
}
