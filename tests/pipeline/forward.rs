//! The forward pass against logits of independent programs.

use quantoscope_core::error::{Code, Error};
use quantoscope_core::model::config::Config;
use quantoscope_core::model::forward::Forward;
use quantoscope_tests::forward::TestModel;
use std::path::Path;

fn sample() -> TestModel {
    TestModel::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../www/sample"))
}

/// Made in binary64 by an independent program from the stored weights.
#[test]
fn forward_sample_model_equals_independent_logits() {
    let logits = sample().logits(&[17, 101, 2021, 3000]).unwrap();
    assert_eq!(logits.len(), 4 * 4096);
    let last = &logits[3 * 4096..];
    let first8 = [
        -8.814185151641542,
        4.105792728620968,
        -0.17520267114279817,
        0.0731657112150238,
        -2.1618378362272233,
        -2.74290721451474,
        -2.906178222412462,
        0.12161046085997824,
    ];
    for (ours, theirs) in last.iter().zip(first8) {
        assert!((ours - theirs).abs() < 1e-11, "{ours} and {theirs}");
    }
    let sum: f64 = logits.iter().sum();
    let top = logits.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    assert!((sum / -43_107.187_661_009_43 - 1.0).abs() < 1e-12, "{sum}");
    assert!((top / 9.443_615_912_770_454 - 1.0).abs() < 1e-12, "{top}");
}

/// What is asked for is checked before it is multiplied.
#[test]
fn forward_impossible_pass_is_refused() {
    let model = sample();
    let refused = |error: Error, message: &str, tensor: Option<&str>| {
        assert_eq!(error.code(), Code::UnsupportedRotation, "{error}");
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(error.detail().tensor.as_deref(), tensor, "{error}");
    };
    refused(model.logits(&[]).unwrap_err(), "1 to", None);
    refused(model.logits(&[4096]).unwrap_err(), "token 4096 is not in the vocabulary of 4096", None);
    let config = model.checkpoint.config.clone().unwrap();
    let changed = |from: &str, to: &str| {
        let text = String::from_utf8(config.clone()).unwrap();
        assert!(text.contains(from));
        let config = Config::parse(text.replace(from, to).as_bytes()).unwrap();
        Forward::new(config, &model.checkpoint.tensors, &[1]).and_then(|p| {
            let mut p = p;
            p.feed(&[vec![0.0; 256]])?;
            p.row_requests()
        })
    };
    assert!(changed("\"llama\"", "\"llama\"").is_ok());
    refused(changed("\"llama\"", "\"t5\"").unwrap_err(), "family \"t5\"", None);
    let error = changed("\"num_attention_heads\": 8", "\"num_attention_heads\": 16").unwrap_err();
    refused(error, "its shape is [256, 256]", Some("model.layers.0.self_attn.q_proj.weight"));
    let error = changed("\"hidden_size\": 256", "\"hidden_size\": 128").unwrap_err();
    refused(error, "config.json makes it [4096, 128]", Some("model.embed_tokens.weight"));
    let error = changed("\"num_key_value_heads\": 4", "\"num_key_value_heads\": 3").unwrap_err();
    refused(error, "the heads are not those of the family", None);
    assert!(changed("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true").is_ok());
}
