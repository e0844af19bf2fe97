//! Tokenizer files that are cut, damaged or made to harm: refused with a sentence, without a panic and without more memory than
//! their size allows.

use crate::corpus::{Case, cases};
use quantoscope_core::format::companions::Companions;
use quantoscope_core::model::arch::{self, Arch};
use quantoscope_core::model::tokenizer::{TokenizerInput, TokenizerKeys, check_text_ids, tokenizer_keys};
use quantoscope_core::{Code, Error};
use quantoscope_encoder::HfEncoder;
use quantoscope_tests::models::Rng;
use serde_json::{Value, json};

/// Keys of these files with the ids of the check text, as a driver makes them.
fn keys(arch: &'static Arch, files: Vec<(String, Vec<u8>)>, config: &Value) -> Result<TokenizerKeys, Error> {
    let companions = Companions(files);
    let ids = check_text_ids(&companions, &HfEncoder).ok();
    tokenizer_keys(&TokenizerInput {
        companions: &companions,
        config,
        hyper: config,
        arch,
        pre_tokenizer: None,
        check_text_ids: ids.as_deref(),
        compat: false,
    })
}

fn named(gguf: &str) -> &'static Arch {
    arch::of_gguf(gguf).next().expect("an architecture")
}

fn of_text(gguf: &str, name: &str, text: &[u8]) -> Result<TokenizerKeys, Error> {
    keys(named(gguf), vec![(name.to_string(), text.to_vec())], &json!({}))
}

fn refused(result: Result<TokenizerKeys, Error>, code: Code, part: &str) {
    let error = result.expect_err("a refusal");
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(part), "{part:?} is not in {error}");
}

/// Cases with one kind of tokenizer each.
fn kinds() -> Vec<Case> {
    let names = [
        "qwen2",
        "llama2-spm",
        "bert-bge",
        "t5-flan",
        "xlm-roberta",
        "gemma4",
        "mistral-tekken-json",
        "gpt2-vocab-json",
        "phi3-4k",
        "command-r",
    ];
    let kinds: Vec<Case> = cases().into_iter().filter(|c| names.contains(&c.name.as_str())).collect();
    assert_eq!(kinds.len(), names.len());
    kinds
}

/// Tokenizer files of a case and its configuration.
fn files(case: &Case) -> (Vec<(String, Vec<u8>)>, Value, &'static Arch) {
    let all = case.files();
    let config = all.get("config.json").or_else(|| all.get("params.json")).expect("a configuration");
    let config = serde_json::from_slice(config).expect("JSON");
    let keep = |name: &str| !name.ends_with(".safetensors") && name != "config.json";
    let files = all.into_iter().filter(|(name, _)| keep(name)).collect();
    let arch = named(case.key("general.architecture").and_then(Value::as_str).expect("an architecture"));
    (files, config, arch)
}

const TOKENIZERS: &[&str] = &[
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "merges.txt",
    "tekken.json",
];

/// Runs every file of every kind with changed bytes; the sentence of a refusal is never empty.
fn changed(change: impl Fn(&mut Vec<u8>, &mut Rng)) {
    let mut rng = Rng(13);
    for case in kinds() {
        let (sound, config, arch) = files(&case);
        keys(arch, sound.clone(), &config).map(|_| ()).or_else(not_determined).expect("a sound tokenizer");
        for name in TOKENIZERS {
            let Some(at) = sound.iter().position(|(n, _)| n == name) else { continue };
            for _ in 0..12 {
                let mut damaged = sound.clone();
                change(&mut damaged[at].1, &mut rng);
                if let Err(error) = keys(arch, damaged, &config) {
                    assert!(error.to_string().len() > 20, "{} {name}: {error}", case.name);
                }
            }
        }
    }
}

/// The vocabularies of the corpus are none that llama.cpp knows.
fn not_determined(error: Error) -> Result<(), Error> {
    if error.code() == Code::UnsupportedContainer { Ok(()) } else { Err(error) }
}

#[test]
fn cut_tokenizer_files_are_refused_or_read() {
    changed(|bytes, rng| bytes.truncate(rng.below(bytes.len() as u64) as usize));
}

#[test]
fn damaged_tokenizer_files_are_refused_or_read() {
    changed(|bytes, rng| {
        for _ in 0..1 + rng.below(4) {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] = rng.bits() as u8;
        }
    });
}

#[test]
fn tokenizer_files_with_a_digit_changed_are_refused_or_read() {
    changed(|bytes, rng| {
        let digits: Vec<usize> = (0..bytes.len()).filter(|i| bytes[*i].is_ascii_digit()).collect();
        if !digits.is_empty() {
            let at = digits[rng.below(digits.len() as u64) as usize];
            bytes[at] = b'0' + rng.below(10) as u8;
        }
    });
}

#[test]
fn cut_json_is_refused() {
    let sound = json!({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}).to_string();
    for end in 0..sound.len() {
        refused(
            of_text("qwen2", "tokenizer.json", &sound.as_bytes()[..end]),
            Code::BadJson,
            "tokenizer.json",
        );
    }
}

#[test]
fn deep_nesting_is_refused() {
    for file in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"] {
        for open in ["[", "{\"a\":"] {
            refused(of_text("qwen2", file, open.repeat(100_000).as_bytes()), Code::BadJson, file);
        }
        let whole = format!("{{\"normalizer\": {}{}}}", "[".repeat(5_000), "]".repeat(5_000));
        refused(of_text("qwen2", file, whole.as_bytes()), Code::BadJson, file);
    }
}

#[test]
fn wrong_types_are_refused() {
    let wrong = [
        json!([]),
        json!("text"),
        json!({"model": []}),
        json!({"model": {"type": "BPE", "vocab": "text"}}),
        json!({"model": {"type": "BPE", "vocab": {"a": "b"}}}),
        json!({"model": {"type": "BPE", "vocab": {"a": 0.5}}}),
        json!({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a"]]}}),
        json!({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b", "c"]]}}),
        json!({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": {}}}),
        json!({"added_tokens": {}, "model": {}}),
        json!({"added_tokens": [{"content": "a"}], "model": {}}),
    ];
    for value in wrong {
        let error = of_text("qwen2", "tokenizer.json", value.to_string().as_bytes()).expect_err("a refusal");
        assert!(matches!(error.code(), Code::BadJson | Code::BadValue), "{value}: {error}");
        assert!(error.to_string().contains("tokenizer.json"), "{value}: {error}");
    }
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let mut json = json!({"model": {"type": "BPE", "vocab": {"abc": 0}}}).to_string().into_bytes();
    let at = json.windows(3).position(|w| w == b"abc").expect("the token");
    json[at] = 0xff;
    refused(of_text("qwen2", "tokenizer.json", &json), Code::BadJson, "tokenizer.json");
    refused(of_text("bert", "vocab.txt", b"\xff\xfe"), Code::BadUtf8, "vocab.txt");
    // Field 1 of the model, 3 bytes: field 1 of a piece, 1 byte.
    refused(
        of_text("gemma2", "tokenizer.model", &[0x0a, 3, 0x0a, 1, 0xff]),
        Code::BadUtf8,
        "tokenizer.model",
    );
}

#[test]
fn ids_and_counts_beyond_any_vocabulary_are_refused() {
    for id in [-1_i64, 1 << 40, i64::MAX] {
        let tokenizer = json!({"model": {"type": "BPE", "vocab": {"a": id}, "merges": []}}).to_string();
        refused(of_text("qwen2", "tokenizer.json", tokenizer.as_bytes()), Code::BadValue, "out of range");
    }
    let tokenizer = json!({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}).to_string();
    let files = || vec![("tokenizer.json".to_string(), tokenizer.clone().into_bytes())];
    for size in [1_u64 << 40, u64::MAX] {
        refused(keys(named("qwen2"), files(), &json!({"vocab_size": size})), Code::TooMany, "limit");
    }
    let tekken = |size: u64, special: u64| {
        let config =
            json!({"default_vocab_size": size, "default_num_special_tokens": special, "version": "v3"});
        json!({"config": config, "vocab": [{"rank": 0, "token_bytes": "YQ=="}]}).to_string()
    };
    for (size, special) in [(u64::MAX, 1 << 40), (u64::MAX, 3), (0, 3), (4_000_000_000, 3)] {
        refused(
            of_text("llama", "tekken.json", tekken(size, special).as_bytes()),
            Code::BadValue,
            "tekken.json",
        );
    }
    let config = json!({"default_vocab_size": 1, "default_num_special_tokens": 0, "version": "v3"});
    let long = json!({"config": config, "special_tokens": [], "vocab": [{"rank": 0, "token_bytes": "YWFh".repeat(2_000)}]});
    refused(
        of_text("llama", "tekken.json", long.to_string().as_bytes()),
        Code::BadValue,
        "the limit is 4096",
    );
    // A piece that claims more bytes than the file has.
    for length in [[0xff, 0xff, 0xff, 0xff, 0x7f].as_slice(), &[0xff; 9], &[0xff; 12]] {
        let bytes = [&[0x0a][..], length].concat();
        let error = of_text("gemma2", "tokenizer.model", &bytes).expect_err("a refusal");
        assert!(matches!(error.code(), Code::Truncated | Code::Overflow), "{error}");
    }
}

#[test]
fn contradictory_vocabularies_are_refused() {
    let of = |value: Value| of_text("qwen2", "tokenizer.json", value.to_string().as_bytes());
    let model = |vocab: Value| json!({"type": "BPE", "vocab": vocab, "merges": []});
    refused(of(json!({"model": model(json!({"a": 0, "b": 0}))})), Code::BadValue, "the same id 0");
    let twice = r#"{"model": {"type": "BPE", "vocab": {"a": 0, "a": 1}, "merges": []}}"#;
    refused(of_text("qwen2", "tokenizer.json", twice.as_bytes()), Code::DuplicateName, "occurs twice");
    let added = json!([{"id": 9, "content": "<x>"}]);
    let beside = json!({"added_tokens": added, "model": model(json!({"a": 0}))});
    refused(of(beside), Code::BadValue, "its place in the vocabulary is 1");
}

/// Tokenizers that make the library panic, run or grow without end are not given to it; the rules alone name the pre-tokenizer
/// or refuse.
#[test]
fn tokenizers_that_harm_the_library_are_not_given_to_it() {
    let bpe = |more: Value| {
        let mut model = json!({"type": "BPE", "vocab": {"3": 0, "33": 1, "'": 2}, "merges": []});
        for (key, value) in more.as_object().expect("an object") {
            model[key] = value.clone();
        }
        model
    };
    let replace = |n: usize| -> Vec<Value> {
        (0..n).map(|_| json!({"type": "Replace", "pattern": {"String": "3"}, "content": "33"})).collect()
    };
    let template = |n: usize| {
        let single: Vec<Value> = (0..n).map(|_| json!({"Sequence": {"id": "A", "type_id": 0}})).collect();
        json!({"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": {}})
    };
    let harmful = [
        json!({"model": bpe(json!({"continuing_subword_prefix": "####"}))}),
        json!({"model": bpe(json!({"end_of_word_suffix": "</w>"}))}),
        json!({"model": bpe(json!({"type": "Novel"}))}),
        json!({"model": {"type": "Unigram", "vocab": [], "unk_id": 7}}),
        json!({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}, "model": bpe(json!({}))}),
        json!({"normalizer": {"type": "Sequence", "normalizers": replace(40)}, "model": bpe(json!({}))}),
        json!({"normalizer": {"type": "Sequence", "normalizers": replace(5)}, "model": bpe(json!({}))}),
        json!({"normalizer": {"type": "Prepend", "prepend": "3".repeat(100)}, "model": bpe(json!({}))}),
        json!({"pre_tokenizer": {"type": "FixedLength", "length": 0}, "model": bpe(json!({}))}),
        json!({"pre_tokenizer": {"type": "Novel"}, "model": bpe(json!({}))}),
        json!({"post_processor": template(1_000), "model": bpe(json!({}))}),
        json!({"post_processor": template(2), "model": bpe(json!({}))}),
        json!({"added_tokens": [{"id": 0, "content": "3".repeat(5_000)}], "model": bpe(json!({}))}),
    ];
    for value in harmful {
        let text = value.to_string().into_bytes();
        let files = Companions(vec![("tokenizer.json".to_string(), text.clone())]);
        let error = check_text_ids(&files, &HfEncoder).expect_err("a refusal");
        assert!(matches!(error.code(), Code::UnsupportedContainer | Code::TooMany), "{value}: {error}");
    }
}

/// Merges whose result is no token are passed over: the library writes behind its buffer's end for them and panics.
#[test]
fn merges_without_a_token_are_not_given_to_the_library() {
    let tokenizer = json!({
        "added_tokens": [],
        "model": {"type": "BPE", "vocab": {"3": 0, "33": 1, "'": 2}, "merges": ["33 33", "3 3", "x y", "3", "3 3 3"]},
    });
    let files = Companions(vec![("tokenizer.json".to_string(), tokenizer.to_string().into_bytes())]);
    let ids = check_text_ids(&files, &HfEncoder).expect("ids");
    assert!(ids.contains(&1), "{ids:?}");
}

/// A set of a million added tokens is read in one pass over it.
#[test]
fn many_added_tokens_are_read_in_linear_time() {
    let vocab: serde_json::Map<String, Value> = (0..300_000).map(|i| (format!("t{i}"), json!(i))).collect();
    let added: Vec<Value> = (0..300_000)
        .map(|i| json!({"id": 300_000 + i, "content": format!("<{i}>"), "special": i % 2 == 0}))
        .collect();
    let config =
        json!({"additional_special_tokens": (0..300_000).map(|i| format!("<{i}>")).collect::<Vec<_>>()});
    let tokenizer = json!({
        "added_tokens": added,
        "decoder": {"type": "Sequence"},
        "model": {"type": "BPE", "byte_fallback": true, "vocab": vocab, "merges": []},
    });
    let companions = Companions(vec![
        ("tokenizer.json".to_string(), tokenizer.to_string().into_bytes()),
        ("tokenizer_config.json".to_string(), config.to_string().into_bytes()),
    ]);
    let made = tokenizer_keys(&TokenizerInput {
        companions: &companions,
        config: &json!({}),
        hyper: &json!({}),
        arch: named("llama"),
        pre_tokenizer: None,
        check_text_ids: None,
        compat: false,
    });
    assert_eq!(made.expect("keys").tokens, 600_000);
}

#[test]
fn many_chat_templates_are_refused() {
    let templates: Vec<Value> = (0..300).map(|i| json!({"name": format!("t{i}"), "template": "x"})).collect();
    let files = vec![
        ("vocab.json".to_string(), json!({"a": 0}).to_string().into_bytes()),
        ("tokenizer_config.json".to_string(), json!({"chat_template": templates}).to_string().into_bytes()),
    ];
    let companions = Companions(files);
    let made = tokenizer_keys(&TokenizerInput {
        companions: &companions,
        config: &json!({}),
        hyper: &json!({}),
        arch: named("qwen2"),
        pre_tokenizer: Some("qwen2"),
        check_text_ids: None,
        compat: false,
    });
    refused(made, Code::TooMany, "300 chat templates");
}
