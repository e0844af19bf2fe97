//! The encoder of tokenizers for the page's worker, which loads it where a conversion or an evaluation needs it.

use quantoscope_core::format::companions::Companions;
use quantoscope_core::model::tokenizer::{self, Encoder};
use quantoscope_encoder::HfEncoder;
use wasm_bindgen::prelude::*;

/// Token ids of the check text under these files of a folder, by which pre-tokenizers are recognized; nothing where the
/// library cannot read or apply the tokenizer.
#[wasm_bindgen]
pub fn check_text_ids(tokenizer_json: Vec<u8>, tokenizer_config: Option<Vec<u8>>) -> Option<Vec<u32>> {
    let files = [("tokenizer.json", Some(tokenizer_json)), ("tokenizer_config.json", tokenizer_config)];
    let files = files.into_iter().filter_map(|(name, bytes)| Some((name.into(), bytes?))).collect();
    tokenizer::check_text_ids(&Companions(files), &HfEncoder).ok()
}

/// Token ids of a text, with the tokens that the tokenizer adds around it; nothing where the library cannot read or apply the
/// tokenizer.
#[wasm_bindgen]
pub fn text_ids(tokenizer_json: &[u8], text: &str) -> Option<Vec<u32>> {
    HfEncoder.encode(tokenizer_json, text).ok()
}
