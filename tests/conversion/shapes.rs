//! Checkpoints of the corpus with one thing changed: a shape, a name, a number of the configuration. Each is refused by the
//! name of its tensor, before any value is read.

use crate::corpus::{Case, cases};
use quantoscope_core::format::Checkpoint;
use quantoscope_core::plan::{Plan, convert};
use quantoscope_core::recipe::presets::Preset;
use quantoscope_core::recipe::{Recipe, TensorNaming};
use quantoscope_core::tensor::{Shape, TensorInfo};
use quantoscope_core::{Code, Error};
use quantoscope_tests::memory::MemoryModel;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Tensors whose shape nothing else of the checkpoint determines: rows of embeddings without a tokenizer beside them, kinds of
/// layers that few families have.
const FREE: &[&str] = &[
    "embed_tokens.weight",
    "embeddings.",
    "embed_tokens_per_layer",
    "per_layer_",
    "layer_scalar",
    "mixer.",
    "mamba.",
    "conv.",
    "linear_attn.",
    "shared_expert_gate.",
    "relative_attention_bias",
    "position",
    "wpe",
    "wte",
    "embed_in",
    "eh_proj",
    "mtp.fc.",
    "shared_head.head",
    "shared.weight",
];

/// The checkpoint without its tokenizer, and a recipe that names tensors as engines do.
fn weights(case: &Case) -> (MemoryModel, Recipe) {
    let mut files = case.files();
    files.retain(|name, _| {
        [".safetensors", ".index.json"].iter().any(|end| name.ends_with(end))
            || ["config.json", "params.json"].contains(&name.as_str())
    });
    let model = MemoryModel::folder(files).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    let recipe = case.recipe(Recipe::of_preset(Preset::F32));
    (model, Recipe { names: TensorNaming::Gguf, ..recipe })
}

fn plan(checkpoint: &Checkpoint, recipe: &Recipe) -> Result<(), Error> {
    convert::plan(checkpoint, recipe, None, false).map(|_| ())
}

/// The tensors of the source that a plan reads.
fn used(plan: &Plan) -> BTreeSet<usize> {
    let segments = plan.outputs.iter().flat_map(|output| output.segments.iter());
    segments.map(|segment| segment.from.tensor as usize).collect()
}

/// Gives a tensor another shape.
fn reshape(tensor: &mut TensorInfo, axes: &[u64]) {
    tensor.shape = Shape::new(axes).expect("a shape");
    let bytes = tensor.dtype.bytes_for(tensor.shape.numel()).expect("whole blocks");
    tensor.bytes.end = tensor.bytes.start + bytes;
}

/// Whether the other tensors and the configuration determine the length of an axis.
fn is_determined(checkpoint: &Checkpoint, tensor: &TensorInfo, axis: usize) -> bool {
    let name = tensor.name.as_str();
    if FREE.iter().any(|part| name.contains(part)) {
        return false;
    }
    // What the values of a head are, only the values tell.
    let has = |part: &str| {
        let other = name.rsplit_once("self_attn.").map(|(layer, _)| format!("{layer}self_attn.{part}"));
        other.is_some_and(|other| checkpoint.tensors.iter().any(|t| t.name == other))
    };
    let latent = has("kv_a_proj_with_mqa.weight");
    match axis {
        // Latent attention: the parts of a head are in the configuration alone.
        _ if latent && !name.contains("o_proj") => false,
        1 if name.ends_with("o_proj.weight") => has("v_proj.weight"),
        // A router may have experts that do nothing.
        0 if ["mlp.gate.weight", "router.layer.weight", "router.weight", "moe.gate.weight"]
            .iter()
            .any(|r| name.ends_with(r)) =>
        {
            false
        }
        1 if name.ends_with("attention.dense.weight") => false,
        _ => true,
    }
}

#[test]
fn tensor_with_another_shape_is_refused_in_every_case() {
    let (mut told, mut all, mut accepted) = (0, 0, Vec::new());
    for case in cases() {
        let (model, recipe) = weights(&case);
        let sound = convert::plan(&model.checkpoint, &recipe, None, false);
        let used = used(&sound.unwrap_or_else(|e| panic!("{}: {e}", case.name)));
        for (index, tensor) in model
            .checkpoint
            .tensors
            .iter()
            .enumerate()
            .filter(|(i, t)| t.packed.is_none() && used.contains(i))
        {
            for axis in 0..tensor.shape.axes().len() {
                all += 1;
                if !is_determined(&model.checkpoint, tensor, axis) {
                    continue;
                }
                told += 1;
                let mut checkpoint = model.checkpoint.clone();
                let mut axes = tensor.shape.axes().to_vec();
                axes[axis] += 1;
                reshape(&mut checkpoint.tensors[index], &axes);
                match plan(&checkpoint, &recipe) {
                    Ok(()) => accepted.push(format!("{}: {} as {axes:?}", case.name, tensor.name)),
                    Err(e) => {
                        assert_eq!(e.code(), Code::UnmappedTensors, "{}: {}: {e}", case.name, tensor.name)
                    }
                }
            }
        }
    }
    assert!(accepted.is_empty(), "{} accepted:\n{}", accepted.len(), accepted.join("\n"));
    assert!(told * 4 > all * 3, "only {told} of {all} shapes are determined");
}

/// The checkpoint of a case after a change of its tensors and its configuration must be refused in these words.
fn refused(name: &str, change: impl Fn(&mut Vec<TensorInfo>, &mut Value), parts: &[&str]) {
    let case = cases().into_iter().find(|c| c.name == name).unwrap_or_else(|| panic!("no case {name}"));
    let (mut model, recipe) = weights(&case);
    let mut files = case.files();
    let mut config: Value = serde_json::from_slice(&files["config.json"]).expect("JSON");
    change(&mut model.checkpoint.tensors, &mut config);
    files.retain(|file, _| file.ends_with(".safetensors") || file.ends_with(".index.json"));
    files.insert("config.json".into(), config.to_string().into_bytes());
    let mut opened = MemoryModel::folder(files).expect("a sound folder");
    opened.checkpoint.tensors = model.checkpoint.tensors;
    let error = plan(&opened.checkpoint, &recipe).expect_err("a refusal").to_string();
    for part in parts {
        assert!(error.contains(part), "{name}: {part:?} is not in {error}");
    }
}

fn find<'a>(tensors: &'a mut [TensorInfo], name: &str) -> &'a mut TensorInfo {
    tensors.iter_mut().find(|t| t.name == name).unwrap_or_else(|| panic!("no tensor {name}"))
}

#[test]
fn stack_of_experts_that_contradicts_itself_is_refused() {
    let expert = |i: u32| format!("model.layers.0.block_sparse_moe.experts.{i}.w1.weight");
    let another = |tensors: &mut Vec<TensorInfo>, _: &mut Value| {
        let tensor = find(tensors, &expert(1));
        let axes: Vec<u64> = tensor.shape.axes().iter().map(|n| n + 1).collect();
        reshape(tensor, &axes);
    };
    refused("mixtral", another, &[&expert(1), "another shape than the others of its stack"]);
    let fewer = |_: &mut Vec<TensorInfo>, config: &mut Value| config["num_local_experts"] = json!(2);
    refused("mixtral", fewer, &["experts, and the configuration has 2"]);
    let twice = |tensors: &mut Vec<TensorInfo>, _: &mut Value| {
        let mut copy = find(tensors, &expert(0)).clone();
        copy.name = "model.layers.0.block_sparse_moe.experts.00.w1.weight".into();
        tensors.push(copy);
    };
    refused("mixtral", twice, &["experts.00.w1.weight"]);
}

#[test]
fn two_tensors_of_one_gguf_name_are_refused() {
    let twice = |tensors: &mut Vec<TensorInfo>, _: &mut Value| {
        let mut copy = find(tensors, "model.norm.weight").clone();
        copy.name = "norm.weight".into();
        tensors.push(copy);
    };
    refused("llama3-bpe", twice, &["norm.weight"]);
}

#[test]
fn lists_of_rope_scaling_that_fit_no_head_are_refused() {
    let lists = |change: fn(&mut Value)| {
        move |_: &mut Vec<TensorInfo>, config: &mut Value| change(&mut config["rope_scaling"])
    };
    let one = |rope: &mut Value| drop(rope.as_object_mut().expect("an object").remove("short_factor"));
    refused("phi3-longrope", lists(one), &["only one of long_factor and short_factor"]);
    let short = |rope: &mut Value| rope["long_factor"] = json!([1.0]);
    refused("phi3-longrope", lists(short), &["half as many factors"]);
    let text = |rope: &mut Value| rope["long_factor"][0] = json!("one");
    refused("phi3-longrope", lists(text), &["a rope factor is not a number"]);
    let llama3 = |_: &mut Vec<TensorInfo>, config: &mut Value| {
        config["rope_scaling"] = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
    };
    refused("olmo", llama3, &["no place for rope_scaling of the type llama3"]);
}
