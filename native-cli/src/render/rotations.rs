//! The report of `sweep --rotate`.

use super::order::in_order;
use super::table::{Align, Styled, Tone, plain, render, tsv};
use super::{Format, fixed, percent, shape};
use quantoscope_core::error::Result;
use quantoscope_core::plan::Axis;
use quantoscope_core::report::{
    FrameView, RotatedEncoding, RotatedError, RotatedTensor, RotationReport, decibels,
};

/// Gains beyond this many decibels, either way, are coloured.
const MATTERS: f64 = 0.5;

/// Prints the report. `sample` is the number of rows that were measured of each tensor, if not all were.
///
/// # Errors
///
/// `io` if standard output cannot be written to.
pub fn print(report: &RotationReport, sample: Option<u64>, format: Format) -> Result<()> {
    match format {
        Format::Json => return super::json(report),
        Format::Tsv => {
            super::print(&as_tsv(report))?;
            report.summary.words.iter().for_each(|line| super::note(line));
        }
        Format::Table => super::print(&as_text(report, sample))?,
    }
    super::warn(&report.warnings);
    Ok(())
}

fn as_tsv(report: &RotationReport) -> String {
    let mut text = tsv([
        "tensor",
        "type",
        "bits_per_weight",
        "rotation",
        "along",
        "folded",
        "relative_error",
        "sqnr_db",
        "gain_db",
        "floor",
        "predicted",
        "kurtosis",
        "refused",
    ]);
    for t in in_order(report.tensors.iter(), |t| &t.name) {
        for e in &t.encodings {
            let of = e.plain.error.as_ref();
            let own = [of.and_then(|e| e.relative_error), of.and_then(|e| e.sqnr_db), None];
            let refused = e.plain.refused.as_ref().map(|r| r.code().as_str());
            let kurtosis = t.stats.as_ref().and_then(|s| s.kurtosis);
            text.push_str(&line(t, e, ["none", "", ""], own, kurtosis, refused));
            for frame in &t.frames {
                text.push_str(&frame_line(t, e, frame));
            }
        }
    }
    text
}

fn frame_line(t: &RotatedTensor, e: &RotatedEncoding, frame: &FrameView) -> String {
    let found = e.rotated.iter().find(|r| r.rotation == frame.rotation);
    let of = found.and_then(|r| r.error.as_ref());
    let figures =
        [of.and_then(|e| e.relative_error), of.and_then(|e| e.sqnr_db), found.and_then(|r| r.gain_db)];
    let refused = match found {
        Some(r) => r.refused.as_ref().map(|r| r.code().as_str()),
        None => frame.frame.absent.as_deref(),
    };
    let along = frame.frame.along.map_or("", along);
    let folded = if frame.frame.folded { "folded" } else { "" };
    let kurtosis = frame.stats.as_ref().and_then(|s| s.kurtosis);
    line(t, e, [&frame.rotation, along, folded], figures, kurtosis, refused)
}

fn line(
    t: &RotatedTensor,
    e: &RotatedEncoding,
    frame: [&str; 3],
    figures: [Option<f64>; 3],
    kurtosis: Option<f64>,
    refused: Option<&str>,
) -> String {
    let number = |x: Option<f64>| x.map_or_else(String::new, |x| format!("{x:.6e}"));
    let head = [t.name.to_string(), e.plain.encoding.to_string(), format!("{}", e.plain.bits_per_weight)];
    let after = [e.floor, e.predicted, kurtosis].map(number);
    let cells = head.into_iter().chain(frame.map(String::from)).chain(figures.map(number)).chain(after);
    tsv(cells.chain([refused.unwrap_or_default().to_string()]))
}

fn as_text(report: &RotationReport, rows: Option<u64>) -> String {
    let mut text = format!(
        "Relative error of each type as stored and rotated (in the rotated basis), and its fall in dB.\n\
         predicted: as stored, computed from the histogram alone. floor: on Gaussian noise.\n\
         Seed of the rotations: {}.\n",
        report.seed
    );
    for tensor in in_order(report.tensors.iter(), |t| &t.name) {
        text.push('\n');
        text.push_str(&about(tensor));
        if !tensor.encodings.is_empty() {
            text.push_str(&as_table(report, tensor));
        }
    }
    if let Some(rows) = rows {
        text.push_str(&format!(
            "\nsampled: about {rows} rows of each tensor, or as many weights in columns if its rows are rotated\n"
        ));
    }
    text.push('\n');
    for words in &report.summary.words {
        text.push_str(&wrapped(words));
    }
    text
}

/// A line about a tensor, and one per rotation.
fn about(t: &RotatedTensor) -> String {
    let kurtosis = |k: Option<f64>| k.map_or_else(String::new, |k| format!(", kurtosis {k:.2}"));
    let name = super::clean(&t.name);
    let stored = kurtosis(t.stats.as_ref().and_then(|s| s.kurtosis));
    let mut text = format!("{name}  {} {}{stored}\n", t.dtype, shape(t.shape.axes()));
    for frame in &t.frames {
        let f = &frame.frame;
        let what = match (&f.absent, f.along) {
            (Some(why), _) => format!("nothing: {why}"),
            (None, side) => {
                let side = side.map(|side| format!("along {}", along(side)));
                let folded = match (f.folded, f.by_rules) {
                    (true, _) => Some("norm gain folded in"),
                    (false, true) => None,
                    (false, false) => Some("no family rules: input side, norm gains not folded"),
                };
                let told: Vec<String> = side.into_iter().chain(folded.map(String::from)).collect();
                told.join(", ") + &kurtosis(frame.stats.as_ref().and_then(|s| s.kurtosis))
            }
        };
        text.push_str(&wrapped(&format!("  {}: {what}", frame.rotation)));
    }
    text
}

const fn along(side: Axis) -> &'static str {
    match side {
        Axis::In => "columns",
        Axis::Out => "rows",
    }
}

fn as_table(report: &RotationReport, tensor: &RotatedTensor) -> String {
    let right = |name| (name, Align::Right);
    let mut columns = vec![("  type", Align::Left), right("bpw"), right("predicted"), right("as stored")];
    let present =
        |name: &&String| tensor.frames.iter().any(|f| f.rotation == **name && f.frame.absent.is_none());
    let frames: Vec<&String> = report.rotations.iter().filter(present).collect();
    columns.extend(frames.iter().flat_map(|name| [right(name.as_str()), right("dB")]));
    columns.push(right("floor"));
    render(&columns, tensor.encodings.iter().map(|e| cells(e, &frames)))
}

fn cells(e: &RotatedEncoding, frames: &[&String]) -> Vec<Styled> {
    let own = match (&e.plain.error, &e.plain.refused) {
        (_, Some(why)) => (why.code().as_str().to_string(), Tone::Bad),
        (error, None) => plain(percent(error.as_ref().and_then(|e| e.relative_error))),
    };
    let mut all = vec![
        plain(format!("  {}", e.plain.encoding)),
        plain(fixed(Some(e.plain.bits_per_weight), 2)),
        (percent(e.predicted), Tone::Dim),
        own,
    ];
    for name in frames {
        all.extend(rotated_cells(e.rotated.iter().find(|r| r.rotation == **name)));
    }
    all.push((percent(e.floor), Tone::Dim));
    all
}

fn rotated_cells(found: Option<&RotatedError>) -> [Styled; 2] {
    let Some(found) = found else { return [plain(""), plain("")] };
    if let Some(why) = &found.refused {
        return [(why.code().as_str().to_string(), Tone::Bad), plain("")];
    }
    let tone = match found.gain_db {
        Some(db) if db > MATTERS => Tone::Good,
        Some(db) if db < -MATTERS => Tone::Bad,
        _ => Tone::Plain,
    };
    let gain = found.gain_db.map_or_else(|| "–".into(), decibels);
    [plain(percent(found.error.as_ref().and_then(|e| e.relative_error))), (gain, tone)]
}

/// A sentence in lines of at most 100 characters, indented after the first.
fn wrapped(text: &str) -> String {
    const WIDTH: usize = 100;
    let indent = text.len() - text.trim_start().len() + 2;
    let (mut out, mut room) = (String::new(), WIDTH);
    for (i, word) in text.split(' ').enumerate() {
        let len = word.chars().count();
        if i > 0 && len + 1 > room {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            room = WIDTH - indent;
        } else if i > 0 {
            out.push(' ');
            room -= 1;
        }
        out.push_str(word);
        room = room.saturating_sub(len);
    }
    out + "\n"
}
