//! Every class of damaged file, through the command line: exit code 4, the right word, and no output.

use crate::errors::fails;
use crate::support::Dir;
use quantoscope_core::{Code, DType};
use quantoscope_tests::models::{Kv, Rng, Tensor, gguf, safetensors};

/// A safetensors file of this header and `data` zeros.
fn st(header: &str, data: usize) -> Vec<u8> {
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(header.as_bytes());
    out.resize(out.len() + data, 0);
    out
}

fn entry(name: &str, dtype: &str, shape: &str, from: u64, to: u64) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
}

fn st_of(entries: &[String], data: usize) -> Vec<u8> {
    st(&format!("{{{}}}", entries.join(",")), data)
}

/// Every verb refuses the file with this code, and leaves nothing behind.
#[track_caller]
fn refused(name: &str, bytes: &[u8], code: Code) {
    let dir = Dir::new();
    dir.write(name, bytes);
    for line in [
        format!("quantize {name} -o x.gguf --type q4_0 --json"),
        format!("quantize {name} -o x --to q4 --events"),
        format!("inspect {name} --json"),
        format!("verify {name} --json"),
    ] {
        let error = fails(dir.run(&line), code);
        assert!(error.get("file").is_some(), "{line} does not name the file: {error}");
        assert_eq!(dir.names(), [name], "{line}");
    }
}

#[test]
fn safetensors_files() {
    let a = || entry("a", "F32", "[2]", 0, 8);
    let cases: Vec<(&str, Vec<u8>, Code)> = vec![
        ("overlap", st_of(&[a(), entry("b", "F32", "[2]", 4, 12)], 12), Code::Overlap),
        ("hole", st_of(&[a(), entry("b", "F32", "[2]", 12, 20)], 20), Code::Hole),
        ("leading hole", st_of(&[entry("a", "F32", "[2]", 4, 12)], 12), Code::Hole),
        ("trailing", st_of(&[a()], 9), Code::TrailingBytes),
        ("past the end", st_of(&[a()], 7), Code::OutOfBounds),
        ("reversed", st_of(&[entry("a", "F32", "[2]", 8, 0)], 8), Code::OutOfBounds),
        ("span", st_of(&[entry("a", "F32", "[3]", 0, 8)], 8), Code::SizeMismatch),
        ("twice", st_of(&[a(), entry("a", "F32", "[2]", 8, 16)], 16), Code::DuplicateName),
        ("dtype", st_of(&[entry("a", "F33", "[2]", 0, 8)], 8), Code::UnknownDtype),
        ("product", st_of(&[entry("a", "U8", "[4294967296,4294967296]", 0, 0)], 0), Code::Overflow),
        ("bytes", st_of(&[entry("a", "F64", "[4611686018427387904]", 0, 0)], 0), Code::Overflow),
        ("json", st("{\"a\":", 8), Code::BadJson),
        ("list", st("[]", 0), Code::BadJson),
        ("negative", st_of(&[entry("a", "F32", "[-2]", 0, 8)], 8), Code::BadJson),
        ("deep", st(&format!("{{\"a\":{}1{}}}", "[".repeat(999), "]".repeat(999)), 0), Code::TooDeep),
    ];
    for (what, bytes, code) in cases {
        eprintln!("{what}");
        refused("m.safetensors", &bytes, code);
    }
    let mut latin = st_of(&[a()], 8);
    latin[10] = 0xE4;
    refused("m.safetensors", &latin, Code::BadUtf8);
    refused("m.safetensors", b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F{}", Code::HeaderTooLarge);
    refused("m.safetensors", b"\x64\0\0\0\0\0\0\0{}", Code::Truncated);
    refused("m.safetensors", b"", Code::Truncated);
    refused("m.bin", b"no format of ours at all", Code::BadMagic);
}

struct RawGguf(Vec<u8>);

impl RawGguf {
    fn new(version: u32, tensors: u64, keys: u64) -> RawGguf {
        RawGguf(b"GGUF".to_vec()).u32(version).u64(tensors).u64(keys)
    }

    fn u32(mut self, v: u32) -> RawGguf {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }

    fn u64(mut self, v: u64) -> RawGguf {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }

    fn text(self, text: &[u8]) -> RawGguf {
        let mut out = self.u64(text.len() as u64);
        out.0.extend_from_slice(text);
        out
    }

    fn tensor(self, axes: &[u64], kind: u32, offset: u64) -> RawGguf {
        let head = self.text(b"a").u32(axes.len() as u32);
        axes.iter().fold(head, |g, &n| g.u64(n)).u32(kind).u64(offset)
    }

    fn data(mut self, n: usize) -> Vec<u8> {
        let end = self.0.len().next_multiple_of(32) + n;
        self.0.resize(end, 0);
        self.0
    }
}

#[test]
fn gguf_files() {
    let one = || RawGguf::new(3, 1, 0);
    let cases: Vec<(&str, Vec<u8>, Code)> = vec![
        ("version", RawGguf::new(1, 0, 0).data(0), Code::UnknownVersion),
        ("future", RawGguf::new(4, 0, 0).data(0), Code::UnknownVersion),
        ("short", one().tensor(&[8], 0, 0).data(31), Code::OutOfBounds),
        ("torn", one().text(&[b'a'; 60]).u32(1).0, Code::Truncated),
        ("axes", one().tensor(&[1, 1, 1, 1, 1], 0, 0).data(4), Code::TooManyAxes),
        ("type", one().tensor(&[8], 99_999, 0).data(32), Code::UnknownDtype),
        ("product", one().tensor(&[1 << 40, 1 << 40], 0, 0).data(0), Code::Overflow),
        ("rows", one().tensor(&[33], 2, 0).data(36), Code::SizeMismatch),
        ("tensors", RawGguf::new(3, 1 << 60, 0).data(64), Code::CountTooLarge),
        ("keys", RawGguf::new(3, 0, 1 << 60).data(64), Code::CountTooLarge),
        ("twice", RawGguf::new(3, 2, 0).tensor(&[8], 0, 0).tensor(&[8], 0, 32).data(64), Code::DuplicateName),
        (
            "alignment 0",
            RawGguf::new(3, 0, 1).text(b"general.alignment").u32(4).u32(0).data(0),
            Code::BadAlignment,
        ),
        (
            "alignment 24",
            RawGguf::new(3, 0, 1).text(b"general.alignment").u32(4).u32(24).data(0),
            Code::BadAlignment,
        ),
        ("value", RawGguf::new(3, 0, 1).text(b"k").u32(77).data(64), Code::UnknownDtype),
        ("utf-8", RawGguf::new(3, 0, 1).text(b"\xFF\xFE").u32(4).u32(1).data(0), Code::BadUtf8),
    ];
    for (what, bytes, code) in cases {
        eprintln!("{what}");
        refused("m.gguf", &bytes, code);
    }
}

/// Bytes after the last tensor are legal in GGUF, and told.
#[test]
fn bytes_after_the_last_tensor_of_a_gguf_are_a_warning() {
    let dir = Dir::new();
    let tensors = [Tensor::random("a.weight", DType::F32, &[32, 32], &mut Rng(1))];
    let mut bytes = gguf(&[("general.architecture", Kv::Text("x"))], &tensors);
    bytes.extend_from_slice(&[7; 1000]);
    dir.write("m.gguf", &bytes);
    assert!(dir.run("inspect m.gguf").exits(0).err.contains("warning"));
    dir.run("quantize m.gguf -o x.gguf --type q4_0").exits(0);
}

fn lattice(magic: &[u8], version: u32, axes: &[u64], numel: u64, payload: usize) -> Vec<u8> {
    let head = RawGguf(magic.to_vec()).u32(version).u32(axes.len() as u32);
    let mut out = axes.iter().fold(head, |g, &n| g.u64(n)).u64(numel).0;
    out.resize(out.len() + payload, 0);
    out
}

#[test]
fn lattice_files() {
    let q4 = |axes: &[u64], numel, payload| lattice(b"KHQ4", 2, axes, numel, payload);
    let half = u64::MAX / 2 + 5;
    let cases: Vec<(&str, Vec<u8>, Code)> = vec![
        ("one byte short", q4(&[32], 32, 19), Code::Truncated),
        ("one byte long", q4(&[32], 32, 21), Code::TrailingBytes),
        ("version 1", lattice(b"KHQ4", 1, &[32], 32, 18), Code::UnknownVersion),
        ("version 3", lattice(b"KHQ4", 3, &[32], 32, 20), Code::UnknownVersion),
        ("count", q4(&[32], 64, 40), Code::SizeMismatch),
        ("product", q4(&[1 << 32, 1 << 32], 0, 0), Code::Overflow),
        ("the largest count", q4(&[u64::MAX], u64::MAX, 12), Code::Truncated),
        ("half the largest", q4(&[half], half, 64), Code::Truncated),
        ("f16 wraps", lattice(b"KHF1", 1, &[half], half, 10), Code::Overflow),
        ("f16 short", lattice(b"KHF1", 1, &[3], 3, 5), Code::Truncated),
        ("f16 version", lattice(b"KHF1", 2, &[3], 3, 6), Code::UnknownVersion),
    ];
    for (what, bytes, code) in cases {
        eprintln!("{what}");
        refused("a.q4", &bytes, code);
    }
    let mut axes = lattice(b"KHQ4", 2, &[32], 32, 20);
    axes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    refused("a.q4", &axes, Code::CountTooLarge);
}

#[test]
fn indexes_that_lie() {
    let file = safetensors(&[Tensor::random("a", DType::F32, &[2], &mut Rng(1))]);
    let index = |map: &str| format!(r#"{{"weight_map":{{{map}}}}}"#);
    let cases = [
        (index(r#""a":"m.safetensors","b":"m.safetensors""#), Code::BadIndex),
        (index(r#""a":"../m.safetensors""#), Code::BadName),
        (index(r#""a":"/etc/passwd""#), Code::BadName),
        (index(r#""a":""#), Code::BadJson),
        (index(r#""a":"no.safetensors""#), Code::BadIndex),
    ];
    for (text, code) in cases {
        let dir = Dir::new();
        std::fs::create_dir(dir.at("m")).expect("a directory");
        dir.write("m/m.safetensors", &file);
        dir.write("m/model.safetensors.index.json", text.as_bytes());
        let before = dir.names();
        fails(dir.run("quantize m -o x.gguf --type q4_0 --json"), code);
        assert_eq!(dir.names(), before);
    }
}

/// Every prefix of a sound file is refused, with exit code 4 and nothing written.
#[test]
fn truncations() {
    let tensors = [Tensor::random("a.weight", DType::F32, &[1, 32], &mut Rng(1))];
    let files = [("m.safetensors", safetensors(&tensors)), ("m.gguf", gguf(&[("k", Kv::U32(1))], &tensors))];
    for (name, bytes) in files {
        let dir = Dir::new();
        for n in (0..bytes.len()).step_by(9) {
            dir.write(name, &bytes[..n]);
            let ended = dir.run(&format!("quantize {name} -o x.gguf --type q4_0 --force --json")).exits(4);
            assert!(ended.error()["code"].is_string());
            assert_eq!(dir.names(), [name], "{n} of {} bytes", bytes.len());
        }
    }
}
