//! The tokenizer files of a model folder, parsed; strings of `tokenizer.json` stay borrowed.

use crate::error::{Code, Error, Result};
use crate::format::companions::Companions;
use alloc::borrow::{Cow, ToOwned};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Name of the tokenizer of the `tokenizers` library.
pub(super) const TOKENIZER_JSON: &str = "tokenizer.json";
/// Name of the tokenizer's configuration.
pub(super) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// The tokenizer files that other rules are read from.
#[derive(Debug)]
pub struct TokenizerFiles<'a> {
    /// All files.
    pub all: &'a Companions,
    /// `tokenizer.json`.
    pub json: Option<TokenizerJson<'a>>,
    /// `tokenizer_config.json`, unless it is empty.
    pub config: Option<Map<String, Value>>,
    /// `special_tokens_map.json`.
    pub special_map: Map<String, Value>,
}

impl<'a> TokenizerFiles<'a> {
    /// Parses the files.
    ///
    /// # Errors
    /// `bad_json`, in the file that is wrong.
    pub fn parse(all: &'a Companions) -> Result<TokenizerFiles<'a>> {
        Ok(TokenizerFiles {
            all,
            json: all.get(TOKENIZER_JSON).map(|text| read(TOKENIZER_JSON, text)).transpose()?,
            config: object(all, TOKENIZER_CONFIG)?.filter(|map| !map.is_empty()),
            special_map: object(all, "special_tokens_map.json")?.unwrap_or_default(),
        })
    }

    /// A value of `tokenizer_config.json`.
    pub fn setting(&self, key: &str) -> Option<&Value> {
        self.config.as_ref()?.get(key)
    }

    /// A flag of `tokenizer_config.json`.
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.setting(key)?.as_bool()
    }

    /// Texts of the special tokens that the configuration names, in its order.
    pub fn named_special(&self) -> Vec<String> {
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        let maps = [self.config.as_ref(), Some(&self.special_map)];
        for map in maps.into_iter().flatten() {
            let single = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"];
            let single = single.iter().filter_map(|kind| map.get(&format!("{kind}_token")));
            let more = map.get("additional_special_tokens").and_then(Value::as_array);
            for text in single.chain(more.into_iter().flatten()).filter_map(token_text) {
                if seen.insert(text) {
                    found.push(text.to_owned());
                }
            }
        }
        found
    }

    /// `added_tokens_decoder` of `tokenizer_config.json`, ascending by id.
    ///
    /// # Errors
    /// `bad_value` if an id is no number of 32 bits, or an entry has no text.
    pub fn added_decoder(&self) -> Result<Vec<AddedToken<'a>>> {
        let Some(map) = self.setting("added_tokens_decoder").and_then(Value::as_object) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::with_capacity(map.len());
        for (id, entry) in map {
            let wrong = || {
                let message = format!("added_tokens_decoder: {id:?} is no id with a token");
                Error::new(Code::BadValue, message).in_file(TOKENIZER_CONFIG)
            };
            let id: u32 = id.parse().map_err(|_| wrong())?;
            let content = entry.get("content").and_then(Value::as_str).ok_or_else(wrong)?;
            let flag = |key: &str| entry.get(key).and_then(Value::as_bool).unwrap_or(false);
            found.push(AddedToken {
                id: id.into(),
                content: Cow::Owned(content.to_owned()),
                special: flag("special"),
                normalized: flag("normalized"),
            });
        }
        found.sort_by_key(|t| t.id);
        Ok(found)
    }
}

/// The text of a token in a configuration: itself, or its `content`.
pub(super) fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// The JSON object in a file, where there is one.
///
/// # Errors
/// `bad_json`.
pub(super) fn object(all: &Companions, name: &str) -> Result<Option<Map<String, Value>>> {
    all.get(name).map(|text| read(name, text)).transpose()
}

/// The JSON document in a file.
///
/// # Errors
/// `bad_json`.
pub(super) fn read<'a, T: Deserialize<'a>>(name: &str, text: &'a [u8]) -> Result<T> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    serde_json::from_slice(text).map_err(|e| Error::new(Code::BadJson, e.to_string()).in_file(name))
}

/// `tokenizer.json`.
#[derive(Debug, serde::Deserialize)]
pub struct TokenizerJson<'a> {
    /// Tokens beside those of the model, and special ones among them.
    #[serde(borrow, default)]
    pub added_tokens: Vec<AddedToken<'a>>,
    /// What is done to text first.
    #[serde(default)]
    pub normalizer: Value,
    /// How text is split.
    #[serde(default)]
    pub pre_tokenizer: Value,
    /// Special tokens around a text.
    #[serde(default)]
    pub post_processor: Value,
    /// How tokens become text.
    #[serde(default)]
    pub decoder: Value,
    /// Vocabulary and merges.
    #[serde(borrow, default)]
    pub model: TokenizerModel<'a>,
}

/// The model of a `tokenizer.json`.
#[derive(Debug, Default, serde::Deserialize)]
pub struct TokenizerModel<'a> {
    /// BPE, WordPiece, Unigram, or empty.
    #[serde(rename = "type", default, borrow)]
    pub kind: Cow<'a, str>,
    /// Tokens and ids, or pieces and scores.
    #[serde(borrow, default)]
    pub vocab: Vocabulary<'a>,
    /// Merges of BPE.
    #[serde(borrow, default)]
    pub merges: Vec<MergePair<'a>>,
    /// A word of the vocabulary is one token whatever the merges give.
    #[serde(default)]
    pub ignore_merges: Option<bool>,
    /// Characters that are no tokens become bytes.
    #[serde(default)]
    pub byte_fallback: Option<bool>,
    /// The id of the unknown token of Unigram.
    #[serde(default)]
    pub unk_id: Option<u32>,
}

impl TokenizerJson<'_> {
    /// True if this is BPE with byte fallback, as SentencePiece models become.
    pub fn is_sentencepiece_bpe(&self) -> bool {
        self.model.kind == "BPE"
            && self.model.byte_fallback == Some(true)
            && self.decoder.get("type").and_then(Value::as_str) == Some("Sequence")
    }
}

/// A token beside those of the model.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct AddedToken<'a> {
    /// Its id.
    pub id: i64,
    /// Its text.
    #[serde(borrow)]
    pub content: Cow<'a, str>,
    /// Not part of decoded text.
    #[serde(default)]
    pub special: bool,
    /// Matched in normalized text.
    #[serde(default)]
    pub normalized: bool,
}

/// A vocabulary.
#[derive(Debug, Default)]
pub enum Vocabulary<'a> {
    /// There is none.
    #[default]
    None,
    /// Tokens and ids.
    Ids(Vec<(Cow<'a, str>, i64)>),
    /// Pieces and scores; a piece's index is its id.
    Scores(Vec<(Cow<'a, str>, f64)>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Vocabulary<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> core::result::Result<Self, D::Error> {
        struct VocabularyVisitor;
        impl<'de> Visitor<'de> for VocabularyVisitor {
            type Value = Vocabulary<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a vocabulary: an object of ids, or an array of pieces with scores")
            }

            fn visit_unit<E>(self) -> core::result::Result<Self::Value, E> {
                Ok(Vocabulary::None)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> core::result::Result<Self::Value, A::Error> {
                let mut found = Vec::new();
                while let Some((text, id)) = map.next_entry::<BorrowedText<'de>, i64>()? {
                    found.push((text.0, id));
                }
                Ok(Vocabulary::Ids(found))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> core::result::Result<Self::Value, A::Error> {
                let mut found = Vec::new();
                while let Some((text, score)) = seq.next_element::<(BorrowedText<'de>, f64)>()? {
                    found.push((text.0, score));
                }
                Ok(Vocabulary::Scores(found))
            }
        }
        d.deserialize_any(VocabularyVisitor)
    }
}

/// A merge of BPE.
#[derive(Clone, Debug, PartialEq)]
pub enum MergePair<'a> {
    /// Both parts, with a space between.
    Line(Cow<'a, str>),
    /// Both parts.
    Pair(Cow<'a, str>, Cow<'a, str>),
}

impl MergePair<'_> {
    /// Both parts, if there are two.
    pub fn parts(&self) -> Option<(&str, &str)> {
        match self {
            MergePair::Line(line) => line.split_once(' ').filter(|(_, b)| !b.contains(' ')),
            MergePair::Pair(a, b) => Some((a, b)),
        }
    }

    /// The merge as GGUF has it: a space between the parts, U+0120 for a space in a part.
    pub fn line(&self) -> Cow<'_, str> {
        match self {
            MergePair::Line(line) => Cow::Borrowed(line),
            MergePair::Pair(a, b) => {
                let mut line = String::with_capacity(a.len() + b.len() + 1);
                let escape = |c: char| if c == ' ' { '\u{120}' } else { c };
                line.extend(a.chars().map(escape));
                line.push(' ');
                line.extend(b.chars().map(escape));
                Cow::Owned(line)
            }
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for MergePair<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> core::result::Result<Self, D::Error> {
        struct MergeVisitor;
        impl<'de> Visitor<'de> for MergeVisitor {
            type Value = MergePair<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a merge: a text or two")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> core::result::Result<Self::Value, E> {
                Ok(MergePair::Line(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> core::result::Result<Self::Value, E> {
                Ok(MergePair::Line(Cow::Owned(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> core::result::Result<Self::Value, A::Error> {
                let wrong = |count| serde::de::Error::invalid_length(count, &"two texts");
                let a = seq.next_element::<BorrowedText<'de>>()?.ok_or_else(|| wrong(0))?;
                let b = seq.next_element::<BorrowedText<'de>>()?.ok_or_else(|| wrong(1))?;
                if seq.next_element::<IgnoredAny>()?.is_some() {
                    return Err(wrong(3));
                }
                Ok(MergePair::Pair(a.0, b.0))
            }
        }
        d.deserialize_any(MergeVisitor)
    }
}

/// A text, borrowed where the JSON has no escapes in it.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);

/// Texts with their ids, in the order of the file.
pub(super) type IdMap<'a> = Vec<(Cow<'a, str>, i64)>;

/// Ids of texts: `vocab.json` or `added_tokens.json`, in ascending order of ids.
///
/// # Errors
/// `bad_json`; `bad_value` if an id is negative.
pub(super) fn id_map<'a>(all: &'a Companions, name: &str) -> Result<Option<IdMap<'a>>> {
    let Some(text) = all.get(name) else { return Ok(None) };
    let Vocabulary::Ids(mut ids) = read(name, text)? else {
        return Err(Error::new(Code::BadJson, "no object of ids").in_file(name));
    };
    // Of two values of one key, the last counts.
    let last: BTreeMap<&str, usize> = ids.iter().enumerate().map(|(i, (t, _))| (t.as_ref(), i)).collect();
    if last.len() != ids.len() {
        return Err(Error::new(Code::DuplicateName, "a token occurs twice").in_file(name));
    }
    ids.sort_by_key(|(_, id)| *id);
    Ok(Some(ids))
}
