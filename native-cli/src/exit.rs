//! How a run ends: exit codes by culprit, and the error in the form that was asked for.

use quantoscope_core::error::{Code, Error, ErrorKind};
use std::process::ExitCode;

/// The exit code for a culprit; documented in `--help` and the README, and tested.
pub fn code(culprit: ErrorKind) -> u8 {
    match culprit {
        ErrorKind::Request => 2,
        ErrorKind::System => 3,
        ErrorKind::File | ErrorKind::Limit => 4,
        ErrorKind::Gate => 5,
        ErrorKind::Unsupported => 6,
        ErrorKind::Device => 7,
        ErrorKind::Interrupted => 130,
    }
}

/// Prints the error on standard error and gives its exit code.
pub fn report(error: &Error, machine: bool) -> ExitCode {
    let code = code(error.code().kind());
    if machine {
        let json = serde_json::json!({ "error": error.detail(), "exit_code": code });
        crate::render::note(&json.to_string());
    } else {
        crate::render::note(&format!("error: {}", crate::render::clean(&error.to_string())));
    }
    ExitCode::from(code)
}

/// What the argument parser refused: its first paragraph, without the hints for people.
pub fn usage(error: &clap::Error) -> Error {
    let text = error.to_string();
    let first: Vec<&str> = text.lines().map(str::trim).take_while(|l| !l.is_empty()).collect();
    let message = first.join(" ");
    Error::new(Code::Usage, message.strip_prefix("error: ").unwrap_or(&message))
}

/// An error of the operating system, about `what`.
pub fn io_error(error: &std::io::Error, what: impl std::fmt::Display) -> Error {
    let code = match error.kind() {
        std::io::ErrorKind::NotFound => Code::NotFound,
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Code::NoSpace,
        _ => Code::Io,
    };
    Error::new(code, format!("{what}: {error}"))
}

/// The error of a thread that the system does not start.
pub fn no_thread(error: &std::io::Error) -> Error {
    io_error(
        error,
        "cannot start a thread; fewer --threads, or a higher limit of processes or memory, may help",
    )
}
