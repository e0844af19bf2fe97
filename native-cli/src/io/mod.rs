//! Files: opening checkpoints, positional reads and writes, artefacts that appear whole or not at all.

pub mod artefact;
mod identity;
pub mod journal;
mod links;
mod naming;
pub mod positional;
mod scratch;
pub mod source;
pub mod target;
pub mod weights;
