//! The file of an importance matrix: checked in one pass, then read where importance is needed.

use crate::exit::io_error;
use crate::io::identity::FileIdentity;
use crate::io::read_at::{LocalFile, ReadAt};
use crate::io::source::resize;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::format::imatrix::{Imatrix, ImatrixOpening};
use quantoscope_core::job::Region;
use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of a read of the first pass.
const PIECE: u64 = 1 << 20;

/// An importance matrix on disk.
pub(crate) struct ImatrixFile {
    pub imatrix: Imatrix,
    pub path: PathBuf,
    file: LocalFile,
}

impl ImatrixFile {
    /// Reads and checks the file at `path`.
    pub(crate) fn open(path: &Path) -> Result<ImatrixFile> {
        let about = |e: &std::io::Error| io_error(e, format!("cannot open {}", path.display()));
        let meta = fs::metadata(path).map_err(|e| about(&e))?;
        if !meta.is_file() {
            return Err(Error::new(Code::Io, format!("{} is no file", path.display())));
        }
        let file = LocalFile::open(path).map_err(|e| about(&e))?;
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let mut opening = ImatrixOpening::new(&name, file.len());
        let mut buffer = Vec::new();
        while let Some(range) = opening.want() {
            buffer.resize(range.len().min(PIECE) as usize, 0);
            match file.read_exact_at(&mut buffer, range.start) {
                Ok(()) => opening.data(&buffer)?,
                Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => opening.data(&[])?,
                Err(e) => return Err(io_error(&e, format!("cannot read {}", path.display()))),
            }
        }
        Ok(ImatrixFile { imatrix: opening.finish()?, path: path.to_path_buf(), file })
    }

    /// The identity of the file when it was opened.
    pub(crate) fn identity(&self) -> FileIdentity {
        self.file.identity()
    }

    /// Reads a region into `buffer`.
    pub(crate) fn read(&self, region: &Region, buffer: &mut Vec<u8>) -> Result<()> {
        resize(buffer, region.len())?;
        let mut rest = buffer.as_mut_slice();
        for (offset, len) in region.runs() {
            let (run, tail) = rest.split_at_mut(len as usize);
            self.file
                .read_exact_at(run, offset)
                .map_err(|e| io_error(&e, format!("cannot read {}", self.path.display())))?;
            rest = tail;
        }
        Ok(())
    }
}
