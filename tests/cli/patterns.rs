//! The pattern language of `--tensor` and `--tensor-type`.

use crate::support::Dir;

/// The names that `inspect` shows with these arguments.
fn inspected(dir: &Dir, line: &str) -> Vec<String> {
    let json = dir.run(&format!("inspect m.safetensors --json {line}")).exits(0).json();
    let tensors = json["tensors"].as_array().expect("tensors");
    tensors.iter().map(|t| t["name"].as_str().expect("a name").to_string()).collect()
}

#[test]
fn a_filter_finds_whole_names_parts_and_gguf_names() {
    let dir = Dir::with_model();
    let all = inspected(&dir, "");
    let with = |part: &str| all.iter().filter(|n| n.contains(part)).cloned().collect::<Vec<String>>();
    for (pattern, part) in [
        ("model.layers.0.*", "model.layers.0."),
        ("*.v_proj.weight", ".v_proj.weight"),
        ("*layers.1.mlp*", "layers.1.mlp"),
        ("v_proj", ".v_proj.weight"),
        ("layers.0", "model.layers.0."),
        ("attn_v", ".v_proj.weight"),
        ("blk.1", "model.layers.1."),
        ("token_embd", "embed_tokens"),
        ("V_PROJ", ".v_proj.weight"),
        ("/v_proj\\.weight$/", ".v_proj.weight"),
        ("/^blk\\.0/", "model.layers.0."),
        ("model.layers.[0].*", "model.layers.0."),
        ("model.layers.{0,7}.*", "model.layers.0."),
    ] {
        let expected = with(part);
        assert!(!expected.is_empty(), "{part}");
        assert_eq!(inspected(&dir, &format!("--tensor {pattern}")), expected, "{pattern}");
    }
    let two = inspected(&dir, "--tensor blk.0.attn_v --tensor blk.1.attn_v");
    assert_eq!(two, with(".v_proj.weight"));
    assert!(dir.run("inspect m.safetensors --tensor proj").exits(2).err.contains("no tensor matches"));
}

#[test]
fn a_type_takes_the_same_patterns() {
    let dir = Dir::with_model();
    for pattern in [
        "v_proj",
        "attn_v",
        "*.v_proj.weight",
        "/\\.[0-9]\\.attn_v/",
        "{attn_v,none}",
        "model.layers.?.self_attn.v_proj.*",
    ] {
        let line = format!("plan m.safetensors --type q4_0 --json --tensor-type {pattern}=q8_0");
        let plan = dir.run(&line).exits(0).json();
        for tensor in plan["result"]["tensors"].as_array().expect("tensors") {
            let name = tensor["name"].as_str().expect("a name");
            assert_eq!(
                tensor["dtype_out"] == "Q8_0",
                name.contains("attn_v") || name.contains("v_proj"),
                "{pattern}: {name}"
            );
        }
    }
}

#[test]
fn a_malformed_pattern_is_refused() {
    let dir = Dir::with_model();
    for pattern in ["a[", "{a,b", "/(/", "/a{9999}/", "/(?=a)/"] {
        let line = format!("inspect m.safetensors --tensor {pattern}");
        assert!(dir.run(&line).exits(2).err.contains("the pattern"), "{pattern}");
        let line = format!("plan m.safetensors --type q4_0 --tensor-type {pattern}=q8_0");
        assert!(dir.run(&line).exits(2).err.contains("the pattern"), "{pattern}");
    }
}
