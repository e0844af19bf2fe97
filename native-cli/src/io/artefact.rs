//! An artefact under construction: written beside its name, synced, renamed. It appears whole or not at all.

use crate::exit::world;
use crate::io::journal::{self, Claim, Journal, Record};
use crate::io::positional::write_all_at;
use crate::io::source::Source;
use fs4::fs_std::FileExt;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::job::Write;
use quantoscope_core::plan::{OutFile, Plan};
use quantoscope_core::schedule::Budget;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The file of a directory that makes it a model: an old one goes first, the new one comes last.
const HEADS: [&str; 2] = ["quantize_index.json", "model.safetensors"];
/// Where a file of ours says so.
const MARK: &str = "quantoscope.recipe";
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
    /// Whether what stands under the final name may be replaced.
    force: bool,
    /// Names inside the directory; one empty name where the artefact is a file.
    names: Vec<String>,
    /// The handle of a single file. The files of a directory may be thousands, and are opened for each write.
    single: Option<File>,
    /// Keeps other runs from writing the same output.
    claim: Claim,
    /// Files of a directory that were written since they were last brought to the disk.
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

/// The path to write to. Refuses what must never be written to, before anything else is done; also for dry runs.
pub fn target(source: &Source, typed: &Path, directory: bool, force: bool) -> Result<PathBuf> {
    let out = normal(typed, directory)?;
    check_not_input(source, &out, directory)?;
    let Ok(meta) = fs::metadata(&out) else { return Ok(out) };
    let refuse = |why: &str| Err(Error::new(Code::Exists, format!("{} {why}", out.display())));
    match (directory, meta.is_dir()) {
        (false, true) => refuse("is a directory"),
        (true, false) => refuse("is not a directory"),
        (false, false) if force => Ok(out),
        (false, false) => refuse("exists; --force replaces it"),
        (true, true) => check_directory(&out, force).map(|()| out),
    }
}

/// A directory without a slash or dot at its end, and not by way of a link: the partial output lies beside it, and is
/// renamed. What ends so is no name for a file.
fn normal(typed: &Path, directory: bool) -> Result<PathBuf> {
    let usage = |why: &str| Err(Error::new(Code::Usage, format!("{} {why}", typed.display())));
    let plain: PathBuf = typed.components().collect();
    let end = typed.as_os_str().as_encoded_bytes();
    let open_ended = end.ends_with(b"/") || end.ends_with(b"/.");
    match plain.file_name() {
        None => usage("is no name for an output"),
        Some(_) if open_ended && !directory => usage("names a directory, and this container is one file"),
        Some(_) if directory && plain.is_symlink() && plain.is_dir() => {
            fs::canonicalize(&plain).map_err(|e| world(&e, format!("cannot open {}", plain.display())))
        }
        Some(_) => Ok(plain),
    }
}

/// Neither the output nor the names that it has before it is done may be, or hold, the input.
fn check_not_input(source: &Source, out: &Path, directory: bool) -> Result<()> {
    let real = |p: PathBuf| fs::canonicalize(p).ok();
    let inputs: BTreeSet<PathBuf> =
        source.all_paths().chain([source.path.clone()]).filter_map(real).collect();
    // Where the files really are, behind whatever links.
    let holders = inputs.iter().filter_map(|p| p.parent());
    let dirs: BTreeSet<PathBuf> =
        holders.map(Path::to_path_buf).chain(real(source.dir().to_path_buf())).collect();
    let is_input = |p: PathBuf, as_dir: bool| {
        real(p).is_some_and(|p| inputs.contains(&p) || (as_dir && dirs.contains(&p)))
    };
    let partial = is_input(beside(out, PARTIAL), true) || is_input(beside(out, JOURNAL), true);
    if partial || is_input(out.to_path_buf(), directory) {
        return Err(Error::new(Code::SameFile, "the output is the input, or a part of it"));
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
    let interrupted = journal::was_committing(&beside(out, JOURNAL));
    let made =
        |s: Source| s.checkpoint.q4_index.is_some() || s.checkpoint.metadata.0.iter().any(|(k, _)| k == MARK);
    let ours = interrupted || Source::open(out).is_ok_and(made);
    let message = match (force, ours) {
        (true, true) => return Ok(()),
        (true, false) => "is not empty, and holds no model of ours to replace",
        (false, _) => "is not empty; --force replaces a model of ours in it",
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
        let journal_path = beside(out, JOURNAL);
        let about = |e: std::io::Error| world(&e, format!("cannot write {}", journal_path.display()));
        let Some(claim) = Claim::take(&journal_path).map_err(about)? else {
            let message = format!("{} is being written by another run", out.display());
            return Err(Error::new(Code::PartialExists, message));
        };
        let mut artefact = Artefact {
            out: out.to_path_buf(),
            partial: beside(out, PARTIAL),
            journal_path,
            directory: plan.conversion.as_ref().is_some_and(|c| c.directory),
            force: permission.force,
            names: plan.files.iter().map(|f| f.name.clone()).collect(),
            single: None,
            claim,
            dirty: Mutex::default(),
        };
        match artefact.earlier(plan, permission, fingerprint, budget) {
            Ok(Some((journal, budget, records))) => return Ok(Begun { artefact, journal, budget, records }),
            Ok(None) => {}
            Err(e) => {
                artefact.unclaim();
                return Err(e);
            }
        }
        let made = artefact.check_space(plan).and_then(|()| artefact.create(plan, fingerprint, &budget));
        let journal = made.inspect_err(|_| artefact.discard())?;
        Ok(Begun { artefact, journal, budget, records: Vec::new() })
    }

    /// Takes over what an earlier run left, or clears it away, as far as that is permitted.
    fn earlier(
        &mut self,
        plan: &Plan,
        permission: Permission,
        fingerprint: &[u8; 32],
        budget: Budget,
    ) -> Result<Option<(Journal, Budget, Vec<Record>)>> {
        if fs::symlink_metadata(&self.partial).is_err() {
            return Ok(None);
        }
        let partial = self.partial.display();
        if !permission.resume && !permission.force {
            let message = format!(
                "{partial} is left from an interrupted run; --resume goes on with it, --force starts again"
            );
            return Err(Error::new(Code::PartialExists, message));
        }
        if !self.claim.found && !permission.force {
            // Runs of ours make the journal first, so this may be anybody's.
            let message = format!("{partial} has no journal to go on from; --force starts again");
            return Err(Error::new(Code::PartialExists, message));
        }
        if permission.resume
            && let Some(begun) = self.resume(plan, fingerprint, budget)?
        {
            return Ok(Some(begun));
        }
        self.check_partial()?;
        self.clear();
        Ok(None)
    }

    /// The journal of the partial output, if it is of this very plan. A partial with an empty journal never got beyond
    /// its headers and is started again.
    fn resume(
        &mut self,
        plan: &Plan,
        fingerprint: &[u8; 32],
        budget: Budget,
    ) -> Result<Option<(Journal, Budget, Vec<Record>)>> {
        let path = self.journal_path.clone();
        let about = |e: std::io::Error| world(&e, format!("cannot read {}", path.display()));
        let Some(earlier) = self.claim.read().map_err(about)? else { return Ok(None) };
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
        let journal = self.claim.go_on(earlier.sound).map_err(about)?;
        // The windows of the earlier run are kept where they fit today's memory, or are all done.
        let share = earlier.budget.memory / u64::from(earlier.budget.workers.max(1));
        let memory = share.saturating_mul(budget.workers.into());
        if memory > budget.memory && !committing {
            return Ok(Some((journal, budget, earlier.records)));
        }
        Ok(Some((journal, Budget { memory, workers: budget.workers }, earlier.records)))
    }

    /// A directory is cleared away only where everything in it is what a run of ours leaves.
    fn check_partial(&self) -> Result<()> {
        let ours = |name: &str| {
            let planned = self.names.iter().any(|n| n == name);
            planned || HEADS.contains(&name) || name.ends_with(".q4") || name.ends_with(".f16")
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
        if self.directory {
            fs::create_dir(&self.partial).map_err(about)?;
        }
        for (index, planned) in plan.files.iter().enumerate() {
            let file = File::create(self.path(index as u32)).map_err(about)?;
            file.set_len(planned.len).map_err(about)?;
            reserve(&file, planned.len).map_err(about)?;
            write_all_at(&file, &planned.header, 0).map_err(about)?;
            file.sync_all().map_err(about)?;
        }
        self.open_single()?;
        self.claim.begin(fingerprint, budget).map_err(about)
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
        if self.single.is_none() {
            self.dirty.lock().unwrap_or_else(|e| e.into_inner()).insert(write.file);
        }
        Ok(())
    }

    /// Brings everything that was written to the disk.
    pub fn sync(&self) -> Result<()> {
        let about = |e: std::io::Error| world(&e, format!("cannot write {}", self.partial.display()));
        if let Some(file) = &self.single {
            return file.sync_data().map_err(about);
        }
        let dirty = std::mem::take(&mut *self.dirty.lock().unwrap_or_else(|e| e.into_inner()));
        for index in dirty {
            self.open(index)?.sync_data().map_err(about)?;
        }
        Ok(())
    }

    /// Gives the artefact its name.
    pub fn commit(self) -> Result<()> {
        self.sync()?;
        let about = |e: std::io::Error| world(&e, format!("cannot name {}", self.out.display()));
        let free = fs::symlink_metadata(&self.out).is_err() || (self.directory && is_empty(&self.out));
        if !free && !self.force {
            let message = format!(
                "{} was made by somebody else meanwhile; --resume --force replaces it",
                self.out.display()
            );
            return Err(Error::new(Code::Exists, message));
        }
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
        self.claim.note_commit()?;
        for head in HEADS {
            let old = self.out.join(head);
            if self.partial.join(head).exists() && old.exists() {
                fs::remove_file(old)?;
            }
        }
        let last = |n: &&String| HEADS.contains(&n.as_str());
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
        self.clear();
        let _ = fs::remove_file(&self.journal_path);
    }

    /// Removes the partial output, and what the journal says of it first.
    fn clear(&self) {
        // What cannot be removed is found, and named, by the next run.
        let _ = self.claim.clear();
        let _ = if self.partial.is_dir() && !self.partial.is_symlink() {
            fs::remove_dir_all(&self.partial)
        } else {
            fs::remove_file(&self.partial)
        };
    }

    /// Gives up the right to write, as it was found.
    fn unclaim(&self) {
        if !self.claim.found {
            let _ = fs::remove_file(&self.journal_path);
        }
    }
}

/// Takes the room on the disk at once, where the file system can: then writing finds it, and it cannot run out.
fn reserve(file: &File, len: u64) -> std::io::Result<()> {
    match FileExt::allocate(file, len) {
        Err(e) if e.kind() == std::io::ErrorKind::StorageFull => Err(e),
        _ => Ok(()),
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
