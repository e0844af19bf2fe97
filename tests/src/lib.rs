//! Shared by the test targets: painted inputs and committed vectors.

pub mod painters;
pub mod vectors;
