//! Token ids of a text as sequences of an evaluation start: without what the tokenizer adds around it.

use crate::error::{Code, Error, Result};
use crate::format::{Checkpoint, Container};
use crate::model::tokenizer::pre::adds_bos;
use alloc::format;
use alloc::vec::Vec;
use serde_json::Value;

/// Token ids, and the token that starts every sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextTokens {
    /// The ids.
    pub ids: Vec<u32>,
    /// The token that starts every sequence, if the tokenizer has one.
    pub bos: Option<u32>,
}

/// The tokens of a text from its encoded `ids`; `around` are the ids of an empty text.
///
/// # Errors
///
/// `unsupported_container` if the tokenizer puts more than one token before a text.
pub fn text_tokens(checkpoint: &Checkpoint, around: &[u32], mut ids: Vec<u32>) -> Result<TextTokens> {
    let bos = starting_token(checkpoint, around, &ids);
    let before = around.iter().zip(&ids).take_while(|(added, id)| added == id).count();
    if before > 1 {
        let message = format!("the tokenizer puts {before} tokens before a text; give token ids instead");
        return Err(Error::new(Code::UnsupportedContainer, message));
    }
    let after = around.get(before..).unwrap_or_default();
    if ids.len() >= around.len() && ids.ends_with(after) {
        ids.truncate(ids.len() - after.len());
    }
    ids.drain(..before);
    Ok(TextTokens { ids, bos })
}

/// The token that the tokenizer puts before a text: that of a GGUF by its metadata, else the first id of `around`, an empty text,
/// if `ids`, a text that is not empty, begins with it.
pub fn starting_token(checkpoint: &Checkpoint, around: &[u32], ids: &[u32]) -> Option<u32> {
    if checkpoint.container != Container::Gguf {
        return around.first().copied().filter(|first| ids.first() == Some(first));
    }
    let metadata = &checkpoint.metadata;
    let id = metadata.uint("tokenizer.ggml.bos_token_id").and_then(|id| u32::try_from(id).ok());
    id.filter(|_| adds_bos(metadata))
}

/// Ids of the special tokens of a `tokenizer.json`; none if it cannot be read.
pub fn special_tokens(json: &[u8]) -> Vec<u32> {
    let parsed: Value = serde_json::from_slice(json).unwrap_or_default();
    let added = parsed.get("added_tokens").and_then(Value::as_array);
    let special = added.into_iter().flatten().filter(|t| t.get("special").is_some_and(|s| *s == true));
    special.filter_map(|t| t.get("id")?.as_u64()?.try_into().ok()).collect()
}
