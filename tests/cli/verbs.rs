//! `inspect`, `sweep` and `verify`, as far as other modules do not use them.

use crate::support::Dir;
use quantoscope_core::DType;
use quantoscope_tests::binary;
use quantoscope_tests::models::{Rng, Tensor, safetensors};
use serde_json::Value;

#[test]
fn inspect_shows_every_tensor_supported_or_not() {
    let dir = Dir::new();
    let all = [
        Tensor::random("a.weight", DType::F16, &[4, 32], &mut Rng(1)),
        Tensor::raw("b", DType::F8_E8M0, &[3], vec![0; 3]),
        Tensor::raw("c", DType::BOOL, &[], vec![1]),
        Tensor::raw("d", DType::F4, &[4], vec![0; 2]),
        Tensor::raw("e", DType::U64, &[0], Vec::new()),
    ];
    dir.write("m.safetensors", &safetensors(&all));
    let json = dir.run("inspect m.safetensors --json").exits(0).json();
    let of = |key: &str| -> Vec<String> {
        let rows = json["tensors"].as_array().expect("rows");
        rows.iter().map(|t| t[key].to_string().trim_matches('"').to_string()).collect()
    };
    assert_eq!(of("name"), ["a.weight", "b", "c", "d", "e"]);
    assert_eq!(of("dtype"), ["F16", "F8_E8M0", "BOOL", "F4", "U64"]);
    assert_eq!(of("shape"), ["[4,32]", "[3]", "[]", "[4]", "[0]"]);
    assert_eq!(of("bytes"), ["256", "3", "1", "2", "0"]);
    assert_eq!(json["parameters"], 128 + 3 + 1 + 4);
    let text = dir.run("inspect m.safetensors").exits(0).out;
    assert!(of("name").iter().all(|n| text.contains(n.as_str())) && text.contains("F8_E8M0"));
    // Statistics name what they cannot read, and go on.
    let ended = dir.run("inspect m.safetensors --stats").exits(0);
    assert!(ended.err.contains("F8_E8M0") && ended.err.contains("F4"), "{}", ended.err);
    // A conversion refuses it, by name.
    let error = dir.run("quantize m.safetensors -o x.gguf --type q4_0 --json").exits(6).error();
    assert_eq!((&error["code"], &error["tensor"]), (&"unsupported_dtype".into(), &"b".into()));
}

#[test]
fn inspect_filters_by_glob() {
    let dir = Dir::with_model();
    let names = |line: &str| -> Vec<Value> {
        let json = dir.run(line).exits(0).json();
        json["tensors"].as_array().expect("rows").iter().map(|t| t["name"].clone()).collect()
    };
    assert_eq!(
        names("inspect m.safetensors --json --tensor *.1.*q_proj*"),
        ["model.layers.1.self_attn.q_proj.weight"]
    );
    assert_eq!(names("inspect m.safetensors --json --tensor lm_head* --tensor model.norm*").len(), 2);
    let one = dir.run("inspect m.safetensors --stats --json --tensor model.norm.weight").exits(0).json();
    assert!(one["tensors"][0]["stats"]["std"].is_number());
}

/// Of a sparse file of 6 GiB, as the system counts the bytes that commands read.
#[cfg(target_os = "linux")]
#[test]
fn inspect_reads_headers_only() {
    let dir = Dir::new();
    let header = r#"{"a.weight":{"dtype":"F32","shape":[49152,32768],"data_offsets":[0,6442450944]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    dir.write("m.safetensors", &bytes);
    let file = std::fs::OpenOptions::new().write(true).open(dir.at("m.safetensors")).expect("a file");
    file.set_len(bytes.len() as u64 + (6 << 30)).expect("a sparse file");
    for verb in ["inspect m.safetensors", "plan m.safetensors --type q4_0"] {
        // A shell's counters have those of the children that it waited for.
        let script = format!("{} {verb} >&2 && cat /proc/$$/io", binary::path().display());
        let mut shell = std::process::Command::new("sh");
        let counters = binary::ended(shell.current_dir(dir.path()).args(["-c", &script])).exits(0).out;
        let read = counters.lines().find_map(|l| l.strip_prefix("rchar: ")?.parse::<u64>().ok());
        assert!(read.is_some_and(|n| 64 < n && n < 1 << 20), "{verb} read {read:?} bytes");
    }
}

#[test]
fn sweep_has_one_row_per_tensor_and_type() {
    let dir = Dir::with_model();
    let out = dir.run("sweep m.safetensors --types q4_0,Q8_0,q4_asym").exits(0).out;
    let mut lines = out.lines();
    let head = "tensor\ttype\tbits_per_weight\trmse\trelative_error\tsqnr_db\tcosine\tmax_abs\trefused";
    assert_eq!(lines.next(), Some(head));
    let rows: Vec<Vec<&str>> = lines.map(|l| l.split('\t').collect()).collect();
    assert_eq!(rows.len(), 16 * 3);
    for three in rows.chunks(3) {
        assert_eq!(
            three.iter().map(|r| (r[1], r[2])).collect::<Vec<_>>(),
            [("Q4_0", "4.5"), ("Q8_0", "8.5"), ("Q4_ASYM", "5")]
        );
        assert!(three.iter().all(|r| r[0] == three[0][0] && r.len() == 9));
    }
    let json = dir.run("sweep m.safetensors --json --tensor *norm* --types q8_0").exits(0).json();
    let row = &json["tensors"][0]["encodings"][0];
    assert_eq!(row["encoding"], "q8_0");
    assert!(row["rmse"].is_number() && row["sqnr_db"].is_number());
    dir.run("sweep m.safetensors --types q9").exits(2);
}

#[test]
fn sweep_samples_rows_and_says_so() {
    let dir = Dir::with_model();
    let json =
        |line: &str| dir.run(&format!("sweep m.safetensors --types q4_0 --json {line}")).exits(0).json();
    let (whole, part) = (json(""), json("--sample 5"));
    let rows = |json: &Value| json["tensors"].as_array().expect("rows").clone();
    assert!(rows(&whole).iter().all(|t| t.get("sampled").is_none()));
    for (a, b) in rows(&whole).iter().zip(rows(&part)) {
        assert_eq!(b["sampled"], serde_json::json!({ "rows": 5, "of": b["shape"][0] }));
        assert_eq!(b["numel"], a["numel"]);
        assert!(b["encodings"][0]["rmse"].is_number());
        assert_ne!(b["encodings"][0]["rmse"], a["encodings"][0]["rmse"], "{}", b["name"]);
    }
    assert_eq!(part, json("--sample 5 --threads 1"));
    assert_eq!(part, json("--sample 5 --threads 3 --engine scalar"));
    let table = dir.run("sweep m.safetensors --types q4_0 --sample 5 --format table").exits(0).out;
    assert!(table.ends_with("\nsampled: about 5 rows of each tensor\n"), "{table}");
    let tsv = dir.run("sweep m.safetensors --types q4_0 --sample 5 --format tsv").exits(0);
    assert!(tsv.err.contains("sampled: about 5 rows") && !tsv.out.contains("sampled"));
    let all = dir.run("sweep m.safetensors --types q4_0 --sample 9999999 --format table").exits(0).out;
    assert!(all.contains("sampled: nothing"), "{all}");
    assert_eq!(json("--sample 9999999"), whole);
    dir.run("sweep m.safetensors --sample 0").exits(2);
}

#[test]
fn verify_alone_checks_structure_and_values() {
    let dir = Dir::with_model();
    dir.run("quantize m.safetensors -o x --to q4").exits(0);
    dir.run("verify x").exits(0);
    let name = "x/lm_head_weight.q4";
    let sound = dir.read(name);
    // A scale that is NaN, in the first block.
    let mut bytes = sound.clone();
    bytes[36..38].copy_from_slice(&0x7E00_u16.to_le_bytes());
    dir.write(name, &bytes);
    let report = dir.run("verify x --json").exits(5).json();
    assert_eq!(report["findings"][0]["kind"], "non_finite");
    assert_eq!(report["findings"][0]["tensor"], "lm_head.weight");
    // One byte short is no difference, but no artefact.
    dir.write(name, &sound[..sound.len() - 1]);
    assert_eq!(dir.run("verify x --json").exits(4).error()["code"], "truncated");
}

/// "Verified" must not be said of what was not looked at.
#[test]
fn verify_names_what_it_cannot_decode() {
    let dir = Dir::new();
    let k = Tensor::raw("up_proj.weight", DType::F6_E2M3, &[1, 32], vec![0; 24]);
    let f = Tensor::random("lm_head.weight", DType::F32, &[1, 32], &mut Rng(1));
    dir.write("m.safetensors", &safetensors(&[k, f]));
    let ended = dir.run("verify m.safetensors");
    let all = format!("{}{}", ended.out, ended.err);
    assert!(all.contains("up_proj.weight") && all.contains("F6_E2M3"), "{all}");
}

#[test]
fn verify_against_finds_the_first_difference() {
    let dir = Dir::with_model();
    dir.run("quantize m.safetensors -o x --to q4").exits(0);
    dir.run("verify x --against m.safetensors").exits(0);
    let name = "x/model_layers_1_mlp_up_proj_weight.q4";
    let mut bytes = dir.read(name);
    bytes[36 + 20 * 3 + 7] ^= 0x10;
    dir.write(name, &bytes);
    let report = dir.run("verify x --against m.safetensors --json").exits(5).json();
    let bad: Vec<&Value> =
        report["tensors"].as_array().expect("rows").iter().filter(|t| t["identical"] == false).collect();
    assert_eq!(bad.len(), 1);
    assert_eq!(bad[0]["tensor"], "model.layers.1.mlp.up_proj.weight");
    assert_eq!((&bad[0]["differing"], &bad[0]["first_element"]), (&1.into(), &96.into()));
    dir.run("verify x --against m.safetensors").exits(5).says("1 tensor not identical");
}

/// The published microbenchmark: its six rows in its order, and the same answer from any number of threads.
#[test]
fn bench_rotation_tells_what_was_published_and_what_was_not() {
    let dir = Dir::new();
    let line = "bench rotation --rows 64 --cols 1024";
    let json = dir.run(&format!("{line} --json")).exits(0).json();
    let rows = json["formats"].as_array().expect("rows");
    let names: Vec<&str> = rows.iter().take(6).filter_map(|r| r["name"].as_str()).collect();
    assert_eq!(names, ["Q4", "Q3", "Q2", "H128-Q4", "H128-Q3", "H128-Q2"]);
    let mse = rows[4]["mse"].as_f64().expect("a number");
    assert!((mse / 5.462_490_704_797_64e-5 - 1.0).abs() < 5e-7, "{mse}");
    assert_eq!((&json["lowest_matching_bits"], &json["lowest_matching_bits_of_all"]), (&4.into(), &3.into()));
    assert_eq!(dir.run(&format!("{line} --json --threads 7")).exits(0).json(), json);
    let text = dir.run(line).exits(0).out;
    assert!(text.contains("4 bits as published, 3 bits for the best format here"), "{text}");
    assert!(dir.run("bench rotation --cols 100").exits(2).err.contains("do not divide"));
    assert!(dir.run("bench rotation --rows 0").exits(2).err.contains("needed"));
}
