//! Token ids of the check text: which parts of a `tokenizer.json` the library behind [`Encoder`] gets to see.
//!
//! A vocabulary of 250,000 tokens takes a library longer to load than a plan takes, and a contradictory file may make it panic
//! or grow without bound. So the text is split first, by the rules alone. Then the library gets the tokens and merges that can
//! occur in the pieces, and only rules of known kinds.

use super::files::{self, MergePair, TOKENIZER_CONFIG, TOKENIZER_JSON, Vocabulary, token_text};
use super::pre_table::CHECK_TEXT;
use crate::error::{Code, Error, Result};
use crate::format::companions::Companions;
use alloc::borrow::{Cow, ToOwned};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use serde_json::{Map, Value, json};

/// Runs a Hugging Face tokenizer.
pub trait Encoder {
    /// The pieces into which `text` is split before the model of the tokenizer sees it, normalized.
    ///
    /// # Errors
    /// `bad_json` if the tokenizer cannot be used.
    fn pieces(&self, tokenizer_json: &[u8], text: &str) -> Result<Vec<String>>;

    /// Token ids of `text`, with the special tokens that the tokenizer adds.
    ///
    /// # Errors
    /// `bad_json` if the tokenizer cannot be used.
    fn encode(&self, tokenizer_json: &[u8], text: &str) -> Result<Vec<u32>>;
}

/// Token ids of [`CHECK_TEXT`] by the `tokenizer.json` of a folder, as `AutoTokenizer` of the transformers library gives them.
///
/// # Errors
/// `not_found` without the file; `bad_json` and `bad_value` if it is wrong; `unsupported_container` if a rule of it is of
/// another kind than those of the tokenizers that llama.cpp knows; those of the encoder.
pub fn check_text_ids(companions: &Companions, encoder: &dyn Encoder) -> Result<Vec<u32>> {
    let text = companions
        .get(TOKENIZER_JSON)
        .ok_or_else(|| Error::new(Code::NotFound, "there is no tokenizer.json").in_file(TOKENIZER_JSON))?;
    let mut file: CheckedTokenizer<'_> = files::read(TOKENIZER_JSON, text)?;
    if let Some(config) = files::object(companions, TOKENIZER_CONFIG)? {
        file.adopt_class(&config);
    }
    file.check()?;
    let pieces = encoder.pieces(&file.splitter()?, CHECK_TEXT)?;
    encoder.encode(&file.reduced(&pieces)?, CHECK_TEXT)
}

/// `tokenizer.json`.
#[derive(serde::Deserialize)]
struct CheckedTokenizer<'a> {
    #[serde(default)]
    added_tokens: Vec<Map<String, Value>>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(borrow)]
    model: CheckedModel<'a>,
}

#[derive(serde::Deserialize)]
struct CheckedModel<'a> {
    #[serde(rename = "type", default, borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    vocab: Vocabulary<'a>,
    #[serde(borrow, default)]
    merges: Vec<MergePair<'a>>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    fuse_unk: Option<bool>,
    #[serde(default)]
    byte_fallback: Option<bool>,
    #[serde(default)]
    ignore_merges: Option<bool>,
    #[serde(default)]
    max_input_chars_per_word: Option<u32>,
}

/// Classes of transformers that replace the post-processor by BOS and EOS as their configuration says.
const CLASSES: &[&str] = &["Llama", "CodeLlama", "Gemma", "Cohere"];

const NORMALIZERS: &[&str] = &[
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Lowercase",
    "StripAccents",
    "Strip",
    "Replace",
    "Prepend",
    "BertNormalizer",
    "ByteLevel",
];
const PRE_TOKENIZERS: &[&str] = &[
    "Split",
    "ByteLevel",
    "Digits",
    "Punctuation",
    "Metaspace",
    "Whitespace",
    "WhitespaceSplit",
    "BertPreTokenizer",
];
const POST_PROCESSORS: &[&str] = &["TemplateProcessing", "ByteLevel", "BertProcessing", "RobertaProcessing"];

/// Most steps of a normalizer, a pre-tokenizer or a post-processor.
const MAX_STEPS: usize = 12;
/// The largest factor by which replacements may lengthen a text.
const MAX_GROWTH: usize = 64;
/// Most bytes of an added token.
const MAX_ADDED: usize = 4096;

fn unsupported(what: &str) -> Error {
    let message = format!("{what} is of no kind that llama.cpp's pre-tokenizers have");
    Error::new(Code::UnsupportedContainer, message).in_file(TOKENIZER_JSON)
}

/// The steps of a rule in order: itself, or those of a sequence.
fn steps<'v>(rule: &'v Value, key: &str, into: &mut Vec<&'v Value>) {
    match rule.get(key).and_then(Value::as_array) {
        Some(list) => list.iter().for_each(|step| steps(step, key, into)),
        None if rule.is_null() => {}
        None => into.push(rule),
    }
}

fn known(rule: &Value, what: &str, key: &str, kinds: &[&str]) -> Result<()> {
    let mut all = Vec::new();
    steps(rule, key, &mut all);
    let fits = |step: &&Value| step.get("type").and_then(Value::as_str).is_some_and(|t| kinds.contains(&t));
    if all.len() > MAX_STEPS || !all.iter().all(fits) {
        return Err(unsupported(what));
    }
    Ok(())
}

impl<'a> CheckedTokenizer<'a> {
    /// The post-processor that a class of transformers sets.
    fn adopt_class(&mut self, config: &Map<String, Value>) {
        let class = config.get("tokenizer_class").and_then(Value::as_str).unwrap_or_default();
        let class = class.strip_suffix("Fast").unwrap_or(class).strip_suffix("Tokenizer");
        if !class.is_some_and(|c| CLASSES.contains(&c)) {
            return;
        }
        let flag = |key: &str, default| config.get(key).and_then(Value::as_bool).unwrap_or(default);
        let token =
            |kind: &str, default: &str| config.get(kind).and_then(token_text).unwrap_or(default).to_owned();
        let mut single = vec![json!({"Sequence": {"id": "A", "type_id": 0}})];
        let mut special = Map::new();
        for (on, text) in [
            (flag("add_bos_token", true), token("bos_token", "<s>")),
            (flag("add_eos_token", false), token("eos_token", "</s>")),
        ] {
            let Some(id) = self.id(&text) else { return };
            if on {
                let entry = json!({"SpecialToken": {"id": text, "type_id": 0}});
                single.insert(if special.is_empty() && single.len() == 1 { 0 } else { single.len() }, entry);
                special.insert(text.clone(), json!({"id": text, "ids": [id], "tokens": [text]}));
            }
        }
        let pair = [single.clone(), vec![json!({"Sequence": {"id": "B", "type_id": 1}})]].concat();
        self.post_processor =
            json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special});
    }

    fn ids(&self) -> &[(Cow<'a, str>, i64)] {
        match &self.model.vocab {
            Vocabulary::Ids(ids) => ids,
            _ => &[],
        }
    }

    /// The id of a token.
    fn id(&self, text: &str) -> Option<i64> {
        let added = self.added_tokens.iter().find(|t| content(t) == text);
        let added = added.and_then(|t| t.get("id")?.as_i64());
        added.or_else(|| self.ids().iter().find(|(t, _)| t == text).map(|(_, id)| *id))
    }

    /// Refuses what the library cannot be given.
    fn check(&self) -> Result<()> {
        if !matches!(self.model.kind.as_ref(), "BPE" | "WordPiece") {
            return Err(unsupported("the model"));
        }
        if self.model.kind == "BPE" {
            let affixes = [&self.model.continuing_subword_prefix, &self.model.end_of_word_suffix];
            if affixes.into_iter().flatten().any(|affix| !affix.is_empty()) {
                return Err(unsupported("the prefix or suffix of words"));
            }
        }
        known(&self.normalizer, "the normalizer", "normalizers", NORMALIZERS)?;
        known(&self.pre_tokenizer, "the pre-tokenizer", "pretokenizers", PRE_TOKENIZERS)?;
        known(&self.post_processor, "the post-processor", "processors", POST_PROCESSORS)?;
        self.check_growth()?;
        if self.added_tokens.iter().any(|t| content(t).len() > MAX_ADDED) {
            let message = format!("an added token has more than {MAX_ADDED} bytes");
            return Err(Error::new(Code::TooMany, message).in_file(TOKENIZER_JSON));
        }
        Ok(())
    }

    /// Refuses replacements and templates that multiply a text.
    fn check_growth(&self) -> Result<()> {
        let mut all = Vec::new();
        steps(&self.normalizer, "normalizers", &mut all);
        let mut growth = 1_usize;
        for step in all {
            let content = step.get("content").or_else(|| step.get("prepend")).and_then(Value::as_str);
            growth = growth.saturating_mul(content.map_or(1, |c| c.len() + 1));
        }
        let mut processors = Vec::new();
        steps(&self.post_processor, "processors", &mut processors);
        let template = |p: &&Value| p.get("single").and_then(Value::as_array).cloned();
        let entries: Vec<Value> = processors.iter().filter_map(template).flatten().collect();
        let texts = entries.iter().filter(|e| e.get("Sequence").is_some()).count();
        if growth > MAX_GROWTH || entries.len() > MAX_STEPS || texts > 1 {
            return Err(unsupported("a rule that lengthens the text"));
        }
        Ok(())
    }

    fn with_model(&self, model: &Value) -> Result<Vec<u8>> {
        let json = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": self.added_tokens,
            "normalizer": self.normalizer,
            "pre_tokenizer": self.pre_tokenizer,
            "post_processor": self.post_processor,
            "decoder": null,
            "model": model,
        });
        serde_json::to_vec(&json)
            .map_err(|e| Error::new(Code::BadJson, e.to_string()).in_file(TOKENIZER_JSON))
    }

    /// The tokenizer with added tokens only.
    fn splitter(&self) -> Result<Vec<u8>> {
        self.with_model(&json!({"type": "BPE", "vocab": self.added_ids()?, "merges": []}))
    }

    /// Ids of the added tokens: the library numbers those that are not in the vocabulary by its size, which is cut here.
    fn added_ids(&self) -> Result<Map<String, Value>> {
        let mut found = Map::new();
        for token in &self.added_tokens {
            let id = token.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
            let id = id.ok_or_else(|| {
                Error::new(Code::BadValue, "an added token has no id").in_file(TOKENIZER_JSON)
            })?;
            found.insert(content(token).to_owned(), id.into());
        }
        Ok(found)
    }

    /// The tokenizer with the tokens and merges that can occur in `pieces`.
    fn reduced(&self, pieces: &[String]) -> Result<Vec<u8>> {
        let haystack = Haystack::new(pieces);
        let model = &self.model;
        let word_piece = model.kind == "WordPiece";
        let prefix = model.continuing_subword_prefix.as_deref().unwrap_or("##");
        let mut vocab = BTreeMap::new();
        for (text, id) in self.ids() {
            let part = if word_piece { text.strip_prefix(prefix).unwrap_or(text) } else { text.as_ref() };
            let byte = model.byte_fallback == Some(true) && text.starts_with("<0x");
            if byte || model.unk_token.as_deref() == Some(text) || haystack.contains(part) {
                vocab.insert(text.as_ref(), *id);
            }
        }
        let merges: Vec<(&str, &str)> = model
            .merges
            .iter()
            .filter_map(|merge| {
                let (a, b) = merge.parts()?;
                (haystack.contains(a) && haystack.contains(b)).then_some(())?;
                let merged = [a, b].concat();
                [a, b, merged.as_str()].iter().all(|t| vocab.contains_key(t)).then_some((a, b))
            })
            .collect();
        let mut ids = self.added_ids()?;
        for (text, id) in &vocab {
            ids.insert((*text).to_owned(), (*id).into());
        }
        let made = match word_piece {
            true => json!({
                "type": "WordPiece",
                "vocab": ids,
                "unk_token": model.unk_token.as_deref().unwrap_or("[UNK]"),
                "continuing_subword_prefix": prefix,
                "max_input_chars_per_word": model.max_input_chars_per_word.unwrap_or(100),
            }),
            false => json!({
                "type": "BPE",
                "vocab": ids,
                "merges": merges,
                "unk_token": model.unk_token,
                "fuse_unk": model.fuse_unk.unwrap_or(false),
                "byte_fallback": model.byte_fallback.unwrap_or(false),
                "ignore_merges": model.ignore_merges.unwrap_or(false),
            }),
        };
        self.with_model(&made)
    }
}

fn content(token: &Map<String, Value>) -> &str {
    token.get("content").and_then(Value::as_str).unwrap_or_default()
}

/// The pieces as one text, with the pairs of bytes in it.
struct Haystack {
    text: String,
    pairs: Vec<bool>,
}

impl Haystack {
    fn new(pieces: &[String]) -> Haystack {
        let text = pieces.join("\0");
        let mut pairs = vec![false; 1 << 16];
        for pair in text.as_bytes().windows(2) {
            if let Some(slot) = pairs.get_mut(pair_index(pair)) {
                *slot = true;
            }
        }
        Haystack { text, pairs }
    }

    fn contains(&self, part: &str) -> bool {
        let first = part.as_bytes().get(..2).is_none_or(|p| self.pairs.get(pair_index(p)) == Some(&true));
        first && part.len() <= self.text.len() && self.text.contains(part)
    }
}

fn pair_index(pair: &[u8]) -> usize {
    pair.iter().fold(0, |index, byte| index << 8 | usize::from(*byte))
}
