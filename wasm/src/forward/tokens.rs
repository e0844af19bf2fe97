//! Token ids for an evaluation, from the page.

use crate::api_error::IntoApiResult;
use crate::forward::PassModel;
use crate::model::Model;
use crate::view::to_js;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::eval::{TextTokens, special_tokens, starting_token, text_tokens};
use quantoscope_core::sensitivity::tokens;
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;

/// Where token ids are from.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TokenRequest {
    /// The ids of a text, without the tokens that the tokenizer adds around it; `bos` starts every sequence.
    Text {
        /// The ids.
        ids: Vec<u32>,
        /// The token before a text.
        bos: Option<u32>,
    },
    /// Ids as they are.
    Ids(Vec<u32>),
    /// Ids that are drawn.
    Seeded {
        /// The seed.
        seed: Option<u64>,
        /// The token before a text.
        bos: Option<u32>,
        /// Ids that are not drawn.
        #[serde(default)]
        special: Vec<u32>,
    },
}

/// Token ids, the token that starts every sequence, and their origin: `text`, `ids` or `seeded`.
pub(super) struct RequestedTokens {
    /// The ids.
    pub ids: Vec<u32>,
    /// The token that starts every sequence.
    pub bos: Option<u32>,
    /// Their origin.
    pub from: &'static str,
}

impl TokenRequest {
    /// # Errors
    /// `usage` where the value is no choice of tokens.
    pub(super) fn parse(value: JsValue) -> Result<TokenRequest> {
        let parsed = serde_wasm_bindgen::from_value(value);
        parsed.map_err(|e| Error::new(Code::Usage, format!("not a choice of tokens: {e}")))
    }

    /// The ids for a model, `count` of them where they are drawn.
    ///
    /// # Errors
    /// `bad_value` for an id that is not in the vocabulary.
    pub(super) fn ids(self, model: &PassModel, count: usize) -> Result<RequestedTokens> {
        let vocab = model.tensors.config.vocab;
        let found = match self {
            TokenRequest::Text { ids, bos } => RequestedTokens { ids, bos, from: "text" },
            TokenRequest::Ids(ids) => RequestedTokens { ids, bos: None, from: "ids" },
            TokenRequest::Seeded { seed, bos, special } => {
                let ids = tokens::draw(count, vocab, &special, seed.unwrap_or(tokens::SEED));
                RequestedTokens { ids, bos, from: "seeded" }
            }
        };
        if let Some(id) = found.ids.iter().chain(&found.bos).find(|id| **id as usize >= vocab) {
            let message = format!("token id {id} is not in the vocabulary of {vocab}");
            return Err(Error::new(Code::BadValue, message));
        }
        Ok(found)
    }
}

#[wasm_bindgen]
impl Model {
    /// `tokenizer.json`: of a GGUF, made of its metadata; else the file beside the weights, if the model was opened with it.
    ///
    /// # Errors
    /// `unsupported_container` where a GGUF's tokenizer is one that cannot be given back.
    pub fn tokenizer_json(&self) -> Result<Option<Vec<u8>>, JsValue> {
        self.tokenizer_file().into_api_result()
    }

    /// The tokens of a text for an evaluation, as a `TokenRequest`, from its encoded `ids` and those of an empty text.
    ///
    /// # Errors
    /// `unsupported_container` where the tokenizer puts more than one token before a text.
    pub fn text_tokens(&self, around: Vec<u32>, ids: Vec<u32>) -> Result<JsValue, JsValue> {
        let TextTokens { ids, bos } = text_tokens(&self.checkpoint, &around, ids).into_api_result()?;
        to_js(&TokenRequest::Text { ids, bos })
    }

    /// Drawn tokens for an evaluation, as a `TokenRequest`. `around` are the ids of an empty text, `ids` those of `a`, `json` is
    /// the `tokenizer.json`, whose special tokens are not drawn.
    ///
    /// # Errors
    /// That of the conversion to a JavaScript value.
    pub fn drawn_tokens(
        &self,
        seed: Option<u64>,
        around: Vec<u32>,
        ids: Vec<u32>,
        json: Vec<u8>,
    ) -> Result<JsValue, JsValue> {
        let bos = starting_token(&self.checkpoint, &around, &ids);
        to_js(&TokenRequest::Seeded { seed, bos, special: special_tokens(&json) })
    }
}
