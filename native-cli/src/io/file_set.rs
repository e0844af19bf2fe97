//! Names of a finished set of files that are no directory: the files of a split. Each is renamed, the first file last, because
//! readers open that one; until then nothing has its name, so a set that was named in part cannot be mistaken for a model.
//!
//! Old files of the same names are moved aside first. The journal records the names and inode numbers of the new files before
//! anything is renamed, so that the next run completes or reverts a run that was killed at any point.

use super::journal::Naming;
use super::naming::{OutputNames, rename_new, take_mode};
use super::scratch::{self, found, number, parent};
use super::target::is_empty;
use crate::exit::io_error;
use quantoscope_core::error::{Code, Error, Result};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A file of a set: its name, and its inode number.
pub(super) type SetMember = (String, u64);

impl OutputNames<'_> {
    fn final_path(&self, name: &str) -> PathBuf {
        parent(self.out).join(name)
    }

    /// Gives the partial files `names` their names. Existing files are replaced only if `force`.
    ///
    /// # Errors
    ///
    /// `exists` if a file appeared under one of the names; nothing has changed then, and the partial files are complete.
    pub(crate) fn give_set(&self, names: &[String], force: bool) -> Result<()> {
        let about = |e: io::Error| io_error(&e, format!("cannot name the files of {}", self.out.display()));
        let partial = &self.scratch.partial;
        let inode = |path: &Path| fs::symlink_metadata(path).map(|meta| number(&meta)).map_err(about);
        let members: Vec<SetMember> = names
            .iter()
            .map(|name| Ok((name.clone(), inode(&partial.join(name))?)))
            .collect::<Result<_>>()?;
        let mut old = Vec::new();
        for name in names {
            if let Some(meta) = found(&self.final_path(name))? {
                if !force || !meta.is_file() {
                    return Err(self.file_appeared(&self.final_path(name)));
                }
                take_mode(&partial.join(name), &meta).map_err(about)?;
                old.push(name);
            }
        }
        let aside = &self.scratch.replaced;
        let mut replaced = 0;
        if !old.is_empty() {
            if found(aside)?.is_none() {
                fs::create_dir(aside).map_err(about)?;
            }
            replaced = inode(aside)?;
        }
        let naming = Naming { made: inode(partial)?, replaced };
        self.claim.note_members(&members).and_then(|()| self.claim.note_naming(naming)).map_err(about)?;
        let moved = self.exchange_files(names, &old);
        if let Err(e) = moved {
            self.take_back_set(&members, naming)?;
            return Err(match e.kind() {
                io::ErrorKind::AlreadyExists => self.file_appeared(self.out),
                _ => about(e),
            });
        }
        self.finish_set(naming)
    }

    /// Moves the `old` files aside, the first one first, then the new ones to their names, the first one last.
    fn exchange_files(&self, names: &[String], old: &[&String]) -> io::Result<()> {
        for name in old {
            rename_new(&self.final_path(name), &self.scratch.replaced.join(name))?;
        }
        for name in names.iter().skip(1).chain(names.first()) {
            rename_new(&self.scratch.partial.join(name), &self.final_path(name))?;
        }
        Ok(())
    }

    fn file_appeared(&self, path: &Path) -> Error {
        let message = format!(
            "{} appeared while this run was writing; nothing was replaced; --resume --force replaces it",
            path.display()
        );
        Error::new(Code::Exists, message)
    }

    /// Whether every file of a set has its name.
    pub(crate) fn is_set_named(&self, members: &[SetMember]) -> Result<bool> {
        for (name, inode) in members {
            if found(&self.final_path(name))?.is_none_or(|meta| number(&meta) != *inode) {
                return Ok(false);
            }
        }
        Ok(!members.is_empty())
    }

    /// Reverts a set that was named in part: its files are partial ones again, and old files have their names.
    pub(crate) fn take_back_set(&self, members: &[SetMember], naming: Naming) -> Result<()> {
        let about = |e: io::Error| io_error(&e, format!("cannot name the files of {}", self.out.display()));
        let (partial, aside) = (&self.scratch.partial, &self.scratch.replaced);
        let is = |path: &Path, inode: u64| -> Result<bool> {
            Ok(found(path)?.is_some_and(|meta| number(&meta) == inode))
        };
        if is(partial, naming.made)? {
            for (name, inode) in members {
                let path = self.final_path(name);
                if is(&path, *inode)? {
                    rename_new(&path, &partial.join(name)).map_err(about)?;
                }
            }
        }
        if naming.replaced != 0 && is(aside, naming.replaced)? {
            for (name, _) in members.iter().skip(1).chain(members.first()) {
                let old = aside.join(name);
                if found(&old)?.is_some() {
                    rename_new(&old, &self.final_path(name)).map_err(about)?;
                }
            }
            if is_empty(aside)? {
                fs::remove_dir(aside).map_err(about)?;
            }
        }
        scratch::sync_directory(parent(self.out))
    }

    /// Cleans up after all files have their names: removes the old files, and the directory of the partial ones.
    pub(crate) fn finish_set(&self, naming: Naming) -> Result<()> {
        let complete = |e: Error| {
            let message =
                format!("the files of {} are complete, but {}", self.out.display(), e.detail().message);
            Error::new(e.code(), message)
        };
        scratch::sync_directory(parent(self.out)).map_err(complete)?;
        for (path, inode) in [(&self.scratch.replaced, naming.replaced), (&self.scratch.partial, naming.made)]
        {
            let Some(meta) = found(path).map_err(complete)? else { continue };
            let about = |e: io::Error| complete(io_error(&e, format!("cannot remove {}", path.display())));
            if meta.is_dir() && inode != 0 && number(&meta) == inode {
                fs::remove_dir_all(path).map_err(about)?;
            }
        }
        Ok(())
    }
}
