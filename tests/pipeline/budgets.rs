//! Bytes and reports do not depend on memory, workers, windows or the order in which anything happens.

use crate::support::{make, plan, recipes, report};
use quantoscope_core::plan::measure;
use quantoscope_core::quant::Encoding;
use quantoscope_core::report::stats;
use quantoscope_core::schedule::Budget;
use quantoscope_core::{Code, DType};
use quantoscope_tests::memory::{World, run, run_shuffled};
use quantoscope_tests::models::{Rng, Tensor, llama};

/// A model with rows long enough to be cut, a vector, odd columns, an expert stack and an empty tensor.
fn model() -> World {
    let rng = &mut Rng(7);
    let mut all = llama(DType::BF16, false, 3);
    all.push(Tensor::random("long.weight", DType::F32, &[3, 9984], rng));
    all.push(Tensor::random("odd.weight", DType::F16, &[37, 33], rng));
    all.push(Tensor::random("stack.experts.weight", DType::BF16, &[3, 32, 64], rng));
    all.push(Tensor::random("empty.weight", DType::F32, &[0, 64], rng));
    all.push(Tensor::random("hollow.weight", DType::F32, &[64, 0], rng));
    all.push(Tensor::random("scalar", DType::F32, &[], rng));
    World::safetensors(&all)
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

#[test]
fn plans_are_made_of_headers_only() {
    let world = model();
    for recipe in recipes() {
        let (once, again) = (plan(&world, &recipe), plan(&world, &recipe));
        assert_eq!(once, again);
        assert_eq!(once.fingerprint(b"x"), again.fingerprint(b"x"));
        assert_ne!(once.fingerprint(b"x"), again.fingerprint(b"y"), "the salt counts");
    }
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
    let sweep = measure::sweep(&world.checkpoint, &types, &|_| true).expect("a plan");
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
    let world = World::safetensors(&[long]);
    let types = [Encoding::Type(DType::Q4_0), Encoding::LatticeAsym];
    let plan = measure::sweep(&world.checkpoint, &types, &|_| true).expect("a plan");
    let whole = run(&plan, &[&world], Budget { memory: 64 << 20, workers: 1 }).expect("a run");
    let cut = run(&plan, &[&world], Budget { memory: 40_000, workers: 1 }).expect("a run");
    assert_eq!(whole.jobs, 1);
    assert!(cut.jobs > 20, "{} windows", cut.jobs);
    let of = |made: &quantoscope_tests::memory::Made| format!("{:?}", stats(&plan, &made.collected, 64));
    assert_eq!(of(&whole), of(&cut));
}

#[test]
fn a_budget_below_the_smallest_window_is_refused_and_names_the_need() {
    let world = World::safetensors(&[Tensor::random("odd.weight", DType::F32, &[64, 4097], &mut Rng(5))]);
    let plan = plan(&world, &crate::support::q4());
    let error = run(&plan, &[&world], Budget { memory: 4096, workers: 1 }).expect_err("too small");
    assert_eq!(error.code(), Code::MemoryBudget);
    assert_eq!(error.detail().tensor.as_deref(), Some("odd.weight"));
    let need =
        error.detail().message.split_whitespace().find_map(|w| w.parse::<u64>().ok()).expect("a number");
    assert!(run(&plan, &[&world], Budget { memory: need, workers: 1 }).is_ok(), "{need} bytes are enough");
    assert!(run(&plan, &[&world], Budget { memory: need - 1000, workers: 1 }).is_err());
}

#[test]
fn windows_stay_within_the_budget() {
    let world = model();
    for recipe in recipes() {
        let plan = plan(&world, &recipe);
        for budget in budgets() {
            for job in quantoscope_core::schedule::schedule(&plan, &budget).expect("jobs") {
                let held: u64 = job.reads.iter().map(|r| r.region.len()).sum::<u64>()
                    + job.write.as_ref().map_or(0, |w| w.region.len());
                let share = budget.memory / u64::from(budget.workers);
                assert!(held <= share, "{held} bytes in hand of {share}: {job:?}");
            }
        }
    }
}

/// Rows whose blocks straddle must stay together by the dozen, and may be wider than the usual window.
#[test]
fn wide_rows_that_must_stay_together_fit_a_large_enough_budget() {
    let world = World::safetensors(&[Tensor::random("wide.weight", DType::F32, &[33, 50_257], &mut Rng(6))]);
    let plan = plan(&world, &crate::support::q4());
    let error = run(&plan, &[&world], Budget { memory: 16 << 20, workers: 1 }).expect_err("too small");
    assert_eq!(error.code(), Code::MemoryBudget);
    assert!(run(&plan, &[&world], Budget { memory: 64 << 20, workers: 1 }).is_ok());
}
