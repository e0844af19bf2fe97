//! Names beside an output that exist only while it is written. Files under them are never opened through a
//! link, and never for writing before they are proven to be of a run of this program. Knows no plan.

use crate::exit::io_error;
use fs4::fs_std::FileExt;
use quantoscope_core::error::{Code, Error, Result};
use sha2::{Digest, Sha256};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Bytes of a file name that every common file system allows.
const NAME_MAX: usize = 255;
const PARTIAL: &str = ".partial";
const JOURNAL: &str = ".partial.journal";
const REPLACED: &str = ".partial.old";
const UNDO: &str = ".undo";

/// The names beside one output.
pub(crate) struct ScratchNames {
    /// The unfinished output.
    pub partial: PathBuf,
    /// The journal of the partial output, which is also its lock.
    pub journal: PathBuf,
    /// The replaced directory, on file systems that cannot exchange two names in one step.
    pub replaced: PathBuf,
}

impl ScratchNames {
    /// The names beside `out`. They hold a shortened name of `out` if they would be too long for the file
    /// system.
    pub(crate) fn beside(out: &Path) -> ScratchNames {
        let name = out.file_name().unwrap_or_default();
        let stem = stem(name, longest_name(parent(out)).saturating_sub(JOURNAL.len()));
        let beside = |suffix: &str| {
            let mut name = stem.clone();
            name.push(suffix);
            out.with_file_name(name)
        };
        ScratchNames { partial: beside(PARTIAL), journal: beside(JOURNAL), replaced: beside(REPLACED) }
    }

    /// All of them.
    pub(crate) fn all(&self) -> [&Path; 3] {
        [&self.partial, &self.journal, &self.replaced]
    }
}

/// The name of the saved bytes of a file that is changed in place.
pub(crate) fn undo_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    let mut undo = stem(name, longest_name(parent(path)).saturating_sub(UNDO.len()));
    undo.push(UNDO);
    path.with_file_name(undo)
}

/// The directory that holds `path`.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `name`, or if it is longer than `limit` bytes, its beginning and a digest of the whole.
fn stem(name: &OsStr, limit: usize) -> OsString {
    if name.len() <= limit {
        return name.to_owned();
    }
    let digest = Sha256::digest(name.as_encoded_bytes());
    let digest: String = digest.iter().take(8).map(|b| format!("{b:02x}")).collect();
    let text = name.to_string_lossy();
    let mut end = limit.saturating_sub(digest.len() + 1).min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}~{digest}", text.get(..end).unwrap_or_default()).into()
}

#[cfg(unix)]
fn longest_name(dir: &Path) -> usize {
    match rustix::fs::statvfs(dir) {
        Ok(stat) if stat.f_namemax > 0 => NAME_MAX.min(stat.f_namemax as usize),
        _ => NAME_MAX,
    }
}

#[cfg(not(unix))]
fn longest_name(_: &Path) -> usize {
    NAME_MAX
}

/// The error for a scratch name that is taken by a foreign file.
pub(crate) fn taken(path: &Path, why: &str) -> Error {
    let message = format!("{} {why}; move it away, or choose another name", path.display());
    Error::new(Code::PartialExists, message)
}

/// The metadata of a path, links not followed; `None` if there is nothing.
pub(crate) fn found(path: &Path) -> Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io_error(&e, format!("cannot read the metadata of {}", path.display()))),
    }
}

/// The reason why a file cannot be one that a run of this program created: it is no regular file, or has a
/// second name.
pub(crate) fn suspicious(meta: &Metadata) -> Option<&'static str> {
    match () {
        () if meta.is_symlink() => Some("is a link"),
        () if meta.is_dir() => Some("is a directory"),
        () if !meta.is_file() => Some("is not a regular file"),
        () if links(meta) > 1 => Some("has another name (a hard link)"),
        () => None,
    }
}

/// The inode of a file or directory: unique in its file system, and stable over mounts and restarts.
#[cfg(unix)]
pub(crate) fn number(meta: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(meta)
}

/// The time of creation, because the standard library does not expose the file index.
#[cfg(windows)]
pub fn number(meta: &Metadata) -> u64 {
    std::os::windows::fs::MetadataExt::creation_time(meta)
}

#[cfg(unix)]
fn links(meta: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(meta)
}

#[cfg(not(unix))]
fn links(_: &Metadata) -> u64 {
    1
}

/// Creates a new file, readable and writable, with the permission bits `mode` minus the umask.
pub(crate) fn create(path: &Path, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    options.open(path)
}

/// Opens an existing file; never follows a link, never blocks.
pub(crate) fn open(path: &Path, write: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(write);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags.bits() as i32);
    }
    options.open(path)
}

/// Syncs a directory. Systems that do not support this are ignored.
#[cfg(unix)]
pub(crate) fn sync_directory(dir: &Path) -> Result<()> {
    use rustix::io::Errno;
    let about = |e: &io::Error| io_error(e, format!("cannot bring {} to the disk", dir.display()));
    let unsupported = [Errno::INVAL, Errno::NOTSUP, Errno::NOSYS].map(|e| Some(e.raw_os_error()));
    match File::open(dir).map_err(|e| about(&e))?.sync_all() {
        Err(e) if !unsupported.contains(&e.raw_os_error()) => Err(about(&e)),
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
pub fn sync_directory(_: &Path) -> Result<()> {
    Ok(())
}

/// The permission bits of a replaced file: the new file has them from its creation on.
#[cfg(unix)]
pub(crate) fn mode(old: &Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::mode(old) & 0o777
}

#[cfg(not(unix))]
pub fn mode(_: &Metadata) -> u32 {
    0o777
}

/// Creates a directory with the permission bits `mode` minus the umask.
pub(crate) fn create_directory(path: &Path, mode: u32) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::DirBuilderExt::mode(&mut fs::DirBuilder::new(), mode).create(path);
    #[cfg(not(unix))]
    {
        let _ = mode;
        fs::create_dir(path)
    }
}

/// Reserves disk space, if the file system supports it, so that later writes cannot run out of it.
pub(crate) fn reserve(file: &File, len: u64) -> io::Result<()> {
    let refused = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::FileTooLarge];
    match FileExt::allocate(file, len) {
        Err(e) if refused.contains(&e.kind()) => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(path: &Path) -> &str {
        path.file_name().and_then(OsStr::to_str).expect("a name")
    }

    #[test]
    fn names_stay_within_the_limit_and_apart() {
        let mut seen = std::collections::BTreeSet::new();
        for len in 1..=255_usize {
            for letter in ["o", "\u{e9}", "\u{1f600}"] {
                let out = PathBuf::from(letter.repeat(len.div_ceil(letter.len())));
                if name(&out).len() > 255 {
                    continue;
                }
                let scratch = ScratchNames::beside(&out);
                for path in scratch.all() {
                    assert!(name(path).len() <= 255, "{}", name(path).len());
                }
                seen.insert(scratch.partial);
            }
        }
        // Lengths round up to whole letters, so that some names are made several times.
        assert_eq!(seen.len(), 255 + 127 + 63);
    }

    #[test]
    fn short_names_are_kept() {
        let scratch = ScratchNames::beside(Path::new("dir/x.gguf"));
        assert_eq!(scratch.journal, Path::new("dir/x.gguf.partial.journal"));
        assert_eq!(scratch.partial, Path::new("dir/x.gguf.partial"));
    }
}
