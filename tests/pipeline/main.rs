//! Whole pipelines in memory: plan, schedule, jobs, report.

mod adapters;
mod adapters_refused;
mod budgets;
mod devices;
mod encoding_errors;
mod families;
mod figures;
mod forward;
mod importance;
mod lattice;
mod many;
mod mapping;
mod metadata;
mod nonfinite;
mod pairs;
mod patterns;
mod previews;
mod random;
mod recipes;
mod refusals;
mod rotated;
mod rotated_windows;
mod rotation_mistakes;
mod samples;
mod support;
mod totals;
