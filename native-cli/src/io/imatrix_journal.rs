//! The journal of an unfinished importance matrix: the sums of the chunks that are finished.
//!
//! `magic | fingerprint | chunks | sums | SHA-256 of all before`. It is written beside its name and renamed, so that it is
//! always that of a whole number of chunks.

use super::scratch::{self, found, suspicious, sync_directory, taken};
use crate::exit::io_error;
use quantoscope_core::error::Result;
use quantoscope_core::model::forward::InputSums;
use quantoscope_core::wire;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"QSIMAT01";
const HEADER: usize = 8 + 32 + 8;
const DIGEST: usize = 32;

/// A journal at a path.
pub(crate) struct ImatrixJournal<'a> {
    path: &'a Path,
    fingerprint: [u8; 32],
}

/// What an earlier run finished.
#[derive(Debug, Default)]
pub(crate) struct FinishedChunks {
    pub chunks: u64,
    pub sums: InputSums,
}

/// The name under which a journal is written before it is renamed.
pub(crate) fn written_beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

impl<'a> ImatrixJournal<'a> {
    /// The journal at `path` of a run with this fingerprint, and what an earlier run finished; nothing if there is no file.
    ///
    /// # Errors
    ///
    /// `partial_exists` if the file is no such journal, damaged, or of another run.
    pub(crate) fn open(
        path: &'a Path,
        fingerprint: [u8; 32],
    ) -> Result<(ImatrixJournal<'a>, FinishedChunks)> {
        let journal = ImatrixJournal { path, fingerprint };
        let done = journal.read()?;
        Ok((journal, done))
    }

    /// Opens the file behind magic and fingerprint; `None` if there is none. A file of something else is never read further,
    /// replaced, or removed.
    fn own(&self) -> Result<Option<fs::File>> {
        let about = |e: &io::Error| io_error(e, format!("cannot read {}", self.path.display()));
        let Some(meta) = found(self.path)? else { return Ok(None) };
        if let Some(why) = suspicious(&meta) {
            return Err(taken(self.path, why));
        }
        let mut file = fs::File::open(self.path).map_err(|e| about(&e))?;
        let mut start = Vec::new();
        (&mut file).take(MAGIC.len() as u64 + 32).read_to_end(&mut start).map_err(|e| about(&e))?;
        if !start.starts_with(MAGIC) {
            return Err(taken(self.path, "is not a journal of an importance matrix"));
        }
        if start.get(MAGIC.len()..) != Some(&self.fingerprint[..]) {
            return Err(taken(self.path, "is the journal of another run: other input, or other options"));
        }
        Ok(Some(file))
    }

    fn read(&self) -> Result<FinishedChunks> {
        let about = |e: &io::Error| io_error(e, format!("cannot read {}", self.path.display()));
        let Some(mut file) = self.own()? else { return Ok(FinishedChunks::default()) };
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.fingerprint);
        file.read_to_end(&mut bytes).map_err(|e| about(&e))?;
        let damaged = || taken(self.path, "is damaged");
        let (body, digest) =
            bytes.len().checked_sub(DIGEST).map(|at| bytes.split_at(at)).ok_or_else(damaged)?;
        let (header, sums) = body.split_at_checked(HEADER).ok_or_else(damaged)?;
        if Sha256::digest(body).as_slice() != digest {
            return Err(damaged());
        }
        let chunks = header.last_chunk::<8>().map(|b| u64::from_le_bytes(*b)).ok_or_else(damaged)?;
        let sums = wire::decode(sums).map_err(|_| damaged())?;
        Ok(FinishedChunks { chunks, sums })
    }

    fn beside(&self) -> PathBuf {
        written_beside(self.path)
    }

    /// Records that the first `chunks` chunks are finished.
    ///
    /// # Errors
    ///
    /// `io` if it cannot be written.
    pub(crate) fn write(&self, chunks: u64, sums: &InputSums) -> Result<()> {
        let about = |e: &io::Error| io_error(e, format!("cannot write {}", self.path.display()));
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.fingerprint);
        bytes.extend_from_slice(&chunks.to_le_bytes());
        bytes.extend_from_slice(&wire::encode(sums)?);
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        let beside = self.beside();
        if let Some(meta) = found(&beside)? {
            // One that a killed run left; anything else is not ours.
            let own = suspicious(&meta).is_none()
                && (meta.len() == 0
                    || fs::read(&beside).is_ok_and(|b| b.starts_with(&MAGIC[..b.len().min(8)])));
            if !own {
                return Err(taken(&beside, "is not of this program"));
            }
            fs::remove_file(&beside).map_err(|e| about(&e))?;
        }
        let mut file = scratch::create(&beside, 0o666).map_err(|e| about(&e))?;
        let written = file.write_all(&bytes).and_then(|()| file.sync_all());
        if let Err(taken) = self.own() {
            let _ = fs::remove_file(&beside);
            return Err(taken);
        }
        let renamed = written.and_then(|()| fs::rename(&beside, self.path));
        renamed.map_err(|e| {
            let _ = fs::remove_file(&beside);
            about(&e)
        })?;
        sync_directory(scratch::parent(self.path))
    }

    /// Removes the journal, if there is one.
    ///
    /// # Errors
    ///
    /// `io` if it cannot be removed; `partial_exists` if a file of something else has its name by now.
    pub(crate) fn remove(&self) -> Result<()> {
        if self.own()?.is_none() {
            return Ok(());
        }
        match fs::remove_file(self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(io_error(&e, format!("cannot remove {}", self.path.display())))
            }
            _ => Ok(()),
        }
    }
}
