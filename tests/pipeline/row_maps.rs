//! Rows of query and key projections, permuted as llama.cpp's converter does and back, as stored bytes and as values.

use crate::support::{gguf, reopen};
use quantoscope_core::plan::{Plan, RowMap, convert};
use quantoscope_core::recipe::Recipe;
use quantoscope_core::schedule::Budget;
use quantoscope_core::{Code, DType};
use quantoscope_tests::memory::{MemoryModel, run, run_shuffled};
use quantoscope_tests::models::{self, Rng, Tensor};

const NAME: &str = "blk.0.attn_q.weight";

fn model(dtype: DType, shape: &[u64], seed: u64) -> MemoryModel {
    let rng = &mut Rng(seed);
    let tensor = match dtype {
        DType::Q8_0 => {
            let blocks = shape.iter().product::<u64>() / 32;
            let bytes = (0..blocks * 34).map(|_| rng.bits() as u8).collect();
            Tensor::raw(NAME, dtype, shape, bytes)
        }
        _ => Tensor::random(NAME, dtype, shape, rng),
    };
    MemoryModel::file("model.gguf", models::gguf(&[], &[tensor])).expect("a sound file")
}

fn permuted(world: &MemoryModel, recipe: &Recipe, map: RowMap) -> Plan {
    let mut plan = convert::plan(&world.checkpoint, recipe, None, false).expect("a plan");
    plan.outputs[0].permute_rows(map).expect("whole heads");
    plan
}

fn convert_permuted(world: &MemoryModel, recipe: &Recipe, map: RowMap) -> MemoryModel {
    let plan = permuted(world, recipe, map);
    reopen(&plan, &run(&plan, &[world], Budget::default()).expect("a run"))
}

/// `permute` of `convert_hf_to_gguf.py`: `reshape(heads, 2, head / 2, cols).swapaxes(1, 2)`.
fn permute_of_llama_cpp(bytes: &[u8], rows: u64, head: u64) -> Vec<u8> {
    let (row, half) = (bytes.len() / rows as usize, head / 2);
    let mut out = Vec::with_capacity(bytes.len());
    for first in (0..rows).step_by(head as usize) {
        for b in 0..half {
            for a in 0..2 {
                let from = (first + a * half + b) as usize * row;
                out.extend_from_slice(&bytes[from..from + row]);
            }
        }
    }
    out
}

#[test]
fn permute_and_back_is_the_identity_for_every_head_size() {
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::Q8_0] {
        for half in (1..=40).chain([64, 80, 96, 128]) {
            let (head, rows) = (half * 2, half * 2 * 3);
            let world = model(dtype, &[rows, 64], half);
            let recipe = Recipe { pure: true, ..gguf(dtype) };
            let there = convert_permuted(&world, &recipe, RowMap::Permute { head });
            let expected = permute_of_llama_cpp(world.tensor(NAME), rows, head);
            assert!(there.tensor(NAME) == expected, "{dtype}, heads of {head}");
            let back = convert_permuted(&there, &recipe, RowMap::Unpermute { head });
            assert!(back.tensor(NAME) == world.tensor(NAME), "{dtype}, heads of {head}");
        }
    }
}

#[test]
fn permuted_values_are_the_values_of_permuted_rows() {
    for half in [1, 2, 3, 8, 33, 64] {
        let (head, rows) = (half * 2, half * 4);
        let world = model(DType::F32, &[rows, 96], half);
        for to in [DType::F16, DType::Q8_0] {
            let recipe = Recipe { pure: true, ..gguf(to) };
            let plain = convert_permuted(&world, &recipe, RowMap::Identity);
            let there = convert_permuted(&world, &recipe, RowMap::Permute { head });
            let expected = permute_of_llama_cpp(plain.tensor(NAME), rows, head);
            assert!(there.tensor(NAME) == expected, "{to}, heads of {head}");
            // The first map on bytes, the second on decoded values.
            let bytes = convert_permuted(&world, &gguf(DType::F32), RowMap::Permute { head });
            let back = convert_permuted(&bytes, &recipe, RowMap::Unpermute { head });
            assert!(back.tensor(NAME) == plain.tensor(NAME), "{to}, heads of {head}");
        }
    }
}

#[test]
fn permuted_copies_do_not_depend_on_windows() {
    for (dtype, cols) in [(DType::Q8_0, 2048), (DType::BF16, 3001), (DType::F32, 7)] {
        let world = model(dtype, &[48, cols], cols);
        let plan = permuted(&world, &Recipe { pure: true, ..gguf(dtype) }, RowMap::Permute { head: 12 });
        let whole = run(&plan, &[&world], Budget::default()).expect("a run");
        let budget = Budget { memory: 120_000, workers: 1 };
        let cut = run_shuffled(&plan, &[&world], budget, Some(5)).expect("a run");
        assert!(cut.jobs > whole.jobs || cols == 7, "{dtype}: {} and {} windows", cut.jobs, whole.jobs);
        assert!(cut.files == whole.files, "{dtype}");
    }
}

#[test]
fn elements_of_a_vector_are_rows() {
    let world = model(DType::F32, &[64], 3);
    let there = convert_permuted(&world, &gguf(DType::F32), RowMap::Permute { head: 16 });
    assert_eq!(there.tensor(NAME), permute_of_llama_cpp(world.tensor(NAME), 64, 16));
}

#[test]
fn rows_that_are_no_whole_heads_are_refused() {
    let world = model(DType::F32, &[48, 32], 1);
    for head in [0, 5, 15, 32, 96] {
        let mut plan = convert::plan(&world.checkpoint, &gguf(DType::F32), None, false).expect("a plan");
        let refused = plan.outputs[0].permute_rows(RowMap::Permute { head }).map_err(|e| e.code());
        assert_eq!(refused, Err(Code::SizeMismatch), "heads of {head}");
    }
}

#[test]
fn inverse_of_each_map_undoes_it() {
    for head in (2..300).step_by(2) {
        for map in [RowMap::Permute { head }, RowMap::Unpermute { head }, RowMap::Identity] {
            for row in 0..head * 2 {
                assert_eq!(map.inverse().operand_row(map.operand_row(row)), row, "{map:?}");
            }
        }
    }
}
