//! Temporary directories with models in them.

use quantoscope_core::DType;
use quantoscope_tests::binary::{self, Ended};
use quantoscope_tests::models::{CONFIG, Rng, Tensor, llama, safetensors};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A directory of its own, removed afterwards.
pub(crate) struct Dir(TempDir);

impl Dir {
    pub(crate) fn new() -> Dir {
        Dir(tempfile::tempdir().expect("a temporary directory"))
    }

    /// With a small Llama as `m.safetensors`.
    pub(crate) fn with_model() -> Dir {
        let dir = Dir::new();
        dir.write("m.safetensors", &safetensors(&llama(DType::BF16, false, 41)));
        dir
    }

    /// With a small Llama in a directory `m`, which has a configuration.
    pub(crate) fn with_model_directory(tied: bool) -> Dir {
        let dir = Dir::new();
        std::fs::create_dir(dir.path().join("m")).expect("a directory");
        dir.write("m/model.safetensors", &safetensors(&llama(DType::BF16, tied, 42)));
        dir.write("m/config.json", CONFIG.as_bytes());
        dir
    }

    /// With a copy of a family's checkpoint in `m`, which can be rotated.
    pub(crate) fn with_family(name: &str) -> Dir {
        let family = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/families").join(name);
        let dir = Dir::new();
        std::fs::create_dir(dir.at("m")).expect("a directory");
        for file in ["model.safetensors", "config.json"] {
            std::fs::copy(family.join(file), dir.at("m").join(file)).expect("a copy");
        }
        dir
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.at(name), bytes).expect("a written file");
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.at(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Runs with the arguments of a line, split at blanks.
    pub(crate) fn run(&self, line: &str) -> Ended {
        binary::run(self.path(), line.split_whitespace())
    }

    /// Everything in a directory inside of it, by name.
    pub(crate) fn names_in(&self, name: &str) -> Vec<String> {
        binary::names(&self.at(name))
    }

    /// Everything in the directory, by name.
    pub(crate) fn names(&self) -> Vec<String> {
        binary::names(self.path())
    }
}

/// Everything in a directory, links not followed: name, kind with permissions, and content, target or nothing.
#[cfg(unix)]
pub(crate) fn snapshot(dir: &Path) -> Vec<(String, String, Vec<u8>)> {
    use std::os::unix::fs::MetadataExt;
    let mut all = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(next) = todo.pop() {
        for entry in std::fs::read_dir(&next).expect("a directory") {
            let path = entry.expect("an entry").path();
            let meta = path.symlink_metadata().expect("its description");
            let name = path.strip_prefix(dir).expect("inside").to_string_lossy().into_owned();
            let content = match () {
                () if meta.is_symlink() => {
                    std::fs::read_link(&path).expect("a link").into_os_string().into_encoded_bytes()
                }
                () if meta.is_file() => std::fs::read(&path).expect("a file"),
                () => Vec::new(),
            };
            if meta.is_dir() {
                todo.push(path);
            }
            all.push((name, format!("{:o} {}", meta.mode(), meta.ino()), content));
        }
    }
    all.sort();
    all
}

/// Runs under `strace` with these injections of faults, each as `-e` takes it; for what they do, see strace(1).
/// The calls are matched on all threads.
#[cfg(target_os = "linux")]
pub(crate) fn with_faults(dir: &Dir, faults: &[&str], line: &str) -> Ended {
    let mut command = std::process::Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null"]);
    faults.iter().for_each(|fault| {
        command.args(["-e", fault]);
    });
    command.arg(binary::path()).args(line.split_whitespace()).current_dir(dir.path());
    binary::ended(&mut command)
}

/// A safetensors file of one tensor.
pub(crate) fn one(name: &str, shape: &[u64], values: &[f32]) -> Vec<u8> {
    safetensors(&[Tensor::of(name, DType::F32, shape, values)])
}

/// A model of 67 MB whose values repeat a random block, made once and kept among the build's files.
pub(crate) fn big() -> PathBuf {
    use std::io::Write;
    static MADE: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    let make = || {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("big-2.safetensors");
        if path.exists() {
            return path;
        }
        let block = Tensor::random("", DType::BF16, &[256 * 1024], &mut Rng(51)).bytes;
        let (tensors, side) = (8, 2048_usize);
        let bytes = side * side * 2;
        let entry = |i: usize| {
            let (from, to) = (i * bytes, (i + 1) * bytes);
            format!(
                "\"layers.{i}.proj.weight\":{{\"dtype\":\"BF16\",\"shape\":[{side},{side}],\"data_offsets\":[{from},{to}]}}"
            )
        };
        let header = format!("{{{}}}", (0..tensors).map(entry).collect::<Vec<_>>().join(","));
        let mut file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a file");
        file.write_all(&(header.len() as u64).to_le_bytes()).expect("written");
        file.write_all(header.as_bytes()).expect("written");
        (0..tensors * bytes / block.len()).for_each(|_| file.write_all(&block).expect("written"));
        // Another process may have made it meanwhile: then that one stays, with its time of modification.
        drop(file.persist_noclobber(&path));
        path
    };
    MADE.get_or_init(make).clone()
}
