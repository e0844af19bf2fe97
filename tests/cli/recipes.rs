//! `--recipe` and the types of single tensors.

use crate::support::Dir;
use quantoscope_core::recipe::presets::Preset;
use serde_json::Value;

fn types(report: &Value) -> Vec<(String, String)> {
    let text = |t: &Value, key: &str| t[key].as_str().expect("text").to_string();
    let tensors = report["result"]["tensors"].as_array().expect("tensors");
    tensors.iter().map(|t| (text(t, "name"), text(t, "dtype_out"))).collect()
}

fn type_of(report: &Value, name: &str) -> String {
    let all = types(report);
    all.into_iter().find(|(n, _)| n.contains(name)).unwrap_or_else(|| panic!("no {name}")).1
}

#[test]
fn a_recipe_is_planned_and_written_as_planned() {
    let dir = Dir::with_model_directory(false);
    let plan = dir.run("plan m --recipe Q4_K_M --json").exits(0).json();
    let done = dir.run("quantize m -o out.gguf --recipe q4_k_m --json").exits(0).json();
    assert_eq!(types(&plan), types(&done));
    assert_eq!(plan["result"]["recipe"]["mix"], "q4_k_m");
    let inspected = dir.run("inspect out.gguf --json").exits(0).json();
    let held: Vec<&Value> =
        inspected["tensors"].as_array().expect("tensors").iter().map(|t| &t["dtype"]).collect();
    assert_eq!(held, types(&done).iter().map(|(_, t)| t).collect::<Vec<_>>());
    assert_eq!(inspected["metadata"]["general.file_type"], 15, "{}", inspected["metadata"]);
    assert_eq!(inspected["metadata"]["general.quantization_version"], 2);
    let text = dir.run("plan m --recipe q4_k_m").exits(0).out;
    assert!(text.contains("recipe       q4_k_m") && text.contains("Q5_0 in place of Q4_K"), "{text}");
}

#[test]
fn types_of_single_tensors_go_before_the_mix() {
    let dir = Dir::with_model_directory(false);
    let line = "plan m --recipe q4_0 --names gguf --json --tensor-type blk.0.attn_v=q8_0 --tensor-type v_proj=q5_0 \
                --output-tensor-type q5_1 --token-embedding-type q4_1";
    let plan = dir.run(line).exits(0).json();
    for (name, want) in [
        ("blk.0.attn_v", "Q8_0"),
        ("blk.1.attn_v", "Q5_0"),
        ("blk.1.attn_k", "Q4_0"),
        ("output.weight", "Q5_1"),
        ("token_embd", "Q4_1"),
    ] {
        assert_eq!(type_of(&plan, name), want, "{name}");
    }
    let left = dir.run("plan m --recipe q4_0 --names gguf --leave-output-tensor --json").exits(0).json();
    assert_eq!(type_of(&left, "output.weight"), "BF16");
    // Beside one type for all they work as well.
    let plan = dir
        .run("plan m --type q4_0 --names gguf --tensor-type v_proj=q8_0 --output-tensor-type q6_k --json")
        .exits(0)
        .json();
    assert_eq!((type_of(&plan, "attn_v"), type_of(&plan, "attn_k")), ("Q8_0".into(), "Q4_0".into()));
}

#[test]
fn what_makes_no_sense_is_refused_or_told() {
    let dir = Dir::with_model_directory(false);
    for line in [
        "plan m --recipe q4_k_m --type q4_0",
        "plan m --recipe q4_k_x",
        "plan m --recipe q4_k_m --to q4",
        "plan m --recipe q4_k_m --to safetensors",
        "plan m --type q4_0 --tensor-type v_proj",
        "plan m --type f16 --to safetensors --tensor-type v_proj=q8_0",
        "plan m --recipe q4_0 --leave-output-tensor --output-tensor-type q8_0",
        "plan m --to safetensors",
    ] {
        assert!(!dir.run(line).exits(2).err.is_empty(), "{line}");
    }
    // An override that does nothing is refused, or told where that is asked for.
    let line = "plan m --recipe q4_0 --tensor-type nothing=q8_0";
    let told = dir.run(line).exits(2).err;
    assert!(told.contains("--tensor-type nothing=q8_0 matches no tensor"), "{told}");
    let told = dir.run(&format!("{line} --lenient")).exits(0).err;
    assert!(told.contains("warning: --tensor-type nothing=q8_0 matches no tensor"), "{told}");
    dir.run("plan m --recipe f16 --to safetensors").exits(0);
}

/// What help names as a recipe can be asked for.
#[test]
fn the_recipes_that_help_names_can_be_planned() {
    let dir = Dir::with_model_directory(true);
    let help = dir.run("plan --help").exits(0).out;
    for preset in Preset::ALL {
        assert!(help.contains(preset.name()), "{preset}");
    }
    for preset in ["q8_0", "q5_k_s", "mxfp4_moe", "tq1_0", "iq4_xs", "q3_k_l", "bf16"] {
        dir.run(&format!("plan m --recipe {preset}")).exits(0);
    }
}
