//! Shared by the test targets: models, drivers, the compiled binary.

pub mod binary;
pub mod memory;
pub mod models;
