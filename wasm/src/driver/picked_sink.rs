//! Files that a person picked: the browser writes beside each and puts it in place at the end.

use crate::driver::block_writer::{Block, BlockWriter};
use crate::driver::browser::{property, thrown};
use crate::driver::inputs::Inputs;
use crate::driver::sink::{BYTES_PER_MS, CALL_MS, OutFiles, Written, done, removed, settled, unanswered};
use crate::driver::watch::{Unanswered, Watch};
use js_sys::{AsyncIterator, Function, Promise, Uint8Array};
use quantoscope_core::error::{Code, Error, Result};
use std::mem::replace;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{
    File, FileSystemCreateWritableOptions, FileSystemDirectoryHandle, FileSystemFileHandle,
    FileSystemGetFileOptions, FileSystemWritableFileStream, WriteCommandType, WriteParams,
};

/// A picked file, or a picked folder and its files.
pub struct PickedSink {
    files: OutFiles,
    folder: Option<Folder>,
    /// Handles of the files that were made, by number.
    made: Vec<Option<FileSystemFileHandle>>,
    open: Option<(usize, FileStream)>,
    blocks: BlockWriter,
    /// The write that is under way.
    underway: Option<Underway>,
}

struct Folder {
    handle: FileSystemDirectoryHandle,
    /// True once it was found to be empty: then what is in it is ours.
    ours: bool,
}

struct Underway {
    call: JsFuture,
    file: usize,
    bytes: Uint8Array,
}

impl PickedSink {
    /// Writes the only file to `handle`.
    pub fn file(handle: FileSystemFileHandle, files: OutFiles) -> PickedSink {
        PickedSink::new(files, None, vec![Some(handle)])
    }

    /// Writes into a folder. It must be empty: nothing of a person's is replaced.
    pub fn folder(handle: FileSystemDirectoryHandle, files: OutFiles) -> PickedSink {
        let made = vec![None; files.count()];
        PickedSink::new(files, Some(Folder { handle, ours: false }), made)
    }

    fn new(files: OutFiles, folder: Option<Folder>, made: Vec<Option<FileSystemFileHandle>>) -> PickedSink {
        PickedSink { files, folder, made, open: None, blocks: BlockWriter::default(), underway: None }
    }

    /// See [`crate::driver::sink::OutputSink::open`].
    ///
    /// # Errors
    /// `exists` for a folder that is not empty; `same_file` for a file of `inputs`; `io`; `interrupted`.
    pub async fn open(&mut self, inputs: &Inputs, watch: &Watch) -> Result<()> {
        if let Some(folder) = &mut self.folder {
            let name = folder.handle.name();
            let keys: AsyncIterator = folder.handle.keys();
            let first = keys.next().map_err(|e| thrown(&e).in_file(&name))?;
            let first = done(first, &name, "list the folder", watch).await?;
            if !property(&first, "done").is_truthy() {
                return Err(Error::new(Code::Exists, format!("{name} is not empty")));
            }
            folder.ours = true;
            return Ok(());
        }
        let Some(Some(handle)) = self.made.first().cloned() else { return Ok(()) };
        let old = get_file(&handle, watch).await?;
        if old.size() > 0.0 && inputs.all().any(|input| is_same(input, &old)) {
            return Err(Error::new(Code::SameFile, "input and output are the same").in_file(&old.name()));
        }
        let stream = FileStream::open(&handle, false, watch).await?;
        let (_, stream) = self.open.insert((0, stream));
        stream.truncate(self.files.len(0), watch).await?;
        let files = self.files.clone();
        let mut at = 0;
        while let Some(piece) = files.start(0, at, watch).await? {
            self.write(0, at, &piece, watch).await?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// See [`crate::driver::sink::OutputSink::write`].
    ///
    /// # Errors
    /// `no_space` or `io`, also of a write before; `interrupted`.
    pub async fn write(&mut self, file: usize, at: u64, bytes: &[u8], watch: &Watch) -> Result<()> {
        if let Some(block) = self.blocks.turn_to(file, at) {
            self.put(block, watch).await?;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let (taken, full) = self.blocks.fill(rest);
            rest = rest.split_at(taken).1;
            if let Some(block) = full {
                self.put(block, watch).await?;
            }
        }
        Ok(())
    }

    /// Starts to write a block once the one before it is written.
    async fn put(&mut self, block: Block, watch: &Watch) -> Result<()> {
        self.settle(watch).await?;
        let Block { file, at, bytes } = block;
        let stream = self.turn_to(file, watch).await?;
        let call = stream.start_write(at, &bytes)?;
        self.underway = Some(Underway { call, file, bytes });
        Ok(())
    }

    /// Waits for the write that is under way.
    async fn settle(&mut self, watch: &Watch) -> Result<()> {
        let Some(underway) = &mut self.underway else { return Ok(()) };
        let Underway { call, file, bytes } = underway;
        let name = self.open.as_ref().map_or_else(|| self.files.name(*file), |(_, stream)| &stream.name);
        settled(call, name, "finish a write", watch).await?;
        self.blocks.reuse(bytes);
        self.underway = None;
        Ok(())
    }

    /// The open stream of a file; that of another file is closed first. No write may be under way.
    async fn turn_to(&mut self, file: usize, watch: &Watch) -> Result<&mut FileStream> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != file) {
            self.leave(watch).await?;
            let known = self.made.get(file).cloned().flatten();
            let is_new = known.is_none();
            let handle = match known {
                Some(handle) => handle,
                None => self.make(file, watch).await?,
            };
            let stream = self.open.insert((file, FileStream::open(&handle, !is_new, watch).await?));
            if is_new {
                begin(&mut stream.1, &self.files, file, watch).await?;
            }
        }
        let none = || Error::new(Code::Usage, "the file of a window is not there");
        self.open.as_mut().map(|(_, stream)| stream).ok_or_else(none)
    }

    /// Makes a file of the folder.
    async fn make(&mut self, file: usize, watch: &Watch) -> Result<FileSystemFileHandle> {
        let none = || Error::new(Code::Usage, "the file of a window is not there");
        let folder = self.folder.as_ref().ok_or_else(none)?;
        let name = self.files.name(file);
        let options = FileSystemGetFileOptions::new();
        options.set_create(true);
        let call = folder.handle.get_file_handle_with_options(name, &options);
        let handle: FileSystemFileHandle = done(call, name, "make the file", watch).await?.unchecked_into();
        *self.made.get_mut(file).ok_or_else(none)? = Some(handle.clone());
        Ok(handle)
    }

    async fn leave(&mut self, watch: &Watch) -> Result<()> {
        if let Some((file, stream)) = &mut self.open {
            stream.close(self.files.len(*file), watch).await?;
            if self.folder.is_some() {
                self.open = None;
            }
        }
        Ok(())
    }

    /// See [`crate::driver::sink::OutputSink::finish`].
    ///
    /// # Errors
    /// `no_space` or `io`; `interrupted`.
    pub async fn finish(&mut self, watch: &Watch) -> Result<Written> {
        if let Some(block) = self.blocks.cut() {
            self.put(block, watch).await?;
        }
        self.settle(watch).await?;
        // Files without tensor data, such as the index, were not turned to yet.
        for file in 0..self.made.len() {
            if self.made.get(file).is_some_and(Option::is_none) {
                self.turn_to(file, watch).await?;
            }
        }
        self.leave(watch).await?;
        let mut written = Written::default();
        for handle in self.made.iter().flatten() {
            let file = get_file(handle, watch).await?;
            let path = match &self.folder {
                Some(folder) => format!("{}/{}", folder.handle.name(), file.name()),
                None => file.name(),
            };
            written.files.push((path, file));
        }
        Ok(written)
    }

    /// True where a file is being put in place, or is.
    pub fn may_be_whole(&self) -> bool {
        self.folder.is_none() && self.open.as_ref().is_some_and(|(_, stream)| !stream.state.is_open())
    }

    /// Removes what was made.
    ///
    /// # Errors
    /// What the browser threw.
    pub async fn remove(self) -> Result<(), JsValue> {
        if let Some((_, stream)) = self.open {
            stream.abort().await?;
        }
        match self.folder {
            // The folder was empty, so all of these are ours; one that was never made is gone already.
            Some(folder) if folder.ours => {
                for file in 0..self.files.count() {
                    removed(folder.handle.remove_entry(self.files.name(file))).await?;
                }
                Ok(())
            }
            Some(_) => Ok(()),
            None => match self.made.into_iter().flatten().next() {
                Some(handle) => drop_empty(handle).await,
                None => Ok(()),
            },
        }
    }
}

/// Sets the length of a new file of a folder, and writes what no window writes.
async fn begin(stream: &mut FileStream, files: &OutFiles, file: usize, watch: &Watch) -> Result<()> {
    stream.truncate(files.len(file), watch).await?;
    let mut at = 0;
    while let Some(piece) = files.start(file, at, watch).await? {
        let mut call = stream.start_write(at, &Uint8Array::from(&*piece))?;
        settled(&mut call, &stream.name, "finish a write", watch).await?;
        at += piece.len() as u64;
    }
    Ok(())
}

async fn get_file(handle: &FileSystemFileHandle, watch: &Watch) -> Result<File> {
    Ok(done(handle.get_file(), &handle.name(), "open the file", watch).await?.unchecked_into())
}

/// A file that was dropped has no identity but these; taking two files for one refuses, which is the safe side.
fn is_same(a: &File, b: &File) -> bool {
    a.name() == b.name() && a.size() == b.size() && a.last_modified() == b.last_modified()
}

/// Removes a file that holds nothing: picking a new name creates one. A file with bytes is a person's, and stays.
async fn drop_empty(handle: FileSystemFileHandle) -> Result<(), JsValue> {
    let file: File = JsFuture::from(handle.get_file()).await?.unchecked_into();
    if let (true, Ok(remove)) = (file.size() == 0.0, property(&handle, "remove").dyn_into::<Function>()) {
        JsFuture::from(remove.call0(&handle)?.unchecked_into::<Promise>()).await?;
    }
    Ok(())
}

/// One file that the browser writes beside its place until it is closed.
struct FileStream {
    stream: FileSystemWritableFileStream,
    name: String,
    state: State,
}

enum State {
    Open,
    /// Being put in place: the browser's answer.
    Closing(JsFuture),
    Closed,
}

impl State {
    fn is_open(&self) -> bool {
        matches!(self, State::Open)
    }
}

impl FileStream {
    async fn open(handle: &FileSystemFileHandle, keep: bool, watch: &Watch) -> Result<FileStream> {
        let options = FileSystemCreateWritableOptions::new();
        options.set_keep_existing_data(keep);
        let name = handle.name();
        let mut opening = JsFuture::from(handle.create_writable_with_options(&options));
        match watch.answer(&mut opening, Some(CALL_MS)).await {
            Ok(stream) => Ok(FileStream { stream: stream.unchecked_into(), name, state: State::Open }),
            Err(reason) => {
                if !matches!(reason, Unanswered::Threw(_)) {
                    spawn_local(let_go(opening));
                }
                Err(unanswered(reason, &name, "open the file for writing", CALL_MS))
            }
        }
    }

    fn threw(&self, reason: JsValue) -> Error {
        thrown(&reason).in_file(&self.name)
    }

    async fn truncate(&self, len: u64, watch: &Watch) -> Result<()> {
        let call = self.stream.truncate_with_f64(len as f64).map_err(|e| self.threw(e))?;
        done(call, &self.name, "set the length of the file", watch).await.map(drop)
    }

    /// The write of `bytes`, which must stay as they are until it is done.
    fn start_write(&self, at: u64, bytes: &Uint8Array) -> Result<JsFuture> {
        let write = WriteParams::new(WriteCommandType::Write);
        write.set_position(Some(at as f64));
        write.set_data(bytes);
        self.stream.write_with_write_params(&write).map(Into::into).map_err(|e| self.threw(e))
    }

    /// `len`: the length of the file.
    async fn close(&mut self, len: u64, watch: &Watch) -> Result<()> {
        let limit = CALL_MS + len / BYTES_PER_MS;
        let mut closing = JsFuture::from(self.stream.close());
        let answer = watch.answer(&mut closing, Some(limit)).await;
        self.state = match &answer {
            Ok(_) => State::Closed,
            Err(Unanswered::Threw(_)) => State::Open,
            Err(_) => State::Closing(closing),
        };
        answer.map(drop).map_err(|reason| unanswered(reason, &self.name, "put the file in place", limit))
    }

    /// A file that is being put in place cannot be called back: it is waited for.
    async fn abort(mut self) -> Result<(), JsValue> {
        match replace(&mut self.state, State::Closed) {
            State::Open => JsFuture::from(self.stream.abort()).await.map(drop),
            State::Closing(closing) => {
                let _ = closing.await;
                Ok(())
            }
            State::Closed => Ok(()),
        }
    }
}

/// A stream that opens too late is let go.
async fn let_go(opening: JsFuture) {
    if let Ok(late) = opening.await {
        let _ = JsFuture::from(late.unchecked_into::<FileSystemWritableFileStream>().abort()).await;
    }
}
