//! Every engine against every committed vector, byte for byte, and what the definition itself promises.

mod agree;
mod bounds;
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
mod cuda;
mod doubles;
mod engines;
mod floats;
mod floor;
mod forest;
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
mod gpu;
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
mod gpu_turns;
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
mod gpu_wide;
mod histogram;
mod hostile;
mod metrics;
mod offload;
mod order;
mod ptx;
mod ptx_machine;
mod ptx_turns;
mod refusals;
mod rotations;
mod spacing;
mod transcodes;
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
mod translation;
mod trial;
mod turns;
mod vectors;
mod weighted;
