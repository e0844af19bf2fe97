//! Samples of rows: what is measured of them is what is measured of these rows anywhere.

use quantoscope_core::plan::{Plan, measure, sample};
use quantoscope_core::quant::Encoding;
use quantoscope_core::report::{Sampled, StatsTensor, stats};
use quantoscope_core::schedule::Budget;
use quantoscope_core::{Code, DType};
use quantoscope_tests::memory::{MemoryModel, run_shuffled};
use quantoscope_tests::models::{Rng, Tensor, imatrix};
use serde_json::Value;

const TYPES: [Encoding; 5] = [
    Encoding::Type(DType::Q8_0),
    Encoding::Type(DType::Q4_0),
    Encoding::Type(DType::Q4_K),
    Encoding::LatticeAsym,
    Encoding::LatticeSym,
];

fn sweep(world: &MemoryModel, rows: Option<u64>) -> Plan {
    let mut plan = measure::sweep(&world.checkpoint, &TYPES, world.imatrix(), &|_| true).expect("a plan");
    rows.into_iter().for_each(|n| sample(&mut plan, n));
    plan
}

fn measured(world: &MemoryModel, plan: &Plan, budget: Budget, seed: Option<u64>) -> Vec<StatsTensor> {
    let made = run_shuffled(plan, &[world], budget, seed).expect("a run");
    stats(plan, &made.collected, 0).tensors
}

/// The figures, without what says which tensor they are of.
fn figures(tensor: &StatsTensor) -> Value {
    let mut json = serde_json::to_value(tensor).expect("JSON");
    for key in ["name", "shape", "numel", "sampled"] {
        json.as_object_mut().expect("an object").remove(key);
    }
    json
}

/// The rows of the tensor that output `index` measures, in order.
fn rows(plan: &Plan, index: usize) -> Vec<u64> {
    let runs =
        plan.outputs[index].segments.iter().map(|p| p.from.row..p.from.row + p.rows.end - p.rows.start);
    runs.flatten().collect()
}

/// A tensor of these rows of another.
fn picked(name: &str, source: &Tensor, rows: &[u64]) -> Tensor {
    let each = source.bytes.len() / source.shape[0] as usize;
    let bytes = rows.iter().flat_map(|&r| &source.bytes[r as usize * each..][..each]).copied().collect();
    Tensor::raw(name, source.dtype, &[rows.len() as u64, source.shape[1]], bytes)
}

/// Rows that are blocks, rows that share blocks with others, a stack, a vector, and what has no rows to choose from.
fn tensors() -> Vec<Tensor> {
    let rng = &mut Rng(23);
    vec![
        Tensor::random("even.weight", DType::BF16, &[300, 256], rng),
        Tensor::random("odd.weight", DType::F16, &[101, 33], rng),
        Tensor::random("short.weight", DType::F32, &[40, 64], rng),
        Tensor::random("stack.experts.weight", DType::F32, &[3, 30, 32], rng),
        Tensor::random("vector.weight", DType::F32, &[512], rng),
        Tensor::random("empty.weight", DType::F32, &[0, 64], rng),
        Tensor::random("hollow.weight", DType::F32, &[64, 0], rng),
    ]
}

#[test]
fn a_sample_measures_as_a_tensor_of_its_rows() {
    let tensors = tensors();
    let world = MemoryModel::safetensors(&tensors);
    for wanted in [2, 7, 40, 99] {
        let plan = sweep(&world, Some(wanted));
        let told = measured(&world, &plan, Budget::default(), None);
        for (index, source) in tensors.iter().enumerate().take(2) {
            let rows = rows(&plan, index);
            assert!(rows.is_sorted_by(|a, b| a < b));
            assert_eq!((rows[0], rows[rows.len() - 1]), (0, source.shape[0] - 1));
            let own = MemoryModel::safetensors(&[picked(&source.name, source, &rows)]);
            let expected = measured(&own, &sweep(&own, None), Budget::default(), None);
            assert_eq!(figures(&told[index]), figures(&expected[0]), "{} rows of {}", wanted, source.name);
            let (rows, of) = (rows.len() as u64, source.shape[0]);
            assert_eq!(told[index].sampled, (rows < of).then_some(Sampled { rows, of }));
        }
        assert_eq!(told[0].sampled, Some(Sampled { rows: wanted, of: 300 }));
    }
    // 33 columns: the flat blocks of 32 end with a row only every 32 rows.
    let odd = rows(&sweep(&world, Some(40)), 1);
    assert_eq!(odd, (0..32).chain(96..101).collect::<Vec<_>>());
}

#[test]
fn what_has_no_more_rows_is_whole() {
    let world = MemoryModel::safetensors(&tensors());
    let whole = sweep(&world, None);
    assert_eq!(sweep(&world, Some(300)), whole);
    let plan = sweep(&world, Some(40));
    assert_eq!(plan.outputs[2..3], whole.outputs[2..3]);
    assert_eq!(plan.outputs[4..6], whole.outputs[4..6]);
    let told = measured(&world, &plan, Budget::default(), None);
    assert!(told[2].sampled.is_none() && told[4].sampled.is_none() && told[5].sampled.is_none());
    assert_eq!(told[3].sampled, Some(Sampled { rows: 40, of: 90 }));
}

#[test]
fn samples_are_the_same_in_every_budget_and_order() {
    let world = MemoryModel::safetensors(&tensors());
    for wanted in [3, 50] {
        let plan = sweep(&world, Some(wanted));
        let told =
            |budget, seed| serde_json::to_string(&measured(&world, &plan, budget, seed)).expect("JSON");
        let first = told(Budget::default(), None);
        for (seed, memory, workers) in [(1, 1 << 20, 3), (2, 400_000, 1), (3, 100_000, 1), (4, 800_000, 8)] {
            assert_eq!(
                told(Budget { memory, workers }, Some(seed)),
                first,
                "{memory} bytes, {workers} workers"
            );
        }
    }
}

/// Every row of a stack keeps the weights of its own matrix.
#[test]
fn samples_of_stacks_keep_their_weights() {
    let rng = &mut Rng(29);
    let name = "blk.0.ffn_up_exps.weight";
    let stack = Tensor::random(name, DType::F32, &[3, 30, 256], rng);
    let sums = (0..3).map(|_| rng.weights(256).iter().map(|w| w * w * 1e4).collect()).collect();
    let weights = imatrix(&[(name, sums, vec![3.0, 2.0, 7.0])]);
    let world = MemoryModel::safetensors(&[stack]).weighted(weights);
    let (whole, plan) = (sweep(&world, None), sweep(&world, Some(20)));
    assert_eq!(whole.outputs[0].segments.len(), 3);
    let pieces = &plan.outputs[0].segments;
    assert_eq!(rows(&plan, 0).len(), 20);
    for piece in pieces {
        let last = piece.from.row + (piece.rows.end - piece.rows.start) - 1;
        assert_eq!(piece.from.row / 30, last / 30, "a piece of one matrix");
        assert_eq!(piece.importance, whole.outputs[0].segments[(piece.from.row / 30) as usize].importance);
    }
    let told = measured(&world, &plan, Budget::default(), None);
    let again = measured(&world, &plan, Budget { memory: 100_000, workers: 2 }, Some(5));
    assert_eq!(figures(&told[0]), figures(&again[0]));
    // And they count: without them the figures are others.
    let plain = MemoryModel::safetensors(&[Tensor::random(name, DType::F32, &[3, 30, 256], &mut Rng(29))]);
    let other = measured(&plain, &sweep(&plain, Some(20)), Budget::default(), None);
    assert_ne!(figures(&told[0]), figures(&other[0]));
}

#[test]
fn a_refusal_names_the_element_of_the_tensor() {
    let mut values = Rng(31).weights(100 * 256);
    values[99 * 256 + 5] = f32::INFINITY;
    let world = MemoryModel::safetensors(&[Tensor::of("a.weight", DType::F32, &[100, 256], &values)]);
    let refused = |rows| -> Vec<_> {
        let told = measured(&world, &sweep(&world, rows), Budget::default(), None);
        let refusals = told[0].encodings.iter().filter_map(|e| e.refused.as_ref());
        refusals.map(|e| (e.code(), e.detail().element)).collect()
    };
    let whole = refused(None);
    assert!(whole.contains(&(Code::NonFinite, Some(99 * 256 + 5))), "{whole:?}");
    assert_eq!(refused(Some(8)), whole);
}

/// A page measures a sample of a large tensor at first, and all of it on request.
#[test]
fn details_of_a_large_tensor_are_of_a_sample() {
    let world = |shape: &[u64]| {
        let bytes = vec![0; 2 * shape.iter().product::<u64>() as usize];
        MemoryModel::safetensors(&[Tensor::raw("a.weight", DType::BF16, shape, bytes)])
    };
    let rows = |shape: &[u64], all_rows: bool| {
        let checkpoint = world(shape).checkpoint;
        let encodings = measure::tensor_encodings(&checkpoint, 0).expect("tensor 0");
        let values = measure::tensor_values(&checkpoint, 0, all_rows).expect("a plan");
        let errors = measure::tensor_errors(&checkpoint, 0, &encodings, all_rows).expect("a plan");
        let ([values], [errors]) = (values.outputs.as_slice(), errors.outputs.as_slice()) else {
            panic!("one output each")
        };
        assert!(values.metrics.moments && values.metrics.histogram && values.metrics.encodings.is_empty());
        assert!(!errors.metrics.moments && errors.metrics.encodings.len() == encodings.len());
        assert_eq!(values.grid.rows, errors.grid.rows);
        values.grid.rows
    };
    assert_eq!(rows(&[4096, 1024], false), 4096, "not large");
    assert_eq!(rows(&[4097, 1024], false), 4096);
    assert_eq!(rows(&[4097, 1024], true), 4097);
    assert_eq!(rows(&[3, (4 << 20) + 256], false), 1, "a row is the least");
    assert!(measure::tensor_values(&world(&[32]).checkpoint, 1, false).is_err());
}

#[test]
fn encodings_of_a_tensor_are_those_of_a_sweep_that_divide_its_rows() {
    let of = |cols: u64| {
        let world =
            MemoryModel::safetensors(&[Tensor::raw("a", DType::F32, &[cols], vec![0; 4 * cols as usize])]);
        measure::tensor_encodings(&world.checkpoint, 0).expect("tensor 0")
    };
    let all = of(1024);
    assert_eq!(all.len(), measure::sweep_encodings().len());
    assert!(all.is_sorted_by_key(|e| e.searches()), "those with a search come last");
    assert!(
        of(32).iter().all(|e| e.dtype().is_flat() || e.dtype().block_len() <= 32) && of(32).len() < all.len()
    );
}
