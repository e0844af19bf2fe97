//! `tokenizer.json`: byte-level BPE, SentencePiece's form with merges, Unigram, WordPiece.

use super::super::files::TOKENIZER_JSON;
use super::super::pre::{Splitting, splitting};
use super::super::sentencepiece::piece;
use super::super::tekken::encode_base64;
use super::{GgufToken, NamedFile, Tokenizer, owned, scored};
use crate::error::{Code, Error, Result};
use crate::model::hf_config::texts;
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

/// The whole file.
#[derive(Serialize)]
struct File<'a> {
    version: &'static str,
    truncation: (),
    padding: (),
    added_tokens: Vec<Added<'a>>,
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: JsonModel<'a>,
}

#[derive(Serialize)]
struct Added<'a> {
    id: usize,
    content: &'a str,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

#[derive(Serialize)]
#[serde(tag = "type")]
enum JsonModel<'a> {
    #[serde(rename = "BPE")]
    Bpe {
        dropout: (),
        unk_token: Option<&'a str>,
        continuing_subword_prefix: (),
        end_of_word_suffix: (),
        fuse_unk: bool,
        byte_fallback: bool,
        ignore_merges: bool,
        vocab: Ids<'a>,
        merges: Vec<(&'a str, &'a str)>,
    },
    Unigram {
        unk_id: Option<usize>,
        vocab: Vec<(&'a str, f64)>,
        byte_fallback: bool,
    },
    WordPiece {
        unk_token: &'a str,
        continuing_subword_prefix: &'static str,
        max_input_chars_per_word: u32,
        vocab: Ids<'a>,
    },
}

/// Tokens and their ids, as an object.
struct Ids<'a>(Vec<(Cow<'a, str>, usize)>);

impl Serialize for Ids<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> core::result::Result<S::Ok, S::Error> {
        s.collect_map(self.0.iter().map(|(text, id)| (text.as_ref(), id)))
    }
}

/// Whether a Unigram model of `tokenizer.json` has these tokens: added tokens have a score of 0 there.
pub(super) fn fits_unigram(tokenizer: &Tokenizer<'_>) -> bool {
    tokenizer.without_padding().iter().all(|t| match t.kind {
        piece::NORMAL | piece::UNKNOWN => true,
        piece::CONTROL | piece::USER_DEFINED => t.score == 0.0,
        _ => false,
    })
}

/// The file.
pub(super) fn file(tokenizer: &Tokenizer<'_>) -> Result<NamedFile> {
    let file = match tokenizer.model {
        "bert" => wordpiece(tokenizer),
        "t5" => unigram(tokenizer),
        "gemma4" => spaced(tokenizer, merges(tokenizer)?),
        "llama" => sentencepiece(tokenizer),
        _ => byte_level(tokenizer)?,
    };
    let unwritable = |e: serde_json::Error| Error::new(Code::BadJson, e.to_string()).in_file(TOKENIZER_JSON);
    Ok(owned(TOKENIZER_JSON, serde_json::to_vec(&file).map_err(unwritable)?))
}

fn of<'a>(tokenizer: &Tokenizer<'a>, model: JsonModel<'a>) -> File<'a> {
    let unknown = if tokenizer.model == "t5" { piece::UNKNOWN } else { piece::CONTROL };
    let all = tokenizer.without_padding().iter().enumerate();
    let added = all.filter(|(_, t)| t.is_added() || t.kind == unknown).map(|(id, t)| Added {
        id,
        content: t.text,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: t.kind != piece::USER_DEFINED,
    });
    File {
        version: "1.0",
        truncation: (),
        padding: (),
        added_tokens: added.collect(),
        normalizer: Value::Null,
        pre_tokenizer: Value::Null,
        post_processor: post_processor(tokenizer),
        decoder: Value::Null,
        model,
    }
}

/// Tokens of the model by id. Added tokens behind it stand among the added tokens only, unless ids are missing before them.
fn vocabulary<'a>(tokenizer: &Tokenizer<'a>) -> Vec<(Cow<'a, str>, usize)> {
    let used = tokenizer.without_padding();
    let base = tokenizer.base();
    let gaps = used.iter().enumerate().any(|(id, t)| t.is_padding(id));
    let of_model = |(id, _): &(usize, &GgufToken<'a>)| gaps || *id < base;
    let all = used.iter().enumerate().filter(|(id, t)| !t.is_padding(*id));
    all.filter(of_model).map(|(id, t)| (Cow::Borrowed(t.text), id)).collect()
}

fn merges<'a>(tokenizer: &Tokenizer<'a>) -> Result<Vec<(&'a str, &'a str)>> {
    let wrong = || Error::new(Code::BadValue, "tokenizer.ggml.merges is not a list of pairs");
    let Some(array) = tokenizer.array("merges") else { return Ok(Vec::new()) };
    let lines = texts(array).ok_or_else(wrong)?;
    // The first character belongs to the first part, whatever it is.
    let pair = |line: &'a str| {
        let first = line.chars().next().map_or(0, char::len_utf8);
        let at = first + line.get(first..)?.find(' ')?;
        Some((line.get(..at)?, line.get(at + 1..)?))
    };
    lines.into_iter().map(|line| pair(line).ok_or_else(wrong)).collect()
}

fn byte_level<'a>(tokenizer: &Tokenizer<'a>) -> Result<File<'a>> {
    let name = tokenizer.metadata.text("tokenizer.ggml.pre").unwrap_or("default");
    let Some(Splitting { regexes, ignore_merges }) = splitting(name) else {
        let message = format!(
            "the pre-tokenizer {name:?} of the GGUF has no form in tokenizer.json; give the name of the model's own with \
             --pre-tokenizer NAME"
        );
        return Err(Error::new(Code::UnsupportedContainer, message));
    };
    let model = JsonModel::Bpe {
        dropout: (),
        unk_token: None,
        continuing_subword_prefix: (),
        end_of_word_suffix: (),
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges,
        vocab: Ids(vocabulary(tokenizer)),
        merges: merges(tokenizer)?,
    };
    let split = |regex: &&str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
    let mut steps: Vec<Value> = regexes.iter().map(split).collect();
    steps.push(
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}),
    );
    Ok(File {
        pre_tokenizer: json!({"type": "Sequence", "pretokenizers": steps}),
        decoder: json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
        ..of(tokenizer, model)
    })
}

/// SentencePiece's form with merges from scores, and with the space that some models put before a text.
fn sentencepiece<'a>(tokenizer: &Tokenizer<'a>) -> File<'a> {
    let file = spaced(tokenizer, scored::merges(tokenizer.without_padding()));
    let replaced = &file.normalizer;
    let prefixed = json!({"type": "Prepend", "prepend": "\u{2581}"});
    let normalizer = match tokenizer.flag("add_space_prefix") {
        Some(false) => replaced.clone(),
        _ => json!({"type": "Sequence", "normalizers": [prefixed, replaced]}),
    };
    File { normalizer, ..file }
}

/// SentencePiece's form with merges: Gemma 4.
fn spaced<'a>(tokenizer: &Tokenizer<'a>, merges: Vec<(&'a str, &'a str)>) -> File<'a> {
    let model = JsonModel::Bpe {
        dropout: (),
        unk_token: tokenizer.id("unknown").map(|(_, text)| text).or_else(|| {
            let unknown = tokenizer.without_padding().iter().find(|t| t.kind == piece::UNKNOWN);
            unknown.map(|t| t.text)
        }),
        continuing_subword_prefix: (),
        end_of_word_suffix: (),
        fuse_unk: true,
        byte_fallback: true,
        ignore_merges: false,
        vocab: Ids(vocabulary(tokenizer)),
        merges,
    };
    let replaced = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
    let split = json!({
        "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false,
    });
    let decoders = json!([
        {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]);
    File {
        normalizer: replaced,
        pre_tokenizer: split,
        decoder: json!({"type": "Sequence", "decoders": decoders}),
        ..of(tokenizer, model)
    }
}

fn unigram<'a>(tokenizer: &Tokenizer<'a>) -> File<'a> {
    let used = tokenizer.without_padding();
    let model = JsonModel::Unigram {
        unk_id: used.iter().position(|t| t.kind == piece::UNKNOWN),
        vocab: used.iter().map(|t| (t.text, f64::from(t.score))).collect(),
        byte_fallback: used.iter().any(|t| t.kind == piece::BYTE),
    };
    let mut normalizers = Vec::new();
    if let Some(map) = tokenizer.array("precompiled_charsmap") {
        normalizers.push(json!({"type": "Precompiled", "precompiled_charsmap": encode_base64(&map.raw)}));
    }
    if tokenizer.flag("remove_extra_whitespaces") == Some(true) {
        normalizers.push(json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}));
    }
    let scheme = if tokenizer.flag("add_space_prefix") == Some(false) { "never" } else { "always" };
    let metaspace =
        json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": scheme, "split": true});
    File {
        normalizer: json!({"type": "Sequence", "normalizers": normalizers}),
        pre_tokenizer: metaspace.clone(),
        decoder: metaspace,
        ..of(tokenizer, model)
    }
}

/// WordPiece: what llama.cpp begins with U+2581 begins a word; other tokens continue one.
fn wordpiece<'a>(tokenizer: &Tokenizer<'a>) -> File<'a> {
    let text = |t: &GgufToken<'a>| match t.text.strip_prefix('\u{2581}') {
        _ if t.kind == piece::CONTROL => Cow::Borrowed(t.text),
        Some(start) => Cow::Borrowed(start),
        None => Cow::Owned(format!("##{}", t.text)),
    };
    let used = tokenizer.without_padding().iter().enumerate().filter(|(id, t)| !t.is_padding(*id));
    let model = JsonModel::WordPiece {
        unk_token: tokenizer.id("unknown").map_or("[UNK]", |(_, text)| text),
        continuing_subword_prefix: "##",
        max_input_chars_per_word: 100,
        vocab: Ids(used.map(|(id, t)| (text(t), id)).collect()),
    };
    let normalizer = json!({
        "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
        "strip_accents": tokenizer.flag("normalizer.strip_accents"),
        "lowercase": tokenizer.flag("normalizer.lowercase").unwrap_or(true),
    });
    File {
        normalizer,
        pre_tokenizer: json!({"type": "BertPreTokenizer"}),
        decoder: json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
        ..of(tokenizer, model)
    }
}

/// Special tokens around a text, where the file asks for them.
fn post_processor(tokenizer: &Tokenizer<'_>) -> Value {
    let wanted = |flag: &str, key: &str| tokenizer.id(key).filter(|_| tokenizer.flag(flag) == Some(true));
    let turn = tokenizer.end_of_turn();
    let end = turn.and_then(|_| tokenizer.id("eos"));
    let (first, last) = (wanted("add_bos_token", "bos"), end.or_else(|| wanted("add_eos_token", "eos")));
    if first.is_none() && last.is_none() {
        return Value::Null;
    }
    let separator = tokenizer.id("seperator").or(last).filter(|_| tokenizer.flag("add_sep_token").is_some());
    let special = |token: Option<(usize, &str)>, side: u32| {
        token.map(|(_, text)| json!({"SpecialToken": {"id": text, "type_id": side}}))
    };
    let sequence = |id: &str, side: u32| Some(json!({"Sequence": {"id": id, "type_id": side}}));
    let twice = tokenizer.flag("add_sep_token") == Some(true);
    // Types of tokens tell the sentences of a pair apart.
    let second = u32::from(tokenizer.model == "bert");
    let single = [special(first, 0), sequence("A", 0), special(turn, 0), special(last, 0)];
    let pair = [
        special(first, 0),
        sequence("A", 0),
        special(separator, 0),
        special(separator.filter(|_| twice), 0),
        sequence("B", second),
        special(last, second),
    ];
    let mut tokens = serde_json::Map::new();
    for (id, text) in [first, last, separator, turn].into_iter().flatten() {
        tokens.insert(text.to_string(), json!({"id": text, "ids": [id], "tokens": [text]}));
    }
    json!({
        "type": "TemplateProcessing",
        "single": single.into_iter().flatten().collect::<Vec<_>>(),
        "pair": pair.into_iter().flatten().collect::<Vec<_>>(),
        "special_tokens": tokens,
    })
}
