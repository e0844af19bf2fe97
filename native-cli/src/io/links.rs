//! Links among the files that are copied with a model: a model from elsewhere must not make us copy a file of the user's.

use crate::exit::world;
use quantoscope_core::error::{Code, Error, Result};
use std::fs;
use std::path::Path;

/// Fails where `name` in `dir` is a link that leaves the directory. The cache of the Hugging Face Hub has its files in
/// `blobs` beside `snapshots/COMMIT`, and links to them there: these are the model's.
pub fn check_inside(dir: &Path, name: &str) -> Result<()> {
    let path = dir.join(name);
    let real = |p: &Path| fs::canonicalize(p).map_err(|e| world(&e, format!("cannot open {}", p.display())));
    let (home, target) = (real(dir)?, real(&path)?);
    let snapshots = home.ancestors().find(|a| a.file_name().is_some_and(|n| n == "snapshots"));
    let blobs = snapshots.and_then(Path::parent).map(|repo| repo.join("blobs"));
    if target.starts_with(&home) || blobs.is_some_and(|blobs| target.starts_with(blobs)) {
        return Ok(());
    }
    let message = format!(
        "{} is a link to {}, outside of the model's directory; copy the file there to have it with the model",
        path.display(),
        target.display()
    );
    Err(Error::new(Code::BadName, message).in_file(name))
}
