//! Symbolic links among the files that are copied with a model: a downloaded model must not cause private
//! files to be copied.

use crate::exit::io_error;
use quantoscope_core::error::{Code, Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Fails if `name` in `dir` is a link that leads out of the model. The model is `dir`, the directories that
/// its `weights` link to, and `blobs` beside `snapshots/COMMIT` in the cache of the Hugging Face Hub.
///
/// # Errors
///
/// `bad_name` if it does.
pub(super) fn check_inside(dir: &Path, name: &str, weights: impl Iterator<Item = PathBuf>) -> Result<()> {
    let path = dir.join(name);
    let real =
        |p: &Path| fs::canonicalize(p).map_err(|e| io_error(&e, format!("cannot open {}", p.display())));
    let (home, target) = (real(dir)?, real(&path)?);
    let snapshots = home.ancestors().find(|a| a.file_name().is_some_and(|n| n == "snapshots"));
    let blobs = snapshots.and_then(Path::parent).map(|repo| repo.join("blobs"));
    let beside = |weights: PathBuf| real(&weights).is_ok_and(|w| w.parent() == target.parent());
    let inside = target.starts_with(&home) || blobs.is_some_and(|blobs| target.starts_with(blobs));
    if inside || weights.into_iter().any(beside) {
        return Ok(());
    }
    let message = format!(
        "{} is a link to {}, outside of the model; replace the link by the file to copy it",
        path.display(),
        target.display()
    );
    Err(Error::new(Code::BadName, message).in_file(name))
}
