//! Mixes against the types that llama.cpp's quantizer chose for made-up models: `vectors/recipes/`.

use quantoscope_core::DType;
use quantoscope_core::bytes::ByteRange;
use quantoscope_core::format::{Checkpoint, Container};
use quantoscope_core::model::arch;
use quantoscope_core::model::hf_source::hf_source;
use quantoscope_core::recipe::presets::Preset;
use quantoscope_core::recipe::select::{TypeChoice, type_choices};
use quantoscope_core::recipe::{Override, Recipe};
use quantoscope_core::tensor::{MetaValue, Metadata, Shape, TensorInfo};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Deserialize)]
struct RecipeVectors {
    model: RecipeModel,
    options: Options,
    legend: BTreeMap<char, DType>,
    types: BTreeMap<String, RecipeCase>,
}

#[derive(Deserialize)]
struct RecipeModel {
    arch: String,
    layers: u32,
    heads: u32,
    kv_heads: u32,
    experts: u32,
    root: BTreeMap<String, Vec<u64>>,
    layer: BTreeMap<String, Vec<u64>>,
}

/// The options, as llama.cpp's parameters; types are ggml's numbers.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    pure: bool,
    quantize_output: Option<bool>,
    output_type: Option<u32>,
    embedding_type: Option<u32>,
    tensor_types: Vec<(String, u32)>,
}

/// Names and shapes of tensors.
type Tensors = Vec<(String, Vec<u64>)>;

#[derive(Deserialize)]
struct RecipeCase {
    /// Letters of the legend, a word for what is outside of layers and one for each layer; absent where it refuses.
    plain: Option<String>,
    /// The same with an importance matrix, where that differs.
    imatrix: Option<String>,
}

impl RecipeModel {
    /// Names and shapes in the order of the letters: by layer, then by name.
    fn tensors(&self) -> Tensors {
        let mut all: Vec<_> = self.root.iter().map(|(n, s)| (n.clone(), s.clone())).collect();
        for i in 0..self.layers {
            all.extend(self.layer.iter().map(|(n, s)| (format!("blk.{i}.{n}"), s.clone())));
        }
        all
    }

    fn metadata(&self) -> Metadata {
        let key = |k: &str, v: u32| (format!("{}.{k}", self.arch), MetaValue::U32(v));
        let mut all = vec![
            ("general.architecture".to_string(), MetaValue::String(self.arch.clone())),
            key("block_count", self.layers),
            key("attention.head_count", self.heads),
            key("attention.head_count_kv", self.kv_heads),
        ];
        if self.experts > 0 {
            all.push(key("expert_count", self.experts));
        }
        Metadata(all)
    }

    fn config(&self) -> Vec<u8> {
        let mut config = serde_json::json!({
            "model_type": self.arch,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
        });
        if self.experts > 0 {
            config["num_local_experts"] = self.experts.into();
        }
        config.to_string().into_bytes()
    }

    /// The model as Hugging Face names it: for each tensor the index of the GGUF tensor that it belongs to. `None`
    /// where the architecture's names are not known.
    fn hugging_face(&self) -> Option<(Tensors, Vec<usize>)> {
        let (mut tensors, mut of) = (Vec::new(), Vec::new());
        let metadata = self.metadata();
        for (index, (name, shape)) in self.tensors().into_iter().enumerate() {
            let rows = shape.iter().rev().skip(1).product();
            let names = hf_source(&name, rows, self.experts.into(), &metadata).ok()?.names;
            let own = if names.len() > 1 { shape[1..].to_vec() } else { shape };
            for name in names {
                tensors.push((name, own.clone()));
                of.push(index);
            }
        }
        Some((tensors, of))
    }
}

fn checkpoint(container: Container, tensors: Tensors) -> Checkpoint {
    let info = |(name, shape): (String, Vec<u64>)| TensorInfo {
        name: name.into(),
        dtype: DType::F32,
        shape: Shape::new(shape).expect("a small shape"),
        file: 0,
        bytes: ByteRange { start: 0, end: 0 },
        packed: None,
    };
    Checkpoint {
        container,
        files: Vec::new(),
        tensors: tensors.into_iter().map(info).collect(),
        metadata: Metadata::default(),
        alignment: 32,
        gguf_version: None,
        config: None,
        companions: Vec::new(),
        companion_files: Default::default(),
        computed_tensors: Default::default(),
        exact_floats: Default::default(),
        q4_index: None,
        q4_seed: None,
        folder: None,
        check_text_ids: None,
        unknown_types: Vec::new(),
        packing: Default::default(),
        warnings: Vec::new(),
    }
}

impl Options {
    fn recipe(&self, preset: Preset) -> Recipe {
        let dtype = |id: u32| DType::from_ggml(id).expect("a type of ggml");
        // Their patterns are regular expressions; the ones used here say the same as ours without their escapes.
        let pattern = |p: &str| p.replace('\\', "").trim_end_matches('.').to_string();
        let overrides = self.tensor_types.iter();
        Recipe {
            pure: self.pure,
            leave_output: self.quantize_output == Some(false),
            output_type: self.output_type.map(dtype),
            embedding_type: self.embedding_type.map(dtype),
            overrides: overrides.map(|(p, t)| Override { pattern: pattern(p), dtype: dtype(*t) }).collect(),
            ..Recipe::of_preset(preset)
        }
    }
}

fn expand(text: &str, legend: &BTreeMap<char, DType>) -> Vec<DType> {
    let words = text.split(' ').flat_map(|word| {
        let (word, n) = word.split_once('*').unwrap_or((word, "1"));
        std::iter::repeat_n(word, n.parse().expect("a count"))
    });
    words.flat_map(|w| w.chars().map(|c| legend[&c])).collect()
}

fn types(recipe: &Recipe, checkpoint: &Checkpoint, weights: bool) -> Vec<DType> {
    let kept = |aim| match aim {
        TypeChoice::Keep(_) | TypeChoice::LeaveOut(_) => DType::F32,
        TypeChoice::To(dtype, _) => dtype,
    };
    let choices = type_choices(recipe, checkpoint, weights).expect("choices");
    choices.choices.into_iter().map(kept).collect()
}

#[track_caller]
fn same(name: &str, preset: Preset, tensors: &[TensorInfo], got: &[DType], want: &[DType]) {
    assert_eq!(got.len(), want.len(), "{name}, {preset}");
    for ((tensor, got), want) in tensors.iter().zip(got).zip(want) {
        assert_eq!(got, want, "{name}, {preset}: {}", tensor.name);
    }
}

fn check(name: &str, vectors: &RecipeVectors) -> usize {
    let mut compared = 0;
    let mut gguf = checkpoint(Container::Gguf, vectors.model.tensors());
    gguf.metadata = vectors.model.metadata();
    let mut backwards = gguf.clone();
    backwards.tensors.reverse();
    let named = vectors.model.hugging_face().map(|(tensors, of)| {
        let config = Some(vectors.model.config());
        (Checkpoint { config, ..checkpoint(Container::Safetensors, tensors) }, of)
    });
    for (ftype, case) in &vectors.types {
        let preset = Preset::parse(ftype).expect("a preset of ours");
        if !preset.base().is_quantized() && !vectors.options.tensor_types.is_empty() {
            // There llama.cpp pays no attention to types by name, and we do.
            continue;
        }
        let recipe = vectors.options.recipe(preset);
        for (weights, text) in
            [(false, &case.plain), (true, case.imatrix.as_ref().map_or(&case.plain, |_| &case.imatrix))]
        {
            let Some(text) = text else { continue };
            let mut want = expand(text, &vectors.legend);
            same(name, preset, &gguf.tensors, &types(&recipe, &gguf, weights), &want);
            if let Some((checkpoint, of)) = &named {
                let want: Vec<DType> = of.iter().map(|&i| want[i]).collect();
                same(name, preset, &checkpoint.tensors, &types(&recipe, checkpoint, weights), &want);
            }
            want.reverse();
            same(name, preset, &backwards.tensors, &types(&recipe, &backwards, weights), &want);
            compared += want.len();
        }
    }
    compared
}

#[test]
fn mixes_choose_what_llama_quantize_chooses() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors/recipes");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).expect("the vectors") {
        let path = entry.expect("a vector").path();
        let text = std::fs::read(&path).expect("a vector");
        let vectors: RecipeVectors =
            serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(vectors.types.len(), Preset::ALL.len(), "{}: every preset", path.display());
        assert!(check(&path.to_string_lossy(), &vectors) > 3000, "{}", path.display());
        files += 1;
    }
    assert!(files > 20);
}

/// Mixes look at GGUF names, so a model gets the same types under its own names as under those of its GGUF.
#[test]
fn a_model_has_the_same_types_under_either_naming() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/families");
    let mut models = 0;
    for folder in std::fs::read_dir(root).expect("the fixtures").map(|e| e.expect("an entry").path()) {
        let Ok(config) = std::fs::read(folder.join("config.json")) else { continue };
        let rules = std::fs::read(folder.join("rules.json")).expect("the rules");
        let rules: serde_json::Value = serde_json::from_slice(&rules).expect("JSON");
        let arch = arch::of_model(&Metadata::default(), Some(&config));
        let listed = rules["tensors"].as_object().expect("tensors").iter();
        // Rows as long as those of real models, so that types differ and none falls back.
        let long = |shape: &serde_json::Value| -> Vec<u64> {
            shape.as_array().expect("axes").iter().map(|n| n.as_u64().expect("an axis") * 256).collect()
        };
        let hf: Tensors = listed.map(|(name, entry)| (name.clone(), long(&entry["shape"]))).collect();
        let gguf = hf.iter().map(|(name, shape)| {
            (arch.gguf_name(name).map_or_else(|| name.clone(), |g| g.name), shape.clone())
        });
        let gguf: Tensors = gguf.collect();
        let of = |tensors| Checkpoint {
            config: Some(config.clone()),
            ..checkpoint(Container::Safetensors, tensors)
        };
        let (hf, gguf) = (of(hf), of(gguf));
        for preset in Preset::ALL {
            let recipe = Recipe::of_preset(*preset);
            let name = folder.to_string_lossy();
            same(&name, *preset, &hf.tensors, &types(&recipe, &hf, false), &types(&recipe, &gguf, false));
        }
        models += 1;
    }
    assert!(models >= 42, "{models}");
}
