//! An artefact under construction: written beside its name, synced, renamed. It appears whole or not at all.

use crate::exit::world;
use crate::io::journal::{self, Journal, Record};
use crate::io::positional::write_all_at;
use crate::io::source::Source;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::job::Write;
use quantoscope_core::plan::{OutFile, Plan};
use quantoscope_core::schedule::Budget;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

const INDEX: &str = "quantize_index.json";
const PARTIAL: &str = ".partial";
const JOURNAL: &str = ".partial.journal";

/// What the user allows.
#[derive(Clone, Copy, Debug)]
pub struct Permission {
    pub force: bool,
    pub resume: bool,
}

/// An artefact under construction.
pub struct Artefact {
    out: PathBuf,
    partial: PathBuf,
    journal_path: PathBuf,
    directory: bool,
    /// Names inside the directory; one empty name where the artefact is a file.
    names: Vec<String>,
    /// The handle of a single file. The files of a directory may be thousands, and are opened for each write.
    single: Option<File>,
    dirty: Mutex<BTreeSet<u32>>,
}

/// What to go on from.
pub struct Begun {
    pub artefact: Artefact,
    pub journal: Journal,
    /// The budget whose windows the journal speaks of.
    pub budget: Budget,
    /// Windows that are on disk already.
    pub records: Vec<Record>,
}

fn beside(out: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = out.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    out.with_file_name(name)
}

/// Refuses what must never be written to, before anything else is done. Also checked for dry runs.
pub fn check_target(source: &Source, out: &Path, directory: bool, force: bool) -> Result<()> {
    if out.file_name().is_none() {
        return Err(Error::new(Code::Usage, format!("{} is no name for an output", out.display())));
    }
    check_not_input(source, out, directory)?;
    let Ok(meta) = fs::symlink_metadata(out) else { return Ok(()) };
    let meta = fs::metadata(out).unwrap_or(meta);
    let refuse = |why: &str| Err(Error::new(Code::Exists, format!("{} {why}", out.display())));
    match (directory, meta.is_dir()) {
        (false, true) => refuse("is a directory"),
        (true, false) => refuse("is not a directory"),
        (false, false) if force => Ok(()),
        (false, false) => refuse("exists; --force replaces it"),
        (true, true) => check_directory(out, force),
    }
}

/// Neither the output nor the names that it has before it is done may be, or hold, the input.
fn check_not_input(source: &Source, out: &Path, directory: bool) -> Result<()> {
    let real = |p: PathBuf| fs::canonicalize(p).ok();
    let inputs: BTreeSet<PathBuf> = source.paths().chain([source.path.clone()]).filter_map(real).collect();
    // Where the files really are, behind whatever links.
    let holders = inputs.iter().filter_map(|p| p.parent());
    let dirs: BTreeSet<PathBuf> =
        holders.map(Path::to_path_buf).chain(real(source.dir().to_path_buf())).collect();
    let is_input = |p: PathBuf, as_dir: bool| {
        real(p).is_some_and(|p| inputs.contains(&p) || (as_dir && dirs.contains(&p)))
    };
    let partial = is_input(beside(out, PARTIAL), true) || is_input(beside(out, JOURNAL), true);
    if partial || is_input(out.to_path_buf(), directory) {
        return Err(Error::new(Code::SameFile, "input and output are the same"));
    }
    Ok(())
}

/// An existing directory is written to when empty, or with --force when it holds an index of ours.
fn check_directory(out: &Path, force: bool) -> Result<()> {
    let mut entries = fs::read_dir(out).map_err(|e| world(&e, format!("cannot list {}", out.display())))?;
    if entries.next().is_none() {
        return Ok(());
    }
    // A replacement that was killed half-way has taken the index away, and left its journal.
    let interrupted = matches!(journal::read(&beside(out, JOURNAL)), Ok(Some(_)));
    let ours = interrupted || Source::open(out).is_ok_and(|s| s.checkpoint.q4_index.is_some());
    let message = match (force, ours) {
        (true, true) => return Ok(()),
        (true, false) => "is not empty, and holds no quantized model of ours to replace",
        (false, _) => "is not empty; --force replaces a quantized model in it",
    };
    Err(Error::new(Code::Exists, format!("{} {message}", out.display())))
}

impl Artefact {
    /// Makes the partial files and the journal, or finds those of an interrupted run.
    pub fn begin(
        plan: &Plan,
        out: &Path,
        permission: Permission,
        fingerprint: &[u8; 32],
        budget: Budget,
    ) -> Result<Begun> {
        let directory = plan.conversion.as_ref().is_some_and(|c| c.directory);
        let mut artefact = Artefact {
            out: out.to_path_buf(),
            partial: beside(out, PARTIAL),
            journal_path: beside(out, JOURNAL),
            directory,
            names: plan.files.iter().map(|f| f.name.clone()).collect(),
            single: None,
            dirty: Mutex::default(),
        };
        if artefact.partial.exists() {
            if permission.resume
                && let Some((journal, budget, records)) = artefact.resume(plan, fingerprint, budget)?
            {
                return Ok(Begun { artefact, journal, budget, records });
            }
            if !permission.force && (!permission.resume || !artefact.journal_path.exists()) {
                let message = format!(
                    "{} is left from an interrupted run; --resume goes on with it, --force starts again",
                    artefact.partial.display()
                );
                return Err(Error::new(Code::PartialExists, message));
            }
            artefact.check_partial()?;
            artefact.discard();
        }
        artefact.check_space(plan)?;
        let journal = artefact.create(plan, fingerprint, &budget).inspect_err(|_| artefact.discard())?;
        Ok(Begun { artefact, journal, budget, records: Vec::new() })
    }

    /// The journal of the partial output, if it is of this very plan; `None` where the partial never got beyond its
    /// headers and is started again.
    fn resume(
        &mut self,
        plan: &Plan,
        fingerprint: &[u8; 32],
        budget: Budget,
    ) -> Result<Option<(Journal, Budget, Vec<Record>)>> {
        let path = self.journal_path.clone();
        let about = |e: std::io::Error| world(&e, format!("cannot read {}", path.display()));
        if !self.journal_path.exists() {
            return Ok(None);
        }
        let Some(earlier) = journal::read(&self.journal_path).map_err(about)? else { return Ok(None) };
        if earlier.fingerprint != *fingerprint {
            let message = format!(
                "{} was made by another plan (other input, options or version); --force without --resume starts again",
                self.partial.display()
            );
            return Err(Error::new(Code::ResumeMismatch, message));
        }
        let committing = earlier.records.iter().any(Record::is_commit);
        let whole = |(index, file): (usize, &OutFile)| match fs::metadata(self.path(index as u32)) {
            Ok(meta) => meta.len() == file.len,
            Err(_) => committing,
        };
        if !plan.files.iter().enumerate().all(whole) {
            return Ok(None);
        }
        self.open_single()?;
        let journal = Journal::reopen(&self.journal_path, earlier.sound).map_err(about)?;
        // The windows of the earlier run are kept where they fit today's memory.
        let share = earlier.budget.memory / u64::from(earlier.budget.workers.max(1));
        let memory = share.saturating_mul(budget.workers.into());
        if memory > budget.memory {
            return Ok(Some((journal, budget, earlier.records)));
        }
        Ok(Some((journal, Budget { memory, workers: budget.workers }, earlier.records)))
    }

    /// A directory is cleared away only where everything in it is what a run of ours leaves.
    fn check_partial(&self) -> Result<()> {
        let ours = |name: &str| {
            name == INDEX || name == "config.json" || name.ends_with(".q4") || name.ends_with(".f16")
        };
        let Ok(mut entries) = fs::read_dir(&self.partial) else { return Ok(()) };
        if entries.all(|e| e.is_ok_and(|e| e.file_name().to_str().is_some_and(ours))) {
            return Ok(());
        }
        let message = format!("{} holds files that are not ours; move it away", self.partial.display());
        Err(Error::new(Code::Exists, message))
    }

    fn check_space(&self, plan: &Plan) -> Result<()> {
        let need = plan.conversion.as_ref().map_or(0, |c| c.totals.total_bytes_out);
        let parent = self.out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let free = fs4::available_space(parent)
            .map_err(|e| world(&e, format!("cannot write to {}", parent.display())))?;
        if free < need {
            let message =
                format!("the output needs {need} bytes, and {} has {free} bytes free", parent.display());
            return Err(Error::new(Code::NoSpace, message));
        }
        Ok(())
    }

    fn path(&self, file: u32) -> PathBuf {
        match self.names.get(file as usize) {
            Some(name) if self.directory => self.partial.join(name),
            _ => self.partial.clone(),
        }
    }

    fn create(&mut self, plan: &Plan, fingerprint: &[u8; 32], budget: &Budget) -> Result<Journal> {
        let path = self.partial.clone();
        let about = |e: std::io::Error| world(&e, format!("cannot write {}", path.display()));
        // The journal comes first: a partial without one is not ours.
        let journal = Journal::create(&self.journal_path, fingerprint, budget).map_err(about)?;
        if self.directory {
            fs::create_dir(&self.partial).map_err(about)?;
        }
        for (index, planned) in plan.files.iter().enumerate() {
            let file = File::create(self.path(index as u32)).map_err(about)?;
            file.set_len(planned.len).map_err(about)?;
            write_all_at(&file, &planned.header, 0).map_err(about)?;
            file.sync_all().map_err(about)?;
        }
        self.open_single()?;
        Ok(journal)
    }

    fn open_single(&mut self) -> Result<()> {
        if !self.directory {
            self.single = Some(self.open(0)?);
        }
        Ok(())
    }

    fn open(&self, file: u32) -> Result<File> {
        let path = self.path(file);
        OpenOptions::new()
            .write(true)
            .open(&path)
            .map_err(|e| world(&e, format!("cannot write {}", path.display())))
    }

    /// Writes the bytes of a job, run after run. Any thread.
    pub fn write(&self, write: &Write, mut bytes: &[u8]) -> Result<()> {
        let opened = if self.single.is_none() { Some(self.open(write.file)?) } else { None };
        let Some(file) = opened.as_ref().or(self.single.as_ref()) else { return Ok(()) };
        for (offset, len) in write.region.runs() {
            let (run, rest) = bytes.split_at(len as usize);
            write_all_at(file, run, offset)
                .map_err(|e| world(&e, format!("cannot write {}", self.partial.display())))?;
            bytes = rest;
        }
        self.dirty.lock().unwrap_or_else(|e| e.into_inner()).insert(write.file);
        Ok(())
    }

    /// Brings everything that was written to the disk.
    pub fn sync(&self) -> Result<()> {
        let dirty = std::mem::take(&mut *self.dirty.lock().unwrap_or_else(|e| e.into_inner()));
        for index in dirty {
            let about = |e: std::io::Error| world(&e, format!("cannot write {}", self.partial.display()));
            match &self.single {
                Some(file) => file.sync_data().map_err(about)?,
                None => self.open(index)?.sync_data().map_err(about)?,
            }
        }
        Ok(())
    }

    /// Gives the artefact its name.
    pub fn commit(self) -> Result<()> {
        self.sync()?;
        let about = |e: std::io::Error| world(&e, format!("cannot name {}", self.out.display()));
        if self.directory && self.out.is_dir() && !is_empty(&self.out) {
            self.replace().map_err(about)?;
        } else {
            if self.directory && self.out.is_dir() {
                fs::remove_dir(&self.out).map_err(about)?;
            }
            fs::rename(&self.partial, &self.out).map_err(about)?;
        }
        sync_parent(&self.out);
        fs::remove_file(&self.journal_path).map_err(about)
    }

    /// Replaces the files of an old model one by one (only with --force). Its index goes first and the new one comes
    /// last, so that no index ever stands over a mixture; the note in the journal lets a killed run be finished.
    fn replace(&self) -> std::io::Result<()> {
        journal::note_commit(&self.journal_path)?;
        let old = self.out.join(INDEX);
        if self.partial.join(INDEX).exists() && old.exists() {
            fs::remove_file(old)?;
        }
        let last = |n: &&String| **n == INDEX;
        for name in self.names.iter().filter(|n| !last(n)).chain(self.names.iter().filter(last)) {
            match fs::rename(self.partial.join(name), self.out.join(name)) {
                // Moved before the run was killed.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound && self.out.join(name).exists() => {}
                moved => moved?,
            }
        }
        fs::remove_dir(&self.partial)
    }

    /// Removes everything that was written.
    pub fn discard(&self) {
        // What cannot be removed is found, and named, by the next run.
        let _ = if self.partial.is_dir() {
            fs::remove_dir_all(&self.partial)
        } else {
            fs::remove_file(&self.partial)
        };
        let _ = fs::remove_file(&self.journal_path);
    }
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut d| d.next().is_none())
}

/// A rename is durable once its directory is synced. Not every file system can; the rename stands either way.
fn sync_parent(path: &Path) {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(dir) = File::open(parent) {
        let _ = dir.sync_all();
    }
}
