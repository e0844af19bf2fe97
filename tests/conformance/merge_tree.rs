//! The merge tree: the same bits for every order of arrival, every split, every journal.

use proptest::prelude::*;
use quantoscope_core::metric::{LEAF, Merge, MergeTree, Moments, Node, moments_leaf};
use quantoscope_core::wire;
use quantoscope_tests::painters::{paint, word};
use quantoscope_tests::property::property;

/// Writes down how it was merged.
#[derive(Clone, Debug, Default, PartialEq)]
struct Trace(String);

impl Merge for Trace {
    fn merge(&self, right: &Trace) -> Trace {
        Trace(format!("({}{})", self.0, right.0))
    }

    fn finish_row(&mut self, row: u64, floor: f64) {
        self.0 = format!("[{row}:{}~{floor}]", self.0);
    }
}

/// The definition: halves at the largest power of two below the length.
fn reference<M: Merge>(items: &[M]) -> M {
    if items.len() == 1 {
        return items[0].clone();
    }
    let half = items.len().next_power_of_two() / 2;
    reference(&items[..half]).merge(&reference(&items[half..]))
}

fn expected<M: Merge>(rows: u64, leaves: u64, leaf: impl Fn(u64, u64) -> M) -> M {
    let row = |r| {
        let mut m = reference(&(0..leaves).map(|l| leaf(r, l)).collect::<Vec<_>>());
        m.finish_row(r, 0.0);
        m
    };
    reference(&(0..rows).map(row).collect::<Vec<_>>())
}

fn shuffled(n: u64, seed: u64) -> Vec<u64> {
    let mut order: Vec<u64> = (0..n).collect();
    order.sort_by_key(|&i| word(seed, i));
    order
}

fn trace(row: u64, leaf: u64) -> Trace {
    Trace(format!("{row}.{leaf} "))
}

#[test]
fn sequential_insertion_is_the_definition() {
    for rows in 1..20 {
        for leaves in [1, 2, 3, 5, 8, 9] {
            let mut forest = MergeTree::new(rows, leaves * 256 - 100);
            for at in 0..rows * leaves {
                assert_eq!(forest.total(), None);
                assert!(forest.leaf(at / leaves, at % leaves, trace(at / leaves, at % leaves)));
            }
            assert_eq!(forest.total(), Some(expected(rows, leaves, trace)));
        }
    }
    assert_eq!(
        expected(3, 3, trace).0,
        "(([0:((0.0 0.1 )0.2 )~0][1:((1.0 1.1 )1.2 )~0])[2:((2.0 2.1 )2.2 )~0])"
    );
}

proptest! {
    #![proptest_config(property(file!(), 150))]

    /// Any order, with snapshots and restarts from the journal at random moments.
    #[test]
    fn any_order_of_arrival_gives_the_same(rows in 1_u64..40, leaves in 1_u64..12, seed: u64, stop in 1_u64..50) {
        let mut forest = MergeTree::new(rows, leaves * 256);
        for (done, at) in shuffled(rows * leaves, seed).into_iter().enumerate() {
            prop_assert!(forest.leaf(at / leaves, at % leaves, trace(at / leaves, at % leaves)));
            if word(seed ^ 1, done as u64).is_multiple_of(stop) {
                let snapshot: Vec<_> = forest.nodes().map(|n| (n.row, n.level, n.index)).collect();
                let nodes = forest.drain();
                prop_assert_eq!(&snapshot, &nodes.iter().map(|n| (n.row, n.level, n.index)).collect::<Vec<_>>());
                prop_assert_eq!(forest.nodes().count(), 0);
                let order = shuffled(nodes.len() as u64, seed ^ 2);
                for i in order {
                    prop_assert!(forest.insert(nodes[i as usize].clone()));
                }
            }
        }
        prop_assert_eq!(forest.total(), Some(expected(rows, leaves, trace)));
    }

    /// Workers with a forest each, over windows of rows and columns, merged at the end.
    #[test]
    fn windows_of_any_size_give_the_same_bits(rows in 1_usize..30, cols in 1_usize..1500, height in 1_usize..9, width in 1_usize..4, seed: u64) {
        let x = paint("heavy", seed, rows * cols);
        let leaf = |r: u64, l: u64| {
            let row = &x[r as usize * cols..][..cols];
            moments_leaf(&row[l as usize * LEAF..cols.min((l as usize + 1) * LEAF)])
        };
        let leaves = cols.div_ceil(LEAF);
        let mut total = MergeTree::new(rows as u64, cols as u64);
        let windows = (rows.div_ceil(height) * leaves.div_ceil(width)) as u64;
        for window in shuffled(windows, seed) {
            let (top, left) = (window as usize / leaves.div_ceil(width) * height, window as usize % leaves.div_ceil(width) * width);
            let mut mine = MergeTree::new(rows as u64, cols as u64);
            for r in top..rows.min(top + height) {
                for l in left..leaves.min(left + width) {
                    prop_assert!(mine.leaf(r as u64, l as u64, leaf(r as u64, l as u64)));
                }
            }
            for node in mine.drain() {
                prop_assert!(total.insert(node));
            }
        }
        let bits = |m: Moments| wire::encode(&m).unwrap();
        prop_assert_eq!(bits(total.total().unwrap()), bits(expected(rows as u64, leaves as u64, leaf)));
    }

    /// A journal is untrusted: nonsense is refused and nothing panics.
    #[test]
    fn nonsense_is_refused(nodes in prop::collection::vec((prop::option::of(0_u64..6), 0_u8..70, prop_oneof![0_u64..8, any::<u64>()]), 0..60)) {
        let mut forest = MergeTree::new(5, 256 * 6);
        let mut covered = std::collections::BTreeSet::new();
        for (row, level, index) in nodes {
            let taken = forest.insert(Node { row, level, index, value: Trace("x".into()) });
            let n = if row.is_some() { 6 } else { 5 };
            let start = u128::from(index) << level;
            let end = ((u128::from(index) + 1) << level).min(n);
            let cells: Vec<_> = (start..end.max(start)).take(8).flat_map(|i| match row {
                Some(r) => vec![(u128::from(r), i)],
                None => (0..6).map(|l| (i, l)).collect(),
            }).collect();
            let legal = level < 64 && start < n && row.is_none_or(|r| r < 5) && !cells.iter().any(|c| covered.contains(c));
            prop_assert_eq!(taken, legal);
            if taken {
                covered.extend(cells);
            }
            prop_assert_eq!(forest.total().is_some(), covered.len() == 30);
        }
    }
}

#[test]
fn nothing_is_complete_at_once() {
    for (rows, cols) in [(0, 0), (0, 5), (5, 0)] {
        let mut forest = MergeTree::new(rows, cols);
        assert_eq!(forest.total(), Some(Moments::default()));
        assert!(!forest.leaf(0, 0, Moments::default()), "there is no such leaf");
    }
}

#[test]
fn what_arrives_twice_is_refused() {
    let mut forest = MergeTree::new(2, 512);
    assert!(forest.leaf(0, 0, trace(0, 0)));
    assert!(!forest.leaf(0, 0, trace(0, 0)));
    assert!(forest.leaf(0, 1, trace(0, 1)));
    assert!(!forest.leaf(0, 1, trace(0, 1)), "the row is complete");
    assert!(forest.leaf(1, 1, trace(1, 1)) && forest.leaf(1, 0, trace(1, 0)));
    assert_eq!(forest.total(), Some(expected(2, 2, trace)));
}
