//! The loop: ask the core for a window, put its bytes in place, run it, write what came out.

use crate::driver::browser::now;
use crate::driver::inputs::{Inputs, Readers};
use crate::driver::sink::OutputSink;
use crate::driver::watch::Watch;
use crate::job_runner::StartedJob;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::job::Done;
use quantoscope_core::plan::Side;
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;
use web_sys::MessageChannel;

/// Milliseconds between two looks at the messages: progress and a cancel.
const BREATH_MS: f64 = 100.0;

/// What is driven: a run, or the check of a rotation. Nothing of it is borrowed while the browser is waited for.
pub trait Windows {
    /// The next window, or `None` at the end.
    ///
    /// # Errors
    /// Those of the core.
    fn next_window(&self) -> Result<Option<StartedJob>>;

    /// Takes the outcome of a window in. True where the windows start again from the first one.
    ///
    /// # Errors
    /// That of the window.
    fn finish(&self, started: &mut StartedJob, done: Result<Done>) -> Result<bool>;

    /// Takes the memory of a window back.
    fn reuse(&self, started: StartedJob);

    /// The tensor of a window.
    fn label(&self, started: &StartedJob) -> String;

    /// True while a device takes part.
    fn on_device(&self) -> bool;
}

/// How far a drive is.
pub struct DriveProgress<'a> {
    /// Bytes that were read, those of an importance matrix excepted.
    pub done: f64,
    /// The tensor.
    pub label: &'a str,
    /// True while a device takes part.
    pub device: bool,
    /// True after a device returned wrong bytes: the windows were started again without it.
    pub restarted: bool,
}

/// Drives windows to their end. What they write goes to `sink`, which is positional, because windows may be started again.
///
/// # Errors
/// Those of the core, of files, and `interrupted`.
pub async fn drive(
    windows: &dyn Windows,
    total: f64,
    inputs: &Inputs,
    mut sink: Option<&mut OutputSink>,
    watch: &Watch,
    progress: &dyn Fn(DriveProgress<'_>),
) -> Result<()> {
    let mut readers = Readers::new(inputs);
    let mut breath = Breath::new()?;
    let (mut done, mut restarted) = (0.0, false);
    loop {
        let breathed = breath.take().await;
        watch.turn().await?;
        let Some(mut started) = windows.next_window()? else { return Ok(()) };
        done += gather(&mut started, &mut readers, watch).await?;
        let (mut started, outcome) = execute(started, watch).await?;
        if windows.finish(&mut started, outcome)? {
            (done, restarted) = (0.0, true);
        } else {
            if let Some(sink) = sink.as_deref_mut() {
                scatter(&started, sink, watch).await?;
            }
            if breathed || done == total {
                let (label, device) = (windows.label(&started), windows.on_device());
                progress(DriveProgress { done, label: &label, device, restarted });
            }
        }
        windows.reuse(started);
    }
}

/// Reads what the window needs. Returns the bytes that count as progress.
async fn gather(started: &mut StartedJob, readers: &mut Readers<'_>, watch: &Watch) -> Result<f64> {
    let mut bytes = 0.0;
    for (read, input) in started.reads() {
        readers.of(read.side, read.file)?.read(&read.region, input, watch).await?;
        if read.side != Side::Importance {
            bytes += input.len() as f64;
        }
    }
    Ok(bytes)
}

/// Runs the window. A device may not answer, so it works on in a task of its own where a cancel does not wait for it.
#[cfg(feature = "full")]
async fn execute(started: StartedJob, watch: &Watch) -> Result<(StartedJob, Result<Done>)> {
    use crate::driver::watch::interrupted;
    use std::cell::Cell;
    use std::rc::Rc;

    let ended = Rc::new(Cell::new(None));
    let task = {
        let (ended, mut started) = (Rc::clone(&ended), started);
        async move {
            let done = started.run().await;
            ended.set(Some((started, done)));
            Ok(JsValue::UNDEFINED)
        }
    };
    let mut task = JsFuture::from(wasm_bindgen_futures::future_to_promise(task));
    let _ = watch.answer(&mut task, None).await;
    ended.take().ok_or_else(interrupted)
}

/// Runs the window.
#[cfg(not(feature = "full"))]
async fn execute(mut started: StartedJob, _: &Watch) -> Result<(StartedJob, Result<Done>)> {
    let done = started.run().await;
    Ok((started, done))
}

async fn scatter(started: &StartedJob, sink: &mut OutputSink, watch: &Watch) -> Result<()> {
    let mut rest = started.payload();
    for write in started.writes() {
        for (at, len) in write.region.runs() {
            let (run, after) = rest.split_at(rest.len().min(len as usize));
            sink.write(write.file as usize, at, run, watch).await?;
            rest = after;
        }
    }
    Ok(())
}

/// Lets the worker handle messages, a cancel among them; a timer would wait at least four milliseconds.
pub struct Breath {
    channel: MessageChannel,
    last: f64,
}

impl Breath {
    /// # Errors
    /// `io` where the browser has no message channels.
    pub fn new() -> Result<Breath> {
        let none = |_| Error::new(Code::Io, "the browser has no message channels");
        Ok(Breath { channel: MessageChannel::new().map_err(none)?, last: 0.0 })
    }

    /// Whether the last turn is long enough ago.
    pub fn is_due(&self) -> bool {
        now() - self.last > BREATH_MS
    }

    /// Waits for a turn of the event loop, where the last one is long enough ago. True if it did.
    pub async fn take(&mut self) -> bool {
        let now = now();
        if now - self.last <= BREATH_MS {
            return false;
        }
        self.last = now;
        let turn = js_sys::Promise::new(&mut |resolve, _| {
            self.channel.port1().set_onmessage(Some(&resolve));
            let _ = self.channel.port2().post_message(&JsValue::NULL);
        });
        // Nothing rejects it.
        let _ = JsFuture::from(turn).await;
        true
    }
}

impl Drop for Breath {
    fn drop(&mut self) {
        self.channel.port1().close();
    }
}
