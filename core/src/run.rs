//! The run loop without its waiting: which window is next, what is taken over from an earlier run, what is finished, when
//! everything starts again without a device. Drivers (command line, page, model check, tests) read, compute, write and wait.
//!
//! Windows are handed out in order of outputs, rows and columns, and may finish in any order. Knows no files, threads or clock.

use crate::error::Result;
use crate::job::{Job, SpotCheckStats, Window};
use crate::metric::Measurements;
use crate::plan::Plan;
use crate::schedule::{Budget, WindowCursor};
use crate::wire::{JobKey, Record};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::ops::Range;

/// Measurements of every output of a plan.
#[derive(Clone, Debug)]
pub struct PlanMeasurements(Vec<Measurements>);

impl PlanMeasurements {
    /// Empty measurements for the outputs of `plan`.
    pub fn new(plan: &Plan) -> PlanMeasurements {
        PlanMeasurements(plan.outputs.iter().map(|o| o.metrics.measurements(&o.grid)).collect())
    }

    /// Adds the measurements of a window of output `index`, in any order.
    pub fn merge(&mut self, index: u32, measurements: Measurements) {
        if let Some(slot) = self.0.get_mut(index as usize) {
            slot.merge(measurements);
        }
    }

    /// The measurements of output `index`.
    pub fn output(&self, index: usize) -> Option<&Measurements> {
        self.0.get(index)
    }
}

/// A plan in progress. `P` owns or borrows the [`Plan`].
#[derive(Debug)]
pub struct Run<P> {
    plan: P,
    cursor: WindowCursor,
    /// Windows of each output that are not finished.
    left: Vec<u64>,
    /// Outputs that [`Run::take_finished_outputs`] has returned.
    taken: usize,
    measurements: PlanMeasurements,
    /// Windows of an earlier run that have not been reached.
    earlier: BTreeMap<JobKey, Record>,
    resumed: u64,
    /// Elements of finished windows.
    finished: u64,
    spot_check: SpotCheckStats,
    device_differed: bool,
}

impl<P: Borrow<Plan>> Run<P> {
    /// Prepares a run in windows that read and write about `window` bytes, within `budget`.
    ///
    /// The time is that of the plan's segments, whatever their sizes.
    ///
    /// # Errors
    ///
    /// `memory_budget` where the smallest window of some output exceeds the budget.
    pub fn new(plan: P, budget: Budget, window: u64) -> Result<Run<P>> {
        let (cursor, left) = WindowCursor::new(plan.borrow(), budget, window)?;
        let measurements = PlanMeasurements::new(plan.borrow());
        Ok(Run {
            plan,
            cursor,
            left,
            taken: 0,
            measurements,
            earlier: BTreeMap::new(),
            resumed: 0,
            finished: 0,
            spot_check: SpotCheckStats::default(),
            device_differed: false,
        })
    }

    /// Takes over the windows of an earlier run of the same plan and budget: [`Run::next_job`] passes over them.
    pub fn resume(&mut self, records: impl IntoIterator<Item = Record>) {
        self.earlier.extend(records.into_iter().map(|r| (r.key.clone(), r)));
    }

    /// The next window to compute; `None` where all have been handed out.
    pub fn next_job(&mut self) -> Option<Job> {
        loop {
            let job = self.cursor.next_job(self.plan.borrow())?;
            if self.earlier.is_empty() {
                return Some(job);
            }
            let Some(record) = self.earlier.remove(&JobKey::of(&job)) else { return Some(job) };
            self.measurements.merge(job.output, record.measurements);
            self.resumed += 1;
            self.count_down(&job);
        }
    }

    /// Takes the result of a window. Returns false where a device was caught computing wrong bytes: then nothing that it
    /// computed can be trusted, and the run goes on after [`Run::restart`] only.
    pub fn finish(&mut self, job: &Job, measurements: Measurements, checked: &SpotCheckStats) -> bool {
        self.spot_check.merge(checked);
        self.device_differed |= checked.differing > 0;
        self.measurements.merge(job.output, measurements);
        self.count_down(job);
        !self.device_differed
    }

    fn count_down(&mut self, job: &Job) {
        let Window { rows, cols } = &job.window;
        let elements = (rows.end - rows.start).saturating_mul(cols.end - cols.start);
        self.finished = self.finished.saturating_add(elements);
        if let Some(left) = self.left.get_mut(job.output as usize) {
            *left = left.saturating_sub(1);
        }
    }

    /// Starts again from the first window, for an engine with the same budget and its own `window` size, and without what a
    /// device computed. The counts of the spot check stay. `records` are those of an earlier run.
    ///
    /// # Errors
    ///
    /// As [`Run::new`].
    pub fn restart(&mut self, budget: Budget, window: u64, records: Vec<Record>) -> Result<()> {
        (self.cursor, self.left) = WindowCursor::new(self.plan.borrow(), budget, window)?;
        self.measurements = PlanMeasurements::new(self.plan.borrow());
        (self.taken, self.resumed, self.finished, self.device_differed) = (0, 0, 0, false);
        self.earlier.clear();
        self.resume(records.into_iter().filter(|r| !r.device));
        Ok(())
    }

    /// Outputs all of whose windows are finished, in order, each returned once. An output waits for those before it.
    pub fn take_finished_outputs(&mut self) -> Range<usize> {
        let start = self.taken;
        while self.left.get(self.taken) == Some(&0) {
            self.taken += 1;
        }
        start..self.taken
    }

    /// Whether a device was caught since the last start.
    pub fn device_differed(&self) -> bool {
        self.device_differed
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        self.plan.borrow()
    }

    /// What has been measured so far.
    pub fn measurements(&self) -> &PlanMeasurements {
        &self.measurements
    }

    /// What has been measured, at the end.
    pub fn into_measurements(self) -> PlanMeasurements {
        self.measurements
    }

    /// Windows that were taken over from an earlier run.
    pub fn resumed(&self) -> u64 {
        self.resumed
    }

    /// Grid elements of all finished windows, at most `u64::MAX`.
    pub fn finished_elements(&self) -> u64 {
        self.finished
    }

    /// Blocks that a device computed, and how many of them were recomputed and differed, over all starts.
    pub fn spot_check(&self) -> SpotCheckStats {
        self.spot_check
    }
}
