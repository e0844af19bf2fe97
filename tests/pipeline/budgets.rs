//! Bytes and reports do not depend on memory, workers, windows or the order in which anything happens.

use crate::support::{gguf, make, plan, q4, recipes, remake, report};
use quantoscope_core::format::Container;
use quantoscope_core::format::limits::FIRST_READ;
use quantoscope_core::job::{self, Job, Workspace};
use quantoscope_core::kernels::Scalar;
use quantoscope_core::plan::{Plan, convert, measure};
use quantoscope_core::quant::Encoding;
use quantoscope_core::recipe::Recipe;
use quantoscope_core::report::stats;
use quantoscope_core::schedule::{Budget, schedule};
use quantoscope_core::{Code, DType};
use quantoscope_tests::memory::{MemoryModel, read, run, run_shuffled};
use quantoscope_tests::models::{Rng, Tensor, imatrix, llama};

/// A model with rows long enough to be cut, a vector, odd columns, an expert stack and an empty tensor.
fn model() -> MemoryModel {
    MemoryModel::safetensors(&tensors(7))
}

/// Its tensors: the same names and shapes for every seed, with other values.
fn tensors(seed: u64) -> Vec<Tensor> {
    let rng = &mut Rng(seed);
    let mut all = llama(DType::BF16, false, seed);
    all.push(Tensor::random("long.weight", DType::F32, &[3, 9984], rng));
    all.push(Tensor::random("odd.weight", DType::F16, &[37, 33], rng));
    all.push(Tensor::random("stack.experts.weight", DType::BF16, &[3, 32, 64], rng));
    all.push(Tensor::random("empty.weight", DType::F32, &[0, 64], rng));
    all.push(Tensor::random("hollow.weight", DType::F32, &[64, 0], rng));
    all.push(Tensor::random("scalar", DType::F32, &[], rng));
    all
}

/// From the default down to windows of a few hundred elements.
fn budgets() -> Vec<Budget> {
    let memory = [64 << 20, 1 << 20, 200_000, 65_000, 40_000];
    let mut all: Vec<Budget> = memory.iter().map(|&memory| Budget { memory, workers: 1 }).collect();
    all.extend([2, 3, 8].map(|workers| Budget { memory: 100_000 * u64::from(workers), workers }));
    all
}

#[test]
fn conversions_are_the_same_in_every_budget_and_order() {
    let world = model();
    for recipe in recipes() {
        let (plan, first) = make(&world, &recipe);
        let told = report(&world, &plan, &first);
        for (seed, budget) in (1..).zip(budgets()) {
            let again = run_shuffled(&plan, &[&world], budget, Some(seed)).expect("a run");
            assert!(again.files == first.files, "{recipe:?} gives other bytes with {budget:?}");
            assert_eq!(report(&world, &plan, &again), told, "{recipe:?} with {budget:?}");
        }
    }
}

/// Two files with equal headers and other values are planned alike, in every container, and a file is not read further
/// than the first block of its header, or the header.
#[test]
fn plans_depend_on_headers_only() {
    let (first, second) = (MemoryModel::safetensors(&tensors(7)), MemoryModel::safetensors(&tensors(8)));
    assert_ne!(first.tensor("long.weight"), second.tensor("long.weight"));
    for made in
        [gguf(DType::Q8_0), gguf(DType::Q4_0), q4(), Recipe::new(Container::Safetensors, Some(DType::F16))]
    {
        let (a, b) = (remake(&first, &made), remake(&second, &made));
        for world in [&a, &b] {
            for (name, wanted) in &world.wanted {
                let headers = world.header_end(name).max(FIRST_READ);
                assert!(wanted.end <= headers, "{wanted:?} of {name} was read to open it");
            }
        }
        let recipes = recipes().into_iter().map(|r| Recipe { allow_requantize: true, ..r });
        let plan =
            |world: &MemoryModel, recipe: &Recipe| convert::plan(&world.checkpoint, recipe, None, true);
        let mut planned = 0;
        for recipe in recipes {
            assert_eq!(plan(&a, &recipe), plan(&b, &recipe), "{recipe:?}");
            planned += u32::from(plan(&a, &recipe).is_ok());
        }
        assert!(planned > 10, "{planned} recipes could be planned");
    }
}

#[test]
fn fingerprints_depend_on_the_plan_and_the_salt() {
    let (world, renamed) = (model(), MemoryModel::safetensors(&renamed(tensors(7))));
    for recipe in recipes() {
        let fingerprint = |world: &MemoryModel, salt: &[u8]| plan(world, &recipe).fingerprint(salt);
        assert_eq!(fingerprint(&world, b"x"), fingerprint(&world, b"x"));
        assert_ne!(fingerprint(&world, b"x"), fingerprint(&world, b"y"), "the salt counts");
        assert_ne!(
            fingerprint(&world, b"x"),
            fingerprint(&renamed, b"x"),
            "a name of the same length counts"
        );
    }
}

fn renamed(mut all: Vec<Tensor>) -> Vec<Tensor> {
    let scalar = all.iter_mut().find(|t| t.name == "scalar").expect("the scalar");
    scalar.name = "sculpt".into();
    all
}

#[test]
fn every_recipe_has_its_own_fingerprint() {
    let world = model();
    let mut all: Vec<[u8; 32]> = recipes().iter().map(|r| plan(&world, r).fingerprint(&[])).collect();
    let n = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), n);
}

#[test]
fn statistics_and_sweeps_are_the_same_in_every_budget_and_order() {
    let world = model();
    let types = [
        Encoding::Type(DType::Q8_0),
        Encoding::Type(DType::Q4_1),
        Encoding::LatticeAsym,
        Encoding::LatticeSym,
    ];
    let sweep = measure::sweep(&world.checkpoint, &types, None, &|_| true).expect("a plan");
    let statistics = measure::stats(&world.checkpoint, &|_| true).expect("a plan");
    for plan in [sweep, statistics] {
        let told = |seed, budget| {
            let made = run_shuffled(&plan, &[&world], budget, seed).expect("a run");
            serde_json::to_string(&stats(&plan, &made.collected, 64)).expect("JSON")
        };
        let first = told(None, Budget::default());
        for (seed, budget) in (1..).zip(budgets()) {
            assert_eq!(told(Some(seed), budget), first, "{budget:?}");
        }
    }
}

/// The figures of a row cut into many windows equal those of the row in one piece, to the bit.
#[test]
fn rows_cut_by_columns_measure_as_whole_rows() {
    let long = Tensor::random("long.weight", DType::F32, &[2, 100_032], &mut Rng(1));
    let world = MemoryModel::safetensors(&[long]);
    let types = [Encoding::Type(DType::Q4_0), Encoding::LatticeAsym];
    let plan = measure::sweep(&world.checkpoint, &types, None, &|_| true).expect("a plan");
    let whole = run(&plan, &[&world], Budget { memory: 64 << 20, workers: 1 }).expect("a run");
    let cut = run(&plan, &[&world], Budget { memory: 40_000, workers: 1 }).expect("a run");
    assert_eq!(whole.jobs, 1);
    assert!(cut.jobs > 20, "{} windows", cut.jobs);
    let of = |made: &quantoscope_tests::memory::Made| format!("{:?}", stats(&plan, &made.collected, 64));
    assert_eq!(of(&whole), of(&cut));
}

#[test]
fn a_budget_below_the_smallest_window_is_refused_and_names_the_need() {
    let world =
        MemoryModel::safetensors(&[Tensor::random("odd.weight", DType::F32, &[64, 4097], &mut Rng(5))]);
    let plan = plan(&world, &crate::support::q4());
    let error = run(&plan, &[&world], Budget { memory: 4096, workers: 1 }).expect_err("too small");
    assert_eq!(error.code(), Code::MemoryBudget);
    assert_eq!(error.detail().tensor.as_deref(), Some("odd.weight"));
    let need =
        error.detail().message.split_whitespace().find_map(|w| w.parse::<u64>().ok()).expect("a number");
    assert!(run(&plan, &[&world], Budget { memory: need, workers: 1 }).is_ok(), "{need} bytes are enough");
    let error = run(&plan, &[&world], Budget { memory: need - 1, workers: 1 }).expect_err("a byte too few");
    assert_eq!(error.code(), Code::MemoryBudget);
}

/// What is read, and every buffer of the worker once the job is done: bytes, values, weights, the result.
#[test]
fn windows_stay_within_the_budget() {
    let plain = model();
    // Rows of queries and keys are put in another order, and weights are read beside the values.
    let permuted = remake(&MemoryModel::safetensors(&llama(DType::F32, false, 3)), &gguf(DType::F32));
    let name = "blk.0.ffn_up.weight";
    let weights = imatrix(&[(name, vec![Rng(1).weights(2048).iter().map(|w| w * w).collect()], vec![1.0])]);
    let weighted = MemoryModel::safetensors(&[Tensor::random(name, DType::F32, &[64, 2048], &mut Rng(2))])
        .weighted(weights);
    let mut fullest = 0.0_f64;
    for world in [&plain, &permuted, &weighted] {
        for recipe in recipes().into_iter().filter(|r| !r.pure) {
            let recipe = Recipe { allow_requantize: true, ..recipe };
            let Ok(plan) = convert::plan(&world.checkpoint, &recipe, world.imatrix(), true) else {
                continue;
            };
            // Large windows of a small model leave most of their budget.
            for budget in budgets().into_iter().filter(|b| (65_000..1 << 20).contains(&b.memory)) {
                let share = budget.memory / u64::from(budget.workers);
                let hold = |held: u64, job: &Job| {
                    assert!(held <= share, "{held} bytes in hand of {share}: {recipe:?} {job:?}");
                    fullest = fullest.max(held as f64 / share as f64);
                };
                held(&plan, world, budget, hold);
            }
        }
    }
    assert!(fullest > 0.5, "{fullest:.2} of a budget was used at most");
}

/// Runs every job with fresh buffers, and says what it held.
fn held(plan: &Plan, world: &MemoryModel, budget: Budget, mut said: impl FnMut(u64, &Job)) {
    for job in schedule(plan, &budget).expect("jobs") {
        let inputs: Vec<Vec<u8>> = job.reads.iter().map(|r| read(plan, &job, &[world], r)).collect();
        let slices: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        let mut scratch = Workspace::default();
        job::run(&Scalar, &job, &slices, &mut scratch).expect("a window");
        let read: u64 = inputs.iter().map(|i| i.len() as u64).sum();
        said(read + scratch.bytes_held(), &job);
    }
}

/// Rows whose blocks straddle must stay together by the dozen, and may be wider than the usual window.
#[test]
fn wide_rows_that_must_stay_together_fit_a_large_enough_budget() {
    let world =
        MemoryModel::safetensors(&[Tensor::random("wide.weight", DType::F32, &[33, 50_257], &mut Rng(6))]);
    let plan = plan(&world, &crate::support::q4());
    let error = run(&plan, &[&world], Budget { memory: 16 << 20, workers: 1 }).expect_err("too small");
    assert_eq!(error.code(), Code::MemoryBudget);
    assert!(run(&plan, &[&world], Budget { memory: 64 << 20, workers: 1 }).is_ok());
}
