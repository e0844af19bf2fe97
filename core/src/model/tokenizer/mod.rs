//! Tokenizers: the `tokenizer.*` keys of a GGUF from the tokenizer files of a Hugging Face folder.
//!
//! Follows llama.cpp's converter (v0.5.0) in keys, order and types. Does no I/O, and encodes no text: the
//! [`Encoder`] does.

mod bpe;
mod check_text;
mod files;
pub mod inverse;
mod keys;
mod list;
pub mod pre;
mod pre_table;
pub mod rules;
pub mod sentencepiece;
mod special;
mod spm;
mod tekken;
mod template;
mod text_index;
mod unigram;

pub use check_text::{Encoder, check_text_ids};
pub use pre_table::CHECK_TEXT;

use super::arch::Arch;
use crate::error::{Code, Error, Result};
use crate::format::companions::Companions;
use crate::tensor::MetaValue;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use files::{TOKENIZER_JSON, TokenizerFiles};
use keys::KeyList;
use list::TokenList;
use rules::{SpacePrefix, TokenizerLayout, TokenizerRules};
use serde_json::Value;
use special::Special;

/// What the keys are made from.
#[derive(Clone, Copy)]
pub struct TokenizerInput<'a> {
    /// Files beside the weights.
    pub companions: &'a Companions,
    /// `config.json` as it stands in the folder.
    pub config: &'a Value,
    /// The hyperparameters: the configuration with its defaults, that of the text model laid over.
    pub hyper: &'a Value,
    /// The architecture.
    pub arch: &'a Arch,
    /// The name of the pre-tokenizer, where the user gives it.
    pub pre_tokenizer: Option<&'a str>,
    /// Token ids of [`CHECK_TEXT`] by [`check_text_ids`], where the driver has an encoder.
    pub check_text_ids: Option<&'a [u32]>,
    /// Where the reference is plainly wrong, its bytes are written all the same.
    pub compat: bool,
}

/// The keys of a tokenizer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenizerKeys {
    /// Keys in order: those of `tokenizer.*`, and `<arch>.vocab_size` where the tokenizer has it.
    pub keys: Vec<(String, MetaValue)>,
    /// What a user should know, one sentence each.
    pub warnings: Vec<String>,
    /// The number of tokens.
    pub tokens: usize,
}

/// All keys of the tokenizer, in the reference's order.
///
/// # Errors
/// `not_found` if a file is missing; `bad_json`, `bad_value`, `bad_utf8`, `truncated`, `duplicate_name` and `too_many`
/// in the file that is wrong; `usage` if the name of the pre-tokenizer is unknown, `unsupported_container` if none
/// is sure.
pub fn tokenizer_keys(input: &TokenizerInput<'_>) -> Result<TokenizerKeys> {
    let files = TokenizerFiles::parse(input.companions)?;
    let mut writer = Writer { input, files: &files, keys: KeyList::default(), warnings: Vec::new() };
    let tokens = writer.write()?;
    Ok(TokenizerKeys { keys: writer.keys.0, warnings: writer.warnings, tokens })
}

struct Writer<'a> {
    input: &'a TokenizerInput<'a>,
    files: &'a TokenizerFiles<'a>,
    keys: KeyList,
    warnings: Vec<String>,
}

impl<'a> Writer<'a> {
    fn rules(&self) -> TokenizerRules {
        self.input.arch.tokenizer
    }

    fn write(&mut self) -> Result<usize> {
        let rules = self.rules();
        if let Some(on) = rules.add_bos_first {
            self.keys.ggml("add_bos_token", MetaValue::Bool(on));
        }
        if rules.space_prefix == SpacePrefix::ConfiguredFirst {
            self.configured_space_prefix();
        }
        let tokens = match rules.layout {
            _ if self.has("tekken.json") && self.files.json.is_none() && !self.has("tokenizer.model") => {
                self.tekken()?
            }
            TokenizerLayout::Bpe => self.byte_level()?,
            TokenizerLayout::Llama => self.llama()?,
            TokenizerLayout::SentencePiece => self.sentencepiece("tokenizer.model")?,
            TokenizerLayout::SentencePieceOrBpe if self.has("tokenizer.model") => {
                self.sentencepiece("tokenizer.model")?
            }
            TokenizerLayout::SentencePieceOrBpe => self.byte_level()?,
            TokenizerLayout::Gemma4 => self.gemma4()?,
            TokenizerLayout::Phi3 => self.phi3()?,
            TokenizerLayout::Bert => self.bert()?,
            TokenizerLayout::T5 => self.t5()?,
        };
        self.last_rules(rules)?;
        Ok(tokens)
    }

    fn last_rules(&mut self, rules: TokenizerRules) -> Result<()> {
        for (kind, id) in rules.fixed {
            special::set_id(&mut self.keys, kind, *id);
        }
        match rules.space_prefix {
            SpacePrefix::ConfiguredLast => self.configured_space_prefix(),
            // Byte-level BPE in place of a missing tokenizer.model has no such flag.
            SpacePrefix::False
                if rules.layout == TokenizerLayout::SentencePieceOrBpe && !self.has("tokenizer.model") => {}
            SpacePrefix::False => self.keys.ggml("add_space_prefix", MetaValue::Bool(false)),
            SpacePrefix::Absent | SpacePrefix::ConfiguredFirst => {}
        }
        if rules.layout == TokenizerLayout::Gemma4 {
            self.keys.ggml("add_bos_token", MetaValue::Bool(true));
        }
        if rules.layout == TokenizerLayout::Llama && self.number("vocab_size") == Some(32_016) {
            special::set_id(&mut self.keys, "eot", 32_010);
        }
        if rules.layout == TokenizerLayout::Llama && self.number("vocab_size") == Some(49_152) {
            self.keys.ggml("add_bos_token", MetaValue::Bool(false));
        }
        if rules.eot_of_generation {
            let generation = files::object(self.files.all, "generation_config.json")?;
            let eos = generation.as_ref().and_then(|g| g.get("eos_token_id"));
            let first = eos.and_then(|e| e.get(0).or(Some(e))).and_then(Value::as_u64);
            if let Some(id) = first.and_then(|id| u32::try_from(id).ok()) {
                special::set_id(&mut self.keys, "eot", id);
            }
        }
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        self.files.all.get(name).is_some()
    }

    fn number(&self, key: &str) -> Option<u64> {
        let of = |v: &Value| v.get(key).and_then(Value::as_u64);
        of(self.input.hyper)
            .or_else(|| of(self.input.config.get("text_config")?))
            .or_else(|| of(self.input.config))
    }

    /// The number of tokens that the configuration has, padded as the architecture asks.
    fn vocab_size(&self) -> Option<u64> {
        let size = self.number("vocab_size")?;
        let Some(default) = self.rules().pad_multiple else { return Some(size) };
        size.checked_next_multiple_of(self.number("pad_vocab_size_multiple").unwrap_or(default).max(1))
    }

    fn configured_space_prefix(&mut self) {
        if let Some(on) = self.files.flag("add_prefix_space") {
            self.keys.ggml("add_space_prefix", MetaValue::Bool(on));
        }
    }

    fn text(&mut self, name: &str, value: &str) {
        self.keys.ggml(name, MetaValue::String(value.to_owned()));
    }

    /// Merges, special ids, flags, templates, normalizer.
    fn tail(&mut self, special: &Special, merges: bool) -> Result<()> {
        if merges {
            self.merges()?;
        }
        special.write(&mut self.keys);
        template::write_templates(self.files, &mut self.keys)?;
        template::write_normalizer(self.files, &mut self.keys);
        Ok(())
    }

    fn merges(&mut self) -> Result<()> {
        let of_json = self.files.json.as_ref().map_or(&[][..], |j| j.model.merges.as_slice());
        if !of_json.is_empty() {
            let lines: Vec<_> = of_json.iter().map(files::MergePair::line).collect();
            self.keys.ggml("merges", keys::strings(lines.iter().map(AsRef::as_ref)));
            return Ok(());
        }
        let Some(text) = self.files.all.get("merges.txt") else { return Ok(()) };
        let text = core::str::from_utf8(text)
            .map_err(|_| Error::new(Code::BadUtf8, "the merges are not UTF-8").in_file("merges.txt"))?;
        let first = text.lines().next().filter(|line| line.starts_with('#'));
        let lines = text.lines().skip(usize::from(first.is_some())).map(str::trim).filter(|l| !l.is_empty());
        let mut pairs = Vec::new();
        for line in lines {
            if line.split(' ').count() != 2 {
                let message = format!("no merge of two parts: {line:?}");
                return Err(Error::new(Code::BadValue, message).in_file("merges.txt"));
            }
            pairs.push(line);
        }
        if !pairs.is_empty() {
            self.keys.ggml("merges", keys::strings(pairs.into_iter()));
        }
        Ok(())
    }

    fn special(&self, limit: Option<usize>) -> Result<Special> {
        Special::find(self.files, self.input.config, limit)
    }

    fn byte_level(&mut self) -> Result<usize> {
        let files = self.files;
        let vocab = bpe::Vocab::read(files)?;
        let texts = bpe::AddedTexts::new(files, self.input.compat);
        let size = self.vocab_size().unwrap_or_else(|| vocab.end());
        let (list, warnings) = vocab.byte_level(size, &texts)?;
        self.warnings.extend(warnings);
        let mut special = self.special(None)?;
        for (kind, text) in self.rules().by_text {
            let id = vocab.added_id(text).ok_or_else(|| {
                let message = format!("the added tokens have no {text:?}, which the architecture needs");
                Error::new(Code::BadValue, message).in_file(TOKENIZER_JSON)
            })?;
            special.set(kind, id.into())?;
        }
        let mut tail = KeyList::default();
        special.write(&mut tail);
        let adds_bos = tail.has_ggml("add_bos_token") || self.keys.has_ggml("add_bos_token");
        let pre = pre::choose(self.input, files, adds_bos, &mut self.warnings)?;
        self.text("model", "gpt2");
        self.text("pre", pre.name);
        list.write_texts(&mut self.keys);
        list.write_types(&mut self.keys);
        self.tail(&special, true)?;
        if pre.without_bos {
            self.keys.ggml("add_bos_token", MetaValue::Bool(false));
            self.warnings.push(format!(
                "add_bos_token is false: llama.cpp would add BOS under the pre-tokenizer {:?}, the tokenizer does not",
                pre.name
            ));
        }
        Ok(list.0.len())
    }

    fn llama(&mut self) -> Result<usize> {
        if self.has("tokenizer.model") {
            return self.sentencepiece("tokenizer.model");
        }
        if self.files.json.as_ref().is_some_and(files::TokenizerJson::is_sentencepiece_bpe) {
            return self.sentencepiece_json();
        }
        self.byte_level()
    }

    fn tekken(&mut self) -> Result<usize> {
        let architecture = self.input.arch.gguf.unwrap_or("llama");
        let key = format!("{architecture}.vocab_size");
        tekken::write(self.files, &key, &mut self.keys, &mut self.warnings)
    }

    /// The SentencePiece model in a file.
    fn model(&self, name: &str) -> Result<sentencepiece::SentencePiece<'a>> {
        let bytes = self.files.all.get(name).ok_or_else(|| {
            let message =
                format!("the folder has no {name}, which this architecture's tokenizer is read from");
            Error::new(Code::NotFound, message)
        })?;
        sentencepiece::parse(bytes).map_err(|e| e.in_file(name))
    }

    fn spm_size(&self, pieces: usize) -> u64 {
        let per_layer = self.number("vocab_size_per_layer_input");
        per_layer.or_else(|| self.vocab_size()).unwrap_or(pieces as u64)
    }

    fn fits(&self, pieces: usize, size: u64, name: &str) -> Result<()> {
        if pieces as u64 > size {
            let message = format!("{pieces} pieces do not fit vocab_size {size} of config.json");
            return Err(Error::new(Code::BadValue, message).in_file(name));
        }
        Ok(())
    }

    fn write_spm(&mut self, model: &str, list: &TokenList<'_>) {
        self.text("model", model);
        self.text("pre", "default");
        list.write_texts(&mut self.keys);
        list.write_scores(&mut self.keys);
        list.write_types(&mut self.keys);
    }

    fn sentencepiece(&mut self, name: &str) -> Result<usize> {
        let model = self.model(name)?;
        let size = self.spm_size(model.pieces.len());
        self.fits(model.pieces.len(), size, name)?;
        let mut list = spm::pieces(&model, size)?;
        spm::lay_added_json(&mut list, self.files)?;
        spm::lay_added_decoder(&mut list, self.files)?;
        self.write_spm("llama", &list);
        let special = self.special(Some(list.0.len()))?;
        self.tail(&special, false)?;
        Ok(list.0.len())
    }

    fn sentencepiece_json(&mut self) -> Result<usize> {
        let vocab = bpe::Vocab::read(self.files)?;
        let mut list = vocab.sentencepiece(&self.files.named_special(), &[])?;
        self.score_sentencepiece_json(&mut list);
        self.pad_sentencepiece_json(&mut list)?;
        self.write_spm("llama", &list);
        let special = self.special(Some(list.0.len()))?;
        self.tail(&special, false)?;
        Ok(list.0.len())
    }

    /// Scores the list by the merges. The reference gives all tokens one score, by which the engine merges from the left.
    fn score_sentencepiece_json(&mut self, list: &mut TokenList<'_>) {
        let merges = self.files.json.as_ref().map_or(&[][..], |j| j.model.merges.as_slice());
        if merges.is_empty() {
            return;
        }
        if self.input.compat {
            self.warnings.push(
                "tokenizer.json has merges, the tokens one score, as llama.cpp's converter writes them: its engine \
                 splits text otherwise than the tokenizer; without --compat the scores follow the merges"
                    .to_owned(),
            );
        } else if !spm::score_by_merges(list, merges) {
            self.warnings.push(
                "the merges of tokenizer.json are not sorted by their results: the engine, which merges by scores, may \
                 split some words otherwise"
                    .to_owned(),
            );
        }
    }

    /// Pads the list to the embedding, which the reference does not: the engine refuses its file.
    fn pad_sentencepiece_json(&mut self, list: &mut TokenList<'_>) -> Result<()> {
        let Some(size) = self.vocab_size() else { return Ok(()) };
        let tokens = list.0.len() as u64;
        self.fits(list.0.len(), size, TOKENIZER_JSON)?;
        if tokens < size {
            let pad = if self.input.compat { "it is not padded" } else { "padding is added" };
            self.warnings.push(format!(
                "tokenizer.json has {tokens} tokens, the embedding {size} rows: {pad}; llama.cpp's converter adds none, \
                 and its engine refuses such a file"
            ));
            if !self.input.compat {
                list.pad(size)?;
            }
        }
        Ok(())
    }

    fn gemma4(&mut self) -> Result<usize> {
        let visible = [
            "<|channel>",
            "<channel|>",
            "<|tool_call>",
            "<tool_call|>",
            "<|tool_response>",
            "<tool_response|>",
        ];
        let vocab = bpe::Vocab::read(self.files)?;
        let mut list = vocab.sentencepiece(&self.files.named_special(), &visible)?;
        self.pad_sentencepiece_json(&mut list)?;
        self.text("model", "gemma4");
        list.write_texts(&mut self.keys);
        list.write_scores(&mut self.keys);
        list.write_types(&mut self.keys);
        let special = self.special(None)?;
        self.tail(&special, true)?;
        Ok(list.0.len())
    }

    fn phi3(&mut self) -> Result<usize> {
        let class = self.files.setting("tokenizer_class").and_then(Value::as_str);
        if class == Some("GPT2Tokenizer") {
            return self.byte_level();
        }
        let model = self.model("tokenizer.model")?;
        let size = self.spm_size(model.pieces.len());
        self.fits(model.pieces.len(), size, "tokenizer.model")?;
        let mut list = spm::pieces(&model, size)?;
        spm::lay_added_json(&mut list, self.files)?;
        spm::lay_raw(&mut list, self.files.added_decoder()?);
        let of_json = self.files.json.as_ref().map(|j| j.added_tokens.clone());
        spm::lay_raw(&mut list, of_json.unwrap_or_default());
        self.write_spm("llama", &list);
        let special = self.special(Some(list.0.len()))?;
        self.tail(&special, false)?;
        Ok(list.0.len())
    }

    fn token_type_count(&mut self) {
        let count = self.number("type_vocab_size").and_then(|n| u32::try_from(n).ok()).unwrap_or(1);
        self.keys.ggml("token_type_count", MetaValue::U32(count));
    }

    fn bert(&mut self) -> Result<usize> {
        if self.has("sentencepiece.bpe.model") {
            return self.unigram("sentencepiece.bpe.model", true);
        }
        match self.files.json.as_ref().map(|j| j.model.kind.as_ref()) {
            Some("BPE") => {
                let tokens = self.byte_level()?;
                self.token_type_count();
                return Ok(tokens);
            }
            Some("Unigram") => return self.unigram_json(true),
            _ => {}
        }
        self.token_type_count();
        let files = self.files;
        let vocab = bpe::Vocab::read(files)?;
        let size = self.vocab_size().unwrap_or_else(|| vocab.end());
        let (mut list, warnings) = vocab.byte_level(size, &bpe::AddedTexts::new(files, self.input.compat))?;
        self.warnings.extend(warnings);
        bpe::word_starts(&mut list);
        let pre = pre::choose(self.input, files, true, &mut self.warnings)?;
        self.text("model", "bert");
        self.text("pre", pre.name);
        list.write_texts(&mut self.keys);
        list.write_types(&mut self.keys);
        let special = self.special(Some(list.0.len()))?;
        self.tail(&special, false)?;
        Ok(list.0.len())
    }

    fn t5(&mut self) -> Result<usize> {
        let name = ["tokenizer.model", "spiece.model"].into_iter().find(|name| self.has(name));
        match name {
            None if self.files.json.is_some() => self.unigram_json(false),
            name => self.unigram(name.unwrap_or("spiece.model"), false),
        }
    }
}
