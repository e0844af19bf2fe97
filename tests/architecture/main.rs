//! Rules of the codebase that a program can check: imports, dependencies, type names, forbidden words, README tables.

mod direction;
mod docs;
mod manifests;
mod matrix;
mod names;
mod rules;
mod sources;
mod tests_readme;
