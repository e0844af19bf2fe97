//! Aligned tables for terminals, and the same rows as tab-separated values.

use super::clean;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// A colour with a meaning, used only where the terminal wants colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    Fair,
    Bad,
    Dim,
}

/// A cell: text and tone.
pub type Styled = (String, Tone);

/// A cell without a tone.
pub fn plain(text: impl Into<String>) -> Styled {
    (text.into(), Tone::Plain)
}

/// Spaces between two columns.
const GAP: usize = 2;
/// A name is never cut shorter than this.
const LEAST_NAME: usize = 16;

/// Renders an aligned table.
pub fn render(columns: &[(&str, Align)], rows: impl IntoIterator<Item = Vec<Styled>>) -> String {
    let colours = super::colours();
    let mut rows: Vec<Vec<Styled>> = rows.into_iter().collect();
    if let Some((terminal_size::Width(width), _)) = terminal_size::terminal_size_of(std::io::stdout()) {
        fit(columns, &mut rows, width.into());
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if colours {
        table.enforce_styling();
    }
    let head = |name: &str| {
        let cell = Cell::new(name);
        if colours { cell.add_attribute(Attribute::Bold) } else { cell }
    };
    table.set_header(columns.iter().map(|(name, _)| head(name)));
    for row in rows {
        table.add_row(row.into_iter().map(|c| cell(c, colours)));
    }
    for (i, (column, (_, align))) in table.column_iter_mut().zip(columns).enumerate() {
        let last = i + 1 == columns.len();
        column.set_padding((0, if last { 0 } else { GAP as u16 }));
        column.set_cell_alignment(match align {
            Align::Left => CellAlignment::Left,
            Align::Right => CellAlignment::Right,
        });
    }
    table.lines().map(|l| l.trim_end().to_string() + "\n").collect()
}

/// On a terminal that is too narrow, names give way: their ends tell more than their middles.
fn fit(columns: &[(&str, Align)], rows: &mut [Vec<Styled>], width: usize) {
    let len = |text: &str| text.chars().count();
    let widest = |i: usize, head: &str| {
        rows.iter().filter_map(|r| Some(len(&r.get(i)?.0))).max().unwrap_or(0).max(len(head))
    };
    let others: usize = columns.iter().enumerate().skip(1).map(|(i, (head, _))| widest(i, head) + GAP).sum();
    let room = width.saturating_sub(others + GAP).max(LEAST_NAME);
    for (name, _) in rows.iter_mut().filter_map(|r| r.first_mut()) {
        *name = shorten(name, room);
    }
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

fn cell((text, tone): Styled, colours: bool) -> Cell {
    let cell = Cell::new(clean(&text));
    if !colours {
        return cell;
    }
    match tone {
        Tone::Plain => cell,
        Tone::Good => cell.fg(Color::Green),
        Tone::Fair => cell.fg(Color::Yellow),
        Tone::Bad => cell.fg(Color::Red),
        Tone::Dim => cell.add_attribute(Attribute::Dim),
    }
}

/// One line of tab-separated values. Backslashes and control characters (so tabs and newlines) inside a value are
/// escaped: a line is a row wherever it is shown.
pub fn tsv<S: AsRef<str>>(values: impl IntoIterator<Item = S>) -> String {
    let cells: Vec<String> = values.into_iter().map(|v| clean(&v.as_ref().replace('\\', "\\\\"))).collect();
    cells.join("\t") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_give_way_in_the_middle() {
        assert_eq!(shorten("model.layers.0.mlp.down_proj.weight", 20), "model.…n_proj.weight");
        assert_eq!(shorten("short", 20), "short");
    }

    #[test]
    fn tabs_and_newlines_do_not_break_rows() {
        assert_eq!(tsv(["a\tb", "c\nd", "e\\f"]), "a\\tb\tc\\nd\te\\\\f\n");
    }
}
