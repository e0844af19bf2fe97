//! Checkpoints that cannot be converted are refused by name before any value is read, with all findings at once.

use quantoscope_core::plan::convert;
use quantoscope_core::recipe::{Recipe, TargetName, TensorNaming};
use quantoscope_core::{Code, DType, Error};
use quantoscope_tests::memory::MemoryModel;
use quantoscope_tests::models::{Rng, Tensor, llama, safetensors};
use serde_json::{Value, json};

/// A sound configuration of [`llama`].
fn config(tensors: &[Tensor]) -> Value {
    let embedding = tensors.iter().find(|t| t.name == "model.embed_tokens.weight").expect("an embedding");
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": embedding.shape[0],
        "hidden_size": embedding.shape[1],
    })
}

fn plan(tensors: &[Tensor], config: &Value, recipe: &Recipe) -> Result<(), Error> {
    let files = [
        ("model.safetensors".to_string(), safetensors(tensors)),
        ("config.json".to_string(), config.to_string().into_bytes()),
    ];
    let model = MemoryModel::folder(files.into()).expect("a sound folder");
    convert::plan(&model.checkpoint, recipe, None, false).map(|_| ())
}

fn gguf() -> Recipe {
    Recipe { names: TensorNaming::Gguf, ..Recipe::new(TargetName::Gguf, Some(DType::F32)) }
}

/// The refusal of a checkpoint, which must name all of `parts`.
fn refused(tensors: &[Tensor], config: &Value, code: Code, parts: &[&str]) {
    let error = plan(tensors, config, &gguf()).expect_err("a refusal");
    assert_eq!(error.code(), code, "{error}");
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

fn without(tensors: &[Tensor], part: &str) -> Vec<Tensor> {
    tensors.iter().filter(|t| !t.name.contains(part)).cloned().collect()
}

#[test]
fn sound_checkpoint_is_planned() {
    let tensors = llama(DType::BF16, false, 1);
    plan(&tensors, &config(&tensors), &gguf()).expect("a plan");
}

#[test]
fn unknown_architecture_is_refused_unless_names_are_kept() {
    let tensors = llama(DType::BF16, false, 1);
    let mut config = config(&tensors);
    config["architectures"] = json!(["NovelForCausalLM"]);
    config["model_type"] = json!("novel");
    refused(&tensors, &config, Code::UnsupportedArchitecture, &["NovelForCausalLM", "--names source"]);
    plan(&tensors, &config, &Recipe { names: TensorNaming::Source, ..gguf() }).expect("a plan");
    plan(&tensors, &config, &Recipe::new(TargetName::Safetensors, Some(DType::F32))).expect("a plan");
}

#[test]
fn unknown_tensors_are_refused_all_at_once() {
    let mut tensors = llama(DType::BF16, false, 1);
    for name in ["model.layers.0.self_attn.novel.weight", "score.weight"] {
        tensors.push(Tensor::random(name, DType::BF16, &[4, 4], &mut Rng(1)));
    }
    let names = ["model.layers.0.self_attn.novel.weight", "score.weight"];
    refused(&tensors, &config(&tensors), Code::UnmappedTensors, &names);
}

#[test]
fn missing_layer_is_refused() {
    let tensors = llama(DType::BF16, false, 1);
    let cut = without(&tensors, "layers.1.");
    refused(&cut, &config(&tensors), Code::UnmappedTensors, &["2 layers", "first: 1"]);
    let mut config = config(&tensors);
    config["num_hidden_layers"] = json!(1);
    refused(&tensors, &config, Code::UnmappedTensors, &["layer 1 is beyond"]);
}

#[test]
fn configuration_that_contradicts_shapes_is_refused() {
    let tensors = llama(DType::BF16, false, 1);
    let sound = config(&tensors);
    let with = |key: &str, value: u64| {
        let mut config = sound.clone();
        config[key] = json!(value);
        config
    };
    refused(&tensors, &with("num_attention_heads", 7), Code::UnmappedTensors, &["q_proj", "7 heads"]);
    refused(
        &tensors,
        &with("hidden_size", 96),
        Code::UnmappedTensors,
        &["embed_tokens", "hidden size of 96"],
    );
    refused(&tensors, &with("vocab_size", 1 << 20), Code::UnmappedTensors, &["embed_tokens", "vocabulary"]);
}

#[test]
fn incomplete_stack_of_experts_is_refused() {
    let mut tensors = without(&llama(DType::BF16, false, 1), ".mlp.");
    let names = ["gate_proj", "up_proj", "down_proj"];
    for (layer, expert) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        for name in names.iter().filter(|n| !((layer, expert) == (1, 1) && **n == "up_proj")) {
            let name = format!("model.layers.{layer}.mlp.experts.{expert}.{name}.weight");
            tensors.push(Tensor::random(&name, DType::BF16, &[8, 8], &mut Rng(1)));
        }
    }
    let mut config = config(&tensors);
    config["architectures"] = json!(["Qwen3MoeForCausalLM"]);
    config["model_type"] = json!("qwen3_moe");
    config["num_experts"] = json!(2);
    refused(&tensors, &config, Code::UnmappedTensors, &["blk.1.ffn_up_exps.weight", "1 of 2"]);
}

#[test]
fn quantized_checkpoint_is_refused_by_its_method() {
    let tensors = llama(DType::BF16, false, 1);
    let mut config = config(&tensors);
    config["quantization_config"] = json!({"quant_method": "fp8"});
    refused(&tensors, &config, Code::UnsupportedDtype, &["fp8"]);
}

/// A folder with a tokenizer of `tokens` tokens; `None` for none.
fn folder(tensors: &[Tensor], config: &Value, tokens: Option<usize>) -> Result<(), Error> {
    let mut files = vec![
        ("model.safetensors".to_string(), safetensors(tensors)),
        ("config.json".to_string(), config.to_string().into_bytes()),
    ];
    if let Some(tokens) = tokens {
        let vocab: serde_json::Map<String, Value> =
            (0..tokens).map(|i| (format!("t{i}"), json!(i))).collect();
        let tokenizer = json!({"model": {"type": "BPE", "vocab": vocab, "merges": []}});
        files.push(("tokenizer.json".to_string(), tokenizer.to_string().into_bytes()));
    }
    let model = MemoryModel::folder(files.into_iter().collect()).expect("a sound folder");
    let recipe = Recipe { pre_tokenizer: Some("llama-bpe".to_string()), ..gguf() };
    convert::plan(&model.checkpoint, &recipe, None, false).map(|_| ())
}

fn names_all(error: &Error, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn tokenizer_that_does_not_fit_the_vocabulary_is_refused() {
    let tensors = llama(DType::BF16, false, 1);
    let sound = config(&tensors);
    let rows = sound["vocab_size"].as_u64().expect("a count") as usize;
    folder(&tensors, &sound, Some(rows)).expect("a plan");
    folder(&tensors, &sound, Some(rows - 1)).expect("a vocabulary that is padded");
    let error = folder(&tensors, &sound, Some(rows + 1)).expect_err("a token without a row");
    assert_eq!(error.code(), Code::BadValue, "{error}");
    names_all(&error, &["tokenizer.json", "does not fit vocab_size"]);
    // The configuration gives fewer tokens than the embedding has rows.
    let mut config = sound;
    config["vocab_size"] = json!(rows - 4);
    let error = folder(&tensors, &config, Some(rows - 4)).expect_err("rows without a token");
    assert_eq!(error.code(), Code::UnmappedTensors, "{error}");
    names_all(&error, &[&format!("{} tokens", rows - 4), &format!("{rows} rows")]);
}

#[test]
fn findings_in_tensors_configuration_and_tokenizer_are_named_at_once() {
    let mut tensors = llama(DType::BF16, false, 1);
    tensors.push(Tensor::random("model.layers.0.self_attn.novel.weight", DType::BF16, &[4, 4], &mut Rng(1)));
    let mut config = config(&tensors);
    config["num_attention_heads"] = json!(7);
    config["num_hidden_layers"] = json!(3);
    let error = folder(&tensors, &config, Some(1 << 12)).expect_err("a refusal");
    assert_eq!(error.code(), Code::UnmappedTensors, "{error}");
    names_all(&error, &["novel", "7 heads", "3 layers", "the tokenizer: ", "does not fit vocab_size"]);
}

/// A tensor of another shape, and the side that the message names.
fn reshaped(name: &str, shape: &[u64], parts: &[&str]) {
    let mut tensors = llama(DType::BF16, false, 1);
    let sound = config(&tensors);
    let at = tensors.iter().position(|t| t.name == name).unwrap_or_else(|| panic!("{name}"));
    tensors[at] = Tensor::random(name, DType::BF16, shape, &mut Rng(1));
    refused(&tensors, &sound, Code::UnmappedTensors, parts);
}

#[test]
fn shapes_that_do_not_fit_the_residual_stream_are_refused() {
    reshaped("model.layers.1.input_layernorm.weight", &[7], &["blk.1.attn_norm.weight", "rows of 7"]);
    reshaped("model.layers.0.mlp.up_proj.weight", &[8, 7], &["blk.0.ffn_up.weight", "rows of 7"]);
    reshaped("model.layers.0.mlp.down_proj.weight", &[7, 8], &["blk.0.ffn_down.weight", "columns of 7"]);
}

#[test]
fn layers_that_lack_a_tensor_are_refused() {
    let tensors = llama(DType::BF16, false, 1);
    let sound = config(&tensors);
    for (part, message) in [
        ("layers.1.mlp.down_proj", "layer 1 has ffn_gate and no ffn_down"),
        ("layers.0.mlp.up_proj", "layer 0 has ffn_down and no ffn_up"),
        ("layers.0.self_attn.o_proj", "layer 0 has attn_q and no attn_output"),
        ("layers.1.self_attn.k_proj", "layer 1 has attn_v and no attn_k"),
    ] {
        refused(&without(&tensors, part), &sound, Code::UnmappedTensors, &[message]);
    }
}

#[test]
fn missing_shard_is_refused() {
    let tensors = llama(DType::BF16, false, 1);
    let (first, second) = tensors.split_at(tensors.len() / 2);
    let name = |i: usize| format!("model-0000{i}-of-00002.safetensors");
    let map: serde_json::Map<String, Value> = first
        .iter()
        .map(|t| (t.name.clone(), json!(name(1))))
        .chain(second.iter().map(|t| (t.name.clone(), json!(name(2)))))
        .collect();
    let index = json!({"metadata": {"total_size": 0}, "weight_map": map}).to_string().into_bytes();
    let config = config(&tensors).to_string().into_bytes();
    let files = [
        (name(1), safetensors(first)),
        ("model.safetensors.index.json".to_string(), index),
        ("config.json".to_string(), config),
    ];
    let error = match MemoryModel::folder(files.into()) {
        Err(error) => error,
        Ok(model) => {
            convert::plan(&model.checkpoint, &gguf(), None, false).map(|_| ()).expect_err("a refusal")
        }
    };
    names_all(&error, &["model-00002-of-00002.safetensors"]);
}
