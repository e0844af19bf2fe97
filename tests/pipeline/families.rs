//! The forward pass over tiny checkpoints of model families, against transformers.

use quantoscope_tests::forward::TestModel;
use safetensors::tensor::{SafeTensors, TensorView, serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// All that are kept with weights.
const FAMILIES: [&str; 35] = [
    "cohere",
    "deepseek_v2",
    "deepseek_v3",
    "exaone4",
    "falcon",
    "gemma",
    "gemma2",
    "gemma3",
    "glm4",
    "glm4_moe",
    "gpt2",
    "gpt_neox",
    "gpt_oss",
    "hunyuan",
    "lfm2",
    "llama",
    "llama4",
    "llama_tied",
    "minimax_m2",
    "mixtral",
    "nemotron",
    "olmo2",
    "olmo3",
    "opt",
    "phi",
    "phi3",
    "qwen2",
    "qwen2_moe",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_moe",
    "qwen3_next",
    "qwen3_tied",
    "stablelm",
    "starcoder2",
];

fn folder(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/families").join(family)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect()
}

fn tokens(family: &str) -> Vec<u32> {
    let expected = json(&folder(family).join("expected.json"));
    numbers(&expected["tokens"]).iter().map(|&t| t as u32).collect()
}

/// The largest difference of the last token's logits, relative to the largest of all, or that of the sum of squares of all,
/// relative to itself.
fn difference(logits: &[f64], expected: &Value) -> f64 {
    let number = |key: &str| expected[key].as_f64().unwrap();
    let last = numbers(&expected["logits_of_last"]);
    let ours = &logits[logits.len() - last.len()..];
    let most = ours.iter().zip(&last).fold(0.0_f64, |most, (a, b)| most.max((a - b).abs()));
    let squares: f64 = logits.iter().map(|l| l * l).sum();
    (most / number("largest")).max((squares / number("sum_of_squares") - 1.0).abs())
}

/// What only some checkpoints of a family have: norms of heads, biases of convolutions, queries made from the stream; a sibling.
const OTHERS: [&str; 18] = [
    "../forward/arcee",
    "../forward/cohere2",
    "../forward/cohere_normed",
    "../forward/deepseek_v3_direct",
    "../forward/ernie4_5_moe",
    "../forward/ernie4_5_moe_unshared",
    "../forward/falcon_7b",
    "../forward/falcon_own_keys",
    "../forward/glm4_moe_lite",
    "../forward/glm4_moe_plain",
    "../forward/granite_moe",
    "../forward/granite_moe_shared",
    "../forward/lfm2_biased",
    "../forward/lfm2_moe",
    "../forward/olmo",
    "../forward/olmo_clipped",
    "../forward/olmoe",
    "../forward/olmoe_clipped",
];

/// Made with all arithmetic in binary64, of which thirteen digits are kept.
#[test]
fn tiny_checkpoints_of_the_families_give_the_logits_of_transformers() {
    let mut wrong = Vec::new();
    for family in FAMILIES.into_iter().chain(OTHERS) {
        let expected = json(&folder(family).join("expected.json"));
        let logits = TestModel::read(&folder(family)).logits(&tokens(family)).unwrap();
        let off = difference(&logits, &expected);
        let sum: f64 = logits.iter().sum();
        let sum = (sum / expected["sum"].as_f64().unwrap() - 1.0).abs();
        let best = |l: &[f64]| (0..l.len()).max_by(|&a, &b| l[a].total_cmp(&l[b])).unwrap() as f64;
        let best: Vec<f64> = logits.chunks_exact(64).map(best).collect();
        // Not a number is wrong too.
        let right = off < 2e-12 && sum < 2e-12 && best == numbers(&expected["argmax"]);
        if !right {
            wrong.push(format!("{family}: {off:e}, sum {sum:e}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// The same weights under other configurations: windows, stretched frequencies, routing, branches one after the other.
#[test]
fn changed_configurations_give_the_logits_of_transformers() {
    let variants = json(&folder("variants.json"));
    let variants = variants.as_array().unwrap();
    assert_eq!(variants.len(), 29);
    for variant in variants {
        let family = variant["family"].as_str().unwrap();
        let mut config = json(&folder(family).join("config.json"));
        for (key, value) in variant["changes"].as_object().unwrap() {
            *place(&mut config, key) = value.clone();
        }
        let config = config.to_string();
        let logits = TestModel::read(&folder(family)).logits_as(config.as_bytes(), &tokens(family)).unwrap();
        let off = difference(&logits, variant);
        assert!(off < 2e-12, "{family} {}: {off:e}", variant["changes"]);
    }
}

/// The value under a dotted key, made where it is not there.
fn place<'a>(config: &'a mut Value, key: &str) -> &'a mut Value {
    key.split('.')
        .fold(config, |inner, part| inner.as_object_mut().unwrap().entry(part).or_insert(Value::Null))
}

/// Newer checkpoints have their experts in stacks: gate and up as one, down as another.
#[test]
fn stacked_experts_give_the_same_logits() {
    for family in ["qwen3_moe", "qwen3_next"] {
        let read = |name: &str| std::fs::read(folder(family).join(name)).unwrap();
        let bytes = read("model.safetensors");
        let source = SafeTensors::deserialize(&bytes).unwrap();
        let mut stacks: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
        let sparse = |layer: &usize| {
            source.names().iter().any(|n| n.contains(&format!("layers.{layer}.mlp.experts.")))
        };
        for layer in (0..2).filter(sparse) {
            let part = |expert: usize, part: &str| {
                source.tensor(&format!("model.layers.{layer}.mlp.experts.{expert}.{part}.weight")).unwrap()
            };
            let [inner, hidden] = part(0, "gate_proj").shape().try_into().unwrap();
            let name = |part: &str| format!("model.layers.{layer}.mlp.experts.{part}");
            let both = (0..4).flat_map(|e| ["gate_proj", "up_proj"].map(|p| part(e, p).data().to_vec()));
            stacks.insert(name("gate_up_proj"), (vec![4, 2 * inner, hidden], both.flatten().collect()));
            let down = (0..4).flat_map(|e| part(e, "down_proj").data().to_vec());
            stacks.insert(name("down_proj"), (vec![4, hidden, inner], down.collect()));
        }
        let others = source.iter().filter(|(name, _)| !name.contains(".experts."));
        let views: Vec<_> = others.map(|(name, view)| (name.to_string(), view)).collect();
        assert!(!stacks.is_empty());
        let stacks = stacks.iter().map(|(name, (shape, data))| {
            (name.clone(), TensorView::new(safetensors::Dtype::BF16, shape.clone(), data).unwrap())
        });
        let stacked = serialize(views.into_iter().chain(stacks), None).unwrap();
        let stacked = TestModel::new(stacked, read("config.json")).logits(&tokens(family)).unwrap();
        assert_eq!(stacked, TestModel::read(&folder(family)).logits(&tokens(family)).unwrap(), "{family}");
    }
}

/// Every number of every configuration, and every shape, may be anything: a pass is refused or run, and that is all.
#[test]
fn no_size_in_a_configuration_breaks_a_pass() {
    let others = [
        "0",
        "1",
        "3",
        "7",
        "-1",
        "0.5",
        "8388608",
        "16777216",
        "18446744073709551615",
        "1e300",
        "null",
        "true",
    ];
    let mut refused = 0;
    for family in FAMILIES {
        let model = TestModel::read(&folder(family));
        let config = json(&folder(family).join("config.json"));
        let text = |config: &Value| config.to_string();
        for key in keys(&config) {
            for other in others {
                let mut config = config.clone();
                *place(&mut config, &key) = serde_json::from_str(other).unwrap();
                refused += u32::from(model.logits_as(text(&config).as_bytes(), &[5, 17, 43]).is_err());
            }
        }
    }
    assert!(refused > 1000, "{refused}");
}

/// The dotted keys of all numbers and flags.
fn keys(config: &Value) -> Vec<String> {
    let own = config.as_object().unwrap().iter().filter(|(_, v)| v.is_number() || v.is_boolean());
    let own = own.map(|(key, _)| key.clone());
    let nested = ["text_config", "rope_parameters"].into_iter().filter(|key| config[key].is_object());
    let nested =
        nested.flat_map(|outer| keys(&config[outer]).into_iter().map(move |key| format!("{outer}.{key}")));
    own.chain(nested).collect()
}
