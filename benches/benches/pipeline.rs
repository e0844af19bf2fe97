//! Whole jobs in memory, one thread: GB/s of source bytes through decode, encode and (where asked) measure.
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
use quantoscope_core::schedule::{Budget, schedule};
use quantoscope_tests::memory::MemoryModel;
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
    let world = MemoryModel::directory(files).expect("a sound model");
    let recipe = |dtype| Recipe::new(Container::Gguf, Some(dtype));
    let mut plans = Vec::new();
    for dtype in [DType::Q8_0, DType::Q4_0] {
        for measured in [false, true] {
            let plan = convert::plan(&world.checkpoint, &recipe(dtype), None, measured).expect("a plan");
            plans.push((format!("quantize {dtype}{}", if measured { ", measured" } else { "" }), plan));
        }
    }
    plans.push(("stats".into(), measure::stats(&world.checkpoint, &|t| t.name == MODEL).expect("a plan")));
    let every = measure::sweep_encodings();
    plans.push((
        "sweep".into(),
        measure::sweep(&world.checkpoint, &every, None, &|t| t.name == MODEL).expect("a plan"),
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

criterion_group! {
    name = pipeline;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(300));
    targets = jobs
}
criterion_main!(pipeline);
