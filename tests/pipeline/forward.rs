//! The forward pass against logits of independent programs.

use quantoscope_accel::SimdLevel;
use quantoscope_core::error::{Code, Error};
use quantoscope_core::model::config::Config;
use quantoscope_core::model::forward::{Batch, F32, F64, Forward, Logits, MatMul};
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
        assert_eq!(error.code(), Code::UnsupportedForward, "{error}");
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
        let mut pass = Forward::new(config, &model.checkpoint.tensors, &[1])?;
        pass.feed(0..1, 0..256, &[0; 1024])?;
        Ok(pass.request().cloned())
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

/// The parts in which a tensor arrives do not change a bit of the logits.
#[test]
fn forward_weights_in_parts_give_equal_logits() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let families = ["gpt2", "gpt_oss", "qwen3_moe", "deepseek_v3", "qwen3_next", "lfm2", "phi3"];
    let folders = families.map(|name| root.join("fixtures/families").join(name));
    let mut tried = 0;
    for folder in folders.iter().chain([&root.join("../www/sample")]).filter(|f| f.exists()) {
        let model = TestModel::read(folder);
        let config = model.checkpoint.config.clone().unwrap();
        let tokens = [3, 1, 7, 2];
        let whole = model.logits(&tokens).unwrap();
        for part in [(1, 1 << 40), (3, 8), (1 << 40, 24), (5, 7), (1 << 40, 1)] {
            let parts = model.logits_in_parts(&config, &tokens, part).unwrap();
            let equal = whole.iter().zip(&parts).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(equal && whole.len() == parts.len(), "{} in parts of {part:?}", folder.display());
        }
        tried += 1;
    }
    assert_eq!(tried, 8);
}

/// A part that is not the next one is refused, and the pass goes on with the right one.
#[test]
fn forward_wrong_part_is_refused() {
    let model = sample();
    let config = Config::parse(model.checkpoint.config.as_deref().unwrap()).unwrap();
    let mut pass = Forward::new(config, &model.checkpoint.tensors, &[1]).unwrap();
    let wrong = [(0..1, 0..256, 1020), (0..1, 8..256, 992), (1..2, 0..256, 1024), (0..0, 0..256, 0)];
    for (rows, cols, bytes) in wrong.into_iter().chain([(0..1, 0..257, 1028), (0..2, 0..256, 2048)]) {
        let error = pass.feed(rows, cols, &vec![0; bytes]).unwrap_err();
        assert_eq!(error.code(), Code::Io, "{error}");
    }
    let before = pass.request().cloned();
    pass.feed(0..1, 0..256, &[0; 1024]).unwrap();
    assert_ne!(pass.request().cloned(), before);
}

/// Models of every kind of mixer and feed-forward part, and the sample.
fn mixed_models() -> Vec<(String, TestModel)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let families = [
        "gpt2",
        "gpt_oss",
        "qwen3_moe",
        "deepseek_v3",
        "qwen3_next",
        "lfm2",
        "phi3",
        "gemma3",
        "olmo2",
        "hunyuan",
        "minimax_m2",
        "llama4",
        "opt",
        "falcon",
        "../forward/olmoe",
        "../forward/ernie4_5_moe",
        "../forward/granite_moe_shared",
    ];
    let folders = families.map(|name| root.join("fixtures/families").join(name));
    let all = folders.into_iter().chain([root.join("../www/sample")]);
    all.map(|folder| (folder.display().to_string(), TestModel::read(&folder))).collect()
}

const SEQUENCES: [&[u32]; 3] = [&[3, 1, 7, 2, 9], &[5], &[1, 1, 60, 4]];

fn batch(scored_from: usize, head_rows: usize) -> Batch {
    let sequences = SEQUENCES.map(<[u32]>::to_vec).into_iter().filter(|s| s.len() > scored_from);
    Batch { sequences: sequences.collect(), scored_from, head_rows }
}

/// The logits of position `position` of parts that cover the vocabulary in order.
fn of_position(parts: &[Logits], position: usize) -> Vec<f64> {
    let part = |l: &Logits| {
        let width = l.entries.len();
        l.values[position * width..(position + 1) * width].to_vec()
    };
    parts.iter().flat_map(part).collect()
}

fn logits_of<M: MatMul>(model: &TestModel, matmul: M, batch: &Batch) -> Vec<Vec<f64>> {
    let parts = model.batch_logits(matmul, batch).expect("logits");
    let ends = parts.iter().scan(0, |end, part| {
        assert_eq!(part.entries.start, *end);
        *end = part.entries.end;
        Some(*end)
    });
    let vocab = ends.last().expect("a part");
    let scored: usize = batch.sequences.iter().map(|s| s.len() - batch.scored_from).sum();
    assert!(parts.iter().all(|p| p.values.len() == scored * p.entries.len()) && vocab > 0);
    (0..scored).map(|position| of_position(&parts, position)).collect()
}

/// Sequences that run together have the bits of those that run alone, in parts of the vocabulary and from any position on.
#[test]
fn forward_sequences_together_equal_sequences_alone() {
    for (name, model) in mixed_models() {
        let alone: Vec<Vec<Vec<f64>>> = SEQUENCES
            .iter()
            .map(|tokens| {
                let logits = model.logits(tokens).expect("logits");
                logits.chunks_exact(logits.len() / tokens.len()).map(<[f64]>::to_vec).collect()
            })
            .collect();
        for (from, head_rows) in [(0, 7), (0, usize::MAX), (2, 64)] {
            let found = logits_of(&model, F64, &batch(from, head_rows));
            let expected = alone.iter().filter(|s| s.len() > from).flat_map(|s| &s[from..]);
            assert!(found.iter().eq(expected), "{name} from {from} with {head_rows}");
        }
    }
}

/// Products in binary32 give logits near those of binary64, on every engine.
#[test]
fn forward_binary32_is_near_binary64() {
    const BOUND: f64 = 4e-6;
    for (name, model) in mixed_models() {
        let exact = logits_of(&model, F64, &batch(0, 16));
        let largest = exact.iter().flatten().fold(0.0_f64, |m, z| m.max(z.abs()));
        for level in SimdLevel::available() {
            let found = logits_of(&model, F32(level.kernels()), &batch(0, 16));
            let pairs = exact.iter().flatten().zip(found.iter().flatten());
            let off = pairs.fold(0.0_f64, |m, (a, b)| m.max((a - b).abs()));
            assert!(off <= BOUND * largest, "{name} on {}: {off:e} of {largest}", level.name());
        }
    }
}
