//! Whether files beside an output are of an earlier run, and may be replaced or continued.

use super::OutputFiles;
use crate::exit::io_error;
use crate::io::journal::{Lock, PreviousRun};
use crate::io::scratch::{self, ScratchNames, found, number, taken};
use crate::io::target::{OutputForm, Permission, is_empty};
use quantoscope_core::error::{Code, Error, Result};
use std::fs::Metadata;
use std::io;
use std::path::Path;

/// Fails where [`OutputFiles::begin`] would because of files beside the output, before any work. Changes no file.
///
/// # Errors
///
/// `partial_exists`.
pub(crate) fn check_scratch(out: &Path, permission: Permission) -> Result<()> {
    let scratch = ScratchNames::beside(out);
    let Some(claim) = Lock::take(&scratch.journal)? else { return Err(written_by_another(out)) };
    let files = OutputFiles::new(out, OutputForm::File, permission, Vec::new(), claim);
    let checked = files.check_earlier(permission);
    files.release();
    checked
}

pub(super) fn written_by_another(out: &Path) -> Error {
    let message = format!("{} is being written by another run", out.display());
    Error::new(Code::PartialExists, message)
}

impl OutputFiles {
    /// Refuses a partial output without the permission to go on with it or to replace it.
    pub(super) fn check_permission(
        &self,
        proven: bool,
        Permission { force, resume }: Permission,
    ) -> Result<()> {
        let path = &self.scratch.partial;
        if resume || force {
            return Ok(());
        }
        if !proven {
            return Err(taken(path, "was not made by this program"));
        }
        let message = format!(
            "{} is left from an interrupted run; --resume goes on with it, --force starts again",
            path.display()
        );
        Err(Error::new(Code::PartialExists, message))
    }

    /// The refusals of [`OutputFiles::earlier`] for a single file that is written without `--resume`.
    fn check_earlier(&self, permission: Permission) -> Result<()> {
        let about = |e: io::Error| io_error(&e, format!("cannot read {}", self.scratch.journal.display()));
        let earlier = self.claim.read().map_err(about)?;
        let Some(partial) = found(&self.scratch.partial)? else { return Ok(()) };
        if earlier.as_ref().is_some_and(|e| e.naming.is_some()) {
            // The earlier run was about to give the output its name: `begin` finishes that.
            return Ok(());
        }
        let proven = self.is_ours(&partial, earlier.as_ref())?;
        self.check_permission(proven, permission)?;
        if proven || permission.resume {
            return Ok(());
        }
        Err(taken(&self.scratch.partial, "has no journal that proves it to be of an interrupted run"))
    }

    /// Whether the partial output was created by the run whose journal is beside it. A run that was killed
    /// right after creating it has recorded nothing and written nothing.
    pub(super) fn is_ours(&self, partial: &Metadata, earlier: Option<&PreviousRun>) -> Result<bool> {
        if !partial.is_dir() && scratch::suspicious(partial).is_some() {
            return Ok(false);
        }
        match earlier.and_then(|e| e.created) {
            Some(created) => Ok(created == number(partial)),
            None if partial.is_dir() => Ok(self.claim.found && is_empty(&self.scratch.partial)?),
            None => Ok(self.claim.found && partial.len() == 0),
        }
    }
}
