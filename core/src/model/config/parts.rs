//! What `config.json` says of the parts that only some families have.

use super::{ConfigReader, LIMIT};
use crate::error::Result;
use crate::model::arch::SlidingLayers;
use alloc::format;
use alloc::vec::Vec;
use serde_json::Value;

/// Linear attention by the gated delta rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// Heads of queries and keys.
    pub key_heads: usize,
    /// Heads of values: a multiple of those of keys.
    pub value_heads: usize,
    /// Values of a query or key.
    pub key_dim: usize,
    /// Values of a value.
    pub value_dim: usize,
}

/// Latent attention: keys and values are made from one short vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latent {
    /// Length of the vector that queries are made from, where they are not made from the stream.
    pub query_rank: Option<usize>,
    /// Length of the vector that keys and values are made from.
    pub rank: usize,
    /// The part of a query or key that is not rotated.
    pub plain_dim: usize,
    /// The part that is; all heads share the key's.
    pub rotary_dim: usize,
    /// Values of a value.
    pub value_dim: usize,
    /// Whether neighbours are rotated together, and not value `i` with value `i + half`.
    pub interleaved: bool,
}

/// Attention that does not look further back than some positions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sliding {
    /// How many positions it sees, itself among them.
    pub window: Option<usize>,
    /// Which layers; the last entry counts for all that follow.
    pub layers: Vec<bool>,
}

impl Sliding {
    /// The window of a layer, where it has one.
    pub fn of(&self, layer: usize) -> Option<usize> {
        let slides = self.layers.get(layer).or(self.layers.last()).copied().unwrap_or(false);
        self.window.filter(|_| slides)
    }
}

pub(super) fn linear(read: &ConfigReader<'_>) -> Result<Option<Linear>> {
    let size = |key: &str| read.size(&[key], LIMIT);
    let sizes = (
        size("linear_num_key_heads")?,
        size("linear_num_value_heads")?,
        size("linear_key_head_dim")?,
        size("linear_value_head_dim")?,
    );
    let (Some(key_heads), Some(value_heads), Some(key_dim), Some(value_dim)) = sizes else {
        return Ok(None);
    };
    if !value_heads.is_multiple_of(key_heads) {
        let message = format!("config.json: {value_heads} linear value heads for {key_heads} key heads");
        return Err(read.wrong(&["linear_num_value_heads"], message));
    }
    bounded(read, "linear_key_head_dim", key_heads, key_dim)?;
    bounded(read, "linear_value_head_dim", value_heads, value_dim)?;
    Ok(Some(Linear { key_heads, value_heads, key_dim, value_dim }))
}

pub(super) fn latent(read: &ConfigReader<'_>, heads: usize) -> Result<Option<Latent>> {
    let size = |key: &str| read.size(&[key], LIMIT);
    let Some(rank) = size("kv_lora_rank")? else { return Ok(None) };
    let latent = Latent {
        query_rank: size("q_lora_rank")?,
        rank,
        plain_dim: read.needed(&["qk_nope_head_dim"], LIMIT)?,
        rotary_dim: read.needed(&["qk_rope_head_dim"], LIMIT)?,
        value_dim: read.needed(&["v_head_dim"], LIMIT)?,
        interleaved: read.flag("rope_interleave").unwrap_or(true),
    };
    // The limit leaves room for these sums.
    bounded(read, "qk_nope_head_dim", heads, latent.plain_dim + latent.rotary_dim)?;
    bounded(read, "qk_nope_head_dim", heads, latent.plain_dim + latent.value_dim)?;
    Ok(Some(latent))
}

pub(super) fn sliding(read: &ConfigReader<'_>, usual: SlidingLayers, layers: usize) -> Result<Sliding> {
    // Some files say 0 where there is none.
    let none = read.get("sliding_window").and_then(Value::as_u64) == Some(0);
    let window = if none { None } else { read.size(&["sliding_window"], LIMIT)? };
    if let Some(kinds) = read.get("layer_types").and_then(Value::as_array) {
        let layers = kinds.iter().map(|k| k.as_str() == Some("sliding_attention")).collect();
        return Ok(Sliding { window, layers });
    }
    let layers = match usual {
        SlidingLayers::All => Vec::from([true]),
        SlidingLayers::Even => (0..layers).map(|layer| layer.is_multiple_of(2)).collect(),
        SlidingLayers::AllBut(n) => {
            let every =
                read.size(&["sliding_window_pattern", "_sliding_window_pattern"], LIMIT)?.unwrap_or(n);
            all_but(every, layers)
        }
        _ if read.flag("use_sliding_window") == Some(true) => {
            let first = read.size(&["max_window_layers"], LIMIT)?.unwrap_or(28);
            (0..layers).map(|layer| layer >= first).collect()
        }
        _ => Vec::new(),
    };
    Ok(Sliding { window, layers })
}

/// All layers but every `n`-th.
pub(super) fn all_but(n: usize, layers: usize) -> Vec<bool> {
    (1..=layers).map(|number| !number.is_multiple_of(n)).collect()
}

/// Layers that a list gives a 0; where it is empty or absent, those that the architecture leaves out.
///
/// # Errors
///
/// `bad_value` if their interval is no size.
pub(super) fn unrotated(read: &ConfigReader<'_>, usual: Option<usize>, layers: usize) -> Result<Vec<bool>> {
    match read.get("no_rope_layers").and_then(Value::as_array).filter(|list| !list.is_empty()) {
        Some(list) => Ok(list.iter().map(|rotated| rotated.as_u64() == Some(0)).collect()),
        None => {
            let every = read.size(&["no_rope_layer_interval"], LIMIT)?;
            Ok(unrotated_layers(usual.map(|usual| every.unwrap_or(usual)), layers))
        }
    }
}

/// The layers that an architecture leaves out of the rotary embedding.
pub(super) fn unrotated_layers(usual: Option<usize>, layers: usize) -> Vec<bool> {
    let every = |n: usize| (1..=layers).map(|number| number.is_multiple_of(n)).collect();
    usual.map_or_else(Vec::new, every)
}

/// Refuses heads that are longer together than any size may be.
pub(super) fn bounded(read: &ConfigReader<'_>, key: &str, heads: usize, dim: usize) -> Result<()> {
    if heads as u64 * dim as u64 <= LIMIT {
        return Ok(());
    }
    Err(read.wrong(&[key], format!("config.json: {heads} heads of {dim} values are more than {LIMIT}")))
}
