//! `eval`: figures of the sample against an independent program, and what is refused.

use crate::support::Dir;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/eval").join(name)
}

/// The sample as `m`, the sample with the lowest four bits of its values cleared as `q`, and the token ids.
pub(crate) fn samples() -> Dir {
    let dir = Dir::new();
    let sample = root().join("www/sample");
    for name in ["m", "q"] {
        std::fs::create_dir(dir.at(name)).expect("a directory");
        for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
            std::fs::copy(sample.join(file), dir.at(name).join(file)).expect("a copy");
        }
    }
    let mut bytes = dir.read("q/model.safetensors");
    let start = 8 + u64::from_le_bytes(*bytes.first_chunk().expect("a header")) as usize;
    bytes[start..].iter_mut().step_by(2).for_each(|low| *low &= 0xF0);
    dir.write("q/model.safetensors", &bytes);
    std::fs::copy(fixture("ids.txt"), dir.at("ids.txt")).expect("a copy");
    dir
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn expected() -> Value {
    json(&std::fs::read_to_string(fixture("expected.json")).expect("a fixture"))
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(all) => all.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().expect("a number")],
    }
}

/// Every expected figure, within `bound` relative to itself or to 1, whichever is larger.
fn assert_figures(found: &Value, expected: &Value, bound: f64) {
    for (key, value) in expected.as_object().expect("figures") {
        let (found, value) = (numbers(&found[key]), numbers(value));
        assert_eq!(found.len(), value.len(), "{key}");
        for (found, value) in found.iter().zip(value) {
            assert!((found - value).abs() <= bound * value.abs().max(1.0), "{key}: {found} and {value}");
        }
    }
}

#[test]
fn eval_sample_has_the_figures_of_an_independent_program() {
    let (dir, expected) = (samples(), expected());
    let line = "eval q --against m --ids ids.txt --context 96 --json";
    // Single positions differ more than means do.
    for (options, bound) in [("--precision f64", 1e-9), ("", 3e-6)] {
        let whole = json(&dir.run(&format!("{line} {options}")).exits(0).out);
        assert_figures(&whole, &expected["whole"], bound);
        assert_eq!(whole["windows"], 4);
        let half = json(&dir.run(&format!("{line} --llama-windows {options}")).exits(0).out);
        assert_figures(&half, &expected["half"], bound);
    }
}

/// Bits of figures depend on neither threads, nor memory, nor the order of the models' windows.
#[test]
fn eval_figures_do_not_depend_on_resources() {
    let dir = samples();
    let line = "eval q --against m --ids ids.txt --context 96 --json --per-position";
    let strip = |text: &str| {
        let mut value = json(text);
        let map = value.as_object_mut().expect("an object");
        ["seconds", "tokens_per_second", "threads"].iter().for_each(|key| drop(map.remove(*key)));
        value
    };
    let first = strip(&dir.run(line).exits(0).out);
    assert_eq!(first["positions"].as_array().map(Vec::len), Some(320));
    for resources in ["-j 1 --memory 24MiB", "-j 3 --memory 40MiB", "-j 5 --memory 1GiB"] {
        let found = strip(&dir.run(&format!("{line} {resources}")).exits(0).out);
        assert!(found == first, "{resources}");
    }
}

/// A GGUF has the figures of the folder that it was made of, and quantized ones lose what their types lose.
#[test]
fn eval_gguf_equals_its_folder() {
    let dir = samples();
    dir.run("quantize m -o f.gguf --type bf16 --names gguf").exits(0);
    dir.run("quantize m -o q8.gguf --type q8_0").exits(0);
    dir.run("quantize m -o q4.gguf --recipe q4_k_m").exits(0);
    let kl = |model: &str| {
        let line = format!("eval {model} --against m --ids ids.txt --context 96 --tokens 96 --json");
        let report = json(&dir.run(&line).exits(0).out);
        (report["kl_mean"].as_f64().expect("a number"), report["top1"].as_f64().expect("a number"))
    };
    assert_eq!(kl("f.gguf"), (0.0, 1.0));
    assert_eq!(kl("m"), (0.0, 1.0));
    let (q8, q4) = (kl("q8.gguf").0, kl("q4.gguf").0);
    assert!(q8 > 0.0 && q8 < 1e-3 && q4 > 10.0 * q8 && q4 < 0.1, "{q8} and {q4}");
}

#[test]
fn eval_text_is_encoded_by_the_tokenizer() {
    let dir = samples();
    dir.write("t.txt", b"/// Returns the number of elements in the vector.\npub fn len(&self) -> usize {");
    dir.run("quantize m -o f.gguf --type bf16 --names gguf").exits(0);
    let of = |model: &str| json(&dir.run(&format!("eval {model} --text t.txt --json")).exits(0).out);
    let (folder, gguf) = (of("m"), of("f.gguf"));
    assert_eq!((&folder["tokens"], &folder["nll"]), (&gguf["tokens"], &gguf["nll"]));
    assert!(folder["perplexity"].as_f64().is_some_and(|p| p > 1.0 && p < 30.0), "{folder}");
    assert_eq!(folder["context"], 256);
}

#[test]
fn eval_report_for_people_explains_its_figures() {
    let dir = samples();
    let text = dir.run("eval q --against m --ids ids.txt --tokens 20").exits(0).out;
    for part in [
        "perplexity",
        "± ",
        "mean KL divergence",
        "same top token",
        "on the processor",
        "20 tokens predicted",
    ] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
}

#[test]
fn eval_impossible_requests_are_refused_with_a_reason() {
    let dir = samples();
    dir.write("high.txt", b"1 2 4096");
    dir.write("word.txt", b"1 2 x");
    dir.write("one.txt", b"7");
    dir.write("empty.txt", b"");
    dir.write("bad.txt", &[0xFF, 0xFE, 0xFD]);
    dir.write("t.txt", b"some text");
    std::fs::create_dir(dir.at("bare")).expect("a directory");
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(dir.at("m").join(file), dir.at("bare").join(file)).expect("a copy");
    }
    let config = String::from_utf8(dir.read("m/config.json")).expect("text");
    std::fs::create_dir(dir.at("t5")).expect("a directory");
    std::fs::copy(dir.at("m/model.safetensors"), dir.at("t5/model.safetensors")).expect("a copy");
    dir.write("t5/config.json", config.replace("\"llama\"", "\"t5\"").as_bytes());
    for (line, code, part) in [
        ("eval m --ids high.txt", 4, "4096 (number 2, counted from 0) is not in the vocabulary of 4096"),
        ("eval m --ids word.txt", 4, "decimal numbers, blanks"),
        ("eval m --ids one.txt", 6, "leave none to predict"),
        ("eval m --ids empty.txt", 6, "is empty"),
        ("eval m --text empty.txt", 6, "is empty"),
        ("eval m --text bad.txt", 4, "is not UTF-8 text"),
        ("eval m --text none.txt", 3, "cannot read none.txt"),
        ("eval bare --text t.txt", 6, "has no tokenizer"),
        ("eval m --ids ids.txt --context 257", 2, "longer than the 256 positions"),
        ("eval m --ids ids.txt --llama-windows --context 3", 2, "at least 4 tokens"),
        ("eval m --ids ids.txt --memory 1MiB", 2, "--context"),
        ("eval t5 --ids ids.txt", 6, "no forward pass for the architecture \"t5\""),
        ("eval m", 2, "--text"),
        ("eval m --ids ids.txt --per-position", 2, "--json"),
    ] {
        let ended = dir.run(line).exits(code);
        assert!(ended.err.contains(part), "{line}: {}", ended.err);
    }
}

/// A copy of the sample `m` as `name`, with each named tensor's BF16 values changed.
fn changed(dir: &Dir, name: &str, tensor: &str, change: impl Fn(u16) -> u16) {
    std::fs::create_dir(dir.at(name)).expect("a directory");
    for file in ["config.json", "tokenizer.json"] {
        std::fs::copy(dir.at("m").join(file), dir.at(name).join(file)).expect("a copy");
    }
    let mut bytes = dir.read("m/model.safetensors");
    let start = 8 + u64::from_le_bytes(*bytes.first_chunk().expect("a header")) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..start]).expect("a header");
    let place = |i: usize| header[tensor]["data_offsets"][i].as_u64().expect("an offset") as usize;
    for value in bytes[start + place(0)..start + place(1)].as_chunks_mut::<2>().0 {
        *value = change(u16::from_le_bytes(*value)).to_le_bytes();
    }
    dir.write(&format!("{name}/model.safetensors"), &bytes);
}

/// A tensor that turns out to be missing in the middle of a pass: code, path, tensor, for the model and for the reference.
#[test]
fn eval_refusal_inside_the_pass_has_its_code_and_the_model() {
    let dir = samples();
    std::fs::create_dir(dir.at("gap")).expect("a directory");
    std::fs::copy(dir.at("m/config.json"), dir.at("gap/config.json")).expect("a copy");
    let bytes = dir.read("m/model.safetensors");
    let (from, to) = (b"layers.3.mlp.down_proj", b"layers.3.mlp.down_prox");
    let at = bytes.windows(from.len()).position(|w| w == from).expect("a name");
    dir.write("gap/model.safetensors", &[&bytes[..at], to, &bytes[at + to.len()..]].concat());
    for line in ["eval gap --ids ids.txt", "eval m --against gap --ids ids.txt"] {
        let error = dir.run(&format!("{line} --tokens 8 --json")).exits(6).error();
        assert_eq!(error["code"], "unsupported_forward", "{error}");
        let message = error["message"].as_str().expect("a message");
        assert!(message.starts_with("gap: the model cannot be evaluated: "), "{message}");
        assert_eq!(error["file"], "gap", "{error}");
        assert_eq!(error["tensor"], "model.layers.3.mlp.down_proj.weight", "{error}");
    }
    changed(&dir, "nan", "model.layers.2.mlp.up_proj.weight", |_| 0x7FC0);
    let error = dir.run("eval m --against nan --ids ids.txt --tokens 8 --json").exits(4).error();
    assert_eq!((&error["code"], &error["file"]), (&"non_finite".into(), &"nan".into()), "{error}");
}

#[test]
fn eval_single_token_has_no_standard_error() {
    let dir = samples();
    let line = "eval q --against m --ids ids.txt --tokens 1";
    let report = json(&dir.run(&format!("{line} --json")).exits(0).out);
    for key in ["nll_error", "perplexity_error", "kl_mean_error"] {
        assert!(report.get(key).is_none(), "{key}: {report}");
    }
    let text = dir.run(line).exits(0).out;
    assert!(!text.contains('±') && text.contains("a single token has no standard error"), "{text}");
    let two = json(&dir.run("eval q --against m --ids ids.txt --tokens 2 --json").exits(0).out);
    assert!(two["nll_error"].as_f64().is_some_and(|e| e > 0.0), "{two}");
}

/// A perplexity beyond the range of numbers is `null` in JSON, and a bound in words.
#[test]
fn eval_infinite_perplexity_is_null() {
    let dir = samples();
    let larger = |bits: u16| if bits & 0x7F80 == 0 { bits } else { bits + (14 << 7) };
    changed(&dir, "wild", "lm_head.weight", larger);
    let line = "eval wild --against m --ids ids.txt --tokens 4";
    let report = json(&dir.run(&format!("{line} --json")).exits(0).out);
    assert!(report["nll"].as_f64().is_some_and(|nll| nll > 1000.0), "{report}");
    assert!(report["perplexity"].is_null() && report["perplexity_ratio"].is_null(), "{report}");
    let text = dir.run(line).exits(0).out;
    assert!(text.contains("above 1.8e308") && !text.contains("inf"), "{text}");
}

/// Every key of the report is in the document.
#[test]
fn eval_keys_are_documented() {
    let dir = samples();
    let line = "eval q --against m --ids ids.txt --context 40 --tokens 40 --per-position --json";
    let report = json(&dir.run(line).exits(0).out);
    assert_eq!(report["schema_version"], 1);
    let text = std::fs::read_to_string(root().join("docs/eval.md")).expect("the document");
    let keys = report.as_object().expect("an object").keys();
    for key in keys.map(String::as_str).chain(["bos"]) {
        assert!(text.contains(&format!("`{key}`")), "{key} is not in docs/eval.md");
    }
    // Both models ran on all tokens.
    let figure = |key: &str| report[key].as_f64().expect("a number");
    assert!((figure("tokens_per_second") * figure("seconds") - 80.0).abs() < 1e-6, "{report}");
    let help = std::fs::read_to_string(root().join("docs/imatrix.md")).expect("the document");
    let report = dir.run("imatrix m --ids ids.txt --context 40 --chunks 1 -o i.gguf --json").exits(0).json();
    for key in report.as_object().expect("an object").keys() {
        assert!(help.contains(&format!("`{key}`")), "{key} is not in docs/imatrix.md");
    }
}

/// `--llama-windows` starts windows with the model's BOS token, for ids as for the text that they are of.
#[test]
fn eval_llama_windows_of_ids_start_with_bos() {
    let dir = samples();
    let words =
        "/// Returns the number of elements in the vector.\npub fn len(&self) -> usize { self.len }\n";
    dir.write("t.txt", words.repeat(4).as_bytes());
    dir.run("quantize m -o f.gguf --type bf16 --names gguf").exits(0);
    let keys = "tokenizer.ggml.add_bos_token=bool:true tokenizer.ggml.bos_token_id=u32:0";
    dir.run(&format!("metadata set f.gguf {keys}")).exits(0);
    let line = "--llama-windows --context 32 --json";
    let of_text = json(&dir.run(&format!("eval f.gguf --text t.txt {line}")).exits(0).out);
    assert_eq!(of_text["bos"], 0);
    let positions = "eval f.gguf --text t.txt --context 200 --per-position --json";
    let all = json(&dir.run(positions).exits(0).out);
    let tokens = all["positions"].as_array().expect("positions").iter().map(|p| p["token"].to_string());
    let ids: Vec<String> = tokens.collect();
    for ids in [ids.join(" "), format!("0 {}", ids.join(" "))] {
        dir.write("i.txt", ids.as_bytes());
        let of_ids = json(&dir.run(&format!("eval f.gguf --ids i.txt {line}")).exits(0).out);
        assert_eq!(of_ids["bos"], 0);
        assert_eq!((&of_ids["nll"], &of_ids["windows"]), (&of_text["nll"], &of_text["windows"]));
    }
    // Without these windows, ids are taken as they are.
    assert!(json(&dir.run("eval f.gguf --ids i.txt --json").exits(0).out).get("bos").is_none());
    dir.run("metadata rm f.gguf tokenizer.ggml.add_bos_token").exits(0);
    for (pre, bos) in [("llama-bpe", true), ("gpt-2", false)] {
        dir.run(&format!("metadata set f.gguf tokenizer.ggml.pre=str:{pre}")).exits(0);
        let report = json(&dir.run(&format!("eval f.gguf --ids i.txt {line}")).exits(0).out);
        assert_eq!(report.get("bos").is_some(), bos, "{pre}");
    }
}

/// A file is read only as far as needed, and not beyond a limit.
#[test]
fn eval_long_texts_are_read_as_far_as_needed() {
    let dir = samples();
    let line = b"pub fn len(&self) -> usize { self.len }\n";
    let mut long = line.repeat(20_000);
    let beginning = long.clone();
    long.extend(vec![0xFF; 40 << 20]);
    dir.write("long.txt", &long);
    dir.write("short.txt", &beginning);
    let of = |text: &str| json(&dir.run(&format!("eval m --text {text} --tokens 40 --json")).exits(0).out);
    assert_eq!(of("long.txt")["nll"], of("short.txt")["nll"]);
    let refused = dir.run("eval m --text long.txt").exits(4).err;
    assert!(refused.contains("the first 32 MiB of long.txt"), "{refused}");
    dir.write("long.ids", "7 1234 ".repeat(10 << 20).as_bytes());
    let found = json(&dir.run("eval m --ids long.ids --tokens 40 --json").exits(0).out);
    assert_eq!(found["tokens"], 40);
    assert!(dir.run("eval m --ids long.ids").exits(4).err.contains("the first 64 MiB of long.ids"));
}

#[test]
#[cfg(unix)]
fn eval_endless_file_is_bounded() {
    let dir = samples();
    let found = json(&dir.run("eval m --ids /dev/zero --tokens 20 --json").exits(0).out);
    assert_eq!(found["tokens"], 20);
    assert!(dir.run("eval m --ids /dev/zero").exits(4).err.contains("the first 64 MiB of /dev/zero"));
}

/// What the files of a model are warned of is in the report and on standard error.
#[test]
fn eval_warnings_of_the_models_are_shown() {
    let dir = samples();
    dir.run("quantize m -o f.gguf --type bf16 --names gguf").exits(0);
    let mut bytes = dir.read("f.gguf");
    bytes.extend([0; 64]);
    dir.write("f.gguf", &bytes);
    let line = "eval m --against f.gguf --ids ids.txt --tokens 8";
    let report = json(&dir.run(&format!("{line} --json")).exits(0).out);
    assert_eq!(report["warnings"][0]["code"], "trailing_bytes", "{report}");
    assert!(dir.run(line).exits(0).err.contains("warning: "));
}

/// Vocabularies of equal length with other tokens are refused; a few renamed ones are a warning.
#[test]
fn eval_other_tokens_are_refused() {
    let dir = samples();
    dir.run("quantize m -o f.gguf --type bf16 --names gguf").exits(0);
    let mut tokenizer: Value = serde_json::from_slice(&dir.read("q/tokenizer.json")).expect("JSON");
    let vocab = tokenizer["model"]["vocab"].as_object().expect("a vocabulary").clone();
    let with = |tokenizer: &mut Value, shift: &dyn Fn(u64) -> u64| {
        let all = vocab.iter().map(|(text, id)| (text.clone(), shift(id.as_u64().expect("an id")).into()));
        tokenizer["model"]["vocab"] = Value::Object(all.collect());
        dir.write("q/tokenizer.json", tokenizer.to_string().as_bytes());
    };
    let line = "--ids ids.txt --tokens 8";
    with(&mut tokenizer, &|id| if (1000..2000).contains(&id) { 2999 - id } else { id });
    for (model, other) in [("q", "m"), ("m", "q"), ("q", "f.gguf"), ("f.gguf", "q")] {
        let refused = dir.run(&format!("eval {model} --against {other} {line}")).exits(2).err;
        assert!(refused.contains("the vocabularies differ: 1000 of 4096 tokens are others"), "{refused}");
    }
    with(&mut tokenizer, &|id| if (1000..1002).contains(&id) { 2001 - id } else { id });
    let told = dir.run(&format!("eval q --against f.gguf {line}")).exits(0).err;
    assert!(told.contains("2 of 4096 tokens are others (id 1000 is "), "{told}");
    assert!(!dir.run(&format!("eval m --against f.gguf {line}")).exits(0).err.contains("others"));
}

/// Models with vocabularies of different lengths are not compared.
#[test]
fn eval_other_vocabulary_is_refused() {
    let dir = samples();
    let family = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/families/llama");
    std::fs::create_dir(dir.at("f")).expect("a directory");
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(family.join(file), dir.at("f").join(file)).expect("a copy");
    }
    let ended = dir.run("eval f --against m --ids ids.txt").exits(2);
    assert!(ended.err.contains("f has 64 entries, m has 4096"), "{}", ended.err);
}

/// A GGUF gives the figures of the folder that it was made of, in every architecture whose experts, heads or names the conversion
/// moves. Keys of a GGUF are binary32, so that figures agree to their precision.
#[test]
fn eval_gguf_of_every_kind_equals_its_folder() {
    for name in [
        "falcon",
        "gpt_oss",
        "hunyuan",
        "llama4",
        "minimax_m2",
        "../forward/ernie4_5_moe",
        "../forward/ernie4_5_moe_unshared",
        "../forward/falcon_7b",
        "../forward/granite_moe",
        "../forward/granite_moe_shared",
        "../forward/arcee",
        "../forward/glm4_moe_lite",
        "../forward/lfm2_moe",
        "../forward/olmo",
        "../forward/olmo_clipped",
        "../forward/olmoe",
    ] {
        let dir = Dir::with_family(name);
        dir.write("ids.txt", b"5 9 31 17 40 22 8 55 13 47 29 3");
        // A GGUF has no place for these two: the ramp of YaRN lies between whole numbers, and every fourth layer is not rotated.
        let mut config = json(&String::from_utf8(dir.read("m/config.json")).expect("text"));
        match name {
            "gpt_oss" => config["rope_parameters"]["truncate"] = true.into(),
            "llama4" => config["no_rope_layers"] = serde_json::json!([1, 1]),
            _ => {}
        }
        dir.write("m/config.json", config.to_string().as_bytes());
        dir.run("quantize m -o f.gguf --type f32 --names gguf").exits(0);
        let line = "--ids ids.txt --context 11 --precision f64 --json";
        let report = json(&dir.run(&format!("eval f.gguf --against m {line}")).exits(0).out);
        let number = |key: &str| report[key].as_f64().unwrap_or(f64::NAN);
        assert!((number("nll") - number("reference_nll")).abs() < 1e-5, "{name}: {report}");
        assert!(number("kl_max") < 1e-9, "{name}: {report}");
        assert_eq!(report["top1"], 1.0, "{name}");
    }
}
