//! What encoders, alone or with a decoder, write beside, or instead of, the common keys.

use super::KeyRule::{self, Blocks, Computed, Count, FileType, FixedFlag, FixedReal, Pooling, Real};
use super::KeyWriter;
use super::base::LAYER_NORM_EPS;
use super::families::{EMBEDDING, HEAD_COUNT, LN_EPS};
use crate::error::{Code, Error, Result};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde_json::Value;

/// Before the common keys of BERT: rows of positions that are not used, and the epsilon of DistilBERT.
pub const BERT_BEFORE: &[KeyRule] = &[Computed(used_positions)];
/// DistilBERT, before [`BERT_BEFORE`].
pub const DISTILBERT_BEFORE: &[KeyRule] = &[FixedReal("attention.layer_norm_epsilon", 1e-12)];
/// BERT.
pub const BERT: &[KeyRule] = &[FixedFlag("attention.causal", false), Pooling, Computed(labels)];
/// Before the common keys of Nomic-BERT.
pub const NOMIC_BEFORE: &[KeyRule] = &[Computed(trained_context)];
/// T5 and its encoder, without the common keys: sizes.
pub const T5_SIZES: &[KeyRule] = &[
    Computed(|to| {
        let context = to.hyper.count(&["n_positions"])?.unwrap_or(512);
        to.count("context_length", context);
        Ok(())
    }),
    EMBEDDING,
    Count("feed_forward_length", &["d_ff"]),
    Blocks,
];
/// The layers of T5's decoder, after [`T5_SIZES`].
pub const T5_DECODER_BLOCKS: &[KeyRule] =
    &[Count("decoder_block_count", &["num_decoder_layers", "num_layers"])];
/// Attention and norms of T5 and its encoder.
pub const T5_ATTENTION: &[KeyRule] = &[
    HEAD_COUNT,
    Count("attention.key_length", &["d_kv"]),
    Count("attention.value_length", &["d_kv"]),
    LN_EPS,
    Count("attention.relative_buckets_count", &["relative_attention_num_buckets"]),
    Real("attention.layer_norm_rms_epsilon", LAYER_NORM_EPS),
];
/// The first token of T5's decoder, after [`T5_ATTENTION`].
pub const T5_DECODER_START: &[KeyRule] = &[Count("decoder_start_token_id", &["decoder_start_token_id"])];
/// The file type alone, where the common keys are left out.
pub const FILE_TYPE: &[KeyRule] = &[FileType];

/// RoBERTa's positions begin behind that of its padding.
fn used_positions(to: &mut KeyWriter) -> Result<()> {
    if !matches!(to.hyper.text(&["model_type"])?, Some("roberta" | "xlm-roberta")) {
        return Ok(());
    }
    let rows = to.hyper.count(&["max_position_embeddings"])?;
    let Some((rows, pad)) = rows.zip(to.hyper.count(&["pad_token_id"])?) else { return Ok(()) };
    to.hyper.assume("max_position_embeddings", rows.saturating_sub(pad.saturating_add(1)));
    Ok(())
}

/// The classes of a classifier, unless they have no names.
fn labels(to: &mut KeyWriter) -> Result<()> {
    let Some(labels) = to.hyper.get("id2label").and_then(Value::as_object) else { return Ok(()) };
    let number =
        |(id, label): (&String, &Value)| Some((id.parse::<u32>().ok()?, String::from(label.as_str()?)));
    let Some(mut named) = labels.iter().map(number).collect::<Option<Vec<_>>>() else {
        return Err(Error::new(Code::BadValue, "\"id2label\" does not map numbers to texts"));
    };
    named.sort_unstable();
    let names: Vec<String> = named.into_iter().map(|(_, label)| label).collect();
    if !(names.len() == 2 && names.iter().zip(["LABEL_0", "LABEL_1"]).all(|(a, b)| a == b)) {
        to.set("classifier.output_labels", super::texts(&names));
    }
    Ok(())
}

/// The context that Nomic-BERT was trained with, which its configuration exceeds.
fn trained_context(to: &mut KeyWriter) -> Result<()> {
    let context = match to.hyper.count(&["n_positions"])? {
        Some(8192) => 2048,
        Some(2048) => 512,
        other => {
            let message = format!("\"n_positions\" is {other:?}; for Nomic-BERT 2048 and 8192 are known");
            return Err(Error::new(Code::BadValue, message));
        }
    };
    to.hyper.assume("max_position_embeddings", context);
    Ok(())
}
