//! Findings of `compare`: scaled, shifted or swapped rows, and floats that are not roundings of each other.

use crate::support::{compare, gguf, kinds, remake};
use quantoscope_core::DType;
use quantoscope_core::format::Container;
use quantoscope_core::plan::pair;
use quantoscope_core::recipe::Recipe;
use quantoscope_core::recipe::tensor_filter::TensorFilter;
use quantoscope_core::report::{CompareReport, CompareThreshold, CompareVerdict, VerdictRule, compared};
use quantoscope_core::schedule::Budget;
use quantoscope_tests::memory::{MemoryModel, run, run_shuffled};
use quantoscope_tests::models::{Rng, Tensor};

const ROWS: usize = 40;
const COLS: usize = 512;

fn weights() -> Vec<f32> {
    Rng(9).weights((ROWS * COLS) as u64)
}

fn model(values: &[f32]) -> MemoryModel {
    MemoryModel::safetensors(&[Tensor::of("a.weight", DType::F32, &[ROWS as u64, COLS as u64], values)])
}

/// Of the weights against themselves after `spoil`, quantized to Q8_0 so that nothing but rows and figures is
/// looked at.
fn against(spoil: impl Fn(&mut [f32])) -> CompareReport {
    let mut spoiled = weights();
    spoil(&mut spoiled);
    compare(&model(&weights()), &remake(&model(&spoiled), &gguf(DType::Q8_0)))
}

#[test]
fn compare_scaled_or_shifted_tensor_is_a_finding() {
    for (report, figure) in [
        (against(|x| x.iter_mut().for_each(|v| *v *= 2.0)), 0.5),
        (against(|x| x.iter_mut().for_each(|v| *v *= 0.5)), 0.875),
        (against(|x| x.iter_mut().for_each(|v| *v *= -1.0)), -1.0),
    ] {
        let row = &report.tensors[0];
        assert!((row.figure.expect("a figure") - figure).abs() < 1e-3, "{row:?}");
        assert!(row.verdict == CompareVerdict::Red && row.below_threshold && !report.passes());
    }
    let norm = |by: f32| {
        let values: Vec<f32> = Rng(4).weights(512).iter().map(|v| 1.0 + v + by).collect();
        MemoryModel::safetensors(&[Tensor::of("norm.weight", DType::F32, &[512], &values)])
    };
    let report = compare(&norm(0.0), &norm(1.0));
    assert!(report.tensors[0].verdict == CompareVerdict::Red && report.tensors[0].error.cosine > Some(0.999));
    assert!(against(|_| {}).passes());
}

#[test]
fn compare_swapped_or_zeroed_row_is_a_finding() {
    let row = |r: usize| r * COLS..(r + 1) * COLS;
    let swapped = against(|x| {
        let (a, b) = x.split_at_mut(31 * COLS);
        a[row(7)].swap_with_slice(&mut b[..COLS]);
    });
    let zeroed = against(|x| x[row(39)].fill(0.0));
    let negated = against(|x| x[row(0)].iter_mut().for_each(|v| *v = -*v));
    for (report, at, figure) in [(swapped, 7, 0.0), (zeroed, 39, 0.0), (negated, 0, -1.0)] {
        assert_eq!(kinds(&report), ["row_differs"], "{report:?}");
        let worst = report.tensors[0].worst_row.expect("a row");
        // Of the two swapped rows either may be the worse.
        assert!(worst.row == at || (at == 7 && worst.row == 31), "{worst:?}");
        assert!((worst.figure - figure).abs() < 0.15, "{worst:?}");
        assert!(!report.passes());
    }
    let fine = against(|_| {});
    assert!(fine.findings.is_empty() && fine.tensors[0].worst_row.expect("a row").figure > 0.999);
}

/// A row of zeros: right against zeros, wrong against anything else.
#[test]
fn compare_zero_row_with_values_is_a_finding() {
    let mut zeros = weights();
    zeros[..COLS].fill(0.0);
    let same = compare(&model(&zeros), &model(&zeros));
    assert_eq!(same.tensors[0].worst_row.expect("a row").figure, 1.0);
    assert!(same.passes());
    let report = compare(&model(&zeros), &remake(&model(&weights()), &gguf(DType::Q8_0)));
    assert_eq!(kinds(&report), ["row_differs"]);
    assert_eq!(report.tensors[0].worst_row.map(|w| (w.row, w.figure)), Some((0, 0.0)));
    // A row so small that the scale of its blocks is zero is no finding.
    let mut small = weights();
    small[..COLS].iter_mut().for_each(|v| *v *= 1e-8);
    let report = compare(&model(&small), &remake(&model(&small), &gguf(DType::Q4_0)));
    assert_eq!(report.findings, []);
    // Of equals the first is told.
    let ends = compare(&model(&weights()), &remake(&model(&vec![0.0; ROWS * COLS]), &gguf(DType::Q8_0)));
    assert_eq!(ends.tensors[0].worst_row.map(|w| w.row), Some(0));
}

/// The report is the same whatever the windows are, in which order they come, and for rows longer than a
/// window.
#[test]
fn compare_in_any_windows_is_equal() {
    let long = Rng(12).weights(3 * 40_960);
    let mut other = long.clone();
    other[40_960..2 * 40_960].rotate_left(1);
    let tensors =
        |x: &[f32]| MemoryModel::safetensors(&[Tensor::of("a.weight", DType::F32, &[3, 40_960], x)]);
    let (a, b) = (tensors(&long), tensors(&other));
    let pairing = pair::compare(&a.checkpoint, &b.checkpoint, &TensorFilter::default()).expect("a pairing");
    let report = |memory: u64, seed: Option<u64>| {
        let budget = Budget { memory, workers: 1 };
        let made = run_shuffled(&pairing.plan, &[&a, &b], budget, seed).expect("a run");
        let report =
            compared(("a", "b"), &pairing.plan, pairing.findings.clone(), &made.collected, Some(0.95));
        assert_eq!(kinds(&report), ["beyond_rounding", "row_differs"]);
        assert_eq!(report.tensors[0].worst_row.map(|w| w.row), Some(1));
        serde_json::to_string(&report).expect("JSON")
    };
    let first = report(64 << 20, None);
    for (memory, seed) in [(30_000, None), (30_000, Some(1)), (100_000, Some(2)), (600_000, Some(3))] {
        assert_eq!(report(memory, seed), first, "{memory} {seed:?}");
    }
}

/// Every conversion between plain floats is clean both ways, at every magnitude.
#[test]
fn compare_rounded_values_is_no_finding() {
    let mut values = weights();
    for (i, v) in values.iter_mut().enumerate() {
        // From far below the subnormal numbers of binary16 to near its largest.
        *v *= 2.0_f32.powi((i / COLS) as i32 - 22);
    }
    values[5] = 0.0;
    values[6] = -0.0;
    values[7] = 65_000.0;
    let doubles: Vec<u8> =
        values.iter().flat_map(|v| (f64::from(*v) * 1.000_000_013).to_le_bytes()).collect();
    let shape = [ROWS as u64, COLS as u64];
    let sources = [
        MemoryModel::safetensors(&[Tensor::raw("a.weight", DType::F64, &shape, doubles)]),
        model(&values),
        MemoryModel::safetensors(&[Tensor::of("a.weight", DType::F16, &shape, &values)]),
        MemoryModel::safetensors(&[Tensor::of("a.weight", DType::BF16, &shape, &values)]),
    ];
    for source in &sources {
        for to in [DType::F32, DType::F16, DType::BF16] {
            let made = remake(source, &Recipe::new(Container::Safetensors, Some(to)));
            for report in [compare(source, &made), compare(&made, source)] {
                assert_eq!(report.findings, [], "{} and {to}", source.checkpoint.tensors[0].dtype);
            }
        }
    }
}

#[test]
fn compare_unrelated_floats_is_a_finding() {
    let finding = |a: &MemoryModel, b: &MemoryModel| {
        let report = compare(a, b);
        assert_eq!(kinds(&report), ["beyond_rounding"], "{:?}", report.tensors);
        assert!(!report.passes());
        report.findings[0].detail.clone()
    };
    // Of one type, one bit is too much.
    let mut other = weights();
    other[1234] = f32::from_bits(other[1234].to_bits() + 1);
    let said = finding(&model(&weights()), &model(&other));
    assert!(said.starts_with("1 of 20480") && said.ends_with("element 1234"), "{said}");
    // Of two, one step of the coarser one.
    for to in [DType::F16, DType::BF16] {
        let recipe = Recipe::new(Container::Safetensors, Some(to));
        let made = remake(&model(&weights()), &recipe);
        let mut bytes = made.tensor("a.weight").to_vec();
        bytes[2 * 99] = bytes[2 * 99].wrapping_add(1);
        let off =
            MemoryModel::safetensors(&[Tensor::raw("a.weight", to, &[ROWS as u64, COLS as u64], bytes)]);
        let said = finding(&model(&weights()), &off);
        assert!(said.starts_with("1 of") && said.ends_with("element 99"), "{to}: {said}");
    }
    // The sign of a zero is none.
    let zeros = |z: f32| MemoryModel::safetensors(&[Tensor::of("a", DType::F32, &[4], &[z; 4])]);
    assert!(compare(&zeros(0.0), &zeros(-0.0)).passes());
}

/// Binary64 is compared as it is stored: a difference that binary32 does not have, and values that it cannot
/// hold.
#[test]
fn compare_f64_is_exact() {
    let doubles = |x: &[f64]| {
        let bytes = x.iter().flat_map(|v| v.to_le_bytes()).collect();
        MemoryModel::safetensors(&[Tensor::raw("a", DType::F64, &[x.len() as u64], bytes)])
    };
    let report = compare(&doubles(&[1.0, 2.0]), &doubles(&[1.0, 2.0 + 1e-12]));
    assert_eq!(kinds(&report), ["beyond_rounding"]);
    assert!((report.tensors[0].error.max_abs.expect("an error") - 1e-12).abs() < 1e-15);
    let report = compare(&doubles(&[1e300, 2e300]), &doubles(&[1e300, 2e300]));
    assert!(report.passes() && report.tensors[0].figure == Some(1.0), "{report:?}");
    let report = compare(&doubles(&[1e300, 2e300]), &doubles(&[2e300, 4e300]));
    assert!((report.tensors[0].figure.expect("a figure") - 0.5).abs() < 1e-12, "{report:?}");
}

/// The cosine alone says what it always said.
#[test]
fn compare_by_cosine_alone_misses_the_differences() {
    let doubled: Vec<f32> = weights().iter().map(|v| v * 2.0).collect();
    let (a, b) = (model(&weights()), model(&doubled));
    let pairing = pair::compare(&a.checkpoint, &b.checkpoint, &TensorFilter::default()).expect("a pairing");
    let made = run(&pairing.plan, &[&a, &b], Budget::default()).expect("a run");
    let by = |by| {
        compared(
            ("a", "b"),
            &pairing.plan,
            Vec::new(),
            &made.collected,
            CompareThreshold { threshold: Some(0.999), by },
        )
    };
    let cosine = by(VerdictRule::Cosine);
    assert!(
        cosine.passes() && cosine.tensors[0].verdict == CompareVerdict::Green && cosine.findings.is_empty()
    );
    assert!(!by(VerdictRule::Strict).passes());
}
