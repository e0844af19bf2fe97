//! Encodes text with a Hugging Face tokenizer, through the `tokenizers` library.
//!
//! Pre-tokenizers are recognized by the token ids of a check text. The command line links this crate; the page loads it
//! as a WebAssembly module of its own, where a conversion needs it. Knows no model and no GGUF.

#![forbid(unsafe_code)]

use quantoscope_core::model::tokenizer::Encoder;
use quantoscope_core::{Code, Error, Result};
use tokenizers::tokenizer::{OffsetReferential, OffsetType};
use tokenizers::{PreTokenizer, Tokenizer};

/// The `tokenizers` library.
#[derive(Clone, Copy, Debug, Default)]
pub struct HfEncoder;

/// The library's error.
fn wrong(e: impl ToString) -> Error {
    Error::new(Code::BadJson, e.to_string()).in_file("tokenizer.json")
}

impl Encoder for HfEncoder {
    fn pieces(&self, tokenizer_json: &[u8], text: &str) -> Result<Vec<String>> {
        let tokenizer = Tokenizer::from_bytes(tokenizer_json).map_err(wrong)?;
        let added = tokenizer.get_added_vocabulary();
        let mut split = added.extract_and_normalize(tokenizer.get_normalizer(), text);
        if let Some(rules) = tokenizer.get_pre_tokenizer() {
            rules.pre_tokenize(&mut split).map_err(wrong)?;
        }
        let pieces = split.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
        Ok(pieces.into_iter().map(|(piece, ..)| piece.to_owned()).collect())
    }

    fn encode(&self, tokenizer_json: &[u8], text: &str) -> Result<Vec<u32>> {
        let mut tokenizer = Tokenizer::from_bytes(tokenizer_json).map_err(wrong)?;
        // Whatever length the tokenizer cuts or fills texts to.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(wrong)?;
        let encoding = tokenizer.encode_fast(text, true).map_err(wrong)?;
        Ok(encoding.get_ids().to_vec())
    }
}
