//! Token ids for an evaluation: from a file of ids, or from a text by the model's tokenizer.

use crate::exit::io_error;
use crate::io::source::Source;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::format::{Checkpoint, Container};
use quantoscope_core::model::arch;
use quantoscope_core::model::tokenizer::Encoder;
use quantoscope_core::model::tokenizer::inverse::encoder_file;
use quantoscope_core::tensor::MetaValue;
use quantoscope_encoder::HfEncoder;
use std::path::Path;

const TOKENIZER: &str = "tokenizer.json";
/// Bytes of a text or a file of ids.
const LIMIT: u64 = 1 << 30;
/// Vocabularies up to this size have ids of two bytes.
const SHORT: usize = 1 << 16;

/// Token ids of a text, and the token that starts every sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenIds {
    pub ids: Vec<u32>,
    pub bos: Option<u32>,
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let about = |e: std::io::Error| io_error(&e, format!("cannot read {}", path.display()));
    let len = std::fs::metadata(path).map_err(about)?.len();
    if len > LIMIT {
        let message = format!("{} has more than {LIMIT} bytes", path.display());
        return Err(Error::new(Code::TooMany, message));
    }
    let bytes = std::fs::read(path).map_err(about)?;
    if bytes.is_empty() {
        return Err(Error::new(Code::Empty, format!("{} is empty", path.display())));
    }
    Ok(bytes)
}

/// The ids of a file: decimal numbers between blanks, commas or brackets, or binary little-endian numbers of two bytes (four if
/// the vocabulary has more than 65,536 entries).
///
/// # Errors
///
/// `bad_value` if a number is no id of the vocabulary, `empty` if there are none.
pub fn ids(path: &Path, vocabulary: usize) -> Result<TokenIds> {
    let bytes = read(path)?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let is_text = bytes.iter().all(|b| b.is_ascii_digit() || b.is_ascii_whitespace() || b",[]".contains(b));
    if !is_text && bytes.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) {
        let message = format!(
            "{}: a text of token ids has decimal numbers, blanks, commas and brackets only",
            path.display()
        );
        return Err(Error::new(Code::BadValue, message));
    }
    let ids = if is_text { decimal(bytes, path)? } else { binary(bytes, path, vocabulary)? };
    if ids.is_empty() {
        return Err(Error::new(Code::Empty, format!("{} has no token ids", path.display())));
    }
    if let Some((at, id)) = ids.iter().enumerate().find(|(_, id)| **id as usize >= vocabulary) {
        let message = format!(
            "{}: token id {id} (number {at}, counted from 0) is not in the vocabulary of {vocabulary}",
            path.display()
        );
        return Err(Error::new(Code::BadValue, message));
    }
    Ok(TokenIds { ids, bos: None })
}

fn decimal(bytes: &[u8], path: &Path) -> Result<Vec<u32>> {
    let text = String::from_utf8_lossy(bytes);
    let numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|n| !n.is_empty());
    let id = |number: &str| {
        let message = || format!("{}: {number} is not a token id", path.display());
        number.parse().map_err(|_| Error::new(Code::BadValue, message()))
    };
    numbers.map(id).collect()
}

fn binary(bytes: &[u8], path: &Path, vocabulary: usize) -> Result<Vec<u32>> {
    let width = if vocabulary <= SHORT { 2 } else { 4 };
    if !bytes.len().is_multiple_of(width) {
        let message = format!(
            "{}: {} bytes are neither decimal token ids nor little-endian ids of {width} bytes each",
            path.display(),
            bytes.len()
        );
        return Err(Error::new(Code::BadValue, message));
    }
    let of_two = |b: &[u8; 2]| u32::from(u16::from_le_bytes(*b));
    Ok(match width {
        2 => bytes.as_chunks().0.iter().map(of_two).collect(),
        _ => bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect(),
    })
}

/// The ids of a text by the tokenizer of `source`, without the tokens that it adds around a text.
///
/// # Errors
///
/// `bad_utf8` if the file is no text, `unsupported_container` if the model has no tokenizer, `empty` if the text has no tokens.
pub fn text(path: &Path, source: &Source) -> Result<TokenIds> {
    let bytes = read(path)?;
    let not_text = |_| Error::new(Code::BadUtf8, format!("{} is not UTF-8 text", path.display()));
    let text = String::from_utf8(bytes).map_err(not_text)?;
    let json = tokenizer(source)?;
    let around = HfEncoder.encode(&json, "")?;
    let mut ids = HfEncoder.encode(&json, &text)?;
    let bos = starting_token(&source.checkpoint, &around, &ids);
    let before = around.iter().zip(&ids).take_while(|(added, id)| added == id).count();
    if before > 1 {
        let message = format!("the tokenizer puts {before} tokens before a text; give token ids with --ids");
        return Err(Error::new(Code::UnsupportedContainer, message));
    }
    let after = around.get(before..).unwrap_or_default();
    if ids.len() >= around.len() && ids.ends_with(after) {
        ids.truncate(ids.len() - after.len());
    }
    ids.drain(..before);
    if ids.is_empty() {
        return Err(Error::new(Code::Empty, format!("{} has no tokens", path.display())));
    }
    Ok(TokenIds { ids, bos })
}

/// The token that the model's tokenizer puts before a text, and its special tokens; nothing if there is no tokenizer.
pub fn special(source: &Source) -> (Option<u32>, Vec<u32>) {
    let Ok(json) = tokenizer(source) else { return (None, Vec::new()) };
    let encoded = |text: &str| HfEncoder.encode(&json, text).unwrap_or_default();
    let bos = starting_token(&source.checkpoint, &encoded(""), &encoded("a"));
    let parsed: serde_json::Value = serde_json::from_slice(&json).unwrap_or_default();
    let added = parsed.get("added_tokens").and_then(serde_json::Value::as_array);
    let special = added.into_iter().flatten().filter(|t| t.get("special").is_some_and(|s| s == true));
    let id = |t: &serde_json::Value| t.get("id")?.as_u64()?.try_into().ok();
    (bos, special.filter_map(id).collect())
}

/// `tokenizer.json`: of a GGUF, from its metadata; else the file beside the weights.
fn tokenizer(source: &Source) -> Result<Vec<u8>> {
    let checkpoint = &source.checkpoint;
    let none = || {
        let message = "the model has no tokenizer to encode a text with; give token ids with --ids";
        Error::new(Code::UnsupportedContainer, message)
    };
    if checkpoint.container == Container::Gguf {
        let arch = arch::of_model(&checkpoint.metadata, checkpoint.config.as_deref());
        let with_ids = |e: Error| {
            let message = format!("{}; give token ids with --ids", e.detail().message);
            let code = e.code();
            e.explained(code, message)
        };
        if let Some(bytes) = encoder_file(&checkpoint.metadata, arch).map_err(with_ids)? {
            return Ok(bytes);
        }
    }
    source.read_beside(TOKENIZER)?.ok_or_else(none)
}

/// The token that the tokenizer puts before a text: that of a GGUF if its metadata says so, else the first one that an encoded
/// text begins with.
fn starting_token(checkpoint: &Checkpoint, around: &[u32], ids: &[u32]) -> Option<u32> {
    if checkpoint.container != Container::Gguf {
        return around.first().copied().filter(|first| ids.first() == Some(first));
    }
    let metadata = &checkpoint.metadata;
    let adds = match metadata.get("tokenizer.ggml.add_bos_token") {
        Some(MetaValue::Bool(adds)) => *adds,
        _ => {
            let model = metadata.text("tokenizer.ggml.model");
            let llama3 = metadata
                .text("tokenizer.ggml.pre")
                .is_some_and(|p| p.starts_with("llama-bpe") || p == "llama3");
            matches!(model, Some("llama" | "bert" | "gemma4")) || llama3
        }
    };
    let id = metadata.uint("tokenizer.ggml.bos_token_id").and_then(|id| u32::try_from(id).ok());
    id.filter(|_| adds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids_of(bytes: &[u8], vocabulary: usize) -> Result<Vec<u32>> {
        let dir = tempfile();
        let path = dir.join(format!("{}-{vocabulary}.ids", bytes.len()));
        std::fs::write(&path, bytes).expect("a file");
        let found = ids(&path, vocabulary).map(|t| t.ids);
        std::fs::remove_file(&path).expect("the file");
        found
    }

    fn tempfile() -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("quantoscope-ids-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        dir
    }

    #[test]
    fn ids_are_text_or_binary() {
        assert_eq!(ids_of(b"[1, 2,\n30]", 64), Ok(vec![1, 2, 30]));
        assert_eq!(ids_of(&[1, 0, 0, 1], 1000), Ok(vec![1, 256]));
        assert_eq!(ids_of(&[1, 0, 0, 0, 0, 0, 1, 0], 70_000), Ok(vec![1, 65_536]));
        let code = |bytes: &[u8], vocabulary| ids_of(bytes, vocabulary).map_err(|e| e.code());
        assert_eq!(code(b"1 64", 64), Err(Code::BadValue));
        assert_eq!(code(b"99999999999", 64), Err(Code::BadValue));
        assert_eq!(code(&[1, 0, 0], 64), Err(Code::BadValue));
        assert_eq!(code(b"-1 2 3 4", 32_000), Err(Code::BadValue), "no binary ids of printable characters");
        assert_eq!(ids_of(b"\xef\xbb\xbf1 2", 64), Ok(vec![1, 2]));
        assert_eq!(code(b" \n", 64), Err(Code::Empty));
        assert_eq!(code(b"", 64), Err(Code::Empty));
    }
}
