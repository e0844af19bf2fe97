//! Picked files, read in order with next to nothing of them in memory: two reused buffers where the browser can fill one,
//! else slices. A read that does not answer is left and made again: a stream of a browser can lose its wake-up.

use crate::api_error::object;
use crate::driver::browser::{ByteStream, property, words};
use crate::driver::watch::{Unanswered, Watch, interrupted};
use js_sys::{ArrayBuffer, Uint8Array};
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::job::Region;
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::JsFuture;
use web_sys::{File, ReadableStreamByobReader};

/// The largest piece that is held outside this memory; a second one may be under way.
const PIECE: u32 = 1 << 20;
/// Slices are garbage once used; small ones keep the peak low where no buffer can be reused.
const SLICE: usize = 8 << 20;
/// A gap up to this is read over: opening a stream again costs more.
const GAP: u64 = 256 << 10;
/// How long a read of a stream may take before the stream is opened again.
const STREAM_MS: u64 = 2000;
/// So many times a file's stream may stall; its slices are read instead from then on.
const STALLS: u32 = 3;
/// How long a slice may take, and how often it is tried: after 30 seconds the file counts as unreadable.
const SLICE_MS: u64 = 10_000;
const TRIES: u64 = 3;

/// Reads one file forwards; going back or far ahead opens its stream again.
pub struct FileSource {
    file: File,
    size: u64,
    reader: Option<ReadableStreamByobReader>,
    /// The read under way, if there is one: the bytes after `spare`.
    next: Option<JsFuture>,
    /// Bytes that were read and not handed out yet; the first of them lies at `position`.
    spare: Option<Uint8Array>,
    position: u64,
    free: Vec<ArrayBuffer>,
    /// Whether reads go on where the last one ended, so that the next one can start early.
    flowing: bool,
    stalls: u32,
    /// Bytes of a slice, once slices take the place of the stream.
    slices: Option<usize>,
}

impl FileSource {
    /// The start of `file`.
    pub fn new(file: File) -> FileSource {
        FileSource {
            size: file.size() as u64,
            file,
            reader: None,
            next: None,
            spare: None,
            position: 0,
            free: Vec::new(),
            flowing: false,
            stalls: 0,
            slices: None,
        }
    }

    /// Reads all runs of `region` in order into `out`, which is as long as they are together. Gaps between runs are passed
    /// over in the same stream.
    ///
    /// # Errors
    /// `truncated` or `io` with file and offset; `interrupted`.
    pub async fn read(&mut self, region: &Region, out: &mut [u8], watch: &Watch) -> Result<()> {
        let mut rest = out;
        for (at, len) in region.runs() {
            let (run, after) = rest.split_at_mut(rest.len().min(len as usize));
            self.span(at, run, watch).await?;
            rest = after;
        }
        Ok(())
    }

    async fn span(&mut self, start: u64, out: &mut [u8], watch: &Watch) -> Result<()> {
        self.flowing = self.reaches(start);
        let (mut at, mut rest) = (start, out);
        while !rest.is_empty() {
            let read = self.piece(at, rest, watch).await?;
            at += read as u64;
            rest = rest.split_at_mut(read).1;
            self.recycle();
            if self.flowing {
                self.read_ahead();
            }
        }
        Ok(())
    }

    /// The next bytes from `at` on, as many as there are and fit. Returns their number.
    async fn piece(&mut self, at: u64, out: &mut [u8], watch: &Watch) -> Result<usize> {
        loop {
            if let Some(slice) = self.slices {
                let len = out.len().min(slice);
                read_slice(&self.file, at, out.split_at_mut(len).0, watch).await?;
                return Ok(len);
            }
            if !self.reaches(at) {
                self.open(at);
            } else if self.spare() == 0 {
                self.fill(out.len() as u64 + (at - self.position), watch).await?;
            } else if self.position < at {
                self.pass((at - self.position).min(self.spare().into()) as u32);
            } else {
                let bytes = self.pass(self.spare().min(u32::try_from(out.len()).unwrap_or(u32::MAX)));
                let len = bytes.length() as usize;
                bytes.copy_to(out.split_at_mut(len).0);
                return Ok(len);
            }
        }
    }

    fn spare(&self) -> u32 {
        self.spare.as_ref().map_or(0, Uint8Array::length)
    }

    /// Whether the open stream comes to `at` soon enough.
    fn reaches(&self, at: u64) -> bool {
        self.reader.is_some() && at.checked_sub(self.position).is_some_and(|gap| gap <= GAP)
    }

    fn open(&mut self, at: u64) {
        self.close();
        self.position = at;
        let options = object(&[("mode", "byob".into())]);
        let slice = self.file.slice_with_f64(at as f64);
        match slice.and_then(|s| s.stream().unchecked_into::<ByteStream>().reader(&options)) {
            Ok(reader) => self.reader = Some(reader),
            // This browser's files are no byte streams.
            Err(_) => self.slices = Some(SLICE),
        }
    }

    /// Takes `len` bytes off `spare`, which has as many.
    fn pass(&mut self, len: u32) -> Uint8Array {
        let Some(spare) = &self.spare else { return Uint8Array::new_with_length(0) };
        let bytes = spare.subarray(0, len);
        self.spare = Some(spare.subarray(len, spare.length()));
        self.position += u64::from(len);
        bytes
    }

    /// Takes the buffer of `spare` back once all of it was handed out.
    fn recycle(&mut self) {
        if let Some(spare) = self.spare.take_if(|spare| spare.length() == 0) {
            self.free.push(spare.buffer().unchecked_into());
        }
    }

    /// Starts to read the bytes after `spare`, unless that read is under way or the file has none.
    fn read_ahead(&mut self) {
        let left = self.size.saturating_sub(self.position + u64::from(self.spare()));
        if self.next.is_none() && left > 0 {
            self.next = self.ask(left);
        }
    }

    fn ask(&mut self, len: u64) -> Option<JsFuture> {
        let reader = self.reader.as_ref()?;
        let buffer = self.free.pop().unwrap_or_else(|| ArrayBuffer::new(PIECE));
        let len = len.min(PIECE.into()) as u32;
        let view = Uint8Array::new_with_byte_offset_and_length(&buffer, 0, len);
        Some(reader.read_with_array_buffer_view(&view).into())
    }

    /// Waits for the read under way. Where it stalls, the stream is left: the caller opens it again, or reads slices.
    async fn fill(&mut self, len: u64, watch: &Watch) -> Result<()> {
        self.recycle();
        if self.next.is_none() {
            self.next = self.ask(len);
        }
        let Some(next) = &mut self.next else { return Ok(()) };
        let reason = match watch.answer(next, Some(STREAM_MS)).await {
            Ok(read) => {
                self.next = None;
                self.spare = property(&read, "value").dyn_into().ok();
                return if self.spare() == 0 { Err(short(&self.file, self.position)) } else { Ok(()) };
            }
            Err(reason) => reason,
        };
        self.close();
        let Unanswered::Stalled = reason else { return Err(unreadable(&self.file, reason, self.position)) };
        self.stalls += 1;
        if self.stalls >= STALLS {
            self.slices = Some(PIECE as usize);
        }
        Ok(())
    }

    /// Leaves the stream, without waiting for it: one that stalled would not answer.
    fn close(&mut self) {
        if let Some(reader) = self.reader.take() {
            // Its failure is nothing to anyone.
            drop(JsFuture::from(reader.cancel()));
        }
        (self.next, self.spare) = (None, None);
    }
}

impl Drop for FileSource {
    fn drop(&mut self) {
        self.close();
    }
}

/// Fills `out` with the bytes of a file from `start` on; tried again where the browser does not answer.
///
/// # Errors
/// `truncated` or `io` with file and offset; `interrupted`.
pub async fn read_slice(file: &File, start: u64, out: &mut [u8], watch: &Watch) -> Result<()> {
    let end = start + out.len() as u64;
    for _ in 0..TRIES {
        let slice = file.slice_with_f64_and_f64(start as f64, end as f64);
        let slice = slice.map_err(|e| unreadable(file, Unanswered::Threw(e), start))?;
        match watch.answer(&mut slice.array_buffer().into(), Some(SLICE_MS)).await {
            Ok(buffer) => {
                let bytes = Uint8Array::new(&buffer);
                if bytes.length() as usize != out.len() {
                    return Err(short(file, start + u64::from(bytes.length())));
                }
                bytes.copy_to(out);
                return Ok(());
            }
            Err(Unanswered::Stalled) => {}
            Err(reason) => return Err(unreadable(file, reason, start)),
        }
    }
    let seconds = TRIES * SLICE_MS / 1000;
    Err(at(file, start, Code::Io, &format!("the browser did not answer a read for {seconds} s")))
}

fn unreadable(file: &File, reason: Unanswered, offset: u64) -> Error {
    match reason {
        Unanswered::Threw(reason) => {
            at(file, offset, Code::Io, &format!("the browser cannot read the file: {}", words(&reason)))
        }
        Unanswered::Interrupted | Unanswered::Stalled => interrupted(),
    }
}

fn short(file: &File, offset: u64) -> Error {
    at(file, offset, Code::Truncated, "the file ends before its length: it was changed while it was read")
}

fn at(file: &File, offset: u64, code: Code, message: &str) -> Error {
    Error::new(code, message).in_file(&file.name()).at(offset)
}
