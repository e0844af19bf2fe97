//! What people and machines see: tables, sizes, progress, JSON. Data goes to standard output, the rest to standard error.

pub mod events;
pub mod progress;
pub mod quantized;
pub mod table;

use quantoscope_core::error::{Code, Error, Result};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::Value;
use std::io::{self, IsTerminal, Write};

/// Text from a file, safe for a terminal: control characters are escaped.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // Bidirectional controls could reorder a line just as escapes could recolour it.
        let hostile = c.is_control()
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if hostile { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// Bytes in decimal and binary units, each labelled as what it is.
pub fn size(bytes: u64) -> String {
    const DECIMAL: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    const BINARY: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    format!("{} ({})", scaled(bytes, 1000.0, &DECIMAL), scaled(bytes, 1024.0, &BINARY))
}

/// Bytes in decimal units only, for columns.
pub fn short_size(bytes: u64) -> String {
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

/// A shape as people write it.
pub fn shape(axes: &[u64]) -> String {
    let axes: Vec<String> = axes.iter().map(u64::to_string).collect();
    format!("[{}]", axes.join(", "))
}

/// A count with thousands separated.
pub fn count(n: u64) -> String {
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

/// An optional number in scientific notation; absent is a dash.
pub fn sci(x: Option<f64>) -> String {
    x.map_or_else(|| "–".into(), |x| if x == 0.0 { "0".into() } else { format!("{x:.3e}") })
}

/// An optional share as a percentage; absent is a dash.
pub fn percent(x: Option<f64>) -> String {
    x.map_or_else(|| "–".into(), |x| if x == 0.0 { "0".into() } else { format!("{:.3} %", x * 100.0) })
}

/// An optional number with fixed decimals; absent is a dash.
pub fn fixed(x: Option<f64>, decimals: usize) -> String {
    x.map_or_else(|| "–".into(), |x| format!("{x:.decimals$}"))
}

/// Writes to standard output. A closed pipe is no error: whoever read has seen enough, and the work goes on.
pub fn print(text: &str) -> Result<()> {
    stream(|out| out.write_all(text.as_bytes()))
}

/// The same for what is written piece by piece, because the whole of it could be large.
pub fn stream(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut out = io::BufWriter::with_capacity(64 << 10, io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(Error::new(Code::Io, format!("cannot write to standard output: {e}"))),
        Ok(()) => Ok(()),
    }
}

/// Prints a value as indented JSON.
pub fn json(value: &impl Serialize) -> Result<()> {
    stream(|out| {
        serde_json::to_writer_pretty(&mut *out, value)?;
        out.write_all(b"\n")
    })
}

/// Prints a value as one line of JSON.
pub fn json_line(value: &impl Serialize) -> Result<()> {
    stream(|out| {
        serde_json::to_writer(&mut *out, value)?;
        out.write_all(b"\n")
    })
}

/// A JSON object with one long array, whose rows are made and written one by one. All keys are sorted.
pub struct WithRows<I> {
    /// The object; what it has under `key` stands for the rows.
    pub head: Value,
    pub key: &'static str,
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

/// A line on standard error. Where nobody can read it, nothing else is lost: not the work, nor its exit code.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Warnings, for people, on standard error.
pub fn warn<'a>(warnings: impl IntoIterator<Item = &'a quantoscope_core::plan::Warning>) {
    for w in warnings {
        note(&format!("warning: {}", clean(&w.message)));
    }
}

/// Whether standard output is a terminal that wants colours.
pub fn colours() -> bool {
    io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_say_what_they_are() {
        assert_eq!(size(999), "999 B");
        assert_eq!(size(13_644_312), "13.64 MB (13.01 MiB)");
        assert_eq!(size(1 << 30), "1.07 GB (1.00 GiB)");
    }

    #[test]
    fn terminals_are_not_given_control_characters() {
        assert_eq!(clean("a\x1b[31mb\u{202e}c\n"), "a\\u{1b}[31mb\\u{202e}c\\n");
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!(count(1_234_567), "1 234 567");
        assert_eq!(count(12), "12");
    }
}
