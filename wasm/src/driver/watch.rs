//! Waiting for the browser: never past a cancel, never for ever.

use crate::driver::browser::{Watcher, clear_timeout, set_timeout};
use js_sys::Function;
use quantoscope_core::{Code, Error};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::AbortSignal;

/// Milliseconds between two turns of the event loop that are counted.
const TURN_MS: u32 = 250;

/// Why there is no answer.
pub enum Unanswered {
    /// The call was cancelled.
    Interrupted,
    /// The limit is over. What was asked may still be under way.
    Stalled,
    /// The browser threw this.
    Threw(JsValue),
}

/// A call of the page, as long as it is worked on by one task: what stops it, and its clock.
///
/// The clock counts turns of the event loop: an answer that came in while a kernel held the thread is heard before a
/// limit is over. It runs all the time, which also wakes a browser that lost a wake-up of its own.
pub struct Watch {
    signal: Option<AbortSignal>,
    /// What may hold the call.
    watcher: Option<Watcher>,
    clock: Rc<Clock>,
    /// Called at every turn.
    _turn: Closure<dyn FnMut()>,
    /// Called by a cancel.
    stop: Closure<dyn FnMut()>,
}

#[derive(Default)]
struct Clock {
    turns: Cell<u64>,
    timer: Cell<Option<i32>>,
    turn: RefCell<Option<Function>>,
    /// The task that waits.
    task: Cell<Option<Waker>>,
}

impl Clock {
    fn wind(&self) {
        let next = self.turn.borrow().as_ref().map(|turn| set_timeout(turn, TURN_MS));
        self.timer.set(next);
    }

    fn wake(&self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }
}

impl Watch {
    /// Watches a call that `signal` stops.
    pub fn new(signal: Option<AbortSignal>) -> Watch {
        let clock = Rc::<Clock>::default();
        let turn = Closure::<dyn FnMut()>::new({
            let clock = Rc::clone(&clock);
            move || {
                clock.turns.set(clock.turns.get() + 1);
                clock.wind();
                clock.wake();
            }
        });
        let stop = Closure::<dyn FnMut()>::new({
            let clock = Rc::clone(&clock);
            move || clock.wake()
        });
        *clock.turn.borrow_mut() = Some(turn.as_ref().unchecked_ref::<Function>().clone());
        clock.wind();
        if let Some(signal) = &signal {
            // A listener that is not added costs a cancel a turn of the clock.
            let _ = signal.add_event_listener_with_callback("abort", stop.as_ref().unchecked_ref());
        }
        Watch { signal, watcher: None, clock, _turn: turn, stop }
    }

    /// Watches a call of the page.
    pub fn of(watcher: &Watcher) -> Watch {
        let mut watch = Watch::new(Some(watcher.signal()));
        watch.watcher = Some(watcher.clone());
        watch
    }

    /// True once the call was cancelled.
    pub fn is_stopped(&self) -> bool {
        self.signal.as_ref().is_some_and(AbortSignal::aborted)
    }

    /// # Errors
    /// `interrupted` once the call was cancelled.
    pub fn check(&self) -> Result<(), Error> {
        if self.is_stopped() { Err(interrupted()) } else { Ok(()) }
    }

    /// Waits while the page holds the call, and returns the error of a cancel.
    ///
    /// # Errors
    /// `interrupted` once the call was cancelled.
    pub async fn turn(&self) -> Result<(), Error> {
        while let Some(held) = self.watcher.as_ref().and_then(Watcher::held) {
            let mut held = JsFuture::from(held);
            // A promise that is rejected holds nothing back.
            if self.answer(&mut held, None).await.is_err() {
                break;
            }
        }
        self.check()
    }

    /// Waits for `call`, for as long as it takes where `limit_ms` is absent.
    pub fn answer<'a>(&'a self, call: &'a mut JsFuture, limit_ms: Option<u64>) -> Answer<'a> {
        let limit = limit_ms.map(|ms| self.clock.turns.get() + ms.div_ceil(TURN_MS.into()));
        Answer { watch: self, call, last: limit.unwrap_or(u64::MAX) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(timer) = self.clock.timer.take() {
            clear_timeout(timer);
        }
        // The clock is also the closure's, which must not keep it.
        self.clock.turn.borrow_mut().take();
        if let Some(signal) = &self.signal {
            let _ = signal.remove_event_listener_with_callback("abort", self.stop.as_ref().unchecked_ref());
        }
    }
}

/// The answer to a call.
pub struct Answer<'a> {
    watch: &'a Watch,
    call: &'a mut JsFuture,
    /// The last turn of the clock to wait for.
    last: u64,
}

impl Future for Answer<'_> {
    type Output = Result<JsValue, Unanswered>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.watch.is_stopped() {
            return Poll::Ready(Err(Unanswered::Interrupted));
        }
        if let Poll::Ready(answer) = Pin::new(&mut *self.call).poll(context) {
            return Poll::Ready(answer.map_err(Unanswered::Threw));
        }
        if self.watch.clock.turns.get() > self.last {
            return Poll::Ready(Err(Unanswered::Stalled));
        }
        self.watch.clock.task.set(Some(context.waker().clone()));
        Poll::Pending
    }
}

/// What a cancelled call ends with where it writes nothing.
pub fn interrupted() -> Error {
    Error::new(Code::Interrupted, "No file was written.")
}
