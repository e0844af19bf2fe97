//! Keys of tokenizers, compared with the reference's, key by key in order.

use quantoscope_core::Result;
use quantoscope_core::format::companions::Companions;
use quantoscope_core::model::arch::{self, Arch};
use quantoscope_core::model::tokenizer::{
    CHECK_TEXT, TokenizerInput, TokenizerKeys, check_text_ids, pre, tokenizer_keys,
};
use quantoscope_core::tensor::{MetaArray, MetaValue};
use quantoscope_encoder::HfEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

/// Cases that differ, each with the reason.
const NOT_YET: &[(&str, &str)] = &[];

fn conversion_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/conversion")
}

fn corpus_dir() -> PathBuf {
    conversion_dir().join("corpus")
}

fn data(path: &Path) -> Value {
    let text = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn folder(dir: &Path, prefix: &str, into: &mut Companions) {
    for entry in fs::read_dir(dir).expect("a folder") {
        let entry = entry.expect("an entry");
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            folder(&entry.path(), &format!("{name}/"), into);
        } else if !name.ends_with(".safetensors") {
            into.0.push((name, fs::read(entry.path()).expect("a file")));
        }
    }
}

fn elements(array: &MetaArray) -> Value {
    let mut rest = array.raw.as_slice();
    let mut take = |n: usize| {
        let (taken, after) = rest.split_at(n);
        rest = after;
        taken.to_vec()
    };
    if array.element == 0 {
        let hex: String = array.raw.iter().map(|b| format!("{b:02x}")).collect();
        return json!({ "hex": hex });
    }
    let mut found = Vec::new();
    for _ in 0..array.len {
        found.push(match array.element {
            5 => json!(i32::from_le_bytes(take(4).try_into().expect("four bytes"))),
            6 => json!(f64::from(f32::from_le_bytes(take(4).try_into().expect("four bytes")))),
            8 => {
                let length = u64::from_le_bytes(take(8).try_into().expect("eight bytes"));
                json!(String::from_utf8(take(length as usize)).expect("UTF-8"))
            }
            other => panic!("element type {other}"),
        });
    }
    assert!(rest.is_empty(), "bytes after the last element");
    Value::Array(found)
}

/// A key as the corpus records it.
fn recorded(key: &str, value: &MetaValue) -> Value {
    match value {
        MetaValue::U32(v) => json!([key, "u32", v]),
        MetaValue::Bool(v) => json!([key, "bool", v]),
        MetaValue::String(v) => json!([key, "str", v]),
        MetaValue::Array(a) => {
            let element = match a.element {
                0 => "[u8]",
                5 => "[i32]",
                6 => "[f32]",
                _ => "[str]",
            };
            json!([key, element, elements(a)])
        }
        other => panic!("{key}: {other:?}"),
    }
}

fn is_tokenizer(row: &Value) -> bool {
    row[0].as_str().is_some_and(|key| key.starts_with("tokenizer."))
}

fn case_arch(config: &Value, gguf: &str) -> &'static Arch {
    let of = |v: &Value| v.get("model_type").and_then(Value::as_str).and_then(arch::find);
    let found = config.get("text_config").and_then(of).or_else(|| of(config));
    let fits = |a: &&Arch| a.gguf == Some(gguf);
    found.filter(fits).or_else(|| arch::of_gguf(gguf).next()).expect("an architecture")
}

struct TokenizerCase {
    companions: Companions,
    config: Value,
    arch: &'static Arch,
    expected: Value,
}

fn case(name: &str) -> TokenizerCase {
    let dir = corpus_dir().join(name);
    let expected = data(&dir.join("expected.json"));
    let mut companions = Companions::default();
    folder(&dir.join("hf"), "", &mut companions);
    let config = companions.get("config.json").or_else(|| companions.get("params.json"));
    let config: Value = serde_json::from_slice(config.expect("a configuration")).expect("JSON");
    let gguf = expected["kv"][0][2].as_str().expect("an architecture");
    let arch = case_arch(&config, gguf);
    TokenizerCase { companions, config, arch, expected }
}

fn keys_of(case: &TokenizerCase, pre_tokenizer: Option<&str>) -> Result<TokenizerKeys> {
    let ids = check_text_ids(&case.companions, &HfEncoder).ok();
    tokenizer_keys(&TokenizerInput {
        companions: &case.companions,
        config: &case.config,
        hyper: &case.config,
        arch: case.arch,
        pre_tokenizer,
        check_text_ids: ids.as_deref(),
        compat: true,
    })
}

fn cases() -> Vec<String> {
    let entries = fs::read_dir(corpus_dir()).expect("the corpus");
    let mut found: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    found.sort();
    assert_eq!(found.len(), 70, "cases");
    found
}

/// The first difference of a case's keys.
fn difference(name: &str) -> Option<String> {
    let case = case(name);
    let keys = match keys_of(&case, case.expected["pre_forced"].as_str()) {
        Ok(keys) => keys,
        Err(e) => return Some(e.to_string()),
    };
    let rows: Vec<Value> = keys.keys.iter().map(|(k, v)| recorded(k, v)).filter(is_tokenizer).collect();
    let expected: Vec<Value> =
        case.expected["kv"].as_array().expect("keys").iter().filter(|r| is_tokenizer(r)).cloned().collect();
    first_difference(&rows, &expected)
}

/// Whether two values are the same; numbers as F32, since the parser of the tests may be off in the last digit of F64.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Number(a), Value::Number(b)) => {
            a == b || (a.is_f64() && a.as_f64().map(|x| x as f32) == b.as_f64().map(|x| x as f32))
        }
        _ => a == b,
    }
}

fn first_difference(rows: &[Value], expected: &[Value]) -> Option<String> {
    let count = rows.len().max(expected.len());
    let same = |a: Option<&Value>, b: Option<&Value>| match (a, b) {
        (Some(a), Some(b)) => equal(a, b),
        (a, b) => a == b,
    };
    let at = (0..count).find(|at| !same(rows.get(*at), expected.get(*at)))?;
    let (Some(row), Some(wanted)) = (rows.get(at), expected.get(at)) else {
        return Some(format!("key {at}: {:?} instead of {:?}", rows.get(at), expected.get(at)));
    };
    if let (Some(a), Some(b), true) = (row[2].as_array(), wanted[2].as_array(), row[0] == wanted[0]) {
        let element = (0..a.len().max(b.len())).find(|i| a.get(*i) != b.get(*i));
        let (x, y) = (element.and_then(|i| a.get(i)), element.and_then(|i| b.get(i)));
        return Some(format!("{} {} {element:?}: {x:?} instead of {y:?}", row[0], row[1]));
    }
    Some(format!("key {at}: {row} instead of {wanted}"))
}

#[test]
fn tokenizer_keys_of_all_cases_are_the_references() {
    let mut wrong = Vec::new();
    for name in cases() {
        let excused = NOT_YET.iter().find(|(n, _)| *n == name);
        match (difference(&name), excused) {
            (Some(difference), None) => wrong.push(format!("{name}: {difference}")),
            (None, Some((_, why))) => wrong.push(format!("{name} is equal, though NOT_YET says: {why}")),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn check_text_has_its_hash() {
    let table = data(&conversion_dir().join("pre-tokenizers.json"));
    let hash: String = Sha256::digest(CHECK_TEXT.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(table["check_text_utf8_sha256"], hash.as_str());
    for row in table["hashes"].as_array().expect("hashes") {
        let hash = row[0].as_str().expect("a hash");
        let last = table["hashes"].as_array().expect("hashes").iter().rev().find(|r| r[0] == hash);
        assert_eq!(pre::by_hash(hash), last.and_then(|r| r[1].as_str()), "{hash}");
    }
}

#[test]
fn encoder_of_all_tokenizers_gives_the_recorded_hashes() {
    let probes = data(&conversion_dir().join("probes.json"));
    let mut seen = 0;
    for name in cases() {
        let case = case(&name);
        let probe = &probes["cases"][&name];
        let alone = probe["check_hash_of_tokenizer_json_alone"].as_str();
        // The hash of `AutoTokenizer`, whose class may set BOS and EOS otherwise than `tokenizer.json`.
        if let (Some(_), Some(wanted)) = (alone, probe["check_hash"].as_str()) {
            let ids = check_text_ids(&case.companions, &HfEncoder).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(pre::hash(&ids), wanted, "{name}");
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen} tokenizers");
}

/// The name that the rules give splits text as the reference's name does.
#[test]
fn pre_tokenizer_by_rules_of_all_cases_splits_like_the_references() {
    let table = data(&conversion_dir().join("pre-tokenizers.json"));
    let engine = |name: &str| table["engine"][name].clone();
    let regexes =
        |name: &str| table["engine_regexes"][engine(name)["type"].as_str().unwrap_or_default()].clone();
    let mut wrong = Vec::new();
    for name in cases() {
        let case = case(&name);
        let Some(forced) = case.expected["pre_forced"].as_str().filter(|n| *n != "jina-v2-en") else {
            continue;
        };
        match keys_of(&case, None) {
            Err(e) => println!("{name}: {e}"),
            Ok(keys) => {
                let given = keys.keys.iter().find(|(k, _)| k == "tokenizer.ggml.pre");
                let Some((_, MetaValue::String(given))) = given else { panic!("{name}: no name") };
                println!("{name}: {given} for {forced} {:?}", keys.warnings);
                // The small tokenizer of Seed-OSS has the expression of Llama 3.
                let loose = [("olmo", "gpt-2"), ("seed-coder", "dbrx")];
                let alike = regexes(given) == regexes(forced)
                    || spelled(&regexes(given)) == spelled(&regexes(forced));
                if !alike && !loose.contains(&(forced, given)) {
                    wrong.push(format!("{name}: {given} instead of {forced}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn spelled(regexes: &Value) -> String {
    regexes
        .to_string()
        .replace("(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])", "(?i:'s|'t|'re|'ve|'m|'ll|'d)")
}

fn minimal(files: &[(&str, &Value)]) -> Companions {
    let files = files.iter().filter(|(_, v)| !v.is_null());
    Companions(files.map(|(name, v)| ((*name).to_owned(), v.to_string().into_bytes())).collect())
}

/// A byte-level tokenizer with the parts of a row of the table.
fn whole(tokenizer: &Value) -> Value {
    let mut whole = tokenizer.clone();
    let model = whole.as_object_mut().expect("an object").entry("model").or_insert(json!({}));
    model["type"] = json!("BPE");
    model["vocab"] = json!({});
    whole
}

fn after_types(keys: &TokenizerKeys) -> Vec<(String, MetaValue)> {
    let at = keys.keys.iter().position(|(k, _)| k == "tokenizer.ggml.token_type").expect("types");
    keys.keys[at + 1..].to_vec()
}

#[test]
fn special_ids_and_flags_of_all_rows_are_the_references() {
    let rules = data(&conversion_dir().join("small-rules.json"));
    for row in rules["special_vocabulary"].as_array().expect("rows") {
        let what = &row["what"];
        let tokenizer = &row["tokenizer.json"];
        let plain = json!({"a": 0, "b": 1, "c": 2});
        let (json, vocab) = match tokenizer.is_null() {
            true => (Value::Null, plain),
            false => (whole(tokenizer), Value::Null),
        };
        let companions = minimal(&[
            ("tokenizer.json", &json),
            ("vocab.json", &vocab),
            ("tokenizer_config.json", &row["tokenizer_config.json"]),
        ]);
        let case = TokenizerCase {
            companions,
            config: row["config.json"].clone(),
            arch: arch::named("qwen2").expect("an architecture"),
            expected: Value::Null,
        };
        let keys = keys_of(&case, Some("qwen2")).unwrap_or_else(|e| panic!("{what}: {e}"));
        let found: Vec<Value> = after_types(&keys)
            .iter()
            .map(|(k, v)| {
                let row = recorded(k, v);
                json!([row[0], row[2]])
            })
            .collect();
        assert_eq!(Value::Array(found), row["keys"], "{what}");
    }
}

#[test]
fn chat_templates_of_all_rows_are_the_references() {
    let rules = data(&conversion_dir().join("small-rules.json"));
    for row in rules["chat_templates"].as_array().expect("rows") {
        let what = &row["what"];
        let mut companions = minimal(&[
            ("vocab.json", &json!({"a": 0})),
            ("tokenizer_config.json", &row["tokenizer_config.json"]),
        ]);
        for (name, text) in row["files"].as_object().expect("files") {
            companions.0.push((name.clone(), text.as_str().expect("text").as_bytes().to_vec()));
        }
        let case = TokenizerCase {
            companions,
            config: json!({}),
            arch: arch::named("qwen2").expect("an architecture"),
            expected: Value::Null,
        };
        let keys = keys_of(&case, Some("qwen2")).unwrap_or_else(|e| panic!("{what}: {e}"));
        let found: Vec<Value> = after_types(&keys)
            .iter()
            .map(|(k, v)| {
                let row = recorded(k, v);
                json!([row[0], row[2]])
            })
            .collect();
        assert_eq!(Value::Array(found), row["keys"], "{what}");
    }
}
