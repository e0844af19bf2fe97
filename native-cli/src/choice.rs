//! Which engine `auto` is: measured on this machine, for the work at hand.

use quantoscope_accel::device::{Kernel, Offload, Verdict, pace};
use quantoscope_accel::{DEVICES, Engine, open_device};
use quantoscope_core::DType;
use quantoscope_core::kernels::Kernels;
use quantoscope_core::plan::{Finish, Plan, RowMap};
use quantoscope_core::quant::Encoding;
use std::thread;
use std::time::Instant;

/// Work that the processor does in so many seconds is done before a device is ready.
const SHORT: f64 = 10.0;
/// A device has to be so much faster: the processor measures meanwhile.
const FASTER: f64 = 1.25;

/// The engine for a plan, on so many threads. Devices are opened only where that could pay.
pub fn engine(plan: &Plan, threads: u32) -> Engine {
    let cpu = Engine::auto();
    let work: Vec<Work> = work(plan).into_iter().map(|(k, n)| Work::new(k, n, cpu.kernels(), threads)).collect();
    if work.iter().map(|w| w.seconds()).sum::<f64>() < SHORT {
        return cpu;
    }
    let mut best = (0.0, None);
    for name in DEVICES {
        let Ok(offload) = pollster::block_on(open_device(name)) else { continue };
        if offload.device().is_software() {
            continue;
        }
        let chosen: Vec<Kernel> = work.iter().filter(|w| w.faster(&offload, threads)).map(|w| w.kernel).collect();
        let saved = work.iter().filter(|w| chosen.contains(&w.kernel)).map(Work::seconds).sum::<f64>();
        if saved > best.0 {
            best = (saved, Some(offload.choosing(|k| chosen.contains(&k))));
        }
    }
    best.1.map_or(cpu, Engine::of)
}

/// What a plan asks of a kernel, and how fast the processor is at it.
struct Work {
    kernel: Kernel,
    values: u64,
    rate: f64,
}

impl Work {
    fn new(kernel: Kernel, values: u64, cpu: &dyn Kernels, threads: u32) -> Work {
        let rate = processor(cpu, kernel, 1).unwrap_or(f64::INFINITY) * f64::from(threads);
        Work { kernel, values, rate }
    }

    fn seconds(&self) -> f64 {
        self.values as f64 / self.rate
    }

    fn faster(&self, offload: &Offload, threads: u32) -> bool {
        device(offload, self.kernel, threads).is_some_and(|rate| pays(rate, self.rate))
    }
}

/// The kernels that a plan's values go through, and how many do.
fn work(plan: &Plan) -> Vec<(Kernel, u64)> {
    let mut work: Vec<(Kernel, u64)> = Vec::new();
    for output in &plan.outputs {
        // Devices are not asked for anything between decoding and encoding.
        for piece in output.pieces.iter().filter(|p| p.from.ops.is_empty() && p.from.map == RowMap::Identity) {
            let values = (piece.rows.end - piece.rows.start).saturating_mul(output.grid.cols);
            let written = match piece.finish {
                Finish::Encode(e) => Some(e),
                _ => None,
            };
            for encoding in written.iter().chain(&output.ask.encodings) {
                let Some(kernel) = kernel(piece.from.dtype, *encoding, piece.importance.is_some()) else { continue };
                match work.iter_mut().find(|(k, _)| *k == kernel) {
                    Some((_, n)) => *n += values,
                    None => work.push((kernel, values)),
                }
            }
        }
    }
    work
}

fn kernel(from: DType, to: Encoding, weighted: bool) -> Option<Kernel> {
    let Encoding::Type(to) = to else { return None };
    let plain = |d| matches!(d, DType::F32 | DType::F16 | DType::BF16);
    match (plain(from), plain(to)) {
        (true, false) => Some(Kernel::Quantize { from, to, weighted }),
        (false, false) => Some(Kernel::Quantize { from: DType::F32, to, weighted }),
        _ => None,
    }
}

/// Whether a device that does so many weights per second is to be taken.
pub fn pays(device: f64, processor: f64) -> bool {
    device > FASTER * processor
}

fn clock() -> impl Fn() -> f64 {
    let start = Instant::now();
    move || start.elapsed().as_secs_f64()
}

/// Weights per second of the processor on so many threads.
pub fn processor(cpu: &dyn Kernels, kernel: Kernel, threads: u32) -> Option<f64> {
    together(threads, || pace::of_processor(cpu, kernel, &clock()))
}

/// Weights per second of a device that so many threads ask; none where its kernel is not exact.
pub fn device(offload: &Offload, kernel: Kernel, threads: u32) -> Option<f64> {
    let exact = offload.verdicts().contains(&(kernel, Verdict::Exact));
    let rate = || pollster::block_on(pace::of_device(offload, kernel, &clock()));
    exact.then(|| together(threads, rate)).flatten()
}

/// The sum of what threads measure at the same time.
fn together(threads: u32, measure: impl Fn() -> Option<f64> + Sync) -> Option<f64> {
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(&measure)).collect();
        workers.into_iter().map(|w| w.join().ok().flatten()).sum()
    })
}
