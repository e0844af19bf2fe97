//! NaN, infinities and values that are too large for their target, in every kind of output.

use crate::support::{gguf, make, plan, q4, reopen, report};
use quantoscope_core::error::Error;
use quantoscope_core::format::Container;
use quantoscope_core::metric::Tally;
use quantoscope_core::recipe::Recipe;
use quantoscope_core::report::converted;
use quantoscope_core::schedule::Budget;
use quantoscope_core::{Code, DType};
use quantoscope_tests::memory::{MemoryModel, run, run_shuffled};
use quantoscope_tests::models::{Rng, Tensor};

fn place(e: &Error) -> (Code, Option<u64>) {
    (e.code(), e.detail().element)
}

fn safetensors(dtype: DType) -> Recipe {
    Recipe::new(Container::Safetensors, Some(dtype))
}

/// Bytes of a tensor of `n` ones, with `bad` as the bytes of element `at`.
fn ones(dtype: DType, n: usize, at: usize, bad: &[u8]) -> Tensor {
    let one: &[u8] = match dtype {
        DType::F64 => &[0, 0, 0, 0, 0, 0, 0xF0, 0x3F],
        DType::F32 => &[0, 0, 0x80, 0x3F],
        DType::F16 => &[0, 0x3C],
        DType::BF16 => &[0x80, 0x3F],
        _ => &[0x38],
    };
    let mut bytes = one.repeat(n);
    bytes[at * one.len()..(at + 1) * one.len()].copy_from_slice(bad);
    Tensor::raw("model.norm.weight", dtype, &[n as u64], bytes)
}

/// The patterns of a NaN and of both infinities, where the type has them.
fn patterns(dtype: DType) -> Vec<Vec<u8>> {
    let [nan, inf, minus] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    match dtype {
        DType::F64 => [nan, inf, minus].map(|x| x.to_le_bytes().to_vec()).to_vec(),
        DType::F32 => [nan, inf, minus].map(|x| (x as f32).to_le_bytes().to_vec()).to_vec(),
        DType::F16 => vec![vec![0, 0x7E], vec![0, 0x7C], vec![0, 0xFC]],
        DType::BF16 => vec![vec![0xC0, 0x7F], vec![0x80, 0x7F], vec![0x80, 0xFF]],
        DType::F8_E4M3 => vec![vec![0x7F], vec![0xFF]],
        DType::F8_E5M2 => vec![vec![0x7C], vec![0xFD]],
        _ => vec![vec![0xFF]],
    }
}

/// Kept, widened and narrowed alike, to every container, in windows of every size.
#[test]
fn what_is_no_number_is_refused_in_every_plain_float() {
    let kept = [DType::F64, DType::F32, DType::F16, DType::BF16, DType::F8_E4M3, DType::F8_E5M2];
    for dtype in kept {
        for (bad, at) in patterns(dtype).iter().zip([63, 40_000, 99_999]) {
            let world = MemoryModel::safetensors(&[ones(dtype, 100_000, at, bad)]);
            for recipe in
                [gguf(DType::Q8_0), gguf(DType::F16), safetensors(DType::BF16), safetensors(DType::F32)]
            {
                for memory in [64 << 20, 60_000] {
                    let made = run(&plan(&world, &recipe), &[&world], Budget { memory, workers: 1 });
                    let error = made.expect_err("no number");
                    assert_eq!(place(&error), (Code::NonFinite, Some(at as u64)), "{dtype} {recipe:?}");
                }
            }
            let error = run(&plan(&world, &q4()), &[&world], Budget::default()).expect_err("no number");
            assert_eq!(place(&error), (Code::NonFinite, Some(at as u64)), "{dtype} to .f16");
        }
    }
    let world = MemoryModel::safetensors(&[ones(DType::F8_E8M0, 64, 5, &[0xFF])]);
    let error = run(&plan(&world, &safetensors(DType::F16)), &[&world], Budget::default());
    assert_eq!(place(&error.expect_err("no number")), (Code::NonFinite, Some(5)));
}

/// A converted weight too, not only what is copied.
#[test]
fn a_converted_weight_is_looked_through_as_well() {
    let mut values = Rng(3).weights(64 * 64);
    values[777] = f32::NAN;
    let world = MemoryModel::safetensors(&[Tensor::of("a.weight", DType::F32, &[64, 64], &values)]);
    for recipe in [gguf(DType::F16), gguf(DType::F32), gguf(DType::BF16), safetensors(DType::BF16)] {
        let error = run(&plan(&world, &recipe), &[&world], Budget::default()).expect_err("no number");
        assert_eq!(place(&error), (Code::NonFinite, Some(777)), "{recipe:?}");
    }
}

#[test]
fn where_they_are_allowed_they_are_counted_and_named() {
    let mut norm = ones(DType::BF16, 1000, 63, &[0xC0, 0x7F]);
    norm.bytes[2 * 900..2 * 901].copy_from_slice(&[0x80, 0xFF]);
    let mut values = Rng(3).weights(64 * 64);
    values[777] = f32::INFINITY;
    let world = MemoryModel::safetensors(&[norm, Tensor::of("a.weight", DType::F32, &[64, 64], &values)]);
    for recipe in [gguf(DType::F16), gguf(DType::BF16), safetensors(DType::F32)] {
        let recipe = Recipe { allow_nonfinite: true, ..recipe };
        let (plan, made) = make(&world, &recipe);
        let said = report(&world, &plan, &made);
        let found = converted(&world.checkpoint, &plan, Some(&made.collected)).expect("a report");
        let of = |name: &str| found.tensors.iter().find(|t| t.name == name).expect("a tensor").non_finite;
        assert_eq!(of("model.norm.weight"), Some(Tally { count: 2, first: Some(63) }));
        assert_eq!(of("a.weight"), Some(Tally { count: 1, first: Some(777) }));
        let warned = found.warnings.iter().filter(|w| w.code == "non_finite").count();
        assert_eq!(warned, 2, "{said}");
        for (seed, memory) in [(1, 60_000), (2, 90_000)] {
            let again =
                run_shuffled(&plan, &[&world], Budget { memory, workers: 1 }, Some(seed)).expect("a run");
            assert_eq!(report(&world, &plan, &again), said);
            assert_eq!(again.files, made.files);
        }
        reopen(&plan, &made);
    }
    // Blocks and the lattice's .f16 hold none, whatever is allowed.
    for recipe in [gguf(DType::Q8_0), q4()] {
        let recipe = Recipe { allow_nonfinite: true, ..recipe };
        let error = run(&plan(&world, &recipe), &[&world], Budget::default()).expect_err("no number");
        assert_eq!(error.code(), Code::NonFinite, "{recipe:?}");
    }
}

/// A finite value never becomes infinite: the largest that still rounds to a number passes, the next is refused.
#[test]
fn finite_values_stay_finite() {
    let under = |x: f64| f64::from_bits(x.to_bits() - 1);
    let over_single = 3.402_823_567_797_336_6e38_f64;
    let over_bf16 = f64::from(f32::from_bits(0x7F7F_8000));
    for (from, to, limit, code) in [
        (DType::F64, DType::F32, over_single, Code::F32Overflow),
        (DType::F64, DType::BF16, over_single, Code::F32Overflow),
        (DType::F64, DType::F16, over_single, Code::F32Overflow),
        (DType::F64, DType::Q8_0, over_single, Code::F32Overflow),
        (DType::F64, DType::BF16, over_bf16, Code::BF16Overflow),
        (DType::F32, DType::BF16, over_bf16, Code::BF16Overflow),
        (DType::F64, DType::F16, 65_520.0, Code::F16Overflow),
        (DType::F32, DType::F16, 65_520.0, Code::F16Overflow),
        (DType::BF16, DType::F16, 65_536.0, Code::F16Overflow),
    ] {
        for sign in [1.0, -1.0] {
            let world = |x: f64| {
                let mut values = vec![1.0_f64; 64 * 64];
                values[1234] = sign * x;
                let bytes: Vec<u8> = match from {
                    DType::F64 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
                    DType::F32 => values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect(),
                    _ => values
                        .iter()
                        .flat_map(|v| ((*v as f32).to_bits() >> 16).to_le_bytes()[..2].to_vec())
                        .collect(),
                };
                MemoryModel::safetensors(&[Tensor::raw("a.weight", from, &[64, 64], bytes)])
            };
            for allow_nonfinite in [false, true] {
                let recipe = Recipe { allow_nonfinite, ..gguf(to) };
                let bad = world(limit);
                let error = run(&plan(&bad, &recipe), &[&bad], Budget::default()).expect_err("too large");
                assert_eq!(place(&error), (code, Some(1234)), "{from} to {to}");
                // Without figures an engine recodes at once; the refusal is the same.
                let quick = quantoscope_core::plan::convert::plan(&bad.checkpoint, &recipe, None, false)
                    .expect("a plan");
                let error = run(&quick, &[&bad], Budget::default()).expect_err("too large");
                assert_eq!(place(&error), (code, Some(1234)), "{from} to {to} without figures");
            }
            // The value below is one of the source's type.
            let below = match from {
                DType::F64 if limit == 65_520.0 => 65_519.99,
                DType::F64 if to == DType::BF16 => f64::from((limit as f32).next_down()),
                DType::F64 => under(limit),
                DType::F32 => f64::from((limit as f32).next_down()),
                _ => 65_280.0,
            };
            if code == Code::F32Overflow && to != DType::F32 {
                continue; // fits binary32, but not what comes after
            }
            let fine = world(below);
            let made = run(&plan(&fine, &gguf(to)), &[&fine], Budget::default());
            assert!(made.is_ok(), "{from} {below:e} to {to}: {:?}", made.err());
        }
    }
}

/// What stands first is named, whether it is too large or no number.
#[test]
fn the_first_bad_value_is_named() {
    for (first, second, code) in [
        (f64::NAN, 1e300, Code::NonFinite),
        (1e300, f64::NAN, Code::F32Overflow),
        (1e39, 1e300, Code::F32Overflow),
    ] {
        let mut values = vec![1.0_f64; 64 * 64];
        (values[100], values[3000]) = (first, second);
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let world = MemoryModel::safetensors(&[Tensor::raw("a.weight", DType::F64, &[64, 64], bytes)]);
        for recipe in [gguf(DType::F32), gguf(DType::Q4_0), safetensors(DType::F16), q4()] {
            for measure in [true, false] {
                let plan = quantoscope_core::plan::convert::plan(&world.checkpoint, &recipe, None, measure)
                    .expect("a plan");
                let error = run(&plan, &[&world], Budget::default()).expect_err("bad");
                assert_eq!(place(&error), (code, Some(100)), "{recipe:?} {first:e}");
            }
        }
    }
}
