//! APR checkpoints: native types by value, without loss where blocks fit, and packed in every window.

use crate::support::{compare, gguf, make, remake, verify};
use quantoscope_core::format::Container;
use quantoscope_core::plan::{convert, measure};
use quantoscope_core::quant::Encoding;
use quantoscope_core::recipe::Recipe;
use quantoscope_core::schedule::{Budget, schedule};
use quantoscope_core::{Code, DType};
use quantoscope_tests::apr::{AprFile, AprTensor, decode_q4, decode_q8};
use quantoscope_tests::memory::{MemoryModel, run};
use quantoscope_tests::models::{Rng, Tensor};

/// q4 with rows of whole blocks and of others, q8, a bias, and blocks of small weights, which one of aprender's readers
/// turns to zeros.
fn tensors() -> Vec<AprTensor> {
    let rng = &mut Rng(16);
    let small: Vec<f32> = rng.weights(64 * 32).iter().map(|w| w * 1e-3).collect();
    vec![
        AprTensor::q4("model.layers.0.mlp.down_proj.weight", &[48, 64], &rng.weights(48 * 64)),
        AprTensor::q4("model.layers.0.mlp.up_proj.weight", &[64, 33], &rng.weights(64 * 33)),
        AprTensor::q4("model.layers.1.mlp.up_proj.weight", &[64, 32], &small),
        AprTensor::q8("model.layers.0.mlp.gate_proj.weight", &[33, 64], &rng.weights(33 * 64)),
        AprTensor::f32("model.norm.weight", &[64], &rng.weights(64)),
    ]
}

fn apr(tensors: Vec<AprTensor>) -> MemoryModel {
    MemoryModel::file("m.apr", AprFile::of(tensors).bytes()).expect("a sound file")
}

/// The same values as F32.
fn decoded(tensors: &[AprTensor]) -> MemoryModel {
    let values = |t: &AprTensor| match t.byte {
        quantoscope_tests::apr::Q4 => decode_q4(&t.payload, t.shape.iter().product::<u64>() as usize),
        quantoscope_tests::apr::Q8 => decode_q8(&t.payload),
        _ => t.payload.chunks(4).map(|b| f32::from_le_bytes(b.try_into().expect("four bytes"))).collect(),
    };
    let all: Vec<Tensor> =
        tensors.iter().map(|t| Tensor::of(&t.name, DType::F32, &t.shape, &values(t))).collect();
    MemoryModel::safetensors(&all)
}

#[test]
fn apr_values_equal_those_of_the_description() {
    let (packed, plain) = (apr(tensors()), decoded(&tensors()));
    for (a, b) in [(&packed, &plain), (&plain, &packed)] {
        crate::support::assert_equal(&compare(a, b), 5);
    }
}

#[test]
fn apr_statistics_and_errors_equal_those_of_decoded_values() {
    let types = [Encoding::Type(DType::Q8_0), Encoding::Type(DType::Q4_0), Encoding::LatticeAsym];
    let figures = |model: &MemoryModel, sample: Option<u64>| {
        let mut plan = measure::sweep(&model.checkpoint, &types, None, &|_| true).expect("a plan");
        if let Some(rows) = sample {
            quantoscope_core::plan::sample(&mut plan, rows);
        }
        // Windows of a few rows: the scale of q8 is that of the tensor in each of them.
        let budget = Budget { memory: 40_000, workers: 1 };
        let made = run(&plan, &[model], budget).expect("a run");
        let mut all: Vec<String> = plan
            .outputs
            .iter()
            .enumerate()
            .map(|(i, o)| format!("{} {:?}", o.name, made.collected.output(i)))
            .collect();
        all.sort();
        all
    };
    for sample in [None, Some(4)] {
        assert_eq!(figures(&apr(tensors()), sample), figures(&decoded(&tensors()), sample));
    }
}

#[test]
fn apr_q4_becomes_q4_0_without_loss() {
    for allow_requantize in [false, true] {
        let source = apr(tensors()
            .into_iter()
            .filter(|t| t.name.contains("down") || t.name.contains("1.mlp"))
            .collect());
        let recipe = Recipe { allow_requantize, ..gguf(DType::Q4_0) };
        let made = remake(&source, &recipe);
        crate::support::assert_equal(&compare(&source, &made), 2);
        assert!(made.checkpoint.tensors.iter().all(|t| t.dtype == DType::Q4_0));
        assert!(verify(&source, &made).verified);
    }
}

#[test]
fn apr_types_that_need_rounding_are_refused_unless_it_is_asked_for() {
    for (name, to) in [("up_proj", DType::Q8_0), ("gate_proj", DType::Q4_0), ("down_proj", DType::Q4_K)] {
        let shape = if name == "up_proj" { [64, 32] } else { [33, 256] };
        let values = Rng(3).weights(shape[0] * shape[1]);
        let name = format!("model.layers.0.mlp.{name}.weight");
        let tensor = if name.contains("gate") {
            AprTensor::q8(&name, &shape, &values)
        } else {
            AprTensor::q4(&name, &shape, &values)
        };
        let source = apr(vec![tensor.clone()]);
        let error = convert::plan(&source.checkpoint, &gguf(to), None, false).expect_err("refused");
        assert_eq!(error.code(), Code::Requantize);
        let recipe = Recipe { allow_requantize: true, ..gguf(to) };
        let (packed, plain) = (remake(&source, &recipe), remake(&decoded(&[tensor]), &gguf(to)));
        assert_eq!(packed.tensor(&name), plain.tensor(&name), "encoded from the same values");
    }
}

/// GPT-2 stores its matrices as `[in, out]`; they are no exception: windows hold packed bytes, a part at a time.
#[test]
fn apr_windows_read_packed_bytes_within_the_budget() {
    let values = Rng(5).weights(256 * 768);
    let q4 = AprTensor::q4("h.0.attn.c_attn.weight", &[256, 768], &values);
    let q8 = AprTensor::q8("h.0.mlp.c_fc.weight", &[256, 768], &values);
    let (stored, of_q8) = (q4.payload.len() as u64, q8.payload.len() as u64);
    let source = apr(vec![q4, q8]);
    let lengths: Vec<u64> = source.checkpoint.tensors.iter().map(|t| t.bytes.len()).collect();
    assert_eq!(lengths, [256 * 768 / 32 * 18, 4 + 256 * 768], "as stored, not four bytes for each weight");
    let recipe = Recipe { allow_requantize: true, ..gguf(DType::Q8_0) };
    let plan = convert::plan(&source.checkpoint, &recipe, None, false).expect("a plan");
    let budget = Budget { memory: 256 << 10, workers: 1 };
    let jobs: Vec<_> = schedule(&plan, &budget).expect("windows").collect();
    let read = |output: u32| -> u64 {
        let of = jobs.iter().filter(|j| j.output == output);
        of.flat_map(|j| &j.reads).map(|r| r.region.len()).sum()
    };
    let windows = jobs.iter().filter(|j| j.output == 1).count() as u64;
    assert!(windows > 2 && jobs.iter().all(|j| j.window.height() * j.window.width() * 4 <= 256 << 10));
    assert_eq!((read(0), read(1)), (stored, of_q8 - 4 + 4 * windows), "each window reads the scale again");
    let whole = make(&source, &recipe).1.files;
    assert_eq!(
        run(&plan, &[&source], budget).expect("a run").files[0],
        whole[0],
        "the window changes no byte"
    );
}

#[test]
fn apr_floats_are_copied_to_safetensors() {
    let source = apr(vec![AprTensor::f32("model.norm.weight", &[8], &[0.5; 8])]);
    let made = remake(&source, &Recipe::new(Container::Safetensors, Some(DType::F32)));
    crate::support::assert_equal(&compare(&source, &made), 1);
}
