//! The interface of the core for the page's worker, in types of JavaScript.
//!
//! Takes bytes in, hands jobs and views out. Knows no files and computes nothing itself. Sizes are numbers, because none
//! that a browser can hold exceeds 2^53. Without the feature `full`, which the page loads later, models are opened, measured
//! and converted, except between Hugging Face folders and GGUF. What the views hold is in `www/src/protocol.gen.ts`, which `wasm/build` generates.

mod api_error;
mod catalog;
#[cfg(feature = "full")]
mod comparison;
#[cfg(feature = "full")]
mod device;
#[cfg(feature = "full")]
mod equivalence;
mod imatrix;
mod job_runner;
mod model;
mod opening;
mod plan;
mod run;
mod view;

pub use catalog::catalog;
#[cfg(feature = "full")]
pub use device::Device;
#[cfg(feature = "full")]
pub use equivalence::EquivalenceCheck;
pub use imatrix::{Imatrix, ImatrixOpening};
pub use model::{Model, reads_companions, rotation_options};
pub use opening::{Opening, apr_writers, choices};
pub use plan::Plan;
pub use run::{Run, processor};
