//! The engine that `--engine auto` stands for: rates measured on this machine, and the policy of [`select`].

use quantoscope_accel::device::{Kernel, Offload, benchmark};
use quantoscope_accel::{DEVICES, Engine, open_device, select};
use quantoscope_core::job::Job;
use quantoscope_core::kernels::Kernels;
use std::thread;
use std::time::Instant;

/// The engine for these jobs on `threads` threads, by [`select`]. Devices are opened only for work that is long enough.
pub(crate) fn engine(jobs: impl Iterator<Item = Job>, threads: u32) -> Engine {
    let cpu = Engine::auto();
    let rate = |k: Kernel| processor(cpu.kernels(), k, 1).unwrap_or(f64::INFINITY) * f64::from(threads);
    let loads = select::loads(jobs, rate);
    if !select::is_long(&loads) {
        return cpu;
    }
    let mut best = (0.0, None);
    for name in DEVICES {
        let Ok(offload) = pollster::block_on(open_device(name)) else { continue };
        let needed = |k: Kernel| loads.iter().any(|l| l.kernel == k) || matches!(k, Kernel::Dequantize(_));
        if offload.device().is_software() || pollster::block_on(offload.probe(needed)).is_err() {
            continue;
        }
        let (chosen, saved) = select::offloaded(&loads, |k| device(&offload, k, threads));
        if saved > best.0 {
            best = (saved, Some(select::restricted(offload, &chosen)));
        }
    }
    best.1.map_or(cpu, Engine::of)
}

fn clock() -> impl Fn() -> f64 {
    let start = Instant::now();
    move || start.elapsed().as_secs_f64()
}

/// Weights per second of the processor on so many threads.
pub(crate) fn processor(cpu: &dyn Kernels, kernel: Kernel, threads: u32) -> Option<f64> {
    sum_of_threads(threads, || benchmark::of_processor(cpu, kernel, &clock()))
}

/// Weights per second of a device that so many threads ask; none where its kernel is not exact.
pub(crate) fn device(offload: &Offload, kernel: Kernel, threads: u32) -> Option<f64> {
    let rate = || pollster::block_on(benchmark::of_device(offload, kernel, &clock()));
    offload.is_exact(kernel).then(|| sum_of_threads(threads, rate)).flatten()
}

/// Weights per second that a device's copies alone allow.
pub(crate) fn copies(offload: &Offload, kernel: Kernel, threads: u32) -> Option<f64> {
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
