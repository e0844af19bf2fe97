//! The Hugging Face tensors that a GGUF tensor was made of, and what undoes the converter's changes of their values.
//!
//! llama.cpp's converter renames every tensor, and permutes, shifts or stacks some. An architecture whose changes are not
//! known is refused rather than guessed. Source: `convert_hf_to_gguf.py` of llama.cpp.

use super::arch::module::Module;
use super::arch::{self, Arch, GgufValues, NormForm};
use super::tensor_id::{TensorId, TensorPart};
use crate::tensor::Metadata;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Where the rows of a GGUF tensor come from on the Hugging Face side.
#[derive(Clone, Debug, PartialEq)]
pub struct HfSource {
    /// The tensors whose rows are stacked, in order; one for all but expert stacks.
    pub names: Vec<String>,
    /// Rows of one rotary head, where the converter interleaved the halves.
    pub rotary_heads: Option<u64>,
    /// What has to be added to the GGUF values to get the original ones.
    pub add: f32,
}

/// Why a GGUF tensor cannot be mapped back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmapped {
    /// What the converter does to this architecture's values is not known.
    Architecture,
    /// The architecture has no such tensor.
    Tensor,
}

/// The origin of the GGUF tensor `name` with `rows` rows, of a file with `metadata`. `experts` is the length of the
/// outermost axis of a stacked tensor.
///
/// # Errors
/// [`Unmapped`] where the architecture or the tensor has no known origin, or the number of heads is not known.
pub fn hf_source(name: &str, rows: u64, experts: u64, metadata: &Metadata) -> Result<HfSource, Unmapped> {
    let architecture = metadata.text("general.architecture").unwrap_or("");
    let known = |a: &&Arch| a.gguf_values != GgufValues::Unknown;
    let mut archs = arch::of_gguf(architecture).filter(known).peekable();
    archs.peek().ok_or(Unmapped::Architecture)?;
    // Several architectures may share a GGUF name: Mixtral is a Llama with experts.
    let found = archs.find_map(|arch| {
        let id = arch.parse_gguf(name)?;
        Some((arch, id, hf_names(arch, id, name, experts)?))
    });
    let (arch, id, names) = found.ok_or(Unmapped::Tensor)?;
    let shifted = arch.norm_form == NormForm::OnePlusGain && id.module.is_norm();
    Ok(HfSource {
        rotary_heads: rotary_heads(arch, id, rows, metadata)?,
        add: if shifted && id.part == TensorPart::Weight { -1.0 } else { 0.0 },
        names,
    })
}

fn hf_names(arch: &Arch, id: TensorId, name: &str, experts: u64) -> Option<Vec<String>> {
    if name.contains("_exps.") {
        let expert = |e| arch.to_hf(TensorId { expert: u32::try_from(e).ok(), ..id });
        return (0..experts).map(expert).collect();
    }
    Some(Vec::from([arch.to_hf(id)?]))
}

/// Rows of one head of a query or key projection that the converter interleaved.
fn rotary_heads(arch: &Arch, id: TensorId, rows: u64, metadata: &Metadata) -> Result<Option<u64>, Unmapped> {
    let is_k = id.module == Module::AttnK;
    if arch.gguf_values != GgufValues::InterleavedQk || !(is_k || id.module == Module::AttnQ) {
        return Ok(None);
    }
    let count = |key: &str| metadata.uint(&format!("{}.attention.{key}", arch.gguf.unwrap_or("")));
    let heads = if is_k { count("head_count_kv") } else { None }.or_else(|| count("head_count"));
    // Without a head count the permutation is unknown, and guessing would compare the wrong rows.
    match heads {
        Some(h) if h != 0 && rows.is_multiple_of(h) && (rows / h).is_multiple_of(2) => Ok(Some(rows / h)),
        _ => Err(Unmapped::Tensor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::MetaValue;

    fn arch(name: &str) -> Metadata {
        Metadata(alloc::vec![
            ("general.architecture".into(), MetaValue::String(name.into())),
            (format!("{name}.attention.head_count"), MetaValue::U32(8)),
            (format!("{name}.attention.head_count_kv"), MetaValue::U32(4)),
        ])
    }

    #[test]
    fn llama_queries_and_keys_are_unpermuted() {
        let o = hf_source("blk.3.attn_q.weight", 256, 1, &arch("llama")).unwrap();
        assert_eq!(o.names, ["model.layers.3.self_attn.q_proj.weight"]);
        assert_eq!(o.rotary_heads, Some(32));
        let o = hf_source("blk.3.attn_k.weight", 128, 1, &arch("llama")).unwrap();
        assert_eq!(o.rotary_heads, Some(32));
        assert_eq!(hf_source("blk.3.attn_v.weight", 128, 1, &arch("llama")).unwrap().rotary_heads, None);
        assert_eq!(hf_source("blk.3.attn_q.weight", 256, 1, &arch("qwen3")).unwrap().rotary_heads, None);
        let bare = Metadata(alloc::vec![("general.architecture".into(), MetaValue::String("llama".into()))]);
        assert_eq!(hf_source("blk.3.attn_q.weight", 256, 1, &bare), Err(Unmapped::Tensor));
    }

    #[test]
    fn gemma_norms_are_shifted_back() {
        let o = hf_source("blk.0.ffn_norm.weight", 1, 1, &arch("gemma2")).unwrap();
        assert_eq!((o.names[0].as_str(), o.add), ("model.layers.0.pre_feedforward_layernorm.weight", -1.0));
        assert_eq!(hf_source("blk.0.ffn_up.weight", 1, 1, &arch("gemma")).unwrap().add, 0.0);
    }

    #[test]
    fn experts_are_unstacked() {
        let o = hf_source("blk.1.ffn_down_exps.weight", 8, 2, &arch("llama")).unwrap();
        let want = [
            "model.layers.1.block_sparse_moe.experts.0.w2.weight",
            "model.layers.1.block_sparse_moe.experts.1.w2.weight",
        ];
        assert_eq!(o.names, want);
        let o = hf_source("blk.1.ffn_down_exps.weight", 8, 1, &arch("qwen3moe")).unwrap();
        assert_eq!(o.names, ["model.layers.1.mlp.experts.0.down_proj.weight"]);
    }

    #[test]
    fn the_unknown_is_not_guessed() {
        assert_eq!(hf_source("blk.0.attn_q.weight", 8, 1, &arch("mamba")), Err(Unmapped::Architecture));
        assert_eq!(hf_source("blk.0.ssm_a", 8, 1, &arch("llama")), Err(Unmapped::Tensor));
    }
}
