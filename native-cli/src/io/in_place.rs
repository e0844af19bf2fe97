//! Overwrites the first bytes of a file in place, so that no reader ever takes a half-written one.
//!
//! A change within one sector is one write, which a disk does whole or not at all. Any other change is guarded: the old bytes
//! are saved beside the file, then the first four bytes of the file (the magic of its format) are cleared, then the others are
//! written, and the magic comes last. A run that is killed in between leaves a file that every reader refuses, and the saved
//! bytes, which [`recover`] writes back. Knows no format.

use super::pread::{read_exact_at, write_all_at};
use super::scratch::{self, found, parent, sync_directory, taken, undo_beside};
use crate::exit::io_error;
use quantoscope_core::error::{Code, Error, Result};
use sha2::{Digest, Sha256};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::Path;

/// Bytes that a disk writes whole or not at all.
const SECTOR: usize = 512;
/// First bytes of saved bytes.
const MAGIC: &[u8; 8] = b"QSUNDO01";
/// Magic, inode number, length of the file, digest.
const HEADER: usize = 8 + 8 + 8 + 32;
/// Bytes at the start of a file by which readers know its format.
const GUARD: usize = 4;
/// Most saved bytes.
const MAX_SAVED: u64 = 256 << 20;

/// Replaces the first bytes `old` of the file at `path` by `new`, which has the same length.
///
/// # Errors
///
/// `usage` for links and other files that must not be changed in place, `io` if the file does not begin with `old` any more,
/// or cannot be written. The file has its old bytes then; if they could not be written back, the message says so, and
/// [`recover`] does it.
pub(crate) fn overwrite(path: &Path, old: &[u8], new: &[u8]) -> Result<()> {
    let about = |e: io::Error| io_error(&e, format!("cannot write {}", path.display()));
    if old.len() != new.len() {
        return Err(Error::new(Code::Io, "a change in place has the length of what it replaces"));
    }
    let file = open(path)?;
    let mut now = vec![0; old.len()];
    read_exact_at(&file, &mut now, 0).map_err(about)?;
    if now != old {
        let message = format!("{} changed while it was read; nothing was written", path.display());
        return Err(Error::new(Code::Io, message));
    }
    let differs = |(a, b): (&u8, &u8)| a != b;
    let Some(first) = old.iter().zip(new).position(differs) else { return Ok(()) };
    let last = old.iter().zip(new).rposition(differs).unwrap_or(first);
    let written = if first / SECTOR == last / SECTOR {
        let (at, bytes, before) = (first as u64, &new[first..=last], &old[first..=last]);
        let written = write_all_at(&file, bytes, at).and_then(|()| file.sync_data());
        written.inspect_err(|_| _ = write_all_at(&file, before, at).and_then(|()| file.sync_data()))
    } else {
        return guarded(path, &file, old, new);
    };
    written.map_err(about)
}

/// Writes back the bytes that an interrupted change saved; returns whether there were any.
///
/// # Errors
///
/// `partial_exists` if what is beside the file was not saved of it, `io` if it cannot be written back.
pub(crate) fn recover(path: &Path) -> Result<bool> {
    let undo = undo_beside(path);
    let about = |e: io::Error| io_error(&e, format!("cannot restore {}", path.display()));
    if found(&undo)?.is_none() {
        return Ok(false);
    }
    // Behind the lock: another run may have completed its change meanwhile.
    let file = open(path)?;
    let Some(meta) = found(&undo)? else { return Ok(false) };
    if let Some(why) = scratch::suspicious(&meta) {
        return Err(taken(&undo, why));
    }
    if meta.len() > MAX_SAVED + HEADER as u64 {
        return Err(taken(&undo, "was not made by this program"));
    }
    let saved = fs::read(&undo).map_err(about)?;
    if !saved.starts_with(MAGIC) && !MAGIC.starts_with(&saved) {
        return Err(taken(&undo, "was not made by this program"));
    }
    if let Some((number, len, bytes)) = parse(&saved) {
        let meta = file.metadata().map_err(about)?;
        if (scratch::number(&meta), meta.len()) != (number, len) {
            return Err(taken(&undo, "holds bytes of another file"));
        }
        restore(&file, bytes).map_err(about)?;
    }
    // An incomplete copy was left before anything was written to the file.
    fs::remove_file(&undo).map_err(about)?;
    sync_directory(parent(path))?;
    Ok(true)
}

/// The error of a file whose metadata was being changed by a run that was killed, or `error`.
pub(crate) fn interrupted(path: &Path, error: Error) -> Error {
    if error.code() != Code::BadMagic || !is_interrupted(path) {
        return error;
    }
    let message = format!(
        "a change of its metadata was interrupted; `quantoscope metadata get {}` restores the file",
        path.display()
    );
    Error::new(Code::BadMagic, message).in_file(&path.to_string_lossy())
}

/// Whether a change of the file at `path` was interrupted.
fn is_interrupted(path: &Path) -> bool {
    fs::read(undo_beside(path)).is_ok_and(|saved| parse(&saved).is_some())
}

/// Fails for links and files with a second name: the change would be one of another file too.
///
/// # Errors
///
/// `usage`, `not_found`.
pub(crate) fn check_plain(path: &Path) -> Result<()> {
    let missing = || Error::new(Code::NotFound, format!("there is no {}", path.display()));
    let meta = found(path)?.ok_or_else(missing)?;
    if let Some(why) = scratch::suspicious(&meta) {
        let message = format!("{} {why}, which is not changed; write another file with -o", path.display());
        return Err(Error::new(Code::Usage, message));
    }
    Ok(())
}

/// Opens a file that may be changed in place, and locks it.
fn open(path: &Path) -> Result<File> {
    let about = |e: io::Error| io_error(&e, format!("cannot write {}", path.display()));
    check_plain(path)?;
    let file = scratch::open(path, true).map_err(about)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            Err(Error::new(Code::Io, format!("{} is being changed by another run", path.display())))
        }
        // A file system without locks: then the user has to see to it.
        _ => Ok(file),
    }
}

/// Replaces `old` by `new` with the guard.
fn guarded(path: &Path, file: &File, old: &[u8], new: &[u8]) -> Result<()> {
    let about = |e: io::Error| io_error(&e, format!("cannot write {}", path.display()));
    let undo = undo_beside(path);
    save(&undo, file, old).inspect_err(|_| _ = fs::remove_file(&undo)).map_err(about)?;
    sync_directory(parent(path))?;
    let written = restore(file, new);
    if written.is_err()
        && let Err(e) = restore(file, old)
    {
        let message = format!(
            "{} is half-written; `quantoscope metadata get {}` writes its old bytes back",
            path.display(),
            path.display()
        );
        return Err(io_error(&e, message));
    }
    fs::remove_file(&undo).map_err(about)?;
    sync_directory(parent(path))?;
    written.map_err(about)
}

/// Saves the first bytes of a file.
fn save(undo: &Path, file: &File, bytes: &[u8]) -> io::Result<()> {
    let meta = file.metadata()?;
    let mut digest = Sha256::new();
    let (number, len) = (scratch::number(&meta).to_le_bytes(), meta.len().to_le_bytes());
    [&number[..], &len, bytes].iter().for_each(|part| digest.update(part));
    let mut saved = scratch::create(undo, 0o600)?;
    for part in [&MAGIC[..], &number, &len, digest.finalize().as_slice(), bytes] {
        saved.write_all(part)?;
    }
    saved.sync_all()
}

/// The number and length of the file that bytes were saved of, and the bytes; `None` if they are incomplete.
fn parse(saved: &[u8]) -> Option<(u64, u64, &[u8])> {
    let (header, bytes) = saved.split_at_checked(HEADER)?;
    let rest = header.strip_prefix(MAGIC)?;
    let (numbers, digest) = rest.split_at_checked(16)?;
    let mut hash = Sha256::new();
    hash.update(numbers);
    hash.update(bytes);
    let (number, len) = numbers.split_at_checked(8)?;
    let read = |bytes: &[u8]| Some(u64::from_le_bytes(bytes.try_into().ok()?));
    (hash.finalize().as_slice() == digest).then_some((read(number)?, read(len)?, bytes))
}

/// Writes the first bytes of a file, the guard last.
fn restore(file: &File, bytes: &[u8]) -> io::Result<()> {
    let (guard, rest) = bytes.split_at(GUARD.min(bytes.len()));
    write_all_at(file, &vec![0; guard.len()], 0)?;
    file.sync_data()?;
    write_all_at(file, rest, guard.len() as u64)?;
    file.sync_data()?;
    write_all_at(file, guard, 0)?;
    file.sync_data()
}
