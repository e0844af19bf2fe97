//! The driver of the page's worker: files of the browser in, windows through the core, files of the browser out.

pub mod block_writer;
pub mod browser;
pub mod inputs;
pub mod picked_sink;
pub mod private_sink;
pub mod run_loop;
pub mod sink;
pub mod source;
#[cfg(feature = "full")]
pub mod sync_files;
pub mod tar;
pub mod watch;
