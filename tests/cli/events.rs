//! `--events`: one JSON object per line, for programs that watch a run.

use crate::support::{Dir, one};
use quantoscope_core::DType;
use quantoscope_tests::binary::{self, Ended};
use quantoscope_tests::models::{Tensor, safetensors};
use serde_json::Value;
use std::path::Path;

/// The events, each of which must be a line of JSON with `event` as its first key and whole numbers of bytes.
#[track_caller]
fn events(ended: &Ended) -> Vec<Value> {
    let parse = |line: &str| {
        assert!(line.starts_with("{\"event\":\""), "{line}");
        let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        for (key, v) in value.as_object().expect("an object") {
            assert!(!key.contains("bytes") || v.is_u64(), "{key} in {line}");
            assert!(!v.is_null(), "what is unknown is absent: {line}");
        }
        value
    };
    ended.out.lines().map(parse).collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|e| e["event"].as_str().expect("text")).collect()
}

#[test]
fn a_run_starts_goes_tensor_by_tensor_and_ends() {
    let dir = Dir::with_model_directory(false);
    for (output, options) in [("x.gguf", "--type q4_0"), ("y", "--to q4"), ("z.safetensors", "--type f32")] {
        let ended = dir.run(&format!("quantize m -o {output} {options} --events --threads 3")).exits(0);
        let all = events(&ended);
        let n = all.len() - 2;
        let mut want = vec!["quant_tensor"; n + 2];
        (want[0], want[n + 1]) = ("quant_start", "quant_done");
        assert_eq!(kinds(&all), want);
        assert_eq!((&all[0]["tensors"], &all[0]["dry_run"]), (&n.into(), &false.into()));
        for (i, e) in all[1..=n].iter().enumerate() {
            assert_eq!((&e["index"], &e["count"]), (&i.into(), &n.into()), "in order");
        }
        let sum = |key: &str| all[1..=n].iter().map(|e| e[key].as_u64().expect("bytes")).sum::<u64>();
        let (start, done) = (&all[0], &all[n + 1]);
        assert_eq!(done["total_bytes_in"], sum("tensor_bytes_in"));
        assert_eq!(done["total_bytes_in"], start["total_bytes_in"]);
        let path = dir.at(output);
        let files = if path.is_dir() { binary::tree(&path) } else { vec![(String::new(), dir.read(output))] };
        let on_disk: u64 = files.iter().map(|(_, b)| b.len() as u64).sum();
        assert_eq!(done["total_bytes_out"], on_disk);
        assert!(sum("tensor_bytes_out") < on_disk, "headers come on top");
        assert_eq!(done["tensor_bytes_out"], sum("tensor_bytes_out"));
        assert_eq!(done["source_file_bytes"], dir.read("m/model.safetensors").len());
        let float = |e: &&Value| ["F32", "F16", "BF16"].iter().any(|f| e["dtype_out"] == *f);
        let kept = all[1..=n].iter().filter(float).count();
        assert_eq!((&done["kept"], &done["planned_quantized"]), (&kept.into(), &(n - kept).into()));
        assert!(done["seconds"].is_number() && done["ratio"].is_number());
    }
}

#[test]
fn a_dry_run_has_the_same_events_without_what_it_cannot_know() {
    let dir = Dir::with_model_directory(false);
    let dry = events(&dir.run("quantize m -o x.gguf --type q4_0 --events --dry-run").exits(0));
    let real = events(&dir.run("quantize m -o x.gguf --type q4_0 --events").exits(0));
    assert_eq!(kinds(&dry), kinds(&real));
    let (d, r) = (dry.last().expect("an event"), real.last().expect("an event"));
    for key in [
        "total_bytes_in",
        "source_file_bytes",
        "total_bytes_out",
        "tensor_bytes_out",
        "planned_quantized",
        "kept",
        "ratio",
    ] {
        assert_eq!(d[key], r[key], "{key}");
    }
    assert!(d.get("seconds").is_none() && d.get("engine").is_none(), "{d}");
    assert!(d["planned_quantized"].as_u64().expect("a count") > 0);
    for (a, b) in dry.iter().zip(&real).filter(|(a, _)| a["event"] == "quant_tensor") {
        assert_eq!((&a["tensor"], &a["tensor_bytes_out"]), (&b["tensor"], &b["tensor_bytes_out"]));
        assert!(a.get("rmse").is_none(), "nothing was measured: {a}");
    }
}

/// Planned or done, the bytes of all tensors are the sum of what each event said.
fn bytes_of_tensors_add_up(dir: &Dir, target: &str) {
    for dry in ["--dry-run", "--force"] {
        let all = events(&dir.run(&format!("quantize m -o {target} --events {dry}")).exits(0));
        let tensors: Vec<&Value> = all.iter().filter(|e| e["event"] == "quant_tensor").collect();
        assert_eq!(all[0]["tensors"], tensors.len(), "{target} {dry}");
        let sum: u64 = tensors.iter().map(|e| e["tensor_bytes_out"].as_u64().expect("bytes")).sum();
        assert!(sum > 0);
        assert_eq!(all.last().expect("an event")["tensor_bytes_out"], sum, "{target} {dry}");
    }
}

#[test]
fn the_bytes_of_tensors_add_up_for_every_target() {
    let dir = Dir::with_model_directory(true);
    for target in ["x.gguf --type q4_0", "x.safetensors --type f32", "x --to q4"] {
        bytes_of_tensors_add_up(&dir, target);
    }
    // A tied head becomes its own.
    let dir = Dir::new();
    std::fs::create_dir(dir.at("m")).expect("a directory");
    let family = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/families/llama_tied");
    for file in ["model.safetensors", "config.json"] {
        std::fs::copy(family.join(file), dir.at("m").join(file)).expect("a copy");
    }
    for target in ["x.gguf --type q8_0", "x.safetensors --to safetensors", "x --to q4"] {
        bytes_of_tensors_add_up(&dir, &format!("{target} --rotate quarot"));
    }
}

#[test]
fn no_ratio_where_there_is_none() {
    let dir = Dir::new();
    dir.write("m.safetensors", &safetensors(&[Tensor::raw("a.weight", DType::F32, &[0, 32], Vec::new())]));
    for dry in ["", "--dry-run"] {
        let all = events(
            &dir.run(&format!("quantize m.safetensors -o x.gguf --type q4_0 --events {dry}")).exits(0),
        );
        let done = all.last().expect("an event");
        assert!(done.get("ratio").is_none() && done.get("bits_per_weight").is_none(), "{done}");
        assert_eq!(done["total_bytes_in"], 0);
        assert!(done["total_bytes_out"].as_u64() > Some(0));
    }
}

#[test]
fn events_and_json_exclude_each_other() {
    let dir = Dir::with_model();
    dir.run("quantize m.safetensors -o x.gguf --type q4_0 --events --json").exits(2);
    assert_eq!(dir.names(), ["m.safetensors"]);
}

#[test]
fn a_failed_run_has_no_done() {
    let dir = Dir::new();
    let mut values = vec![0.5; 64 * 64];
    values[9] = f32::NAN;
    dir.write("m.safetensors", &one("a.weight", &[64, 64], &values));
    let ended = dir.run("quantize m.safetensors -o x.gguf --type q4_0 --events").exits(4);
    assert_eq!(kinds(&events(&ended)), ["quant_start"]);
    assert_eq!(ended.error()["code"], "non_finite");
}

/// A reader that goes away does not take the artefact with it, nor leave half of one.
#[cfg(unix)]
#[test]
fn a_closed_pipe_does_not_stop_the_work() {
    use std::process::Stdio;
    let dir = Dir::with_model();
    let args = "quantize m.safetensors -o x.gguf --type q4_0 --events";
    let mut child =
        binary::command(dir.path(), args.split(' ')).stdout(Stdio::piped()).spawn().expect("started");
    drop(child.stdout.take());
    let code = child.wait().expect("ended").code();
    assert_eq!((code, dir.names()), (Some(0), vec!["m.safetensors".to_string(), "x.gguf".into()]));
    dir.run("verify x.gguf --against m.safetensors").exits(0);
}
