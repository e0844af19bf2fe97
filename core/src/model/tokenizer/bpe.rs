//! Vocabularies of `tokenizer.json`: byte-level BPE, WordPiece, and SentencePiece's form in JSON.

use super::files::{AddedToken, TOKENIZER_JSON, TokenizerFiles, Vocabulary, id_map};
use super::list::{ADDED_SCORE, MAX_TOKENS, PADDING_SCORE, Token, TokenList, added_kind, char_byte};
use super::sentencepiece::piece;
use crate::error::{Code, Error, Result};
use alloc::borrow::{Cow, ToOwned};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde_json::Value;

/// Tokens with ids, those of the model and those beside it.
#[derive(Debug)]
pub(super) struct Vocab<'a> {
    /// Tokens of the model, ascending by text.
    model: Vec<(Cow<'a, str>, u32)>,
    /// Tokens beside those of the model or special among them, with their ids.
    pub added: Vec<(u32, AddedToken<'a>)>,
    /// The ids of the added tokens.
    added_ids: BTreeMap<Cow<'a, str>, u32>,
    /// The id of the next added token that is not one of the model.
    next: u32,
}

fn wrong(file: &str, message: String) -> Error {
    Error::new(Code::BadValue, message).in_file(file)
}

impl<'a> Vocab<'a> {
    /// Reads the vocabulary of `tokenizer.json`, or `vocab.json`, or `vocab.txt`.
    ///
    /// # Errors
    /// `not_found` without any of them; `bad_value` or `duplicate_name` if ids and tokens contradict each other.
    pub(super) fn read(files: &'a TokenizerFiles<'a>) -> Result<Vocab<'a>> {
        let (file, pairs): (&str, Vec<(Cow<'a, str>, i64)>) = match &files.json {
            Some(json) => match &json.model.vocab {
                Vocabulary::Ids(ids) => {
                    (TOKENIZER_JSON, ids.iter().map(|(t, id)| (Cow::Borrowed(t.as_ref()), *id)).collect())
                }
                _ => return Err(wrong(TOKENIZER_JSON, "the model has no vocabulary of ids".to_owned())),
            },
            None => match id_map(files.all, "vocab.json")? {
                Some(ids) => ("vocab.json", ids),
                None => ("vocab.txt", lines(files)?),
            },
        };
        let mut model = Vec::with_capacity(pairs.len());
        for (text, id) in pairs {
            let id = u32::try_from(id).ok().filter(|id| u64::from(*id) < MAX_TOKENS);
            let id = id.ok_or_else(|| wrong(file, format!("the id of token {text:?} is out of range")))?;
            model.push((text, id));
        }
        model.sort_unstable();
        for pair in model.windows(2) {
            if let [(a, _), (b, _)] = pair
                && a == b
            {
                let message = format!("token {a:?} occurs twice in the vocabulary");
                return Err(Error::new(Code::DuplicateName, message).in_file(file));
            }
        }
        let next = model.len() as u32;
        let mut vocab = Vocab { model, added: Vec::new(), added_ids: BTreeMap::new(), next };
        vocab.read_added(files)?;
        Ok(vocab)
    }

    /// Number of tokens of the model.
    pub(super) fn base(&self) -> usize {
        self.model.len()
    }

    /// The id of a token of the model.
    pub(super) fn model_id(&self, text: &str) -> Option<u32> {
        let at = self.model.binary_search_by(|(t, _)| t.as_ref().cmp(text)).ok()?;
        self.model.get(at).map(|(_, id)| *id)
    }

    /// The id of an added token.
    pub(super) fn added_id(&self, text: &str) -> Option<u32> {
        self.added_ids.get(text).copied()
    }

    /// One more than the largest id.
    pub(super) fn end(&self) -> u64 {
        let model = self.model.iter().map(|(_, id)| *id);
        model.chain(self.added.iter().map(|(id, _)| *id)).max().map_or(0, |id| u64::from(id) + 1)
    }

    fn read_added(&mut self, files: &'a TokenizerFiles<'a>) -> Result<()> {
        let of_json = files.json.as_ref().map_or(&[][..], |j| j.added_tokens.as_slice());
        for token in of_json {
            let id = self.add(token.clone());
            if i64::from(id) != token.id {
                let text = &token.content;
                let given = token.id;
                return Err(wrong(
                    TOKENIZER_JSON,
                    format!("added token {text:?} has id {given}, but its place in the vocabulary is {id}"),
                ));
            }
        }
        for token in files.added_decoder()? {
            self.add(token);
        }
        let mut named = files.named_special();
        if files.json.is_none() && files.all.get("vocab.json").is_some() {
            // GPT-2's tokenizer has this token for every role that the configuration does not give.
            named.push("<|endoftext|>".to_owned());
        }
        for text in named {
            let known = self.model_id(&text).is_some();
            if files.json.is_none() && !known {
                continue;
            }
            self.add(AddedToken { id: -1, content: Cow::Owned(text), special: true, normalized: false });
        }
        Ok(())
    }

    /// Adds a token unless it is there, and returns its id, which follows the ids before it.
    fn add(&mut self, token: AddedToken<'a>) -> u32 {
        if let Some(id) = self.added_id(&token.content) {
            return id;
        }
        let id = self.model_id(&token.content).unwrap_or(self.next);
        self.next = self.next.max(id.saturating_add(1));
        self.added_ids.insert(token.content.clone(), id);
        self.added.push((id, token));
        id
    }

    fn slots(&self, size: u64) -> Result<Vec<Option<&str>>> {
        let mut slots: Vec<Option<&str>> = Vec::new();
        slots.resize(usize::try_from(size).unwrap_or(usize::MAX), None);
        for (text, id) in &self.model {
            let slot = slots.get_mut(*id as usize).ok_or_else(|| self.too_large(size))?;
            if let Some(other) = slot.replace(text) {
                return Err(wrong(
                    TOKENIZER_JSON,
                    format!("tokens {other:?} and {text:?} have the same id {id}"),
                ));
            }
        }
        for (id, token) in &self.added {
            let slot = slots.get_mut(*id as usize).ok_or_else(|| self.too_large(size))?;
            if let Some(other) = slot.replace(&token.content)
                && other != token.content
            {
                let text = &token.content;
                return Err(wrong(
                    TOKENIZER_JSON,
                    format!("tokens {other:?} and {text:?} have the same id {id}"),
                ));
            }
        }
        Ok(slots)
    }

    fn too_large(&self, size: u64) -> Error {
        let last = self.end().saturating_sub(1);
        wrong(TOKENIZER_JSON, format!("token id {last} does not fit vocab_size {size} of config.json"))
    }

    /// Tokens of a byte-level BPE or a WordPiece model, padded to `size`.
    ///
    /// # Errors
    /// `too_many`; `bad_value` if an id is not below `size`, or two tokens have the same id.
    pub(super) fn byte_level(
        &'a self,
        size: u64,
        texts: &AddedTexts,
    ) -> Result<(TokenList<'a>, Vec<String>)> {
        if size > MAX_TOKENS {
            TokenList::padding(size)?;
        }
        let mut warnings = Vec::new();
        let mut list = TokenList(Vec::with_capacity(size as usize));
        for (id, slot) in self.slots(size)?.into_iter().enumerate() {
            let (text, kind) = match slot {
                Some(text) => (Cow::Borrowed(text), piece::NORMAL),
                None => (Cow::Owned(format!("[PAD{id}]")), piece::UNUSED),
            };
            let score = if slot.is_some() { 0.0 } else { PADDING_SCORE };
            list.0.push(Token { text, score, kind });
        }
        for (id, token) in &self.added {
            let damaged = if token.normalized { None } else { texts.damaged(&token.content) };
            let mut text = Cow::Borrowed(token.content.as_ref());
            if let Some(damaged) = damaged {
                let as_it_is = if texts.compat { "" } else { "; it is kept as it is" };
                warnings.push(format!(
                    "llama.cpp's converter writes {damaged:?} for the added token {text:?}{as_it_is}"
                ));
                if texts.compat {
                    text = Cow::Owned(damaged);
                }
            }
            let (text, kind) = added_kind(text, token.special);
            list.put((*id).into(), Token { text, score: 0.0, kind });
        }
        Ok((list, warnings))
    }

    /// Tokens of SentencePiece's form in JSON.
    ///
    /// # Errors
    /// `bad_value` if an id is missing.
    pub(super) fn sentencepiece(&'a self, special: &[String], visible: &[&str]) -> Result<TokenList<'a>> {
        let base = self.base();
        let special: BTreeSet<&str> = special.iter().map(String::as_str).collect();
        let mut list = TokenList(Vec::with_capacity(base));
        for (id, text) in self.slots(self.end())?.into_iter().enumerate() {
            let text = text.ok_or_else(|| wrong(TOKENIZER_JSON, format!("no token has id {id}")))?;
            let kind = match text {
                _ if visible.contains(&text) => piece::USER_DEFINED,
                _ if id < base && is_byte(text) => piece::BYTE,
                _ if special.contains(text) => piece::CONTROL,
                _ if id < base => piece::NORMAL,
                _ => piece::USER_DEFINED,
            };
            list.0.push(Token { text: Cow::Borrowed(text), score: ADDED_SCORE, kind });
        }
        Ok(list)
    }
}

fn is_byte(text: &str) -> bool {
    let hex = text.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
    hex.is_some_and(|h| h.len() == 2 && h.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn lines<'a>(files: &'a TokenizerFiles<'a>) -> Result<Vec<(Cow<'a, str>, i64)>> {
    let missing = || {
        let message =
            "the folder has no tokenizer.json, vocab.json or tokenizer.model: no tokenizer can be written";
        Error::new(Code::NotFound, message)
    };
    let text = files.all.get("vocab.txt").ok_or_else(missing)?;
    let text = core::str::from_utf8(text)
        .map_err(|_| Error::new(Code::BadUtf8, "the vocabulary is not UTF-8").in_file("vocab.txt"))?;
    Ok(text.lines().enumerate().map(|(id, line)| (Cow::Borrowed(line), id as i64)).collect())
}

/// What llama.cpp's converter makes of the texts of added tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct AddedTexts {
    byte_level: bool,
    clean_up: bool,
    /// The reference's text is written where it damages a token.
    pub compat: bool,
}

impl AddedTexts {
    /// The rules of these files.
    pub(super) fn new(files: &TokenizerFiles<'_>, compat: bool) -> AddedTexts {
        let decoder = files.json.as_ref().and_then(|j| j.decoder.get("type")).and_then(Value::as_str);
        AddedTexts {
            byte_level: decoder == Some("ByteLevel") || files.json.is_none(),
            clean_up: files.flag("clean_up_tokenization_spaces").unwrap_or(false),
            compat,
        }
    }

    /// The reference's text, where it differs: the token is encoded and decoded.
    fn damaged(&self, text: &str) -> Option<String> {
        let mut out = text.to_owned();
        if self.byte_level && !text.is_ascii() {
            let bytes: Option<Vec<u8>> = text.chars().map(char_byte).collect();
            if let Some(bytes) = bytes {
                out = String::from_utf8_lossy(&bytes).into_owned();
            }
        }
        if self.clean_up {
            for (from, to) in CLEANED {
                if out.contains(from) {
                    out = out.replace(from, to);
                }
            }
        }
        (out != text).then_some(out)
    }
}

const CLEANED: [(&str, &str); 10] = [
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
];

/// Tokens of WordPiece as llama.cpp has them: `##` is dropped, and U+2581 begins a word.
pub(super) fn word_starts(list: &mut TokenList<'_>) {
    for token in &mut list.0 {
        if token.kind == piece::CONTROL {
            continue;
        }
        token.text = match token.text.strip_prefix("##") {
            Some(rest) => Cow::Owned(rest.to_owned()),
            None => Cow::Owned(format!("\u{2581}{}", token.text)),
        };
    }
}
