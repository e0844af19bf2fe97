//! The report of `engines`.

use super::clean;
use super::table::{Align, Styled, Tone, plain, render};
use crate::verbs::engines::{DeviceReport, EnginesReport, KernelRow, Processor};
use quantoscope_core::error::Result;

/// Prints the report, as JSON or as text.
///
/// # Errors
///
/// `io` if standard output cannot be written to.
pub fn print(report: &EnginesReport, json: bool) -> Result<()> {
    if json { super::json(report) } else { super::print(&as_text(report)) }
}

fn as_text(report: &EnginesReport) -> String {
    let Processor { engine, others, threads } = &report.processor;
    let plural = if *threads == 1 { "" } else { "s" };
    let mut text = format!("processor  {engine}, {threads} thread{plural}; also {}\n", others.join(", "));
    for device in &report.devices {
        text.push_str(&format!("{:<11}{}\n", device.engine, described(device)));
    }
    text.push_str("\nweights per second, from memory to memory\n\n");
    let mut columns = vec![("work", Align::Left), ("processor", Align::Right)];
    columns.extend(present(report).flat_map(|(_, d)| [(d.engine, Align::Right), ("copies", Align::Right)]));
    columns.push(("auto", Align::Left));
    text.push_str(&render(&columns, report.work.iter().map(|row| cells(report, row))));
    text
}

/// The devices that were opened, with their indices.
fn present(report: &EnginesReport) -> impl Iterator<Item = (usize, &DeviceReport)> {
    report.devices.iter().enumerate().filter(|(_, d)| d.name.is_some())
}

fn described(device: &DeviceReport) -> String {
    let Some(name) = &device.name else { return clean(device.missing.as_deref().unwrap_or("none")) };
    let exact = device.kernels.iter().filter(|k| k.exact).count();
    let refused: Vec<&str> = device.kernels.iter().filter(|k| !k.exact).map(|k| k.kernel.as_str()).collect();
    let software = if device.software { ", emulated on the processor: never chosen by auto" } else { "" };
    let mut text =
        format!("{}{software}\n{:11}{exact} of {} kernels exact", clean(name), "", device.kernels.len());
    if !refused.is_empty() {
        text.push_str(&format!("; wrong results, done by the processor: {}", refused.join(", ")));
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

/// Three digits and a unit, in weights per second.
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
