//! The one state machine: finds out what a file or directory holds, asking its driver for bytes.
//!
//! The driver answers whatever [`Opening::want`] names until it is [`Want::Ready`]. No file is read but its header, in
//! bounded pieces. Does no I/O and knows no path beyond names inside the root directory.

use super::header_buffer::{HeaderBuffer, ParseStep, ParseStop};
use super::shards::{Index, ShardHeader, ShardSet};
use super::{Checkpoint, Container, Warning, discover, gguf, index, json, limits, q4, safetensors};
use crate::bytes::{ByteRange, Cursor};
use crate::error::{Code, Error, Result};
use crate::tensor::FileId;
use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

const CONFIG: &str = "config.json";

/// What the user pointed to.
#[derive(Clone, Copy, Debug)]
pub enum Root<'a> {
    /// A file, by its name in its own directory.
    File(&'a str),
    /// A directory.
    Dir,
}

/// What an [`Opening`] needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// All plain files of the directory: [`Opening::listed`].
    List,
    /// The length of this file, or that it is absent: [`Opening::opened`].
    Open(String),
    /// Bytes from the start of this range: [`Opening::data`].
    Read {
        /// Files count from 0 in the order in which they were opened, absent ones left out. It is always the last
        /// one; [`Opening::file_name`] has its name. Indexes [`Checkpoint::files`] too (`config.json` comes last
        /// and is not in there).
        file: FileId,
        /// Never empty, never past the end, never more than [`limits::MAX_READ`].
        range: ByteRange,
    },
    /// Nothing: [`Opening::finish`].
    Ready,
}

/// Finds out what a checkpoint is made of. After an error it wants nothing more, and `finish` repeats the error.
pub struct Opening {
    dir: bool,
    now: Now,
    todo: VecDeque<FileTask>,
    listing: Vec<(String, u64)>,
    /// Whether `config.json` is still to be asked for.
    config_due: bool,
    gathered: ShardSet,
    failed: Option<Error>,
}

/// What was asked for.
enum Now {
    List,
    Open(FileTask),
    Read(Box<Reading>),
    Nothing,
}

/// A file to be read, and what for.
#[derive(Clone)]
struct FileTask {
    name: String,
    role: FileRole,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FileRole {
    /// The file that was named: whatever it is.
    Any,
    /// A part of a set whose container is known.
    Part(Container),
    /// An index of either kind.
    Index,
    Config,
}

struct Reading {
    feed: HeaderBuffer,
    role: FileRole,
    parser: Parser,
}

enum Parser {
    /// Not decided yet: the first bytes will tell.
    Sniff,
    Safetensors,
    Gguf(Box<gguf::GgufReader>),
    Lattice,
    /// All of the file, for JSON.
    Text,
}

impl Opening {
    /// Starts at a file or a directory.
    pub fn new(root: Root<'_>) -> Opening {
        let mut opening = Opening {
            dir: matches!(root, Root::Dir),
            now: Now::List,
            todo: VecDeque::new(),
            listing: Vec::new(),
            config_due: true,
            gathered: ShardSet::default(),
            failed: None,
        };
        if let Root::File(name) = root {
            opening.plan(discover::from_name(name));
            opening.advance();
        }
        opening
    }

    /// What is needed next. Asking twice changes nothing.
    pub fn want(&self) -> Want {
        match &self.now {
            _ if self.failed.is_some() => Want::Ready,
            Now::List => Want::List,
            Now::Open(task) => Want::Open(task.name.clone()),
            Now::Read(reading) => Want::Read { file: reading.feed.id, range: reading.feed.range() },
            Now::Nothing => Want::Ready,
        }
    }

    /// The name of a file that a [`Want::Read`] names.
    pub fn file_name(&self, file: FileId) -> Option<&str> {
        match &self.now {
            Now::Read(reading) if reading.feed.id == file => Some(&reading.feed.name),
            _ => self.gathered.files.get(usize::try_from(file).ok()?).map(|f| f.name.as_str()),
        }
    }

    /// Answers [`Want::List`]: all plain files of the directory with their lengths, names relative to it, in any order.
    pub fn listed(&mut self, names: Vec<(String, u64)>) -> Result<()> {
        self.keep(|me| match me.now {
            Now::List => me.take_listing(names),
            _ => Err(misuse()),
        })
    }

    /// Answers [`Want::Open`]: the length of the file, or `None` where there is none.
    pub fn opened(&mut self, len: Option<u64>) -> Result<()> {
        self.keep(|me| match core::mem::replace(&mut me.now, Now::Nothing) {
            Now::Open(task) => me.start(task, len),
            _ => Err(misuse()),
        })
    }

    /// Answers [`Want::Read`]: bytes from the start of the range, fewer than it has if need be. No bytes at all mean
    /// that the file has become shorter.
    pub fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.keep(|me| match &mut me.now {
            Now::Read(reading) => {
                reading.feed.push(bytes).map_err(|e| e.in_file(&reading.feed.name))?;
                me.parse()
            }
            _ => Err(misuse()),
        })
    }

    /// The checkpoint, where nothing more is wanted.
    pub fn finish(self) -> Result<Checkpoint> {
        match self.failed {
            Some(error) => Err(error),
            None if self.want() != Want::Ready => Err(misuse()),
            None => self.gathered.join(),
        }
    }

    /// Remembers an error, so that a driver that misses it is told again.
    fn keep(&mut self, work: impl FnOnce(&mut Opening) -> Result<()>) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let outcome = work(self);
        self.failed = outcome.as_ref().err().cloned();
        outcome
    }

    fn take_listing(&mut self, names: Vec<(String, u64)>) -> Result<()> {
        self.listing = discover::sorted(names)?;
        let tops: Vec<&str> =
            self.listing.iter().map(|(n, _)| n.as_str()).filter(|n| !n.contains('/')).collect();
        let set = discover::choose(&tops)?;
        self.config_due = tops.contains(&CONFIG);
        self.gathered.companions = discover::companions(&self.listing);
        self.plan(set);
        self.advance();
        Ok(())
    }

    fn plan(&mut self, set: discover::WeightFiles) {
        match set {
            discover::WeightFiles::Index(name) => {
                self.todo.push_back(FileTask { name, role: FileRole::Index })
            }
            discover::WeightFiles::One(name) => self.todo.push_back(FileTask { name, role: FileRole::Any }),
            discover::WeightFiles::Split(names) => {
                self.gathered.split = Some(names.len() as u64);
                self.plan_parts(names, Container::Gguf);
            }
            discover::WeightFiles::Lattice(names) => self.plan_parts(names, Container::LatticeQ4),
        }
    }

    fn plan_parts(&mut self, names: Vec<String>, container: Container) {
        self.todo.extend(names.into_iter().map(|name| FileTask { name, role: FileRole::Part(container) }));
    }

    /// Goes on to the next file, if there is one; `config.json` last, when it is known whether it matters.
    fn advance(&mut self) {
        let due = core::mem::take(&mut self.config_due);
        self.now = match self.todo.pop_front() {
            Some(task) => {
                self.config_due = due;
                Now::Open(task)
            }
            None if due && self.gathered.container() != Some(Container::Gguf) => {
                Now::Open(FileTask { name: CONFIG.to_string(), role: FileRole::Config })
            }
            None => Now::Nothing,
        };
        if matches!(self.now, Now::Nothing) && self.dir {
            let used: BTreeSet<&str> = self.gathered.files.iter().map(|f| f.name.as_str()).collect();
            self.gathered.warnings.extend(discover::unused(&self.listing, &used));
        }
    }

    fn start(&mut self, task: FileTask, len: Option<u64>) -> Result<()> {
        let Some(len) = len else {
            if task.role == FileRole::Config {
                self.advance();
                return Ok(());
            }
            let words = "the file is not there, and the checkpoint needs it";
            return Err(Error::new(Code::NotFound, words).in_file(&task.name));
        };
        let id = FileId::try_from(self.gathered.files.len());
        let id = id.map_err(|_| Error::new(Code::TooMany, "more files than can be numbered"))?;
        let parser = match task.role {
            FileRole::Any => Parser::Sniff,
            FileRole::Part(Container::Safetensors) => Parser::Safetensors,
            FileRole::Part(Container::Gguf) => Parser::Gguf(Box::new(gguf::GgufReader::new(len))),
            FileRole::Part(Container::LatticeQ4) => Parser::Lattice,
            FileRole::Index | FileRole::Config => Parser::Text,
        };
        check_text(&task, len, &parser)?;
        let first = match parser {
            Parser::Lattice => limits::FIRST_READ_SMALL,
            _ => limits::FIRST_READ,
        };
        let feed = HeaderBuffer::new(id, task.name, len, first);
        self.now = Now::Read(Box::new(Reading { feed, role: task.role, parser }));
        self.parse()
    }

    /// Parses as far as the bytes in hand reach.
    fn parse(&mut self) -> Result<()> {
        let Now::Read(mut reading) = core::mem::replace(&mut self.now, Now::Nothing) else { return Ok(()) };
        while reading.feed.is_enough() {
            if let Some(step) = reading.step().map_err(|e| e.in_file(&reading.feed.name))? {
                let name = reading.feed.name.clone();
                self.absorb(*reading, step).map_err(|e| e.in_file(&name))?;
                self.advance();
                return Ok(());
            }
        }
        self.now = Now::Read(reading);
        Ok(())
    }

    /// Keeps what a file said.
    fn absorb(&mut self, reading: Reading, step: ParseStep) -> Result<()> {
        let file = reading.feed.id;
        let source = reading.feed.into_source();
        match step {
            ParseStep::Done(header) => {
                let name = source.name.clone();
                self.gathered.files.push(source);
                self.gathered.take(ShardHeader { file, name, header })?;
            }
            ParseStep::Text(text) if reading.role == FileRole::Config => {
                // Python writes `Infinity` and `NaN`, which JSON does not have. The weights are none the worse for it:
                // the bytes are kept, and whoever needs a key of it will not find it.
                match json::document(&text, 0) {
                    Err(e) if e.code() == Code::BadJson => self.gathered.warnings.push(Warning {
                        code: "config_not_json",
                        message: format!("config.json is not JSON and is not understood: {e}"),
                    }),
                    checked => {
                        checked?;
                    }
                }
                self.gathered.config = Some(text);
            }
            ParseStep::Text(text) => {
                self.take_index(&text, &source.name)?;
                self.gathered.files.push(source);
            }
        }
        Ok(())
    }

    /// An index names the files to read next.
    fn take_index(&mut self, text: &[u8], name: &str) -> Result<()> {
        let json = json::document(text, 0)?;
        if name == discover::Q4_INDEX || q4::is_likely(json) {
            let index = q4::parse(json)?;
            let mut names: Vec<String> = index.entries.iter().map(|e| e.file.clone()).collect();
            names.sort();
            self.plan_parts(names, Container::LatticeQ4);
            self.gathered.index = Some(Index::Q4(index));
        } else {
            let index = index::parse(json)?;
            self.plan_parts(index.shards.clone(), Container::Safetensors);
            self.gathered.index = Some(Index::Shards(index));
        }
        Ok(())
    }
}

impl Reading {
    /// Lets the parser go on; `None` where it needs more.
    fn step(&mut self) -> Result<Option<ParseStep>> {
        let Reading { feed, parser, .. } = self;
        let (len, name) = (feed.len, feed.name.clone());
        let mut step = |cursor: &mut Cursor<'_>| {
            if matches!(parser, Parser::Sniff) {
                *parser = sniff(cursor, len, &name)?;
            }
            match parser {
                Parser::Gguf(reader) => reader.step(cursor),
                Parser::Lattice => q4::read(cursor, len, &name),
                Parser::Text => Ok(ParseStep::Text(cursor.take(len)?.to_vec())),
                Parser::Safetensors | Parser::Sniff => safetensors::read(cursor, len),
            }
        };
        feed.parse(&mut step)
    }
}

/// Decides by the first bytes; the name speaks only where they say nothing, so that a damaged file is told as such.
fn sniff(cursor: &Cursor<'_>, len: u64, name: &str) -> Result<Parser, ParseStop> {
    let head = cursor.clone().take(len.min(9))?;
    let is = |extension: &str| name.ends_with(extension);
    if head.starts_with(&gguf::MAGIC) || (is(".gguf") && !safetensors::is_likely(head, len)) {
        return Ok(Parser::Gguf(Box::new(gguf::GgufReader::new(len))));
    }
    if q4::is_magic(head) || is(".q4") || is(".f16") {
        return Ok(Parser::Lattice);
    }
    if safetensors::is_likely(head, len) || is(".safetensors") {
        return Ok(Parser::Safetensors);
    }
    if matches!(head.trim_ascii_start().first(), Some(b'{' | b'[')) || is(".json") {
        let task = FileTask { name: name.to_string(), role: FileRole::Index };
        check_text(&task, len, &Parser::Text)?;
        return Ok(Parser::Text);
    }
    let hint = match head {
        [b'P', b'K', 3, 4, ..] => ": a zip archive, as PyTorch writes; convert it to safetensors",
        [b'l' | b't', b'm' | b'j', b'g', b'g', ..] | [b'f', b'm', b'g', b'g', ..] => {
            ": a ggml file older than GGUF"
        }
        _ => "",
    };
    let words = format!("neither safetensors nor GGUF nor lattice q4{hint}");
    Err(Error::new(Code::BadMagic, words).at(0).into())
}

/// Files that are read whole are held against their limit before the first byte.
fn check_text(task: &FileTask, len: u64, parser: &Parser) -> Result<()> {
    let max = match task.role {
        FileRole::Config => limits::MAX_CONFIG,
        _ if task.name == discover::Q4_INDEX => limits::MAX_Q4_INDEX,
        _ => limits::MAX_INDEX,
    };
    if matches!(parser, Parser::Text) && len > max {
        let words = format!("a file of {len} bytes, at most {max} are read");
        return Err(Error::new(Code::HeaderTooLarge, words).at(max).in_file(&task.name));
    }
    Ok(())
}

fn misuse() -> Error {
    Error::new(Code::Usage, "the driver's answer does not fit what was asked for")
}
