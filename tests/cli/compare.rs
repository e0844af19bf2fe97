//! `compare` as scripts use it: columns, keys, gate, exit codes.

use crate::support::{Dir, one};
use quantoscope_core::DType;
use quantoscope_tests::models::{Rng, Tensor, safetensors};
use serde_json::Value;
use std::collections::BTreeSet;

fn pair(a: &[f32], b: &[f32]) -> Dir {
    let dir = Dir::new();
    dir.write("a.safetensors", &one("t", &[a.len() as u64], a));
    dir.write("b.safetensors", &one("t", &[b.len() as u64], b));
    dir
}

const COMPARE: &str = "compare a.safetensors b.safetensors";

fn with_q4() -> Dir {
    let dir = Dir::with_model();
    dir.run("quantize m.safetensors -o q.gguf --type q4_0").exits(0);
    dir
}

#[test]
fn tsv_has_the_columns_that_were_promised() {
    let dir = with_q4();
    // Standard output is no terminal here, so TSV is the default.
    let ended = dir.run("compare m.safetensors q.gguf").exits(0);
    assert_eq!(ended.out, dir.run("compare m.safetensors q.gguf --format tsv").out);
    let mut lines = ended.out.lines();
    assert_eq!(lines.next(), Some("tensor\tqtype\tnumel\trmse\tcosine\tmax_abs\tverdict"));
    let mut last = f64::INFINITY;
    for line in lines {
        let cells: Vec<&str> = line.split('\t').collect();
        assert_eq!(cells.len(), 7, "{line}");
        assert!(["Q4_0", "BF16"].contains(&cells[1]), "{line}");
        assert!(cells[2].parse::<u64>().is_ok());
        let rmse: f64 = cells[3].parse().expect("a number");
        assert!(rmse <= last, "worst first");
        last = rmse;
        assert!(cells[3].contains('e') && cells[5].contains('e'), "scientific: {line}");
        let cosine = cells[4];
        assert_eq!(cosine.split_once('.').map(|(_, d)| d.len()), Some(6), "fixed: {line}");
        assert!(["green", "yellow", "red"].contains(&cells[6]));
    }
    assert!(!ended.out.contains('\u{1b}'));
}

/// No null, and so no number that JSON cannot say, anywhere but in `allowed`.
fn no_nulls(value: &Value, allowed: &str) {
    match value {
        Value::Object(map) => {
            map.iter().filter(|(k, _)| *k != allowed).for_each(|(k, v)| {
                assert!(!v.is_null(), "{k} is null");
                no_nulls(v, allowed);
            });
        }
        Value::Array(all) => all.iter().for_each(|v| no_nulls(v, allowed)),
        _ => {}
    }
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn json_has_the_keys_that_were_promised() {
    let dir = with_q4();
    let ended = dir.run("compare m.safetensors q.gguf --json").exits(0);
    assert_eq!(ended.out, dir.run("compare m.safetensors q.gguf --format json").out);
    let report = ended.json();
    let want = "schema_version reference candidate threshold tensors findings any_below_threshold";
    assert_eq!(keys(&report), want.split(' ').collect());
    assert_eq!((&report["schema_version"], &report["threshold"]), (&1.into(), &0.95.into()));
    assert_eq!((&report["reference"], &report["candidate"]), (&"m.safetensors".into(), &"q.gguf".into()));
    for row in report["tensors"].as_array().expect("rows") {
        let always: BTreeSet<&str> = "tensor qtype numel rmse cosine max_abs verdict".split(' ').collect();
        assert!(keys(row).is_superset(&always), "{row}");
    }
    no_nulls(&report, "");
    let open = dir.run("compare m.safetensors q.gguf --json --no-threshold").exits(0).json();
    assert_eq!((&open["threshold"], &open["any_below_threshold"]), (&Value::Null, &false.into()));
}

#[test]
fn numbers_stay_finite_whatever_the_values() {
    let cases: [(&[f32], &[f32]); 5] = [
        (&[f32::NAN, 1.0], &[1.0, 1.0]),
        (&[f32::INFINITY, 1.0], &[f32::NEG_INFINITY, 1.0]),
        (&[f32::MAX; 64], &[f32::MIN; 64]),
        (&[f32::NAN; 4], &[f32::NAN; 4]),
        (&[1e-45; 4], &[0.0; 4]),
    ];
    for (a, b) in cases {
        let dir = pair(a, b);
        let ended = dir.run(&format!("{COMPARE} --json")).exits(5);
        no_nulls(&ended.json(), "");
        dir.run(&format!("{COMPARE} --json --no-threshold")).exits(0);
        dir.run(&format!("{COMPARE} --format table")).exits(5);
        dir.run(COMPARE).exits(5);
    }
}

#[test]
fn thresholds_outside_of_a_cosine_are_usage_errors() {
    let dir = pair(&[1.0], &[1.0]);
    for bad in ["NaN", "nan", "1.5", "-2", "inf", "-inf", "abc", "1.0000001"] {
        dir.run(&format!("{COMPARE} --threshold {bad}")).exits(2);
        dir.run(&format!("{COMPARE} --threshold={bad}")).exits(2);
    }
    for good in ["-1", "0", "1", "0.999"] {
        dir.run(&format!("{COMPARE} --threshold {good}")).exits(0);
    }
    dir.run(&format!("{COMPARE} --threshold 0.5 --no-threshold")).exits(2);
}

#[test]
fn a_cosine_equal_to_the_threshold_passes() {
    let dir = pair(&[1.0, 0.0], &[3.0, 4.0]);
    dir.run(&format!("{COMPARE} --verdict cosine --threshold 0.6")).exits(0);
    let above = format!("{COMPARE} --verdict cosine --threshold 0.6000000000000001");
    dir.run(&above).exits(5).says("below the threshold");
    dir.run(&format!("{COMPARE} --verdict cosine")).exits(5);
    dir.run(COMPARE).exits(5);
    dir.run(&format!("{COMPARE} --no-threshold")).exits(0);
}

/// A model at another scale, or with a constant added, has a cosine of nearly 1: the figure sees it, the cosine alone does not.
#[test]
fn scale_is_seen_unless_the_cosine_alone_decides() {
    let x = Rng(5).weights(64);
    let times = |k: f32, add: f32| -> Vec<f32> { x.iter().map(|v| v * k + add).collect() };
    for (k, add, figure) in [(2.0, 0.0, 0.5), (0.5, 0.0, 0.875)] {
        let dir = pair(&x, &times(k, add));
        let report = dir.run(&format!("{COMPARE} --json")).exits(5).json();
        let row = &report["tensors"][0];
        assert_eq!((&row["verdict"], &row["below_threshold"]), (&"red".into(), &true.into()));
        assert!((row["figure"].as_f64().expect("a figure") - figure).abs() < 1e-9, "{row}");
        assert_eq!(row["worst_row"]["row"], 0);
        assert!(report.get("verdict_by").is_none());
        dir.run(&format!("{COMPARE} --format table")).exits(5).out.contains("worst row");
        let old = dir.run(&format!("{COMPARE} --verdict cosine --threshold 0.999 --json")).exits(0).json();
        assert_eq!((&old["verdict_by"], &old["tensors"][0]["verdict"]), (&"cosine".into(), &"green".into()));
        assert_eq!(old["findings"], serde_json::json!([]));
    }
    let ones = |add: f32| -> Vec<f32> { x.iter().map(|v| 1.0 + v + add).collect() };
    let dir = pair(&ones(0.0), &ones(1.0));
    dir.run(COMPARE).exits(5);
    dir.run(&format!("{COMPARE} --verdict cosine")).exits(0);
    dir.run(&format!("{COMPARE} --verdict sine")).exits(2);
}

#[test]
fn zeros_agree_and_nan_does_not() {
    let ended = pair(&[0.0; 8], &[0.0; 8]).run(&format!("{COMPARE} --threshold 1")).exits(0);
    assert_eq!(ended.out.lines().nth(1), Some("t\tF32\t8\t0.000000e0\t1.000000\t0.000000e0\tgreen"));
    let holed = pair(&[0.5, f32::NAN], &[0.5, f32::NAN]);
    holed.run(&format!("{COMPARE} --threshold -1")).exits(5).says("non_finite");
    holed.run(&format!("{COMPARE} --no-threshold")).exits(0).says("non_finite");
}

/// A finding trips the gate even where every cosine is 1; without a gate it is only told.
#[test]
fn findings_trip_the_gate() {
    let t = |name: &str, shape: &[u64]| Tensor::random(name, DType::F32, shape, &mut Rng(7));
    let raw = |dtype, n| Tensor::raw("t", dtype, &[64, 32], vec![0; n]);
    let cases = [
        ("only_in_reference", vec![t("t", &[4, 32]), t("u", &[8])], vec![t("t", &[4, 32])]),
        ("only_in_candidate", vec![t("t", &[4, 32])], vec![t("t", &[4, 32]), t("u", &[8])]),
        ("shape_mismatch", vec![t("t", &[64, 32])], vec![t("t", &[32, 64])]),
        ("shape_mismatch", vec![t("t", &[64, 32])], vec![t("t", &[2048])]),
        ("unsupported_dtype", vec![t("t", &[64, 32])], vec![raw(DType::F8_E8M0, 2048)]),
        ("unsupported_dtype", vec![raw(DType::I16, 4096)], vec![t("t", &[64, 32])]),
        ("no_overlap", vec![t("t", &[4, 32])], vec![t("u", &[4, 32])]),
    ];
    for (kind, a, b) in cases {
        let dir = Dir::new();
        dir.write("a.safetensors", &safetensors(&a));
        dir.write("b.safetensors", &safetensors(&b));
        let report = dir.run(&format!("{COMPARE} --json --threshold -1")).exits(5).json();
        let findings = report["findings"].as_array().expect("findings");
        assert!(findings.iter().any(|f| f["kind"] == kind), "{kind}: {findings:?}");
        assert_eq!(report["any_below_threshold"], false);
        dir.run(&format!("{COMPARE} --no-threshold")).exits(0).says(kind);
        let table = dir.run(&format!("{COMPARE} --format table")).exits(5);
        assert!(table.out.contains(kind), "{}", table.out);
    }
}

#[test]
fn every_container_stands_on_either_side() {
    let dir = Dir::with_model_directory(false);
    dir.run("quantize m -o q.gguf --type q8_0 --names source").exits(0);
    dir.run("quantize m -o q --to q4").exits(0);
    let sides = ["m", "m/model.safetensors", "q.gguf", "q"];
    for (a, b) in sides.iter().flat_map(|a| sides.iter().map(move |b| (a, b))) {
        let ended = dir.run(&format!("compare {a} {b} --threshold 0.97")).exits(0);
        assert_eq!(ended.err, "", "{a} {b}");
        let one = dir.run(&format!("compare {a} {b} --threshold 0.97 --threads 1 --memory 300kB --json"));
        let eight = dir.run(&format!("compare {a} {b} --threshold 0.97 --threads 8 --json"));
        assert_eq!(one.out, eight.out, "the same report on any number of threads");
    }
}
