//! MLX folders in memory: parts of blocks as tensors of their own, stacks of experts, names, settings, windows.

use crate::support::{plan, reopen};
use quantoscope_core::dtype::{MlxFloat, MlxType};
use quantoscope_core::kernels::{Kernels, Scalar};
use quantoscope_core::plan::{Plan, convert, replay};
use quantoscope_core::quant::Encoding;
use quantoscope_core::recipe::{MlxMixed, Override, Recipe, SplitOptions, TargetName};
use quantoscope_core::report::{VerifyReport, verified};
use quantoscope_core::schedule::Budget;
use quantoscope_core::{Code, DType};
use quantoscope_tests::memory::{Made, MemoryModel, run, run_shuffled};
use quantoscope_tests::models::{Rng, Tensor, llama, safetensors};
use serde_json::{Value, json};

fn of_type(bits: u64, group: u64) -> DType {
    DType::MLX(MlxType::new(bits, group, MlxFloat::Bf16).expect("a type"))
}

fn recipe(bits: u64, group: u64) -> Recipe {
    Recipe::new(TargetName::Mlx, Some(of_type(bits, group)))
}

fn folder(tensors: &[Tensor], config: &Value) -> MemoryModel {
    let files = [
        ("model.safetensors".to_string(), safetensors(tensors)),
        ("config.json".to_string(), config.to_string().into_bytes()),
        ("tokenizer.json".to_string(), b"{}".to_vec()),
    ];
    MemoryModel::directory(files.into()).expect("a sound model")
}

fn small(dtype: DType, tied: bool) -> MemoryModel {
    let config = json!({"model_type": "llama", "num_hidden_layers": 2, "tie_word_embeddings": tied});
    folder(&llama(dtype, tied, 9), &config)
}

fn settings(plan: &Plan) -> Value {
    let file = plan.files.iter().find(|f| f.name == "config.json").expect("a configuration");
    let config: Value = serde_json::from_slice(&file.header).expect("JSON");
    assert_eq!(config["quantization"], config["quantization_config"]);
    config["quantization"].clone()
}

/// The bytes of a stored tensor.
fn stored<'a>(plan: &Plan, made: &'a Made, name: &str) -> &'a [u8] {
    let place = plan.outputs.iter().flat_map(|o| o.stored()).find(|s| s.name.as_str() == name);
    let place = place.unwrap_or_else(|| panic!("no {name}")).place.expect("a place");
    &made.files[place.file as usize][place.at as usize..(place.at + place.bytes) as usize]
}

/// The parts of the blocks that the reference makes of `values`.
fn parts(of: MlxType, values: &[f32]) -> [Vec<u8>; 3] {
    let dtype = DType::MLX(of);
    let mut blocks = vec![0; dtype.bytes_for(values.len() as u64).expect("blocks") as usize];
    Scalar.encode(Encoding::Type(dtype), values, None, &mut blocks).expect("encoded");
    let (codes, field) = (of.code_bytes() as usize, of.float().dtype().block_bytes() as usize);
    [0..codes, codes..codes + field, codes + field..codes + 2 * field].map(|part| {
        blocks.chunks(dtype.block_bytes() as usize).flat_map(|b| b[part.clone()].to_vec()).collect()
    })
}

fn verify_again(source: &MemoryModel, artefact: &MemoryModel) -> VerifyReport {
    let recipe = replay::recorded(&artefact.checkpoint)
        .or_else(|| replay::recorded_conversion(&artefact.checkpoint))
        .expect("a recorded recipe");
    assert_eq!(recipe.to, TargetName::Mlx);
    let pairing = replay::verify(&source.checkpoint, &artefact.checkpoint, &recipe, None).expect("a pairing");
    let made = run(&pairing.plan, &[source, artefact], Budget::default()).expect("a run");
    verified(("a", "b"), &pairing.plan, pairing.findings, &made.collected)
}

#[test]
fn weights_of_each_float_type_become_codes_scales_and_biases_of_that_type() {
    for (dtype, float) in
        [(DType::BF16, MlxFloat::Bf16), (DType::F16, MlxFloat::F16), (DType::F32, MlxFloat::F32)]
    {
        let source = small(dtype, false);
        for (bits, group) in [(2, 64), (3, 32), (4, 64), (5, 32), (6, 64), (8, 32)] {
            let plan = plan(&source, &recipe(bits, group));
            let made = run(&plan, &[&source], Budget::default()).expect("a run");
            let name = "model.layers.1.self_attn.q_proj";
            let mut values = vec![0.0; 64 * 64];
            Scalar.decode(dtype, source.tensor(&format!("{name}.weight")), &mut values).expect("decoded");
            let of = MlxType::new(bits, group, float).expect("a type");
            for (suffix, wanted) in ["weight", "scales", "biases"].iter().zip(parts(of, &values)) {
                assert!(
                    stored(&plan, &made, &format!("{name}.{suffix}")) == wanted,
                    "{dtype} {bits} {suffix}"
                );
            }
            let back = reopen(&plan, &made);
            let weight =
                back.checkpoint.tensors.iter().find(|t| t.name.starts_with(name)).expect("the weight");
            assert_eq!(weight.shape.axes(), [64, 64]);
            assert_eq!(weight.packed.as_ref().and_then(|p| p.mlx_type()), Some(of));
            assert_eq!(settings(&plan), json!({"group_size": group, "bits": bits, "mode": "affine"}));
            assert!(verify_again(&source, &back).verified, "{dtype} {bits}");
        }
    }
}

#[test]
fn embedding_and_head_are_quantized_and_rows_that_do_not_divide_keep_their_type() {
    let source = small(DType::BF16, false);
    let plan = plan(&source, &recipe(4, 64));
    let types: Vec<(&str, DType)> = plan.outputs.iter().map(|o| (o.name.as_str(), o.dtype)).collect();
    for (name, dtype) in types {
        let quantized = !name.contains("norm") && !name.contains("down_proj");
        assert_eq!(dtype.is_quantized(), quantized, "{name}: {dtype}");
    }
    let leave = Recipe { leave_output: true, ..recipe(4, 64) };
    let kept = crate::support::plan(&source, &leave);
    let head = kept.outputs.iter().find(|o| o.name == "lm_head.weight").expect("a head");
    assert_eq!((head.dtype, head.streams.len()), (DType::BF16, 0));
}

#[test]
fn bytes_do_not_depend_on_windows_or_their_order() {
    let source = small(DType::BF16, false);
    for recipe in
        [recipe(3, 32), Recipe { mixed: Some(MlxMixed::ALL[0]), ..Recipe::new(TargetName::Mlx, None) }]
    {
        let plan = plan(&source, &recipe);
        let whole = run(&plan, &[&source], Budget::default()).expect("a run");
        for (memory, workers) in [(40_000, 1), (100_000, 2), (1 << 20, 3)] {
            let cut =
                run_shuffled(&plan, &[&source], Budget { memory, workers }, Some(memory)).expect("a run");
            assert!(cut.jobs >= whole.jobs && cut.files == whole.files, "{memory}");
        }
    }
}

fn experts(model_type: &str, module: &str, names: [&str; 3]) -> (MemoryModel, Vec<Tensor>) {
    let rng = &mut Rng(5);
    let mut tensors = vec![Tensor::random("model.embed_tokens.weight", DType::F32, &[32, 64], rng)];
    for expert in [1, 0, 2] {
        for (name, shape) in names.iter().zip([[32, 64], [64, 32], [32, 64]]) {
            let name = format!("model.layers.0.{module}.experts.{expert}.{name}.weight");
            tensors.push(Tensor::random(&name, DType::F32, &shape, rng));
        }
    }
    let router = format!("model.layers.0.{module}.gate.weight");
    tensors.push(Tensor::random(&router, DType::F32, &[3, 64], rng));
    let config = json!({"model_type": model_type, "num_hidden_layers": 1, "num_local_experts": 3});
    (folder(&tensors, &config), tensors)
}

#[test]
fn experts_of_a_layer_become_one_stack() {
    for (model_type, module, names) in [
        ("qwen3_moe", "mlp", ["gate_proj", "down_proj", "up_proj"]),
        ("mixtral", "block_sparse_moe", ["w1", "w2", "w3"]),
    ] {
        let (source, tensors) = experts(model_type, module, names);
        let plan = plan(&source, &recipe(4, 32));
        let made =
            run_shuffled(&plan, &[&source], Budget { memory: 60_000, workers: 1 }, Some(3)).expect("a run");
        for (name, projection) in names.iter().zip(["gate_proj", "down_proj", "up_proj"]) {
            let stack = format!("model.layers.0.{module}.switch_mlp.{projection}");
            let expert = |n: usize| format!("model.layers.0.{module}.experts.{n}.{name}.weight");
            let of = MlxType::new(4, 32, MlxFloat::F32).expect("a type");
            let wanted: Vec<[Vec<u8>; 3]> = (0..3)
                .map(|n| {
                    let tensor = tensors.iter().find(|t| t.name == expert(n)).expect("an expert");
                    let values: Vec<f32> = tensor
                        .bytes
                        .chunks(4)
                        .map(|b| f32::from_le_bytes(b.try_into().expect("4")))
                        .collect();
                    parts(of, &values)
                })
                .collect();
            for (part, suffix) in ["weight", "scales", "biases"].iter().enumerate() {
                let all: Vec<u8> = wanted.iter().flat_map(|w| w[part].clone()).collect();
                assert!(stored(&plan, &made, &format!("{stack}.{suffix}")) == all, "{stack}.{suffix}");
            }
        }
        let router = plan.outputs.iter().find(|o| o.name.ends_with("gate.weight")).expect("a router");
        assert_eq!(router.dtype, DType::F32);
        let back = reopen(&plan, &made);
        assert!(verify_again(&source, &back).verified);
    }
}

#[test]
fn stack_with_a_missing_or_different_expert_is_refused() {
    let (source, _) = experts("qwen3_moe", "mlp", ["gate_proj", "down_proj", "up_proj"]);
    let refused =
        |recipe: Recipe| convert::plan(&source.checkpoint, &recipe, None, false).expect_err("a refusal");
    let one = Recipe { exclude: vec!["*.experts.1.up_proj.weight".into()], ..recipe(4, 32) };
    let error = refused(one);
    assert_eq!(error.code(), Code::UnsupportedContainer);
    assert!(
        error
            .detail()
            .message
            .contains("expert 1 of model.layers.0.mlp.switch_mlp.up_proj.weight is missing")
    );
    let first = Recipe { exclude: vec!["*.experts.0.up_proj.weight".into()], ..recipe(4, 32) };
    assert!(refused(first).detail().message.contains("not numbered from 0"));
    let own = Override { pattern: "experts.2.gate_proj".into(), dtype: of_type(8, 32) };
    let error = refused(Recipe { overrides: vec![own], ..recipe(4, 32) });
    assert!(error.detail().message.contains("differ in type or shape"), "{error}");
}

#[test]
fn tied_head_and_buffers_are_left_out() {
    let mut tensors = llama(DType::BF16, false, 9);
    tensors.push(Tensor::random(
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        DType::F32,
        &[8],
        &mut Rng(1),
    ));
    let config = json!({"model_type": "llama", "tie_word_embeddings": true});
    let plan = plan(&folder(&tensors, &config), &recipe(4, 64));
    assert!(plan.outputs.iter().all(|o| o.name != "lm_head.weight" && !o.name.contains("inv_freq")));
    let left: Vec<&str> =
        plan.conversion.as_ref().expect("a conversion").left_out.iter().map(|l| l.reason.code).collect();
    assert_eq!(left, ["buffer", "tied_head"]);
}

#[test]
fn settings_name_the_modules_that_differ_from_the_type_of_the_recipe() {
    let own = Override { pattern: "v_proj".into(), dtype: of_type(8, 32) };
    let plan = plan(&small(DType::BF16, false), &Recipe { overrides: vec![own], ..recipe(4, 64) });
    let eight = json!({"group_size": 32, "bits": 8, "mode": "affine"});
    let wanted = json!({
        "group_size": 64, "bits": 4, "mode": "affine",
        "model.layers.0.self_attn.v_proj": eight, "model.layers.1.self_attn.v_proj": eight,
    });
    assert_eq!(settings(&plan), wanted);
    let plain =
        crate::support::plan(&small(DType::F32, false), &Recipe::new(TargetName::Mlx, Some(DType::F16)));
    assert_eq!(settings(&plain), Value::Null);
}

#[test]
fn mixed_recipes_give_more_bits_to_values_and_down_projections_of_some_layers() {
    let rng = &mut Rng(3);
    let mut tensors = vec![Tensor::random("model.embed_tokens.weight", DType::F32, &[32, 64], rng)];
    for layer in 0..16 {
        for module in ["self_attn.v_proj", "self_attn.q_proj", "mlp.down_proj"] {
            let name = format!("model.layers.{layer}.{module}.weight");
            tensors.push(Tensor::random(&name, DType::F32, &[32, 64], rng));
        }
    }
    tensors.push(Tensor::random("lm_head.weight", DType::F32, &[32, 64], rng));
    let config = json!({"model_type": "llama", "num_hidden_layers": 16});
    let source = folder(&tensors, &config);
    let mixed = |name: &str| Recipe {
        mixed: Some(MlxMixed::parse(name).expect("a recipe")),
        ..Recipe::new(TargetName::Mlx, None)
    };
    let plan = plan(&source, &mixed("MIXED_3_6_g32"));
    // The first and the last eighth, and every third layer between them.
    let more = [0, 1, 4, 7, 10, 13, 14, 15];
    for output in &plan.outputs {
        let layer: Option<u64> = output.name.split('.').find_map(|p| p.parse().ok());
        let here = layer.is_some_and(|l| more.contains(&l)) && !output.name.contains("q_proj");
        let bits = if here || output.name == "lm_head.weight" { 6 } else { 3 };
        let of = MlxType::new(bits, 32, MlxFloat::F32).expect("a type");
        assert_eq!(output.dtype, DType::MLX(of), "{}", output.name);
    }
    let settings = settings(&plan);
    assert_eq!(settings.as_object().expect("settings").len(), 3 + plan.outputs.len());
    assert_eq!(settings["bits"], 3);
    // Without the number of layers, or down projections, nothing says which layers these are.
    for config in [json!({"model_type": "llama"}), json!({"model_type": "phi", "num_hidden_layers": 16})] {
        let few: Vec<Tensor> = tensors
            .iter()
            .filter(|t| config["model_type"] == "llama" || !t.name.contains("down"))
            .cloned()
            .collect();
        let error = convert::plan(&folder(&few, &config).checkpoint, &mixed("mixed_4_6"), None, false);
        assert_eq!(error.expect_err("a refusal").code(), Code::Usage);
    }
    assert!(MlxMixed::parse("mixed_2_4").is_err());
}

#[test]
fn unknown_names_and_architectures_are_refused_by_name() {
    let refused = |source: &MemoryModel| {
        convert::plan(&source.checkpoint, &recipe(4, 64), None, false).expect_err("a refusal")
    };
    let tensors = llama(DType::BF16, false, 9);
    for (config, code) in [
        (json!({"model_type": "gpt2"}), Code::UnsupportedArchitecture),
        (
            json!({"model_type": "llava", "text_config": {"model_type": "llama"}}),
            Code::UnsupportedArchitecture,
        ),
        (json!({}), Code::UnsupportedArchitecture),
    ] {
        assert_eq!(refused(&folder(&tensors, &config)).code(), code, "{config}");
    }
    let mut other = tensors.clone();
    other.push(Tensor::random("vision_tower.proj.weight", DType::BF16, &[64, 64], &mut Rng(2)));
    let error = refused(&folder(&other, &json!({"model_type": "llama"})));
    assert_eq!(error.code(), Code::UnsupportedContainer);
    assert!(error.detail().message.contains("--exclude 'vision_tower.proj.weight'"), "{error}");
    let bare = MemoryModel::safetensors(&tensors);
    assert_eq!(refused(&bare).code(), Code::UnsupportedContainer);
}

/// A tensor of the source must not have the name of a part, whatever file it would be in.
#[test]
fn tensor_with_the_name_of_a_part_is_refused() {
    let mut tensors = llama(DType::BF16, false, 9);
    let name = "model.layers.0.self_attn.q_proj.scales";
    tensors.push(Tensor::random(name, DType::BF16, &[64, 1], &mut Rng(2)));
    let source = folder(&tensors, &json!({"model_type": "llama"}));
    for max_tensors in [None, Some(1)] {
        let split = SplitOptions { max_tensors, ..SplitOptions::default() };
        let error = convert::plan(&source.checkpoint, &Recipe { split, ..recipe(4, 64) }, None, false);
        assert_eq!(error.expect_err("a refusal").code(), Code::UnsupportedContainer);
    }
}

#[test]
fn shards_hold_whole_weights_and_the_index_names_every_part() {
    let source = small(DType::BF16, false);
    let split = SplitOptions { max_bytes: Some(10_000), ..SplitOptions::default() };
    let plan = plan(&source, &Recipe { split, ..recipe(4, 64) });
    let made = run(&plan, &[&source], Budget::default()).expect("a run");
    let shards: Vec<&str> =
        plan.files.iter().map(|f| f.name.as_str()).filter(|n| n.ends_with(".safetensors")).collect();
    assert!(
        shards.len() > 2 && shards[0] == format!("model-00001-of-{:05}.safetensors", shards.len()),
        "{shards:?}"
    );
    let index = plan.files.iter().find(|f| f.name == "model.safetensors.index.json").expect("an index");
    let index: Value = serde_json::from_slice(&index.header).expect("JSON");
    let mut total = 0;
    for output in &plan.outputs {
        let places: Vec<_> = output.stored().map(|s| (s.name, s.place.expect("a place"))).collect();
        assert!(places.iter().all(|(_, p)| p.file == places[0].1.file), "{}", output.name);
        for (name, place) in places {
            assert_eq!(index["weight_map"][name.as_str()], plan.files[place.file as usize].name);
            total += place.bytes;
        }
    }
    assert_eq!(index["metadata"]["total_size"], total);
    let weights: u64 = source.checkpoint.tensors.iter().map(|t| t.shape.numel()).sum();
    assert_eq!(index["metadata"]["total_parameters"], weights);
    assert!(verify_again(&source, &reopen(&plan, &made)).verified);
}

#[test]
fn rotary_keys_that_mlx_lm_reads_under_older_names_are_added() {
    let parameters = json!({"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0});
    let config = json!({"model_type": "llama", "rope_parameters": parameters});
    let plan = plan(&folder(&llama(DType::BF16, true, 9), &config), &recipe(4, 64));
    let file = plan.files.iter().find(|f| f.name == "config.json").expect("a configuration");
    let written: Value = serde_json::from_slice(&file.header).expect("JSON");
    assert_eq!((&written["rope_theta"], &written["rope_scaling"]), (&json!(5e5), &parameters));
    assert_eq!(written["tie_word_embeddings"], true);
}
