//! `completions` and `man`, generated from the arguments.

use super::{Cli, CompletionsArgs, ManArgs};
use clap::CommandFactory;
use quantoscope::render;
use quantoscope_core::error::{Code, Error, Result};

pub(crate) fn completions(args: &CompletionsArgs) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "quantoscope", &mut text);
    render::print(&String::from_utf8_lossy(&text))
}

pub(crate) fn man(args: &ManArgs) -> Result<()> {
    let mut command = Cli::command();
    command.build();
    let page = match &args.verb {
        None => command,
        Some(verb) => {
            let found = command.find_subcommand(verb).cloned();
            let unknown = || Error::new(Code::Usage, format!("there is no command {verb:?}"));
            let found = found.ok_or_else(unknown)?;
            let name: &'static str = Box::leak(format!("quantoscope-{verb}").into_boxed_str());
            found.name(name)
        }
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page)
        .render(&mut text)
        .map_err(|e| Error::new(Code::Io, format!("cannot render the manual page: {e}")))?;
    render::print(&String::from_utf8_lossy(&text))
}

/// The error of arguments that do not parse: the first paragraph of clap's message, without its hints.
pub(crate) fn usage(error: &clap::Error) -> Error {
    let text = error.to_string();
    let first: Vec<&str> = text.lines().map(str::trim).take_while(|l| !l.is_empty()).collect();
    let message = first.join(" ");
    Error::new(Code::Usage, message.strip_prefix("error: ").unwrap_or(&message))
}
