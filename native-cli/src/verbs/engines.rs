//! `engines`: the engines of this machine, whether they are exact, their speed, and the choice of `auto`.

use super::threads;
use crate::engine_select;
use crate::options::EnginesOptions;
use quantoscope_accel::device::{Kernel, Offload, ProbeVerdict};
use quantoscope_accel::select::is_worth_it;
use quantoscope_accel::{DEVICES, Engine, open_device};
use quantoscope_core::DType;
use quantoscope_core::error::Result;
use serde::Serialize;

/// The engines of this machine.
#[derive(Debug, Serialize)]
pub struct EnginesReport {
    /// The processor.
    pub processor: Processor,
    /// Every kind of device that this build supports.
    pub devices: Vec<DeviceReport>,
    /// Speed per kernel, on values stored as BF16, or blocks decoded to F32.
    pub work: Vec<KernelRow>,
}

/// The processor's engines.
#[derive(Debug, Serialize)]
pub struct Processor {
    /// The fastest instruction set.
    pub engine: &'static str,
    /// The other instruction sets, the fastest first.
    pub others: Vec<&'static str>,
    /// Threads of the measurement.
    pub threads: u32,
}

/// A kind of device.
#[derive(Debug, Serialize)]
pub struct DeviceReport {
    /// The name for `--engine`.
    pub engine: &'static str,
    /// The device's own name; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// Whether it is emulated on the processor.
    pub software: bool,
    /// The kernels that were probed.
    pub kernels: Vec<ProbedKernel>,
}

/// A kernel of a device.
#[derive(Debug, Serialize)]
pub struct ProbedKernel {
    /// Its name.
    pub kernel: String,
    /// Whether its bytes equal the definition's.
    pub exact: bool,
}

/// The speed of a kernel, in weights per second.
#[derive(Debug, Serialize)]
pub struct KernelRow {
    /// The kernel.
    pub work: String,
    /// The processor, with all threads.
    pub processor: Option<f64>,
    /// The devices, in the order of [`EnginesReport::devices`].
    pub devices: Vec<Option<f64>>,
    /// The limit set by copies to and from each device.
    pub copies: Vec<Option<f64>>,
    /// The choice of `auto`.
    pub auto: &'static str,
}

/// Opens and probes every device, and measures every kernel for a moment. Takes seconds.
///
/// # Errors
///
/// None today: a device that does not open is reported as missing.
pub fn run(options: &EnginesOptions) -> Result<EnginesReport> {
    let threads = threads(options.threads);
    let cpu = Engine::auto();
    let probed = async |name| {
        let offload: Offload = open_device(name).await?;
        offload.probe(|_| true).await.map(|()| offload)
    };
    let opened: Vec<_> = DEVICES.iter().map(|name| pollster::block_on(probed(name))).collect();
    let open: Vec<Option<&Offload>> = opened.iter().map(|o| o.as_ref().ok()).collect();
    let others = Engine::available().into_iter().rev().map(Engine::name).filter(|n| *n != cpu.name());
    Ok(EnginesReport {
        processor: Processor { engine: cpu.name(), others: others.collect(), threads },
        devices: DEVICES.iter().zip(&opened).map(|(name, o)| device(name, o)).collect(),
        work: kernels(&open).into_iter().map(|k| row(k, cpu, &open, threads)).collect(),
    })
}

fn device(engine: &'static str, opened: &Result<Offload>) -> DeviceReport {
    let missing = opened.as_ref().err().map(ToString::to_string);
    let opened = opened.as_ref().ok();
    let probed =
        |(k, v): (Kernel, _)| ProbedKernel { kernel: k.to_string(), exact: v == Some(ProbeVerdict::Exact) };
    DeviceReport {
        engine,
        name: opened.map(|o| o.device().name().to_string()),
        missing,
        software: opened.is_some_and(|o| o.device().is_software()),
        kernels: opened.map(|o| o.verdicts().into_iter().map(probed).collect()).unwrap_or_default(),
    }
}

/// The kernels that some device has; without devices, four common types.
fn kernels(open: &[Option<&Offload>]) -> Vec<Kernel> {
    let mut all: Vec<Kernel> = Vec::new();
    let measured =
        |k: &Kernel| !matches!(k, Kernel::Quantize { from: DType::F32 | DType::F16, .. } | Kernel::Rotate(_));
    for (kernel, _) in open.iter().flatten().flat_map(|o| o.verdicts()).filter(|(k, _)| measured(k)) {
        if !all.contains(&kernel) {
            all.push(kernel);
        }
    }
    if all.is_empty() {
        let types = [DType::Q8_0, DType::Q4_0, DType::Q4_K, DType::Q6_K];
        all.extend(types.map(|to| Kernel::Quantize { from: DType::BF16, to, weighted: false }));
    }
    all
}

fn row(kernel: Kernel, cpu: Engine, open: &[Option<&Offload>], threads: u32) -> KernelRow {
    let processor = engine_select::processor(cpu.kernels(), kernel, threads);
    let devices: Vec<Option<f64>> =
        open.iter().map(|o| o.and_then(|o| engine_select::device(o, kernel, threads))).collect();
    let copies = open.iter().map(|o| o.and_then(|o| engine_select::copies(o, kernel, threads))).collect();
    let able = open.iter().zip(&devices).zip(DEVICES).filter_map(|((o, rate), name)| {
        let rate = rate.filter(|_| o.is_some_and(|o| !o.device().is_software()))?;
        is_worth_it(rate, processor.unwrap_or(0.0)).then_some((rate, *name))
    });
    let auto = able.max_by(|a, b| a.0.total_cmp(&b.0)).map_or("processor", |(_, name)| name);
    KernelRow { work: kernel.to_string(), processor, devices, copies, auto }
}
