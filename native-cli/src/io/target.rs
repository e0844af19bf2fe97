//! Checks of the output path, before any work and for dry runs too.

use super::journal;
use super::scratch::{self, ScratchNames, found, parent};
use crate::exit::io_error;
use crate::io::source::Source;
use quantoscope_core::error::{Code, Error, ErrorKind, Result};
use quantoscope_core::model::general_keys::inverse::is_unchanged_card;
use quantoscope_core::plan::Plan;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

/// The metadata key of the recipe, which every output has.
const PROVENANCE_KEY: &str = "quantoscope.recipe";

/// Permission to replace or resume.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Permission {
    pub force: bool,
    pub resume: bool,
}

/// The form of an output on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OutputForm {
    /// One file.
    File,
    /// A directory of files.
    Directory,
    /// Files of these names beside each other, which are no directory: a split.
    Set(Vec<String>),
}

impl OutputForm {
    /// The form of the output of `plan`.
    pub(crate) fn of(plan: &Plan) -> OutputForm {
        match &plan.conversion {
            Some(conversion) if conversion.directory => OutputForm::Directory,
            _ if plan.is_file_set() => OutputForm::Set(plan.files.iter().map(|f| f.name.clone()).collect()),
            _ => OutputForm::File,
        }
    }

    /// Whether the files are written in a directory until they get their names.
    pub(crate) fn is_folder(&self) -> bool {
        *self != OutputForm::File
    }
}

/// What the names of the files of a split begin with, for an output at `path`: its name without extension, and without the
/// number of a split.
///
/// # Errors
///
/// `usage` if the name is not Unicode.
pub(crate) fn set_stem(path: &Path) -> Result<String> {
    let plain: PathBuf = path.components().collect();
    let name = plain.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
        Error::new(Code::Usage, format!("{} is no name for the files of a split", path.display()))
    })?;
    let ends = |end: &str| {
        let (stem, tail) = name.split_at_checked(name.len().checked_sub(end.len())?)?;
        (!stem.is_empty() && tail.eq_ignore_ascii_case(end)).then_some(stem)
    };
    let stem = ends(".gguf").or_else(|| ends(".safetensors")).unwrap_or(name);
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    let of_split = stem.rsplit_once("-of-").and_then(|(rest, count)| Some((rest.rsplit_once('-')?, count)));
    Ok(match of_split {
        Some(((stem, number), count)) if digits(number) && digits(count) && !stem.is_empty() => stem.into(),
        _ => stem.into(),
    })
}

/// The path to write to.
///
/// # Errors
///
/// `same_file` if the output is the input or a part of it; `exists` if something there must not be replaced:
/// anything but a regular file or a directory with a model of this program, and those too without `--force`.
pub(crate) fn target(
    sources: &[&Source],
    typed: &Path,
    form: &OutputForm,
    permission: Permission,
) -> Result<PathBuf> {
    check_not_stream(typed)?;
    let directory = *form == OutputForm::Directory;
    let out = normal(typed, directory)?;
    sources.iter().try_for_each(|source| check_not_input(source, &out, form))?;
    if let OutputForm::Set(names) = form {
        return check_set(&out, names, permission).map(|()| out);
    }
    let Some(meta) = found(&out)? else { return Ok(out) };
    let refuse = |why: &str| Err(Error::new(Code::Exists, format!("{} {why}", out.display())));
    if meta.is_symlink() {
        return refuse("is a link, which is not replaced; name the file that it leads to");
    }
    if is_mount_point(&out) {
        return refuse(
            "is a mount point, which cannot be replaced; name something inside of it or beside it",
        );
    }
    match (directory, meta.is_dir()) {
        (false, true) => refuse("is a directory"),
        (true, true) => check_directory(&out, &meta, permission).map(|()| out),
        _ if !meta.is_file() => refuse(
            "is a pipe, a device or a socket; values are written at positions, which needs a regular file",
        ),
        (true, false) => refuse("is not a directory"),
        (false, false) if permission.force || was_named(&out, &meta, permission) => Ok(out),
        (false, false) => refuse("exists; --force replaces it"),
    }
}

/// Fails if a file of a set exists, unless it may be replaced. A run that was killed while it named them is completed or
/// reverted before anything is replaced.
fn check_set(out: &Path, names: &[String], permission: Permission) -> Result<()> {
    let unfinished = journal::peek(&ScratchNames::beside(out).journal).is_some_and(|e| !e.members.is_empty());
    for name in names {
        let path = parent(out).join(name);
        let Some(meta) = found(&path)? else { continue };
        let refuse = |why: &str| Err(Error::new(Code::Exists, format!("{} {why}", path.display())));
        match () {
            () if meta.is_symlink() => {
                return refuse("is a link, which is not replaced; name the file that it leads to");
            }
            () if !meta.is_file() => return refuse("is not a file"),
            () if !permission.force && !unfinished => return refuse("exists; --force replaces it"),
            () => {}
        }
    }
    Ok(())
}

/// Whether this is the finished output of a run that was killed before it removed its journal.
fn was_named(out: &Path, meta: &Metadata, permission: Permission) -> bool {
    let naming = || journal::peek(&ScratchNames::beside(out).journal)?.naming;
    permission.resume && naming().is_some_and(|n| n.made == scratch::number(meta))
}

/// Fails for standard output and other streams: values are written at positions, in any order.
fn check_not_stream(typed: &Path) -> Result<()> {
    let plain: PathBuf = typed.components().collect();
    let real = fs::canonicalize(parent(&plain)).ok().zip(plain.file_name()).map(|(dir, name)| dir.join(name));
    let is_stream = |path: &Path| {
        let in_proc = path.starts_with("/proc") && parent(path).ends_with("fd");
        let named = ["/dev/stdout", "/dev/stderr", "/dev/stdin"].iter().any(|s| path == Path::new(s));
        in_proc || named || path.starts_with("/dev/fd")
    };
    if typed.as_os_str() == "-" || is_stream(&plain) || real.is_some_and(|p| is_stream(&p)) {
        let message = format!(
            "{} is a stream: values are written at their positions in any order, which needs a file; name one",
            typed.display()
        );
        return Err(Error::new(Code::Usage, message));
    }
    Ok(())
}

/// The path without a trailing slash or dot, and for a directory with its last link resolved: the partial
/// output is created beside it and renamed.
fn normal(typed: &Path, directory: bool) -> Result<PathBuf> {
    let usage = |why: &str| Err(Error::new(Code::Usage, format!("{} {why}", typed.display())));
    let plain: PathBuf = typed.components().collect();
    let end = typed.as_os_str().as_encoded_bytes();
    let open_ended = end.ends_with(b"/") || end.ends_with(b"/.");
    match plain.file_name() {
        None => usage("is no name for an output"),
        Some(_) if open_ended && !directory => usage("names a directory, and this container is one file"),
        Some(_) if directory && plain.is_symlink() && plain.is_dir() => {
            fs::canonicalize(&plain).map_err(|e| io_error(&e, format!("cannot open {}", plain.display())))
        }
        Some(_) => Ok(plain),
    }
}

/// Fails if the output or one of its scratch names is the input or holds it.
fn check_not_input(source: &Source, out: &Path, form: &OutputForm) -> Result<()> {
    let real = |p: &Path| fs::canonicalize(p).ok();
    let inputs: BTreeSet<PathBuf> =
        source.all_paths().chain([source.path.clone()]).filter_map(|p| real(&p)).collect();
    // The directories of the files themselves, behind all links.
    let holders = inputs.iter().filter_map(|p| p.parent());
    let dirs: BTreeSet<PathBuf> = holders.map(Path::to_path_buf).chain(real(source.dir())).collect();
    let is_input = |p: &Path, as_dir: bool| {
        real(p).is_some_and(|p| inputs.contains(&p) || (as_dir && dirs.contains(&p)))
    };
    let scratch = ScratchNames::beside(out);
    let named = match form {
        OutputForm::Set(names) => names.iter().map(|name| parent(out).join(name)).collect(),
        _ => vec![out.to_path_buf()],
    };
    let directory = *form == OutputForm::Directory;
    if scratch.all().into_iter().any(|p| is_input(p, true)) || named.iter().any(|p| is_input(p, directory)) {
        return Err(Error::new(Code::SameFile, "the output is the input, or a part of it"));
    }
    Ok(())
}

/// Whether the path is a mount point, which cannot be replaced by a rename.
#[cfg(target_os = "linux")]
fn is_mount_point(path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    let known = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty()).ok();
    let root = StatxAttributes::MOUNT_ROOT;
    match known.filter(|s| s.stx_attributes_mask.contains(root)) {
        Some(stat) => stat.stx_attributes.contains(root),
        None => has_other_device(path),
    }
}

#[cfg(all(unix, not(target_os = "linux")))]
fn is_mount_point(path: &Path) -> bool {
    has_other_device(path)
}

#[cfg(not(unix))]
fn is_mount_point(_: &Path) -> bool {
    false
}

#[cfg(unix)]
fn has_other_device(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |p: &Path| fs::symlink_metadata(p).ok().map(|m| m.dev());
    device(path) != fs::metadata(parent(path)).ok().map(|m| m.dev())
}

/// Fails unless the directory is empty, or holds a model of this program that may be replaced.
fn check_directory(out: &Path, meta: &Metadata, permission: Permission) -> Result<()> {
    if is_empty(out)? || was_named(out, meta, permission) {
        return Ok(());
    }
    let message = match (permission.force, Replaced::open(out)?) {
        (true, Some(_)) => return Ok(()),
        (true, None) => "is not empty, and does not hold a model that this program wrote",
        (false, _) => "is not empty; --force replaces a model that this program wrote",
    };
    Err(Error::new(Code::Exists, format!("{} {message}", out.display())))
}

pub(crate) fn is_empty(dir: &Path) -> Result<bool> {
    let about = |e: io::Error| io_error(&e, format!("cannot list {}", dir.display()));
    Ok(fs::read_dir(dir).map_err(about)?.next().is_none())
}

/// A directory that holds a model of this program, and possibly other files.
pub(crate) struct Replaced {
    /// Entries that are not files of the model. They are kept.
    pub foreign: Vec<OsString>,
}

impl Replaced {
    /// Opens the directory; `None` if it holds no model of this program.
    ///
    /// # Errors
    ///
    /// `io` if the directory cannot be read.
    pub(crate) fn open(dir: &Path) -> Result<Option<Replaced>> {
        let made = |s: &Source| {
            s.checkpoint.q4_index.is_some()
                || s.checkpoint.metadata.0.iter().any(|(k, _)| k == PROVENANCE_KEY)
        };
        let model = match Source::open(dir) {
            Ok(model) if made(&model) => model,
            Err(e) if e.code().kind() == ErrorKind::System && e.code() != Code::NotFound => return Err(e),
            _ => return Ok(None),
        };
        let about = |e: io::Error| io_error(&e, format!("cannot list {}", dir.display()));
        let mut foreign = Vec::new();
        for entry in fs::read_dir(dir).map_err(about)? {
            let entry = entry.map_err(about)?;
            let file = entry.file_type().map_err(about)?.is_file();
            let name = entry.file_name();
            let made = || fs::read(entry.path()).is_ok_and(|text| is_unchanged_card(&text));
            if file && name == "README.md" && made() {
                continue;
            }
            if !file || !name.to_str().is_some_and(|name| model.has_file(name)) {
                foreign.push(name);
            }
        }
        foreign.sort();
        Ok(Some(Replaced { foreign }))
    }

    /// Fails if an entry that is kept has the name of a file of the new model.
    pub(crate) fn check_names(&self, out: &Path, names: &[String]) -> Result<()> {
        match self.foreign.iter().find(|f| names.iter().any(|n| f.as_os_str() == n.as_str())) {
            None => Ok(()),
            Some(name) => {
                let path = out.join(name);
                let message = format!(
                    "{} is not a file of the model that is replaced; move it elsewhere",
                    path.display()
                );
                Err(Error::new(Code::Exists, message))
            }
        }
    }
}
