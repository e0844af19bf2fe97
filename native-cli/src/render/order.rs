//! The order of rows in tables: numbers in names count as numbers, so that layer 2 stands before layer 10.

use std::cmp::Ordering;
use std::sync::atomic::{AtomicBool, Ordering as Memory};

/// The order of the tensors in tables. JSON always has the order of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowOrder {
    /// By name, numbers by their value.
    Layers,
    /// As in the file.
    File,
}

/// Whether tables keep the order of the file.
static FILE_ORDER: AtomicBool = AtomicBool::new(false);

/// Sets the order of all tables that are printed from now on.
pub fn set_row_order(order: RowOrder) {
    FILE_ORDER.store(order == RowOrder::File, Memory::Relaxed);
}

/// The items in the order of tables, by their names.
pub(super) fn in_order<T>(items: impl Iterator<Item = T>, name: impl Fn(&T) -> &str) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    if !FILE_ORDER.load(Memory::Relaxed) {
        items.sort_by(|a, b| natural(name(a), name(b)));
    }
    items
}

/// Compares two names; runs of digits by their value, names that differ by leading zeros as text.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut x, mut y) = (a.as_bytes(), b.as_bytes());
    loop {
        let (Some(p), Some(q)) = (x.first(), y.first()) else {
            return x.len().cmp(&y.len()).then_with(|| a.cmp(b));
        };
        let order = if p.is_ascii_digit() && q.is_ascii_digit() {
            let (m, n) = (number(&mut x), number(&mut y));
            m.len().cmp(&n.len()).then_with(|| m.cmp(n))
        } else {
            (x, y) = (&x[1..], &y[1..]);
            p.cmp(q)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Takes the digits at the start of `text`; returns them without leading zeros.
fn number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|c| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    let zeros = digits.iter().take_while(|c| **c == b'0').count();
    &digits[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_count_as_numbers() {
        let mut names =
            ["blk.10.a", "blk.2.b", "blk.2.a", "output", "blk.02.a", "blk.2", "a.99999999999999999999999"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(
            names,
            ["a.99999999999999999999999", "blk.2", "blk.02.a", "blk.2.a", "blk.2.b", "blk.10.a", "output"]
        );
    }
}
