//! The fixed merge tree, fed in any order. Knows nothing of what is measured.
//!
//! Two levels of the same thing: a tree over the leaves of each row that has begun, and one over the rows.
//! Pending nodes are disjoint intervals. In sequential use they are the digits of a binary counter, at the end
//! of a short list; only nodes that arrive out of order go to the map beside it.

use super::{LEAF, Merge};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A measurement and the aligned interval that it covers: `[index << level, (index + 1) << level)`, cut at
/// the end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node<M> {
    /// `Some(r)`: the interval is of leaves of row `r`; `None`: of whole rows.
    pub row: Option<u64>,
    /// log2 of the interval's length.
    pub level: u8,
    /// Which interval of that length.
    pub index: u64,
    /// What was measured.
    pub value: M,
}

/// One node of a tree, with its interval at hand.
#[derive(Clone, Debug)]
struct OpenNode<M> {
    start: u64,
    end: u64,
    level: u8,
    value: M,
}

impl<M> OpenNode<M> {
    fn index(&self) -> u64 {
        self.start >> self.level
    }
}

/// Beyond this the list of pending nodes is not what sequential use makes, and further ones go to the map.
const LIST: usize = 64;

/// The merge tree over `n` things.
#[derive(Clone, Debug)]
struct RowTree<M> {
    n: u64,
    list: Vec<OpenNode<M>>,
    map: BTreeMap<u64, OpenNode<M>>,
}

impl<M: Merge> RowTree<M> {
    fn new(n: u64) -> RowTree<M> {
        RowTree { n, list: Vec::new(), map: BTreeMap::new() }
    }

    /// The part for node `index` of `level`, where the tree has such a node.
    fn part(&self, level: u8, index: u64, value: M) -> Option<OpenNode<M>> {
        let len = 1_u64.checked_shl(level.into())?;
        let start = index.checked_mul(len).filter(|&s| s < self.n)?;
        Some(OpenNode { start, end: start.saturating_add(len).min(self.n), level, value })
    }

    /// Whether a pending node covers a part of `start..end`.
    fn covers(&self, start: u64, end: u64) -> bool {
        let sees = |p: &OpenNode<M>| p.start < end && start < p.end;
        // The list is ordered; in sequential use its last entry already lies before.
        let listed = self.list.iter().rev().take_while(|p| p.end > start).any(sees);
        listed || (!self.map.is_empty() && self.map.range(..end).next_back().is_some_and(|(_, p)| sees(p)))
    }

    /// Takes a node and merges it as far up as its siblings are there; false where it is no node of this
    /// tree, or covers what is covered.
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

    /// Takes out the pending node that starts at `start` on `level`.
    fn take(&mut self, start: u64, level: u8) -> Option<OpenNode<M>> {
        let near = self.list.iter().rev().take_while(|p| p.start >= start).count();
        let at = self.list.len() - near;
        if self.list.get(at).is_some_and(|p| p.start == start) {
            return (self.list[at].level == level).then(|| self.list.remove(at));
        }
        if self.map.get(&start).is_some_and(|p| p.level == level) { self.map.remove(&start) } else { None }
    }

    fn keep(&mut self, part: OpenNode<M>) {
        let ordered = self.list.last().is_none_or(|p| p.start < part.start);
        if ordered && self.list.len() < LIST {
            self.list.push(part);
        } else {
            self.map.insert(part.start, part);
        }
    }

    fn parts(&self) -> impl Iterator<Item = &OpenNode<M>> {
        self.list.iter().chain(self.map.values())
    }

    /// The node that covers everything.
    fn root(&self) -> Option<&OpenNode<M>> {
        self.list.last().or_else(|| self.map.values().next()).filter(|p| p.end - p.start == self.n)
    }
}

/// Collects the nodes of one tensor of `rows` times `cols` values, in any order, to one total.
#[derive(Clone, Debug)]
pub struct MergeTree<M> {
    leaves: u64,
    rows: RowTree<M>,
    /// The row that the last leaf was of; sequential use needs no other.
    current: Option<(u64, RowTree<M>)>,
    begun: BTreeMap<u64, RowTree<M>>,
    floor: f64,
}

impl<M: Merge> MergeTree<M> {
    /// An empty forest.
    pub fn new(rows: u64, cols: u64) -> MergeTree<M> {
        let leaves = cols.div_ceil(LEAF as u64);
        MergeTree { leaves, rows: RowTree::new(rows), current: None, begun: BTreeMap::new(), floor: 0.0 }
    }

    /// The same with a floor for [`Merge::finish_row`], in units of the values. All forests of one tensor need the same.
    #[must_use]
    pub fn with_floor(self, floor: f64) -> MergeTree<M> {
        MergeTree { floor, ..self }
    }

    /// Takes leaf number `leaf` of a row: its columns from `leaf * LEAF`. False as for [`MergeTree::insert`].
    pub fn leaf(&mut self, row: u64, leaf: u64, value: M) -> bool {
        self.insert(Node { row: Some(row), level: 0, index: leaf, value })
    }

    /// Takes a node. False, and the node is dropped, where the tensor has no such node, or where it covers
    /// what was already covered: then the caller (or its journal) is wrong, and no total could be right.
    pub fn insert(&mut self, node: Node<M>) -> bool {
        match node.row {
            None if self.leaves == 0 => false,
            None => self.insert_rows(node),
            Some(row) => self.insert_leaves(row, node),
        }
    }

    fn insert_rows(&mut self, node: Node<M>) -> bool {
        let part = self.rows.part(node.level, node.index, node.value);
        let begun = part.as_ref().is_some_and(|p| {
            let mine = p.start..p.end;
            self.current.as_ref().is_some_and(|(row, _)| mine.contains(row))
                || self.begun.range(mine).next().is_some()
        });
        !begun && self.rows.insert(part)
    }

    fn insert_leaves(&mut self, row: u64, node: Node<M>) -> bool {
        let mut tree = match self.current.take() {
            Some((current, tree)) if current == row => tree,
            other => {
                self.begun.extend(other);
                match self.begun.remove(&row) {
                    Some(tree) => tree,
                    None if row >= self.rows.n || self.rows.covers(row, row + 1) => return false,
                    None => RowTree::new(self.leaves),
                }
            }
        };
        let part = tree.part(node.level, node.index, node.value);
        let taken = tree.insert(part);
        if let Some(root) = tree.root() {
            let mut value = root.value.clone();
            value.finish_row(row, self.floor);
            self.rows.insert(Some(OpenNode { start: row, end: row + 1, level: 0, value }));
        } else if tree.parts().next().is_some() {
            self.current = Some((row, tree));
        }
        taken
    }

    /// The pending nodes: complete rows first, then the parts of begun rows, each in order.
    pub fn nodes(&self) -> impl Iterator<Item = Node<&M>> {
        let mut rows: Vec<_> = self.rows.parts().map(|p| node(None, p)).collect();
        rows.sort_by_key(|n| n.index << n.level);
        let current = self.current.as_ref().map(|(row, tree)| (row, tree));
        let begun = self.begun.iter().chain(current);
        let mut parts: Vec<_> =
            begun.flat_map(|(&row, tree)| tree.parts().map(move |p| node(Some(row), p))).collect();
        parts.sort_by_key(|n| (n.row, n.index << n.level));
        rows.into_iter().chain(parts)
    }

    /// Takes out the pending nodes, in the order of [`MergeTree::nodes`]; inserted elsewhere, they continue there.
    pub fn drain(&mut self) -> Vec<Node<M>> {
        let own = |n: Node<&M>| Node { row: n.row, level: n.level, index: n.index, value: n.value.clone() };
        let out = self.nodes().map(own).collect();
        self.rows = RowTree::new(self.rows.n);
        self.current = None;
        self.begun.clear();
        out
    }

    /// Inserts all pending nodes of `other`, a tree over the same grid.
    pub fn absorb(&mut self, mut other: MergeTree<M>) {
        for node in other.drain() {
            self.insert(node);
        }
    }

    /// The measurement of the whole tensor, once every leaf has arrived; that of nothing, for no elements.
    pub fn total(&self) -> Option<M> {
        if self.leaves == 0 || self.rows.n == 0 {
            return Some(M::default());
        }
        self.rows.root().map(|p| p.value.clone())
    }
}

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
