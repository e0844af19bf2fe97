//! Files: opening checkpoints, positional reads and writes, artefacts that appear whole or not at all.

pub mod artefact;
pub mod journal;
pub mod positional;
pub mod source;
pub mod weights;
