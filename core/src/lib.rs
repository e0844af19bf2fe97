//! Core of Quantoscope: file formats, quantization types, metrics, plans and jobs for LLM weight files.
//!
//! The crate is pure: no I/O, threads, clock, platform calls or `unsafe`. A driver (the command line, the
//! page's worker) reads and writes bytes; everything else is data:
//!
//! 1. [`format::Opening`] requests byte ranges until the headers are known and returns a
//!    [`format::Checkpoint`].
//! 2. A [`recipe::Recipe`] holds the user's choices: container, type or preset, overrides, rotation.
//! 3. [`plan::convert::plan`] turns both into a [`plan::Plan`]: every output tensor, its byte range, every
//!    file header.
//! 4. [`run::Run`] cuts the plan into self-contained [`job::Job`]s under a memory budget, hands them out, and
//!    merges their measurements, in any order.
//! 5. [`job::run`] executes a job on the bytes of its reads, with the [`kernels::Kernels`] of an engine.
//! 6. [`report::converted`] makes the report of the [`run::PlanMeasurements`].
//!
//! Matrices are `[rows, cols]`, row-major; a row is the innermost axis. Encoded bytes of ggml types are
//! identical to those of ggml's reference quantizers. Results depend on neither the windows, nor the engine,
//! nor the order of jobs.
//!
//! # Example
//!
//! Quantizes a safetensors file in memory to a GGUF file in memory.
//!
//! ```
//! use quantoscope_core::format::{Container, Opening, Root, Want};
//! use quantoscope_core::job::{self, Payload, Region, Workspace};
//! use quantoscope_core::kernels::Scalar;
//! use quantoscope_core::recipe::Recipe;
//! use quantoscope_core::report;
//! use quantoscope_core::run::Run;
//! use quantoscope_core::schedule::{Budget, USUAL_WINDOW};
//! use quantoscope_core::{DType, Result, plan};
//!
//! /// The runs of a region as ranges of the file.
//! fn ranges(region: Region) -> impl Iterator<Item = std::ops::Range<usize>> {
//!     region.runs().map(|(offset, len)| offset as usize..(offset + len) as usize)
//! }
//!
//! fn main() -> Result<()> {
//!     // A safetensors file with one tensor: F32, shape [2, 32].
//!     let header = br#"{"blk.weight":{"dtype":"F32","shape":[2,32],"data_offsets":[0,256]}}"#;
//!     let mut source = (header.len() as u64).to_le_bytes().to_vec();
//!     source.extend_from_slice(header);
//!     source.extend((0..64).flat_map(|i| (i as f32 / 64.0 - 0.5).to_le_bytes()));
//!
//!     // Opening -> Checkpoint. Only the header is read; `config.json` is requested and absent.
//!     let mut opening = Opening::new(Root::File("model.safetensors"));
//!     let checkpoint = loop {
//!         match opening.want() {
//!             Want::Open(name) => {
//!                 opening.opened((name == "model.safetensors").then_some(source.len() as u64))?
//!             }
//!             Want::Read { range, .. } => opening.data(&source[range.start as usize..range.end as usize])?,
//!             Want::List => opening.listed(Vec::new())?,
//!             Want::Ready => break opening.finish()?,
//!         }
//!     };
//!
//!     // Recipe -> Plan. The plan has the exact length and header of every output file.
//!     let recipe = Recipe::new(Container::Gguf, Some(DType::Q8_0));
//!     let plan = plan::convert::plan(&checkpoint, &recipe, None, true)?;
//!     let mut outputs: Vec<Vec<u8>> = plan.files.iter().map(|file| file.header.clone()).collect();
//!     for (bytes, file) in outputs.iter_mut().zip(&plan.files) {
//!         bytes.resize(file.len as usize, 0);
//!     }
//!
//!     // Plan -> jobs -> bytes and measurements.
//!     let mut workspace = Workspace::default();
//!     let mut run = Run::new(&plan, Budget::default(), USUAL_WINDOW)?;
//!     while let Some(job) = run.next_job() {
//!         let gather = |read: &job::Read| ranges(read.region).flat_map(|r| source[r].to_vec()).collect();
//!         let inputs: Vec<Vec<u8>> = job.reads.iter().map(gather).collect();
//!         let slices: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
//!         let done = job::run(&Scalar, &job, &slices, &mut workspace)?;
//!         let mut bytes = match done.payload {
//!             Payload::Input => slices[0],
//!             _ => &workspace.out,
//!         };
//!         for write in &job.writes {
//!             for range in ranges(write.region) {
//!                 let (run, rest) = bytes.split_at(range.len());
//!                 outputs[write.file as usize][range].copy_from_slice(run);
//!                 bytes = rest;
//!             }
//!         }
//!         run.finish(&job, done.measured, &done.made);
//!     }
//!
//!     // Measurements -> Report.
//!     let measured = run.measurements();
//!     let report = report::converted(&checkpoint, &plan, Some(measured)).expect("a conversion");
//!     assert_eq!(report.conversion.totals.planned_quantized, 1);
//!     let error = measured.output(0).and_then(|tensor| tensor.error()).expect("an encoded tensor");
//!     assert!(error.cosine() > 0.9999);
//!     assert!(outputs[0].starts_with(b"GGUF"));
//!     Ok(())
//! }
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::todo,
        clippy::unimplemented,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

pub mod bytes;
pub mod dtype;
pub mod error;
pub mod eval;
pub mod float;
pub mod format;
pub mod job;
pub mod kernels;
pub mod metric;
pub mod model;
pub mod model_equivalence;
pub mod model_pass;
pub mod plan;
pub mod quant;
pub mod recipe;
pub mod report;
pub mod rotation;
pub mod run;
pub mod schedule;
pub mod sensitivity;
pub mod tensor;
pub mod wire;

pub use dtype::DType;
pub use error::{Code, Error, ErrorKind, Result};
