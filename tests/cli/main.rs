//! The command line, on the real binary: what it prints, where, and how it ends.

mod adapters;
mod bad_input;
#[cfg(unix)]
mod changing;
mod compare;
mod cuda;
mod errors;
mod eval;
mod events;
mod help;
mod hf_folder;
mod imatrix;
mod imatrix_collect;
mod inputs;
mod killed;
mod limits;
#[cfg(unix)]
mod links;
#[cfg(target_os = "linux")]
mod measured_resume;
mod metadata;
mod mlx;
mod naming;
mod nonfinite;
mod outputs;
mod packed;
mod patterns;
mod recipes;
mod recognition;
mod resume;
mod rotate;
mod rotations;
#[cfg(target_os = "linux")]
mod scratch;
mod sizes;
mod splits;
mod support;
#[cfg(target_os = "linux")]
mod system_limits;
mod target_size;
mod terminal;
mod variants;
mod verbs;
