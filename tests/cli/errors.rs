//! Every error code has its exit code. The table is exhaustive: a new code does not compile without a row.

use crate::support::{Dir, one};
use quantoscope_core::{Code, DType, ErrorKind};
use quantoscope_tests::binary::Ended;
use quantoscope_tests::models::{Rng, Tensor, safetensors};

/// The documented exit code of every code.
fn documented(code: Code) -> i32 {
    match code {
        Code::Usage
        | Code::NeedsImportance
        | Code::MemoryBudget
        | Code::SameFile
        | Code::Exists
        | Code::PartialExists
        | Code::ResumeMismatch
        | Code::NoSuchTensor => 2,
        Code::NotFound | Code::Io | Code::NoSpace => 3,
        Code::BadMagic
        | Code::UnknownVersion
        | Code::Truncated
        | Code::TrailingBytes
        | Code::Overlap
        | Code::Hole
        | Code::OutOfBounds
        | Code::SizeMismatch
        | Code::DuplicateName
        | Code::BadUtf8
        | Code::BadJson
        | Code::BadAlignment
        | Code::TooManyAxes
        | Code::Overflow
        | Code::UnknownDtype
        | Code::BadValue
        | Code::CountTooLarge
        | Code::BadName
        | Code::BadIndex
        | Code::NonFinite
        | Code::F16Overflow
        | Code::BF16Overflow
        | Code::F32Overflow
        | Code::TooDeep
        | Code::HeaderTooLarge
        | Code::StringTooLong
        | Code::TooMany => 4,
        Code::BelowThreshold | Code::Difference | Code::RotationOff => 5,
        Code::UnsupportedDtype
        | Code::Requantize
        | Code::NameCollision
        | Code::NotExact
        | Code::UnsupportedContainer
        | Code::UnsupportedRotation
        | Code::UnsupportedForward
        | Code::UnsupportedArchitecture
        | Code::UnmappedTensors
        | Code::Empty => 6,
        Code::Device => 7,
        Code::Interrupted => 130,
    }
}

fn code_of(culprit: ErrorKind) -> i32 {
    match culprit {
        ErrorKind::Request => 2,
        ErrorKind::System => 3,
        ErrorKind::File | ErrorKind::Limit => 4,
        ErrorKind::Gate => 5,
        ErrorKind::Unsupported => 6,
        ErrorKind::Device => 7,
        ErrorKind::Interrupted => 130,
    }
}

#[test]
fn every_code_has_the_exit_code_of_its_culprit() {
    for &code in Code::ALL {
        assert_eq!(code_of(code.kind()), documented(code), "{code:?}");
        let text = code.as_str();
        assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{text}");
    }
    let mut texts: Vec<&str> = Code::ALL.iter().map(|c| c.as_str()).collect();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), Code::ALL.len());
}

/// The error object, whose code decides the exit code.
#[track_caller]
pub(crate) fn fails(ended: Ended, code: Code) -> serde_json::Value {
    let error = ended.clone().exits(documented(code)).error();
    assert_eq!(error["code"], code.as_str(), "{}", ended.err);
    assert!(error["message"].as_str().is_some_and(|m| !m.is_empty()));
    assert_eq!(ended.out, "", "nothing on standard output");
    error
}

#[test]
fn requests_that_make_no_sense() {
    let dir = Dir::with_model();
    fails(dir.run("quantize m.safetensors -o x.bin --type q4_0 --json"), Code::Usage);
    fails(dir.run("quantize m.safetensors -o x.safetensors --json"), Code::Usage);
    fails(dir.run("quantize m.safetensors -o x --to q4 --type q4_0 --json"), Code::Usage);
    fails(dir.run("quantize m.safetensors -o x.safetensors --type q4_0 --events"), Code::Usage);
    fails(dir.run("inspect m.safetensors --tensor nothing* --json"), Code::NoSuchTensor);
    fails(dir.run("inspect m.safetensors --tensor [ --json"), Code::Usage);
    fails(dir.run("sweep m.safetensors --tensor nothing* --json"), Code::NoSuchTensor);
    fails(dir.run("quantize m.safetensors -o x.gguf --type q4_0 --memory 100 --json"), Code::MemoryBudget);
    assert_eq!(dir.names(), ["m.safetensors"]);
}

/// What the argument parser refuses is told in the same form.
#[test]
fn usage_errors_are_objects_too() {
    let dir = Dir::with_model();
    for line in [
        "quantize m.safetensors -o x.gguf --type q9 --json",
        "quantize m.safetensors --type q4_0 --events",
        "quantize m.safetensors -o x.gguf --type q4_0 --json --events",
        "compare m.safetensors m.safetensors --threshold NaN --json",
        "compare m.safetensors m.safetensors --threshold 1.5 --format json",
        "compare m.safetensors m.safetensors --threshold 1.5 --format=json",
        "inspect --json",
        "verify m.safetensors --no-such-option --json",
    ] {
        fails(dir.run(line), Code::Usage);
    }
    let plain = dir.run("quantize m.safetensors -o x.gguf --type q9").exits(2);
    assert!(plain.err.contains("q9") && !plain.err.starts_with('{'), "{}", plain.err);
    dir.run("").exits(2);
    dir.run("no-such-verb").exits(2);
}

#[test]
fn what_is_not_there() {
    let dir = Dir::with_model();
    for line in
        ["inspect no --json", "compare m.safetensors no --json", "verify no --json", "sweep no --json"]
    {
        fails(dir.run(line), Code::NotFound);
    }
    fails(dir.run("quantize no -o x.gguf --type q4_0 --json"), Code::NotFound);
    fails(dir.run("quantize m.safetensors -o no/x.gguf --type q4_0 --json"), Code::NotFound);
    std::fs::create_dir(dir.at("empty")).expect("a directory");
    fails(dir.run("inspect empty --json"), Code::NotFound);
    dir.run("inspect no").exits(3).says("error: ");
}

#[test]
fn values_that_are_no_numbers() {
    let dir = Dir::new();
    let mut values = Rng(3).weights(64 * 64);
    values[4001] = f32::NAN;
    dir.write("nan.safetensors", &one("a.weight", &[64, 64], &values));
    values[4001] = 1e30;
    dir.write("large.safetensors", &one("a.weight", &[64, 64], &values));
    values[4001] = f32::MAX;
    dir.write("huge.safetensors", &one("a.weight", &[64, 64], &values));
    let mut doubles: Vec<f64> = values.iter().map(|&v| v.into()).collect();
    doubles[4001] = 1e300;
    let raw = doubles.iter().flat_map(|v| v.to_le_bytes()).collect();
    dir.write("wide.safetensors", &safetensors(&[Tensor::raw("a.weight", DType::F64, &[64, 64], raw)]));
    for (line, code) in [
        ("quantize nan.safetensors -o x.gguf --type q4_0 --json", Code::NonFinite),
        ("quantize nan.safetensors -o x --to q4 --events", Code::NonFinite),
        ("quantize nan.safetensors -o x.gguf --type f16 --json", Code::NonFinite),
        ("quantize nan.safetensors -o x.safetensors --type bf16 --json", Code::NonFinite),
        ("quantize large.safetensors -o x --to q4 --json", Code::F16Overflow),
        ("quantize large.safetensors -o x.gguf --type f16 --json", Code::F16Overflow),
        ("quantize huge.safetensors -o x.gguf --type bf16 --json", Code::BF16Overflow),
        ("quantize wide.safetensors -o x.gguf --type f32 --json", Code::F32Overflow),
        ("quantize wide.safetensors -o x.gguf --type q8_0 --no-measure --json", Code::F32Overflow),
    ] {
        let ended = dir.run(line);
        let error = Ended { out: String::new(), ..ended };
        let error = fails(error, code);
        assert_eq!((&error["tensor"], &error["element"]), (&"a.weight".into(), &4001.into()), "{line}");
    }
    let there = ["huge.safetensors", "large.safetensors", "nan.safetensors", "wide.safetensors"];
    assert_eq!(dir.names(), there, "nothing is left");
}

/// A norm is copied and not encoded: what is no number in it is refused by every verb that converts, or passes and is named.
#[test]
fn a_norm_that_is_no_number() {
    for dtype in [DType::F32, DType::BF16, DType::F64] {
        let dir = Dir::new();
        let mut norm = vec![1.0; 64];
        norm[63] = f32::NAN;
        let tensors = [
            Tensor::of("a.weight", DType::F32, &[64, 64], &Rng(3).weights(64 * 64)),
            Tensor::of("model.norm.weight", dtype, &[64], &norm),
        ];
        dir.write("m.safetensors", &safetensors(&tensors));
        let outputs = ["x.gguf --type q8_0", "x.safetensors --type f32", "x.gguf --recipe q4_0", "x --to q4"];
        for output in outputs {
            let error =
                fails(dir.run(&format!("quantize m.safetensors -o {output} --json")), Code::NonFinite);
            assert_eq!((&error["tensor"], &error["element"]), (&"model.norm.weight".into(), &63.into()));
            // A plan reads no values.
            dir.run(&format!("quantize m.safetensors -o {output} --dry-run")).exits(0);
        }
        let allowed = dir.run("quantize m.safetensors -o y.gguf --type q8_0 --allow-nonfinite").exits(0);
        allowed
            .says("\"model.norm.weight\" holds NaN or infinity in 1 of 64 elements, the first at element 63");
        let json =
            dir.run("quantize m.safetensors -o y.gguf --type q8_0 --allow-nonfinite --json --force").exits(0);
        let result = &json.json()["result"];
        let named = |w: &serde_json::Value| w["code"] == "non_finite";
        assert!(result["warnings"].as_array().expect("warnings").iter().any(named), "{result}");
        let norm = &result["tensors"].as_array().expect("tensors")[1];
        assert_eq!(norm["non_finite"], serde_json::json!({ "count": 1, "first": 63 }));
    }
}

#[test]
fn gates() {
    let dir = Dir::with_model();
    dir.run("quantize m.safetensors -o q.gguf --type q4_0").exits(0);
    let ended = dir.run("compare m.safetensors q.gguf --threshold 1 --json").exits(5);
    assert_eq!(ended.error()["code"], "below_threshold");
    assert_eq!(ended.json()["any_below_threshold"], true, "the report is complete although the gate failed");
    let mut bytes = dir.read("q.gguf");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    dir.write("r.gguf", &bytes);
    let ended = dir.run("verify r.gguf --against m.safetensors --json").exits(5);
    assert_eq!(ended.error()["code"], "difference");
    assert_eq!(ended.json()["verified"], false);
    dir.run("verify q.gguf --against m.safetensors --json").exits(0);
}

#[test]
fn quantizing_again_to_larger_tensors_warns() {
    let dir = Dir::with_model();
    dir.run("quantize m.safetensors -o q.gguf --type q4_0").exits(0);
    let codes = |line: &str| -> Vec<String> {
        let report = dir.run(line).exits(0).json();
        let warnings = report["result"]["warnings"].as_array().unwrap();
        warnings.iter().map(|w| w["code"].as_str().unwrap().into()).collect()
    };
    let grows = "larger_than_source".to_string();
    assert!(codes("plan q.gguf --type q8_0 --allow-requantize --json").contains(&grows));
    assert!(!codes("plan q.gguf --type q2_k --allow-requantize --json").contains(&grows));
    assert!(!codes("plan q.gguf --type f32 --allow-requantize --json").contains(&grows), "asked for");
    assert!(!codes("plan m.safetensors --type q8_0 --json").contains(&grows));
}

#[test]
fn what_is_valid_but_not_supported() {
    let dir = Dir::with_model();
    dir.run("quantize m.safetensors -o q.gguf --type q8_0").exits(0);
    let error = fails(dir.run("quantize q.gguf -o x.gguf --type q4_0 --json"), Code::Requantize);
    assert!(error["message"].as_str().unwrap().contains("--allow-requantize"));
    dir.run("quantize q.gguf -o x.gguf --type q4_0 --allow-requantize").exits(0);
    fails(dir.run("quantize m.safetensors -o y.gguf --type q8_k --json"), Code::UnsupportedDtype);
    dir.write("wide.safetensors", &one("up_proj.weight", &[2, 256], &Rng(1).weights(512)));
    let error =
        fails(dir.run("quantize wide.safetensors -o y.gguf --type iq2_xs --json"), Code::NeedsImportance);
    assert_eq!(error["tensor"], "up_proj.weight");
    dir.run("quantize m.safetensors -o z --to q4").exits(0);
    fails(dir.run("quantize z -o y.gguf --type q4_0 --events").without_output(), Code::NotExact);
    dir.write("none.safetensors", b"\x02\0\0\0\0\0\0\0{}");
    fails(dir.run("quantize none.safetensors -o y.gguf --type q4_0 --json"), Code::Empty);
    assert!(!dir.at("y.gguf").exists() && !dir.at("y.gguf.partial").exists());
}

#[test]
fn a_device_that_is_not_there() {
    let dir = Dir::with_model();
    for verb in
        ["sweep m.safetensors", "quantize m.safetensors -o x.gguf --type q4_0", "verify m.safetensors"]
    {
        let error = fails(dir.run(&format!("{verb} --engine quantum --json")), Code::Device);
        let message = error["message"].as_str().unwrap_or_default();
        for engine in quantoscope_accel::Engine::available() {
            assert!(message.contains(engine.name()), "{message}");
        }
    }
    assert_eq!(dir.names(), ["m.safetensors"]);
}

#[test]
fn every_device_that_is_there_writes_the_same() {
    let dir = Dir::with_model();
    for dtype in ["q4_0", "q4_k", "bf16"] {
        let made = |engine: &str| {
            let line = format!(
                "quantize m.safetensors -o {engine}.gguf --type {dtype} --pure --engine {engine} --force"
            );
            dir.run(&line).exits(0);
            dir.read(&format!("{engine}.gguf"))
        };
        let want = made("scalar");
        for engine in quantoscope_accel::Engine::available() {
            assert!(made(engine.name()) == want, "{} {dtype}", engine.name());
        }
        assert!(made("auto") == want && made("gpu") == want, "{dtype}");
    }
}

trait WithoutOutput {
    /// Events come before a failure; only the error matters.
    fn without_output(self) -> Self;
}

impl WithoutOutput for Ended {
    fn without_output(self) -> Ended {
        Ended { out: String::new(), ..self }
    }
}
