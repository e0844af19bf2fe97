//! The cases of the corpus: folders, and what the converter made of them.

use quantoscope_core::recipe::Recipe;
use quantoscope_tests::memory::MemoryModel;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A checkpoint and the expected file.
pub(crate) struct Case {
    pub name: String,
    pub expected: Value,
    folder: PathBuf,
}

/// The folder of the corpus.
pub(crate) fn corpus_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/conversion/corpus")
}

/// All cases, by name.
pub(crate) fn cases() -> Vec<Case> {
    let entries = fs::read_dir(corpus_dir()).expect("the corpus");
    let mut all: Vec<Case> = entries.map(|e| Case::open(&e.expect("an entry").path())).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

impl Case {
    fn open(folder: &Path) -> Case {
        let name = folder.file_name().and_then(|n| n.to_str()).expect("a name").to_string();
        let expected = fs::read(folder.join("expected.json")).expect("expected.json");
        Case {
            name,
            expected: serde_json::from_slice(&expected).expect("JSON"),
            folder: folder.to_path_buf(),
        }
    }

    /// The files of the checkpoint by their names in the folder.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(&self.folder.join("hf"), "", &mut files);
        files
    }

    /// The opened checkpoint, under the name that its folder had.
    pub(crate) fn model(&self) -> MemoryModel {
        let mut model = MemoryModel::folder(self.files()).unwrap_or_else(|e| panic!("{}: {e}", self.name));
        model.checkpoint.folder = self.expected["input_folder_name"].as_str().map(String::from);
        model
    }

    /// The value of a key of the expected file.
    pub(crate) fn key(&self, key: &str) -> Option<&Value> {
        let keys = self.expected["kv"].as_array().expect("keys");
        keys.iter().find(|entry| entry[0] == key).map(|entry| &entry[2])
    }

    /// The recipe with the name of the pre-tokenizer, which the small vocabularies do not tell.
    pub(crate) fn recipe(&self, recipe: Recipe) -> Recipe {
        let pre_tokenizer = self.key("tokenizer.ggml.pre").and_then(Value::as_str).map(String::from);
        Recipe { pre_tokenizer, ..recipe }
    }
}

fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|n| n.to_str()).expect("a name");
        let name = format!("{prefix}{name}");
        match path.is_dir() {
            true => collect(&path, &format!("{name}/"), files),
            false => {
                files.insert(name, fs::read(&path).expect("a file"));
            }
        }
    }
}
