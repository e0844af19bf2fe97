//! Random models, recipes and budgets: reads stay inside files, writes tile the output, sizes are as planned,
//! and the output opens with the same tensors. The in-memory driver asserts the first two.

use crate::support::{recipes, reopen, report};
use proptest::prelude::*;
use quantoscope_core::DType;
use quantoscope_core::plan::{RowMap, convert, measure};
use quantoscope_core::schedule::{Budget, WindowCursor, whole, windows_in};
use quantoscope_core::tensor::Shape;
use quantoscope_tests::memory::{MemoryModel, run, run_shuffled};
use quantoscope_tests::models::{Rng, Tensor};
use quantoscope_tests::property::property;

fn shape() -> impl Strategy<Value = Vec<u64>> {
    let side = prop_oneof![Just(0_u64), Just(1), 1_u64..70, Just(32), Just(64), Just(256), 250_u64..600];
    prop_oneof![
        Just(vec![]),
        proptest::collection::vec(side.clone(), 1..=2),
        (0_u64..4, 0_u64..20, side).prop_map(|(a, b, c)| vec![a, b, c]),
    ]
}

fn any_model() -> impl Strategy<Value = MemoryModel> {
    let dtype = prop_oneof![Just(DType::F32), Just(DType::F16), Just(DType::BF16), Just(DType::F64)];
    let name = prop_oneof![Just("proj.weight"), Just("norm.weight"), Just("lm_head.weight"), Just("other")];
    let one = (dtype, name, shape());
    (proptest::collection::vec(one, 1..5), any::<u64>()).prop_map(|(all, seed)| {
        let rng = &mut Rng(seed);
        let named = |(i, (dtype, name, shape)): (usize, (DType, &str, Vec<u64>))| {
            Tensor::random(&format!("{i}.{name}"), dtype, &shape, rng)
        };
        MemoryModel::safetensors(&all.into_iter().enumerate().map(named).collect::<Vec<_>>())
    })
}

proptest! {
    #![proptest_config(property(file!(), 96))]

    #[test]
    fn conversion_of_any_model_keeps_the_invariants(
        model in any_model(),
        recipe in proptest::sample::select(recipes()),
        memory in 30_000_u64..300_000,
        workers in 1_u32..4,
        seed in any::<u64>(),
    ) {
        // GGUF cannot hold F64 that is kept in other containers than it, and refuses nothing else of these.
        let plan = convert::plan(&model.checkpoint, &recipe, None, true).expect("a plan");
        let first = run(&plan, &[&model], Budget::default()).expect("a run");
        let totals = plan.conversion.as_ref().expect("a conversion").totals;
        prop_assert_eq!(totals.total_bytes_out, first.files.iter().map(|f| f.len() as u64).sum::<u64>());
        match run_shuffled(&plan, &[&model], Budget { memory, workers }, Some(seed)) {
            Ok(again) => {
                prop_assert!(again.files == first.files);
                prop_assert_eq!(report(&model, &plan, &again), report(&model, &plan, &first));
            }
            Err(e) => prop_assert_eq!(e.code(), quantoscope_core::Code::MemoryBudget),
        }
        let made = reopen(&plan, &first);
        prop_assert_eq!(made.checkpoint.tensors.len(), model.checkpoint.tensors.len());
        for t in &made.checkpoint.tensors {
            let source = model.checkpoint.tensors.iter().find(|s| s.name == t.name).expect("the same names");
            prop_assert_eq!(source.shape.numel(), t.shape.numel());
        }
    }

    /// Windows are counted without being made, and the work is that of the pieces.
    #[test]
    fn windows_counted_equal_windows_scheduled(
        model in any_model(),
        recipe in proptest::sample::select(recipes()),
        memory in 30_000_u64..300_000,
        window in prop_oneof![Just(0_u64), Just(64 << 10), Just(4 << 20)],
    ) {
        let budget = Budget { memory, workers: 1 };
        for plan in [
            convert::plan(&model.checkpoint, &recipe, None, true).expect("a plan"),
            measure::stats(&model.checkpoint, &|_| true).expect("a plan"),
        ] {
            let (mut cursor, counted) = match WindowCursor::new(&plan, budget, window) {
                Ok(begun) => begun,
                Err(e) => {
                    prop_assert_eq!(windows_in(&plan, &budget, window), Err(e));
                    continue;
                }
            };
            let (mut counts, mut cells) = (vec![0; plan.outputs.len()], vec![0; plan.outputs.len()]);
            while let Some(job) = cursor.next_job(&plan) {
                counts[job.output as usize] += 1;
                cells[job.output as usize] += job.window.height() * job.window.width();
            }
            prop_assert_eq!(&counted, &counts);
            prop_assert_eq!(windows_in(&plan, &budget, window), Ok(counts));
            for job in whole(&plan) {
                cells[job.output as usize] -= job.window.height() * job.window.width();
            }
            prop_assert!(cells.iter().all(|n| *n == 0), "{cells:?}");
        }
    }

    /// Rows put into another order on the way, in windows of any size.
    #[test]
    fn row_maps_in_any_windows_are_equal(
        heads in 1_u64..5, half in 1_u64..20, cols in 1_u64..700, memory in 30_000_u64..400_000, seed in any::<u64>(),
    ) {
        let rows = heads * half * 2;
        let model = MemoryModel::safetensors(&[Tensor::random("w.weight", DType::F32, &[rows, cols], &mut Rng(seed))]);
        let mut plan = measure::stats(&model.checkpoint, &|_| true).expect("a plan");
        plan.outputs[0].segments[0].from.map = RowMap::Unpermute { head: half * 2 };
        let whole = run(&plan, &[&model], Budget::default()).expect("a run");
        let cut = match run_shuffled(&plan, &[&model], Budget { memory, workers: 1 }, Some(seed)) {
            Ok(cut) => cut,
            Err(e) => {
                prop_assert_eq!(e.code(), quantoscope_core::Code::MemoryBudget);
                return Ok(());
            }
        };
        let of = |m: &quantoscope_tests::memory::Made| m.collected.output(0).and_then(|g| g.moments());
        prop_assert_eq!(of(&whole), of(&cut));
        // The histogram of the values is that of the unmapped tensor: rows moved, none was lost.
        plan.outputs[0].segments[0].from.map = RowMap::Identity;
        let plain = run(&plan, &[&model], Budget::default()).expect("a run");
        let drawn = |m: &quantoscope_tests::memory::Made| format!("{:?}", m.collected.output(0).map(|g| g.histogram()));
        prop_assert_eq!(drawn(&whole), drawn(&plain));
    }
}

/// As large as a file can be: making its windows one by one would not come to an end.
#[test]
fn windows_of_the_largest_tensor_are_counted_at_once() {
    let mut model =
        MemoryModel::safetensors(&[Tensor::random("0.proj.weight", DType::F32, &[4, 32], &mut Rng(1))]);
    model.checkpoint.tensors[0].shape = Shape::new([1 << 30, 1 << 30]).expect("a shape");
    let plan = measure::stats(&model.checkpoint, &|_| true).expect("a plan");
    let counts = windows_in(&plan, &Budget::default(), 4 << 20).expect("counts");
    assert_eq!(counts, [1 << 40], "windows of a row's 1 Mi values each");
    assert_eq!(whole(&plan).count(), 1);
}
