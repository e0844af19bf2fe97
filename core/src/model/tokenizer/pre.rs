//! The name of the pre-tokenizer: given, or by the hash of the check text, or by how `tokenizer.json` splits text.

use super::TokenizerInput;
use super::files::{TOKENIZER_JSON, TokenizerFiles};
use super::pre_table::{ENGINE, EngineRow, HASHES, REGEXES};
use crate::error::{Code, Error, Result};
use crate::tensor::{MetaValue, Metadata};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A name, and the flag that the file must have with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreTokenizer {
    /// The value of `tokenizer.ggml.pre`.
    pub name: &'static str,
    /// BOS must be switched off by a key, because the engine would add it under this name.
    pub without_bos: bool,
}

/// The warning where a name was determined without the token ids of the check text.
pub(crate) const NO_ENCODER: &str =
    "the check text was not encoded: the pre-tokenizer is named by the rules of tokenizer.json alone";

/// The name of the pre-tokenizer.
///
/// `adds_bos` is true if the file has `add_bos_token` whatever the name.
///
/// # Errors
/// `usage` if the given name is unknown; `unsupported_container` with the candidates if no name is sure.
pub fn choose(
    input: &TokenizerInput<'_>,
    files: &TokenizerFiles<'_>,
    adds_bos: bool,
    warnings: &mut Vec<String>,
) -> Result<PreTokenizer> {
    let plain = |name| PreTokenizer { name, without_bos: false };
    if let Some(given) = input.pre_tokenizer {
        return known(given).map(plain);
    }
    let preferred = input.arch.tokenizer.pre;
    if let Some(name) = input.check_text_ids.and_then(|ids| by_hash(&hash(ids))) {
        // The reference takes the name of the vocabulary, whatever the architecture.
        return Ok(plain(if input.compat { name } else { of_architecture(name, preferred) }));
    }
    if input.check_text_ids.is_none() && input.companions.get(TOKENIZER_JSON).is_some() {
        warnings.push(NO_ENCODER.to_owned());
    }
    if let Some(name) = hinted(files) {
        return Ok(plain(name));
    }
    by_rules(files, preferred, adds_bos)
}

/// The member of `tokenizer_config.json` in which a folder made of a GGUF keeps the name: several names split text alike.
pub const HINT: &str = "gguf_pre_tokenizer";

/// The name that the folder keeps, if the engine splits text under it as `tokenizer.json` does.
fn hinted(files: &TokenizerFiles<'_>) -> Option<&'static str> {
    let name = known(files.setting(HINT)?.as_str()?).ok()?;
    let json = files.json.as_ref()?;
    if matches!(&*json.model.kind, "WordPiece" | "Unigram") {
        return Some(name);
    }
    let row = engine(name)?;
    let ignore = json.model.ignore_merges.unwrap_or(false);
    (row.ignore_merges == ignore && regexes(row.kind).is_some() && regexes(row.kind) == splits(json))
        .then_some(name)
}

/// How an engine splits text under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Splitting {
    /// Regular expressions, applied one after the other.
    pub regexes: &'static [&'static str],
    /// A word of the vocabulary is one token whatever the merges give.
    pub ignore_merges: bool,
}

/// How an engine splits text under `name`; `None` if it does more than regular expressions do.
pub fn splitting(name: &str) -> Option<Splitting> {
    let row = engine(name)?;
    regexes(row.kind)?;
    let (_, regexes) = REGEXES.iter().find(|(kind, _)| *kind == row.kind)?;
    Some(Splitting { regexes, ignore_merges: row.ignore_merges })
}

/// Whether llama.cpp puts the BOS token of a GGUF before a text: by `add_bos_token`, else by the tokenizer model and, for BPE, the
/// pre-tokenizer.
pub fn adds_bos(metadata: &Metadata) -> bool {
    match metadata.get("tokenizer.ggml.add_bos_token") {
        Some(MetaValue::Bool(adds)) => *adds,
        _ => match metadata.text("tokenizer.ggml.model") {
            Some("gpt2") => {
                metadata.text("tokenizer.ggml.pre").and_then(engine).is_some_and(|row| row.add_bos)
            }
            model => matches!(model, Some("llama" | "bert" | "gemma4")),
        },
    }
}

/// SHA-256 of the token ids of the check text, as llama.cpp's converter takes it.
pub fn hash(ids: &[u32]) -> String {
    let hash = Sha256::digest(format!("{ids:?}").as_bytes());
    hash.iter().map(|b| format!("{b:02x}")).collect()
}

/// The name for a hash.
pub fn by_hash(hash: &str) -> Option<&'static str> {
    HASHES.iter().find(|(h, _)| *h == hash).map(|(_, name)| *name)
}

/// Names that llama.cpp's table of hashes gives to vocabularies that older families share.
const SHARED: &[&str] = &["joyai-llm", "hy_v4", "granite-embed-multi-311m"];

/// The architecture's own name where the vocabulary is shared by families, or the name itself.
fn of_architecture(name: &'static str, preferred: &'static [&'static str]) -> &'static str {
    let Some(found) = engine(name).filter(|_| SHARED.contains(&name)) else { return name };
    let alike = |other: &EngineRow| {
        regexes(other.kind) == regexes(found.kind)
            && (other.ignore_merges, other.add_bos) == (found.ignore_merges, found.add_bos)
    };
    let own = || preferred.iter().find(|p| engine(p).is_some_and(&alike));
    if preferred.contains(&name) { name } else { own().copied().unwrap_or(name) }
}

fn engine(name: &str) -> Option<&'static EngineRow> {
    ENGINE.iter().find(|row| row.name == name)
}

/// All names that llama.cpp knows.
pub fn names() -> impl Iterator<Item = &'static str> {
    let hashed = HASHES.iter().map(|(_, name)| *name).filter(|name| engine(name).is_none());
    ENGINE.iter().map(|row| row.name).chain(hashed)
}

fn known(given: &str) -> Result<&'static str> {
    if let Some(name) = names().find(|name| *name == given) {
        return Ok(name);
    }
    let mut near: Vec<(usize, &str)> = names().map(|name| (distance(given, name), name)).collect();
    near.sort_unstable();
    let near: Vec<&str> = near.iter().filter(|(d, _)| *d <= 3).take(4).map(|(_, name)| *name).collect();
    let hint = if near.is_empty() { String::new() } else { format!("; near: {}", near.join(", ")) };
    Err(Error::new(Code::Usage, format!("llama.cpp knows no pre-tokenizer {given:?}{hint}")))
}

/// Edits of one character between two names, in lower case.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().flat_map(char::to_lowercase).take(64).enumerate() {
        let mut last = i;
        let mut next = Vec::with_capacity(row.len());
        next.push(i + 1);
        for ((y, above), left_above) in b.iter().zip(row.iter().skip(1)).zip(row.iter()) {
            last = (left_above + usize::from(x != *y)).min(above + 1).min(last_of(&next, last) + 1);
            next.push(last);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

fn last_of(row: &[usize], default: usize) -> usize {
    row.last().copied().unwrap_or(default)
}

/// Order of preference where several names split text alike.
const USUAL: [&str; 9] =
    ["llama-bpe", "qwen2", "gpt-2", "starcoder", "smollm", "deepseek-v3", "gpt-4o", "dbrx", "gemma4"];

fn by_rules(files: &TokenizerFiles<'_>, preferred: &[&str], adds_bos: bool) -> Result<PreTokenizer> {
    let Some(json) = &files.json else {
        return Err(refusal("the folder has no tokenizer.json to tell the pre-tokenizer by", &[]));
    };
    if json.model.kind == "WordPiece" {
        // The engine does not look at the name.
        return Ok(PreTokenizer { name: "default", without_bos: false });
    }
    let Some(split) = splits(json) else {
        return Err(refusal(
            "tokenizer.json normalizes or splits text in a way that llama.cpp does not have",
            &[],
        ));
    };
    let alike: Vec<&EngineRow> =
        ENGINE.iter().filter(|row| regexes(row.kind) == Some(split.clone())).collect();
    let ignore = json.model.ignore_merges.unwrap_or(false);
    let clean = files.flag("clean_up_tokenization_spaces").unwrap_or(false);
    let rank = |row: &&&EngineRow| {
        let own = preferred.iter().position(|p| *p == row.name).unwrap_or(usize::MAX);
        let usual = USUAL.iter().position(|p| *p == row.name).unwrap_or(usize::MAX);
        (own, row.clean_spaces != clean, row.add_bos && !adds_bos, usual, row.name)
    };
    // Under chatglm4 the engine has no BOS whatever the keys are.
    let fits = |row: &&&EngineRow| {
        row.ignore_merges == ignore && (row.kind != "chatglm4" || preferred.contains(&row.name))
    };
    match alike.iter().filter(fits).min_by_key(rank) {
        Some(row) => Ok(PreTokenizer { name: row.name, without_bos: row.add_bos && !adds_bos }),
        None => {
            let names: Vec<&str> = alike.iter().map(|row| row.name).collect();
            Err(refusal("the vocabulary is not one that llama.cpp knows", &names))
        }
    }
}

fn refusal(why: &str, candidates: &[&str]) -> Error {
    let rest = if candidates.is_empty() {
        "name it with --pre-tokenizer NAME".to_owned()
    } else {
        format!("name it with --pre-tokenizer NAME; these split text alike: {}", candidates.join(", "))
    };
    let message = format!("the pre-tokenizer is not determined: {why}; {rest}");
    Error::new(Code::UnsupportedContainer, message).in_file(TOKENIZER_JSON)
}

/// The regular expressions of an engine's row in one spelling; nothing for text that is not split.
fn regexes(kind: &str) -> Option<Vec<String>> {
    if kind == "gemma4" {
        return Some(Vec::new());
    }
    // Rows whose treatment goes beyond their expressions.
    if matches!(kind, "default" | "whitespace" | "sarvam_moe") {
        return None;
    }
    let (_, list) = REGEXES.iter().find(|(k, _)| *k == kind)?;
    Some(list.iter().map(|r| spelled(r)).collect())
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|`]+";

/// The same expression under one spelling of its contractions and line ends.
fn spelled(regex: &str) -> String {
    let mut out = regex.replace('\r', "\\r").replace('\n', "\\n");
    for contractions in [
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])",
        "'(?i:[sdmt]|ll|ve|re)",
        "'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])",
    ] {
        out = out.replace(contractions, "<contraction>");
    }
    if out == GPT2.strip_suffix(r"|\s+").unwrap_or_default() {
        // Without its last branch, the engine takes the rest of the spaces all the same.
        out = GPT2.to_owned();
    }
    out
}

/// The regular expressions that a tokenizer splits text by; `None` if it does more than that.
fn splits(json: &super::files::TokenizerJson<'_>) -> Option<Vec<String>> {
    if json.model.kind != "BPE" {
        return None;
    }
    let kind = |v: &Value| v.get("type").and_then(Value::as_str).map(ToOwned::to_owned);
    let list = |v: &Value, key: &str| -> Vec<Value> {
        match v.get(key).and_then(Value::as_array) {
            Some(list) => list.clone(),
            None if v.is_null() => Vec::new(),
            None => alloc::vec![v.clone()],
        }
    };
    let normalizers = list(&json.normalizer, "normalizers");
    // The engine does not normalize; composed text stays as it is.
    let rest: Vec<&Value> = normalizers.iter().filter(|n| kind(n).as_deref() != Some("NFC")).collect();
    let steps = list(&json.pre_tokenizer, "pretokenizers");
    if let [only] = rest.as_slice() {
        let replaced = only.get("pattern").and_then(|p| p.get("String")).and_then(Value::as_str) == Some(" ");
        let by = only.get("content").and_then(Value::as_str) == Some("\u{2581}");
        let merged = |v: &Value| v.get("behavior").and_then(Value::as_str) == Some("MergedWithPrevious");
        let whole = steps.iter().all(merged);
        return (kind(only).as_deref() == Some("Replace") && replaced && by && whole).then(Vec::new);
    }
    if !rest.is_empty() {
        return None;
    }
    let mut found = Vec::new();
    let mut byte_level = false;
    for step in &steps {
        if let Some(regex) = split_regex(step, &mut byte_level)? {
            found.push(regex);
        }
    }
    byte_level.then_some(found)
}

#[expect(clippy::option_option, reason = "no step, a step without expression, an expression")]
fn split_regex(step: &Value, byte_level: &mut bool) -> Option<Option<String>> {
    let text = |key: &str| step.get(key).and_then(Value::as_str);
    let flag = |key: &str| step.get(key).and_then(Value::as_bool);
    match text("type")? {
        "Split" => {
            let isolated = text("behavior") == Some("Isolated") && flag("invert") != Some(true);
            let removed = text("behavior") == Some("Removed") && flag("invert") == Some(true);
            let regex = step.get("pattern")?.get("Regex")?.as_str()?;
            (isolated || removed).then(|| Some(spelled(regex)))
        }
        "Digits" => {
            Some(Some(if flag("individual_digits") == Some(true) { r"\p{N}" } else { r"\p{N}+" }.to_owned()))
        }
        "Punctuation" => (text("behavior") == Some("Contiguous")).then(|| Some(PUNCTUATION.to_owned())),
        "ByteLevel" if flag("add_prefix_space") != Some(true) => {
            *byte_level = true;
            Some((flag("use_regex") != Some(false)).then(|| GPT2.to_owned()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn bos_is_added_by_key_or_by_model_and_pre_tokenizer() {
        let of = |model: &str, pre: &str, key: Option<bool>| {
            let text = |name: &str, value: &str| {
                (format!("tokenizer.ggml.{name}"), MetaValue::String(value.to_string()))
            };
            let key = key.map(|on| ("tokenizer.ggml.add_bos_token".to_string(), MetaValue::Bool(on)));
            adds_bos(&Metadata([text("model", model), text("pre", pre)].into_iter().chain(key).collect()))
        };
        for pre in ["llama-bpe", "llama3", "falcon3", "pixtral", "tekken", "chameleon"] {
            assert!(of("gpt2", pre, None), "{pre}");
            assert!(!of("gpt2", pre, Some(false)), "{pre}");
        }
        for pre in ["qwen2", "gpt-2", "default", "unheard-of"] {
            assert!(!of("gpt2", pre, None), "{pre}");
            assert!(of("gpt2", pre, Some(true)), "{pre}");
        }
        assert!(of("llama", "default", None) && of("bert", "default", None));
        assert!(!of("t5", "default", None) && !of("rwkv", "default", None));
    }
}
