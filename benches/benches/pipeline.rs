//! Whole jobs in memory on one thread, in GB/s of source bytes: decode, encode and optionally measure; and rotations of a
//! layer of Llama 3.2 1B written as F32, under each version of the rules.
//!
//! `cargo bench -p quantoscope-benches --bench pipeline`
#![allow(missing_docs)] // criterion_group! makes a public function without any

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quantoscope_accel::SimdLevel;
use quantoscope_core::DType;
use quantoscope_core::format::Container;
use quantoscope_core::job::{Job, Workspace, run};
use quantoscope_core::plan::{convert, measure};
use quantoscope_core::recipe::Recipe;
use quantoscope_core::recipe::rotation::{RotationOptions, SEED};
use quantoscope_core::schedule::{Budget, schedule};
use quantoscope_tests::memory::{MemoryModel, read};
use quantoscope_tests::models::{Rng, Tensor, safetensors};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

const MODEL: &str = "model.layers.0.mlp.down_proj.weight";

/// The jobs of a plan on one tensor of the sample model, with the bytes that they read.
fn work(plan: &quantoscope_core::plan::Plan, file: &[u8]) -> Vec<(Job, Vec<u8>)> {
    let jobs = schedule(plan, &Budget::default()).expect("a plan that fits");
    let jobs = jobs.filter(|job| plan.outputs[job.output as usize].name == MODEL);
    jobs.map(|job| {
        let runs = job.reads[0].region.runs();
        let bytes = runs.flat_map(|(at, n)| file[at as usize..(at + n) as usize].to_vec()).collect();
        (job, bytes)
    })
    .collect()
}

fn jobs(c: &mut Criterion) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../www/sample/model.safetensors");
    let file = std::fs::read(path).expect("the sample model");
    let files: BTreeMap<_, _> = [("model.safetensors".to_string(), file.clone())].into();
    let model = MemoryModel::directory(files).expect("a sound model");
    let recipe = |dtype| Recipe::new(Container::Gguf, Some(dtype));
    let mut plans = Vec::new();
    for dtype in [DType::Q8_0, DType::Q4_0] {
        for measured in [false, true] {
            let plan = convert::plan(&model.checkpoint, &recipe(dtype), None, measured).expect("a plan");
            plans.push((format!("quantize {dtype}{}", if measured { ", measured" } else { "" }), plan));
        }
    }
    plans.push(("stats".into(), measure::stats(&model.checkpoint, &|t| t.name == MODEL).expect("a plan")));
    let every = measure::sweep_encodings();
    plans.push((
        "sweep".into(),
        measure::sweep(&model.checkpoint, &every, None, &|t| t.name == MODEL).expect("a plan"),
    ));
    let mut group = c.benchmark_group("job");
    for (name, plan) in &plans {
        let work = work(plan, &file);
        group.throughput(Throughput::Bytes(work.iter().map(|(_, b)| b.len() as u64).sum()));
        let mut scratch = Workspace::default();
        for level in SimdLevel::available() {
            group.bench_function(format!("{name}, {}", level.name()), |b| {
                b.iter(|| {
                    for (job, bytes) in &work {
                        run(level.kernels(), job, &[black_box(bytes)], &mut scratch).expect("sound values");
                    }
                });
            });
        }
    }
    group.finish();
}

/// One layer with the widths of Llama 3.2 1B, a small vocabulary, random weights.
fn layer(dtype: DType) -> MemoryModel {
    let (hidden, wide, keys, vocabulary) = (2048, 8192, 512, 256);
    let config = format!(
        r#"{{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":{hidden},"intermediate_size":{wide},
        "num_attention_heads":32,"num_key_value_heads":8,"num_hidden_layers":1,"vocab_size":{vocabulary},
        "rms_norm_eps":1e-5,"tie_word_embeddings":false}}"#
    );
    let mut rng = Rng(7);
    let mut tensors = Vec::new();
    for (name, shape) in [
        ("model.embed_tokens.weight", vec![vocabulary, hidden]),
        ("model.layers.0.input_layernorm.weight", vec![hidden]),
        ("model.layers.0.mlp.down_proj.weight", vec![hidden, wide]),
        ("model.layers.0.mlp.gate_proj.weight", vec![wide, hidden]),
        ("model.layers.0.mlp.up_proj.weight", vec![wide, hidden]),
        ("model.layers.0.post_attention_layernorm.weight", vec![hidden]),
        ("model.layers.0.self_attn.k_proj.weight", vec![keys, hidden]),
        ("model.layers.0.self_attn.o_proj.weight", vec![hidden, hidden]),
        ("model.layers.0.self_attn.q_proj.weight", vec![hidden, hidden]),
        ("model.layers.0.self_attn.v_proj.weight", vec![keys, hidden]),
        ("model.norm.weight", vec![hidden]),
        ("lm_head.weight", vec![vocabulary, hidden]),
    ] {
        tensors.push(Tensor::random(name, dtype, &shape, &mut rng));
    }
    let files = [("config.json", config.into_bytes()), ("model.safetensors", safetensors(&tensors))];
    MemoryModel::folder(files.into_iter().map(|(name, bytes)| (name.into(), bytes)).collect())
        .expect("a sound model")
}

fn rotations(c: &mut Criterion) {
    let mut group = c.benchmark_group("rotate");
    group.sample_size(10);
    for source in [DType::BF16, DType::F32] {
        let model = layer(source);
        for rules in [1, 2] {
            let options =
                RotationOptions { rules, ..RotationOptions::parse("quarot", SEED).expect("a rotation") };
            let recipe =
                Recipe { rotate: Some(options), ..Recipe::new(Container::Safetensors, Some(DType::F32)) };
            let plan = convert::plan(&model.checkpoint, &recipe, None, false).expect("a plan");
            let jobs: Vec<Job> = schedule(&plan, &Budget::default()).expect("a plan that fits").collect();
            let work: Vec<(&Job, Vec<Vec<u8>>)> = jobs
                .iter()
                .map(|job| (job, job.reads.iter().map(|r| read(&plan, job, &[&model], r)).collect()))
                .collect();
            group.throughput(Throughput::Bytes(
                work.iter().flat_map(|(_, reads)| reads).map(|b| b.len() as u64).sum(),
            ));
            let mut scratch = Workspace::default();
            for level in SimdLevel::available() {
                group.bench_function(format!("{source} to F32, rules {rules}, {}", level.name()), |b| {
                    b.iter(|| {
                        for (job, reads) in &work {
                            let reads: Vec<&[u8]> = reads.iter().map(Vec::as_slice).collect();
                            run(level.kernels(), job, black_box(&reads), &mut scratch).expect("sound values");
                        }
                    });
                });
            }
        }
    }
    group.finish();
}

criterion_group! {
    name = pipeline;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(300));
    targets = jobs, rotations
}
criterion_main!(pipeline);
