//! Shared by the test targets: painted inputs, committed vectors, models, drivers in memory, the compiled
//! binary, a machine for PTX, the configuration of property tests.

// An error of these fails the test that calls them.
#![allow(clippy::missing_errors_doc)]

pub mod apr;
pub mod binary;
pub mod drive;
pub mod fake_device;
pub mod forward;
pub mod generators;
pub mod memory;
pub mod models;
pub mod property;
pub mod ptx;
pub mod vectors;
