//! `sweep`: what every type would do to every tensor.

use super::{TensorFilter, format, measure};
use crate::args::{OutputFormat, SweepArgs};
use crate::drive::Resources;
use crate::io::source::Source;
use crate::render::table::{Align, Styled, Tone, plain, render, tsv};
use crate::render::{self, fixed, percent, sci};
use quantoscope_core::error::Result;
use quantoscope_core::plan::measure::{every_encoding, sweep, sweep_encodings};
use quantoscope_core::plan::sample;
use quantoscope_core::report::{EncodingRow, StatsReport, stats};
use quantoscope_core::tensor::TensorInfo;
use std::process::ExitCode;

pub fn run(args: &SweepArgs) -> Result<ExitCode> {
    let format = format(args.format, args.json);
    let wanted = TensorFilter::new(&args.filter)?;
    let source = Source::open(&args.input)?.weighted(args.weights.path.as_deref())?;
    wanted.check(&source)?;
    let types = match args.types.as_slice() {
        [] if source.imatrix().is_some() => every_encoding(),
        [] => sweep_encodings(),
        named => named.to_vec(),
    };
    // Without a filter only matrices are swept: nobody quantizes a vector.
    let takes = |t: &TensorInfo| wanted.takes(&t.name) && (wanted.0.is_some() || t.shape.axes().len() >= 2);
    if !args.rotate.is_empty() {
        return super::rotations::run(args, &source, &types, &takes, format);
    }
    let mut plan = sweep(&source.checkpoint, &types, source.imatrix(), &takes)?;
    if let Some(rows) = args.sample {
        sample(&mut plan, rows);
    }
    let resources = Resources::new(&args.work)?;
    let collected = measure(&plan, &[&source], resources, "Sweeping", format != OutputFormat::Table)?;
    let report = stats(&plan, &collected, 0);
    match format {
        OutputFormat::Json => render::json(&report)?,
        OutputFormat::Tsv => render::print(&as_tsv(&report))?,
        OutputFormat::Table => render::print(&(as_table(&report) + &below(&report, args.sample)))?,
    }
    if format == OutputFormat::Tsv {
        args.sample.iter().for_each(|rows| render::note(&sampled(&report, *rows)));
    }
    if format != OutputFormat::Json {
        render::warn(&report.warnings);
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(report: &StatsReport) -> impl Iterator<Item = (&str, &EncodingRow)> {
    report.tensors.iter().flat_map(|t| t.encodings.iter().map(move |e| (t.name.as_str(), e)))
}

/// What part of the tensors the figures are of.
fn sampled(report: &StatsReport, rows: u64) -> String {
    let of = report.tensors.len();
    match report.tensors.iter().filter(|t| t.sampled.is_some()).count() {
        0 => format!("sampled: nothing, for no tensor has more than {rows} rows"),
        n if n == of => format!("sampled: about {rows} rows of each tensor"),
        n => format!("sampled: about {rows} rows of each tensor; {} with no more are whole", of - n),
    }
}

/// What stands below the table.
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
        let get = |f: fn(&quantoscope_core::report::ErrorView) -> Option<f64>| number(e.and_then(f));
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
        // A name stands once, on the first of its rows.
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
