//! An unfinished output: written beside its final name, synced, renamed. It appears whole or not at all.

mod permission;

pub(crate) use permission::check_scratch;

use super::naming::OutputNames;
use super::scratch::{
    self, ScratchNames, create_directory, found, mode, number, parent, reserve, sync_directory, taken,
};
use super::target::{OutputForm, Permission, Replaced, is_empty};
use crate::exit::io_error;
use crate::io::journal::{Journal, Lock, Naming, PreviousRun};
use crate::io::pread::{read_exact_at, write_all_at};
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::job::Write;
use quantoscope_core::plan::{OutFile, Plan};
use quantoscope_core::schedule::Budget;
use quantoscope_core::wire::Record;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Bytes of a header that are compared at a time.
const PIECE: usize = 1 << 20;

/// An unfinished output.
pub(crate) struct OutputFiles {
    out: PathBuf,
    scratch: ScratchNames,
    form: OutputForm,
    /// Whether an existing output may be replaced.
    force: bool,
    /// Names inside the directory or of the set; one empty name if the output is a file.
    names: Vec<String>,
    /// The handle of a single file. A directory may have thousands of files, which are opened for each write.
    single: Option<File>,
    /// Keeps other runs from writing the same output.
    claim: Lock,
    /// How the output got its name, if an earlier run was stopped right after that. Nothing is written then.
    named: Option<(Naming, bool)>,
    /// How an earlier run was about to name the output.
    before: Option<Naming>,
    /// Files of a directory that were written since they were last brought to the disk.
    dirty: Mutex<BTreeSet<u32>>,
}

/// A new or resumed output.
pub(crate) struct StartedOutput {
    pub files: OutputFiles,
    pub journal: Journal,
    /// The budget that determined the windows of the journal.
    pub budget: Budget,
    /// Windows that are already on disk.
    pub records: Vec<Record>,
}

/// The work of a run.
#[derive(Clone, Copy)]
pub(crate) struct Intent<'a> {
    pub plan: &'a Plan,
    pub permission: Permission,
    /// Digest of the plan, the sources and the version.
    pub fingerprint: &'a [u8; 32],
    pub budget: Budget,
}

/// Fails if the disk has less free space than the output of `plan` needs. The space of a partial output is
/// already reserved.
///
/// # Errors
///
/// `no_space`.
pub(crate) fn check_space(plan: &Plan, out: &Path) -> Result<()> {
    if found(&ScratchNames::beside(out).partial)?.is_some() {
        return Ok(());
    }
    let need = plan.conversion.as_ref().map_or(0, |c| c.totals.total_bytes_out);
    let dir = parent(out);
    let free =
        fs4::available_space(dir).map_err(|e| io_error(&e, format!("cannot write to {}", dir.display())))?;
    if free < need {
        let message = format!("the output needs {need} bytes, and {} has {free} bytes free", dir.display());
        return Err(Error::new(Code::NoSpace, message));
    }
    Ok(())
}

impl OutputFiles {
    fn new(
        out: &Path,
        form: OutputForm,
        permission: Permission,
        names: Vec<String>,
        claim: Lock,
    ) -> OutputFiles {
        OutputFiles {
            out: out.to_path_buf(),
            scratch: ScratchNames::beside(out),
            form,
            force: permission.force,
            names,
            single: None,
            claim,
            named: None,
            before: None,
            dirty: Mutex::default(),
        }
    }

    /// Creates the partial files and the journal, or opens those of an interrupted run.
    ///
    /// # Errors
    ///
    /// `partial_exists` if another run is writing the output, or an interrupted run is neither resumed nor
    /// replaced; `resume_mismatch` if the interrupted run had another plan; `no_space`.
    pub(crate) fn begin(out: &Path, intent: Intent<'_>) -> Result<StartedOutput> {
        let Intent { plan, permission, .. } = intent;
        let scratch = ScratchNames::beside(out);
        let Some(claim) = Lock::take(&scratch.journal)? else {
            return Err(permission::written_by_another(out));
        };
        let names = plan.files.iter().map(|f| f.name.clone()).collect();
        let mut files = OutputFiles::new(out, OutputForm::of(plan), permission, names, claim);
        match files.earlier(intent) {
            Ok(Some((journal, budget, records))) => {
                return Ok(StartedOutput { files, journal, budget, records });
            }
            Ok(None) => {}
            Err(e) => {
                files.release();
                return Err(e);
            }
        }
        // Errors up to here left nothing behind; `create` removes its own files on errors.
        let made = files.check_names().and_then(|()| check_space(plan, out));
        made.inspect_err(|_| files.release())?;
        let journal = files.create(intent)?;
        Ok(StartedOutput { files, journal, budget: intent.budget, records: Vec::new() })
    }

    fn names(&self) -> OutputNames<'_> {
        OutputNames { out: &self.out, scratch: &self.scratch, claim: &self.claim, before: self.before }
    }

    /// Takes over the partial output of an earlier run or removes it, if that is permitted and the files are
    /// proven to be of such a run.
    fn earlier(&mut self, intent: Intent<'_>) -> Result<Option<(Journal, Budget, Vec<Record>)>> {
        let Permission { force, resume } = intent.permission;
        let about = |e: io::Error| io_error(&e, format!("cannot read {}", self.scratch.journal.display()));
        let earlier = self.claim.read().map_err(about)?;
        let partial = found(&self.scratch.partial)?;
        self.before = earlier.as_ref().and_then(|e| e.naming);
        let members = earlier.as_ref().map(|e| e.members.clone()).unwrap_or_default();
        if let Some(naming) = self.before.filter(|_| !members.is_empty()) {
            if self.names().is_set_named(&members)? {
                return self.go_on_named(intent, earlier.unwrap_or_default(), naming);
            }
            self.names().take_back_set(&members, naming)?;
        } else if let Some(naming) = self.before {
            if self.names().is_named(naming)? {
                return self.go_on_named(intent, earlier.unwrap_or_default(), naming);
            }
            if partial.is_none() || (force && !resume) {
                self.names().take_back(naming)?;
            }
        }
        let Some(partial) = partial else { return Ok(None) };
        let proven = self.is_ours(&partial, earlier.as_ref())?;
        let path = self.scratch.partial.clone();
        self.check_permission(proven, intent.permission)?;
        if resume
            && let Some(earlier) = earlier
            && let Some(begun) = self.resume(intent, earlier)?
        {
            return Ok(Some(begun));
        }
        if !proven {
            return Err(taken(&path, "has no journal that proves it to be of an interrupted run"));
        }
        self.check_partial()?;
        self.clear();
        self.claim.found = false;
        Ok(None)
    }

    /// Continues a run that was stopped after its output had got its name.
    fn go_on_named(
        &mut self,
        intent: Intent<'_>,
        earlier: PreviousRun,
        naming: Naming,
    ) -> Result<Option<(Journal, Budget, Vec<Record>)>> {
        let about = |e: io::Error| io_error(&e, format!("cannot write {}", self.scratch.journal.display()));
        if intent.permission.resume {
            self.check_fingerprint(intent, &earlier, &self.out)?;
            let journal = self.claim.go_on(earlier.sound).map_err(about)?;
            self.named = Some((naming, earlier.cleared));
            return Ok(Some((journal, earlier.budget, earlier.records)));
        }
        self.claim.go_on(earlier.sound).map_err(about)?;
        let set = !earlier.members.is_empty();
        self.finish_named(set, naming, earlier.cleared)?;
        self.claim.clear().map_err(about)?;
        self.claim.found = false;
        if set && !intent.permission.force {
            let message = format!("the files of {} exist; --force replaces them", self.out.display());
            return Err(Error::new(Code::Exists, message));
        }
        Ok(None)
    }

    fn finish_named(&self, set: bool, naming: Naming, cleared: bool) -> Result<()> {
        if set { self.names().finish_set(naming) } else { self.names().finish(naming, cleared) }
    }

    fn check_fingerprint(&self, intent: Intent<'_>, earlier: &PreviousRun, made: &Path) -> Result<()> {
        if earlier.fingerprint == *intent.fingerprint {
            return Ok(());
        }
        let message = format!(
            "{} was made by another plan (other input, options or version); --force without --resume starts again",
            made.display()
        );
        Err(Error::new(Code::ResumeMismatch, message))
    }

    /// The journal of the partial output, if it is of this plan and every file has its planned length and
    /// header.
    fn resume(
        &mut self,
        intent: Intent<'_>,
        earlier: PreviousRun,
    ) -> Result<Option<(Journal, Budget, Vec<Record>)>> {
        self.check_fingerprint(intent, &earlier, &self.scratch.partial)?;
        for (index, file) in intent.plan.files.iter().enumerate() {
            if !self.is_whole(index as u32, file)? {
                return Ok(None);
            }
        }
        self.open_single()?;
        let about = |e: io::Error| io_error(&e, format!("cannot read {}", self.scratch.journal.display()));
        let journal = self.claim.go_on(earlier.sound).map_err(about)?;
        // The windows of the earlier run are kept if they fit the memory of this one.
        let budget = intent.budget;
        let share = earlier.budget.memory / u64::from(earlier.budget.workers.max(1));
        let memory = share.saturating_mul(budget.workers.into());
        if memory > budget.memory {
            return Ok(Some((journal, budget, earlier.records)));
        }
        Ok(Some((journal, Budget { memory, workers: budget.workers }, earlier.records)))
    }

    /// Whether a partial file has its planned length and header.
    fn is_whole(&self, index: u32, planned: &OutFile) -> Result<bool> {
        let path = self.path(index);
        let Some(meta) = found(&path)? else { return Ok(false) };
        if let Some(why) = scratch::suspicious(&meta) {
            return Err(taken(&path, why));
        }
        if meta.len() != planned.len {
            return Ok(false);
        }
        let about = |e: io::Error| io_error(&e, format!("cannot read {}", path.display()));
        let file = scratch::open(&path, false).map_err(about)?;
        let mut buffer = vec![0; planned.header.len().min(PIECE)];
        let mut offset = 0;
        for piece in planned.header.chunks(PIECE) {
            let read = buffer.get_mut(..piece.len()).unwrap_or_default();
            read_exact_at(&file, read, offset).map_err(about)?;
            if read != piece {
                return Ok(false);
            }
            offset += piece.len() as u64;
        }
        Ok(true)
    }

    /// Fails if the partial directory holds anything but files that a run creates.
    fn check_partial(&self) -> Result<()> {
        let ours = |name: &str| {
            let planned = self.names.iter().any(|n| n == name);
            let written =
                [".q4", ".f16", ".json", ".safetensors", ".gguf"].iter().any(|end| name.ends_with(end));
            planned || written
        };
        let Ok(mut entries) = fs::read_dir(&self.scratch.partial) else { return Ok(()) };
        let plain = |e: &fs::DirEntry| e.file_type().is_ok_and(|t| t.is_file());
        if entries.all(|e| e.is_ok_and(|e| plain(&e) && e.file_name().to_str().is_some_and(ours))) {
            return Ok(());
        }
        Err(taken(&self.scratch.partial, "holds files that are not ours"))
    }

    /// Fails if a name that the replacement of a directory needs is taken, or if a file that stays in the
    /// directory would collide with the new model.
    fn check_names(&self) -> Result<()> {
        if let OutputForm::Set(_) = self.form {
            let aside = &self.scratch.replaced;
            return match found(aside)? {
                Some(meta) if !meta.is_dir() || !is_empty(aside)? => {
                    Err(taken(aside, "is in the way of files that are replaced"))
                }
                _ => Ok(()),
            };
        }
        let replaces =
            self.form == OutputForm::Directory && found(&self.out)?.is_some_and(|old| old.is_dir());
        if !replaces || is_empty(&self.out)? {
            return Ok(());
        }
        if found(&self.scratch.replaced)?.is_some() {
            return Err(taken(&self.scratch.replaced, "is in the way of the directory that is replaced"));
        }
        match Replaced::open(&self.out)? {
            Some(replaced) => replaced.check_names(&self.out, &self.names),
            None => Ok(()),
        }
    }

    fn path(&self, file: u32) -> PathBuf {
        match self.names.get(file as usize) {
            Some(name) if self.form.is_folder() => self.scratch.partial.join(name),
            _ => self.scratch.partial.clone(),
        }
    }

    /// Creates the partial files with their headers. On errors they are removed.
    fn create(&mut self, intent: Intent<'_>) -> Result<Journal> {
        let path = self.scratch.partial.clone();
        let about = |e: io::Error| io_error(&e, format!("cannot write {}", path.display()));
        let begun = self.claim.begin(intent.fingerprint, &intent.budget).map_err(about);
        let first = begun.and_then(|mut journal| {
            let old = if let OutputForm::Set(_) = self.form { None } else { found(&self.out)? };
            let mode = old.map_or(0o777, |old| mode(&old));
            let file = match self.form.is_folder() {
                true => create_directory(&path, mode | 0o700).map(|()| None),
                false => scratch::create(&path, mode & 0o666 | 0o600).map(Some),
            };
            match file {
                Ok(file) => Ok((journal_created(&mut journal, &path).map_err(about), journal, file)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    Err(taken(&path, "appeared while this run began"))
                }
                Err(e) => Err(about(e)),
            }
        });
        // On errors nothing was created under that name.
        let (noted, journal, file) = first.inspect_err(|_| self.unclaim_begun())?;
        self.single = file;
        let filled = noted.and_then(|()| self.fill(intent.plan));
        filled.inspect_err(|_| self.discard())?;
        Ok(journal)
    }

    fn fill(&self, plan: &Plan) -> Result<()> {
        sync_directory(parent(&self.out))?;
        for (index, planned) in plan.files.iter().enumerate() {
            let path = self.path(index as u32);
            let about = |e: io::Error| io_error(&e, format!("cannot write {}", path.display()));
            let created = match &self.single {
                Some(_) => None,
                None => Some(scratch::create(&path, 0o666).map_err(about)?),
            };
            let Some(file) = self.single.as_ref().or(created.as_ref()) else { continue };
            file.set_len(planned.len).map_err(about)?;
            reserve(file, planned.len).map_err(about)?;
            write_all_at(file, &planned.header, 0).map_err(about)?;
            file.sync_all().map_err(about)?;
        }
        if self.form.is_folder() { sync_directory(&self.scratch.partial) } else { Ok(()) }
    }

    fn open_single(&mut self) -> Result<()> {
        if !self.form.is_folder() {
            self.single = Some(self.open(0)?);
        }
        Ok(())
    }

    fn open(&self, file: u32) -> Result<File> {
        let path = self.path(file);
        scratch::open(&path, true).map_err(|e| io_error(&e, format!("cannot write {}", path.display())))
    }

    /// Writes the bytes of a job. Any thread may call it.
    pub(crate) fn write(&self, write: &Write, mut bytes: &[u8]) -> Result<()> {
        if self.named.is_some() {
            return Ok(());
        }
        let opened = if self.single.is_none() { Some(self.open(write.file)?) } else { None };
        let Some(file) = opened.as_ref().or(self.single.as_ref()) else { return Ok(()) };
        for (offset, len) in write.region.runs() {
            let (run, rest) = bytes.split_at(len as usize);
            write_all_at(file, run, offset)
                .map_err(|e| io_error(&e, format!("cannot write {}", self.scratch.partial.display())))?;
            bytes = rest;
        }
        if self.single.is_none() {
            self.dirty.lock().unwrap_or_else(|e| e.into_inner()).insert(write.file);
        }
        Ok(())
    }

    /// Syncs everything that was written.
    pub(crate) fn sync(&self) -> Result<()> {
        let about = |e: io::Error| io_error(&e, format!("cannot write {}", self.scratch.partial.display()));
        if let Some(file) = &self.single {
            return file.sync_data().map_err(about);
        }
        let dirty = std::mem::take(&mut *self.dirty.lock().unwrap_or_else(|e| e.into_inner()));
        for index in dirty {
            self.open(index)?.sync_data().map_err(about)?;
        }
        Ok(())
    }

    /// Gives the output its final name and removes the journal.
    pub(crate) fn commit(self) -> Result<()> {
        match self.named {
            Some((naming, cleared)) => {
                self.finish_named(matches!(self.form, OutputForm::Set(_)), naming, cleared)?;
            }
            None => {
                self.sync()?;
                if self.form.is_folder() {
                    sync_directory(&self.scratch.partial)?;
                }
                match &self.form {
                    OutputForm::Set(names) => self.names().give_set(names, self.force)?,
                    form => self.names().give(&self.names, *form == OutputForm::Directory, self.force)?,
                }
            }
        }
        // Last: a run that is killed before this is finished by `--resume`.
        self.names().release()
    }

    /// Removes everything that was written, unless it has its final name.
    pub(crate) fn discard(&self) {
        if self.named.is_none() {
            self.clear();
            let _ = fs::remove_file(&self.scratch.journal);
        }
    }

    /// Removes the partial output, then empties the journal. In this order, because a partial output without
    /// its journal could not be identified.
    fn clear(&self) {
        // The next run reports files that cannot be removed.
        let partial = &self.scratch.partial;
        let removed = match fs::symlink_metadata(partial) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(partial),
            _ => fs::remove_file(partial),
        };
        if removed.is_ok() {
            let _ = self.claim.clear();
        }
    }

    /// Releases the lock, and removes the journal if this run created it.
    fn release(&self) {
        if !self.claim.found {
            let _ = fs::remove_file(&self.scratch.journal);
        }
    }

    /// Releases the lock after the journal was begun.
    fn unclaim_begun(&self) {
        let _ = self.claim.clear();
        self.release();
    }
}

fn journal_created(journal: &mut Journal, path: &Path) -> io::Result<()> {
    journal.created(number(&fs::symlink_metadata(path)?))
}
