//! Unigram tokenizers: T5 and XLM-RoBERTa.

use super::files::{TOKENIZER_JSON, Vocabulary};
use super::list::{Token, TokenList};
use super::sentencepiece::piece;
use super::{Writer, keys, spm, tekken};
use crate::error::{Code, Error, Result};
use crate::tensor::MetaValue;
use alloc::borrow::Cow;
use alloc::format;
use alloc::vec::Vec;
use serde_json::Value;

/// Flags of a normalizer.
struct Normalizer {
    space_prefix: bool,
    remove_spaces: bool,
    charsmap: Vec<u8>,
}

impl Writer<'_> {
    /// Writes the Unigram model in a file. `bert`: with the ids of XLM-RoBERTa, and the count of token types.
    pub(super) fn unigram(&mut self, name: &str, bert: bool) -> Result<usize> {
        let model = self.model(name)?;
        if model.model_type == 2 && !bert {
            return self.sentencepiece(name);
        }
        if model.model_type != 1 {
            let message =
                format!("a SentencePiece model of type {}, where Unigram (1) is needed", model.model_type);
            return Err(Error::new(Code::BadValue, message).in_file(name));
        }
        let size = self.vocab_size().unwrap_or(model.pieces.len() as u64);
        self.fits(model.pieces.len(), size, name)?;
        let mut list = spm::pieces(&model, size)?;
        spm::lay_added_json(&mut list, self.files)?;
        if bert {
            spm::realign(&mut list);
        }
        let normalizer = Normalizer {
            space_prefix: model.add_dummy_prefix,
            remove_spaces: model.remove_extra_whitespaces,
            charsmap: model.charsmap.to_vec(),
        };
        self.write_unigram(&list, &normalizer, bert)
    }

    /// Writes the Unigram model of `tokenizer.json`.
    pub(super) fn unigram_json(&mut self, bert: bool) -> Result<usize> {
        let wrong = |message| Error::new(Code::BadValue, message).in_file(TOKENIZER_JSON);
        let Some(json) = &self.files.json else { return Err(wrong("no tokenizer")) };
        let Vocabulary::Scores(pieces) = &json.model.vocab else {
            return Err(wrong("the model is no Unigram model: it has no pieces with scores"));
        };
        let mut list = TokenList(Vec::with_capacity(pieces.len()));
        for (id, (text, score)) in pieces.iter().enumerate() {
            let unknown = json.model.unk_id.is_some_and(|u| u as usize == id);
            let kind = if unknown { piece::UNKNOWN } else { piece::NORMAL };
            list.0.push(Token { text: Cow::Borrowed(text.as_ref()), score: *score as f32, kind });
        }
        let size = self.vocab_size().unwrap_or(pieces.len() as u64);
        self.fits(pieces.len(), size, TOKENIZER_JSON)?;
        list.pad(size)?;
        for token in &json.added_tokens {
            let id = u64::try_from(token.id).ok().filter(|id| *id < size);
            let id = id.ok_or_else(|| wrong("an added token does not fit vocab_size of config.json"))?;
            let slot = usize::try_from(id).ok().and_then(|id| list.0.get_mut(id));
            if let Some(slot) = slot.filter(|t| t.kind != piece::UNKNOWN) {
                if slot.kind != piece::UNUSED && slot.text != token.content {
                    return Err(wrong("an added token has the id of a piece with another text"));
                }
                slot.kind = if token.special { piece::CONTROL } else { piece::USER_DEFINED };
                slot.text = Cow::Borrowed(token.content.as_ref());
                slot.score = 0.0;
            }
        }
        let normalizer = of_json(&json.normalizer, &json.pre_tokenizer);
        self.write_unigram(&list, &normalizer, bert)
    }

    fn write_unigram(&mut self, list: &TokenList<'_>, normalizer: &Normalizer, bert: bool) -> Result<usize> {
        self.write_spm("t5", list);
        self.keys.ggml("add_space_prefix", MetaValue::Bool(normalizer.space_prefix));
        if bert {
            self.token_type_count();
        }
        self.keys.ggml("remove_extra_whitespaces", MetaValue::Bool(normalizer.remove_spaces));
        if !normalizer.charsmap.is_empty() {
            self.keys.ggml("precompiled_charsmap", keys::bytes(&normalizer.charsmap));
        }
        let special = self.special(Some(list.0.len()))?;
        self.tail(&special, false)?;
        Ok(list.0.len())
    }
}

/// The flags of a normalizer and a pre-tokenizer in JSON.
fn of_json(normalizer: &Value, pre_tokenizer: &Value) -> Normalizer {
    let parts = |v: &Value, key: &str| -> Vec<Value> {
        v.get(key).and_then(Value::as_array).cloned().unwrap_or_else(|| alloc::vec![v.clone()])
    };
    let normalizers = parts(normalizer, "normalizers");
    let map = normalizers.iter().find_map(|n| n.get("precompiled_charsmap").and_then(Value::as_str));
    let steps = parts(pre_tokenizer, "pretokenizers");
    let metaspace = steps.iter().find(|s| s.get("type").and_then(Value::as_str) == Some("Metaspace"));
    let prefix = metaspace.is_some_and(|m| {
        m.get("prepend_scheme")
            .map_or(m.get("add_prefix_space") != Some(&Value::Bool(false)), |s| s != "never")
    });
    let runs =
        |n: &Value| n.get("pattern").and_then(|p| p.get("Regex")).and_then(Value::as_str) == Some(" {2,}");
    let split = steps.iter().any(|s| s.get("type").and_then(Value::as_str) == Some("WhitespaceSplit"));
    Normalizer {
        space_prefix: prefix,
        remove_spaces: split || normalizers.iter().any(runs),
        charsmap: map.and_then(tekken::decode_base64).unwrap_or_default(),
    }
}
