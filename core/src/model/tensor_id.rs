//! The canonical name of a tensor, and its names in Hugging Face and GGUF files.
//!
//! Names depend on the architecture: [`Arch::parse_hf`] and [`Arch::to_hf`] are inverse for every name of its map, and so
//! are [`Arch::parse_gguf`] and [`Arch::to_gguf`]. Knows no shapes. Source of the names: `tensor_mapping.py` of llama.cpp.

use super::arch::module::Module;
use super::arch::row::{LocalName, NameForm, TensorMapRow, number};
use super::arch::{Arch, GENERIC, Prefix};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Which tensor of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TensorPart {
    /// `.weight`.
    Weight,
    /// `.bias`.
    Bias,
    /// The module's only tensor, without a part in its GGUF name (`blk.0.ssm_a`).
    Bare,
}

impl TensorPart {
    /// The end of a GGUF name.
    const fn suffix(self) -> &'static str {
        match self {
            TensorPart::Weight => ".weight",
            TensorPart::Bias => ".bias",
            TensorPart::Bare => "",
        }
    }
}

/// The canonical name of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorId {
    /// Its layer; none outside of layers.
    pub layer: Option<u32>,
    /// What it is.
    pub module: Module,
    /// Its index where a GGUF stacks such tensors: the expert, or the head of a norm for each head.
    pub expert: Option<u32>,
    /// Which tensor of the module.
    pub part: TensorPart,
}

/// A tensor by its GGUF name, and which of its experts where the GGUF tensor stacks them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GgufName {
    /// The GGUF name.
    pub name: String,
    /// The expert, where the tensor holds one of a stack.
    pub expert: Option<u64>,
}

/// Whether `name` follows GGUF's naming.
pub fn is_gguf_name(name: &str) -> bool {
    const ROOT: &[&str] = &["token_embd.", "output_norm.", "output.", "rope_freqs."];
    name.strip_prefix("blk.").is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()))
        || ROOT.iter().any(|r| name.starts_with(r))
}

/// The layer of a GGUF tensor; -1 outside of layers, which is also where such tensors sort.
pub fn gguf_layer(gguf: &str) -> i64 {
    let digits = gguf.strip_prefix("blk.").and_then(|r| r.split('.').next());
    digits.and_then(|d| d.parse::<u32>().ok()).map_or(-1, i64::from)
}

/// A GGUF name in its parts: `blk.x` for `blk.N.x`, the layer, the part.
struct GgufParts<'a> {
    stack: &'a str,
    layer: Option<u32>,
    tail: &'a str,
    part: TensorPart,
}

impl<'a> GgufParts<'a> {
    fn of(name: &'a str) -> GgufParts<'a> {
        let parts = [TensorPart::Weight, TensorPart::Bias];
        let split = parts.into_iter().find_map(|part| Some((name.strip_suffix(part.suffix())?, part)));
        let (stem, part) = split.unwrap_or((name, TensorPart::Bare));
        let layered = ["blk.", "enc.blk.", "dec.blk."].into_iter().find_map(|stack| {
            let (layer, rest) = number(stem.strip_prefix(stack)?)?;
            Some((stack, layer, rest.strip_prefix('.')?))
        });
        match layered {
            Some((stack, layer, tail)) => GgufParts { stack, layer: Some(layer), tail, part },
            None => GgufParts { stack: "", layer: None, tail: stem, part },
        }
    }

    fn is(&self, gguf: &str) -> bool {
        gguf.strip_prefix(self.stack) == Some(self.tail)
    }

    fn id(&self, module: Module) -> TensorId {
        TensorId { layer: self.layer, module, expert: None, part: self.part }
    }
}

/// A GGUF name with its layer number and part.
fn gguf_text(gguf: &str, id: TensorId) -> Option<String> {
    let part = id.part.suffix();
    match (gguf.split_once("blk."), id.layer) {
        (Some((stack, tail)), Some(layer)) => Some(format!("{stack}blk.{layer}.{tail}{part}")),
        (None, None) => Some(format!("{gguf}{part}")),
        _ => None,
    }
}

impl TensorId {
    /// The tensor of `module` if `name` is its GGUF name `gguf` (`blk.attn_q`) with a layer number and a part.
    pub fn of_gguf_name(name: &str, gguf: &str, module: Module) -> Option<TensorId> {
        let parts = GgufParts::of(name);
        parts.is(gguf).then(|| parts.id(module))
    }

    /// The GGUF name `gguf` (`blk.attn_q`) with the layer number and the part of this tensor.
    pub fn gguf_text(self, gguf: &str) -> Option<String> {
        gguf_text(gguf, self)
    }
}

impl TensorMapRow {
    /// Whether the row names the tensor's part, of a stack if the tensor is of one.
    pub fn names_part(&self, id: TensorId) -> bool {
        let form = match self.form {
            NameForm::Module => id.part != TensorPart::Bare,
            NameForm::Tensor(part) => {
                part == id.part || (part, id.part) == (TensorPart::Weight, TensorPart::Bias)
            }
        };
        form && self.tail.contains("{expert}") == id.expert.is_some()
    }

    /// The name of a tensor of this row in Hugging Face files under a prefix.
    pub fn hf_name(&self, prefix: Prefix, id: TensorId) -> Option<String> {
        let before = if self.module == Module::Output { prefix.head } else { prefix.decoder };
        let tail = match id.expert {
            Some(expert) => self.tail.replace("{expert}", &expert.to_string()),
            None => self.tail.to_string(),
        };
        let end = match (self.form, id.part) {
            (NameForm::Module, part) => part.suffix(),
            (NameForm::Tensor(TensorPart::Weight), TensorPart::Bias) => "_bias",
            (NameForm::Tensor(_), _) => "",
        };
        match (self.folder, id.layer) {
            ("", None) => Some(format!("{before}{tail}{end}")),
            (folder, Some(layer)) if !folder.is_empty() => {
                Some(format!("{before}{folder}.{layer}.{tail}{end}"))
            }
            _ => None,
        }
    }
}

impl TensorId {
    /// The tensor that a GGUF of any architecture stores under `name`.
    pub fn parse_gguf(name: &str) -> Option<TensorId> {
        let parts = GgufParts::of(name);
        let known = Module::ALL.iter().find(|m| matches!(m.gguf(), [one] if parts.is(one)))?;
        Some(parts.id(*known))
    }
}

impl TensorId {
    /// The tensor of a name of either naming, whatever the architecture.
    pub fn parse(name: &str) -> Option<TensorId> {
        TensorId::parse_gguf(name).or_else(|| GENERIC.parse_hf(name))
    }
}

impl Arch {
    /// The rows of the decoder and its head.
    pub fn rows(&self) -> impl Iterator<Item = &'static TensorMapRow> {
        self.tensors.iter().copied().flatten()
    }

    /// The tensor that a GGUF of this architecture stores under `name`.
    pub fn parse_gguf(&self, name: &str) -> Option<TensorId> {
        let parts = GgufParts::of(name);
        let own = |r: &&TensorMapRow| matches!(r.gguf_names(), [one] if parts.is(one));
        match self.rows().find(own) {
            Some(row) => Some(parts.id(row.module)),
            None => TensorId::parse_gguf(name),
        }
    }

    /// The GGUF names of a tensor: several where the converter splits it, none where it leaves it out. The index in a
    /// stack is not part of them.
    pub fn to_gguf(&self, id: TensorId) -> Vec<String> {
        let own = self.rows().find(|r| r.module == id.module);
        let names = own.map_or(id.module.gguf(), TensorMapRow::gguf_names);
        names.iter().filter_map(|gguf| gguf_text(gguf, id)).collect()
    }

    /// The tensor of this architecture that a Hugging Face file stores under `name`, whatever its prefix.
    pub fn parse_hf(&self, name: &str) -> Option<TensorId> {
        self.prefixes.iter().find_map(|prefix| self.parse_hf_under(*prefix, name))
    }

    /// The same for one prefix.
    pub fn parse_hf_under(&self, prefix: Prefix, name: &str) -> Option<TensorId> {
        let head = name.strip_prefix(prefix.head);
        let inner = name.strip_prefix(prefix.decoder);
        let mut found = head.and_then(|n| self.parse_local(n, true));
        if found.is_none() {
            found = inner.and_then(|n| self.parse_local(n, false));
        }
        found
    }

    fn parse_local(&self, local: &str, head: bool) -> Option<TensorId> {
        let module = [TensorPart::Weight, TensorPart::Bias]
            .into_iter()
            .find_map(|part| Some((LocalName::of(local.strip_suffix(part.suffix())?), part)));
        let whole = LocalName::of(local);
        let biased = local.strip_suffix("_bias").map(LocalName::of);
        self.rows().filter(|r| (r.module == Module::Output) == head).find_map(|row| {
            let ((layer, expert), part) = match row.form {
                NameForm::Module => module.and_then(|(name, part)| Some((name.fits(row)?, part)))?,
                NameForm::Tensor(part) => match (whole.fits(row), part) {
                    (Some(found), part) => (found, part),
                    (None, TensorPart::Weight) => (biased?.fits(row)?, TensorPart::Bias),
                    (None, _) => return None,
                },
            };
            Some(TensorId { layer, module: row.module, expert, part })
        })
    }

    /// The name of a tensor in Hugging Face files of this architecture, with its usual prefix.
    pub fn to_hf(&self, id: TensorId) -> Option<String> {
        self.to_hf_under(*self.prefixes.first()?, id)
    }

    /// The same with another prefix.
    pub fn to_hf_under(&self, prefix: Prefix, id: TensorId) -> Option<String> {
        let row = self.rows().find(|r| r.module == id.module && r.names_part(id))?;
        row.hf_name(prefix, id)
    }

    /// The GGUF tensor that `name`, of either naming, is or becomes; [`GENERIC`] answers where this architecture has no
    /// such tensor. An unknown module of a layer keeps its name, so that it sorts into its layer.
    pub fn gguf_name(&self, name: &str) -> Option<GgufName> {
        if is_gguf_name(name) {
            return Some(GgufName { name: name.to_string(), expert: None });
        }
        let known = |arch: &Arch| arch.parse_hf(name).and_then(|id| arch.primary_gguf(id));
        known(self).or_else(|| known(&GENERIC)).or_else(|| unknown_in_layer(name))
    }

    fn primary_gguf(&self, id: TensorId) -> Option<GgufName> {
        let row = self.rows().find(|r| r.module == id.module)?;
        let gguf = id.module.primary(row.gguf_names())?;
        Some(GgufName { name: gguf_text(gguf, id)?, expert: id.expert.map(u64::from) })
    }
}

/// `blk.N.` and the rest of the name, for a module of a decoder's layer that no architecture names. Experts stay unknown.
fn unknown_in_layer(name: &str) -> Option<GgufName> {
    const EXPERTS: &[&str] = &["mlp.experts.", "block_sparse_moe.experts.", "feed_forward.experts."];
    let mut locals = GENERIC.prefixes.iter().filter_map(|p| name.strip_prefix(p.decoder));
    let (layer, rest) = locals.find_map(|local| {
        let rest = ["layers.", "h.", "blocks."].iter().find_map(|folder| local.strip_prefix(folder))?;
        let (layer, rest) = number(rest)?;
        Some((layer, rest.strip_prefix('.')?))
    })?;
    let expert = EXPERTS.iter().any(|p| rest.starts_with(p));
    (rest.contains('.') && !expert).then(|| GgufName { name: format!("blk.{layer}.{rest}"), expert: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(of: &str) -> String {
        GENERIC.gguf_name(of).map_or_else(|| "none".to_string(), |t| t.name)
    }

    #[test]
    fn both_namings_lead_to_one_name() {
        for (hf, gguf) in [
            ("model.embed_tokens.weight", "token_embd.weight"),
            ("lm_head.weight", "output.weight"),
            ("language_model.lm_head.weight", "output.weight"),
            ("model.layers.3.self_attn.v_proj.weight", "blk.3.attn_v.weight"),
            ("model.language_model.layers.3.mlp.down_proj.weight", "blk.3.ffn_down.weight"),
            ("transformer.h.0.self_attention.query_key_value.weight", "blk.0.attn_qkv.weight"),
            ("model.layers.3.mlp.gate_up_proj.weight", "blk.3.ffn_up.weight"),
            ("blk.3.ffn_up.weight", "blk.3.ffn_up.weight"),
            ("model.layers.0.post_attention_layernorm.weight", "blk.0.ffn_norm.weight"),
            ("model.layers.3.mlp.experts.gate_up_proj", "blk.3.ffn_up_exps.weight"),
            ("model.layers.3.linear_attn.out_proj.weight", "blk.3.linear_attn.out_proj.weight"),
            ("visual.blocks.3.mlp.fc1.weight", "none"),
            ("model.layers.-1.mlp.down_proj.weight", "none"),
        ] {
            assert_eq!(name(hf), gguf, "{hf}");
        }
    }

    #[test]
    fn experts_keep_their_number() {
        for (hf, gguf) in [
            ("model.layers.1.mlp.experts.12.down_proj.weight", "blk.1.ffn_down_exps.weight"),
            ("model.layers.1.block_sparse_moe.experts.12.w3.weight", "blk.1.ffn_up_exps.weight"),
        ] {
            assert_eq!(
                GENERIC.gguf_name(hf),
                Some(GgufName { name: gguf.to_string(), expert: Some(12) }),
                "{hf}"
            );
        }
        assert_eq!(name("model.layers.1.mlp.experts.12.other.weight"), "none");
    }

    #[test]
    fn layers_are_numbers() {
        assert_eq!(gguf_layer("blk.12.attn_q.weight"), 12);
        assert_eq!(gguf_layer("output.weight"), -1);
        assert_eq!(gguf_layer("blk.99999999999.x"), -1);
    }
}
