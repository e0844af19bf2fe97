//! The `quantoscope` command: arguments become options, a verb runs, its report is printed, and an error
//! becomes an exit code.

#![forbid(unsafe_code)]

mod args;

use args::{BenchArgs, Benchmark, Cli, MetadataVerb, SweptRotations, Verb, help};
use clap::Parser;
use quantoscope::render::{self, conversion::print_plan, order::set_row_order};
use quantoscope::{exit, verbs};
use quantoscope_core::error::Result;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) if e.use_stderr() && typed_json() => return exit::report(&help::usage(&e), true),
        Err(e) => e.exit(),
    };
    let json = cli.verb.wants_json();
    set_row_order(cli.order.into());
    match run(cli.verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error, json),
    }
}

/// Whether arguments that do not parse ask for JSON.
fn typed_json() -> bool {
    let args: Vec<String> = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let alone = |a: &String| matches!(a.as_str(), "--json" | "--events" | "--format=json");
    args.iter().any(alone) || args.windows(2).any(|w| w[0] == "--format" && w[1] == "json")
}

fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Inspect(args) => {
            let json = args.json;
            render::inspect::print(&verbs::inspect::run(&args.resolve()?)?, json)
        }
        Verb::Plan(args) => {
            let (json, curve) = (args.json, args.curve);
            if curve {
                return render::sensitivity::print_curve(&verbs::plan::curve(&args.resolve()?)?, json);
            }
            print_plan(&verbs::plan::run(&args.resolve()?)?.report()?, json)
        }
        Verb::Quantize(args) => {
            let (options, printer) = args.resolve()?;
            printer.finish(&verbs::quantize::run(&options, &printer)?)
        }
        Verb::Rotate(args) => {
            let (options, printer) = args.resolve()?;
            printer.finish(&verbs::rotate::run(&options, &printer)?)
        }
        Verb::Split(args) => {
            let (options, printer) = args.resolve();
            printer.finish(&verbs::split::split(&options, &printer)?)
        }
        Verb::Merge(args) => {
            let (options, printer) = args.resolve();
            printer.finish(&verbs::split::merge(&options, &printer)?)
        }
        Verb::Metadata(args) => metadata(args.what),
        Verb::Compare(args) => {
            let (options, format) = args.resolve()?;
            let report = verbs::compare::run(&options)?;
            render::compare::print(&report, format)?;
            verbs::compare::check(&report)
        }
        Verb::Verify(args) => {
            let json = args.json;
            let report = verbs::verify::run(&args.resolve()?)?;
            render::verify::print(&report, json)?;
            verbs::verify::check(&report)
        }
        Verb::Sweep(args) => {
            let (options, rotations, format) = args.resolve()?;
            let sample = options.sample;
            match rotations {
                SweptRotations::None => render::sweep::print(&verbs::sweep::run(&options)?, sample, format),
                SweptRotations::Kl(rotations, calibration) => {
                    let report = verbs::sweep::rotation_kl(&options, &rotations, &calibration)?;
                    render::sensitivity::print_rotations(&report, format)
                }
                SweptRotations::Weights(rotations) => {
                    let report = verbs::sweep::rotations(&options, &rotations)?;
                    render::rotations::print(&report, sample, format)
                }
            }
        }
        Verb::Eval(args) => {
            let json = args.json;
            render::eval::print(&verbs::eval::run(&args.resolve()?)?, json)
        }
        Verb::Sensitivity(args) => {
            let (options, format) = args.resolve()?;
            render::sensitivity::print(&verbs::sensitivity::run(&options)?, format)
        }
        Verb::Imatrix(args) => {
            let json = args.json;
            render::imatrix::print(&verbs::imatrix::run(&args.resolve()?)?, json)
        }
        Verb::Bench(BenchArgs { what: Benchmark::Rotation(args) }) => {
            let options = args.resolve();
            render::bench::print(&options, &verbs::bench::rotation(&options)?, args.json)
        }
        Verb::Engines(args) => render::engines::print(&verbs::engines::run(&args.resolve())?, args.json),
        Verb::Completions(args) => help::completions(&args),
        Verb::Man(args) => help::man(&args),
    }
}

/// Shows or changes metadata.
fn metadata(verb: MetadataVerb) -> Result<()> {
    let json = verb.wants_json();
    let options = match verb {
        MetadataVerb::Get(args) => {
            let header = verbs::metadata::read(&args.file)?;
            return render::metadata::print(&header.metadata, &args.keys, json);
        }
        MetadataVerb::Set(args) => args.resolve()?,
        MetadataVerb::Rm(args) => args.resolve()?,
    };
    let changed = verbs::metadata::change(&options)?;
    let path = options.output.as_ref().unwrap_or(&options.input);
    render::metadata::print_changed(&changed, path, options.dry_run, json)
}
