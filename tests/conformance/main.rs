//! Codecs, metrics, rotations and engines against the committed vectors and the CPU reference.

mod bounds;
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
mod cuda;
mod differential;
mod doubles;
mod engines;
mod error_ordering;
mod floats;
mod gaussian_error;
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
mod gpu;
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
mod gpu_rotations;
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
mod gpu_wide;
mod histogram;
mod hostile;
mod merge_tree;
mod metrics;
mod mlx;
mod offload;
mod products;
mod ptx;
mod ptx_machine;
mod ptx_rotations;
mod refusals;
mod rotation_benchmark;
mod rotation_engines;
mod rotations;
mod spacing;
mod transcodes;
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
mod translation;
mod vectors;
mod weighted;
