//! Renames a finished output to its final name in one step, and never over something that must not be
//! replaced.

use super::journal::{Lock, Naming};
use super::scratch::{self, ScratchNames, found, number, parent};
use super::target::{Replaced, is_empty};
use crate::exit::io_error;
use quantoscope_core::error::{Code, Error, Result};
use std::fs::{self, Metadata};
use std::io;
use std::path::Path;

/// A locked output and its scratch names.
pub(crate) struct OutputNames<'a> {
    pub out: &'a Path,
    pub scratch: &'a ScratchNames,
    pub claim: &'a Lock,
    /// How an earlier run was about to name the output.
    pub before: Option<Naming>,
}

impl OutputNames<'_> {
    /// Renames the partial output. An existing output is replaced only if `force`; a directory may replace an
    /// empty one.
    ///
    /// # Errors
    ///
    /// `exists` if something appeared under the name while the run was writing. On errors either the partial
    /// output is still complete, or the message says that the output has its name.
    pub(crate) fn give(&self, files: &[String], directory: bool, force: bool) -> Result<()> {
        let about = |e: io::Error| io_error(&e, format!("cannot name {}", self.out.display()));
        let partial = &self.scratch.partial;
        let made = number(&fs::symlink_metadata(partial).map_err(about)?);
        let old = found(self.out)?;
        let empty = match &old {
            Some(meta) if directory && meta.is_dir() => is_empty(self.out)?,
            _ => false,
        };
        let replaced = match &old {
            Some(meta) if directory && !empty => number(meta),
            _ => self.put_aside()?,
        };
        match &old {
            None => {}
            Some(meta) if empty => take_mode(partial, meta).map_err(about)?,
            Some(meta) => {
                self.check_replaced(meta, files, directory, force)?;
                take_modes(partial, self.out, meta, files).map_err(about)?;
            }
        }
        let naming = Naming { made, replaced };
        self.claim.note_naming(naming).map_err(about)?;
        match &old {
            None => rename_new(partial, self.out),
            Some(_) if empty => rename_over_empty(partial, self.out),
            Some(_) if directory => self.exchange(),
            Some(_) => fs::rename(partial, self.out),
        }
        .map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => self.appeared(),
            _ => about(e),
        })?;
        self.finish(naming, false)
    }

    /// The inode of the directory that an earlier run moved aside before it was killed, or 0.
    fn put_aside(&self) -> Result<u64> {
        let aside = found(&self.scratch.replaced)?.filter(Metadata::is_dir).map_or(0, |m| number(&m));
        Ok(if self.before.is_some_and(|n| n.replaced == aside) { aside } else { 0 })
    }

    fn appeared(&self) -> Error {
        let message = format!(
            "{} appeared while this run was writing; nothing was replaced; --resume --force replaces it",
            self.out.display()
        );
        Error::new(Code::Exists, message)
    }

    /// Repeats the checks of the start, which may be hours ago.
    fn check_replaced(&self, old: &Metadata, files: &[String], directory: bool, force: bool) -> Result<()> {
        if !force {
            return Err(self.appeared());
        }
        if directory != old.is_dir() || !(old.is_dir() || old.is_file()) {
            let message = format!("{} became something else while this run was writing", self.out.display());
            return Err(Error::new(Code::Exists, message));
        }
        if directory {
            let message = || {
                format!(
                    "{} does not hold a model that this program wrote; nothing was replaced",
                    self.out.display()
                )
            };
            let replaced = Replaced::open(self.out)?.ok_or_else(|| Error::new(Code::Exists, message()))?;
            replaced.check_names(self.out, files)?;
        }
        Ok(())
    }

    /// Exchanges two directories in one step, or in two steps that can be undone if the file system has no
    /// exchange.
    fn exchange(&self) -> io::Result<()> {
        match exchange(&self.scratch.partial, self.out) {
            Err(e) if is_unsupported(&e) => {}
            done => return done,
        }
        rename_new(self.out, &self.scratch.replaced)?;
        rename_new(&self.scratch.partial, self.out).inspect_err(|_| {
            let _ = rename_new(&self.scratch.replaced, self.out);
        })
    }

    /// Whether the output of `naming` has its final name.
    pub(crate) fn is_named(&self, naming: Naming) -> Result<bool> {
        Ok(found(self.out)?.is_some_and(|meta| number(&meta) == naming.made))
    }

    /// Restores the name of the replaced directory, if a run was killed between the two steps.
    pub(crate) fn take_back(&self, naming: Naming) -> Result<()> {
        let aside = &self.scratch.replaced;
        let ours = found(aside)?.is_some_and(|m| m.is_dir() && number(&m) == naming.replaced);
        if ours && found(self.out)?.is_none() {
            let about = |e: io::Error| io_error(&e, format!("cannot name {}", self.out.display()));
            rename_new(aside, self.out).map_err(about)?;
        }
        Ok(())
    }

    /// Cleans up after the rename: removes the replaced directory, or a second name of the output. Files in
    /// that directory that were not of its model move into the new one. The journal stays.
    pub(crate) fn finish(&self, naming: Naming, cleared: bool) -> Result<()> {
        let complete = |e: Error| {
            let message = format!("{} is complete, but {}", self.out.display(), e.detail().message);
            Error::new(e.code(), message)
        };
        scratch::sync_directory(parent(self.out)).map_err(complete)?;
        for left in [&self.scratch.partial, &self.scratch.replaced] {
            let Some(meta) = found(left).map_err(complete)? else { continue };
            let about = |e: io::Error| complete(io_error(&e, format!("cannot remove {}", left.display())));
            if meta.is_dir() && naming.replaced != 0 && number(&meta) == naming.replaced {
                if !cleared {
                    self.keep_foreign(left).map_err(complete)?;
                    self.claim.note_cleared().map_err(about)?;
                }
                fs::remove_dir_all(left).map_err(about)?;
            } else if meta.is_file() && number(&meta) == naming.made {
                fs::remove_file(left).map_err(about)?;
            }
        }
        Ok(())
    }

    fn keep_foreign(&self, old: &Path) -> Result<()> {
        let Some(replaced) = Replaced::open(old)? else {
            let message = format!("{} holds a model that cannot be recognised", old.display());
            return Err(Error::new(Code::Exists, message));
        };
        for name in replaced.foreign {
            let about = |e: io::Error| io_error(&e, format!("cannot move {}", old.join(&name).display()));
            rename_new(&old.join(&name), &self.out.join(&name)).map_err(about)?;
        }
        scratch::sync_directory(self.out)
    }

    /// Removes the journal, the last step.
    pub(crate) fn release(&self) -> Result<()> {
        let journal = &self.scratch.journal;
        fs::remove_file(journal).map_err(|e| {
            let message = format!("{} is complete; cannot remove {}", self.out.display(), journal.display());
            io_error(&e, message)
        })
    }
}

/// Removes what a run left that was killed right after `out` got its name.
///
/// # Errors
///
/// `io`, or `partial_exists` if what has the name of the journal is not one.
pub(crate) fn settle(out: &Path) -> Result<()> {
    let scratch = ScratchNames::beside(out);
    if found(&scratch.journal)?.is_none() {
        return Ok(());
    }
    let Some(claim) = Lock::take(&scratch.journal)? else { return Ok(()) };
    let about = |e: io::Error| io_error(&e, format!("cannot read {}", scratch.journal.display()));
    let naming = claim.read().map_err(about)?.and_then(|earlier| earlier.naming);
    let names = OutputNames { out, scratch: &scratch, claim: &claim, before: naming };
    match naming {
        Some(naming) if names.is_named(naming)? => {
            names.finish(naming, false)?;
            names.release()
        }
        _ => Ok(()),
    }
}

/// Copies the permission bits of the replaced file, and its owner if that is permitted.
#[cfg(unix)]
pub(crate) fn take_mode(to: &Path, old: &Metadata) -> io::Result<()> {
    use rustix::io::Errno;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let now = fs::symlink_metadata(to)?;
    if (now.uid(), now.gid()) != (old.uid(), old.gid()) {
        // Only root may change the owner.
        match chown(to, Some(old.uid()), Some(old.gid())) {
            Err(e)
                if ![Errno::PERM, Errno::INVAL]
                    .map(|c| Some(c.raw_os_error()))
                    .contains(&e.raw_os_error()) =>
            {
                return Err(e);
            }
            _ => {}
        }
    }
    fs::set_permissions(to, fs::Permissions::from_mode(old.mode() & 0o777))
}

#[cfg(not(unix))]
pub fn take_mode(_: &Path, _: &Metadata) -> io::Result<()> {
    Ok(())
}

/// Does the same for a directory, and for its files that exist in the old directory too.
fn take_modes(partial: &Path, out: &Path, old: &Metadata, files: &[String]) -> io::Result<()> {
    if old.is_dir() {
        for name in files {
            match fs::symlink_metadata(out.join(name)) {
                Ok(meta) if meta.is_file() => take_mode(&partial.join(name), &meta)?,
                _ => {}
            }
        }
    }
    take_mode(partial, old)
}

/// Renames a directory over an empty one.
fn rename_over_empty(from: &Path, to: &Path) -> io::Result<()> {
    // Elsewhere a rename does not replace a directory, not even an empty one.
    if cfg!(not(unix)) {
        fs::remove_dir(to)?;
    }
    fs::rename(from, to)
}

/// Renames, and fails with `AlreadyExists` if the new name is taken.
pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match rename_at_once(from, to) {
        Err(e) if is_unsupported(&e) => {}
        done => return done,
    }
    if fs::symlink_metadata(from)?.is_dir() {
        // Creating a directory is exclusive, and a rename replaces an empty one.
        fs::create_dir(to)?;
        return rename_over_empty(from, to).inspect_err(|_| {
            let _ = fs::remove_dir(to);
        });
    }
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(e),
        // Without an exclusive rename and hard links, checking first is the best there is.
        Err(_) if fs::symlink_metadata(to).is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(from, to),
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn rename_at_once(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn rename_at_once(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether the file system or the operating system does not support the call.
#[cfg(unix)]
fn is_unsupported(e: &io::Error) -> bool {
    use rustix::io::Errno;
    let codes = [Errno::INVAL, Errno::NOSYS, Errno::NOTSUP, Errno::OPNOTSUPP];
    codes.map(|c| Some(c.raw_os_error())).contains(&e.raw_os_error())
        || e.kind() == io::ErrorKind::Unsupported
}

#[cfg(not(unix))]
fn is_unsupported(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::Unsupported
}
