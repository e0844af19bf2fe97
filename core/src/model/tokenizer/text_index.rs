//! Texts that are looked up by the hundred thousand: sorted by their first 16 bytes as a number, so that few comparisons
//! follow a pointer.

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

/// Texts in the order they were added, and sorted.
#[derive(Debug, Default)]
pub(super) struct TextIndex {
    texts: String,
    /// Where each text lies, in the order of addition.
    spans: Vec<Range<usize>>,
    /// Texts in ascending order; of equal texts the first added comes first.
    sorted: Vec<(u128, u32)>,
}

/// The first 16 bytes, most significant first: ordered as the texts are, as far as it goes.
fn prefix(text: &str) -> u128 {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(text.bytes()).for_each(|(to, byte)| *to = byte);
    u128::from_be_bytes(bytes)
}

impl TextIndex {
    /// Indexes the concatenations of pairs, without those that equal the one before.
    pub(super) fn of_runs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> TextIndex {
        let mut index = TextIndex::default();
        for (a, b) in pairs {
            let start = index.texts.len();
            index.texts.push_str(a);
            index.texts.push_str(b);
            let span = start..index.texts.len();
            match index.spans.last() {
                Some(last) if index.texts.get(last.clone()) == index.texts.get(span.clone()) => {
                    index.texts.truncate(start);
                }
                _ => index.spans.push(span),
            }
        }
        let mut sorted: Vec<_> = (0..).zip(&index.spans).map(|(n, s)| (prefix(index.at(s)), n)).collect();
        sorted.sort_unstable_by(|a, b| {
            a.0.cmp(&b.0).then_with(|| index.text(a.1).cmp(index.text(b.1))).then(a.1.cmp(&b.1))
        });
        index.sorted = sorted;
        index
    }

    /// Number of texts.
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    fn at(&self, span: &Range<usize>) -> &str {
        self.texts.get(span.clone()).unwrap_or_default()
    }

    fn text(&self, index: u32) -> &str {
        self.spans.get(index as usize).map_or("", |span| self.at(span))
    }

    /// The first of the texts that equal `text`, by its place in the order of addition.
    pub(super) fn first(&self, text: &str) -> Option<u32> {
        let key = prefix(text);
        let at = self.sorted.partition_point(|&(k, n)| k < key || (k == key && self.text(n) < text));
        self.sorted.get(at).map(|&(_, n)| n).filter(|&n| self.text(n) == text)
    }

    /// The texts that equal one before them, by their place in the order of addition.
    pub(super) fn repeated(&self) -> impl Iterator<Item = u32> {
        let equal = |a: &(u128, u32), b: &(u128, u32)| a.0 == b.0 && self.text(a.1) == self.text(b.1);
        self.sorted.windows(2).filter_map(move |pair| match pair {
            [a, b] if equal(a, b) => Some(b.1),
            _ => None,
        })
    }
}
