//! Tokenizers as they are published: names of pre-tokenizers by the token ids of the check text, and scores of SentencePiece's
//! form in JSON. Where the ids come from: `tests/data/conversion/README.md`.

use quantoscope_core::Error;
use quantoscope_core::format::companions::Companions;
use quantoscope_core::model::arch::{self, Arch};
use quantoscope_core::model::tokenizer::{TokenizerInput, TokenizerKeys, check_text_ids, tokenizer_keys};
use quantoscope_core::tensor::MetaValue;
use quantoscope_encoder::HfEncoder;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn rows() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/conversion/published-tokenizers.json");
    serde_json::from_slice(&fs::read(path).expect("the file")).expect("JSON")
}

/// Token ids of the check text by a published tokenizer.
fn ids(gguf: &str, key: &str) -> Vec<u32> {
    let rows = rows();
    let row = rows.iter().find(|r| r["gguf"] == gguf).expect("a row");
    row[key].as_array().expect("ids").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

fn of_gguf(name: &str) -> &'static Arch {
    arch::of_gguf(name).next().expect("an architecture")
}

fn keys(
    arch: &'static Arch,
    files: &[(&str, Value)],
    ids: Option<&[u32]>,
    compat: bool,
) -> Result<TokenizerKeys, Error> {
    let config = json!({});
    let files = files.iter().map(|(name, v)| ((*name).to_string(), v.to_string().into_bytes()));
    let companions = Companions(files.collect());
    tokenizer_keys(&TokenizerInput {
        companions: &companions,
        config: &config,
        hyper: &config,
        arch,
        pre_tokenizer: None,
        check_text_ids: ids,
        compat,
    })
}

/// The name of the pre-tokenizer of a byte-level tokenizer with these ids of the check text.
fn name(gguf: &str, ids: &[u32], compat: bool) -> String {
    let tokenizer = json!({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}});
    let made = keys(of_gguf(gguf), &[("tokenizer.json", tokenizer)], Some(ids), compat).expect("keys");
    match made.keys.iter().find(|(k, _)| k == "tokenizer.ggml.pre") {
        Some((_, MetaValue::String(name))) => name.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn vocabulary_of_one_family_names_its_pre_tokenizer() {
    for (gguf, expected) in [("qwen3", "qwen2"), ("llama", "llama-bpe"), ("gpt-oss", "gpt-4o")] {
        assert_eq!(name(gguf, &ids(gguf, "ids"), false), expected, "{gguf}");
        assert_eq!(name(gguf, &ids(gguf, "ids"), true), expected, "{gguf}");
    }
    assert_eq!(name("deepseek2", &ids("deepseek2", "ids_of_class"), true), "deepseek-v3");
}

/// The table of hashes gives the vocabularies of Gemma 3 and, without BOS, of DeepSeek V3 to later models that share them.
#[test]
fn shared_vocabulary_names_the_pre_tokenizer_of_the_architecture_except_in_the_converters_file() {
    let (gemma, deepseek) = (ids("gemma3", "ids"), ids("deepseek2", "ids"));
    assert_eq!(name("gemma3", &gemma, false), "gemma4");
    assert_eq!(name("gemma3", &gemma, true), "granite-embed-multi-311m");
    assert_eq!(name("deepseek2", &deepseek, false), "deepseek-v3");
    assert_eq!(name("deepseek2", &deepseek, true), "joyai-llm");
    // Architectures that do not share it keep the name of the vocabulary.
    assert_eq!(name("llama", &deepseek, false), "joyai-llm");
}

/// An architecture prefers names only among families that share a vocabulary, though others split text alike.
#[test]
fn vocabulary_of_another_family_keeps_its_name_though_the_architecture_has_one_that_splits_alike() {
    let deepseek = ids("deepseek2", "ids_of_class");
    assert_eq!(name("hunyuan-dense", &deepseek, false), "deepseek-v3");
    assert_eq!(name("hunyuan-dense", &ids("qwen3", "ids"), false), "qwen2");
}

/// As the converter writes Gemma 3 without `tokenizer.model`.
#[test]
fn space_prefix_is_not_written_for_byte_level_bpe_in_place_of_sentencepiece() {
    let tokenizer = json!({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}});
    let ids = ids("gemma3", "ids");
    let made = keys(of_gguf("gemma3"), &[("tokenizer.json", tokenizer)], Some(&ids), true).expect("keys");
    assert!(made.keys.iter().all(|(k, _)| k != "tokenizer.ggml.add_space_prefix"), "{:?}", made.keys);
}

#[test]
fn class_of_the_tokenizer_decides_whether_bos_and_eos_are_added() {
    let tokenizer = json!({
        "added_tokens": [
            {"id": 1, "content": "<s>", "special": true, "normalized": false, "lstrip": false, "rstrip": false, "single_word": false},
            {"id": 2, "content": "</s>", "special": true, "normalized": false, "lstrip": false, "rstrip": false, "single_word": false},
        ],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
        "model": {"type": "BPE", "vocab": {"a": 0, "<s>": 1, "</s>": 2, "3": 3, "'": 4}, "merges": []},
    });
    let of = |config: Value| {
        let files = [("tokenizer.json", tokenizer.clone()), ("tokenizer_config.json", config)];
        let files = files.map(|(name, v)| (name.to_string(), v.to_string().into_bytes()));
        check_text_ids(&Companions(files.into()), &HfEncoder).expect("ids")
    };
    let plain = of(json!({"tokenizer_class": "PreTrainedTokenizerFast"}));
    assert!(plain.contains(&3) && !plain.contains(&1) && !plain.contains(&2), "{plain:?}");
    let with_bos = [&[1][..], &plain].concat();
    for class in ["LlamaTokenizer", "LlamaTokenizerFast", "GemmaTokenizerFast", "CohereTokenizer"] {
        assert_eq!(of(json!({"tokenizer_class": class})), with_bos, "{class}");
    }
    let off = json!({"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": false});
    assert_eq!(of(off), plain);
    let both = json!({"tokenizer_class": "LlamaTokenizerFast", "add_eos_token": true, "bos_token": {"content": "<s>"}});
    assert_eq!(of(both), [&with_bos[..], &[2]].concat());
}

/// Tokens and merges that cannot occur in the text are not given to the library, and the ids stay those of the whole file.
#[test]
fn ids_of_the_check_text_do_not_depend_on_tokens_beside_it() {
    let vocab: Vec<String> = ["3", "33", "333", "\u{120}", "'", "unrelated", "unre"].map(String::from).into();
    let ids: serde_json::Map<String, Value> =
        vocab.iter().enumerate().map(|(i, t)| (t.clone(), json!(100 + i))).collect();
    let tokenizer = json!({
        "added_tokens": [],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": ids, "merges": ["3 3", "33 3", "unre lated"]},
    });
    let files = [("tokenizer.json".to_string(), tokenizer.to_string().into_bytes())];
    let found = check_text_ids(&Companions(files.into()), &HfEncoder).expect("ids");
    // " 3 33 333 3333 33333": pairs first, then a pair with the digit after it.
    let runs: Vec<u32> = found.iter().copied().filter(|id| *id < 103).collect();
    let start = [100, 101, 102, 101, 101, 101, 102].as_slice();
    assert!(runs.windows(start.len()).any(|w| w == start), "{runs:?}");
}

fn sentencepiece_json() -> Value {
    let vocab = ["<unk>", "<s>", "\u{2581}", "a", "b", "ab", "\u{2581}a", "\u{2581}ab"];
    let ids: serde_json::Map<String, Value> =
        vocab.iter().enumerate().map(|(i, t)| ((*t).to_string(), json!(i))).collect();
    json!({
        "added_tokens": [{"id": 1, "content": "<s>", "special": true}],
        "decoder": {"type": "Sequence", "decoders": []},
        "model": {
            "type": "BPE",
            "byte_fallback": true,
            "vocab": ids,
            "merges": ["a b", "\u{2581} a", "\u{2581} ab", "\u{2581}a b"],
        },
    })
}

fn scores(made: &TokenizerKeys) -> Vec<f32> {
    match made.keys.iter().find(|(k, _)| k == "tokenizer.ggml.scores") {
        Some((_, MetaValue::Array(a))) => {
            a.raw.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four bytes"))).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn scores_of_sentencepiece_in_json_follow_the_merges_except_in_the_converters_file() {
    let config = json!({"bos_token": "<s>"});
    let files = [("tokenizer.json", sentencepiece_json()), ("tokenizer_config.json", config)];
    let made = keys(of_gguf("llama"), &files, None, false).expect("keys");
    assert_eq!(scores(&made), [-3.0, -1000.0, -3.0, -3.0, -3.0, 0.0, -1.0, -2.0]);
    let made = keys(of_gguf("llama"), &files, None, true).expect("keys");
    assert_eq!(scores(&made), [-1000.0; 8]);
    assert!(made.warnings.iter().any(|w| w.contains("--compat")), "{:?}", made.warnings);
}

#[test]
fn merges_that_no_scores_equal_are_named() {
    let mut tokenizer = sentencepiece_json();
    tokenizer["model"]["merges"] = json!(["\u{2581} ab", "a b", "\u{2581}a b"]);
    let made = keys(of_gguf("llama"), &[("tokenizer.json", tokenizer)], None, false).expect("keys");
    assert!(made.warnings.iter().any(|w| w.contains("not sorted by their results")), "{:?}", made.warnings);
}
