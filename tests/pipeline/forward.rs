//! The forward pass of the probe against oracles that are not ours.

use quantoscope_core::model::config::Config;
use quantoscope_core::model::forward::Forward;
use quantoscope_tests::forward::Model;
use serde_json::Value;
use std::path::Path;

fn sample() -> Model {
    Model::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../www/sample"))
}

/// Made in binary64 by an independent program from the stored weights.
#[test]
fn the_sample_model_gives_the_logits_of_an_independent_program() {
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

/// The largest difference of the last token's logits from what transformers made of a tiny checkpoint, and of the sum and
/// the sum of squares of all, each relative to the largest logit or to itself.
fn difference(family: &str) -> f64 {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/families").join(family);
    let expected: Value =
        serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let number = |key: &str| expected[key].as_f64().unwrap();
    let list = |key: &str| expected[key].as_array().unwrap().clone();
    let tokens: Vec<u32> = list("tokens").iter().map(|t| t.as_u64().unwrap() as u32).collect();
    let last: Vec<f64> = list("logits_of_last").iter().map(|t| t.as_f64().unwrap()).collect();
    let logits = Model::read(&folder).logits(&tokens).unwrap();
    let ours = &logits[logits.len() - last.len()..];
    let largest = ours.iter().zip(&last).fold(0.0_f64, |m, (a, b)| m.max((a - b).abs())) / number("largest");
    let relative = |ours: f64, key: &str| (ours / number(key) - 1.0).abs();
    let squares = relative(logits.iter().map(|l| l * l).sum(), "sum_of_squares");
    let best = |logits: &[f64]| (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
    let argmax: Vec<usize> = logits.chunks_exact(last.len()).map(best).collect();
    assert_eq!(argmax, list("argmax").iter().map(|t| t.as_u64().unwrap() as usize).collect::<Vec<_>>());
    largest.max(squares).max(relative(logits.iter().sum(), "sum"))
}

/// Made by transformers with all arithmetic in binary64, of which thirteen digits are kept.
#[test]
fn tiny_checkpoints_of_the_families_give_the_logits_of_transformers() {
    for family in FAMILIES {
        let difference = difference(family);
        assert!(difference < 1e-11, "{family}: {difference}");
    }
}

/// All that are kept with weights, but the one that no rotation of the stream is made for.
const FAMILIES: [&str; 17] = [
    "cohere",
    "deepseek_v3",
    "gemma",
    "gpt2",
    "gpt_neox",
    "gpt_oss",
    "lfm2",
    "llama",
    "llama_tied",
    "mixtral",
    "phi3",
    "qwen2",
    "qwen3_5",
    "qwen3_moe",
    "qwen3_next",
    "qwen3_tied",
    "starcoder2",
];

/// What is asked for is checked before it is multiplied.
#[test]
fn a_pass_that_cannot_be_run_is_refused() {
    let model = sample();
    assert!(model.logits(&[]).is_err());
    assert!(model.logits(&[4096]).is_err());
    let config = model.checkpoint.config.clone().unwrap();
    let changed = |from: &str, to: &str| {
        let text = String::from_utf8(config.clone()).unwrap();
        assert!(text.contains(from));
        let config = Config::parse(text.replace(from, to).as_bytes()).unwrap();
        Forward::new(config, &model.checkpoint.tensors, &[1]).and_then(|p| {
            let mut p = p;
            p.feed(&[vec![0.0; 256]])?;
            p.asks()
        })
    };
    assert!(changed("\"llama\"", "\"llama\"").is_ok());
    assert!(changed("\"llama\"", "\"t5\"").unwrap_err().to_string().contains("t5"));
    let error = changed("\"num_attention_heads\": 8", "\"num_attention_heads\": 16").unwrap_err();
    assert!(error.to_string().contains("model.layers.0.self_attn.q_proj.weight"), "{error}");
    assert!(changed("\"hidden_size\": 256", "\"hidden_size\": 128").is_err());
    assert!(changed("\"num_key_value_heads\": 4", "\"num_key_value_heads\": 3").is_err());
    assert!(changed("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true").is_ok());
}
