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
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"QSIMAT01";
const HEADER: usize = 8 + 32 + 8;
const DIGEST: usize = 32;

/// A journal at a path.
pub struct ImatrixJournal<'a> {
    path: &'a Path,
    fingerprint: [u8; 32],
}

/// What an earlier run finished.
#[derive(Debug, Default)]
pub struct FinishedChunks {
    pub chunks: u64,
    pub sums: InputSums,
}

impl<'a> ImatrixJournal<'a> {
    /// The journal at `path` of a run with this fingerprint.
    pub fn new(path: &'a Path, fingerprint: [u8; 32]) -> ImatrixJournal<'a> {
        ImatrixJournal { path, fingerprint }
    }

    /// What an earlier run finished; nothing if there is no journal.
    ///
    /// # Errors
    ///
    /// `partial_exists` if the file is no such journal, damaged, or of another run.
    pub fn read(&self) -> Result<FinishedChunks> {
        let about = |e: &io::Error| io_error(e, format!("cannot read {}", self.path.display()));
        let Some(meta) = found(self.path)? else { return Ok(FinishedChunks::default()) };
        if let Some(why) = suspicious(&meta) {
            return Err(taken(self.path, why));
        }
        let bytes = fs::read(self.path).map_err(|e| about(&e))?;
        if !bytes.starts_with(MAGIC) {
            return Err(taken(self.path, "is not a journal of an importance matrix"));
        }
        let damaged = || taken(self.path, "is damaged");
        let (body, digest) =
            bytes.len().checked_sub(DIGEST).map(|at| bytes.split_at(at)).ok_or_else(damaged)?;
        let (header, sums) = body.split_at_checked(HEADER).ok_or_else(damaged)?;
        if Sha256::digest(body).as_slice() != digest {
            return Err(damaged());
        }
        if header.get(8..40) != Some(&self.fingerprint[..]) {
            return Err(taken(self.path, "is the journal of another run: other input, or other options"));
        }
        let chunks = header.last_chunk::<8>().map(|b| u64::from_le_bytes(*b)).ok_or_else(damaged)?;
        let sums = wire::decode(sums).map_err(|_| damaged())?;
        Ok(FinishedChunks { chunks, sums })
    }

    fn beside(&self) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        self.path.with_file_name(name)
    }

    /// Records that the first `chunks` chunks are finished.
    ///
    /// # Errors
    ///
    /// `io` if it cannot be written.
    pub fn write(&self, chunks: u64, sums: &InputSums) -> Result<()> {
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
    /// `io` if it cannot be removed.
    pub fn remove(&self) -> Result<()> {
        match fs::remove_file(self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(io_error(&e, format!("cannot remove {}", self.path.display())))
            }
            _ => Ok(()),
        }
    }
}
