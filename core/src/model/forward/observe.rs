//! Sums of squares of the vectors that matrices are multiplied with, collected while a pass runs.
//!
//! Sums are binary64 and added in an order that only the tokens determine: token by token, or sequence by sequence.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The matrix of a tensor that vectors are multiplied with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum InputPart {
    /// The matrix whose first row is this one of the tensor: row 0 of a matrix, or the first row of one of a stack.
    Rows(u64),
    /// The key half of a head of an up-projection of latent attention. Engines absorb it: they multiply it with the queries of
    /// the head, before rotary positions.
    LatentKeys(usize),
    /// The value half of such a head. Engines multiply it with the mixed latent vectors of the head.
    LatentValues(usize),
}

/// Sums of one matrix.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChannelSums {
    /// The sum of squares of each input channel.
    pub sums: Vec<f64>,
    /// Number of vectors.
    pub count: u64,
}

/// Sums of squared inputs of matrices, by the name of the tensor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InputSums(BTreeMap<String, BTreeMap<InputPart, ChannelSums>>);

/// Sums of a matrix that is no product of the pass, for each sequence.
#[derive(Clone, Debug)]
pub(super) struct SideInput {
    /// The tensor.
    pub name: String,
    pub part: InputPart,
    /// Channels of a vector.
    pub width: usize,
    /// `[sequences, width]`
    pub sums: Vec<f64>,
    /// Vectors of all sequences.
    pub count: u64,
}

/// The sums of squares of the channels of vectors, in their order.
pub(super) fn squares(x: &[f64], width: usize) -> Vec<f64> {
    let mut sums = vec![0.0; width];
    for vector in x.chunks_exact(width.max(1)) {
        sums.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x * x);
    }
    sums
}

impl InputSums {
    fn of(&mut self, name: &str, part: InputPart, width: usize) -> &mut ChannelSums {
        if !self.0.contains_key(name) {
            self.0.insert(name.to_string(), BTreeMap::new());
        }
        let found = self.0.entry(name.to_string()).or_default().entry(part).or_default();
        if found.sums.len() < width {
            found.sums.resize(width, 0.0);
        }
        found
    }

    /// Adds vectors of `width` channels.
    pub(super) fn add(&mut self, name: &str, part: InputPart, width: usize, x: &[f64]) {
        let found = self.of(name, part, width);
        for vector in x.chunks_exact(width.max(1)) {
            found.sums.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x * x);
            found.count += 1;
        }
    }

    /// Adds the sums of sequences.
    pub(super) fn add_sums(&mut self, side: &SideInput) {
        let found = self.of(&side.name, side.part, side.width);
        for sequence in side.sums.chunks_exact(side.width.max(1)) {
            found.sums.iter_mut().zip(sequence).for_each(|(sum, x)| *sum += x);
        }
        found.count += side.count;
    }

    /// The sums of a matrix; `None` if no vector reached it.
    pub fn get(&self, name: &str, part: InputPart) -> Option<&ChannelSums> {
        self.0.get(name)?.get(&part)
    }

    /// The name of a tensor with a sum that is NaN or infinite.
    pub fn nonfinite(&self) -> Option<&str> {
        let bad = |parts: &BTreeMap<InputPart, ChannelSums>| {
            parts.values().flat_map(|s| &s.sums).any(|sum| !sum.is_finite())
        };
        self.0.iter().find(|(_, parts)| bad(parts)).map(|(name, _)| name.as_str())
    }
}
