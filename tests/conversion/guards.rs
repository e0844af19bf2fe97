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
