//! The files of a folder. Knows no format.

use crate::exit::io_error;
use quantoscope_core::error::Result;
use quantoscope_core::format::is_weights;
use std::fs;
use std::path::Path;

/// The name of a directory, also where its path ends in dots.
pub(super) fn folder_name(dir: &Path) -> Option<String> {
    let named = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned());
    named(dir).or_else(|| named(&fs::canonicalize(dir).ok()?))
}

/// The regular files of a directory, and their lengths.
pub(super) fn list(dir: &Path) -> Result<Vec<(String, u64)>> {
    let mut names = Vec::new();
    list_into(dir, "", 0, &mut names)?;
    // Models in folders are named in the message of the refusal.
    let depth = if names.iter().any(|(name, _)| is_weights(name)) { 0 } else { LISTED_DEPTH };
    if depth > 0 {
        names.clear();
        list_into(dir, "", depth, &mut names)?;
    }
    Ok(names)
}

/// Folders within folders in which weights are looked for.
const LISTED_DEPTH: u32 = 2;
/// Files that are listed of folders.
const LISTED_FILES: usize = 10_000;

/// Appends the regular files of `dir` and of its folders down to `depth`, with `prefix` before their names.
fn list_into(dir: &Path, prefix: &str, depth: u32, names: &mut Vec<(String, u64)>) -> Result<()> {
    let about = |e: std::io::Error| io_error(&e, format!("cannot list {}", dir.display()));
    for entry in fs::read_dir(dir).map_err(about)? {
        let entry = entry.map_err(about)?;
        // Links are followed: the Hugging Face cache consists of them. A dangling link is no file.
        let (Ok(meta), Ok(name)) = (fs::metadata(entry.path()), entry.file_name().into_string()) else {
            continue;
        };
        if meta.is_file() {
            names.push((format!("{prefix}{name}"), meta.len()));
        } else if depth > 0 && meta.is_dir() && names.len() < LISTED_FILES {
            // A folder that cannot be listed does not hide the refusal.
            let _ = list_into(&entry.path(), &format!("{prefix}{name}/"), depth - 1, names);
        }
    }
    Ok(())
}
