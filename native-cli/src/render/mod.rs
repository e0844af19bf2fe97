//! Reports as text, tables, TSV and JSON. Data goes to standard output, everything else to standard error.

pub mod bench;
pub mod compare;
pub mod conversion;
pub mod engines;
pub mod eval;
mod events;
pub mod imatrix;
pub mod inspect;
pub mod metadata;
pub mod order;
pub(crate) mod progress;
mod quantized;
pub mod rotations;
pub mod sensitivity;
pub mod sweep;
mod table;
pub mod verify;

use quantoscope_core::error::{Code, Error, Result};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::Value;
use std::io::{self, IsTerminal, Write};

/// The form of a report with a row per tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An aligned table.
    Table,
    /// Tab-separated values.
    Tsv,
    /// JSON.
    Json,
}

/// A count and its noun.
pub(crate) fn plural(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Text from a file, safe for a terminal: control characters and bidirectional controls are escaped.
pub(crate) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let hostile = c.is_control()
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if hostile { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// Bytes in decimal and binary units: `13.64 MB (13.01 MiB)`.
pub(crate) fn size(bytes: u64) -> String {
    const DECIMAL: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    const BINARY: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    format!("{} ({})", scaled(bytes, 1000.0, &DECIMAL), scaled(bytes, 1024.0, &BINARY))
}

/// Bytes in decimal units only, for columns.
pub(crate) fn short_size(bytes: u64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB"])
}

fn scaled(bytes: u64, base: f64, units: &[&str]) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let unit = units[unit];
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.2} {unit}") }
}

/// A shape: `[rows, cols]`.
pub(crate) fn shape(axes: &[u64]) -> String {
    let axes: Vec<String> = axes.iter().map(u64::to_string).collect();
    format!("[{}]", axes.join(", "))
}

/// A count with a blank between thousands.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(c);
    }
    out
}

/// A number in scientific notation, or a dash.
pub(crate) fn sci(x: Option<f64>) -> String {
    x.map_or_else(|| "–".into(), |x| if x == 0.0 { "0".into() } else { format!("{x:.3e}") })
}

/// A share as a percentage, or a dash.
pub(crate) fn percent(x: Option<f64>) -> String {
    x.map_or_else(|| "–".into(), |x| if x == 0.0 { "0".into() } else { format!("{:.3} %", x * 100.0) })
}

/// A number with fixed decimals, or a dash.
pub(crate) fn fixed(x: Option<f64>, decimals: usize) -> String {
    x.map_or_else(|| "–".into(), |x| format!("{x:.decimals$}"))
}

/// Prints text on standard output. A closed pipe is no error.
///
/// # Errors
///
/// `io` if standard output cannot be written to.
pub fn print(text: &str) -> Result<()> {
    stream(|out| out.write_all(text.as_bytes()))
}

/// Lets `write` print on standard output piece by piece, for output that may be large. A closed pipe is no
/// error.
pub(crate) fn stream(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut out = io::BufWriter::with_capacity(64 << 10, io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(Error::new(Code::Io, format!("cannot write to standard output: {e}"))),
        Ok(()) => Ok(()),
    }
}

/// Prints a value as indented JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    stream(|out| {
        serde_json::to_writer_pretty(&mut *out, value)?;
        out.write_all(b"\n")
    })
}

/// Prints a value as one line of JSON.
pub(crate) fn json_line(value: &impl Serialize) -> Result<()> {
    stream(|out| {
        serde_json::to_writer(&mut *out, value)?;
        out.write_all(b"\n")
    })
}

/// A JSON object with one long array, whose rows are serialized one by one. All keys are sorted.
pub(crate) struct WithRows<I> {
    /// The object; its value under `key` is a placeholder for the rows.
    pub head: Value,
    /// The key of the array.
    pub key: &'static str,
    /// Its rows.
    pub rows: I,
}

impl<I: Iterator<Item: Serialize> + Clone> Serialize for WithRows<I> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let members = self.head.as_object().into_iter().flatten();
        let mut map = s.serialize_map(None)?;
        for (key, value) in members {
            match key == self.key {
                true => map.serialize_entry(key, &Rows(&self.rows))?,
                false => map.serialize_entry(key, value)?,
            }
        }
        map.end()
    }
}

struct Rows<'a, I>(&'a I);

impl<I: Iterator<Item: Serialize> + Clone> Serialize for Rows<'_, I> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut rows = s.serialize_seq(None)?;
        for row in self.0.clone() {
            rows.serialize_element(&serde_json::to_value(row).map_err(serde::ser::Error::custom)?)?;
        }
        rows.end()
    }
}

/// Prints a line on standard error. Failures are ignored: neither the work nor its exit code depends on it.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints warnings on standard error.
pub(crate) fn warn<'a>(warnings: impl IntoIterator<Item = &'a quantoscope_core::plan::Warning>) {
    for w in warnings {
        note(&format!("warning: {}", clean(&w.message)));
    }
}

/// Whether standard output is a terminal that shows colours. `NO_COLOR` and `TERM=dumb` switch them off.
pub(crate) fn colours() -> bool {
    io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// Arithmetic and speed of a forward pass.
pub(crate) struct PassSpeed<'a> {
    /// A participle.
    pub verb: &'a str,
    pub engine: &'a str,
    pub threads: u32,
    pub precision: &'a str,
    pub seconds: f64,
    pub tokens_per_second: f64,
}

/// A line about a forward pass, after an empty one.
pub(crate) fn speed_line(speed: &PassSpeed<'_>) -> String {
    let PassSpeed { verb, engine, threads, precision, seconds, tokens_per_second } = *speed;
    format!(
        "\n{verb} on the processor ({engine}, {}, {precision} products) in {seconds:.1} s: {tokens_per_second:.0} tokens a second\n",
        plural(threads as usize, "thread"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_both_units() {
        assert_eq!(size(999), "999 B");
        assert_eq!(size(13_644_312), "13.64 MB (13.01 MiB)");
        assert_eq!(size(1 << 30), "1.07 GB (1.00 GiB)");
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(clean("a\x1b[31mb\u{202e}c\n"), "a\\u{1b}[31mb\\u{202e}c\\n");
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!(count(1_234_567), "1 234 567");
        assert_eq!(count(12), "12");
    }
}
