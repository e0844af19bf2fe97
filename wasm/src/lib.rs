//! The driver of the page's worker, and its interface in types of JavaScript.
//!
//! Reads picked files, runs the windows of the core, and writes what they make ([`driver`]); hands views out. Computes
//! nothing itself. Sizes are numbers, because none that a browser can hold exceeds 2^53. Without the feature `full`, which the page loads later, models are opened, measured
//! and converted, except between Hugging Face folders and GGUF. What the views hold is in `www/src/protocol.gen.ts`, which `wasm/build` generates.

mod api_error;
mod catalog;
#[cfg(feature = "full")]
mod comparison;
#[cfg(feature = "full")]
mod device;
pub mod driver;
#[cfg(feature = "full")]
mod equivalence;
#[cfg(feature = "full")]
mod forward;
mod imatrix;
mod job_runner;
mod metadata;
mod model;
mod opening;
mod plan;
mod run;
mod sweep;
mod view;

pub use catalog::catalog;
#[cfg(feature = "full")]
pub use device::Device;
#[cfg(feature = "full")]
pub use forward::{EvaluationRun, Sensitivity, SizedTypes};
pub use imatrix::{Imatrix, open_imatrix};
pub use model::{Model, reads_companions, rotation_options};
pub use opening::open_model;
pub use plan::Plan;
pub use run::{Run, processor};
