//! Shared by the test targets: models, temporary directories, vectors.
