//! Importance matrices from file to bytes: every tensor uses its own weights in any window; missing weights
//! are reported or refused before any work.

use crate::support::{gguf, report};
use quantoscope_core::format::Container;
use quantoscope_core::plan::{Plan, convert, measure};
use quantoscope_core::quant::{Encoding, encoder};
use quantoscope_core::recipe::Recipe;
use quantoscope_core::recipe::presets::Preset;
use quantoscope_core::report::stats;
use quantoscope_core::schedule::{Budget, schedule};
use quantoscope_core::{Code, DType};
use quantoscope_tests::memory::{MemoryModel, run, run_shuffled};
use quantoscope_tests::models::{Kv, Rng, Tensor, gguf as gguf_file, imatrix};

const TYPES: [DType; 11] = [
    DType::Q4_0,
    DType::Q5_1,
    DType::Q3_K,
    DType::Q4_K,
    DType::Q6_K,
    DType::IQ4_NL,
    DType::IQ4_XS,
    DType::IQ3_S,
    DType::IQ2_XXS,
    DType::IQ1_S,
    DType::Q8_0,
];

fn sums(rng: &mut Rng, n: u64) -> Vec<f32> {
    rng.weights(n).iter().map(|w| w * w * 1e4).collect()
}

/// Two matrices and a stack of experts in GGUF names, one row long enough to be cut.
fn model_parts() -> (Vec<Tensor>, Vec<u8>) {
    let rng = &mut Rng(17);
    let tensors = vec![
        Tensor::random("token_embd.weight", DType::F32, &[8, 256], rng),
        Tensor::random("blk.0.ffn_down.weight", DType::BF16, &[2, 33_280], rng),
        Tensor::random("blk.0.attn_v.weight", DType::F32, &[6, 512], rng),
        Tensor::random("blk.0.ffn_up_exps.weight", DType::F16, &[3, 4, 256], rng),
    ];
    let stack = (0..3).map(|_| sums(rng, 256)).collect();
    let weights = imatrix(&[
        ("blk.0.attn_v.weight", vec![sums(rng, 512)], vec![5.0]),
        ("blk.0.ffn_down.weight", vec![sums(rng, 33_280)], vec![4.0]),
        ("blk.0.ffn_up_exps.weight", stack, vec![3.0, 0.0, 7.0]),
        ("blk.9.ffn_up.weight", vec![sums(rng, 256)], vec![7.0]),
    ]);
    (tensors, weights)
}

fn model() -> MemoryModel {
    let (tensors, weights) = model_parts();
    let metadata = [("general.architecture", Kv::Text("llama"))];
    MemoryModel::file("m.gguf", gguf_file(&metadata, &tensors)).expect("a sound file").weighted(weights)
}

/// The same as safetensors, the experts one by one and out of order.
fn hugging_face() -> MemoryModel {
    let (tensors, weights) = model_parts();
    let mut all = Vec::new();
    for t in tensors {
        let name = match t.name.as_str() {
            "token_embd.weight" => "model.embed_tokens.weight",
            "blk.0.ffn_down.weight" => "model.layers.0.mlp.down_proj.weight",
            "blk.0.attn_v.weight" => "model.layers.0.self_attn.v_proj.weight",
            _ => {
                let each = t.bytes.len() / 3;
                for e in [2, 0, 1] {
                    let name = format!("model.layers.0.mlp.experts.{e}.up_proj.weight");
                    all.push(Tensor::raw(
                        &name,
                        t.dtype,
                        &t.shape[1..],
                        t.bytes[e * each..(e + 1) * each].to_vec(),
                    ));
                }
                continue;
            }
        };
        all.push(Tensor::raw(name, t.dtype, &t.shape, t.bytes));
    }
    MemoryModel::safetensors(&all).weighted(weights)
}

fn plan(model: &MemoryModel, recipe: &Recipe) -> Plan {
    convert::plan(&model.checkpoint, recipe, model.imatrix(), true).expect("a plan")
}

fn budgets() -> Vec<Budget> {
    let mut all: Vec<Budget> =
        [64 << 20, 4 << 20, 1 << 20].iter().map(|&memory| Budget { memory, workers: 1 }).collect();
    all.push(Budget { memory: 8 << 20, workers: 7 });
    all
}

/// The weights of a tensor's matrix as they are defined, from the generated sums.
fn means(sums: &[f32], count: f32) -> Vec<f32> {
    sums.iter().map(|s| if count > 0.0 { s / count } else { 1.0 }).collect()
}

fn encoded(dtype: DType, values: &[f32], weights: &[f32]) -> Vec<u8> {
    let mut out = vec![0; dtype.bytes_for(values.len() as u64).expect("whole blocks") as usize];
    encoder(Encoding::Type(dtype)).expect("an encoder")(values, Some(weights), &mut out).expect("encoded");
    out
}

#[test]
fn importance_of_each_tensor_is_its_own() {
    let model = model();
    let imatrix = model.imatrix().expect("weights").clone();
    let (_, file) = model_parts();
    let read = |at: u64, n: u64| -> Vec<f32> {
        file[at as usize..(at + n * 4) as usize]
            .chunks(4)
            .map(|b| f32::from_le_bytes(b.try_into().expect("4")))
            .collect()
    };
    for dtype in TYPES {
        let plan = plan(&model, &gguf(dtype));
        let made = run(&plan, &[&model], Budget::default()).expect("a run");
        for output in plan.outputs.iter().filter(|o| o.dtype == dtype) {
            let place = output.place.expect("a place");
            let got = &made.files[0][place.at as usize..(place.at + place.bytes) as usize];
            let entry = &imatrix.entries[output.name.as_str()];
            let values = values(&model, &output.name);
            let (cols, stack) = (output.grid.cols, entry.values / output.grid.cols);
            let each = values.len() / stack as usize;
            let mut want = Vec::new();
            for e in 0..stack {
                let (at, count) = entry.part(e, stack, cols).expect("a part");
                let part = &values[e as usize * each..(e as usize + 1) * each];
                want.extend(encoded(dtype, part, &means(&read(at, cols), count)));
            }
            assert!(got == want, "{dtype}: {}", output.name);
        }
        let taken = plan.outputs.iter().filter(|o| o.dtype == dtype).count();
        assert_eq!(taken, 3, "{dtype}");
    }
}

fn values(model: &MemoryModel, name: &str) -> Vec<f32> {
    let t = model.checkpoint.tensors.iter().find(|t| t.name == name).expect("a tensor");
    let mut out = vec![0.0; t.shape.numel() as usize];
    quantoscope_core::quant::decoder(t.dtype).expect("a decoder")(model.tensor(name), &mut out);
    out
}

#[test]
fn importance_in_any_budget_and_order_gives_equal_bytes() {
    let model = model();
    for dtype in TYPES {
        let plan = plan(&model, &gguf(dtype));
        let first = run(&plan, &[&model], Budget::default()).expect("a run");
        let told = report(&model, &plan, &first);
        for (seed, budget) in (1..).zip(budgets()) {
            let again = run_shuffled(&plan, &[&model], budget, Some(seed)).expect("a run");
            assert!(again.files == first.files, "{dtype} gives other bytes with {budget:?}");
            assert_eq!(report(&model, &plan, &again), told, "{dtype} with {budget:?}");
        }
    }
}

#[test]
fn importance_types_of_whole_rows_get_whole_rows() {
    let model = model();
    let small = Budget { memory: 300_000, workers: 1 };
    let widths = |dtype| -> Result<Vec<u64>, Code> {
        let plan = plan(&model, &gguf(dtype));
        let jobs = schedule(&plan, &small).map_err(|e| e.code())?;
        Ok(jobs.filter(|j| j.grid.cols == 33_280).map(|j| j.window.width()).collect())
    };
    assert_eq!(widths(DType::Q4_0), Err(Code::MemoryBudget), "one row does not fit");
    let cut = widths(DType::Q4_K).expect("columns can be cut");
    assert!(cut.len() > 2 && cut.iter().all(|w| *w < 33_280), "{cut:?}");
    // Without weights a row can be cut for both.
    let plain = convert::plan(&model.checkpoint, &gguf(DType::Q4_0), None, true).expect("a plan");
    assert!(schedule(&plain, &small).is_ok());
}

#[test]
fn importance_under_hugging_face_names_is_found() {
    let (ours, theirs) = (hugging_face(), model());
    let recipe = gguf(DType::Q4_K);
    let (a, b) = (plan(&ours, &recipe), plan(&theirs, &recipe));
    let (made, other) = (
        run(&a, &[&ours], Budget::default()).expect("a run"),
        run(&b, &[&theirs], Budget::default()).expect("a run"),
    );
    let bytes = |plan: &Plan, file: &[u8], name: &str| {
        let place = plan.outputs.iter().find(|o| o.name == name).expect("an output").place.expect("a place");
        file[place.at as usize..(place.at + place.bytes) as usize].to_vec()
    };
    let of = |name: &str| bytes(&a, &made.files[0], name);
    assert_eq!(
        of("model.layers.0.self_attn.v_proj.weight"),
        bytes(&b, &other.files[0], "blk.0.attn_v.weight")
    );
    let experts = (0..3).flat_map(|e| of(&format!("model.layers.0.mlp.experts.{e}.up_proj.weight")));
    assert_eq!(experts.collect::<Vec<u8>>(), bytes(&b, &other.files[0], "blk.0.ffn_up_exps.weight"));
}

#[test]
fn importance_used_and_unused_is_reported() {
    let model = model();
    let with = plan(&model, &gguf(DType::Q4_K));
    let told =
        |plan: &Plan, code: &str| plan.warnings.iter().find(|w| w.code == code).map(|w| w.message.clone());
    let importance =
        with.conversion.as_ref().and_then(|c| c.importance.clone()).expect("an importance matrix");
    assert_eq!((importance.entries, importance.used, importance.chunks), (4, 3, Some(7)));
    assert_eq!(importance.datasets, ["one.txt", "two.txt"]);
    assert!(told(&with, "importance_unmatched").expect("told").contains("blk.9.ffn_up.weight"));
    assert_eq!(told(&with, "importance_missing"), None, "embeddings have none, and need none");
    let none = plan(&model, &gguf(DType::Q8_0));
    assert!(told(&none, "importance_unused").is_some());
    assert_ne!(
        with.fingerprint(&[]),
        convert::plan(&model.checkpoint, &gguf(DType::Q4_K), None, true).expect("a plan").fingerprint(&[])
    );
    // A tensor that could use weights and has none.
    let rng = &mut Rng(1);
    let more = [
        Tensor::random("blk.0.attn_v.weight", DType::F32, &[2, 256], rng),
        Tensor::random("blk.0.attn_q.weight", DType::F32, &[2, 256], rng),
    ];
    let weights = imatrix(&[("blk.0.attn_v.weight", vec![vec![1.0; 256]], vec![1.0])]);
    let model = MemoryModel::safetensors(&more).weighted(weights);
    let plan = plan(&model, &gguf(DType::Q4_K));
    assert!(told(&plan, "importance_missing").expect("told").contains("blk.0.attn_q.weight"));
}

#[test]
fn importance_missing_where_required_is_refused_by_name() {
    let names = ["blk.0.attn_v.weight", "blk.0.attn_q.weight"];
    let tensors = names.map(|n| Tensor::random(n, DType::F32, &[2, 256], &mut Rng(1)));
    let weights = imatrix(&[(names[0], vec![vec![1.0; 256]], vec![1.0])]);
    let (plain, model) =
        (MemoryModel::safetensors(&tensors), MemoryModel::safetensors(&tensors).weighted(weights));
    for (model, tensor) in [(&plain, names[0]), (&model, names[1])] {
        let recipe = gguf(DType::IQ2_XS);
        let error = convert::plan(&model.checkpoint, &recipe, model.imatrix(), true).expect_err("refused");
        assert_eq!((error.code(), error.detail().tensor.as_deref()), (Code::NeedsImportance, Some(tensor)));
    }
    // What can be done without is done, and told.
    let plan = plan(&plain, &gguf(DType::IQ3_S));
    let poor = plan.warnings.iter().find(|w| w.code == "importance_wanted").expect("told");
    assert!(poor.message.contains(names[0]) && poor.message.contains(names[1]), "{}", poor.message);
    // So is the one preset that llama-quantize refuses though its types can be made.
    let told = |model: &MemoryModel, preset| {
        let plan = convert::plan(&model.checkpoint, &Recipe::of_preset(preset), model.imatrix(), true);
        let warnings = plan.expect("a plan").warnings;
        warnings.iter().any(|w| w.code == "importance_wanted" && w.message.contains("q2_k_s"))
    };
    assert!(told(&plain, Preset::Q2_K_S) && !told(&plain, Preset::Q2_K) && !told(&model, Preset::Q2_K_S));
    // A sweep goes without those that cannot, where it must.
    let types = [DType::IQ2_XS, DType::Q4_K].map(Encoding::Type);
    let sweep = measure::sweep(&model.checkpoint, &types, model.imatrix(), &|_| true).expect("a plan");
    assert_eq!(sweep.outputs.iter().map(|o| o.metrics.encodings.len()).collect::<Vec<_>>(), [2, 1]);
    assert!(sweep.warnings.iter().any(|w| w.code == "needs_importance"));
    assert!(run(&sweep, &[&model], Budget::default()).is_ok());
}

#[test]
fn importance_of_another_model_is_refused() {
    let tensor = Tensor::random("blk.0.attn_v.weight", DType::F32, &[2, 256], &mut Rng(1));
    let weights = imatrix(&[("blk.0.attn_v.weight", vec![vec![1.0; 512]], vec![1.0])]);
    let model = MemoryModel::safetensors(&[tensor]).weighted(weights);
    let error =
        convert::plan(&model.checkpoint, &gguf(DType::Q4_K), model.imatrix(), true).expect_err("refused");
    assert_eq!(error.code(), Code::SizeMismatch);
    assert_eq!(error.detail().tensor.as_deref(), Some("blk.0.attn_v.weight"));
    assert_eq!(error.detail().file.as_deref(), Some("imatrix.gguf"));
}

#[test]
fn importance_metadata_equals_llama_cpp() {
    let model = model();
    let plan = plan(&model, &Recipe::of_preset(Preset::Q4_K_M));
    let made =
        MemoryModel::file("o.gguf", run(&plan, &[&model], Budget::default()).expect("a run").files.remove(0));
    let metadata = made.expect("a sound file").checkpoint.metadata;
    assert_eq!(metadata.text("quantize.imatrix.file"), Some("imatrix.gguf"));
    assert_eq!(metadata.text("quantize.imatrix.dataset"), Some("one.txt"));
    assert_eq!(metadata.uint("quantize.imatrix.entries_count"), Some(4));
    assert_eq!(metadata.uint("quantize.imatrix.chunks_count"), Some(7));
    assert_eq!(metadata.uint("general.file_type"), Some(15));
}

#[test]
fn importance_in_sweeps_in_any_budget_is_equal() {
    let model = model();
    let types = [DType::Q4_0, DType::Q4_K, DType::Q8_0].map(Encoding::Type);
    let plan = measure::sweep(&model.checkpoint, &types, model.imatrix(), &|_| true).expect("a plan");
    let plain = measure::sweep(&model.checkpoint, &types, None, &|_| true).expect("a plan");
    let told = |plan: &Plan, seed, budget| {
        let made = run_shuffled(plan, &[&model], budget, seed).expect("a run");
        serde_json::to_string(&stats(plan, &made.collected, 0)).expect("JSON")
    };
    let first = told(&plan, None, Budget::default());
    for (seed, budget) in (1..).zip(budgets()) {
        assert_eq!(told(&plan, Some(seed), budget), first, "{budget:?}");
    }
    assert_ne!(first, told(&plain, None, Budget::default()), "the weights make a difference");
}

#[test]
fn importance_in_other_containers_is_ignored() {
    let model = model();
    for recipe in
        [Recipe::new(Container::Safetensors, Some(DType::F16)), Recipe::new(Container::LatticeQ4, None)]
    {
        let plan = plan(&model, &recipe);
        assert!(plan.outputs.iter().flat_map(|o| &o.segments).all(|p| p.importance.is_none()));
        assert!(plan.warnings.iter().any(|w| w.code == "importance_unused"));
    }
}
