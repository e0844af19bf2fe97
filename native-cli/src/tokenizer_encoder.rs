//! The encoder of the check text: the `tokenizers` library.

use quantoscope_core::model::tokenizer::Encoder;
use quantoscope_core::{Code, Error, Result};
use tokenizers::Tokenizer;

/// Encodes with the `tokenizers` library.
#[derive(Clone, Copy, Debug, Default)]
pub struct HfEncoder;

impl Encoder for HfEncoder {
    fn encode(&self, tokenizer_json: &[u8], text: &str) -> Result<Vec<u32>> {
        let wrong = |e: tokenizers::Error| Error::new(Code::BadJson, e.to_string()).in_file("tokenizer.json");
        let mut tokenizer = Tokenizer::from_bytes(tokenizer_json).map_err(wrong)?;
        // Ids are those of the whole text, whatever length the tokenizer cuts or fills texts to.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(wrong)?;
        let encoding = tokenizer.encode_fast(text, true).map_err(wrong)?;
        Ok(encoding.get_ids().to_vec())
    }
}
