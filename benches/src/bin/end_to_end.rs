//! Whole commands on a whole file: time beside a memory copy of the same bytes, and peak memory.
//!
//! Writes a 2 GiB BF16 checkpoint with a 1 GiB tensor (a repeated random block, so that values look real), runs the
//! release binary on it, and prints one Markdown table for `benches/record/`. Peak memory is the kernel's high-water
//! mark of the resident set, polled to the end of the process, so it may miss the last milliseconds of a run.
//!
//! Usage: `cargo run --release -p quantoscope-benches --bin end_to_end [DIRECTORY]`

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROW: u64 = 4096;
/// Rows of each tensor; the first is 1 GiB of BF16.
const ROWS: [u64; 5] = [131_072, 65_536, 32_768, 16_384, 16_384];
const RUNS: usize = 3;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let root = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::Builder::new().prefix("quantoscope-bench").tempdir_in(root)?;
    let model = dir.path().join("model.safetensors");
    let bytes = write_model(&model)?;
    println!(
        "input: {:.2} GB of BF16, largest tensor {:.2} GB, page cache warm, 2 threads\n",
        gb(bytes),
        gb(ROWS[0] * ROW * 2)
    );
    println!("| work | seconds (median of {RUNS}) | GB/s of input | peak RSS |");
    println!("|---|---|---|---|");
    for threads in [1, 2] {
        let seconds = median((0..RUNS).map(|_| copy_memory(bytes, threads)).collect());
        println!(
            "| memory copy of the same bytes, {threads} thread(s) | {seconds:.2} | {:.2} | |",
            gb(bytes) / seconds
        );
    }
    let out = dir.path().join("out.gguf");
    let seconds = median((0..RUNS).map(|_| copy_file(&model, &out)).collect::<Outcome<Vec<f64>>>()?);
    println!("| file copy (`cp`) | {seconds:.2} | {:.2} | |", gb(bytes) / seconds);
    for dtype in ["q8_0", "q4_0"] {
        for extra in [&["--no-measure"][..], &[]] {
            row(dtype, extra, &model, &out, bytes)?;
        }
    }
    Ok(())
}

fn gb(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn row(dtype: &str, extra: &[&str], model: &Path, out: &Path, bytes: u64) -> Outcome<()> {
    let runs = (0..RUNS).map(|_| quantize(dtype, extra, model, out)).collect::<Outcome<Vec<_>>>()?;
    let seconds = median(runs.iter().map(|r| r.0).collect());
    let peak = runs.iter().map(|r| r.1).max().unwrap_or(0);
    let what = if extra.is_empty() { "measured" } else { "not measured" };
    println!(
        "| quantize --type {dtype}, {what} | {seconds:.2} | {:.2} | {:.0} MB |",
        gb(bytes) / seconds,
        peak as f64 / 1e6
    );
    Ok(())
}

/// Seconds and peak resident bytes of one run.
fn quantize(dtype: &str, extra: &[&str], model: &Path, out: &Path) -> Outcome<(f64, u64)> {
    let _ = fs::remove_file(out);
    let program = std::env::current_exe()?.with_file_name("quantoscope");
    let mut command = Command::new(&program);
    command.arg("quantize").arg(model).arg("-o").arg(out);
    command
        .args(["--type", dtype, "--pure", "--threads", "2"])
        .args(extra)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let started = Instant::now();
    let mut child =
        command.spawn().map_err(|e| format!("cannot run {}: {e} (build it first)", program.display()))?;
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut peak = 0;
    let done = loop {
        if let Some(done) = child.try_wait()? {
            break done;
        }
        peak = peak.max(high_water(&status));
        std::thread::sleep(Duration::from_millis(2));
    };
    if !done.success() {
        return Err(format!("quantize failed: {done}").into());
    }
    Ok((started.elapsed().as_secs_f64(), peak))
}

fn high_water(status: &Path) -> u64 {
    let text = fs::read_to_string(status).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Seconds to copy as many bytes from memory to memory, each thread its share.
fn copy_memory(bytes: u64, threads: u64) -> f64 {
    const CHUNK: usize = 64 << 20;
    let share = (bytes / threads) as usize;
    let started = std::sync::Barrier::new(threads as usize + 1);
    let mut clock = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let (from, mut to) = (vec![1_u8; CHUNK], vec![2_u8; CHUNK]);
                started.wait();
                for _ in 0..share / CHUNK {
                    to.copy_from_slice(std::hint::black_box(&from));
                    std::hint::black_box(&mut to);
                }
            });
        }
        started.wait();
        clock = Instant::now();
    });
    clock.elapsed().as_secs_f64()
}

fn copy_file(from: &Path, to: &Path) -> Outcome<f64> {
    let _ = fs::remove_file(to);
    let started = Instant::now();
    let done = Command::new("cp").arg("--reflink=never").arg(from).arg(to).status()?;
    if !done.success() {
        return Err("cp failed".into());
    }
    Ok(started.elapsed().as_secs_f64())
}

fn write_model(path: &Path) -> Outcome<u64> {
    let mut header = String::from("{");
    let mut at = 0_u64;
    for (i, rows) in ROWS.iter().enumerate() {
        let end = at + rows * ROW * 2;
        let comma = if i == 0 { "" } else { "," };
        header += &format!(
            "{comma}\"layers.{i}.weight\":{{\"dtype\":\"BF16\",\"shape\":[{rows},{ROW}],\"data_offsets\":[{at},{end}]}}"
        );
        at = end;
    }
    header += "}";
    while header.len() % 8 != 0 {
        header.push(' ');
    }
    let mut file = File::create(path)?;
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let block = gaussian_block(1 << 20);
    let mut left = at;
    while left > 0 {
        let n = left.min(block.len() as u64);
        file.write_all(&block[..n as usize])?;
        left -= n;
    }
    file.sync_all()?;
    Ok(at)
}

/// BF16 values near N(0, 0.02): sums of twelve uniform numbers from a small generator.
fn gaussian_block(n: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    let mut bytes = Vec::with_capacity(n * 2);
    for _ in 0..n {
        let sum: f32 = (0..12).map(|_| uniform()).sum();
        let value = (sum - 6.0) * 0.02;
        bytes.extend_from_slice(&((value.to_bits() >> 16) as u16).to_le_bytes());
    }
    bytes
}
