//! Files that are read without a turn of the event loop, which a worker may do: for values that the next step depends on.

use crate::driver::browser::words;
use js_sys::Uint8Array;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::job::Region;
use std::rc::Rc;
use web_sys::{File, FileReaderSync};

/// Picked files that are read at once, not in turns of the event loop.
pub struct SyncFiles {
    files: Rc<[File]>,
    reader: FileReaderSync,
}

impl SyncFiles {
    /// # Errors
    /// `io` where the browser does not read synchronously: outside a worker.
    pub fn new(files: Rc<[File]>) -> Result<SyncFiles> {
        let none = |_| Error::new(Code::Io, "the browser reads files synchronously in workers only");
        Ok(SyncFiles { files, reader: FileReaderSync::new().map_err(none)? })
    }

    /// Reads all runs of a region.
    ///
    /// # Errors
    /// `truncated` or `io` with file and offset.
    pub fn read(&self, file: u32, region: &Region, into: &mut Vec<u8>) -> Result<()> {
        let missing = || Error::new(Code::Usage, "the file of a window is not there");
        let file = self.files.get(file as usize).ok_or_else(missing)?;
        let too_large =
            |_| Error::new(Code::MemoryBudget, "a window of the work does not fit the memory of a page");
        into.resize(usize::try_from(region.len()).map_err(too_large)?, 0);
        let mut rest = into.as_mut_slice();
        for (at, len) in region.runs() {
            let (run, after) = rest.split_at_mut(rest.len().min(len as usize));
            self.read_run(file, at, run)?;
            rest = after;
        }
        Ok(())
    }

    fn read_run(&self, file: &File, at: u64, into: &mut [u8]) -> Result<()> {
        let end = at as f64 + into.len() as f64;
        let failed = |code, message: &str| Error::new(code, message).in_file(&file.name()).at(at);
        let slice = file.slice_with_f64_and_f64(at as f64, end);
        let bytes = slice.and_then(|slice| self.reader.read_as_array_buffer(&slice));
        let bytes = bytes
            .map_err(|e| failed(Code::Io, &format!("the browser cannot read the file: {}", words(&e))))?;
        let bytes = Uint8Array::new(&bytes);
        if bytes.length() as usize != into.len() {
            let message = "the file ends before its length: it was changed while it was read";
            return Err(failed(Code::Truncated, message));
        }
        bytes.copy_to(into);
        Ok(())
    }
}
