//! What is carried from header to header, and what is written again.

use crate::support::{foreign, gguf, make, remake, reopen};
use quantoscope_core::DType;
use quantoscope_core::format::Container;
use quantoscope_core::recipe::Recipe;
use quantoscope_core::tensor::MetaValue;
use quantoscope_tests::memory::MemoryModel;
use quantoscope_tests::models::{self, CONFIG, Kv, Tensor, llama, safetensors, safetensors_with};
use std::collections::BTreeMap;

fn tensors() -> Vec<Tensor> {
    llama(DType::F16, true, 31)
}

fn source() -> MemoryModel {
    let keys = [
        ("general.architecture", Kv::Text("somebody-elses")),
        ("general.file_type", Kv::U32(1)),
        ("general.quantization_version", Kv::U32(1)),
        ("split.no", Kv::U32(0)),
        ("split.count", Kv::U32(1)),
        ("split.tensors.count", Kv::U32(20)),
        ("somebody-elses.rope.freq_base", Kv::F32(1e6)),
        ("tokenizer.ggml.tokens", Kv::Texts(vec!["<s>", "a\u{0}b", "ü"])),
    ];
    MemoryModel::file("model.gguf", models::gguf(&keys, &tensors())).expect("a sound file")
}

fn carried(w: &MemoryModel) -> BTreeMap<String, MetaValue> {
    w.checkpoint.metadata.0.iter().cloned().collect()
}

#[test]
fn gguf_to_gguf_works_for_any_architecture_and_keeps_its_keys() {
    let from = source();
    for (dtype, id) in [
        (DType::F32, 0),
        (DType::Q4_0, 2),
        (DType::Q8_0, 7),
        (DType::Q2_K, 10),
        (DType::Q3_K, 11),
        (DType::Q4_K, 14),
        (DType::Q5_K, 16),
        (DType::Q6_K, 18),
        (DType::IQ4_NL, 25),
        (DType::IQ4_XS, 30),
        (DType::IQ3_XXS, 23),
        (DType::IQ3_S, 26),
        (DType::IQ2_S, 28),
        (DType::BF16, 32),
        (DType::TQ1_0, 36),
        (DType::TQ2_0, 37),
        (DType::MXFP4, 38),
    ] {
        let made = remake(&from, &gguf(dtype));
        let (mut want, got) = (carried(&from), carried(&made));
        want.retain(|k, _| !k.starts_with("split."));
        want.insert("general.file_type".into(), MetaValue::U32(id));
        want.insert("general.quantization_version".into(), MetaValue::U32(2));
        let told = MetaValue::String(serde_json::to_string(&gguf(dtype)).expect("JSON"));
        want.insert("quantoscope.recipe".into(), told);
        assert_eq!(got, want);
        let names = |w: &MemoryModel| w.checkpoint.tensors.iter().map(|t| t.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&made), names(&from), "tensors stay in order");
    }
}

#[test]
fn gguf_with_names_of_the_source_says_that_it_is_not_runnable() {
    let files = [("model.safetensors", safetensors(&tensors())), ("config.json", CONFIG.into())];
    let world = MemoryModel::directory(files.map(|(n, b)| (n.to_string(), b)).into()).expect("a directory");
    let (plan, made) = make(&world, &foreign(DType::Q4_0));
    assert!(plan.warnings.iter().any(|w| w.code == "not_runnable"));
    let got = carried(&reopen(&plan, &made));
    assert_eq!(got["general.architecture"], MetaValue::String("llama".into()));
    assert_eq!(got["general.file_type"], MetaValue::U32(2));
    assert!(reopen(&plan, &made).checkpoint.tensors.iter().any(|t| t.name == "model.norm.weight"));
}

#[test]
fn safetensors_metadata_is_carried_and_the_recipe_is_told() {
    let file = safetensors_with(&tensors(), &[("format", "pt"), ("author", "a \"quoted\"\nname")]);
    let world = MemoryModel::file("model.safetensors", file).expect("a sound file");
    let recipe = Recipe::new(Container::Safetensors, Some(DType::F32));
    let made = remake(&world, &recipe);
    let text = |w: &MemoryModel, k: &str| w.checkpoint.metadata.text(k).map(String::from);
    assert_eq!(text(&made, "author").as_deref(), Some("a \"quoted\"\nname"));
    assert_eq!(text(&made, "format").as_deref(), Some("pt"));
    let told: Recipe =
        serde_json::from_str(&text(&made, "quantoscope.recipe").expect("a recipe")).expect("JSON");
    assert_eq!(told, recipe);
    assert_eq!(
        text(&remake(&made, &recipe), "quantoscope.recipe"),
        text(&made, "quantoscope.recipe"),
        "once"
    );
}

#[test]
fn gguf_to_safetensors_has_a_format_and_no_gguf_keys() {
    let made = remake(&source(), &Recipe::new(Container::Safetensors, Some(DType::F32)));
    let keys: Vec<String> = carried(&made).into_keys().collect();
    assert_eq!(keys, ["format", "quantoscope.recipe"]);
}

/// The `safetensors` crate, which is the format's own reader, agrees with what we wrote.
#[test]
fn the_reference_reader_opens_what_we_write() {
    let world = MemoryModel::safetensors(&tensors());
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let (_, made) = make(&world, &Recipe::new(Container::Safetensors, Some(dtype)));
        let theirs = ::safetensors::SafeTensors::deserialize(&made.files[0]).expect("a sound file");
        let ours = MemoryModel::file("x.safetensors", made.files[0].clone()).expect("a sound file");
        assert_eq!(theirs.len(), ours.checkpoint.tensors.len());
        for (name, view) in theirs.tensors() {
            assert_eq!(view.data(), ours.tensor(&name), "{name}");
        }
    }
}
