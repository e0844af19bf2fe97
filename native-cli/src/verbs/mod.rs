//! One file per verb: options in, report out. These functions are what a language binding calls; the command
//! line adds only arguments, text and exit codes.
//!
//! A verb opens checkpoints, plans, drives the engines and returns what was measured. It prints nothing but a
//! progress bar, and that only where its options allow one. Knows no command line.

pub mod bench;
pub mod compare;
pub mod convert;
mod damage;
pub mod engines;
pub mod eval;
pub mod imatrix;
pub mod inspect;
mod measure;
pub mod metadata;
mod passes;
pub mod plan;
pub mod quantize;
pub mod rotate;
pub mod sensitivity;
pub mod split;
pub mod sweep;
mod target_size;
pub mod verify;

use std::num::NonZero;
use std::thread;

/// Worker threads: as many as `wanted`, or one per processor.
fn threads(wanted: Option<u32>) -> u32 {
    wanted.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get) as u32)
}
