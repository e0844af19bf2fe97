//! The faces of each architecture: README's table is this test's, and configurations read the same from both files.

use quantoscope_core::model::arch::module::Module;
use quantoscope_core::model::arch::{self, Arch, GgufValues};
use quantoscope_core::model::config::{Config, RopeScaling, Sliding};
use quantoscope_core::tensor::{MetaArray, MetaValue, Metadata};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;

const BEGIN: &str = "<!-- architectures -->\n";
const END: &str = "<!-- /architectures -->";

fn tests() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rotation(arch: &Arch) -> [&'static str; 2] {
    let Some(facts) = arch.rotation else { return ["", ""] };
    let stream = match (facts.refused, facts.layer_norm) {
        (Some(_), _) => "not exact",
        (None, true) => "keeps the mean",
        (None, false) => "any",
    };
    [stream, if facts.values_refused.is_some() { "not exact" } else { "any" }]
}

fn table() -> String {
    let mut table = String::from(
        "| architecture | `model_type` | GGUF name | to GGUF | `compare` undoes GGUF values | configuration from GGUF | R1 | R2 | forward pass |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    let yes = |is: bool| if is { "yes" } else { "" };
    for arch in arch::all() {
        let types: Vec<String> = arch.model_types.iter().map(|t| format!("`{t}`")).collect();
        let gguf = arch.gguf.map(|g| format!("`{g}`")).unwrap_or_default();
        let [stream, heads] = rotation(arch);
        let converts = yes(arch.gguf.is_some() && arch.gguf_rules.known);
        let values = yes(arch.gguf_values != GgufValues::Unknown);
        let metadata = yes(arch.gguf.is_some() && arch.forward.is_some());
        let forward = yes(arch.forward.is_some());
        table += &format!(
            "| {} | {} | {gguf} | {converts} | {values} | {metadata} | {stream} | {heads} | {forward} |\n",
            arch.name,
            types.join(", ")
        );
    }
    table
}

#[test]
fn the_table_in_readme_is_made_of_the_architectures() {
    let table = table();
    let readme = std::fs::read_to_string(tests().join("../README.md")).expect("README.md");
    let (_, rest) = readme.split_once(BEGIN).expect("the first marker");
    let (found, _) = rest.split_once(END).expect("the second marker");
    assert_eq!(found, table, "README.md should have this table:\n{table}");
}

#[test]
fn architectures_are_told_apart_by_their_names() {
    let mut model_types = BTreeSet::new();
    for arch in arch::all() {
        assert!(!arch.model_types.is_empty() || arch.gguf.is_some(), "{} is never found", arch.name);
        for model_type in arch.model_types {
            assert!(model_types.insert(*model_type), "{model_type} is of two architectures");
            assert_eq!(arch::find(model_type).map(|a| a.name), Some(arch.name));
        }
        let has = |module| arch.rows().any(|r| r.module == module);
        assert!(has(Module::TokenEmbd), "{} has no embedding", arch.name);
        assert!(!arch.prefixes.is_empty(), "{} has no prefix", arch.name);
    }
    assert!(arch::find("").is_none() && arch::find("unheard").is_none());
}

fn value(kind: &str, value: &Value) -> Option<MetaValue> {
    let ints = |list: &Value| {
        list.as_array().map(|all| {
            all.iter()
                .map(|n| i64::from(n.as_bool().unwrap_or(false)) + n.as_i64().unwrap_or(0))
                .collect::<Vec<_>>()
        })
    };
    Some(match kind {
        "u32" => MetaValue::U32(value.as_u64()? as u32),
        "f32" => MetaValue::F32(value.as_f64()? as f32),
        "bool" => MetaValue::Bool(value.as_bool()?),
        "str" => MetaValue::String(value.as_str()?.into()),
        "[i32]" => {
            let all = ints(value)?;
            let raw = all.iter().flat_map(|&n| (n as i32).to_le_bytes()).collect();
            MetaValue::Array(MetaArray { element: 5, len: all.len() as u64, raw })
        }
        "[bool]" => {
            let all = ints(value)?;
            let raw = all.iter().map(|&n| n as u8).collect();
            MetaValue::Array(MetaArray { element: 7, len: all.len() as u64, raw })
        }
        "tokens" => MetaValue::Array(MetaArray { element: 8, len: value.as_u64()?, raw: Default::default() }),
        other => panic!("no value of {other}"),
    })
}

/// Floats are binary32 in a GGUF; places are those of `config.json`; Llama 3's scaling is a tensor of the GGUF.
fn comparable(config: &Config) -> Config {
    let f = |x: f64| f64::from(x as f32);
    let rope_scaling = match config.rope_scaling {
        RopeScaling::Llama3 { .. } => RopeScaling::None,
        // Whether the ramp is truncated to whole numbers is not stored.
        RopeScaling::Yarn { factor, fast, slow, original, magnitude, scores, .. } => {
            let scores = (scores * 1e6).round() / 1e6;
            RopeScaling::Yarn { factor, fast, slow, original, whole: true, magnitude, scores }
        }
        other => other,
    };
    Config {
        rope_scaling,
        norm_eps: f(config.norm_eps),
        rope_theta: f(config.rope_theta),
        expert_scale: f(config.expert_scale),
        embedding_multiplier: f(config.embedding_multiplier),
        residual_multiplier: f(config.residual_multiplier),
        attention_multiplier: config.attention_multiplier.map(f),
        logits_scaling: f(config.logits_scaling),
        places: Default::default(),
        ..config.clone()
    }
}

/// Of a model by one name, `config.json` and the metadata that llama.cpp's converter makes of it.
#[test]
fn configurations_are_the_same_from_either_file() {
    let text = std::fs::read(tests().join("fixtures/names/metadata.json")).expect("the fixture");
    let cases: Value = serde_json::from_slice(&text).expect("JSON");
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    for (case, entry) in cases["cases"].as_object().expect("cases") {
        let keys = entry["metadata"].as_array().expect("keys").iter();
        let metadata = keys.map(|k| {
            let (key, kind) = (k[0].as_str().expect("a key"), k[1].as_str().expect("a type"));
            (key.to_string(), value(kind, &k[2]).unwrap_or_else(|| panic!("{case}: {key}")))
        });
        let gguf = Config::of_gguf(&Metadata(metadata.collect())).unwrap_or_else(|e| panic!("{case}: {e}"));
        let json =
            Config::parse(entry["config"].to_string().as_bytes()).unwrap_or_else(|e| panic!("{case}: {e}"));
        // A GGUF does not say whether the head is tied or queries are normalised, nor which of the architectures of its
        // name the model is, and it has windows for few architectures only.
        let window = gguf.sliding.window;
        let sliding = |of: &Config| if window.is_none() { Sliding::default() } else { of.sliding.clone() };
        let (own, theirs) = (sliding(&gguf), sliding(&json));
        let json = Config { sliding: theirs, ..json };
        let named = arch::find(&json.model_type).and_then(|a| a.gguf);
        assert_eq!(arch::find(&gguf.model_type).and_then(|a| a.gguf), named, "{case}");
        let gguf = Config {
            tied: json.tied,
            head_norms: json.head_norms,
            sliding: own,
            model_type: json.model_type.clone(),
            ..gguf
        };
        if comparable(&gguf) != comparable(&json) {
            wrong.push(format!("{case}: {:?}\n {:?}", comparable(&gguf), comparable(&json)));
        }
        seen.insert(json.model_type);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for arch in arch::all().filter(|a| a.gguf.is_some() && a.forward.is_some()) {
        let known = arch.model_types.iter().any(|t| seen.contains(*t));
        assert_ne!(known, UNCOVERED.contains(&arch.name), "{}", arch.name);
    }
}

/// Architectures of which no converted model is at hand.
const UNCOVERED: &[&str] = &[
    "qwen3_5_moe",
    "deepseek_v2",
    "gemma2",
    "gemma3",
    "glm4",
    "olmo2",
    "olmo3",
    "exaone4",
    "phi",
    "cohere2",
    "stablelm",
    "nemotron",
    "hunyuan",
    "olmo",
    "olmoe",
    "minimax_m2",
    "ernie4_5_moe",
    "granite_moe",
    "llama4",
    "falcon",
    "arcee",
    "lfm2_moe",
    "glm4_moe_lite",
];
