//! The tokens of a model's vocabulary by their ids, to tell whether two models have the same.

use crate::bytes::Cursor;
use crate::error::{Code, Error, Result};
use crate::format::{Checkpoint, Container};
use crate::plan::Warning;
use crate::tensor::{MetaArray, MetaValue};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Type number of a string in GGUF metadata.
const STRING: u32 = 8;
/// Most entries of a vocabulary.
const LIMIT: usize = 1 << 22;

/// Tokens by id; empty where an id has none.
pub type Tokens = Vec<String>;

/// How two vocabularies differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VocabularyComparison {
    /// Ids with a token in both.
    common: usize,
    /// Those of them with another token.
    pub differing: usize,
    /// The first one, and its tokens.
    first: Option<(usize, String, String)>,
}

impl VocabularyComparison {
    /// Whether more than a hundredth of the tokens are others: renamed special tokens are fewer.
    pub fn is_other(&self) -> bool {
        self.differing.saturating_mul(100) > self.common
    }
}

impl fmt::Display for VocabularyComparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} tokens are others", self.differing, self.common)?;
        match &self.first {
            Some((id, a, b)) => write!(f, " (id {id} is {a:?} and {b:?})"),
            None => Ok(()),
        }
    }
}

/// Compares the tokens of ids that have one in both.
pub fn compare(a: &Tokens, b: &Tokens) -> VocabularyComparison {
    let mut found = VocabularyComparison::default();
    for (id, (a, b)) in a.iter().zip(b).enumerate().filter(|(_, (a, b))| !a.is_empty() && !b.is_empty()) {
        found.common += 1;
        // Converters write the blank of an added token, or the mark that stands for it.
        let same = a == b || a.replace('\u{2581}', " ") == b.replace('\u{2581}', " ");
        if !same {
            found.differing += 1;
            found.first.get_or_insert_with(|| (id, a.clone(), b.clone()));
        }
    }
    found
}

/// The tokens of a model: of a GGUF from its metadata, else from `json`, the `tokenizer.json` beside the weights. `None` if it has
/// none, or none that can be compared.
///
/// # Errors
///
/// `bad_json` if `json` is no tokenizer.
pub fn tokens(checkpoint: &Checkpoint, json: Option<&[u8]>) -> Result<Option<Tokens>> {
    let metadata = &checkpoint.metadata;
    if checkpoint.container == Container::Gguf {
        // The converter changes the tokens of WordPiece.
        let comparable = metadata.text("tokenizer.ggml.model") != Some("bert");
        return Ok(match metadata.get("tokenizer.ggml.tokens") {
            Some(MetaValue::Array(array)) if comparable => Some(texts(array)),
            _ => None,
        });
    }
    let Some(bytes) = json else { return Ok(None) };
    let bad = |e: serde_json::Error| Error::new(Code::BadJson, e.to_string()).in_file("tokenizer.json");
    let json: VocabularyFile = serde_json::from_slice(bytes).map_err(bad)?;
    let mut found: Tokens = Vec::new();
    let all = json.model.vocab.0.into_iter().chain(json.added_tokens.into_iter().map(|t| (t.content, t.id)));
    for (text, id) in all.filter(|(_, id)| (*id as usize) < LIMIT) {
        let id = id as usize;
        if found.len() <= id {
            found.resize(id + 1, String::new());
        }
        if let Some(slot) = found.get_mut(id) {
            *slot = text;
        }
    }
    Ok(Some(found))
}

/// A model whose vocabulary is compared: its name, entries, and tokens.
#[derive(Debug)]
pub struct ModelVocabulary<'a> {
    /// The name for messages.
    pub name: &'a str,
    /// Number of entries.
    pub entries: usize,
    /// Tokens, if they can be compared.
    pub tokens: Option<Tokens>,
}

/// Checks that two models have logits of the same tokens. A warning if few tokens differ.
///
/// # Errors
///
/// `usage` for vocabularies of different lengths, or if more than a hundredth of the tokens differ.
pub fn check_vocabularies(
    model: &ModelVocabulary<'_>,
    reference: &ModelVocabulary<'_>,
) -> Result<Option<Warning>> {
    let (ours, theirs) = (model.name, reference.name);
    if model.entries != reference.entries {
        let message = format!(
            "the vocabularies differ: {ours} has {} entries, {theirs} has {}; their distributions cannot be compared",
            model.entries, reference.entries
        );
        return Err(Error::new(Code::Usage, message));
    }
    let found = model.tokens.as_ref().zip(reference.tokens.as_ref()).map(|(a, b)| compare(a, b));
    let Some(found) = found.filter(|found| found.differing > 0) else { return Ok(None) };
    let differ = format!("{found} between {ours} and {theirs}");
    if found.is_other() {
        let message = format!("the vocabularies differ: {differ}; their distributions cannot be compared");
        return Err(Error::new(Code::Usage, message));
    }
    Ok(Some(Warning { code: "other_tokens", message: differ }))
}

/// The strings of an array, without the padding that the converter adds.
fn texts(array: &MetaArray) -> Tokens {
    let mut cursor = Cursor::new(&array.raw, 0);
    let mut all = Vec::new();
    while array.element == STRING && cursor.remaining() > 0 {
        let text = cursor.u64().and_then(|n| cursor.take(n));
        let Ok(text) = text else { break };
        let text = String::from_utf8_lossy(text).into_owned();
        all.push(if text.starts_with("[PAD") { String::new() } else { text });
    }
    all
}

#[derive(Deserialize)]
struct VocabularyFile {
    model: VocabularyModel,
    #[serde(default)]
    added_tokens: Vec<VocabAddedToken>,
}

#[derive(Deserialize)]
struct VocabularyModel {
    #[serde(default)]
    vocab: VocabularyEntries,
}

#[derive(Deserialize)]
struct VocabAddedToken {
    id: u32,
    content: String,
}

/// Tokens and ids: a map, or a list of tokens with scores.
#[derive(Default)]
struct VocabularyEntries(Vec<(String, u32)>);

impl<'de> Deserialize<'de> for VocabularyEntries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<VocabularyEntries, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = VocabularyEntries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a vocabulary")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<VocabularyEntries, A::Error> {
                let mut all = Vec::new();
                while let Some(entry) = map.next_entry::<String, u32>()? {
                    all.push(entry);
                }
                Ok(VocabularyEntries(all))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<VocabularyEntries, A::Error> {
                let mut all = Vec::new();
                while let Some((text, _)) = list.next_element::<(String, IgnoredAny)>()? {
                    all.push((text, all.len() as u32));
                }
                Ok(VocabularyEntries(all))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens_of(all: &[&str]) -> Tokens {
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn vocabularies_are_other_above_a_hundredth() {
        let a: Tokens = (0..200).map(|i| format!("t{i}")).collect();
        let mut b = a.clone();
        let mut set = |id: usize, text: &str| b.iter_mut().skip(id).take(1).for_each(|t| *t = text.into());
        set(3, "other");
        set(4, "");
        let found = compare(&a, &b);
        assert_eq!((found.common, found.differing, found.is_other()), (199, 1, false));
        assert_eq!(found.to_string(), "1 of 199 tokens are others (id 3 is \"t3\" and \"other\")");
        b.iter_mut().skip(5).take(1).for_each(|t| *t = "second".into());
        assert!(compare(&a, &b).is_other());
        let blanks = compare(&tokens_of(&["\u{2581}\u{2581}x"]), &tokens_of(&["  x"]));
        assert_eq!(blanks.differing, 0);
    }

    #[test]
    fn tokens_of_both_forms_are_read() {
        let of = |text: &str| serde_json::from_str::<VocabularyFile>(text).map(|t| t.model.vocab.0);
        let map = of(r#"{"model": {"vocab": {"a": 1, "b": 0}}}"#).expect("a map");
        assert_eq!(map, [("a".to_string(), 1), ("b".to_string(), 0)]);
        let list =
            of(r#"{"model": {"vocab": [["a", -1.5], ["b", -2]]}, "added_tokens": []}"#).expect("a list");
        assert_eq!(list, [("a".to_string(), 0), ("b".to_string(), 1)]);
    }
}
