//! Quantoscope as a library: the verbs of the command line as functions from options to reports.
//!
//! [`options`] holds the options of each verb, [`verbs`] runs it, [`render`] prints its report. Reading,
//! writing, threads and signals are below; formats, plans and arithmetic are in `quantoscope_core`, engines
//! in `quantoscope_accel`.
//!
//! ```no_run
//! use quantoscope::options::{InspectOptions, Statistics};
//!
//! let options = InspectOptions {
//!     input: "model.safetensors".into(),
//!     statistics: Statistics::Moments,
//!     ..InspectOptions::default()
//! };
//! let inspection = quantoscope::verbs::inspect::run(&options)?;
//! for tensor in inspection.tensors() {
//!     let statistics = inspection.statistics(&tensor.name).and_then(|t| t.stats.as_ref());
//!     println!("{} {} {:?}", tensor.name, tensor.dtype, statistics.and_then(|s| s.kurtosis));
//! }
//! # Ok::<(), quantoscope_core::Error>(())
//! ```

#![forbid(unsafe_code)]

mod drive;
mod engine_select;
pub mod exit;
mod forward_pass;
mod io;
mod model_equivalence;
pub mod options;
pub mod render;
mod signals;
mod system_limits;
pub mod verbs;
