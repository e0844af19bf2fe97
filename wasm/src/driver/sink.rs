//! Where converted bytes go: a picked file, a picked folder, or the browser's private storage. All are positional, and none
//! is waited for past a cancel.

use crate::driver::browser::{SaveOptions, thrown};
use crate::driver::inputs::Inputs;
use crate::driver::picked_sink::PickedSink;
use crate::driver::private_sink::PrivateSink;
use crate::driver::source::read_slice;
use crate::driver::watch::{Unanswered, Watch, interrupted};
use js_sys::Promise;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::plan::Plan;
use std::borrow::Cow;
use std::future::Future;
use std::rc::Rc;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::{JsFuture, future_to_promise};
use web_sys::File;

/// How long a single call may take: disks that are flushed can be slow, and a hung one must not hang the page.
pub const CALL_MS: u64 = 60_000;
/// Putting a file in place takes longer the larger it is: browsers copy it, and have it checked.
pub const BYTES_PER_MS: u64 = 4000;
const CLEANUP_MS: u64 = 1000;
/// A copied file is read in pieces of at most this many bytes.
const COPY: u64 = 1 << 20;

/// What an abort leaves.
#[derive(Clone, Copy, PartialEq)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// Something that the browser has yet to remove.
    Unconfirmed,
    /// Perhaps the whole result.
    PerhapsWhole,
}

impl Left {
    /// What a conversion that was stopped ends with.
    pub fn stopped(self) -> Error {
        match self {
            Left::Nothing => interrupted(),
            Left::Unconfirmed => Error::new(
                Code::Interrupted,
                "The browser has not confirmed yet that the unfinished file is gone.",
            ),
            Left::PerhapsWhole => Error::new(
                Code::Interrupted,
                "The file was being put in place already, so it may be there, and whole.",
            ),
        }
    }
}

/// The files of a plan, to be written.
#[derive(Clone)]
pub struct OutFiles {
    plan: Rc<Plan>,
    /// For each file, the picked one that it is a copy of.
    copies: Rc<[Option<File>]>,
}

impl OutFiles {
    /// The files of `plan`; `picked` finds a file of the source by its name.
    ///
    /// # Errors
    /// `not_found` where a file to copy is not there.
    pub fn new(plan: Rc<Plan>, picked: &dyn Fn(&str) -> Result<File>) -> Result<OutFiles> {
        let copy = |f: &quantoscope_core::plan::OutFile| f.copied.then(|| picked(&f.name)).transpose();
        let copies = plan.files.iter().map(copy).collect::<Result<_>>()?;
        Ok(OutFiles { plan, copies })
    }

    /// Their number.
    pub fn count(&self) -> usize {
        self.plan.files.len()
    }

    /// The name of file number `index`.
    pub fn name(&self, index: usize) -> &str {
        self.plan.files.get(index).map_or("", |f| &f.name)
    }

    /// The length of file number `index`, in bytes.
    pub fn len(&self, index: usize) -> u64 {
        self.plan.files.get(index).map_or(0, |f| f.len)
    }

    /// Whether they are written into a folder.
    pub fn are_folder(&self) -> bool {
        self.plan.conversion.as_ref().is_some_and(|c| c.directory)
    }

    /// The bytes of file number `index` that no window writes: its header, or all of a copy, piece by piece. `at` is where
    /// the last piece ended.
    ///
    /// # Errors
    /// Those of a read.
    pub async fn start(&self, index: usize, at: u64, watch: &Watch) -> Result<Option<Cow<'_, [u8]>>> {
        if let Some(Some(file)) = self.copies.get(index) {
            let left = self.len(index).saturating_sub(at).min(COPY);
            let mut piece = vec![0; left as usize];
            if left > 0 {
                read_slice(file, at, &mut piece, watch).await?;
            }
            return Ok((left > 0).then_some(Cow::Owned(piece)));
        }
        let header = self.plan.files.get(index).map_or(&[][..], |f| f.header.as_slice());
        Ok((at == 0 && !header.is_empty()).then_some(Cow::Borrowed(header)))
    }
}

/// A result: the file to download with its key, and all files that were written, to be read again.
#[derive(Default)]
pub struct Written {
    /// The file of the private storage and its key.
    pub stored: Option<(File, String)>,
    /// The files and their paths.
    pub files: Vec<(String, File)>,
}

/// Takes what a conversion writes.
pub enum OutputSink {
    /// A file or a folder that a person picked.
    Picked(PickedSink),
    /// The private storage of the page.
    Private(PrivateSink),
}

impl OutputSink {
    /// The sink that `options` names. Nothing is made yet.
    pub fn new(options: &SaveOptions, files: OutFiles) -> OutputSink {
        match (options.kind().as_str(), files.are_folder()) {
            ("directory", _) => {
                OutputSink::Picked(PickedSink::folder(options.handle().unchecked_into(), files))
            }
            ("file", false) => OutputSink::Picked(PickedSink::file(options.handle().unchecked_into(), files)),
            _ => OutputSink::Private(PrivateSink::new(options.name(), files, options.released())),
        }
    }

    /// Makes the files, as far as they are made before their bytes come. `inputs` are not overwritten.
    ///
    /// # Errors
    /// `same_file`, `exists`, `no_space` or `io`; `interrupted`.
    pub async fn open(&mut self, inputs: &Inputs, watch: &Watch) -> Result<()> {
        match self {
            OutputSink::Picked(sink) => sink.open(inputs, watch).await,
            OutputSink::Private(sink) => sink.open(watch).await,
        }
    }

    /// Writes `bytes` at `at` of file number `file`.
    ///
    /// # Errors
    /// `no_space` or `io`, also of a write before; `interrupted`.
    pub async fn write(&mut self, file: usize, at: u64, bytes: &[u8], watch: &Watch) -> Result<()> {
        match self {
            OutputSink::Picked(sink) => sink.write(file, at, bytes, watch).await,
            OutputSink::Private(sink) => sink.write(file, at, bytes),
        }
    }

    /// Makes the result final.
    ///
    /// # Errors
    /// `no_space` or `io`; `interrupted`.
    pub async fn finish(&mut self, watch: &Watch) -> Result<Written> {
        match self {
            OutputSink::Picked(sink) => sink.finish(watch).await,
            OutputSink::Private(sink) => sink.finish(watch).await,
        }
    }

    /// Leaves nothing behind. Answers after `CLEANUP_MS` at the latest, and goes on in the background where that was too
    /// short.
    pub async fn abort(self) -> Left {
        match self {
            OutputSink::Picked(sink) if sink.may_be_whole() => Left::PerhapsWhole,
            OutputSink::Picked(sink) => cleaned(sink.remove()).await,
            OutputSink::Private(sink) => cleaned(sink.remove()).await,
        }
    }
}

/// Lets `work` run to its end, and says what is left after a second.
async fn cleaned(work: impl Future<Output = Result<(), JsValue>> + 'static) -> Left {
    let work = future_to_promise(async move { work.await.map(|()| JsValue::UNDEFINED) });
    let watch = Watch::new(None);
    match watch.answer(&mut work.into(), Some(CLEANUP_MS)).await {
        Ok(_) => Left::Nothing,
        Err(_) => Left::Unconfirmed,
    }
}

/// Waits for a call on `file`. One that fails, or does not answer in time, is an error that names it.
///
/// # Errors
/// `io` and those of [`thrown`]; `interrupted`.
pub async fn done(call: Promise, file: &str, what: &str, watch: &Watch) -> Result<JsValue> {
    settled(&mut JsFuture::from(call), file, what, watch).await
}

/// The same for a call that is under way.
///
/// # Errors
/// As [`done`].
pub async fn settled(call: &mut JsFuture, file: &str, what: &str, watch: &Watch) -> Result<JsValue> {
    watch.answer(call, Some(CALL_MS)).await.map_err(|reason| unanswered(reason, file, what, CALL_MS))
}

/// Why a call on `file` has no answer after `limit` milliseconds.
pub fn unanswered(reason: Unanswered, file: &str, what: &str, limit: u64) -> Error {
    match reason {
        Unanswered::Interrupted => interrupted(),
        Unanswered::Threw(reason) => thrown(&reason).in_file(file),
        Unanswered::Stalled => {
            let seconds = (limit + 500) / 1000;
            Error::new(Code::Io, format!("the browser did not {what} within {seconds} s")).in_file(file)
        }
    }
}

/// A call to remove a file, where one that is not there counts as removed.
///
/// # Errors
/// What the browser threw.
pub async fn removed(call: Promise) -> Result<(), JsValue> {
    match JsFuture::from(call).await {
        Err(reason) if thrown(&reason).code() != Code::NotFound => Err(reason),
        _ => Ok(()),
    }
}
