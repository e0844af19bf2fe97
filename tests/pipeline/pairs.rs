//! Comparisons: figures, findings, and verdicts.

use crate::support::{assert_equal, compare, kinds};
use quantoscope_core::DType;
use quantoscope_core::plan::{measure, pair};
use quantoscope_core::recipe::tensor_filter::TensorFilter;
use quantoscope_core::report::{CompareReport, CompareThreshold, CompareVerdict, VerdictRule, compared};
use quantoscope_core::schedule::Budget;
use quantoscope_tests::memory::{MemoryModel, run, run_shuffled};
use quantoscope_tests::models::{Rng, Tensor, llama};

fn model(tensors: &[Tensor]) -> MemoryModel {
    MemoryModel::safetensors(tensors)
}

fn pair_of(a: &[f32], b: &[f32]) -> (MemoryModel, MemoryModel) {
    let one = |v: &[f32]| model(&[Tensor::of("a.weight", DType::F32, &[v.len() as u64], v)]);
    (one(a), one(b))
}

fn compare_values(a: &[f32], b: &[f32]) -> CompareReport {
    let (a, b) = pair_of(a, b);
    compare(&a, &b)
}

#[test]
fn pair_of_zero_tensors_passes() {
    let report = compare_values(&[0.0; 64], &[0.0; 64]);
    assert_equal(&report, 1);
    assert_eq!(
        (report.tensors[0].error.cosine, report.tensors[0].verdict),
        (Some(1.0), CompareVerdict::Green)
    );
}

#[test]
fn pair_of_zeros_and_values_fails() {
    let report = compare_values(&[0.0; 64], &[1.0; 64]);
    assert_eq!((report.tensors[0].error.cosine, report.tensors[0].verdict), (Some(0.0), CompareVerdict::Red));
    assert!(report.any_below_threshold && !report.passes());
}

#[test]
fn pair_with_nan_or_infinity_fails() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let (good, mut holed) = (Rng(1).weights(64), Rng(1).weights(64));
        holed[17] = bad;
        for (a, b) in [(&good, &holed), (&holed, &good), (&holed, &holed)] {
            let report = compare_values(a, b);
            assert_eq!(kinds(&report), ["non_finite"]);
            assert_eq!(report.tensors[0].verdict, CompareVerdict::Red);
            assert!(report.any_below_threshold && !report.passes());
            let json = serde_json::to_string(&report).expect("JSON");
            assert!(!json.contains("null,") || json.contains("\"threshold\":null"), "{json}");
        }
    }
}

#[test]
fn pair_verdict_bounds_are_inclusive() {
    // cosine = 1 / sqrt(1 + t^2) for (1, 0) against (1, t).
    for (t, want) in [
        (0.0, CompareVerdict::Green),
        (0.04, CompareVerdict::Green),
        (0.1, CompareVerdict::Yellow),
        (0.2, CompareVerdict::Red),
    ] {
        let report = compare_values(&[1.0, 0.0], &[1.0, t]);
        assert_eq!(report.tensors[0].verdict, want, "{t}: {:?}", report.tensors[0].error.cosine);
    }
}

#[test]
fn pair_gate_fails_on_any_finding() {
    let (a, b) = pair_of(&[1.0, 0.0], &[3.0, 4.0]);
    let pairing = pair::compare(&a.checkpoint, &b.checkpoint, &TensorFilter::default()).expect("a pairing");
    let made = run(&pairing.plan, &[&a, &b], Budget::default()).expect("a run");
    let with = |threshold| {
        let gate = CompareThreshold { threshold, by: VerdictRule::Cosine };
        compared(("a", "b"), &pairing.plan, pairing.findings.clone(), &made.collected, gate)
    };
    let cosine = with(None).tensors[0].error.cosine.expect("a cosine");
    assert_eq!(cosine, 0.6);
    assert!(with(Some(cosine)).passes(), "equal to the threshold is not below it");
    assert!(!with(Some(cosine.next_up())).passes());
    assert!(with(None).passes(), "no threshold, no gate");
    assert!(!with(None).any_below_threshold);
}

#[test]
fn pair_with_unmatched_tensor_is_a_finding() {
    let t = |name: &str| Tensor::random(name, DType::F32, &[4, 32], &mut Rng(2));
    let (a, b) = (model(&[t("a"), t("b")]), model(&[t("b"), t("c")]));
    let report = compare(&a, &b);
    assert_eq!(kinds(&report), ["only_in_candidate", "only_in_reference"]);
    assert_eq!(report.findings[0].tensor.as_deref(), Some("c"));
    assert_eq!(report.tensors.len(), 1);
    assert!(!report.any_below_threshold && !report.passes(), "a finding alone trips the gate");
}

#[test]
fn pair_without_common_tensors_is_a_finding() {
    let t = |name: &str| Tensor::random(name, DType::F32, &[4, 32], &mut Rng(2));
    let report = compare(&model(&[t("a")]), &model(&[t("b")]));
    assert!(kinds(&report).contains(&"no_overlap") && !report.passes());
}

#[test]
fn pair_of_other_shape_is_a_finding() {
    let t = |shape: &[u64]| model(&[Tensor::random("a", DType::F32, shape, &mut Rng(2))]);
    for other in [&[32, 64][..], &[2048], &[1, 64, 32]] {
        let report = compare(&t(&[64, 32]), &t(other));
        assert!(kinds(&report).contains(&"shape_mismatch"), "{other:?}");
        assert!(report.tensors.is_empty() && !report.passes());
    }
}

#[test]
fn pair_of_undecodable_dtype_is_a_finding() {
    let a = model(&[Tensor::random("a", DType::F32, &[4, 32], &mut Rng(2))]);
    let b = model(&[Tensor::raw("a", DType::F8_E8M0, &[4, 32], vec![0; 128])]);
    for report in [compare(&a, &b), compare(&b, &a)] {
        assert!(kinds(&report).contains(&"unsupported_dtype"), "{:?}", report.findings);
    }
    let b = model(&[Tensor::raw("a", DType::I32, &[4, 32], vec![0; 512])]);
    assert!(kinds(&compare(&a, &b)).contains(&"unsupported_dtype"));
}

#[test]
fn pair_of_different_integers_is_a_finding() {
    let ids = |last: u8| {
        let mut bytes = vec![7; 64];
        bytes[60] = last;
        model(&[
            Tensor::raw("ids", DType::I64, &[8], bytes),
            Tensor::random("a", DType::F32, &[4, 32], &mut Rng(2)),
        ])
    };
    let report = compare(&ids(7), &ids(7));
    assert!(report.passes() && report.findings.is_empty());
    let row = report.tensors.iter().find(|r| r.tensor == "ids").expect("every tensor is accounted for");
    assert_eq!((row.error.rmse, row.error.cosine, row.verdict), (None, None, CompareVerdict::Green));
    let report = compare(&ids(7), &ids(8));
    assert_eq!(kinds(&report), ["values_differ"]);
    assert!(report.findings[0].detail.contains("byte 60"), "{:?}", report.findings);
    assert_eq!((report.tensors[0].tensor.as_str(), report.tensors[0].verdict), ("ids", CompareVerdict::Red));
    assert!(!report.passes());
}

/// Without a pair of numbers there is no error and no angle, and none is made up.
#[test]
fn pair_of_nan_only_has_no_figures() {
    let report = compare_values(&[f32::NAN; 64], &[f32::NAN; 64]);
    let row = &report.tensors[0];
    assert_eq!((row.error.rmse, row.error.cosine, row.error.max_abs), (None, None, None));
    assert_eq!((row.verdict, row.below_threshold), (CompareVerdict::Red, true));

    let (bad, _) = pair_of(&[f32::NAN; 64], &[]);
    let plan = measure::stats(&bad.checkpoint, &|_| true).expect("a plan");
    let made = run(&plan, &[&bad], Budget::default()).expect("a run");
    let stats =
        quantoscope_core::report::stats(&plan, &made.collected, 8).tensors.remove(0).stats.expect("stats");
    assert_eq!((stats.mean, stats.std, stats.absmax, stats.nan), (None, None, None, 64));
}

/// GGUF has no scalars: one element is the same.
#[test]
fn pair_of_scalar_and_gguf_passes() {
    let rng = &mut Rng(9);
    let all = [
        Tensor::random("scalar", DType::F32, &[], rng),
        Tensor::random("a.weight", DType::F32, &[4, 32], rng),
    ];
    let source = model(&all);
    let made = crate::support::remake(&source, &crate::support::gguf(DType::F32));
    assert_equal(&compare(&source, &made), 2);
    assert!(crate::support::verify(&source, &made).verified);
}

/// Files without an index have lost their names; where two names come out the same, neither is guessed.
#[test]
fn pair_of_colliding_names_is_not_matched() {
    let rng = &mut Rng(10);
    let tensor = |name: &str, rng: &mut Rng| Tensor::random(name, DType::F16, &[4], rng);
    let source = model(&[tensor("a.b", rng), tensor("a_b", rng), tensor("c.d", rng)]);
    let (plan, made) = crate::support::make(&source, &crate::support::q4());
    let files = plan.files.iter().map(|f| f.name.clone()).zip(made.files);
    let named: std::collections::BTreeMap<_, _> = files.filter(|(n, _)| n.ends_with(".f16")).collect();
    let loose = MemoryModel::directory(named).expect("a sound directory");
    let report = compare(&source, &loose);
    assert_eq!(report.tensors.len(), 1, "{:?}", report.tensors);
    assert_eq!(report.tensors[0].tensor, "c.d");
    assert_eq!(report.findings.iter().filter(|f| f.kind == "only_in_reference").count(), 2);
}

#[test]
fn pair_rows_are_worst_first_then_by_name() {
    let all = llama(DType::F32, false, 5);
    let candidate: Vec<Tensor> = all.iter().rev().cloned().collect();
    let report = compare(&model(&all), &model(&candidate));
    let names: Vec<&str> = report.tensors.iter().map(|r| r.tensor.as_str()).collect();
    assert!(names.is_sorted(), "all errors are zero");
    let quantized = crate::support::remake(&model(&all), &crate::support::gguf(DType::Q4_0));
    let report = compare(&model(&all), &quantized);
    let rmse: Vec<f64> = report.tensors.iter().map(|r| r.error.rmse.unwrap()).collect();
    assert!(rmse.is_sorted_by(|a, b| a >= b) && rmse[0] > 0.0);
}

#[test]
fn pair_of_empty_tensors_passes() {
    let t = || model(&[Tensor::raw("a", DType::F32, &[0, 32], Vec::new())]);
    let report = compare(&t(), &t());
    assert_eq!(report.findings, []);
    assert!(report.passes());
}

#[test]
fn pair_in_any_budget_and_order_is_equal() {
    let source = model(&llama(DType::BF16, false, 13));
    let other = crate::support::remake(&source, &crate::support::q4());
    let pairing =
        pair::compare(&source.checkpoint, &other.checkpoint, &TensorFilter::default()).expect("a pairing");
    let told = |seed, memory, workers| {
        let made =
            run_shuffled(&pairing.plan, &[&source, &other], Budget { memory, workers }, seed).expect("a run");
        let report =
            compared(("a", "b"), &pairing.plan, pairing.findings.clone(), &made.collected, Some(0.95));
        serde_json::to_string(&report).expect("JSON")
    };
    let first = told(None, 64 << 20, 1);
    for (seed, memory) in [(1, 1 << 20), (2, 100_000), (3, 50_000)] {
        assert_eq!(told(Some(seed), memory, 1), first);
        assert_eq!(told(Some(seed), memory * 4, 4), first);
    }
}

/// The values of an 8-bit float are its codes times its scale.
#[test]
fn pair_of_f8_with_a_scale_compares_scaled_values() {
    let scale = Tensor::of("a.weight_scale_inv", DType::F32, &[1], &[0.5]);
    let small = Tensor::raw("a.weight", DType::F8_E4M3, &[32, 32], vec![0x38; 1024]);
    let of = |x: f32| model(&[Tensor::of("a.weight", DType::F32, &[32, 32], &[x; 1024])]);
    let (small, half, one) = (model(&[small, scale]), of(0.5), of(1.0));
    for (other, equal) in [(&half, true), (&one, false), (&small, true)] {
        let pairing =
            pair::compare(&small.checkpoint, &other.checkpoint, &TensorFilter::default()).expect("a plan");
        assert!(pairing.findings.is_empty(), "{:?}", pairing.findings);
        let made = run(&pairing.plan, &[&small, other], Budget::default()).expect("a run");
        let report = compared(("a", "b"), &pairing.plan, pairing.findings, &made.collected, Some(0.999_999));
        assert_eq!((report.tensors.len(), report.any_below_threshold), (1, !equal));
    }
}
