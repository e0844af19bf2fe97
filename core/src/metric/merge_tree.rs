//! The fixed merge tree, which accepts nodes in any order. Knows nothing about the measurement.
//!
//! The tree has two levels: one tree over the leaves of each started row, and one over the rows. Pending
//! nodes are disjoint intervals. In sequential use they are the digits of a binary counter, at the end of a
//! short list. Nodes that arrive out of order go to a map beside it.

use super::{LEAF, Merge};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A measurement and the aligned interval that it covers: `[index << level, (index + 1) << level)`, cut at
/// the end of the row or tensor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node<M> {
    /// `Some(r)`: the interval counts leaves of row `r`. `None`: it counts whole rows.
    pub row: Option<u64>,
    /// log2 of the interval's length.
    pub level: u8,
    /// Number of the interval among those of its length.
    pub index: u64,
    /// The measurement.
    pub value: M,
}

/// A pending node with its interval.
#[derive(Clone, Debug)]
struct OpenNode<M> {
    start: u64,
    end: u64,
    level: u8,
    value: M,
}

impl<M> OpenNode<M> {
    /// Number of the interval among those of its length.
    fn index(&self) -> u64 {
        self.start >> self.level
    }
}

/// Longest list of pending nodes in sequential use; further nodes go to the map.
const LIST: usize = 64;

/// Merge tree over `n` units: leaves of a row, or rows.
#[derive(Clone, Debug)]
struct RowTree<M> {
    /// Number of units.
    n: u64,
    /// Pending nodes in ascending order.
    list: Vec<OpenNode<M>>,
    /// Pending nodes that arrived out of order, by start.
    map: BTreeMap<u64, OpenNode<M>>,
}

impl<M: Merge> RowTree<M> {
    fn new(n: u64) -> RowTree<M> {
        RowTree { n, list: Vec::new(), map: BTreeMap::new() }
    }

    /// Converts node `index` of `level` to a pending node; `None` if the tree has no such node.
    fn part(&self, level: u8, index: u64, value: M) -> Option<OpenNode<M>> {
        let len = 1_u64.checked_shl(level.into())?;
        let start = index.checked_mul(len).filter(|&s| s < self.n)?;
        Some(OpenNode { start, end: start.saturating_add(len).min(self.n), level, value })
    }

    /// True if a pending node overlaps `start..end`.
    fn covers(&self, start: u64, end: u64) -> bool {
        let overlaps = |p: &OpenNode<M>| p.start < end && start < p.end;
        // The list is in ascending order; in sequential use its last entry already ends before `start`.
        let listed = self.list.iter().rev().take_while(|p| p.end > start).any(overlaps);
        listed
            || (!self.map.is_empty() && self.map.range(..end).next_back().is_some_and(|(_, p)| overlaps(p)))
    }

    /// Inserts a node and merges it upwards as long as siblings are present.
    ///
    /// Returns false if the tree has no such node, or if part of its interval is already covered.
    fn insert(&mut self, part: Option<OpenNode<M>>) -> bool {
        let Some(mut part) = part.filter(|p| !self.covers(p.start, p.end)) else { return false };
        while part.end - part.start < self.n {
            let len = 1_u64 << part.level;
            let left = part.start & len == 0;
            let sibling = if left {
                part.start.checked_add(len).filter(|&s| s < self.n)
            } else {
                Some(part.start - len)
            };
            if let Some(start) = sibling {
                let Some(other) = self.take(start, part.level) else { break };
                let (l, r) = if left { (part, other) } else { (other, part) };
                part =
                    OpenNode { start: l.start, end: r.end, level: l.level, value: l.value.merge(&r.value) };
            }
            part.level += 1;
        }
        self.keep(part);
        true
    }

    /// Removes the pending node of `level` that starts at `start`.
    fn take(&mut self, start: u64, level: u8) -> Option<OpenNode<M>> {
        let near = self.list.iter().rev().take_while(|p| p.start >= start).count();
        let at = self.list.len() - near;
        if self.list.get(at).is_some_and(|p| p.start == start) {
            return (self.list[at].level == level).then(|| self.list.remove(at));
        }
        if self.map.get(&start).is_some_and(|p| p.level == level) { self.map.remove(&start) } else { None }
    }

    /// Stores a pending node.
    fn keep(&mut self, part: OpenNode<M>) {
        let ordered = self.list.last().is_none_or(|p| p.start < part.start);
        if ordered && self.list.len() < LIST {
            self.list.push(part);
        } else {
            self.map.insert(part.start, part);
        }
    }

    /// All pending nodes.
    fn parts(&self) -> impl Iterator<Item = &OpenNode<M>> {
        self.list.iter().chain(self.map.values())
    }

    /// The node that covers all `n` units, if it is complete.
    fn root(&self) -> Option<&OpenNode<M>> {
        self.list.last().or_else(|| self.map.values().next()).filter(|p| p.end - p.start == self.n)
    }
}

/// Merges the nodes of one tensor of `[rows, cols]` values, in any order, into one total.
///
/// ```
/// use quantoscope_core::metric::{LEAF, MergeTree, moments_leaf};
///
/// // A tensor [1, 512] has two leaves; the total is the same in either order.
/// let mut tree = MergeTree::new(1, 2 * LEAF as u64);
/// tree.leaf(0, 1, moments_leaf(&[3.0; LEAF]));
/// assert!(tree.total().is_none());
/// tree.leaf(0, 0, moments_leaf(&[1.0; LEAF]));
/// let total = tree.total().unwrap();
/// assert_eq!((total.mean(), total.variance()), (Some(2.0), Some(1.0)));
/// ```
#[derive(Clone, Debug)]
pub struct MergeTree<M> {
    /// Leaves of a row.
    leaves: u64,
    rows: RowTree<M>,
    /// Tree of the row that received the last leaf; sequential use needs no other.
    current: Option<(u64, RowTree<M>)>,
    /// Trees of other incomplete rows, by row.
    started: BTreeMap<u64, RowTree<M>>,
    /// Passed to [`Merge::finish_row`].
    floor: f64,
}

impl<M: Merge> MergeTree<M> {
    /// Creates an empty tree for a tensor of `[rows, cols]` values.
    pub fn new(rows: u64, cols: u64) -> MergeTree<M> {
        let leaves = cols.div_ceil(LEAF as u64);
        MergeTree { leaves, rows: RowTree::new(rows), current: None, started: BTreeMap::new(), floor: 0.0 }
    }

    /// Sets the floor that [`Merge::finish_row`] receives, in units of the values: an RMS error that the
    /// encoding explains.
    ///
    /// All trees of one tensor must use the same floor.
    #[must_use]
    pub fn with_floor(self, floor: f64) -> MergeTree<M> {
        MergeTree { floor, ..self }
    }

    /// Inserts leaf number `leaf` of a row: the columns from `leaf * LEAF` on.
    ///
    /// Returns false in the same cases as [`MergeTree::insert`].
    pub fn leaf(&mut self, row: u64, leaf: u64, value: M) -> bool {
        self.insert(Node { row: Some(row), level: 0, index: leaf, value })
    }

    /// Inserts a node.
    ///
    /// Returns false, and drops the node, if the tensor has no such node or part of its interval is already
    /// covered. Then the input is inconsistent and no total would be right.
    pub fn insert(&mut self, node: Node<M>) -> bool {
        match node.row {
            None if self.leaves == 0 => false,
            None => self.insert_rows(node),
            Some(row) => self.insert_leaves(row, node),
        }
    }

    /// Inserts a node of whole rows, none of which may be started.
    fn insert_rows(&mut self, node: Node<M>) -> bool {
        let part = self.rows.part(node.level, node.index, node.value);
        let started = part.as_ref().is_some_and(|p| {
            let interval = p.start..p.end;
            self.current.as_ref().is_some_and(|(row, _)| interval.contains(row))
                || self.started.range(interval).next().is_some()
        });
        !started && self.rows.insert(part)
    }

    /// Inserts a node of leaves of `row`; passes the row on to the tree of rows when it is complete.
    fn insert_leaves(&mut self, row: u64, node: Node<M>) -> bool {
        let mut tree = match self.current.take() {
            Some((current, tree)) if current == row => tree,
            other => {
                self.started.extend(other);
                match self.started.remove(&row) {
                    Some(tree) => tree,
                    None if row >= self.rows.n || self.rows.covers(row, row + 1) => return false,
                    None => RowTree::new(self.leaves),
                }
            }
        };
        let part = tree.part(node.level, node.index, node.value);
        let inserted = tree.insert(part);
        if let Some(root) = tree.root() {
            let mut value = root.value.clone();
            value.finish_row(row, self.floor);
            self.rows.insert(Some(OpenNode { start: row, end: row + 1, level: 0, value }));
        } else if tree.parts().next().is_some() {
            self.current = Some((row, tree));
        }
        inserted
    }

    /// Pending nodes: complete rows first, then the nodes of started rows, each in ascending order.
    pub fn nodes(&self) -> impl Iterator<Item = Node<&M>> {
        let mut rows: Vec<_> = self.rows.parts().map(|p| node(None, p)).collect();
        rows.sort_by_key(|n| n.index << n.level);
        let current = self.current.as_ref().map(|(row, tree)| (row, tree));
        let started = self.started.iter().chain(current);
        let mut parts: Vec<_> =
            started.flat_map(|(&row, tree)| tree.parts().map(move |p| node(Some(row), p))).collect();
        parts.sort_by_key(|n| (n.row, n.index << n.level));
        rows.into_iter().chain(parts)
    }

    /// Removes the pending nodes and returns them in the order of [`MergeTree::nodes`].
    ///
    /// Inserting them into another tree of the same tensor continues there.
    pub fn drain(&mut self) -> Vec<Node<M>> {
        let owned = |n: Node<&M>| Node { row: n.row, level: n.level, index: n.index, value: n.value.clone() };
        let out = self.nodes().map(owned).collect();
        self.rows = RowTree::new(self.rows.n);
        self.current = None;
        self.started.clear();
        out
    }

    /// Inserts all pending nodes of `other`, a tree over the same grid.
    pub fn absorb(&mut self, mut other: MergeTree<M>) {
        for node in other.drain() {
            self.insert(node);
        }
    }

    /// Measurement of the whole tensor, or `None` until every leaf has arrived.
    ///
    /// For a tensor without elements it is the measurement of an empty interval.
    pub fn total(&self) -> Option<M> {
        if self.leaves == 0 || self.rows.n == 0 {
            return Some(M::default());
        }
        self.rows.root().map(|p| p.value.clone())
    }
}

/// Converts a pending node to its public form.
fn node<M>(row: Option<u64>, part: &OpenNode<M>) -> Node<&M> {
    Node { row, level: part.level, index: part.index(), value: &part.value }
}

/// A tree as it is stored: its grid in rows and leaves, its floor, its pending nodes in the order of
/// [`MergeTree::nodes`].
#[derive(Serialize, Deserialize)]
struct StoredTree<T> {
    rows: u64,
    leaves: u64,
    floor: f64,
    nodes: Vec<T>,
}

impl<M: Merge + Serialize> Serialize for MergeTree<M> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let nodes = self.nodes().collect();
        StoredTree { rows: self.rows.n, leaves: self.leaves, floor: self.floor, nodes }.serialize(s)
    }
}

impl<'de, M: Merge + Deserialize<'de>> Deserialize<'de> for MergeTree<M> {
    /// Fails where a node is none of the grid, or two cover the same.
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<MergeTree<M>, D::Error> {
        let StoredTree { rows, leaves, floor, nodes } = StoredTree::<Node<M>>::deserialize(d)?;
        let mut tree = MergeTree { leaves, ..MergeTree::new(rows, 0) }.with_floor(floor);
        match nodes.into_iter().all(|node| tree.insert(node)) {
            true => Ok(tree),
            false => Err(D::Error::custom("nodes that no tree of this grid has")),
        }
    }
}
