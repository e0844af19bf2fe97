//! Errors of the operating system, the exit code of an error, and its line on standard error.

use quantoscope_core::error::{Code, Error, ErrorKind};
use std::process::ExitCode;

/// The exit code of an error, as documented in `--help` and the README.
pub fn code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Request => 2,
        ErrorKind::System => 3,
        ErrorKind::File | ErrorKind::Limit => 4,
        ErrorKind::Gate => 5,
        ErrorKind::Unsupported => 6,
        ErrorKind::Device => 7,
        ErrorKind::Interrupted => 130,
    }
}

/// Prints the error on standard error, as JSON if `json`, and returns its exit code.
pub fn report(error: &Error, json: bool) -> ExitCode {
    let code = code(error.code().kind());
    if json {
        let line = serde_json::json!({ "error": error.detail(), "exit_code": code });
        crate::render::note(&line.to_string());
    } else {
        crate::render::note(&format!("error: {}", crate::render::clean(&error.to_string())));
    }
    ExitCode::from(code)
}

/// An error of the operating system; `what` begins its message. `not_found`, `no_space` or `io`.
pub fn io_error(error: &std::io::Error, what: impl std::fmt::Display) -> Error {
    let code = match error.kind() {
        std::io::ErrorKind::NotFound => Code::NotFound,
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Code::NoSpace,
        _ => Code::Io,
    };
    Error::new(code, format!("{what}: {error}"))
}

/// The error of a thread that could not be started.
pub fn no_thread(error: &std::io::Error) -> Error {
    io_error(
        error,
        "cannot start a thread; fewer --threads, or a higher limit of processes or memory, may help",
    )
}
