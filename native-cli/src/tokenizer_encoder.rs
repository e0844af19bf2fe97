//! The encoder of the check text: the `tokenizers` library.

use quantoscope_core::model::tokenizer::Encoder;
use quantoscope_core::{Code, Error, Result};

/// Encodes with the `tokenizers` library.
#[derive(Clone, Copy, Debug, Default)]
pub struct HfEncoder;

impl Encoder for HfEncoder {
    fn encode(&self, tokenizer_json: &[u8], text: &str) -> Result<Vec<u32>> {
        quantoscope_encoder::encode(tokenizer_json, text)
            .map_err(|e| Error::new(Code::BadJson, e.to_string()).in_file("tokenizer.json"))
    }
}
