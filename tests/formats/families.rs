//! The tiny checkpoints of model families: read as they are, and their rules hold together.

use crate::safetensors::agrees;
use quantoscope_core::format::Root;
use quantoscope_tests::drive::{Files, open};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub(crate) fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/families");
    let mut all: Vec<PathBuf> =
        std::fs::read_dir(root).expect("the fixtures").map(|e| e.expect("an entry").path()).collect();
    all.retain(|p| p.is_dir());
    all.sort();
    all
}

pub(crate) fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
}

pub(crate) fn axes(entry: &Value) -> Vec<u64> {
    entry["shape"].as_array().expect("a shape").iter().map(|a| a.as_u64().expect("an axis")).collect()
}

/// The tensors of `rules`, all of them, in whichever layout.
fn tensors(rules: &Value) -> BTreeMap<&str, &Value> {
    let sections = [&rules["tensors"], &rules["tensors_in_memory"]];
    sections.into_iter().filter_map(Value::as_object).flatten().map(|(n, e)| (n.as_str(), e)).collect()
}

#[test]
fn every_kept_checkpoint_has_the_tensors_of_its_rules() {
    let mut kept = 0;
    for folder in folders() {
        let Ok(bytes) = std::fs::read(folder.join("model.safetensors")) else { continue };
        let config = std::fs::read(folder.join("config.json")).expect("a configuration");
        let files = Files::of("model.safetensors", bytes.clone()).with("config.json", config);
        let checkpoint = open(Root::Dir, &files).expect("it opens");
        agrees(&checkpoint, &bytes);
        let rules = json(&folder.join("rules.json"));
        let ours: BTreeMap<&str, Vec<u64>> =
            checkpoint.tensors.iter().map(|t| (t.name.as_str(), t.shape.axes().to_vec())).collect();
        let listed = rules["tensors"].as_object().expect("tensors");
        let theirs: BTreeMap<&str, Vec<u64>> = listed
            .iter()
            .filter(|(_, e)| e["r1"].get("made_from").is_none())
            .map(|(n, e)| (n.as_str(), axes(e)))
            .collect();
        assert_eq!(ours, theirs, "{}", folder.display());
        let expected = json(&folder.join("expected.json"));
        assert_eq!(expected["class"], rules["class"]);
        kept += 1;
    }
    assert!(kept >= 18, "{kept}");
}

#[test]
fn every_turned_axis_has_the_length_of_the_rotation() {
    let folders = folders();
    assert!(folders.len() >= 42, "{}", folders.len());
    for folder in folders {
        let rules = json(&folder.join("rules.json"));
        assert_eq!(rules["family"].as_str(), folder.file_name().and_then(|n| n.to_str()));
        for (name, entry) in tensors(&rules) {
            let shape = axes(entry);
            if let Some(axis) = entry["r1"]["axis"].as_u64() {
                assert_eq!(shape[axis as usize], rules["hidden_size"], "{name}");
            }
            let Some(spans) = entry["r2"]["spans"].as_array() else { continue };
            let length = rules["r2"]["length"].as_u64().expect("a length");
            let mut end = 0;
            for span in spans {
                let (at, which) = (span[0].as_u64().expect("an offset"), span[1].as_u64().expect("a number"));
                assert!(at >= end && which < rules["r2"]["rotations"].as_u64().expect("a count"), "{name}");
                end = at + length;
            }
            assert!(end <= shape[entry["r2"]["axis"].as_u64().expect("an axis") as usize], "{name}");
        }
    }
}

#[test]
fn every_norm_is_folded_and_every_reader_names_one() {
    for folder in folders() {
        let rules = json(&folder.join("rules.json"));
        let forbidden = rules["r1"]["blockers"].as_array().is_some_and(|b| !b.is_empty());
        assert_eq!(rules["r1"]["exact"] == true, !forbidden, "{}", folder.display());
        let tensors = tensors(&rules);
        let of_side = |sides: &[&str]| {
            let hit = |e: &Value| e["r1"]["side"].as_str().is_some_and(|s| sides.contains(&s));
            tensors.iter().filter(|(_, e)| hit(e)).map(|(n, _)| *n).collect::<BTreeSet<_>>()
        };
        let folded: BTreeSet<&str> = of_side(&["reader", "head"])
            .iter()
            .map(|n| tensors[n]["r1"]["fold"].as_str().unwrap_or_else(|| panic!("{n} reads what?")))
            .collect();
        assert_eq!(folded, of_side(&["norm"]), "{}", folder.display());
        assert_eq!(folded.is_empty(), forbidden, "{}", folder.display());
    }
}
