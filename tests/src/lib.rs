//! Shared by the test targets: models, temporary directories, vectors.

pub mod drive;
