//! `engines`: what can do the work here, whether it is exact, how fast it is, and what `auto` would take.

use crate::args::EnginesArgs;
use crate::engine_select;
use crate::render::table::{Align, Styled, Tone, plain, render};
use crate::render::{self, clean};
use quantoscope_accel::device::{Kernel, Offload, ProbeVerdict};
use quantoscope_accel::select::is_worth_it;
use quantoscope_accel::{DEVICES, Engine, open_device};
use quantoscope_core::DType;
use quantoscope_core::error::Result;
use serde::Serialize;
use std::process::ExitCode;
use std::thread;

/// What there is.
#[derive(Serialize)]
struct EnginesReport {
    processor: Processor,
    devices: Vec<DeviceReport>,
    /// What is measured: values stored as BF16, or blocks to F32.
    work: Vec<KernelRow>,
}

#[derive(Serialize)]
struct Processor {
    engine: &'static str,
    others: Vec<&'static str>,
    threads: u32,
}

#[derive(Serialize)]
struct DeviceReport {
    engine: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<String>,
    software: bool,
    kernels: Vec<Probed>,
}

#[derive(Serialize)]
struct Probed {
    kernel: String,
    exact: bool,
}

/// A kind of work, in weights per second.
#[derive(Serialize)]
struct KernelRow {
    work: String,
    processor: Option<f64>,
    /// In the order of `devices`.
    devices: Vec<Option<f64>>,
    /// What their copies alone allow.
    copies: Vec<Option<f64>>,
    auto: &'static str,
}

pub fn run(args: &EnginesArgs) -> Result<ExitCode> {
    let threads =
        args.threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, |n| n.get() as u32));
    let cpu = Engine::auto();
    let probed = async |name| {
        let offload: Offload = open_device(name).await?;
        offload.probe(|_| true).await.map(|()| offload)
    };
    let opened: Vec<_> = DEVICES.iter().map(|name| pollster::block_on(probed(name))).collect();
    let open: Vec<Option<&Offload>> = opened.iter().map(|o| o.as_ref().ok()).collect();
    let others = Engine::available().into_iter().rev().map(Engine::name).filter(|n| *n != cpu.name());
    let report = EnginesReport {
        processor: Processor { engine: cpu.name(), others: others.collect(), threads },
        devices: DEVICES.iter().zip(&opened).map(|(name, o)| device(name, o)).collect(),
        work: kernels(&open).into_iter().map(|k| row(k, cpu, &open, threads)).collect(),
    };
    match args.json {
        true => render::json(&report)?,
        false => render::print(&as_text(&report))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn device(engine: &'static str, opened: &Result<Offload>) -> DeviceReport {
    let missing = opened.as_ref().err().map(ToString::to_string);
    let opened = opened.as_ref().ok();
    let probed =
        |(k, v): (Kernel, _)| Probed { kernel: k.to_string(), exact: v == Some(ProbeVerdict::Exact) };
    DeviceReport {
        engine,
        name: opened.map(|o| o.device().name().to_string()),
        missing,
        software: opened.is_some_and(|o| o.device().is_software()),
        kernels: opened.map(|o| o.verdicts().into_iter().map(probed).collect()).unwrap_or_default(),
    }
}

/// What some device has a kernel for; where there is none, what takes the processor longest.
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

fn as_text(report: &EnginesReport) -> String {
    let Processor { engine, others, threads } = &report.processor;
    let plural = if *threads == 1 { "" } else { "s" };
    let mut text = format!("processor  {engine}, {threads} thread{plural}; also {}\n", others.join(", "));
    for device in &report.devices {
        text.push_str(&format!("{:<11}{}\n", device.engine, described(device)));
    }
    text.push_str("\nweights per second, from and to memory\n\n");
    let mut columns = vec![("work", Align::Left), ("processor", Align::Right)];
    columns
        .extend(present(report).flat_map(|(_, d)| [(d.engine, Align::Right), ("its copies", Align::Right)]));
    columns.push(("auto takes", Align::Left));
    text.push_str(&render(&columns, report.work.iter().map(|row| cells(report, row))));
    text
}

/// The devices that there are, with their places.
fn present(report: &EnginesReport) -> impl Iterator<Item = (usize, &DeviceReport)> {
    report.devices.iter().enumerate().filter(|(_, d)| d.name.is_some())
}

fn described(device: &DeviceReport) -> String {
    let Some(name) = &device.name else { return clean(device.missing.as_deref().unwrap_or("none")) };
    let exact = device.kernels.iter().filter(|k| k.exact).count();
    let refused: Vec<&str> = device.kernels.iter().filter(|k| !k.exact).map(|k| k.kernel.as_str()).collect();
    let software = if device.software { ", a program on the processor: auto never takes it" } else { "" };
    let mut text =
        format!("{}{software}\n{:11}{exact} of {} kernels exact", clean(name), "", device.kernels.len());
    if !refused.is_empty() {
        text.push_str(&format!("; refused, and left to the processor: {}", refused.join(", ")));
    }
    text
}

fn cells(report: &EnginesReport, row: &KernelRow) -> Vec<Styled> {
    let mut cells = vec![plain(row.work.clone()), plain(rate(row.processor))];
    let at = |rates: &[Option<f64>], at: usize| match rates.get(at).copied().flatten() {
        Some(n) => plain(rate(Some(n))),
        None => ("–".into(), Tone::Dim),
    };
    cells.extend(present(report).flat_map(|(n, _)| [at(&row.devices, n), at(&row.copies, n)]));
    cells.push(plain(row.auto.to_string()));
    cells
}

/// Three digits and a unit.
fn rate(weights: Option<f64>) -> String {
    let Some(n) = weights else { return "–".into() };
    let (n, unit) = if n >= 1e9 { (n / 1e9, "G") } else { (n / 1e6, "M") };
    let decimals = if n >= 100.0 {
        0
    } else if n >= 10.0 {
        1
    } else {
        2
    };
    format!("{n:.decimals$} {unit}")
}
