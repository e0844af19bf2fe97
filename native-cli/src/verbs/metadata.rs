//! `metadata`: the key-values of one GGUF file, read and changed. Tensors stay as they are, whatever the architecture and their
//! types.

use crate::exit::io_error;
use crate::io::in_place::{check_plain, overwrite, recover};
use crate::io::naming::settle;
use crate::io::output::{Intent, OutputFiles};
use crate::io::read_at::{LocalFile, ReadAt};
use crate::io::target::{OutputForm, Permission, target};
use crate::options::MetadataOptions;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::format::gguf::{GgufHeader, GgufHeaderOpening, MetadataChanges};
use quantoscope_core::job::{Region, Write};
use quantoscope_core::plan::{OutFile, Plan};
use quantoscope_core::schedule::Budget;
use quantoscope_core::tensor::MetaValue;
use sha2::{Digest, Sha256};
use std::path::Path;

/// Bytes that are copied at a time.
const PIECE: u64 = 4 << 20;

/// How a change was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeMethod {
    /// Nothing changes.
    Unchanged,
    /// The header is overwritten; the data does not move.
    InPlace,
    /// The file is written again, and replaces the old one when it is complete.
    Rewritten,
    /// Another file is written.
    Copied,
}

/// Changed metadata.
#[derive(Clone, Debug)]
pub struct ChangedMetadata {
    /// How it was written, or would be in a dry run.
    pub method: ChangeMethod,
    /// Each key that changes, with its value before and after.
    pub keys: Vec<(String, Option<MetaValue>, Option<MetaValue>)>,
}

/// Reads the header of the GGUF file at `path`. A change that was interrupted is reverted first.
///
/// # Errors
///
/// `bad_magic` and the like for other files, `io`.
pub fn read(path: &Path) -> Result<GgufHeader> {
    if recover(path)? {
        crate::render::note(&format!(
            "warning: a change of {} was interrupted; its old metadata is restored",
            path.display()
        ));
    }
    open(path).map(|(header, _)| header)
}

/// Changes the metadata of a GGUF file: in place if the data stays where it is, else by writing the file again, which replaces
/// the old one when it is complete.
///
/// # Errors
///
/// `usage` for a key that cannot be changed or removed, and for links; those of reading the header; `exists` and the like for
/// another file.
pub fn change(options: &MetadataOptions) -> Result<ChangedMetadata> {
    let header = read(&options.input)?;
    check_first(&header, &options.input)?;
    let new = header.edited(&options.changes).map_err(|e| e.in_file(&options.input.to_string_lossy()))?;
    let old = header.padded();
    let keys = changed_keys(&header, &options.changes);
    let in_place = new.len() == old.len() && new.len() as u64 == header.data_at;
    let method = match (&options.output, keys.is_empty()) {
        (Some(_), _) => ChangeMethod::Copied,
        (None, true) => ChangeMethod::Unchanged,
        (None, false) if in_place => ChangeMethod::InPlace,
        (None, false) => ChangeMethod::Rewritten,
    };
    let permission = |force| Permission { force, resume: false };
    let out = match &options.output {
        Some(path) => {
            check_other(&options.input, path)?;
            target(&[], path, &OutputForm::File, permission(options.force || options.dry_run))?
        }
        None => {
            check_plain(&options.input)?;
            target(&[], &options.input, &OutputForm::File, permission(true))?
        }
    };
    if options.dry_run {
        return Ok(ChangedMetadata { method, keys });
    }
    settle(&out)?;
    match method {
        ChangeMethod::Unchanged => {}
        ChangeMethod::InPlace => overwrite(&options.input, &old, &new)?,
        ChangeMethod::Rewritten => rewrite(&options.input, &out, &header, new, permission(true))?,
        ChangeMethod::Copied => rewrite(&options.input, &out, &header, new, permission(options.force))?,
    }
    Ok(ChangedMetadata { method, keys })
}

/// Refuses files of a split but the first, whose metadata readers do not use.
fn check_first(header: &GgufHeader, path: &Path) -> Result<()> {
    if header.metadata.uint("split.no").is_some_and(|no| no > 0) {
        let message =
            format!("{} is not the first file of its split, which holds the metadata", path.display());
        return Err(Error::new(Code::Usage, message));
    }
    Ok(())
}

/// Refuses the input as the other file.
fn check_other(input: &Path, output: &Path) -> Result<()> {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    if real(output).is_some() && real(output) == real(input) {
        return Err(Error::new(Code::SameFile, "the output is the input; leave out -o to change it"));
    }
    Ok(())
}

/// The keys whose values change.
fn changed_keys(
    header: &GgufHeader,
    changes: &MetadataChanges,
) -> Vec<(String, Option<MetaValue>, Option<MetaValue>)> {
    let mut keys: Vec<(String, Option<MetaValue>, Option<MetaValue>)> = Vec::new();
    let before = |key: &String| header.metadata.get(key).cloned();
    for (key, value) in &changes.set {
        keys.retain(|(k, _, _)| k != key);
        keys.push((key.clone(), before(key), Some(value.clone())));
    }
    keys.extend(changes.remove.iter().map(|key| (key.clone(), before(key), None)));
    keys.retain(|(_, before, after)| before != after);
    keys
}

fn open(path: &Path) -> Result<(GgufHeader, LocalFile)> {
    let about = |e: std::io::Error| io_error(&e, format!("cannot open {}", path.display()));
    if !std::fs::metadata(path).map_err(about)?.is_file() {
        return Err(Error::new(Code::Usage, format!("{} is no file; name a .gguf file", path.display())));
    }
    let file = LocalFile::open(path).map_err(about)?;
    let mut opening = GgufHeaderOpening::new(&path.to_string_lossy(), file.len());
    let mut buffer = Vec::new();
    while let Some(range) = opening.want() {
        buffer.resize(usize::try_from(range.len().min(PIECE)).unwrap_or_default(), 0);
        file.read_exact_at(&mut buffer, range.start).map_err(about)?;
        opening.data(&buffer)?;
    }
    Ok((opening.finish()?, file))
}

/// Writes the file with another header to `out`, which gets its name when it is complete.
fn rewrite(
    input: &Path,
    out: &Path,
    header: &GgufHeader,
    new: Vec<u8>,
    permission: Permission,
) -> Result<()> {
    let about = |e: std::io::Error| io_error(&e, format!("cannot read {}", input.display()));
    let (again, file) = open(input)?;
    let changed = || {
        let message = format!("{} changed while it was read; nothing was written", input.display());
        Error::new(Code::Io, message)
    };
    if again != *header {
        return Err(changed());
    }
    let (start, data) = (new.len() as u64, header.len - header.data_at);
    let fingerprint: [u8; 32] = Sha256::digest(&new).into();
    let planned = OutFile { name: String::new(), len: start + data, header: new, copied: false };
    let plan = Plan { outputs: Vec::new(), files: vec![planned], conversion: None, warnings: Vec::new() };
    let intent = Intent { plan: &plan, permission, fingerprint: &fingerprint, budget: Budget::default() };
    let files = OutputFiles::begin(out, intent)?.files;
    let copied = (|| {
        let mut buffer = Vec::new();
        let mut at = 0;
        while at < data {
            let piece = PIECE.min(data - at);
            buffer.resize(piece as usize, 0);
            file.read_exact_at(&mut buffer, header.data_at + at).map_err(about)?;
            let region = Region { offset: start + at, run: piece, stride: piece, count: 1 };
            files.write(&Write { file: 0, region, part: None }, &buffer)?;
            at += piece;
        }
        let now = LocalFile::open(input).map_err(about)?;
        if now.identity() == file.identity() { Ok(()) } else { Err(changed()) }
    })();
    copied.inspect_err(|_| files.discard())?;
    files.commit()
}
