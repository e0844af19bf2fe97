//! The compiled `quantoscope`, as users run it.

use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The binary beside this test's own profile directory.
pub fn path() -> PathBuf {
    let me = std::env::current_exe().expect("a running test");
    let profile = me.parent().and_then(Path::parent).expect("target/<profile>/deps");
    let path = profile.join(format!("quantoscope{}", std::env::consts::EXE_SUFFIX));
    assert!(path.is_file(), "{} is not there; build it first: cargo build -p quantoscope", path.display());
    path
}

/// The sample model of the repository.
pub fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../www/sample").canonicalize().expect("the sample model")
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The exit code; absent after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// A command with these arguments, in `dir`.
pub fn command<S: AsRef<OsStr>>(dir: &Path, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(path());
    command.current_dir(dir).args(args).stdin(Stdio::null()).env_remove("NO_COLOR");
    command
}

/// Runs to the end.
pub fn run<S: AsRef<OsStr>>(dir: &Path, args: impl IntoIterator<Item = S>) -> Ended {
    ended(&mut command(dir, args))
}

/// Runs a prepared command to the end.
pub fn ended(command: &mut Command) -> Ended {
    let out = command.output().expect("the binary starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
    Ended { code: out.status.code(), out: text(out.stdout), err: text(out.stderr) }
}

impl Ended {
    /// Checks the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Ended {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Checks that the error says something.
    #[track_caller]
    pub fn says(self, words: &str) -> Ended {
        assert!(self.err.contains(words), "{words:?} is not in:\n{}", self.err);
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e} in:\n{}\n{}", self.out, self.err))
    }

    /// The error object on standard error; its exit code must be the real one.
    #[track_caller]
    pub fn error(&self) -> Value {
        let last = self.err.lines().last().unwrap_or("");
        let value: Value = serde_json::from_str(last).unwrap_or_else(|e| panic!("{e} in:\n{}", self.err));
        assert_eq!(value["exit_code"].as_i64(), self.code.map(i64::from), "{value}");
        value["error"].clone()
    }
}

/// Every file under `dir`, relative, with its bytes, in order.
pub fn tree(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(next) = todo.pop() {
        for entry in std::fs::read_dir(&next).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                todo.push(path);
            } else {
                let name = path.strip_prefix(dir).expect("inside").to_string_lossy().into_owned();
                all.push((name, std::fs::read(&path).unwrap_or_default()));
            }
        }
    }
    all.sort();
    all
}

/// The names of [`tree`].
pub fn names(dir: &Path) -> Vec<String> {
    tree(dir).into_iter().map(|(name, _)| name).collect()
}
