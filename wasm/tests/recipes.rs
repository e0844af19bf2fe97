//! Everything that a recipe can say reaches the page's session, and the bytes are those of the core.
#![cfg(target_arch = "wasm32")]

mod page;

use js_sys::Array;
use page::models::{LLAMA, LLAMA_CONFIG, ROLES, imatrix, safetensors};
use page::{
    converted, drive, get, number, object, open, open_files, open_imatrix, reference, saved, saved_with, text,
};
use quantoscope_core::DType;
use quantoscope_core::plan::target;
use quantoscope_core::recipe::presets::Preset;
use quantoscope_core::recipe::{Recipe, TargetName};
use quantoscope_wasm::{catalog, rotation_options};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

const MATRIX: &str = "weights.dat";

fn texts(list: &JsValue) -> Vec<String> {
    let list: Array = list.clone().unchecked_into();
    list.iter().filter_map(|v| v.as_string()).collect()
}

/// Converts `bytes` by a recipe that the page sends, with an importance matrix; compares with the core.
async fn assert_equal(bytes: &[u8], recipe: JsValue, weights: Option<&[u8]>) {
    let parsed: Recipe = serde_wasm_bindgen::from_value(recipe.clone()).unwrap();
    let model = open(bytes).await.ok().unwrap();
    let plan = match weights {
        Some(weights) => {
            let matrix = open_imatrix(MATRIX, weights).await.ok().unwrap();
            model.weighted_plan(recipe, &matrix, true)
        }
        None => model.plan(recipe, true),
    };
    let made = converted(&plan.ok().unwrap()).await.unwrap();
    let expected = reference::convert(&[("model.safetensors", bytes)], &parsed, weights.map(|w| (MATRIX, w)));
    assert!(made == expected, "{parsed:?}");
}

#[wasm_bindgen_test]
fn catalog_lists_what_recipes_accept() {
    let catalog = catalog().unwrap();
    let types = texts(&get(&catalog, "targets.0.types"));
    for dtype in DType::ALL {
        let accepted = target::check(&Recipe::new(TargetName::Gguf, Some(*dtype))).is_ok();
        assert_eq!(accepted, types.contains(&dtype.name().into()), "{dtype}");
    }
    assert_eq!(texts(&get(&catalog, "targets.0.presets")).len(), Preset::ALL.len());
    assert_eq!(text(&catalog, "targets.1.target"), "q4");
    assert_eq!(text(&catalog, "targets.1.q4_schemes.1.scheme"), "sym");
    assert_eq!(texts(&get(&catalog, "targets.2.types")).len(), 3);
    assert_eq!(text(&catalog, "targets.3.target"), "hf_folder");
    assert_eq!(text(&catalog, "targets.4.target"), "mlx");
    assert_eq!(texts(&get(&catalog, "targets.4.types")).len(), 3 + 18);
    assert_eq!(number(&catalog, "types.0.bits_per_weight"), 32.0);
}

#[wasm_bindgen_test]
async fn every_type_with_an_importance_matrix_equals_the_core() {
    let (bytes, weights) = (safetensors(ROLES), imatrix(ROLES));
    for dtype in texts(&get(&catalog().unwrap(), "targets.0.types")) {
        assert_equal(&bytes, page::recipe("gguf", &dtype), Some(&weights)).await;
    }
}

#[wasm_bindgen_test]
async fn every_preset_with_an_importance_matrix_equals_the_core() {
    let (bytes, weights) = (safetensors(ROLES), imatrix(ROLES));
    for preset in texts(&get(&catalog().unwrap(), "targets.0.presets")) {
        let recipe = object(&[("to", "gguf".into()), ("mix", preset.into())]);
        assert_equal(&bytes, recipe, Some(&weights)).await;
    }
}

#[wasm_bindgen_test]
async fn overrides_and_types_of_embeddings_and_output_equal_the_core() {
    let bytes = safetensors(ROLES);
    let overrides = Array::of2(
        &object(&[("pattern", "attn_v".into()), ("type", "q8_0".into())]),
        &object(&[("pattern", "*.mlp.*".into()), ("type", "q5_1".into())]),
    );
    let with = |more: &[(&str, JsValue)]| {
        let all = [&[("to", "gguf".into()), ("overrides", overrides.clone().into())], more].concat();
        object(&all)
    };
    let types = [("output_type", "q6_k".into()), ("embedding_type", "q4_1".into())];
    assert_equal(&bytes, with(&[&[("mix", "q4_k_m".into())][..], &types].concat()), None).await;
    assert_equal(&bytes, with(&[("type", "q4_0".into()), ("leave_output", true.into())]), None).await;
    assert_equal(&bytes, with(&[("type", "q4_0".into()), ("pure", true.into())]), None).await;
}

#[wasm_bindgen_test]
async fn requantized_sources_equal_the_core_and_need_leave() {
    let bytes = safetensors(ROLES);
    let plan = open(&bytes).await.ok().unwrap().plan(page::recipe("gguf", "q8_0"), false).ok().unwrap();
    let source = converted(&plan).await.unwrap();
    let files: &[(&str, &[u8])] = &[("model.gguf", &source)];
    let model = open_files(files).await.ok().unwrap();
    let recipe = |leave: bool| {
        object(&[("to", "gguf".into()), ("type", "q4_0".into()), ("allow_requantize", leave.into())])
    };
    assert_eq!(text(&model.plan(recipe(false), false).err().unwrap(), "code"), "requantize");
    let made = converted(&model.plan(recipe(true), false).ok().unwrap()).await.unwrap();
    let parsed: Recipe = serde_wasm_bindgen::from_value(recipe(true)).unwrap();
    assert!(made == reference::convert(files, &parsed, None));
}

#[wasm_bindgen_test]
async fn importance_matrix_is_shown_and_its_errors_have_codes() {
    let matrix = open_imatrix(MATRIX, &imatrix(ROLES)).await.ok().unwrap().view().unwrap();
    assert_eq!(text(&matrix, "file"), MATRIX);
    assert_eq!(texts(&get(&matrix, "tensors")).len(), 9);
    assert_eq!(text(&matrix, "sha256").len(), 64);
    let cut = imatrix(ROLES);
    assert!(open_imatrix(MATRIX, &cut[..cut.len() - 5]).await.is_err());
    let other = open_imatrix(MATRIX, &imatrix(LLAMA)).await.ok().unwrap();
    let model = open(&safetensors(ROLES)).await.ok().unwrap();
    let error = model.weighted_plan(page::recipe("gguf", "q4_k"), &other, false).err().unwrap();
    assert_eq!(text(&error, "code"), "size_mismatch");
}

#[wasm_bindgen_test]
async fn value_that_is_no_recipe_is_a_usage_error() {
    let model = open(&safetensors(ROLES)).await.ok().unwrap();
    let error = model.plan(object(&[("to", "gguf".into()), ("type", "q9_9".into())]), false).err().unwrap();
    assert_eq!(text(&error, "code"), "usage");
    assert_eq!(text(&rotation_options("twist", None).err().unwrap(), "code"), "usage");
    assert_eq!(text(&rotation_options("r2", Some("x".into())).err().unwrap(), "code"), "usage");
}

#[wasm_bindgen_test]
async fn rotated_conversion_is_checked_and_equals_the_core() {
    let weights = safetensors(LLAMA);
    let files: &[(&str, &[u8])] =
        &[("model.safetensors", &weights), ("config.json", LLAMA_CONFIG.as_bytes())];
    for (what, seed) in [("quarot", None), ("block:32,r2", Some("0xcafe")), ("fold", Some("7"))] {
        let rotate = rotation_options(what, seed.map(Into::into)).unwrap();
        let recipe = object(&[("to", "gguf".into()), ("type", "q8_0".into()), ("rotate", rotate)]);
        let parsed: Recipe = serde_wasm_bindgen::from_value(recipe.clone()).unwrap();
        let plan = open_files(files).await.ok().unwrap().plan(recipe, true).ok().unwrap();
        let run = plan.run().ok().unwrap();
        let made = saved(&run).await.unwrap();
        assert!(made == reference::convert(files, &parsed, None), "{what}");
        let report = run.report().unwrap();
        assert_eq!(number(&report, "gate.probe.tokens"), 4.0);
        assert!(number(&report, "gate.probe.max") <= number(&report, "gate.probe.limit"));
        assert!(number(&report, "rotation.elements") > 0.0);
    }
}

#[wasm_bindgen_test]
async fn rotation_of_a_model_that_cannot_be_run_needs_leave() {
    let weights = safetensors(LLAMA);
    // Long scaled contexts are no part of the forward pass.
    let config = LLAMA_CONFIG.replace("\"silu\"", "\"a_function_of_its_own\"");
    let files: &[(&str, &[u8])] = &[("model.safetensors", &weights), ("config.json", config.as_bytes())];
    let rotate = rotation_options("quarot", None).unwrap();
    let recipe = object(&[("to", "gguf".into()), ("type", "q8_0".into()), ("rotate", rotate)]);
    let plan = open_files(files).await.ok().unwrap().plan(recipe, true).ok().unwrap();
    let refused = converted(&plan).await.err().unwrap();
    assert_eq!(text(&refused, "code"), "unsupported_rotation");
    let run = plan.run().ok().unwrap();
    saved_with(&run, &[("allowUnprobed", true.into())]).await.unwrap();
    assert!(text(&run.report().unwrap(), "gate.unprobed").contains("a_function_of_its_own"));
}

#[wasm_bindgen_test]
async fn output_is_verified_alone_and_against_its_source() {
    let (bytes, weights) = (safetensors(ROLES), imatrix(ROLES));
    let source = open(&bytes).await.ok().unwrap();
    let matrix = open_imatrix(MATRIX, &weights).await.ok().unwrap();
    let plan = source.weighted_plan(page::recipe("gguf", "iq2_xs"), &matrix, false).ok().unwrap();
    let made = converted(&plan).await.unwrap();
    let output = open_files(&[("out.gguf", &made)]).await.ok().unwrap();

    let run = output.verify("out.gguf".into()).ok().unwrap();
    drive(&run).await.unwrap();
    let alone = run.report().unwrap();
    assert_eq!(get(&alone, "verified"), JsValue::TRUE);
    assert!(get(&alone, "source").is_undefined());

    let names = || ("out.gguf".to_string(), "model".to_string());
    let (name, source_name) = names();
    let run = output.weighted_verify_against(&source, &matrix, name, source_name).ok().unwrap();
    drive(&run).await.unwrap();
    let report = run.report().unwrap();
    assert_eq!(get(&report, "verified"), JsValue::TRUE);
    assert_eq!(text(&report, "source"), "model");

    let mut spoiled = made.clone();
    let last = spoiled.len() - 1;
    spoiled[last] ^= 1;
    let output = open_files(&[("out.gguf", &spoiled)]).await.ok().unwrap();
    let (name, source_name) = names();
    let run = output.weighted_verify_against(&source, &matrix, name, source_name).ok().unwrap();
    drive(&run).await.unwrap();
    assert_eq!(get(&run.report().unwrap(), "verified"), JsValue::FALSE);
}

#[wasm_bindgen_test]
async fn rotated_output_is_verified_by_the_recipe_that_it_records() {
    let weights = safetensors(LLAMA);
    let files: &[(&str, &[u8])] =
        &[("model.safetensors", &weights), ("config.json", LLAMA_CONFIG.as_bytes())];
    let source = open_files(files).await.ok().unwrap();
    let rotate = rotation_options("quarot", Some("9".into())).unwrap();
    let recipe = object(&[("to", "gguf".into()), ("type", "q8_0".into()), ("rotate", rotate)]);
    let made = converted(&source.plan(recipe, false).ok().unwrap()).await.unwrap();
    let output = open_files(&[("out.gguf", &made)]).await.ok().unwrap();
    let run = output.verify_against(&source, "out.gguf".into(), "model".into()).ok().unwrap();
    drive(&run).await.unwrap();
    assert_eq!(get(&run.report().unwrap(), "verified"), JsValue::TRUE);
}
