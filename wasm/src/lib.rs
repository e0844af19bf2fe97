//! What the page's worker can ask of the core, in terms that JavaScript has.
//!
//! Thin on purpose: it passes bytes in, jobs and views out. It never computes, never reads, and never decides; sizes
//! are numbers, because none that a browser can hold exceeds 2^53.

mod device;
mod model;
mod opening;
mod plan;
mod problem;
mod run;
mod view;

pub use device::{Device, processor};
pub use model::Model;
pub use opening::Opening;
pub use plan::Plan;
pub use run::Run;
