//! The pure core of Quantoscope: formats, encodings, metrics, plans and jobs of LLM weight files.
//!
//! No I/O, no threads, no clock, no platform, no `unsafe`. Drivers (the command line, the page's worker) feed
//! [`format::Opening`] with bytes until it is a [`format::Checkpoint`]; from there everything is data:
//! a recipe makes a plan, a plan is scheduled into self-contained jobs, jobs return bytes and measurements, a report
//! absorbs them in any order.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

pub mod bytes;
pub mod dtype;
pub mod error;
pub mod float;
pub mod format;
pub mod job;
pub mod kernels;
pub mod metric;
pub mod model;
pub mod model_equivalence;
pub mod plan;
pub mod quant;
pub mod recipe;
pub mod report;
pub mod rotation;
pub mod run;
pub mod schedule;
pub mod tensor;
pub mod wire;

pub use dtype::DType;
pub use error::{Code, Error, ErrorKind, Result};
