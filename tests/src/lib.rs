//! Shared by the test targets: painted inputs, committed vectors, drivers in memory.

pub mod drive;
pub mod painters;
pub mod vectors;
