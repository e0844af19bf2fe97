//! Lattice directories: names, collisions, pairing without an index, lossless transcodes.

use crate::support::{assert_equal, compare, gguf, make, q4, remake, reopen, verify};
use quantoscope_core::format::Container;
use quantoscope_core::plan::convert;
use quantoscope_core::recipe::{Q4Scheme, Recipe};
use quantoscope_core::schedule::Budget;
use quantoscope_core::{Code, DType};
use quantoscope_tests::memory::{MemoryModel, run};
use quantoscope_tests::models::{CONFIG, Rng, Tensor, llama, safetensors};
use sha2::Digest;
use std::collections::BTreeMap;

fn tag(name: &str) -> String {
    sha2::Sha256::digest(name).iter().take(8).map(|b| format!("{b:02x}")).collect()
}

fn colliding() -> MemoryModel {
    let rng = &mut Rng(4);
    let weights = ["a.b.weight", "a_b.weight", "A.b.weight", "a.B.weight", "ä.b.weight"];
    let mut all: Vec<Tensor> =
        weights.iter().map(|n| Tensor::random(n, DType::F32, &[32, 64], rng)).collect();
    // The second has the very file name that the third is given to tell it from the first.
    for name in ["x.y", &format!("x.y__{}", tag("x_y")), "x_y"] {
        all.push(Tensor::random(name, DType::F32, &[64], rng));
    }
    MemoryModel::safetensors(&all)
}

#[test]
fn names_that_collide_get_files_of_their_own() {
    let world = colliding();
    let (plan, made) = make(&world, &q4());
    let mut names: Vec<String> = plan.files.iter().map(|f| f.name.to_lowercase()).collect();
    let n = names.len();
    names.sort();
    names.dedup();
    assert_eq!(
        names.len(),
        n,
        "one file twice: {:?}",
        plan.files.iter().map(|f| &f.name).collect::<Vec<_>>()
    );
    let again = reopen(&plan, &made);
    assert_eq!(again.checkpoint.tensors.len(), world.checkpoint.tensors.len());
    let report = verify(&world, &again);
    assert!(report.verified, "{:?}", report.findings);
}

#[test]
fn long_names_get_short_files() {
    let name = format!("{}.weight", "layer.".repeat(60));
    let world = MemoryModel::safetensors(&[Tensor::random(&name, DType::F32, &[32, 64], &mut Rng(1))]);
    let (plan, made) = make(&world, &q4());
    assert!(plan.files.iter().all(|f| f.name.len() <= 255));
    assert!(verify(&world, &reopen(&plan, &made)).verified);
}

/// Loose `.q4` files have lost their names; what is left of them still pairs.
#[test]
fn a_directory_without_index_pairs_by_sanitised_names() {
    let world = MemoryModel::safetensors(&llama(DType::BF16, false, 6));
    let (plan, made) = make(&world, &q4());
    let files = plan.files.iter().map(|f| f.name.clone()).zip(made.files.iter().cloned());
    let loose: BTreeMap<String, Vec<u8>> = files.filter(|(n, _)| n != "quantize_index.json").collect();
    let loose = MemoryModel::directory(loose).expect("loose files");
    assert!(loose.checkpoint.q4_index.is_none());
    for (a, b) in [(&world, &loose), (&loose, &world)] {
        let report = compare(a, b);
        assert_eq!(report.findings, []);
        assert_eq!(report.tensors.len(), world.checkpoint.tensors.len());
        assert!(report.tensors.iter().all(|r| r.error.cosine.unwrap() > 0.98));
    }
    assert!(verify(&world, &loose).verified);
}

#[test]
fn norms_routers_and_kernels_are_never_4_bit() {
    let rng = &mut Rng(8);
    let kept = [
        "visual.blocks.0.norm1.weight",
        "ln_f.weight",
        "mlp.gate.weight",
        "pos_embed.weight",
        "conv1d.weight",
    ];
    let mut all: Vec<Tensor> = kept.iter().map(|n| Tensor::random(n, DType::BF16, &[64, 64], rng)).collect();
    all.push(Tensor::random("fc.weight", DType::BF16, &[64], rng));
    all.push(Tensor::random("A_log", DType::F32, &[64], rng));
    all.push(Tensor::random("mlp.experts.gate_up_proj", DType::BF16, &[2, 64, 64], rng));
    all.push(Tensor::random("embed_tokens.weight", DType::BF16, &[64, 64], rng));
    let (plan, _) = make(&MemoryModel::safetensors(&all), &q4());
    for output in &plan.outputs {
        let four = ["mlp.experts.gate_up_proj", "embed_tokens.weight"].contains(&output.name.as_str());
        assert_eq!(output.dtype == DType::LATTICE_Q4, four, "{}", output.name);
        assert!(four || output.dtype == DType::F16, "{}", output.name);
        println!("{} {}", output.name, output.reason.code);
    }
}

#[test]
fn the_index_and_the_configuration_are_written() {
    let files = [
        ("model.safetensors".to_string(), safetensors(&llama(DType::BF16, true, 1))),
        ("config.json".to_string(), CONFIG.into()),
    ];
    let world = MemoryModel::directory(files.into()).expect("a directory");
    let (plan, made) = make(&world, &q4());
    let of = |name: &str| plan.files.iter().position(|f| f.name == name).map(|i| &made.files[i]);
    assert_eq!(of("config.json").map(Vec::as_slice), Some(CONFIG.as_bytes()), "copied verbatim");
    let index: serde_json::Value = serde_json::from_slice(of("quantize_index.json").unwrap()).expect("JSON");
    let entries = index.as_array().expect("a bare array");
    let names: Vec<&str> = entries.iter().map(|e| e["name"].as_str().unwrap()).collect();
    assert!(names.is_sorted());
    assert_eq!(names.len(), world.checkpoint.tensors.len());
    for e in entries {
        let file = of(e["file"].as_str().unwrap()).expect("the file that it names");
        let (quantized, numel) = (e["quantized"].as_bool().unwrap(), e["numel"].as_u64().unwrap());
        let ndim = e["shape"].as_array().unwrap().len() as u64;
        let payload = if quantized { numel.div_ceil(32) * 20 } else { numel * 2 };
        assert_eq!(file.len() as u64, 20 + 8 * ndim + payload);
    }
}

/// Weights with every kind of block: ordinary, constant, zero, tiny, far from zero.
fn blocks(dtype: DType) -> MemoryModel {
    let mut values = Rng(9).weights(64 * 64);
    values[..32].fill(0.0);
    values[32..64].fill(0.25);
    values[64..96].iter_mut().for_each(|v| *v *= 1e-7);
    values[128..160].iter_mut().for_each(|v| *v += 900.0);
    MemoryModel::safetensors(&[Tensor::of("a.weight", dtype, &[64, 64], &values)])
}

#[test]
fn lattice_to_q4_1_and_back_loses_nothing() {
    let source = blocks(DType::F32);
    let lattice = remake(&source, &q4());
    let ggml = remake(&lattice, &gguf(DType::Q4_1));
    assert_eq!(ggml.checkpoint.tensors[0].dtype, DType::Q4_1);
    assert_equal(&compare(&lattice, &ggml), 1);
    let back = remake(&ggml, &q4());
    assert_eq!(back.tensor("a.weight"), lattice.tensor("a.weight"), "byte for byte");
    let report = verify(&lattice, &ggml);
    assert!(report.verified, "a transcode is what its source makes: {:?}", report.tensors);
    let report = verify(&ggml, &back);
    assert!(report.verified, "and back: {:?}", report.tensors);
}

#[test]
fn q4_1_to_lattice_keeps_every_value() {
    let source = blocks(DType::F32);
    let ggml = remake(&source, &gguf(DType::Q4_1));
    let lattice = remake(&ggml, &q4());
    assert_eq!(lattice.checkpoint.tensors[0].dtype, DType::LATTICE_Q4);
    assert_equal(&compare(&ggml, &lattice), 1);
    let report = verify(&ggml, &lattice);
    assert!(report.verified, "{:?}", report.tensors);
}

#[test]
fn symmetric_lattice_to_q4_0_is_exact_or_refused() {
    let world = MemoryModel::safetensors(&[Tensor::random("a.weight", DType::F32, &[64, 64], &mut Rng(2))]);
    let sym = Recipe { q4_scheme: Q4Scheme::Sym, ..q4() };
    let lattice = remake(&world, &sym);
    let ggml = remake(&lattice, &gguf(DType::Q4_0));
    assert_equal(&compare(&lattice, &ggml), 1);
    assert!(verify(&lattice, &ggml).verified);
    let asym = remake(&world, &q4());
    let plan = convert::plan(&asym.checkpoint, &gguf(DType::Q4_0), None, true).expect("a plan");
    let error = run(&plan, &[&asym], Budget::default()).expect_err("not exact");
    assert_eq!((error.code(), error.detail().element), (Code::NotExact, Some(0)));
}

#[test]
fn blocks_run_over_the_flattened_tensor() {
    let world = MemoryModel::safetensors(&[Tensor::random("a.weight", DType::F32, &[7, 33], &mut Rng(2))]);
    let lattice = remake(&world, &Recipe::new(Container::LatticeQ4, None));
    assert_eq!(lattice.tensor("a.weight").len() as u64, (7_u64 * 33).div_ceil(32) * 20);
    assert!(verify(&world, &lattice).verified);
    // Such rows are no rows of Q4_1 blocks, so there is no transcode, and no silent requantizing either.
    let error = convert::plan(&lattice.checkpoint, &gguf(DType::Q4_1), None, true).expect_err("refused");
    assert_eq!((error.code(), error.detail().tensor.as_deref()), (Code::Requantize, Some("a.weight")));
}

/// Q4_1 becomes lattice blocks by transcoding or, asked for the symmetric form, by encoding again: both are verified.
#[test]
fn both_ways_from_q4_1_are_verified() {
    let source = remake(&MemoryModel::safetensors(&llama(DType::F32, false, 77)), &gguf(DType::Q4_1));
    for scheme in [Q4Scheme::Asym, Q4Scheme::Sym] {
        let recipe = Recipe { q4_scheme: scheme, allow_requantize: true, ..q4() };
        let report = verify(&source, &remake(&source, &recipe));
        assert!(report.verified, "{scheme:?}: {report:?}");
    }
    // Blocks with a minimum of their own are no Q4_0 blocks; symmetric ones are.
    for scheme in [Q4Scheme::Asym, Q4Scheme::Sym] {
        let lattice = remake(
            &MemoryModel::safetensors(&llama(DType::F32, false, 78)),
            &Recipe { q4_scheme: scheme, ..q4() },
        );
        let recipe = Recipe { allow_requantize: true, ..gguf(DType::Q4_0) };
        assert!(verify(&lattice, &remake(&lattice, &recipe)).verified, "{scheme:?}");
    }
}
