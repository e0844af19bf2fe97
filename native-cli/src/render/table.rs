//! Aligned tables for terminals, and the same rows as tab-separated values.

use super::clean;
use std::io::{self, Write};
use unicode_width::UnicodeWidthStr;

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// A colour by its meaning. It is shown on terminals with colours only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Fair,
    Bad,
    Dim,
}

/// A cell: text and tone.
pub(super) type Styled = (String, Tone);

/// A cell without a tone.
pub(super) fn plain(text: impl Into<String>) -> Styled {
    (text.into(), Tone::Plain)
}

/// Spaces between two columns.
const GAP: usize = 2;
/// Names are not cut below this.
const LEAST_NAME: usize = 16;

/// Renders an aligned table.
pub(super) fn render(columns: &[(&str, Align)], rows: impl IntoIterator<Item = Vec<Styled>>) -> String {
    let rows: Vec<Vec<Styled>> = rows.into_iter().collect();
    let mut text = Vec::new();
    // Writes to memory do not fail, and only text is written.
    let _ = write(&mut text, columns, rows.iter().cloned());
    String::from_utf8(text).unwrap_or_default()
}

/// Writes an aligned table. Rows are iterated several times instead of collected: a million of them take no
/// memory.
pub(super) fn write(
    out: &mut dyn Write,
    columns: &[(&str, Align)],
    rows: impl Iterator<Item = Vec<Styled>> + Clone,
) -> io::Result<()> {
    let terminal = terminal_size::terminal_size_of(io::stdout());
    let room = terminal.map(|(terminal_size::Width(width), _)| room(columns, rows.clone(), width.into()));
    let rows = rows.map(|row| cells(row, room));
    let mut widths: Vec<usize> = columns.iter().map(|(head, _)| head.width()).collect();
    for row in rows.clone() {
        for (width, (text, _)) in widths.iter_mut().zip(&row) {
            *width = text.width().max(*width);
        }
    }
    let colours = super::colours();
    let head = columns.iter().map(|(head, _)| ((*head).to_string(), if colours { BOLD } else { "" }));
    write_row(out, columns, &widths, head)?;
    let style = |(text, tone): Styled| (text, if colours { escape(tone) } else { "" });
    rows.into_iter().try_for_each(|row| write_row(out, columns, &widths, row.into_iter().map(style)))
}

/// The printed cells of a row.
fn cells(mut row: Vec<Styled>, room: Option<usize>) -> Vec<Styled> {
    if let (Some(room), Some((name, _))) = (room, row.first_mut()) {
        *name = shorten(name, room);
    }
    row.into_iter().map(|(text, tone)| (clean(&text), tone)).collect()
}

/// Writes a line without trailing blanks.
fn write_row(
    out: &mut dyn Write,
    columns: &[(&str, Align)],
    widths: &[usize],
    cells: impl Iterator<Item = (String, &'static str)>,
) -> io::Result<()> {
    let mut line = String::new();
    for (((text, escape), (_, align)), width) in cells.zip(columns).zip(widths) {
        let (before, after) = match (align, width.saturating_sub(text.width())) {
            (Align::Left, fill) => (0, fill),
            (Align::Right, fill) => (fill, 0),
        };
        let reset = if escape.is_empty() { "" } else { RESET };
        line.extend(std::iter::repeat_n(' ', before));
        line.extend([escape, &text, reset]);
        line.extend(std::iter::repeat_n(' ', after + GAP));
    }
    writeln!(out, "{}", line.trim_end())
}

/// Characters that names may have on a terminal of `width` columns. Names are cut in the middle, because
/// their ends distinguish them.
fn room(columns: &[(&str, Align)], rows: impl Iterator<Item = Vec<Styled>>, width: usize) -> usize {
    let len = |text: &str| text.chars().count();
    let mut widest: Vec<usize> = columns.iter().map(|(head, _)| len(head)).collect();
    for row in rows {
        for (width, (text, _)) in widest.iter_mut().zip(&row) {
            *width = len(text).max(*width);
        }
    }
    let others: usize = widest.iter().skip(1).map(|n| n + GAP).sum();
    width.saturating_sub(others + GAP).max(LEAST_NAME)
}

fn shorten(text: &str, room: usize) -> String {
    let n = text.chars().count();
    if n <= room {
        return text.to_string();
    }
    let head = (room - 1) / 3;
    let tail = room - 1 - head;
    text.chars().take(head).chain(['…']).chain(text.chars().skip(n - tail)).collect()
}

const BOLD: &str = "\x1b[1m";
const RESET: &str = "\x1b[0m";

/// The escape sequence of a tone.
fn escape(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "",
        Tone::Good => "\x1b[38;5;10m",
        Tone::Fair => "\x1b[38;5;11m",
        Tone::Bad => "\x1b[38;5;9m",
        Tone::Dim => "\x1b[2m",
    }
}

/// One line of tab-separated values. Backslashes and control characters inside a value are escaped, tabs and
/// newlines included, so that a line is a row.
pub(super) fn tsv<S: AsRef<str>>(values: impl IntoIterator<Item = S>) -> String {
    let cells: Vec<String> = values.into_iter().map(|v| clean(&v.as_ref().replace('\\', "\\\\"))).collect();
    cells.join("\t") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_in_the_middle() {
        assert_eq!(shorten("model.layers.0.mlp.down_proj.weight", 20), "model.…n_proj.weight");
        assert_eq!(shorten("short", 20), "short");
    }

    #[test]
    fn tabs_and_newlines_do_not_break_rows() {
        assert_eq!(tsv(["a\tb", "c\nd", "e\\f"]), "a\\tb\tc\\nd\te\\\\f\n");
    }
}
