//! The forward pass against candle's models, which compute in binary32, on the processor.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{llama, qwen2, qwen3};
use quantoscope_tests::forward::TestModel;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Relative to the largest logit. candle was seen to differ by up to 7e-7.
const TOLERANCE: f64 = 3e-6;

/// The logits that follow tokens, by candle.
fn candle(bytes: &[u8], config: &Value, tokens: &[u32]) -> Result<Vec<f32>> {
    let device = Device::Cpu;
    let weights = VarBuilder::from_slice_safetensors(bytes, DType::F32, &device)?;
    let input = Tensor::new(tokens, &device)?.unsqueeze(0)?;
    let text = config.clone();
    let logits = match config["model_type"].as_str() {
        Some("llama") => {
            let own: llama::LlamaConfig = serde_json::from_value(text).expect("a configuration");
            let own = own.into_config(false);
            let mut cache = llama::Cache::new(false, DType::F32, &own, &device)?;
            llama::Llama::load(weights, &own)?.forward(&input, 0, &mut cache)?
        }
        Some("qwen2") => {
            let own: qwen2::Config = serde_json::from_value(text).expect("a configuration");
            qwen2::ModelForCausalLM::new(&own, weights)?.forward(&input, 0)?
        }
        Some("qwen3") => {
            let own: qwen3::Config = serde_json::from_value(text).expect("a configuration");
            qwen3::ModelForCausalLM::new(&own, weights)?.forward(&input, 0)?
        }
        other => panic!("{other:?}"),
    };
    logits.flatten_all()?.to_vec1()
}

/// Both on every beginning of the tokens: candle gives the last logits only.
fn compare(name: &str, bytes: Vec<u8>, config: &Value, tokens: &[u32]) {
    let ours = TestModel::new(bytes.clone(), config.to_string().into_bytes()).logits(tokens).unwrap();
    let vocab = ours.len() / tokens.len();
    let top = ours.iter().fold(0.0_f64, |m, l| m.max(l.abs()));
    let mut most = 0.0_f64;
    for (n, ours) in ours.chunks_exact(vocab).enumerate() {
        let theirs = candle(&bytes, config, &tokens[..=n]).unwrap();
        assert_eq!(theirs.len(), vocab);
        most = ours.iter().zip(&theirs).fold(most, |m, (a, &b)| m.max((a - f64::from(b)).abs() / top));
    }
    println!("{name}: {most:.1e}");
    assert!(most < TOLERANCE, "{name}: {most:e}");
}

/// Those of the tiny checkpoints whose heads are together as long as the stream where candle takes that for granted.
#[test]
fn tiny_checkpoints_give_the_logits_of_candle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/families");
    for family in ["qwen2", "qwen3_tied"] {
        let read = |name: &str| std::fs::read(root.join(family).join(name)).unwrap();
        let mut config: Value = serde_json::from_slice(&read("config.json")).unwrap();
        // candle knows the older place of this, and wants a number where there is no window.
        config["rope_theta"] = config["rope_parameters"]["rope_theta"].clone();
        if config["sliding_window"].is_null() {
            config["sliding_window"] = json!(64);
        }
        compare(family, read("model.safetensors"), &config, &[5, 17, 43, 26, 23, 34, 59, 41, 37, 47, 14, 52]);
    }
}

const HIDDEN: usize = 96;
const INNER: usize = 200;
const VOCAB: usize = 300;
const LAYERS: usize = 3;
const HEADS: usize = 6;
const KEYS: usize = 2;

/// Longer heads, more layers and more tokens than the tiny checkpoints have.
#[test]
fn random_models_give_the_logits_of_candle() {
    let all = [
        ("llama", 16, false),
        ("llama", 16, true),
        ("qwen2", 16, false),
        ("qwen3", 24, false),
        ("qwen3", 24, true),
    ];
    for (family, dim, tied) in all {
        let config = json!({
            "model_type": family, "hidden_size": HIDDEN, "intermediate_size": INNER, "vocab_size": VOCAB,
            "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KEYS, "head_dim": dim,
            "rms_norm_eps": 1e-5, "rope_theta": 50_000.0, "hidden_act": "silu", "tie_word_embeddings": tied,
            "max_position_embeddings": 64, "attention_bias": false, "sliding_window": 64, "max_window_layers": LAYERS,
            "use_sliding_window": false,
        });
        let tokens: Vec<u32> = (0..40).map(|i| (i * i * 7 + i * 13 + 5) % VOCAB as u32).collect();
        compare(family, random(family, dim, tied), &config, &tokens);
    }
}

/// A checkpoint in binary32 with values of a seed.
fn random(family: &str, dim: usize, tied: bool) -> Vec<u8> {
    let mut shapes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let (queries, keys) = (HEADS * dim, KEYS * dim);
    shapes.insert("model.embed_tokens.weight".into(), vec![VOCAB, HIDDEN]);
    if !tied {
        shapes.insert("lm_head.weight".into(), vec![VOCAB, HIDDEN]);
    }
    shapes.insert("model.norm.weight".into(), vec![HIDDEN]);
    for layer in 0..LAYERS {
        let mut add = |name: &str, shape: &[usize]| {
            shapes.insert(format!("model.layers.{layer}.{name}"), shape.to_vec());
        };
        add("input_layernorm.weight", &[HIDDEN]);
        add("post_attention_layernorm.weight", &[HIDDEN]);
        for (name, rows) in [("q_proj", queries), ("k_proj", keys), ("v_proj", keys)] {
            add(&format!("self_attn.{name}.weight"), &[rows, HIDDEN]);
            if family == "qwen2" {
                add(&format!("self_attn.{name}.bias"), &[rows]);
            }
        }
        add("self_attn.o_proj.weight", &[HIDDEN, queries]);
        if family == "qwen3" {
            add("self_attn.q_norm.weight", &[dim]);
            add("self_attn.k_norm.weight", &[dim]);
        }
        add("mlp.gate_proj.weight", &[INNER, HIDDEN]);
        add("mlp.up_proj.weight", &[INNER, HIDDEN]);
        add("mlp.down_proj.weight", &[HIDDEN, INNER]);
    }
    let mut state = 20_261_121_u64;
    let data: BTreeMap<String, Vec<u8>> = shapes
        .iter()
        .map(|(name, shape)| {
            let scale = if shape.len() == 2 { 2.0 / (shape[1] as f32).sqrt() } else { 1.0 };
            let values = (0..shape.iter().product()).flat_map(|_| (scale * next(&mut state)).to_le_bytes());
            (name.clone(), values.collect())
        })
        .collect();
    let view = |(name, shape): (&String, &Vec<usize>)| {
        (name.clone(), TensorView::new(Dtype::F32, shape.clone(), &data[name]).unwrap())
    };
    serialize(shapes.iter().map(view), None).unwrap()
}

/// The next value of a linear congruential generator, from -1 to 1.
fn next(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    ((*state >> 40) as f32 / (1 << 24) as f32) * 2.0 - 1.0
}
