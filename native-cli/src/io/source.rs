//! Opens a checkpoint from disk: answers what [`Opening`] asks for, and keeps the files for positional reads.

use crate::exit::world;
use crate::io::positional::read_exact_at;
use crate::io::weights::Weights;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::format::imatrix::Imatrix;
use quantoscope_core::format::{Checkpoint, Companion, Opening, Root, Want};
use quantoscope_core::job::Region;
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Headers are read in pieces of at most this.
const HEADER_READ: u64 = 1 << 20;
/// Files that are held open. A lattice directory has hundreds, and systems allow few: the rest are opened for each read.
const HELD_OPEN: usize = 100;

/// A tokenizer is tens of megabytes.
const COMPANION: u64 = 1 << 28;

/// An opened checkpoint.
pub struct Source {
    /// What the headers say.
    pub checkpoint: Checkpoint,
    /// The path that was given.
    pub path: PathBuf,
    place: Place,
    /// The checkpoint's files, in its order, as far as they are held open.
    files: Vec<Option<File>>,
    /// The importance matrix to quantize it with.
    weights: Option<Weights>,
}

/// Where a checkpoint's names lead.
struct Place {
    /// The directory that names are relative to.
    dir: PathBuf,
    /// The file that was named, by the name it goes by here: its own need not be Unicode.
    root: Option<(String, PathBuf)>,
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        match &self.root {
            Some((root, path)) if root == name => path.clone(),
            _ => self.dir.join(name),
        }
    }
}

impl Source {
    /// Opens the file or directory at `path`; only headers are read.
    pub fn open(path: &Path) -> Result<Source> {
        let about = |e: &std::io::Error| world(e, format!("cannot open {}", path.display()));
        let meta = fs::metadata(path).map_err(|e| about(&e))?;
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let (root, place) = if meta.is_dir() {
            (Root::Dir, Place { dir: path.to_path_buf(), root: None })
        } else if meta.is_file() {
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
            let dir = parent.unwrap_or(Path::new(".")).to_path_buf();
            (Root::File(&name), Place { dir, root: Some((name.clone(), path.to_path_buf())) })
        } else {
            return Err(Error::new(
                Code::Io,
                format!("{} is neither a file nor a directory", path.display()),
            ));
        };
        let mut opened = HashMap::new();
        let checkpoint = answer(Opening::new(root), &place, &mut opened)?;
        let files = checkpoint.files.iter().map(|f| opened.remove(&f.name)).collect();
        Ok(Source { checkpoint, path: path.to_path_buf(), place, files, weights: None })
    }

    /// The same with the importance matrix at `path`, if one was named.
    pub fn weighted(self, path: Option<&Path>) -> Result<Source> {
        Ok(Source { weights: path.map(Weights::open).transpose()?, ..self })
    }

    /// The importance matrix.
    pub fn imatrix(&self) -> Option<&Imatrix> {
        self.weights.as_ref().map(|w| &w.imatrix)
    }

    /// The paths of the checkpoint's files.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.checkpoint.files.iter().map(|f| self.place.path(&f.name))
    }

    /// Every file that is read or goes with the model: the weights, their index, the configuration, the tokenizer, the
    /// importance matrix.
    pub fn all_paths(&self) -> impl Iterator<Item = PathBuf> {
        let config = self.checkpoint.config.iter().map(|_| self.place.dir.join("config.json"));
        let beside = self.checkpoint.companions.iter().map(|c| self.place.dir.join(&c.name));
        self.paths().chain(config).chain(beside).chain(self.weights.iter().map(|w| w.path.clone()))
    }

    /// The tokenizer and the like, by name.
    pub fn read_companions(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let read = |c: &Companion| {
            if c.len > COMPANION {
                let message = format!("{} is larger than anything that goes with a model", c.name);
                return Err(Error::new(Code::TooMany, message));
            }
            let bytes = fs::read(self.place.dir.join(&c.name));
            Ok((c.name.clone(), bytes.map_err(|e| world(&e, format!("cannot read {}", c.name)))?))
        };
        self.checkpoint.companions.iter().map(read).collect()
    }

    /// The directory that holds the files.
    pub fn dir(&self) -> &Path {
        &self.place.dir
    }

    /// The handle of a file: the one that is held, or a fresh one.
    fn handle<'a>(&'a self, file: u32, name: &str, fresh: &'a mut Option<File>) -> Result<&'a File> {
        match self.files.get(file as usize) {
            Some(Some(held)) => Ok(held),
            _ => {
                let about = |e: std::io::Error| world(&e, format!("cannot open {name}"));
                Ok(fresh.insert(File::open(self.place.path(name)).map_err(about)?))
            }
        }
    }

    /// Reads a region of the importance matrix into `buffer`.
    pub fn read_weights(&self, region: &Region, buffer: &mut Vec<u8>) -> Result<()> {
        let missing = || Error::new(Code::Io, "a job reads an importance matrix that was not opened");
        self.weights.as_ref().ok_or_else(missing)?.read(region, buffer)
    }

    /// Reads a region into `buffer`, run after run.
    pub fn read(&self, file: u32, region: &Region, buffer: &mut Vec<u8>) -> Result<()> {
        let name = || self.checkpoint.files.get(file as usize).map_or("?", |f| f.name.as_str());
        let too_large = || Error::new(Code::MemoryBudget, "a window does not fit this machine");
        // Only ever grown: what is left of an earlier window is overwritten.
        buffer.resize(usize::try_from(region.len()).map_err(|_| too_large())?, 0);
        let mut rest = buffer.as_mut_slice();
        let mut fresh = None;
        let handle = self.handle(file, name(), &mut fresh)?;
        for (offset, len) in region.runs() {
            let (run, tail) = rest.split_at_mut(len as usize);
            read_exact_at(handle, run, offset).map_err(|e| match e.kind() {
                std::io::ErrorKind::UnexpectedEof => {
                    Error::new(Code::Truncated, "the file became shorter while it was read")
                        .in_file(name())
                        .at(offset)
                }
                _ => world(&e, format!("cannot read {}", name())),
            })?;
            rest = tail;
        }
        Ok(())
    }

    /// What tells this source from another with the same headers: lengths and modification times.
    pub fn salt(&self) -> Vec<u8> {
        let mut salt = Vec::new();
        let modified = |path: &Path| {
            let modified = fs::metadata(path).and_then(|m| m.modified()).ok();
            modified.and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map_or(0, |d| d.as_nanos())
        };
        for (path, file) in self.paths().zip(&self.checkpoint.files) {
            salt.extend_from_slice(file.name.as_bytes());
            salt.extend_from_slice(&file.len.to_le_bytes());
            salt.extend_from_slice(&file.header_sha256);
            salt.extend_from_slice(&modified(&path).to_le_bytes());
        }
        if let Some(weights) = &self.weights {
            salt.extend_from_slice(&weights.imatrix.sha256);
            salt.extend_from_slice(&modified(&weights.path).to_le_bytes());
        }
        salt
    }
}

/// Feeds `opening` until it is ready.
fn answer(mut opening: Opening, place: &Place, held: &mut HashMap<String, File>) -> Result<Checkpoint> {
    // Only the file that was opened last is read.
    let mut last: Option<(String, File)> = None;
    let mut buffer = Vec::new();
    loop {
        match opening.want() {
            Want::List => opening.listed(list(&place.dir)?)?,
            Want::Open(name) => {
                held.extend(last.take().filter(|_| held.len() < HELD_OPEN));
                let found = open(&place.path(&name))?;
                let len = found.as_ref().map(|(_, len)| *len);
                last = found.map(|(file, _)| (name, file));
                opening.opened(len)?;
            }
            Want::Read { range, .. } => {
                let n = range.len().min(HEADER_READ) as usize;
                buffer.resize(n, 0);
                let unknown = || Error::new(Code::Io, "a file was asked for before it was opened");
                let (_, file) = last.as_ref().ok_or_else(unknown)?;
                match read_exact_at(file, &mut buffer, range.start) {
                    Ok(()) => opening.data(&buffer)?,
                    Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => opening.data(&[])?,
                    Err(e) => return Err(world(&e, "cannot read a header")),
                }
            }
            Want::Ready => {
                held.extend(last);
                return opening.finish();
            }
        }
    }
}

/// The plain files of a directory, with their lengths.
fn list(dir: &Path) -> Result<Vec<(String, u64)>> {
    let about = |e: std::io::Error| world(&e, format!("cannot list {}", dir.display()));
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(about)? {
        let entry = entry.map_err(about)?;
        // Links are followed: the Hugging Face cache is made of them. One that leads nowhere is no file.
        if let (Ok(meta), Ok(name)) = (fs::metadata(entry.path()), entry.file_name().into_string())
            && meta.is_file()
        {
            names.push((name, meta.len()));
        }
    }
    Ok(names)
}

/// A plain file and its length. Anything else is as good as absent: opening a pipe would wait for its other end.
fn open(path: &Path) -> Result<Option<(File, u64)>> {
    let about = |e: std::io::Error| world(&e, format!("cannot open {}", path.display()));
    let plain = match fs::metadata(path) {
        Ok(meta) => meta.is_file(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
        Err(e) => return Err(about(e)),
    };
    if !plain {
        return Ok(None);
    }
    let file = File::open(path).map_err(about)?;
    let len = file.metadata().map_err(about)?.len();
    Ok(Some((file, len)))
}
