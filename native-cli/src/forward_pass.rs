//! Runs a forward pass: reads and decodes the weights that it asks for, window by window, and multiplies them on all threads.

use crate::drive::WINDOW;
use crate::exit::no_thread;
use crate::io::source::Source;
use crate::signals;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::job::{self, Job, Workspace};
use quantoscope_core::kernels::Kernels;
use quantoscope_core::kernels::attention::AttentionHeads;
use quantoscope_core::model::forward::{Compute, Logits, MatMul, Product, ProductTask, StageWork};
use quantoscope_core::model_pass::{ModelPass, RowTile, TensorRequest};
use quantoscope_core::run::Run;
use quantoscope_core::schedule::Budget;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;

/// Windows that each thread multiplies before their results are collected.
const WINDOWS_EACH: usize = 4;

/// What a thread needs to decode windows.
#[derive(Default)]
struct WindowBuffers {
    scratch: Workspace,
    inputs: Vec<Vec<u8>>,
}

/// Runs passes over the tensors of one model.
pub(crate) struct PassRunner<'a> {
    source: &'a Source,
    kernels: &'static dyn Kernels,
    /// Memory for windows, and threads.
    budget: Budget,
    decoders: Vec<Mutex<WindowBuffers>>,
    /// Called with the number of weights that were multiplied.
    progress: &'a (dyn Fn(u64) + Sync),
}

/// A pass whose work between products runs on several threads.
#[derive(Clone, Copy)]
pub(crate) struct Threaded<M> {
    pub matmul: M,
    pub kernels: &'static dyn Kernels,
    pub threads: usize,
}

impl<M> std::fmt::Debug for Threaded<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Threaded").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl<M: MatMul + Sync> MatMul for Threaded<M> {
    type Product = M::Product;

    fn product(&self, task: ProductTask) -> M::Product {
        self.matmul.product(task)
    }
}

impl<M: Sync> Compute for Threaded<M> {
    fn attend(&self, heads: &AttentionHeads<'_>, q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
        self.kernels.attend(heads, q, k, v)
    }

    fn join(&self, parts: Vec<StageWork<'_>>) -> Vec<f64> {
        let workers = self.threads.min(parts.len());
        if workers <= 1 {
            return parts.into_iter().flat_map(|part| part()).collect();
        }
        let slots: Vec<Mutex<Slot<'_>>> =
            parts.into_iter().map(|work| Mutex::new(Slot::Waiting(work))).collect();
        let next = AtomicUsize::new(0);
        let worker = || {
            while let Some(slot) = slots.get(next.fetch_add(1, Ordering::Relaxed)) {
                let slot = &mut *lock(slot);
                if let Slot::Waiting(work) = std::mem::replace(slot, Slot::Done(Vec::new())) {
                    *slot = Slot::Done(work());
                }
            }
        };
        thread::scope(|scope| {
            // Where no thread can be started, this one does all of it.
            for _ in 1..workers {
                let _ = thread::Builder::new().spawn_scoped(scope, worker);
            }
            worker();
        });
        let results = slots.into_iter().map(|slot| slot.into_inner().unwrap_or_else(|e| e.into_inner()));
        results.flat_map(|slot| if let Slot::Done(values) = slot { values } else { Vec::new() }).collect()
    }
}

/// A part of the work between products.
enum Slot<'a> {
    Waiting(StageWork<'a>),
    Done(Vec<f64>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

type RowResults<M> = RowTile<<<M as MatMul>::Product as Product>::Tile>;

/// The outcome of a window, once a thread has computed it.
type WindowSlot<M> = Option<Result<Option<RowResults<M>>>>;

impl<'a> PassRunner<'a> {
    /// Reads from `source`.
    pub(crate) fn new(
        source: &'a Source,
        kernels: &'static dyn Kernels,
        budget: Budget,
        progress: &'a (dyn Fn(u64) + Sync),
    ) -> PassRunner<'a> {
        let decoders = (0..budget.workers.max(1)).map(|_| Mutex::default()).collect();
        PassRunner { source, kernels, budget, decoders, progress }
    }

    /// Runs a pass to its next logits; `None` at its end.
    pub(crate) fn logits<M: MatMul + Sync>(&self, pass: &mut ModelPass<M>) -> Result<Option<Logits>> {
        loop {
            if let Some(logits) = pass.take_logits() {
                return Ok(Some(logits));
            }
            match pass.request()? {
                None => return Ok(None),
                Some(request) => self.answer(pass, &request)?,
            }
        }
    }

    /// Runs a pass through all layers, up to the head.
    pub(crate) fn layers<M: MatMul + Sync>(&self, pass: &mut ModelPass<M>) -> Result<()> {
        while !pass.in_head() {
            match pass.request()? {
                None => return Ok(()),
                Some(request) => self.answer(pass, &request)?,
            }
        }
        Ok(())
    }

    /// Hands over all windows of a request.
    fn answer<M: MatMul + Sync>(&self, pass: &mut ModelPass<M>, request: &TensorRequest) -> Result<()> {
        let tiles = pass.takes_tiles(request);
        // Windows in flight share the memory; a single one has all of it.
        let budget = if tiles { self.budget } else { Budget { workers: 1, ..self.budget } };
        let budget = match Run::new(&request.plan, budget, WINDOW) {
            Err(e) if e.code() == Code::MemoryBudget => Budget { workers: 1, ..budget },
            _ => budget,
        };
        let mut run = Run::new(&request.plan, budget, WINDOW)?;
        let cols = request.plan.outputs.first().map_or(0, |o| o.grid.cols);
        loop {
            let most = if tiles { self.decoders.len() * WINDOWS_EACH } else { 1 };
            let jobs: Vec<Job> = std::iter::from_fn(|| run.next_job()).take(most).collect();
            if jobs.is_empty() {
                return Ok(());
            }
            if signals::interrupted() {
                return Err(Error::new(Code::Interrupted, "interrupted"));
            }
            if tiles && jobs.iter().all(|job| job.window.cols == (0..cols)) {
                for tile in
                    self.multiply(pass, request, &jobs, budget.workers as usize)?.into_iter().flatten()
                {
                    pass.put(tile)?;
                }
            } else {
                for job in &jobs {
                    let decoder = &mut *self.decoder(0);
                    self.decode(request, job, decoder)?;
                    pass.feed(request, &job.window, &decoder.scratch.out)?;
                }
            }
            let weights = jobs.iter().map(|j| (j.window.rows.end - j.window.rows.start) * j.window.width());
            (self.progress)(weights.sum());
        }
    }

    fn decoder(&self, index: usize) -> MutexGuard<'_, WindowBuffers> {
        lock(&self.decoders[index % self.decoders.len()])
    }

    /// Reads and decodes a window.
    fn decode(&self, request: &TensorRequest, job: &Job, decoder: &mut WindowBuffers) -> Result<()> {
        let WindowBuffers { scratch, inputs } = decoder;
        inputs.resize_with(job.reads.len(), Vec::new);
        for (read, buffer) in job.reads.iter().zip(inputs.iter_mut()) {
            self.source.read(read.file, &read.region, buffer)?;
        }
        let slices: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        let output = request.plan.outputs.first();
        let named = |e: Error| match output {
            Some(o) => e.map_element(|at| o.element(at)).of_tensor(&o.name),
            None => e,
        };
        job::run(self.kernels, job, &slices, scratch).map(drop).map_err(named)
    }

    /// The results of windows, in their order.
    fn multiply<M: MatMul + Sync>(
        &self,
        pass: &ModelPass<M>,
        request: &TensorRequest,
        jobs: &[Job],
        workers: usize,
    ) -> Result<Vec<Option<RowResults<M>>>> {
        let one = |job: &Job, decoder: &mut WindowBuffers| {
            self.decode(request, job, decoder)?;
            pass.tile(request, &job.window, &decoder.scratch.out)
        };
        let workers = workers.min(jobs.len()).min(self.decoders.len());
        if workers <= 1 {
            let decoder = &mut *self.decoder(0);
            return jobs.iter().map(|job| one(job, decoder)).collect();
        }
        let next = AtomicUsize::new(0);
        let results: Vec<Mutex<WindowSlot<M>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
        let worker = |index: usize| {
            let decoder = &mut *self.decoder(index);
            while let Some((job, result)) = {
                let i = next.fetch_add(1, Ordering::Relaxed);
                jobs.get(i).zip(results.get(i))
            } {
                *lock(result) = Some(one(job, decoder));
            }
        };
        thread::scope(|scope| {
            for index in 1..workers {
                let worker = &worker;
                let started = thread::Builder::new().spawn_scoped(scope, move || worker(index));
                started.map_err(|e| no_thread(&e))?;
            }
            worker(0);
            Ok::<(), Error>(())
        })?;
        let lost = || Err(Error::new(Code::Io, "a thread of the forward pass ended before its time"));
        let taken = |m: Mutex<WindowSlot<M>>| m.into_inner().unwrap_or_else(|e| e.into_inner());
        results.into_iter().map(|result| taken(result).unwrap_or_else(lost)).collect()
    }
}
