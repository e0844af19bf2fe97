<<<<<<< HEAD
//! Shared by the test targets: painted inputs and committed vectors.

pub mod painters;
pub mod vectors;
=======
//! Shared by the test targets: models, temporary directories, vectors.

pub mod drive;
>>>>>>> formats
