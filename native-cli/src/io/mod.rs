//! Files: opened checkpoints, positional reads and writes, outputs that appear whole or not at all.

mod file_set;
mod folder;
mod identity;
pub(crate) mod imatrix;
pub(crate) mod imatrix_journal;
pub(crate) mod in_place;
pub(crate) mod journal;
mod links;
pub(crate) mod naming;
pub(crate) mod output;
pub(crate) mod pread;
pub(crate) mod read_at;
pub(crate) mod scratch;
mod small_tensors;
pub(crate) mod source;
pub(crate) mod stream_journal;
pub(crate) mod target;
pub(crate) mod token_ids;
