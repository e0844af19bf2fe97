//! The state of a measurement of divergences beside its journal, from which a stopped run goes on.
//!
//! The file is `JOURNAL.streams`. It is written as a whole under another name, synced, and renamed. A file that is not one of
//! these is never replaced.

use super::scratch::{found, taken};
use crate::exit::io_error;
use crate::render;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::sensitivity::variants::PassState;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The first bytes of the file; the last one is a version.
const MAGIC: &[u8; 8] = b"QSSTRM\x00\x01";
/// States are written at most this often: those of large models have hundreds of megabytes.
const EVERY: Duration = Duration::from_secs(2);

/// The state of a measurement in a file.
pub(crate) struct StreamJournal {
    path: PathBuf,
    digest: [u8; 32],
    state: Option<PassState>,
    saved: Option<Instant>,
}

/// A name with more at its end.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    name.into()
}

/// Opens a file of this program behind its magic; `None` if there is no file.
fn open(path: &Path) -> Result<Option<fs::File>> {
    let about = |e: io::Error| io_error(&e, format!("cannot read {}", path.display()));
    match found(path)? {
        None => return Ok(None),
        Some(meta) if !meta.is_file() => return Err(taken(path, "is no file of this program")),
        Some(_) => {}
    }
    let mut magic = Vec::new();
    let mut file = fs::File::open(path).map_err(about)?;
    (&mut file).take(MAGIC.len() as u64).read_to_end(&mut magic).map_err(about)?;
    if magic == MAGIC {
        return Ok(Some(file));
    }
    Err(taken(path, "is no file of this program, or one of another version"))
}

/// The bytes behind the magic; `None` if there is no file.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let Some(mut file) = open(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    let about = |e: io::Error| io_error(&e, format!("cannot read {}", path.display()));
    file.read_to_end(&mut bytes).map_err(about)?;
    Ok(Some(bytes))
}

impl StreamJournal {
    /// Opens the state beside the journal at `journal`, or begins one.
    ///
    /// # Errors
    ///
    /// `partial_exists` if there is a file of something else, or of a run of other input or options.
    pub(crate) fn open(journal: &Path, digest: &[u8; 32]) -> Result<StreamJournal> {
        let path = with_suffix(journal, ".streams");
        let state = match read(&path)? {
            None => None,
            Some(bytes) => {
                let other = || taken(&path, "is of another run: other input, or other options");
                let state = bytes.strip_prefix(digest).ok_or_else(other)?;
                PassState::from_bytes(state)
            }
        };
        if state.is_some() {
            render::note(&format!("{}: goes on after an earlier run", path.display()));
        }
        Ok(StreamJournal { path, digest: *digest, state, saved: None })
    }

    /// The state of an earlier run, once.
    pub(crate) fn take_state(&mut self) -> Option<PassState> {
        self.state.take()
    }

    /// Writes a state, unless one was written a moment ago.
    ///
    /// # Errors
    ///
    /// `io` and `no_space`; `partial_exists` if a file of something else has the name.
    pub(crate) fn save(&mut self, state: &PassState) -> Result<()> {
        if self.saved.is_some_and(|at| at.elapsed() < EVERY) && !state.is_complete() {
            return Ok(());
        }
        let partial = with_suffix(&self.path, ".new");
        let about = |e: io::Error| io_error(&e, format!("cannot write {}", partial.display()));
        if open(&partial)?.is_some() {
            fs::remove_file(&partial).map_err(about)?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).open(&partial).map_err(about)?;
        let bytes = state.to_bytes()?;
        [MAGIC.as_slice(), &self.digest, &bytes].iter().try_for_each(|b| file.write_all(b)).map_err(about)?;
        file.sync_all().map_err(about)?;
        open(&self.path)?;
        fs::rename(&partial, &self.path).map_err(about)?;
        self.saved = Some(Instant::now());
        Ok(())
    }

    /// Removes the file.
    ///
    /// # Errors
    ///
    /// `io`.
    pub(crate) fn remove(self) -> Result<()> {
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::new(Code::Io, format!("cannot remove {}: {e}", self.path.display())))
            }
            _ => Ok(()),
        }
    }
}
