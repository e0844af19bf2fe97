//! `tokenizer_config.json`: roles of tokens, flags, added tokens of SentencePiece models, chat templates.

use super::super::files::TOKENIZER_CONFIG;
use super::super::pre::HINT;
use super::super::rules::{SpacePrefix, TokenizerLayout};
use super::super::sentencepiece::piece;
use super::{NamedFile, Tokenizer, owned, survives};
use crate::model::hf_config::texts;
use crate::tensor::MetaValue;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde_json::{Map, Value, json};

/// Roles and the keys of their ids.
const ROLES: [(&str, &str); 6] = [
    ("bos", "bos"),
    ("eos", "eos"),
    ("unk", "unknown"),
    ("sep", "seperator"),
    ("pad", "padding"),
    ("mask", "mask"),
];

/// The file.
pub(super) fn file(tokenizer: &Tokenizer<'_>) -> NamedFile {
    let mut config = Map::new();
    let mut set = |key: &str, value: Value| {
        config.insert(key.to_string(), value);
    };
    for (role, key) in ROLES {
        let turn = tokenizer.end_of_turn().filter(|_| role == "eos");
        if let Some((_, text)) = turn.or_else(|| tokenizer.id(key)) {
            set(&format!("{role}_token"), text.into());
        }
    }
    if tokenizer.rules.layout == TokenizerLayout::Bert
        && let Some((_, text)) = tokenizer.id("bos")
    {
        set("cls_token", text.into());
    }
    for kind in ["bos", "eos", "sep"] {
        if let Some(on) = tokenizer.flag(&format!("add_{kind}_token")) {
            set(&format!("add_{kind}_token"), on.into());
        }
    }
    let prefix =
        matches!(tokenizer.rules.space_prefix, SpacePrefix::ConfiguredFirst | SpacePrefix::ConfiguredLast);
    if let Some(on) = tokenizer.flag("add_space_prefix").filter(|_| prefix) {
        set("add_prefix_space", on.into());
    }
    if tokenizer.model == "llama" {
        set("added_tokens_decoder", Value::Object(added(tokenizer)));
        set("legacy", false.into());
    }
    if tokenizer.model == "gemma4" {
        set("additional_special_tokens", controls(tokenizer));
    }
    if let Some(pre) = tokenizer.metadata.text("tokenizer.ggml.pre").filter(|_| tokenizer.model != "llama") {
        set(HINT, pre.into());
    }
    set("clean_up_tokenization_spaces", false.into());
    set("tokenizer_class", class(tokenizer).into());
    if let Some(templates) = templates(tokenizer) {
        set("chat_template", templates);
    }
    owned(TOKENIZER_CONFIG, serde_json::to_vec_pretty(&config).unwrap_or_default())
}

fn class(tokenizer: &Tokenizer<'_>) -> &'static str {
    let gemma = tokenizer.metadata.text("general.architecture").is_some_and(|a| a.starts_with("gemma"));
    match (tokenizer.model, tokenizer.rules.layout) {
        ("gpt2", TokenizerLayout::Phi3) => "GPT2Tokenizer",
        ("bert", _) => "BertTokenizer",
        ("llama", _) if gemma => "GemmaTokenizer",
        ("llama", _) => "LlamaTokenizer",
        ("t5", TokenizerLayout::Bert) => "XLMRobertaTokenizer",
        ("t5", _) => "T5Tokenizer",
        _ => "PreTrainedTokenizerFast",
    }
}

/// Tokens beside the model, by id.
fn added(tokenizer: &Tokenizer<'_>) -> Map<String, Value> {
    let score = super::super::list::ADDED_SCORE;
    let added = tokenizer.tokens.iter().enumerate().filter(|(_, t)| t.is_added() && t.score == score);
    let entry = |special: bool, text: &str| {
        json!({
            "content": text, "lstrip": false, "normalized": false, "rstrip": false, "single_word": false,
            "special": special,
        })
    };
    let of = added.filter(|(_, t)| survives(t));
    of.map(|(id, t)| (id.to_string(), entry(t.kind == piece::CONTROL, t.text))).collect()
}

fn controls(tokenizer: &Tokenizer<'_>) -> Value {
    let named: Vec<&str> = ROLES.iter().filter_map(|(_, key)| Some(tokenizer.id(key)?.1)).collect();
    let all = tokenizer.tokens.iter().filter(|t| t.kind == piece::CONTROL && !named.contains(&t.text));
    all.map(|t| Value::from(t.text)).collect()
}

/// The chat template, or a list of named ones.
fn templates(tokenizer: &Tokenizer<'_>) -> Option<Value> {
    let default = tokenizer.metadata.text("tokenizer.chat_template");
    let names = match tokenizer.metadata.get("tokenizer.chat_templates") {
        Some(MetaValue::Array(names)) => texts(names).unwrap_or_default(),
        _ => Vec::new(),
    };
    let named = |name: &&str| {
        let template = tokenizer.metadata.text(&format!("tokenizer.chat_template.{name}"))?;
        Some(json!({"name": name, "template": template}))
    };
    let mut list: Vec<Value> = names.iter().filter_map(named).collect();
    match (default, list.is_empty()) {
        (Some(only), true) => Some(only.into()),
        (None, true) => None,
        (default, false) => {
            if let Some(default) = default {
                list.insert(0, json!({"name": "default", "template": default}));
            }
            Some(Value::Array(list))
        }
    }
}
