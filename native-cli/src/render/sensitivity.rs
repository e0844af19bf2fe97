//! The report of `sensitivity`, and the curve of `plan --curve`.

use super::order::in_order;
use super::quantized::tokens_of;
use super::table::{Align, Styled, Tone, plain, render, tsv};
use super::{Format, count, percent, sci, size};
use quantoscope_core::error::Result;
use quantoscope_core::report::{RotationKlReport, RotationKlRow};
use quantoscope_core::sensitivity::fit::CurvePoint;
use quantoscope_core::sensitivity::report::{SensitivityReport, SensitivityRow};

/// Prints the report.
///
/// # Errors
///
/// `io` if standard output cannot be written to.
pub fn print(report: &SensitivityReport, format: Format) -> Result<()> {
    match format {
        Format::Json => super::json(report),
        Format::Tsv => super::print(&as_tsv(report)),
        Format::Table => super::print(&(as_table(report) + &below(report))),
    }
}

fn rows(report: &SensitivityReport) -> Vec<&SensitivityRow> {
    in_order(report.tensors.iter(), |r| &r.name)
}

/// A row for each tensor and type.
fn as_tsv(report: &SensitivityReport) -> String {
    let head = [
        "tensor",
        "group",
        "weights",
        "base",
        "kl",
        "rank",
        "squared_error",
        "sensitivity",
        "type",
        "bytes",
        "type_squared_error",
        "type_relative_error",
        "predicted_kl",
    ];
    let mut text = tsv(head);
    let number = |x: Option<f64>| x.map_or_else(String::new, |x| format!("{x:.9e}"));
    for row in rows(report) {
        for t in &row.types {
            text.push_str(&tsv([
                row.name.clone(),
                row.group.clone().unwrap_or_default(),
                row.weights.to_string(),
                row.base.to_string(),
                number(row.kl),
                row.rank.map_or_else(String::new, |r| r.to_string()),
                number(row.squared_error),
                number(row.sensitivity),
                t.dtype.to_string(),
                t.bytes.to_string(),
                number(Some(t.squared_error)),
                number(Some(t.relative_error)),
                number(t.predicted_kl),
            ]));
        }
    }
    text
}

/// The tensors, the most sensitive one first.
fn as_table(report: &SensitivityReport) -> String {
    let right = |name| (name, Align::Right);
    let columns = [
        right("rank"),
        ("tensor", Align::Left),
        right("weights"),
        ("base", Align::Left),
        right("KL"),
        right("rel. error"),
        right("KL per squared error"),
    ];
    let mut ranked = rows(report);
    ranked.sort_by_key(|r| r.rank.unwrap_or(u64::MAX));
    let row = |r: &&SensitivityRow| -> Vec<Styled> {
        let relative = r.squared_error.filter(|_| r.squared_norm > 0.0).map(|e| (e / r.squared_norm).sqrt());
        vec![
            plain(r.rank.map_or_else(|| "–".into(), |n| n.to_string())),
            plain(r.name.clone()),
            plain(count(r.weights)),
            (r.base.to_string(), Tone::Dim),
            plain(sci(r.kl)),
            plain(percent(relative)),
            plain(sci(r.sensitivity)),
        ]
    };
    render(&columns, ranked.iter().map(row).collect::<Vec<_>>())
}

fn below(report: &SensitivityReport) -> String {
    let per = if report.grouped {
        "tensors of a kind in a third of the depth were measured together; each has the share of its squared error"
    } else {
        "each tensor was measured alone"
    };
    let unread = report.tensors.iter().filter(|r| r.kl.is_none()).count();
    let unread = match unread {
        0 => String::new(),
        1 => "\n1 tensor is read by no pass and has no divergence".into(),
        n => format!("\n{n} tensors are read by no pass and have no divergence"),
    };
    format!(
        "\nKL divergence of the model's output in nats a token, on {}; {per}{unread}\n",
        tokens_of(report.tokens, &report.tokens_from)
    )
}

/// Prints what types do to the output of a model, rotated and not.
///
/// # Errors
///
/// `io` if standard output cannot be written to.
pub fn print_rotations(report: &RotationKlReport, format: Format) -> Result<()> {
    let change = |row: &RotationKlRow| {
        let plain = row.change.map(|c| row.kl - c).filter(|p| *p > 0.0);
        row.change.zip(plain).map(|(c, p)| c / p)
    };
    match format {
        Format::Json => super::json(report),
        Format::Tsv => {
            let mut text = tsv(["type", "rotation", "bytes", "quantized", "kl", "change"]);
            for row in &report.rows {
                text.push_str(&tsv([
                    row.dtype.to_string(),
                    row.rotation.clone(),
                    row.bytes.to_string(),
                    row.quantized.to_string(),
                    format!("{:.9e}", row.kl),
                    row.change.map_or_else(String::new, |c| format!("{c:.9e}")),
                ]));
            }
            super::print(&text)
        }
        Format::Table => {
            let right = |name| (name, Align::Right);
            let columns = [
                ("type", Align::Left),
                ("rotation", Align::Left),
                right("size"),
                right("KL"),
                right("change"),
            ];
            let row = |row: &RotationKlRow| {
                let tone = match row.change {
                    Some(c) if c < 0.0 => Tone::Good,
                    Some(c) if c > 0.0 => Tone::Bad,
                    _ => Tone::Plain,
                };
                let words = change(row).map_or_else(String::new, |c| format!("{:+.1} %", 100.0 * c));
                vec![
                    plain(row.dtype.to_string()),
                    plain(row.rotation.clone()),
                    plain(size(row.bytes)),
                    plain(sci(Some(row.kl))),
                    (words, tone),
                ]
            };
            let table = render(&columns, report.rows.iter().map(row).collect::<Vec<_>>());
            super::print(&format!(
                "{table}\nKL divergence of the model's output from its source in nats a token, on {}\n",
                tokens_of(report.tokens, &report.tokens_from)
            ))
        }
    }
}

/// Prints a curve of sizes and predicted damage.
///
/// # Errors
///
/// `io` if standard output cannot be written to.
pub fn print_curve(points: &[CurvePoint], json: bool) -> Result<()> {
    if json {
        return super::json(&points);
    }
    let right = |name| (name, Align::Right);
    let columns = [
        right("bytes"),
        right("size"),
        right("bits per weight"),
        right("predicted KL"),
        ("types", Align::Left),
    ];
    let row = |p: &CurvePoint| {
        let (types, tone) = match &p.preset {
            Some(preset) => (preset.clone(), Tone::Dim),
            None => ("chosen for the size".into(), Tone::Plain),
        };
        vec![
            plain(count(p.bytes)),
            plain(size(p.bytes)),
            plain(p.bits_per_weight.map_or_else(|| "–".into(), |b| format!("{b:.3}"))),
            plain(sci(Some(p.predicted_kl))),
            (types, tone),
        ]
    };
    super::print(&render(&columns, points.iter().map(row).collect::<Vec<_>>()))
}
