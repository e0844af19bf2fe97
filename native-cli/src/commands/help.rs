//! `completions` and `man`, generated from the arguments themselves.

use crate::args::{Cli, CompletionsArgs, ManArgs};
use clap::CommandFactory;
use quantoscope_core::error::{Code, Error, Result};
use std::process::ExitCode;

pub fn completions(args: &CompletionsArgs) -> Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "quantoscope", &mut text);
    crate::render::print(&String::from_utf8_lossy(&text))?;
    Ok(ExitCode::SUCCESS)
}

pub fn man(args: &ManArgs) -> Result<ExitCode> {
    let mut command = Cli::command();
    command.build();
    let page = match &args.verb {
        None => command,
        Some(verb) => {
            let found = command.find_subcommand(verb).cloned();
            let unknown = || Error::new(Code::Usage, format!("there is no verb {verb:?}"));
            let found = found.ok_or_else(unknown)?;
            let name: &'static str = Box::leak(format!("quantoscope-{verb}").into_boxed_str());
            found.name(name)
        }
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page)
        .render(&mut text)
        .map_err(|e| Error::new(Code::Io, format!("cannot render the manual page: {e}")))?;
    crate::render::print(&String::from_utf8_lossy(&text))?;
    Ok(ExitCode::SUCCESS)
}
