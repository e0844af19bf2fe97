//! Files: opening checkpoints, positional reads and writes, artefacts that appear whole or not at all.

mod identity;
pub mod imatrix;
pub mod journal;
mod links;
mod naming;
pub mod output;
pub mod pread;
mod scratch;
pub mod source;
pub mod target;
