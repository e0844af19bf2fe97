//! `quantoscope`: reads arguments, runs a verb, says how it ended.

#![forbid(unsafe_code)]

mod args;
mod commands;
mod drive;
mod engine_select;
mod exit;
mod io;
mod model_equivalence;
mod render;
mod signals;
mod system_limits;

use args::{Cli, Verb};
use clap::Parser;
use quantoscope_core::error::Result;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) if e.use_stderr() && typed_json() => return exit::report(&exit::usage(&e), true),
        Err(e) => e.exit(),
    };
    let machine = wants_json(&cli.verb);
    match run(cli) {
        Ok(code) => code,
        Err(error) => exit::report(&error, machine),
    }
}

/// Whether JSON was asked for, as far as can be told of arguments that do not parse.
fn typed_json() -> bool {
    let args: Vec<String> = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let alone = |a: &String| matches!(a.as_str(), "--json" | "--events" | "--format=json");
    args.iter().any(alone) || args.windows(2).any(|w| w[0] == "--format" && w[1] == "json")
}

/// With JSON on standard output, errors on standard error are JSON too.
fn wants_json(verb: &Verb) -> bool {
    let json = Some(args::OutputFormat::Json);
    match verb {
        Verb::Inspect(a) => a.json,
        Verb::Plan(a) => a.json,
        Verb::Quantize(a) => a.json || a.events,
        Verb::Rotate(a) => a.json,
        Verb::Compare(a) => a.json || a.format == json,
        Verb::Verify(a) => a.json,
        Verb::Sweep(a) => a.json || a.format == json,
        Verb::Bench(args::BenchArgs { what: args::Benchmark::Rotation(a) }) => a.json,
        Verb::Engines(a) => a.json,
        Verb::Completions(_) | Verb::Man(_) => false,
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    match cli.verb {
        Verb::Inspect(a) => commands::inspect::run(&a),
        Verb::Plan(a) => commands::plan::run(&a),
        Verb::Quantize(a) => commands::quantize::run(&a),
        Verb::Rotate(a) => commands::rotate::run(a),
        Verb::Compare(a) => commands::compare::run(&a),
        Verb::Verify(a) => commands::verify::run(&a),
        Verb::Sweep(a) => commands::sweep::run(&a),
        Verb::Bench(args::BenchArgs { what: args::Benchmark::Rotation(a) }) => commands::bench::rotation(&a),
        Verb::Engines(a) => commands::engines::run(&a),
        Verb::Completions(a) => commands::help::completions(&a),
        Verb::Man(a) => commands::help::man(&a),
    }
}
