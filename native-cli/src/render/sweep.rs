//! The report of `sweep`.

use super::order::in_order;
use super::table::{Align, Styled, Tone, plain, render, tsv};
use super::{Format, fixed, percent, sci};
use quantoscope_core::error::Result;
use quantoscope_core::report::{EncodingRow, ErrorView, StatsReport};

/// Prints the report. `sample` is the number of rows that were measured of each tensor, if not all were.
///
/// # Errors
///
/// `io` if standard output cannot be written to.
pub fn print(report: &StatsReport, sample: Option<u64>, format: Format) -> Result<()> {
    match format {
        Format::Json => return super::json(report),
        Format::Tsv => {
            super::print(&as_tsv(report))?;
            sample.iter().for_each(|rows| super::note(&sampled(report, *rows)));
        }
        Format::Table => super::print(&(as_table(report) + &below(report, sample)))?,
    }
    super::warn(&report.warnings);
    Ok(())
}

fn rows(report: &StatsReport) -> impl Iterator<Item = (&str, &EncodingRow)> {
    let tensors = in_order(report.tensors.iter(), |t| &t.name);
    tensors.into_iter().flat_map(|t| t.encodings.iter().map(move |e| (t.name.as_str(), e)))
}

/// The share of the tensors that was measured.
fn sampled(report: &StatsReport, rows: u64) -> String {
    let of = report.tensors.len();
    match report.tensors.iter().filter(|t| t.sampled.is_some()).count() {
        0 => format!("sampled: nothing, because no tensor has more than {rows} rows"),
        n if n == of => format!("sampled: about {rows} rows of each tensor"),
        n => format!(
            "sampled: about {rows} rows of each tensor; {} tensors with fewer are measured whole",
            of - n
        ),
    }
}

/// The line below the table.
fn below(report: &StatsReport, sample: Option<u64>) -> String {
    sample.map_or_else(String::new, |rows| format!("\n{}\n", sampled(report, rows)))
}

fn as_tsv(report: &StatsReport) -> String {
    let head = [
        "tensor",
        "type",
        "bits_per_weight",
        "rmse",
        "relative_error",
        "sqnr_db",
        "cosine",
        "max_abs",
        "refused",
    ];
    let mut text = tsv(head);
    let number = |x: Option<f64>| x.map_or_else(String::new, |x| format!("{x:.6e}"));
    for (tensor, row) in rows(report) {
        let e = row.error.as_ref();
        let get = |f: fn(&ErrorView) -> Option<f64>| number(e.and_then(f));
        text.push_str(&tsv([
            tensor.to_string(),
            row.encoding.to_string(),
            format!("{}", row.bits_per_weight),
            get(|e| e.rmse),
            get(|e| e.relative_error),
            get(|e| e.sqnr_db),
            e.and_then(|e| e.cosine).map_or_else(String::new, |c| format!("{c:.9}")),
            get(|e| e.max_abs),
            row.refused.as_ref().map_or_else(String::new, |r| r.code().as_str().to_string()),
        ]));
    }
    text
}

fn as_table(report: &StatsReport) -> String {
    let right = |name| (name, Align::Right);
    let columns = [
        ("tensor", Align::Left),
        ("type", Align::Left),
        right("bpw"),
        right("rmse"),
        right("rel. error"),
        right("SQNR dB"),
        right("cosine"),
    ];
    let mut last = "";
    let lines = rows(report).map(|(tensor, row)| {
        // A name is printed once, on the first of its rows.
        let name = if tensor == last { "" } else { tensor };
        last = tensor;
        cells(name, row)
    });
    render(&columns, lines)
}

fn cells(name: &str, row: &EncodingRow) -> Vec<Styled> {
    let head = [plain(name), plain(row.encoding.to_string()), plain(format!("{:.2}", row.bits_per_weight))];
    let tail: Vec<Styled> = match (&row.error, &row.refused) {
        (_, Some(why)) => vec![(format!("refused: {why}"), Tone::Bad)],
        (Some(e), None) => vec![
            plain(sci(e.rmse)),
            plain(percent(e.relative_error)),
            plain(fixed(e.sqnr_db, 2)),
            plain(fixed(e.cosine, 6)),
        ],
        (None, None) => Vec::new(),
    };
    head.into_iter().chain(tail).collect()
}
