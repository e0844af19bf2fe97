//! The report of `compare`.

use super::table::{Align, Tone, plain, render, tsv};
use super::{Format, clean, count, fixed, percent, plural, sci};
use quantoscope_core::error::Result;
use quantoscope_core::plan::pair::Finding;
use quantoscope_core::report::{CompareReport, CompareRow, CompareVerdict, RowView};

/// Prints the report.
///
/// # Errors
///
/// `io` if standard output cannot be written to.
pub fn print(report: &CompareReport, format: Format) -> Result<()> {
    match format {
        Format::Json => super::json(report),
        Format::Tsv => print_tsv(report),
        Format::Table => print_table(report),
    }
}

fn verdict(v: CompareVerdict) -> (&'static str, Tone) {
    match v {
        CompareVerdict::Green => ("green", Tone::Good),
        CompareVerdict::Yellow => ("yellow", Tone::Fair),
        CompareVerdict::Red => ("red", Tone::Bad),
    }
}

fn print_tsv(report: &CompareReport) -> Result<()> {
    let mut text = tsv(["tensor", "qtype", "numel", "rmse", "cosine", "max_abs", "verdict"]);
    let number = |x: Option<f64>| x.map_or_else(String::new, |x| format!("{x:.6e}"));
    for r in &report.tensors {
        let cosine = r.error.cosine.map_or_else(String::new, |c| format!("{c:.6}"));
        text.push_str(&tsv([
            r.tensor.as_str(),
            r.qtype.name(),
            &r.numel.to_string(),
            &number(r.error.rmse),
            &cosine,
            &number(r.error.max_abs),
            verdict(r.verdict).0,
        ]));
    }
    super::print(&text)?;
    for f in &report.findings {
        super::note(&format!("finding: {}", line(f)));
    }
    Ok(())
}

fn line(f: &Finding) -> String {
    let tensor = f.tensor.as_ref().map(|t| format!(" {t}")).unwrap_or_default();
    clean(&format!("{}{tensor}: {}", f.kind, f.detail))
}

fn row(r: &CompareRow) -> Vec<(String, Tone)> {
    let (word, tone) = verdict(r.verdict);
    vec![
        plain(&*r.tensor),
        plain(r.qtype.name()),
        plain(count(r.numel)),
        plain(sci(r.error.rmse)),
        plain(percent(r.error.relative_error)),
        plain(fixed(r.error.sqnr_db, 2)),
        plain(fixed(r.error.cosine, 6)),
        plain(fixed(r.figure, 6)),
        plain(r.worst_row.map_or_else(String::new, worst_row)),
        plain(sci(r.error.max_abs)),
        (word.into(), tone),
    ]
}

fn worst_row(w: RowView) -> String {
    format!("{:.4} in {}", w.figure, w.row)
}

fn print_table(report: &CompareReport) -> Result<()> {
    let right = |name| (name, Align::Right);
    let columns = [
        ("tensor", Align::Left),
        ("qtype", Align::Left),
        right("elements"),
        right("rmse"),
        right("rel. error"),
        right("SQNR dB"),
        right("cosine"),
        right("figure"),
        right("worst row"),
        right("max |err|"),
        ("verdict", Align::Left),
    ];
    let mut text = render(&columns, report.tensors.iter().map(row));
    let of = |v: CompareVerdict| report.tensors.iter().filter(|r| r.verdict == v).count();
    text.push_str(&format!(
        "\n{} compared: {} green, {} yellow, {} red; {}\n",
        plural(report.tensors.len(), "tensor"),
        of(CompareVerdict::Green),
        of(CompareVerdict::Yellow),
        of(CompareVerdict::Red),
        plural(report.findings.len(), "finding"),
    ));
    for f in &report.findings {
        text.push_str(&format!("  {}\n", line(f)));
    }
    super::print(&text)
}
