//! What the documents say about the code: links, error codes, presets.

use crate::sources::root;
use quantoscope_core::Code;
use quantoscope_core::error::ErrorKind;
use quantoscope_core::model::arch::{self, Arch};
use quantoscope_core::recipe::presets::Preset;
use std::path::{Path, PathBuf};

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Every document at the root, in `docs/`, and beside a manifest.
fn documents() -> Vec<PathBuf> {
    let folders = ["", "docs", "core", "core/accel", "native-cli", "wasm", "tests"];
    let files = folders.iter().flat_map(|f| std::fs::read_dir(root().join(f)).expect("a folder"));
    let paths = files.map(|e| e.expect("an entry").path());
    paths.filter(|p| p.extension().is_some_and(|e| e == "md")).collect()
}

/// The targets of the links in a text that are paths.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    targets.map(|t| t.split('#').next().unwrap_or("")).filter(|t| !t.is_empty() && !t.contains("://"))
}

#[test]
fn links_of_documents_lead_to_files() {
    let documents = documents();
    assert!(documents.len() > 15, "{documents:?}");
    for path in documents {
        let text = std::fs::read_to_string(&path).expect("text");
        let folder = path.parent().unwrap_or(Path::new(""));
        for link in links(&text) {
            assert!(folder.join(link).exists(), "{} links to {link}", path.display());
        }
    }
}

/// The families that can be rotated and have no forward pass.
#[test]
fn families_without_forward_pass_are_named_in_the_rotation_page() {
    let text = read("docs/rotation.md");
    let (_, list) = text.split_once("These families need it:").expect("the list");
    let list = list.split('.').next().unwrap_or("");
    let mut named: Vec<&str> = list.split(',').map(|n| n.trim().trim_matches('`')).collect();
    let rotates =
        |a: &&Arch| a.rotation.as_ref().is_some_and(|r| r.refused.is_none() || r.values_refused.is_none());
    let unprobed = arch::all().filter(rotates).filter(|a| a.forward.is_none());
    let mut expected: Vec<&str> = unprobed.flat_map(|a| a.model_types).copied().collect();
    named.retain(|n| !n.is_empty());
    named.sort_unstable();
    expected.sort_unstable();
    expected.dedup();
    let named: Vec<&str> = named.iter().flat_map(|n| n.split("`, `")).collect();
    assert_eq!(named, expected);
}

#[test]
fn error_codes_are_documented_beside_their_exit_code() {
    let text = read("docs/errors.md");
    let (_, table) = text.split_once("| exit | codes |").expect("the table of codes");
    for code in Code::ALL {
        let exit = match code.kind() {
            ErrorKind::Request => 2,
            ErrorKind::System => 3,
            ErrorKind::File | ErrorKind::Limit => 4,
            ErrorKind::Gate => 5,
            ErrorKind::Unsupported => 6,
            ErrorKind::Device => 7,
            ErrorKind::Interrupted => 130,
        };
        let row =
            table.lines().find(|l| l.starts_with(&format!("| {exit} |"))).expect("a row for each exit code");
        assert!(
            row.contains(&format!("`{}`", code.as_str())),
            "{} is not in the row of {exit}",
            code.as_str()
        );
    }
}

#[test]
fn presets_are_documented() {
    let text = read("docs/recipes.md");
    for preset in Preset::ALL {
        assert!(
            text.contains(&format!("`{}`", preset.name())),
            "{} is not in docs/recipes.md",
            preset.name()
        );
    }
}
