//! Temporary directories with models in them.

use quantoscope_core::DType;
use quantoscope_tests::binary::{self, Ended};
use quantoscope_tests::models::{CONFIG, Rng, Tensor, llama, safetensors};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A directory of its own, removed afterwards.
pub struct Dir(TempDir);

impl Dir {
    pub fn new() -> Dir {
        Dir(tempfile::tempdir().expect("a temporary directory"))
    }

    /// With a small Llama as `m.safetensors`.
    pub fn with_model() -> Dir {
        let dir = Dir::new();
        dir.write("m.safetensors", &safetensors(&llama(DType::BF16, false, 41)));
        dir
    }

    /// With a small Llama in a directory `m`, which has a configuration.
    pub fn with_model_directory(tied: bool) -> Dir {
        let dir = Dir::new();
        std::fs::create_dir(dir.path().join("m")).expect("a directory");
        dir.write("m/model.safetensors", &safetensors(&llama(DType::BF16, tied, 42)));
        dir.write("m/config.json", CONFIG.as_bytes());
        dir
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.at(name), bytes).expect("a written file");
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.at(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Runs with the arguments of a line, split at blanks.
    pub fn run(&self, line: &str) -> Ended {
        binary::run(self.path(), line.split_whitespace())
    }

    /// Everything in the directory, by name.
    pub fn names(&self) -> Vec<String> {
        binary::names(self.path())
    }
}

/// A safetensors file of one tensor.
pub fn one(name: &str, shape: &[u64], values: &[f32]) -> Vec<u8> {
    safetensors(&[Tensor::of(name, DType::F32, shape, values)])
}

/// A model of 67 MB whose values repeat a random block, made once and kept among the build's files.
pub fn big() -> PathBuf {
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
