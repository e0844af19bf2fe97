//! Mistral's `tekken.json`: ranks of byte strings after a block of special tokens.

use super::files::{TokenizerFiles, read};
use super::keys::{KeyList, integers, strings};
use super::list::{Token, TokenList, byte_char, byte_text};
use super::sentencepiece::piece;
use super::special::set_id;
use crate::error::{Code, Error, Result};
use crate::tensor::MetaValue;
use alloc::borrow::{Cow, ToOwned};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Name of the file.
pub(super) const TEKKEN: &str = "tekken.json";

#[derive(serde::Deserialize)]
struct Tekken<'a> {
    config: TekkenConfig<'a>,
    #[serde(borrow)]
    vocab: Vec<TekkenEntry<'a>>,
    #[serde(default, borrow)]
    special_tokens: Option<Vec<SpecialEntry<'a>>>,
}

#[derive(serde::Deserialize)]
struct TekkenConfig<'a> {
    default_vocab_size: u64,
    default_num_special_tokens: u64,
    #[serde(borrow)]
    version: Cow<'a, str>,
}

#[derive(serde::Deserialize)]
struct TekkenEntry<'a> {
    rank: u64,
    #[serde(borrow)]
    token_bytes: Cow<'a, str>,
}

#[derive(serde::Deserialize)]
struct SpecialEntry<'a> {
    rank: u64,
    #[serde(borrow)]
    token_str: Cow<'a, str>,
}

/// Most bytes of a token: every place in it is tried as a merge.
const MAX_TOKEN: usize = 4096;

/// Special tokens of files that do not list them.
const SPECIAL: [&str; 20] = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
];

fn wrong(message: String) -> Error {
    Error::new(Code::BadValue, message).in_file(TEKKEN)
}

/// Writes the keys of a `tekken.json`, and returns the number of tokens. `size_key` is `<arch>.vocab_size`.
///
/// # Errors
/// `bad_json` and `bad_value`, in the file.
pub(super) fn write(
    files: &TokenizerFiles<'_>,
    size_key: &str,
    keys: &mut KeyList,
    warnings: &mut Vec<String>,
) -> Result<usize> {
    let text = files.all.get(TEKKEN).unwrap_or_default();
    let tekken: Tekken<'_> = read(TEKKEN, text)?;
    let special = specials(&tekken)?;
    let bytes = ranked_bytes(&tekken)?;
    let mut table = ['\0'; 256];
    for (byte, slot) in table.iter_mut().enumerate() {
        *slot = byte_char(byte as u8);
    }
    keys.ggml("model", MetaValue::String("gpt2".to_owned()));
    keys.ggml("pre", MetaValue::String("tekken".to_owned()));
    let merges = merges(&bytes, &table);
    keys.ggml("merges", strings(merges.iter().map(String::as_str)));
    for (kind, token) in [("bos", "<s>"), ("eos", "</s>"), ("unk", "<unk>"), ("pad", "<pad>")] {
        if let Some(id) = special.iter().position(|t| t == token) {
            set_id(keys, kind, id as u32);
        }
    }
    let specials =
        special.iter().map(|t| Token { text: Cow::Borrowed(t.as_str()), score: 0.0, kind: piece::CONTROL });
    let texts = bytes.iter().map(|b| Token {
        text: Cow::Owned(byte_text(b, &table)),
        score: 0.0,
        kind: piece::NORMAL,
    });
    let list = TokenList(specials.chain(texts).collect());
    list.write_texts(keys);
    keys.ggml("scores", integers(list.0.iter().map(|_| 0)));
    list.write_types(keys);
    keys.set(size_key, MetaValue::U32(list.0.len() as u32));
    keys.ggml("add_bos_token", MetaValue::Bool(true));
    keys.ggml("add_eos_token", MetaValue::Bool(false));
    match tekken.config.version.as_ref() {
        "v3" => keys.text("tokenizer.chat_template", "mistral-v3-tekken"),
        "v7" => keys.text("tokenizer.chat_template", "mistral-v7-tekken"),
        version => warnings.push(format!(
            "{TEKKEN} has version {version}, for which llama.cpp has no named chat template: none is written"
        )),
    }
    Ok(list.0.len())
}

fn specials(tekken: &Tekken<'_>) -> Result<Vec<String>> {
    let count = tekken.config.default_num_special_tokens;
    if count > 100_000 {
        return Err(wrong(format!("{count} special tokens")));
    }
    let mut found: Vec<Option<String>> = Vec::new();
    found.resize(count as usize, None);
    let default = SPECIAL.iter().enumerate().map(|(rank, text)| (rank as u64, *text));
    let listed = tekken.special_tokens.iter().flatten().map(|t| (t.rank, t.token_str.as_ref()));
    let entries: Vec<(u64, &str)> =
        if tekken.special_tokens.is_some() { listed.collect() } else { default.collect() };
    for (rank, text) in entries {
        let slot = usize::try_from(rank).ok().and_then(|r| found.get_mut(r));
        let slot = slot.ok_or_else(|| wrong(format!("special token {text:?} has rank {rank} of {count}")))?;
        if slot.replace(text.to_owned()).is_some() {
            return Err(wrong(format!("two special tokens have rank {rank}")));
        }
    }
    let filler = |(i, t): (usize, Option<String>)| t.unwrap_or_else(|| format!("<SPECIAL_{i}>"));
    Ok(found.into_iter().enumerate().map(filler).collect())
}

fn ranked_bytes(tekken: &Tekken<'_>) -> Result<Vec<Vec<u8>>> {
    let size = tekken.config.default_vocab_size;
    let count = size.checked_sub(tekken.config.default_num_special_tokens);
    let count = count.and_then(|c| usize::try_from(c).ok()).filter(|c| *c <= tekken.vocab.len());
    let count =
        count.ok_or_else(|| wrong(format!("{} tokens for a vocabulary of {size}", tekken.vocab.len())))?;
    let mut found = Vec::with_capacity(count);
    for (at, entry) in tekken.vocab.iter().take(count).enumerate() {
        if entry.rank != at as u64 {
            return Err(wrong(format!("entry {at} of the vocabulary has rank {}", entry.rank)));
        }
        let bytes = decode_base64(&entry.token_bytes).filter(|b| !b.is_empty());
        let bytes = bytes.ok_or_else(|| wrong(format!("token_bytes of rank {at} are no base64")))?;
        if bytes.len() > MAX_TOKEN {
            return Err(wrong(format!(
                "the token of rank {at} has {} bytes; the limit is {MAX_TOKEN}",
                bytes.len()
            )));
        }
        found.push(bytes);
    }
    Ok(found)
}

/// Every split of a token into two tokens, by the rank of the token, then of the parts.
fn merges(tokens: &[Vec<u8>], table: &[char; 256]) -> Vec<String> {
    let ranks: BTreeMap<&[u8], usize> = tokens.iter().enumerate().map(|(r, t)| (t.as_slice(), r)).collect();
    let mut found = Vec::new();
    for token in tokens {
        let mut splits: Vec<(usize, usize, usize)> = (1..token.len())
            .filter_map(|at| {
                let (a, b) = token.split_at_checked(at)?;
                Some((*ranks.get(a)?, *ranks.get(b)?, at))
            })
            .collect();
        splits.sort_unstable();
        for (_, _, at) in splits {
            if let Some((a, b)) = token.split_at_checked(at) {
                found.push(format!("{} {}", byte_text(a, table), byte_text(b, table)));
            }
        }
    }
    found
}

/// Base64 text of bytes, with padding.
pub(super) fn encode_base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().enumerate().fold(0_u32, |bits, (i, b)| bits | u32::from(*b) << (16 - 8 * i));
        for i in 0..4 {
            let digit = DIGITS.get((bits >> (18 - 6 * i) & 63) as usize).copied().unwrap_or(b'=');
            out.push(if i <= group.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

/// Bytes of base64 text with its padding.
pub(super) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for c in text.bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    (held < 6).then_some(out)
}
