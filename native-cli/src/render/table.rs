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

/// Renders an aligned table.
pub fn render(columns: &[(&str, Align)], rows: impl IntoIterator<Item = Vec<Styled>>) -> String {
    let colours = super::colours();
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
    for (column, (_, align)) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 2));
        column.set_cell_alignment(match align {
            Align::Left => CellAlignment::Left,
            Align::Right => CellAlignment::Right,
        });
    }
    table.lines().map(|l| l.trim_end().to_string() + "\n").collect()
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

/// One line of tab-separated values; tabs, newlines and backslashes inside a value are escaped.
pub fn tsv<S: AsRef<str>>(values: impl IntoIterator<Item = S>) -> String {
    let escape =
        |v: &str| v.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r");
    let cells: Vec<String> = values.into_iter().map(|v| escape(v.as_ref())).collect();
    cells.join("\t") + "\n"
}
