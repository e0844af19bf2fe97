//! SentencePiece models: the protocol buffer of `sentencepiece_model.proto`.

use super::super::list::ADDED_SCORE;
use super::super::sentencepiece::piece;
use super::{GgufToken, NamedFile, Tokenizer, owned, survives};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde_json::{Map, Value};

/// Model types of the trainer.
const UNIGRAM: u64 = 1;
const BPE: u64 = 2;

/// The model, and `added_tokens.json` where tokens need it: those of Unigram models stand nowhere else.
pub(super) fn files(tokenizer: &Tokenizer<'_>, name: &str) -> Vec<NamedFile> {
    let mut files = Vec::from([file(tokenizer, name)]);
    let legacy = tokenizer.tokens.iter().enumerate();
    let alone = |t: &GgufToken<'_>| (tokenizer.model == "t5" && t.score == ADDED_SCORE) || !survives(t);
    let legacy = legacy.filter(|(_, t)| t.kind == piece::USER_DEFINED && alone(t));
    let legacy: Map<String, Value> = legacy.map(|(id, t)| (t.text.to_string(), id.into())).collect();
    if !legacy.is_empty() {
        let bytes = serde_json::to_vec_pretty(&legacy).unwrap_or_default();
        files.push(owned("added_tokens.json", bytes));
    }
    files
}

/// The model, of the tokens before those that were added behind it.
fn file(tokenizer: &Tokenizer<'_>, name: &str) -> NamedFile {
    let unigram = tokenizer.model == "t5";
    let all = tokenizer.without_padding();
    let added = |t: &GgufToken<'_>| match unigram {
        true => t.kind == piece::USER_DEFINED && t.score == ADDED_SCORE,
        false => t.is_added() && t.score == ADDED_SCORE,
    };
    let base = all.iter().rposition(|t| !added(t)).map_or(all.len(), |last| last + 1);
    let pieces = all.get(..base).unwrap_or_default();
    let mut out = Vec::new();
    for token in pieces {
        let mut message = Vec::new();
        // SentencePiece has no spaces in pieces.
        let text = match token.kind == piece::USER_DEFINED && token.text.contains(' ') {
            true => token.text.replace(' ', "\u{2581}"),
            false => token.text.to_string(),
        };
        bytes(&mut message, 1, text.as_bytes());
        message.push(2 << 3 | 5);
        message.extend_from_slice(&token.score.to_le_bytes());
        if token.kind != piece::NORMAL {
            number(&mut message, 3, token.kind.unsigned_abs().into());
        }
        bytes(&mut out, 1, &message);
    }
    bytes(&mut out, 2, &trainer(tokenizer, pieces, unigram));
    bytes(&mut out, 3, &normalizer(tokenizer, unigram));
    owned(name, out)
}

fn trainer(tokenizer: &Tokenizer<'_>, pieces: &[GgufToken<'_>], unigram: bool) -> Vec<u8> {
    let mut message = Vec::new();
    number(&mut message, 3, if unigram { UNIGRAM } else { BPE });
    number(&mut message, 4, pieces.len() as u64);
    if pieces.iter().any(|t| t.kind == piece::BYTE) {
        number(&mut message, 35, 1);
    }
    let unknown = pieces.iter().position(|t| t.kind == piece::UNKNOWN);
    let id = |key: &str| tokenizer.id(key).map(|(id, _)| id).filter(|id| *id < pieces.len());
    let ids =
        [(40, unknown.or_else(|| id("unknown"))), (41, id("bos")), (42, id("eos")), (43, id("padding"))];
    for (field, id) in ids {
        // An absent role is -1.
        number(&mut message, field, id.map_or(u64::MAX, |id| id as u64));
    }
    message
}

fn normalizer(tokenizer: &Tokenizer<'_>, unigram: bool) -> Vec<u8> {
    let mut message = Vec::new();
    bytes(&mut message, 1, b"identity");
    if let Some(map) = tokenizer.array("precompiled_charsmap") {
        bytes(&mut message, 2, &map.raw);
    }
    let prefix = tokenizer.flag("add_space_prefix").unwrap_or(true);
    let remove = tokenizer.flag("remove_extra_whitespaces").unwrap_or(unigram);
    number(&mut message, 3, prefix.into());
    number(&mut message, 4, remove.into());
    number(&mut message, 5, 1);
    message
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn number(out: &mut Vec<u8>, field: u64, n: u64) {
    varint(out, field << 3);
    varint(out, n);
}

fn bytes(out: &mut Vec<u8>, field: u64, content: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}
