//! Encodes text with a Hugging Face tokenizer, through the `tokenizers` library.
//!
//! Pre-tokenizers are recognized by the token ids of a check text. The command line links this crate; the page loads it
//! as a WebAssembly module of its own, where a conversion needs it. Knows no model and no GGUF.

#![forbid(unsafe_code)]

use tokenizers::{Result, Tokenizer};

/// Token ids of the whole `text` under a `tokenizer.json`, with the special tokens that it adds.
///
/// # Errors
///
/// The library's, if it cannot read or apply the tokenizer.
pub fn encode(tokenizer_json: &[u8], text: &str) -> Result<Vec<u32>> {
    let mut tokenizer = Tokenizer::from_bytes(tokenizer_json)?;
    // Whatever length the tokenizer cuts or fills texts to.
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None)?;
    Ok(tokenizer.encode_fast(text, true)?.get_ids().to_vec())
}
