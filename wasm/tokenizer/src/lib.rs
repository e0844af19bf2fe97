//! The encoder of tokenizers' check text for the page's worker, which loads it where a conversion needs it.

use quantoscope_core::format::companions::Companions;
use quantoscope_core::model::tokenizer;
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
