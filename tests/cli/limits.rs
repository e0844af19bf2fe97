//! Hundreds of thousands of tensors, in memory that is bounded by their number and not by what is printed of them.

use crate::support::Dir;
use quantoscope_core::Code;
#[cfg(target_os = "linux")]
use quantoscope_core::{
    DType,
    format::{LayoutTensor, gguf::layout},
    tensor::{Metadata, Shape},
};
use serde_json::Value;
use std::fmt::Write;

/// Tensors of the files here.
const MANY: usize = 100_000;

/// The address space that the work on these may take, in KiB: the program and its threads, and 600 bytes a tensor.
#[cfg(target_os = "linux")]
const SPACE: usize = 140_000 + MANY * 6 / 10;

/// A file of so many vectors, or of matrices with a row of 32 each, whose names have at least `width` bytes.
fn many(count: usize, width: usize, rows: bool) -> Vec<u8> {
    let (shape, size) = if rows { ("[1,32]", 128) } else { ("[1]", 4) };
    let mut header = String::from("{");
    for i in 0..count {
        let (start, comma) = (i * size, if i == 0 { "" } else { "," });
        let _ = write!(
            header,
            "{comma}\"t{i:0>width$}.weight\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[{start},{}]}}",
            start + size
        );
    }
    header.push('}');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file
}

/// The header of a GGUF file of so many matrices with a row of 32 each, whose names are the longest ones.
#[cfg(target_os = "linux")]
fn many_of_gguf(count: usize) -> Vec<u8> {
    let names: Vec<String> = (0..count).map(|i| format!("t{i:0>62}")).collect();
    let shape = Shape::new([1, 32]).expect("a shape");
    let tensors: Vec<LayoutTensor<'_>> =
        names.iter().map(|name| LayoutTensor { name, dtype: DType::F32, shape: &shape }).collect();
    layout(&Metadata::default(), 32, &tensors).expect("a layout").header
}

/// Writes a header, and the data that it speaks of as a hole.
fn write(dir: &Dir, name: &str, header: &[u8], data: usize) {
    dir.write(name, header);
    let file = std::fs::OpenOptions::new().write(true).open(dir.at(name)).expect("the file");
    file.set_len((header.len() + data) as u64).expect("a length");
}

#[cfg(target_os = "linux")]
#[test]
fn many_tensors_are_inspected_and_planned_in_little_memory() {
    use quantoscope_tests::binary;
    use std::process::Command;
    let dir = Dir::new();
    write(&dir, "v.safetensors", &many(MANY, 6, false), MANY * 4);
    write(&dir, "m.safetensors", &many(MANY, 30, true), MANY * 128);
    write(&dir, "m.gguf", &many_of_gguf(MANY), MANY * 128);
    for line in [
        "inspect v.safetensors --json",
        "inspect m.safetensors",
        "inspect m.gguf --json",
        "plan m.gguf --type q4_0",
        "plan m.gguf --recipe q4_k_m --json",
        "plan v.safetensors --type q4_0 --json",
        "plan m.safetensors --type q4_0",
        "plan m.safetensors --recipe q4_k_m --json",
        "quantize m.safetensors -o x.safetensors --type bf16 --dry-run --events -j 1",
        "quantize v.safetensors -o x.gguf --type q4_0 --dry-run --json -j 1",
    ] {
        let limited = format!("ulimit -v {SPACE}; exec \"$0\" {line} > /dev/null");
        let mut shell = Command::new("sh");
        shell.current_dir(dir.path()).args(["-c", &limited]).arg(binary::path());
        let ended = shell.output().expect("a shell");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{line} in {SPACE} KiB: {} {said}", ended.status);
    }
}

/// What is written row by row is the same text as that of the whole: keys in order, two blanks a level.
#[test]
fn documents_written_row_by_row_are_whole_ones() {
    let dir = Dir::with_model();
    dir.write("none.safetensors", b"\x02\0\0\0\0\0\0\0{}");
    for line in [
        "inspect m.safetensors --json",
        "inspect none.safetensors --json",
        "plan m.safetensors --type q4_0 --json",
        "quantize m.safetensors -o x.gguf --recipe q4_k_m --dry-run --json",
    ] {
        let out = dir.run(line).exits(0).out;
        let value: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(serde_json::to_string_pretty(&value).expect("JSON") + "\n", out, "{line}");
    }
}

/// A lattice directory of so many tensors would have an index that its readers refuse: found before it is made.
#[test]
fn an_index_beyond_its_readers_limit_is_refused() {
    let dir = Dir::new();
    write(&dir, "m.safetensors", &many(MANY, 30, true), MANY * 128);
    let error = dir.run("plan m.safetensors --to q4 --json").exits(4).error();
    assert_eq!(error["code"], Code::HeaderTooLarge.as_str());
    assert_eq!(error["file"], "quantize_index.json");
}
