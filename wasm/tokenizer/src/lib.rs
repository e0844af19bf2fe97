//! The encoder of tokenizers' check text for the page's worker, which loads it where a conversion needs it.

use wasm_bindgen::prelude::*;

/// Token ids of `text` under a `tokenizer.json`; nothing where the library cannot read or apply it.
#[wasm_bindgen]
pub fn encode(tokenizer_json: &[u8], text: &str) -> Option<Vec<u32>> {
    quantoscope_encoder::encode(tokenizer_json, text).ok()
}
