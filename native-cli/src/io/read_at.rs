//! Bytes that are read at positions. Files are behind it today; other storage can be. Knows no format.

use super::identity::FileIdentity;
use super::pread;
use std::fs::File;
use std::io;
use std::path::Path;

/// Immutable content of a known length, read by any thread in any order.
pub(crate) trait ReadAt: Send + Sync {
    /// Length in bytes when it was opened.
    fn len(&self) -> u64;

    /// State when it was opened. It differs from the state of content that was modified or replaced since.
    fn identity(&self) -> FileIdentity;

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if the content ends before that.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

/// A file of the operating system.
pub(crate) struct LocalFile {
    file: File,
    len: u64,
    identity: FileIdentity,
}

impl LocalFile {
    /// Opens the file at `path`.
    pub(crate) fn open(path: &Path) -> io::Result<LocalFile> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        Ok(LocalFile { file, len: meta.len(), identity: FileIdentity::of(&meta) })
    }
}

impl ReadAt for LocalFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn identity(&self) -> FileIdentity {
        self.identity
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        pread::read_exact_at(&self.file, buffer, offset)
    }
}
