//! Dependencies of the crates, by their manifests.

use crate::sources::root;
use std::collections::BTreeSet;

/// Names of the dependencies in one section of a manifest.
fn section(manifest: &str, header: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join(manifest)).expect("a manifest");
    let body = text.lines().skip_while(|l| l.trim() != header).skip(1).take_while(|l| !l.starts_with('['));
    let name = |l: &str| l.split(['.', '=', ' ']).next().unwrap_or("").to_string();
    body.filter(|l| !l.trim().is_empty() && !l.starts_with('#')).map(name).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn core_dependencies_are_the_agreed_ones() {
    let agreed = set(&["serde", "serde_json", "half", "bytemuck", "libm", "postcard", "sha2"]);
    let found = section("core/Cargo.toml", "[dependencies]");
    assert!(found.len() > 3, "{found:?}");
    assert!(found.is_subset(&agreed), "not on the list: {:?}", found.difference(&agreed));
    assert_eq!(section("core/Cargo.toml", "[dev-dependencies]"), set(&[]), "tests live in tests/");
}

#[test]
fn workspace_crates_depend_downwards() {
    let ours = |manifest: &str| -> BTreeSet<String> {
        section(manifest, "[dependencies]").into_iter().filter(|n| n.starts_with("quantoscope")).collect()
    };
    let both = set(&["quantoscope-core", "quantoscope-accel"]);
    assert_eq!(ours("core/Cargo.toml"), set(&[]));
    assert_eq!(ours("core/accel/Cargo.toml"), set(&["quantoscope-core"]));
    assert_eq!(ours("core/encoder/Cargo.toml"), set(&["quantoscope-core"]));
    let linked = set(&["quantoscope-core", "quantoscope-accel", "quantoscope-encoder"]);
    assert!(ours("native-cli/Cargo.toml").is_subset(&linked));
    if root().join("wasm/Cargo.toml").is_file() {
        assert!(ours("wasm/Cargo.toml").is_subset(&both));
        assert_eq!(ours("wasm/tokenizer/Cargo.toml"), set(&["quantoscope-core", "quantoscope-encoder"]));
    }
}
