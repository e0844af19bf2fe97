//! What depends on the run and not on the work: who did it, how long it took, what a device had part in.

use super::is_zero;
use crate::job::SpotCheckStats;
use alloc::string::String;
use serde::Serialize;

/// What depends on the run and not on the work.
#[derive(Clone, Debug, Serialize)]
pub struct RunInfo {
    /// Name and version of this program.
    pub version: &'static str,
    /// The engine that did the work.
    pub engine: &'static str,
    /// Worker threads.
    pub threads: u32,
    /// Wall-clock seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Windows that an earlier, interrupted run had finished.
    #[serde(skip_serializing_if = "is_zero")]
    pub resumed_windows: u64,
    /// What a device had part in, where one was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceView>,
}

/// A device's part in a run.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceView {
    /// What it is called.
    pub name: String,
    /// What it made, and what of that was made again. Where anything differed, the processor did all of it.
    #[serde(flatten)]
    pub made: SpotCheckStats,
    /// The share of wrong blocks from which on it would have been seen with a probability of 999 in 1000; absent where it
    /// made too little for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_from: Option<f64>,
    /// Why it was given up, where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}

impl DeviceView {
    /// Of a device with this name.
    pub fn new(name: &str, made: SpotCheckStats, ended: Option<String>) -> DeviceView {
        DeviceView { name: name.into(), made, seen_from: made.detectable_share(0.001), ended }
    }
}
