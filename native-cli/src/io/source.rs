//! Opens a checkpoint: feeds [`Opening`] with lengths and bytes, and keeps the files for positional reads.

use crate::exit::io_error;
use crate::io::folder::{folder_name, list};
use crate::io::identity::FileIdentity;
use crate::io::imatrix::ImatrixFile;
use crate::io::in_place;
use crate::io::links;
use crate::io::read_at::{LocalFile, ReadAt};
use crate::options::ModelPath;
use crate::system_limits;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::format::imatrix::Imatrix;
use quantoscope_core::format::{Checkpoint, Companion, Opening, Root, Want};
use quantoscope_core::job::{Piece, Region};
use quantoscope_core::model::tokenizer::check_text_ids;
use quantoscope_core::plan::Plan;
use quantoscope_core::recipe::Recipe;
use quantoscope_encoder::HfEncoder;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Headers are read in pieces of at most this.
const HEADER_READ: u64 = 1 << 20;
/// Files that are copied with an adapter, beside its configuration and tokenizer.
const SIDE_FILES: [&str; 3] = ["README.md", "LICENSE", "NOTICE"];
/// Limit of the bytes of all files beside the weights. A tokenizer has tens of megabytes.
const COMPANIONS: u64 = 1 << 28;
/// Blocks of each file that are hashed for the resume fingerprint.
const SAMPLES: u64 = 64;
/// Bytes of such a block.
const SAMPLE: u64 = 4 << 10;

/// An opened checkpoint.
pub(crate) struct Source {
    /// The headers.
    pub checkpoint: Checkpoint,
    /// The path that was given.
    pub path: PathBuf,
    place: Location,
    /// The checkpoint's files in its order; `None` for those that are not held open.
    files: Vec<Option<Box<dyn ReadAt>>>,
    /// Identities of the same files when they were opened first.
    identities: Vec<Option<FileIdentity>>,
    /// Every file that was opened, and its identity then.
    seen: Mutex<Vec<OpenedFile>>,
    /// The importance matrix to quantize it with.
    weights: Option<ImatrixFile>,
}

/// A file that was opened, and its identity then.
#[derive(Clone, Debug)]
struct OpenedFile {
    path: PathBuf,
    identity: FileIdentity,
}

fn changed(path: &Path) -> Error {
    Error::new(Code::Io, format!("{} changed while it was read; nothing made of it is valid", path.display()))
}

/// The paths of a checkpoint's files.
struct Location {
    /// The directory that names are relative to.
    dir: PathBuf,
    /// The file that was given, and its name here: the path need not be Unicode.
    root: Option<(String, PathBuf)>,
}

impl Location {
    fn path(&self, name: &str) -> PathBuf {
        match &self.root {
            Some((root, path)) if root == name => path.clone(),
            _ => self.dir.join(name),
        }
    }
}

impl Source {
    /// Opens the file or directory at `path`; only headers are read.
    pub(crate) fn open(path: &Path) -> Result<Source> {
        Source::open_with(&path.into(), false, false)
    }

    /// Opens a model; only headers are read.
    pub(crate) fn open_model(model: &ModelPath) -> Result<Source> {
        Source::open_with(model, false, false)
    }

    /// Opens the input of `recipe`: a conversion to GGUF also reads tokenizer, templates and model card; one of a GGUF to a
    /// Hugging Face folder, the small tensors that stay F32.
    pub(crate) fn open_for(model: &ModelPath, recipe: &Recipe) -> Result<Source> {
        let companions = recipe.reads_companions();
        let mut source = Source::open_with(model, companions, companions && recipe.pre_tokenizer.is_none())?;
        source.read_values(recipe)?;
        Ok(source)
    }

    fn open_with(model: &ModelPath, companions: bool, encode: bool) -> Result<Source> {
        let path: &Path = model;
        let about = |e: &std::io::Error| io_error(e, format!("cannot open {}", path.display()));
        let meta = fs::metadata(path).map_err(|e| about(&e))?;
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let (root, place) = if meta.is_dir() {
            (Root::Dir, Location { dir: path.to_path_buf(), root: None })
        } else if meta.is_file() {
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
            let dir = parent.unwrap_or(Path::new(".")).to_path_buf();
            (Root::File(&name), Location { dir, root: Some((name.clone(), path.to_path_buf())) })
        } else {
            return Err(Error::new(
                Code::Io,
                format!("{} is neither a file nor a directory", path.display()),
            ));
        };
        let (mut held, mut seen) = (HashMap::new(), Vec::new());
        let opening = Opening::new(root).with_apr_writer(model.apr_writer);
        let opening = if companions { opening.with_companions() } else { opening };
        let mut checkpoint =
            answer(opening, &place, &mut held, &mut seen).map_err(|e| in_place::interrupted(path, e))?;
        checkpoint.folder = folder_name(&place.dir);
        if encode {
            checkpoint.check_text_ids = check_text_ids(&checkpoint.companion_files, &HfEncoder).ok();
        }
        let files = checkpoint.files.iter().map(|f| held.remove(&f.name)).collect();
        let identities = {
            let by_path: HashMap<&Path, FileIdentity> =
                seen.iter().map(|s: &OpenedFile| (s.path.as_path(), s.identity)).collect();
            checkpoint.files.iter().map(|f| by_path.get(place.path(&f.name).as_path()).copied()).collect()
        };
        let (path, seen) = (path.to_path_buf(), Mutex::new(seen));
        let source = Source { checkpoint, path, place, files, identities, seen, weights: None };
        let read = source.checkpoint.companion_files.iter().map(|(name, _)| name);
        read.into_iter().try_for_each(|name| source.check_link(name))?;
        Ok(source)
    }

    /// Adds the importance matrix at `path`, if there is one.
    pub(crate) fn weighted(self, path: Option<&Path>) -> Result<Source> {
        let weights = path.map(ImatrixFile::open).transpose()?;
        if let Some(weights) = &weights {
            self.note(&weights.path, weights.identity());
        }
        Ok(Source { weights, ..self })
    }

    /// The importance matrix.
    pub(crate) fn imatrix(&self) -> Option<&Imatrix> {
        self.weights.as_ref().map(|w| &w.imatrix)
    }

    /// The paths of the checkpoint's files.
    pub(crate) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.checkpoint.files.iter().map(|f| self.place.path(&f.name))
    }

    /// The paths of every file that is read or copied: the weights, their index, the configuration, the
    /// tokenizer, the importance matrix.
    pub(crate) fn all_paths(&self) -> impl Iterator<Item = PathBuf> {
        let config = self.checkpoint.config.iter().map(|_| self.place.dir.join("config.json"));
        let beside = self.checkpoint.companions.iter().map(|c| self.place.dir.join(&c.name));
        self.paths().chain(config).chain(beside).chain(self.weights.iter().map(|w| w.path.clone()))
    }

    /// Whether a file of this name in the checkpoint's directory belongs to the model.
    pub(crate) fn has_file(&self, name: &str) -> bool {
        let c = &self.checkpoint;
        let adapter = c.files.iter().any(|f| f.name == "adapter_model.safetensors");
        let known = name == "config.json"
            || (adapter && (name == "adapter_config.json" || SIDE_FILES.contains(&name)));
        known || c.files.iter().any(|f| f.name == name) || c.companions.iter().any(|c| c.name == name)
    }

    /// Fails if the configuration, which is copied, is a link that leads out of the model's directory.
    pub(crate) fn check_config(&self) -> Result<()> {
        let config = self.checkpoint.config.as_ref();
        config.map_or(Ok(()), |_| self.check_link("config.json"))
    }

    /// Fills in the bytes of the files that `plan` copies from beside the weights. Without `contents`, the files are only
    /// checked.
    ///
    /// # Errors
    ///
    /// `too_many` if they have more bytes together than belongs to any model, `bad_name` if one is a link that leaves the
    /// model's directory.
    pub(crate) fn fill_copies(&self, plan: &mut Plan, contents: bool) -> Result<()> {
        let mut sum = 0_u64;
        for copy in plan.files.iter_mut().filter(|f| f.copied) {
            let name = copy.name.as_str();
            let path = self.place.dir.join(name);
            let file = open(&path)?.filter(|file| file.len() == copy.len).ok_or_else(|| changed(&path))?;
            self.check_link(name)?;
            let len = file.len();
            sum = sum.saturating_add(len);
            if sum > COMPANIONS {
                let message =
                    format!("the files beside the weights have more than {COMPANIONS} bytes together");
                return Err(Error::new(Code::TooMany, message).in_file(name));
            }
            if contents {
                copy.header = self.read_all(&path, &*file)?;
            }
        }
        Ok(())
    }

    /// The licence and similar files of an adapter that are present.
    pub(crate) fn side_files(&self) -> Result<Vec<Companion>> {
        let mut files = Vec::new();
        for name in SIDE_FILES {
            if let Some(file) = open(&self.place.dir.join(name))? {
                files.push(Companion { name: name.to_string(), len: file.len() });
            }
        }
        Ok(files)
    }

    /// All bytes of a file that was just opened.
    fn read_all(&self, path: &Path, file: &dyn ReadAt) -> Result<Vec<u8>> {
        self.note(path, file.identity());
        let mut bytes = vec![0; file.len() as usize];
        let about = |e: std::io::Error| io_error(&e, format!("cannot read {}", path.display()));
        file.read_exact_at(&mut bytes, 0).map_err(about)?;
        Ok(bytes)
    }

    /// Fails if a file that is copied is a link that leads out of the model.
    fn check_link(&self, name: &str) -> Result<()> {
        links::check_inside(&self.place.dir, name, self.paths())
    }

    /// The file of this name in the same directory, if there is one.
    pub(crate) fn read_beside(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.place.dir.join(name);
        let Some(file) = open(&path)? else { return Ok(None) };
        self.check_link(name)?;
        if file.len() > COMPANIONS {
            let message =
                format!("{name} has more than {COMPANIONS} bytes, too many for a file beside the weights");
            return Err(Error::new(Code::TooMany, message).in_file(name));
        }
        self.read_all(&path, &*file).map(Some)
    }

    fn note(&self, path: &Path, identity: FileIdentity) {
        let seen = OpenedFile { path: path.to_path_buf(), identity };
        self.seen.lock().unwrap_or_else(|e| e.into_inner()).push(seen);
    }

    fn seen(&self) -> Vec<OpenedFile> {
        self.seen.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Fails if a file was modified or replaced since it was opened.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        self.seen().iter().try_for_each(|seen| {
            let now = fs::metadata(&seen.path).map(|meta| FileIdentity::of(&meta));
            if now.is_ok_and(|now| now == seen.identity) { Ok(()) } else { Err(changed(&seen.path)) }
        })
    }

    /// The directory that holds the files.
    pub(crate) fn dir(&self) -> &Path {
        &self.place.dir
    }

    /// A file by its index: the handle that is held, or a new one in `opened`.
    fn handle<'a>(
        &'a self,
        file: u32,
        name: &str,
        opened: &'a mut Option<LocalFile>,
    ) -> Result<&'a dyn ReadAt> {
        if let Some(Some(held)) = self.files.get(file as usize) {
            return Ok(&**held);
        }
        let path = self.place.path(name);
        let about = |e: std::io::Error| io_error(&e, format!("cannot open {}", path.display()));
        let new = LocalFile::open(&path).map_err(about)?;
        match self.identities.get(file as usize).copied().flatten() {
            Some(then) if then != new.identity() => Err(changed(&path)),
            _ => Ok(opened.insert(new)),
        }
    }

    /// Reads a region of the importance matrix into `buffer`.
    pub(crate) fn read_weights(&self, region: &Region, buffer: &mut Vec<u8>) -> Result<()> {
        let missing = || Error::new(Code::Io, "a job reads an importance matrix that was not opened");
        self.weights.as_ref().ok_or_else(missing)?.read(region, buffer)
    }

    /// Reads a region of a file into `buffer`.
    ///
    /// # Errors
    ///
    /// `truncated` if the file became shorter, `memory_budget` if the region does not fit into memory.
    pub(crate) fn read(&self, file: u32, region: &Region, buffer: &mut Vec<u8>) -> Result<()> {
        let name = || self.checkpoint.files.get(file as usize).map_or("?", |f| f.name.as_str());
        resize(buffer, region.len())?;
        let mut rest = buffer.as_mut_slice();
        let mut opened = None;
        let handle = self.handle(file, name(), &mut opened)?;
        let read = |bytes: &mut [u8], offset: u64| {
            handle.read_exact_at(bytes, offset).map_err(|e| match e.kind() {
                std::io::ErrorKind::UnexpectedEof => {
                    Error::new(Code::Truncated, "the file became shorter while it was read")
                        .in_file(name())
                        .at(offset)
                }
                _ => io_error(&e, format!("cannot read {}", name())),
            })
        };
        let mut gaps = Vec::new();
        for Piece { offset, len, runs } in region.pieces() {
            let (part, tail) = rest.split_at_mut((runs * region.run) as usize);
            if runs == 1 {
                read(part, offset)?;
            } else {
                gaps.resize(len as usize, 0);
                read(&mut gaps, offset)?;
                let (run, stride) = (region.run.max(1) as usize, region.stride.max(1) as usize);
                for (to, from) in part.chunks_exact_mut(run).zip(gaps.chunks(stride)) {
                    to.copy_from_slice(&from[..run]);
                }
            }
            rest = tail;
        }
        Ok(())
    }

    /// Bytes that differ for sources with the same headers and other content: identities of the opened files,
    /// and digests of blocks spread over each of them.
    pub(crate) fn salt(&self) -> Result<Vec<u8>> {
        let mut salt = Vec::new();
        for seen in self.seen() {
            seen.identity.write(&mut salt);
        }
        for (index, file) in self.checkpoint.files.iter().enumerate() {
            salt.extend_from_slice(file.name.as_bytes());
            salt.extend_from_slice(&file.header_sha256);
            salt.extend_from_slice(&self.sample(index as u32, &file.name, file.len)?);
        }
        if let Some(weights) = &self.weights {
            salt.extend_from_slice(&weights.imatrix.sha256);
        }
        Ok(salt)
    }

    /// SHA-256 of blocks that are spread evenly over a file, its first and last bytes included.
    fn sample(&self, file: u32, name: &str, len: u64) -> Result<[u8; 32]> {
        let mut hash = Sha256::new();
        let mut opened = None;
        let handle = self.handle(file, name, &mut opened)?;
        let last = len.saturating_sub(SAMPLE);
        let mut block = vec![0; SAMPLE.min(len) as usize];
        let mut next = 0;
        for i in 0..SAMPLES {
            let offset = (u128::from(last) * u128::from(i) / u128::from(SAMPLES - 1)) as u64;
            // Blocks of a small file would overlap: each byte is read once.
            if i > 0 && offset < next {
                continue;
            }
            handle
                .read_exact_at(&mut block, offset)
                .map_err(|e| io_error(&e, format!("cannot read {name}")).in_file(name))?;
            hash.update(&block);
            next = offset + 1;
        }
        Ok(hash.finalize().into())
    }

    /// SHA-256 of every file, by name.
    pub(crate) fn hashes(&self) -> Result<Vec<(String, String)>> {
        let one = |(index, name): (usize, &str)| {
            let mut opened = None;
            let handle = self.handle(index as u32, name, &mut opened)?;
            let mut hash = Sha256::new();
            let mut buffer = vec![0; HEADER_READ as usize];
            let len = self.checkpoint.files.get(index).map_or(0, |f| f.len);
            for offset in (0..len).step_by(HEADER_READ as usize) {
                let piece = buffer.get_mut(..HEADER_READ.min(len - offset) as usize).unwrap_or_default();
                handle
                    .read_exact_at(piece, offset)
                    .map_err(|e| io_error(&e, format!("cannot read {name}")).in_file(name))?;
                hash.update(&*piece);
            }
            Ok((name.to_string(), hash.finalize().iter().map(|b| format!("{b:02x}")).collect()))
        };
        self.checkpoint.files.iter().map(|f| f.name.as_str()).enumerate().map(one).collect()
    }
}

/// Resizes a buffer for a window. Its old content is not cleared.
///
/// # Errors
///
/// `memory_budget` if there is no memory for it.
pub(crate) fn resize(buffer: &mut Vec<u8>, len: u64) -> Result<()> {
    let too_large =
        || Error::new(Code::MemoryBudget, format!("a window of {len} bytes does not fit into memory"));
    let len = usize::try_from(len).map_err(|_| too_large())?;
    buffer.try_reserve_exact(len.saturating_sub(buffer.len())).map_err(|_| too_large())?;
    buffer.resize(len, 0);
    Ok(())
}

/// Feeds `opening` until it is ready; opened files go to `held` up to a limit, and all of them to `seen`.
fn answer(
    mut opening: Opening,
    place: &Location,
    held: &mut HashMap<String, Box<dyn ReadAt>>,
    seen: &mut Vec<OpenedFile>,
) -> Result<Checkpoint> {
    let most = system_limits::held_open();
    // Only the file that was opened last is read.
    let mut last: Option<(String, Box<dyn ReadAt>)> = None;
    let mut buffer = Vec::new();
    loop {
        match opening.want() {
            Want::List => opening.listed(list(&place.dir)?)?,
            Want::Open(name) => {
                held.extend(last.take().filter(|_| held.len() < most));
                let path = place.path(&name);
                let found = open(&path)?;
                let len = found.as_ref().map(|file| file.len());
                if let Some(file) = &found {
                    seen.push(OpenedFile { path, identity: file.identity() });
                }
                last = found.map(|file| (name, file));
                opening.opened(len)?;
            }
            Want::Read { range, .. } => {
                let n = range.len().min(HEADER_READ) as usize;
                buffer.resize(n, 0);
                let unknown = || Error::new(Code::Io, "a file was asked for before it was opened");
                let (_, file) = last.as_ref().ok_or_else(unknown)?;
                match file.read_exact_at(&mut buffer, range.start) {
                    Ok(()) => opening.data(&buffer)?,
                    Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => opening.data(&[])?,
                    Err(e) => return Err(io_error(&e, "cannot read a header")),
                }
            }
            Want::Ready => {
                held.extend(last.filter(|_| held.len() < most));
                return opening.finish();
            }
        }
    }
}

/// The regular file at `path`. Anything else is treated as absent: opening a pipe would block.
fn open(path: &Path) -> Result<Option<Box<dyn ReadAt>>> {
    let about = |e: std::io::Error| io_error(&e, format!("cannot open {}", path.display()));
    let is_file = match fs::metadata(path) {
        Ok(meta) => meta.is_file(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
        Err(e) => return Err(about(e)),
    };
    if !is_file {
        return Ok(None);
    }
    Ok(Some(Box::new(LocalFile::open(path).map_err(about)?)))
}
