//! Opens a checkpoint from disk: answers what [`Opening`] asks for, and keeps the files for positional reads.

use crate::exit::world;
use crate::io::positional::read_exact_at;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::format::{Checkpoint, Opening, Root, Want};
use quantoscope_core::job::Region;
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Headers are read in pieces of at most this.
const HEADER_READ: u64 = 1 << 20;

/// An opened checkpoint.
pub struct Source {
    /// What the headers say.
    pub checkpoint: Checkpoint,
    /// The path that was given.
    pub path: PathBuf,
    /// The directory that names are relative to.
    dir: PathBuf,
    /// The checkpoint's files, in its order.
    files: Vec<File>,
}

impl Source {
    /// Opens the file or directory at `path`; only headers are read.
    pub fn open(path: &Path) -> Result<Source> {
        let about = |e: &std::io::Error| world(e, format!("cannot open {}", path.display()));
        let meta = fs::metadata(path).map_err(|e| about(&e))?;
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let (root, dir) = if meta.is_dir() {
            (Root::Dir, path.to_path_buf())
        } else if meta.is_file() {
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
            (Root::File(&name), parent.unwrap_or(Path::new(".")).to_path_buf())
        } else {
            return Err(Error::new(
                Code::Io,
                format!("{} is neither a file nor a directory", path.display()),
            ));
        };
        let mut opened = HashMap::new();
        let checkpoint = answer(Opening::new(root), &dir, &mut opened)?;
        let files = checkpoint.files.iter().map(|f| match opened.remove(&f.name) {
            Some(file) => Ok(file),
            None => File::open(dir.join(&f.name)).map_err(|e| world(&e, format!("cannot open {}", f.name))),
        });
        let files = files.collect::<Result<Vec<File>>>()?;
        Ok(Source { checkpoint, path: path.to_path_buf(), dir, files })
    }

    /// The paths of the checkpoint's files.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.checkpoint.files.iter().map(|f| self.dir.join(&f.name))
    }

    /// The directory that holds the files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Reads a region into `buffer`, run after run.
    pub fn read(&self, file: u32, region: &Region, buffer: &mut Vec<u8>) -> Result<()> {
        let name = || self.checkpoint.files.get(file as usize).map_or("?", |f| f.name.as_str());
        let too_large = || Error::new(Code::MemoryBudget, "a window does not fit this machine");
        // Only ever grown: what is left of an earlier window is overwritten.
        buffer.resize(usize::try_from(region.len()).map_err(|_| too_large())?, 0);
        let mut rest = buffer.as_mut_slice();
        for (offset, len) in region.runs() {
            let (run, tail) = rest.split_at_mut(len as usize);
            let handle = self.files.get(file as usize).ok_or_else(too_large)?;
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
        for (path, file) in self.paths().zip(&self.checkpoint.files) {
            let modified = fs::metadata(&path).and_then(|m| m.modified()).ok();
            let nanos = modified.and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map_or(0, |d| d.as_nanos());
            salt.extend_from_slice(file.name.as_bytes());
            salt.extend_from_slice(&file.len.to_le_bytes());
            salt.extend_from_slice(&file.header_sha256);
            salt.extend_from_slice(&nanos.to_le_bytes());
        }
        salt
    }
}

/// Feeds `opening` until it is ready.
fn answer(mut opening: Opening, dir: &Path, opened: &mut HashMap<String, File>) -> Result<Checkpoint> {
    let mut handles: Vec<File> = Vec::new();
    let mut buffer = Vec::new();
    loop {
        match opening.want() {
            Want::List => opening.listed(list(dir)?)?,
            Want::Open(name) => match open(&dir.join(&name))? {
                Some((file, len)) => {
                    let again = file.try_clone().map_err(|e| world(&e, format!("cannot open {name}")))?;
                    handles.push(again);
                    opened.insert(name, file);
                    opening.opened(Some(len))?;
                }
                None => opening.opened(None)?,
            },
            Want::Read { file, range } => {
                let n = range.len().min(HEADER_READ) as usize;
                buffer.resize(n, 0);
                let unknown = || Error::new(Code::Io, "a file was asked for before it was opened");
                let handle = handles.get(file as usize).ok_or_else(unknown)?;
                let got = read_exact_at(handle, &mut buffer, range.start);
                match got {
                    Ok(()) => opening.data(&buffer)?,
                    Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => opening.data(&[])?,
                    Err(e) => return Err(world(&e, "cannot read a header")),
                }
            }
            Want::Ready => return opening.finish(),
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

fn open(path: &Path) -> Result<Option<(File, u64)>> {
    let about = |e: &std::io::Error| world(e, format!("cannot open {}", path.display()));
    match File::open(path) {
        Ok(file) => {
            let meta = file.metadata().map_err(|e| about(&e))?;
            Ok(meta.is_file().then_some((file, meta.len())))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(about(&e)),
    }
}
