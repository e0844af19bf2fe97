//! `config.json` and `adapter_config.json`: whatever is wrong in them is refused at its byte.

use crate::families::folders;
use crate::family_rules::FixtureModel;
use proptest::prelude::*;
use proptest::sample::Index;
use quantoscope_core::model::config::Config;
use quantoscope_core::model::family::rules;
use quantoscope_core::model::lora_adapter;
use quantoscope_core::{Code, Error};
use std::sync::LazyLock;

const SOUND: &str = r#"{"model_type": "llama", "num_attention_heads": 4, "hidden_size": 64, "num_hidden_layers": 2,
  "vocab_size": 9, "num_key_value_heads": 2, "hidden_act": "silu"}"#;

/// The code, and the text from the place on.
fn placed<'a>(text: &'a [u8], name: &str, error: &Error) -> (Code, &'a [u8]) {
    let d = error.detail();
    assert_eq!(d.file.as_deref(), Some(name), "{error}");
    let at = d.offset.expect("a place") as usize;
    (d.code, text.get(at..).expect("a place in the file"))
}

#[test]
fn what_a_forward_pass_cannot_use_is_refused_at_its_value() {
    assert!(Config::parse(SOUND.as_bytes()).is_ok());
    for (what, with, at) in [
        (r#""hidden_size": 64"#, r#""hidden_size": "64""#, "\"64\""),
        (r#""hidden_size": 64"#, r#""hidden_size": -1"#, "-1"),
        (r#""hidden_size": 64"#, r#""hidden_size": 0"#, "0,"),
        (r#""hidden_size": 64"#, r#""hidden_size": 6.5"#, "6.5"),
        (r#""hidden_size": 64"#, r#""hidden_size": 99999999999"#, "99999999999"),
        (r#""hidden_size": 64"#, r#""hidden_size": [64]"#, "[64]"),
        // Of two values of one key, the last one counts.
        (r#""hidden_size": 64"#, r#""hidden_size": 64, "hidden_size": null"#, "null"),
        (r#""hidden_size": 64"#, r#""hiddensize": 64"#, "{\"model_type\""),
        (r#""vocab_size": 9, "#, "", "{\"model_type\""),
        (r#""num_hidden_layers": 2"#, r#""num_hidden_layers": 5000"#, "5000"),
        (r#""num_key_value_heads": 2"#, r#""num_key_value_heads": {}"#, "{}, \"hidden_act\""),
        (r#""silu""#, r#""telu""#, "\"telu\""),
        (r#""silu""#, r#""silu", "head_dim": 8388608"#, "8388608"),
        (r#""silu""#, r#""silu", "scale_attn_by_inverse_layer_idx": true"#, "true"),
        (r#""silu""#, r#""silu", "kv_lora_rank": 8, "qk_nope_head_dim": 0"#, "0}"),
        (r#""silu""#, r#""silu", "kv_lora_rank": 8"#, "{\"model_type\""),
        (r#""silu""#, r#""silu", "sliding_window": "all""#, "\"all\""),
        (
            r#""silu""#,
            r#""silu", "linear_num_key_heads": 2, "linear_num_value_heads": 3, "linear_key_head_dim": 4, "linear_value_head_dim": 4"#,
            "3, \"linear_key",
        ),
    ] {
        for (before, after) in [("", ""), ("{\"a\": [{}], \"text_config\": ", "}")] {
            let text = format!("{before}{}{after}", SOUND.replace(what, with));
            let error = Config::parse(text.as_bytes()).expect_err(with);
            let (code, rest) = placed(text.as_bytes(), "config.json", &error);
            assert_eq!(code, Code::BadValue, "{error}");
            assert!(rest.starts_with(at.as_bytes()), "{with}: {error}");
        }
    }
}

#[test]
fn what_the_rules_do_not_know_is_refused_at_its_value() {
    let model = FixtureModel::fixture("llama");
    let config = String::from_utf8(model.config.clone()).expect("text");
    let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    for (key, value, code) in [
        ("model_type", r#""unheard""#, Code::UnsupportedRotation),
        ("model_type", "7", Code::UnsupportedRotation),
        ("architectures", r#"["LlamaModel"]"#, Code::UnsupportedRotation),
        ("num_attention_heads", "70000", Code::UnsupportedRotation),
        ("num_attention_heads", "true", Code::BadValue),
        ("num_key_value_heads", "3", Code::UnsupportedRotation),
        ("hidden_size", "-64", Code::BadValue),
    ] {
        let mut changed = config.clone();
        changed[key] = serde_json::from_str(value).expect("JSON");
        let text = serde_json::to_vec(&changed).expect("JSON");
        let error = rules(Some(&text), &model.tensors).expect_err(key);
        let (found, rest) = placed(&text, "config.json", &error);
        assert_eq!(found, code, "{error}");
        assert!(rest.starts_with(value.as_bytes()), "{key}: {error}");
        changed.as_object_mut().expect("an object").remove(key);
        let text = serde_json::to_vec(&changed).expect("JSON");
        if let Err(error) = rules(Some(&text), &model.tensors).map(drop)
            && error.detail().tensor.is_none()
        {
            assert!(placed(&text, "config.json", &error).1.starts_with(b"{"), "without {key}: {error}");
        }
    }
}

#[test]
fn adapters_are_refused_at_their_value() {
    for (text, code, at) in [
        ("", Code::BadJson, ""),
        (" ", Code::BadJson, ""),
        ("[]", Code::UnsupportedRotation, "[]"),
        ("{\n}", Code::UnsupportedRotation, "{\n}"),
        (r#"{"peft_type": "IA3"}"#, Code::UnsupportedRotation, "\"IA3\"}"),
        (r#"{"peft_type": 3}"#, Code::UnsupportedRotation, "3}"),
        (r#"{"peft_type": "LORA", "init_lora_weights": "pissa"}"#, Code::UnsupportedRotation, "\"pissa\"}"),
        (r#"{"peft_type": "LORA", "layer_replication": [[0, 2]]}"#, Code::UnsupportedRotation, "[[0"),
        (r#"{"peft_type": "LORA", "use_qalora": 1}"#, Code::UnsupportedRotation, "1}"),
        (r#"{"peft_type": "LORA""#, Code::BadJson, ""),
        (r#"{"peft_type": NaN}"#, Code::BadJson, "NaN}"),
        (r#"{"peft_type": "LORA"} {}"#, Code::BadJson, "{}"),
    ] {
        let error = lora_adapter::check(text.as_bytes()).expect_err(text);
        let (found, rest) = placed(text.as_bytes(), "adapter_config.json", &error);
        assert_eq!((found, rest.get(..at.len())), (code, Some(at.as_bytes())), "{text}: {error}");
    }
    let error = lora_adapter::check(b"{\"peft_type\": \"\xff\"}").expect_err("no text");
    assert_eq!((error.code(), error.detail().offset), (Code::BadUtf8, Some(15)));
    let error = lora_adapter::check("[".repeat(1000).as_bytes()).expect_err("too deep");
    assert_eq!((error.code(), error.detail().offset), (Code::TooDeep, Some(64)));
}

static MODELS: LazyLock<Vec<FixtureModel>> = LazyLock::new(|| {
    let name = |p: std::path::PathBuf| p.file_name().and_then(|n| n.to_str()).map(String::from);
    folders().into_iter().filter_map(name).map(|name| FixtureModel::fixture(&name)).collect()
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any byte changed, or the end cut off: an error that no tensor has part in has a place in the file.
    #[test]
    fn damaged_configurations_are_refused_at_a_byte(
        which in any::<Index>(), at in any::<Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let model = which.get(&MODELS);
        let mut text = model.config.clone();
        let at = at.index(text.len());
        if cut { text.truncate(at) } else { text[at] = byte }
        let errors = [Config::parse(&text).err(), rules(Some(&text), &model.tensors).err()];
        for error in errors.into_iter().flatten() {
            let d = error.detail();
            if d.code != Code::UnsupportedRotation {
                prop_assert_eq!(d.file.as_deref(), Some("config.json"), "{}", error);
                prop_assert!(d.offset.is_some_and(|at| at <= text.len() as u64), "{}", error);
            }
        }
    }
}
