//! The state machine that opens a checkpoint: requests bytes from its driver until all headers are parsed.
//!
//! The driver answers each [`Opening::want`] until it is [`Want::Ready`]. Only headers are read, in bounded
//! pieces. Does no I/O, and knows paths inside the root directory only.

use super::header_buffer::{HeaderBuffer, ParseStep};
use super::missing::MissingFiles;
use super::reading::{FileRole, FileTask, Parser, Reading, check_text};
use super::shards::{Index, ShardHeader, ShardSet};
use super::{AprWriter, Checkpoint, Container, Warning};
use super::{companions, discover, gguf, index, json, limits, q4};
use crate::bytes::ByteRange;
use crate::error::{Code, Error, Result};
use crate::tensor::FileId;
use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

const CONFIG: &str = "config.json";

/// What the user opened.
#[derive(Clone, Copy, Debug)]
pub enum Root<'a> {
    /// A file, by its name inside its directory.
    File(&'a str),
    /// A directory.
    Dir,
}

/// Next request of an [`Opening`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// The files of the directory and their lengths; answered by [`Opening::listed`].
    List,
    /// The length of this file, or its absence; answered by [`Opening::opened`].
    Open(String),
    /// Bytes of a file; answered by [`Opening::data`].
    Read {
        /// Index of the file: files count from 0 in the order in which they were opened, absent ones left
        /// out.
        ///
        /// It is always the file that was opened last; [`Opening::file_name`] returns its name. It is also an
        /// index into [`Checkpoint::files`], except for `config.json` and the companions behind it, which come
        /// last and are not listed there.
        file: FileId,
        /// Requested bytes: not empty, inside the file, and at most [`limits::MAX_READ`].
        range: ByteRange,
    },
    /// No request: [`Opening::finish`] returns the result.
    Ready,
}

/// Opens a checkpoint: finds its files and parses their headers.
///
/// After an error it requests nothing more, and [`Opening::finish`] returns the error again. The crate
/// documentation has an example of a driver.
pub struct Opening {
    /// True if a directory was opened.
    dir: bool,
    /// Current request.
    pending: Pending,
    /// Files to open next.
    queue: VecDeque<FileTask>,
    /// Files of the directory and their lengths, sorted.
    listing: Vec<(String, u64)>,
    /// True until `config.json` was requested or found unnecessary.
    config_queued: bool,
    /// The program that wrote APR files, if the user knows it.
    apr_writer: Option<AprWriter>,
    /// The file that the user named, if it is one of a set.
    shard: Option<String>,
    /// The files of that set by their names, if it has no index.
    siblings: Vec<String>,
    missing: MissingFiles,
    /// True until the companions were queued; false if none are wanted.
    companions_due: bool,
    /// Bytes that companions may still have.
    companion_bytes: u64,
    /// Headers parsed so far.
    shards: ShardSet,
    /// The first error.
    failed: Option<Error>,
}

/// The current request, and its context.
enum Pending {
    List,
    Open(FileTask),
    Read(Box<Reading>),
    Nothing,
}

impl Opening {
    /// Starts at a file or a directory.
    pub fn new(root: Root<'_>) -> Opening {
        let mut opening = Opening {
            dir: matches!(root, Root::Dir),
            pending: Pending::List,
            queue: VecDeque::new(),
            listing: Vec::new(),
            config_queued: true,
            apr_writer: None,
            shard: None,
            siblings: Vec::new(),
            missing: MissingFiles::default(),
            companions_due: false,
            companion_bytes: limits::MAX_COMPANIONS,
            shards: ShardSet::default(),
            failed: None,
        };
        if let Root::File(name) = root {
            opening.shard = discover::set_of(name).map(|_| name.to_string());
            opening.plan(discover::from_name(name));
            opening.keep(Opening::advance).ok();
        }
        opening
    }

    /// Also reads the files beside the weights that a conversion to GGUF needs: tokenizer, templates, model card. Only
    /// beside safetensors; others are left out of the listing's [`Checkpoint::companions`].
    #[must_use]
    pub fn with_companions(self) -> Opening {
        Opening { companions_due: true, ..self }
    }

    /// Sets the program that wrote APR files, which decides the ambiguous dtype bytes of their tensors.
    #[must_use]
    pub fn with_apr_writer(self, writer: Option<AprWriter>) -> Opening {
        Opening { apr_writer: writer, ..self }
    }

    /// Returns the next request. Does not change the state.
    pub fn want(&self) -> Want {
        match &self.pending {
            _ if self.failed.is_some() => Want::Ready,
            Pending::List => Want::List,
            Pending::Open(task) => Want::Open(task.name.clone()),
            Pending::Read(reading) => Want::Read { file: reading.buffer.id, range: reading.buffer.range() },
            Pending::Nothing => Want::Ready,
        }
    }

    /// Returns the name of a file that a [`Want::Read`] refers to.
    pub fn file_name(&self, file: FileId) -> Option<&str> {
        match &self.pending {
            Pending::Read(reading) if reading.buffer.id == file => Some(&reading.buffer.name),
            _ => self.shards.files.get(usize::try_from(file).ok()?).map(|f| f.name.as_str()),
        }
    }

    /// Answers [`Want::List`] with all regular files of the directory and their lengths, in any order. Names
    /// are relative to the directory, separated by `/`.
    ///
    /// # Errors
    ///
    /// - [`Code::NotFound`] if the directory holds no weight files.
    /// - [`Code::Usage`] if it holds several checkpoints, or if nothing was requested.
    /// - [`Code::TooMany`] for more than [`limits::MAX_ENTRIES`] files.
    pub fn listed(&mut self, names: Vec<(String, u64)>) -> Result<()> {
        self.keep(|this| match this.pending {
            Pending::List => this.take_listing(names),
            _ => Err(misuse()),
        })
    }

    /// Answers [`Want::Open`] with the length of the file, or `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// - [`Code::NotFound`] if the file is the only one that was requested.
    /// - [`Code::BadIndex`] if a set of files is not complete.
    /// - [`Code::HeaderTooLarge`] for a JSON file above its limit, or companions above theirs.
    /// - [`Code::Usage`] if no file was requested.
    /// - For an empty file, an error of its parser.
    pub fn opened(&mut self, len: Option<u64>) -> Result<()> {
        self.keep(|this| match core::mem::replace(&mut this.pending, Pending::Nothing) {
            Pending::Open(task) => this.start(task, len),
            _ => Err(misuse()),
        })
    }

    /// Answers [`Want::Read`] with bytes from the start of the range, possibly fewer than requested.
    ///
    /// No bytes at all mean that the file became shorter.
    ///
    /// # Errors
    ///
    /// - [`Code::Truncated`] for an empty slice, or if the header extends beyond the file.
    /// - [`Code::BadMagic`] if the format is not recognized.
    /// - Any error of the format's parser, with file, tensor and byte offset.
    /// - [`Code::Usage`] if no bytes were requested.
    pub fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.keep(|this| match &mut this.pending {
            Pending::Read(reading) => {
                reading.buffer.push(bytes).map_err(|e| e.in_file(&reading.buffer.name))?;
                this.parse()
            }
            _ => Err(misuse()),
        })
    }

    /// Returns the checkpoint once [`Opening::want`] is [`Want::Ready`].
    ///
    /// # Errors
    ///
    /// - The error of an earlier answer.
    /// - [`Code::Empty`] if there is no weight file.
    /// - [`Code::BadIndex`] if the index and the files disagree.
    /// - [`Code::DuplicateName`] if two files hold a tensor of the same name.
    /// - [`Code::BadValue`] if the files of a GGUF split disagree.
    /// - [`Code::Usage`] if a request is still open.
    pub fn finish(self) -> Result<Checkpoint> {
        match self.failed {
            Some(error) => Err(error),
            None if self.want() != Want::Ready => Err(misuse()),
            None => self.shards.join(),
        }
    }

    /// Runs a step and records its error, so that later calls return it again.
    fn keep(&mut self, work: impl FnOnce(&mut Opening) -> Result<()>) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let outcome = work(self);
        self.failed = outcome.as_ref().err().cloned();
        outcome
    }

    /// Selects the files of a directory listing.
    fn take_listing(&mut self, names: Vec<(String, u64)>) -> Result<()> {
        self.listing = discover::sorted(names)?;
        let tops: Vec<&str> =
            self.listing.iter().map(|(n, _)| n.as_str()).filter(|n| !n.contains('/')).collect();
        let set = discover::choose(&tops, &self.listing)?;
        self.config_queued = tops.contains(&CONFIG);
        self.shards.companions = discover::companions(&self.listing);
        self.plan(set);
        self.advance()
    }

    /// Queues the files of a selection.
    fn plan(&mut self, set: discover::WeightFiles) {
        match set {
            discover::WeightFiles::Index(name) => {
                self.queue.push_back(FileTask { name, role: FileRole::Index })
            }
            discover::WeightFiles::One(name) => self.queue.push_back(FileTask { name, role: FileRole::Any }),
            discover::WeightFiles::Split(names) => {
                self.shards.split = Some(names.len() as u64);
                self.plan_parts(names, Container::Gguf);
            }
            discover::WeightFiles::AprShards(names) => self.plan_parts(names, Container::Apr),
            discover::WeightFiles::Shards { index: None, files } => {
                self.plan_parts(files, Container::Safetensors)
            }
            discover::WeightFiles::Shards { index: Some(name), files } => {
                self.siblings = files;
                self.queue.push_back(FileTask { name, role: FileRole::OptionalIndex });
            }
            discover::WeightFiles::Lattice(names) => self.plan_parts(names, Container::LatticeQ4),
        }
    }

    /// Queues weight files of a known container.
    fn plan_parts(&mut self, names: Vec<String>, container: Container) {
        self.queue.extend(names.into_iter().map(|name| FileTask { name, role: FileRole::Part(container) }));
    }

    /// Proceeds to the next file. `config.json` comes last, when the container is known.
    fn advance(&mut self) -> Result<()> {
        if let (true, Some(error)) = (self.queue.is_empty(), self.missing.error()) {
            return Err(error);
        }
        let due = core::mem::take(&mut self.config_queued);
        self.pending = match self.queue.pop_front() {
            Some(task) => {
                self.config_queued = due;
                Pending::Open(task)
            }
            None if due && self.shards.container() != Some(Container::Gguf) => {
                Pending::Open(FileTask { name: CONFIG.to_string(), role: FileRole::Config })
            }
            None if core::mem::take(&mut self.companions_due) => {
                self.queue_companions();
                return self.advance();
            }
            None => Pending::Nothing,
        };
        if matches!(self.pending, Pending::Nothing) {
            self.warn();
        }
        Ok(())
    }

    /// Warns about what was read beside the named file, or left out of the directory.
    fn warn(&mut self) {
        let used: BTreeSet<&str> = self.shards.files.iter().map(|f| f.name.as_str()).collect();
        let unused = self.dir.then(|| discover::unused(&self.listing, &used)).flatten();
        let first_of_split = self.shards.split.is_some()
            && self.shards.files.first().is_some_and(|f| Some(&f.name) == self.shard.as_ref());
        let whole = self.shard.as_ref().filter(|_| !first_of_split).map(|name| Warning {
            code: "whole_set",
            message: format!(
                "{name} is one of {} files of a model: all of them are read",
                self.shards.parts.len()
            ),
        });
        self.shards.warnings.extend(unused.into_iter().chain(whole));
    }

    /// Records that the file of a task does not exist.
    fn skip(&mut self, task: FileTask) -> Result<()> {
        match task.role {
            FileRole::Config | FileRole::Companion => {}
            FileRole::OptionalIndex => {
                let files = core::mem::take(&mut self.siblings);
                self.plan_parts(files, Container::Safetensors);
            }
            FileRole::Any | FileRole::Index => Err(Error::new(Code::NotFound, "the file does not exist"))
                .map_err(|e: Error| e.in_file(&task.name))?,
            FileRole::Part(_) if self.missing.push(task.name) => self.queue.clear(),
            FileRole::Part(_) => {}
        }
        self.advance()
    }

    /// Queues the files beside safetensors weights. Without a listing each of them is tried.
    fn queue_companions(&mut self) {
        if self.shards.container() != Some(Container::Safetensors) {
            return;
        }
        let listed = |name: &str| !self.dir || self.listing.iter().any(|(n, _)| n == name);
        let known = companions::NAMES.iter().filter(|n| listed(n)).map(ToString::to_string);
        let templates = self.listing.iter().map(|(n, _)| n).filter(|n| companions::is_template(n)).cloned();
        let tasks = known.chain(templates).map(|name| FileTask { name, role: FileRole::Companion });
        self.queue.extend(tasks);
    }

    /// Starts to read a file.
    fn start(&mut self, task: FileTask, len: Option<u64>) -> Result<()> {
        let Some(len) = len else { return self.skip(task) };
        let id = FileId::try_from(self.shards.files.len());
        let id = id.map_err(|_| Error::new(Code::TooMany, "too many files"))?;
        let parser = match task.role {
            FileRole::Any => Parser::Sniff(self.apr_writer),
            FileRole::Part(Container::Safetensors) => Parser::Safetensors,
            FileRole::Part(Container::Gguf) => Parser::Gguf(Box::new(gguf::GgufReader::new(len))),
            FileRole::Part(Container::LatticeQ4) => Parser::Lattice,
            FileRole::Index | FileRole::OptionalIndex | FileRole::Config | FileRole::Companion => {
                Parser::Text
            }
            FileRole::Part(Container::Apr) => Parser::Apr(self.apr_writer),
        };
        check_text(&task, len, &parser)?;
        if task.role == FileRole::Companion {
            self.companion_bytes = self.companion_bytes.checked_sub(len).ok_or_else(|| {
                let max = limits::MAX_COMPANIONS;
                let message = format!("the files beside the weights have more than {max} bytes together");
                Error::new(Code::HeaderTooLarge, message).in_file(&task.name)
            })?;
        }
        let first = match parser {
            Parser::Lattice => limits::FIRST_READ_SMALL,
            _ => limits::FIRST_READ,
        };
        let buffer = HeaderBuffer::new(id, task.name, len, first);
        self.pending = Pending::Read(Box::new(Reading { buffer, role: task.role, parser }));
        self.parse()
    }

    /// Parses as far as the buffered bytes reach.
    fn parse(&mut self) -> Result<()> {
        let Pending::Read(mut reading) = core::mem::replace(&mut self.pending, Pending::Nothing) else {
            return Ok(());
        };
        while reading.buffer.is_enough() {
            if let Some(step) = reading.step().map_err(|e| e.in_file(&reading.buffer.name))? {
                let name = reading.buffer.name.clone();
                self.absorb(*reading, step).map_err(|e| e.in_file(&name))?;
                return self.advance();
            }
        }
        self.pending = Pending::Read(reading);
        Ok(())
    }

    /// Keeps the parsed content of a file.
    fn absorb(&mut self, reading: Reading, step: ParseStep) -> Result<()> {
        let file = reading.buffer.id;
        let source = reading.buffer.into_source();
        match step {
            ParseStep::Done(header) => {
                let name = source.name.clone();
                self.shards.files.push(source);
                self.shards.take(ShardHeader { file, name, header })?;
            }
            ParseStep::Text(text) if reading.role == FileRole::Config => {
                // Python writes `Infinity` and `NaN`, which are not JSON. The weights do not depend on it, so
                // the bytes are kept; a later reader of the configuration will not find its keys.
                match json::document(&text, 0) {
                    Err(e) if e.code() == Code::BadJson => self.shards.warnings.push(Warning {
                        code: "config_not_json",
                        message: format!("config.json is not valid JSON, so its keys cannot be read: {e}"),
                    }),
                    checked => {
                        checked?;
                    }
                }
                self.shards.config = Some(text);
            }
            ParseStep::Text(text) if reading.role == FileRole::Companion => {
                if source.name == companions::MODULES {
                    let role = FileRole::Companion;
                    self.queue.extend(
                        companions::pooling_configs(&text).into_iter().map(|name| FileTask { name, role }),
                    );
                }
                self.shards.companion_files.0.push((source.name, text));
            }
            ParseStep::Text(text) => {
                self.take_index(&text, &source.name)?;
                self.shards.files.push(source);
            }
        }
        Ok(())
    }

    /// Parses an index and queues the files that it lists.
    fn take_index(&mut self, text: &[u8], name: &str) -> Result<()> {
        let json = json::document(text, 0)?;
        if name == discover::Q4_INDEX || q4::is_likely(json) {
            let index = q4::parse(json)?;
            let mut names: Vec<String> = index.entries.iter().map(|e| e.file.clone()).collect();
            names.sort();
            self.plan_parts(names, Container::LatticeQ4);
            self.shards.index = Some(Index::Q4(index));
        } else {
            let index = index::parse(json)?;
            if let Some(shard) = self.shard.as_ref().filter(|s| !index.shards.contains(s)) {
                return Err(Error::new(Code::BadIndex, format!("the index does not list {shard:?}")));
            }
            let apr = index.shards.iter().all(|name| name.ends_with(".apr"));
            let container = if apr { Container::Apr } else { Container::Safetensors };
            self.plan_parts(index.shards.clone(), container);
            self.shards.index = Some(Index::Shards(index));
        }
        Ok(())
    }
}

/// Error of a driver that answers another request than the current one.
fn misuse() -> Error {
    Error::new(Code::Usage, "the driver's answer does not match the request")
}
