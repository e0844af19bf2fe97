//! Who depends on what, by the manifests.

use crate::sources::root;
use std::collections::BTreeSet;

/// The names in one section of a manifest.
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
fn core_depends_on_the_agreed_crates_and_no_more() {
    let agreed = set(&["serde", "serde_json", "half", "bytemuck", "libm", "postcard", "sha2"]);
    let found = section("core/Cargo.toml", "[dependencies]");
    assert!(found.len() > 3, "{found:?}");
    assert!(found.is_subset(&agreed), "not agreed: {:?}", found.difference(&agreed));
    assert_eq!(section("core/Cargo.toml", "[dev-dependencies]"), set(&[]), "tests live in tests/");
}

#[test]
fn crates_of_ours_depend_downwards() {
    let ours = |manifest: &str| -> BTreeSet<String> {
        section(manifest, "[dependencies]").into_iter().filter(|n| n.starts_with("quantoscope")).collect()
    };
    let both = set(&["quantoscope-core", "quantoscope-accel"]);
    assert_eq!(ours("core/Cargo.toml"), set(&[]));
    assert_eq!(ours("core/accel/Cargo.toml"), set(&["quantoscope-core"]));
    assert!(ours("native-cli/Cargo.toml").is_subset(&both));
    if root().join("wasm/Cargo.toml").is_file() {
        assert!(ours("wasm/Cargo.toml").is_subset(&both));
    }
}
