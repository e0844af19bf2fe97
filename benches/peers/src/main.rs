//! Times our kernels on request: a line of words comes in, a line of JSON goes out. `peers.py` asks ours and ggml's in turn.
//!
//! ```text
//! about                                             what there is: engines, and what each type can do
//! encode ENGINE TYPE SOURCE COUNT weighted|plain    SOURCE is f32 or bf16, COUNT the values to stream through
//! decode ENGINE TYPE COUNT                          into one tile again and again, as a job does
//! read BYTES | copy BYTES                           what the memory allows on one thread
//! ```
//!
//! The argument is the folder with `values.f32`, `weights.f32` (one row) and `TYPE.blocks`, which the peer made. The same
//! program is compiled to WebAssembly.

use quantoscope_accel::SimdLevel;
use quantoscope_core::DType;
use quantoscope_core::kernels::Kernels;
use quantoscope_core::quant::{Encoding, ImportanceUse, decoder, encoder};
use sha2::{Digest, Sha256};
use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

/// Values of a tile: what a job works on at once.
const TILE: usize = 32 * 1024;
/// Bytes at the start of a result that are hashed.
const HASHED: usize = 1 << 18;

type PeerResult<T> = Result<T, Box<dyn Error>>;

struct PeerBench {
    folder: PathBuf,
    values: Vec<f32>,
    weights: Vec<f32>,
    /// The source of the last request: its name, and its bytes.
    source: (String, Vec<u8>),
}

fn main() -> PeerResult<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("the folder with the data is missing")?);
    let (values, weights) = (floats(&folder.join("values.f32"))?, floats(&folder.join("weights.f32"))?);
    let mut bench = PeerBench { folder, values, weights, source: Default::default() };
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = bench.answer(&words).unwrap_or_else(|e| format!("{{\"error\":{:?}}}", e.to_string()));
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn floats(path: &Path) -> PeerResult<Vec<f32>> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
}

fn kernels(name: &str) -> PeerResult<&'static dyn Kernels> {
    let found = SimdLevel::available().into_iter().find(|l| l.name() == name);
    Ok(found.ok_or_else(|| format!("no engine {name}"))?.kernels())
}

/// Seconds on the processor: on a machine with other work, seconds on the wall favour whoever needs few of them.
#[cfg(unix)]
fn clock() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Seconds of whatever clock the host gives to the program; `wasi.mjs` gives the processor's.
#[cfg(not(unix))]
fn clock() -> f64 {
    static BEGUN: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    BEGUN.elapsed().as_secs_f64()
}

/// Seconds that `work` takes.
fn timed(work: impl FnOnce() -> PeerResult<()>) -> PeerResult<f64> {
    let begun = clock();
    work()?;
    Ok(clock() - begun)
}

/// The answer with the hash of what was made, so that only equal bytes are compared for speed.
fn answer(seconds: f64, made: impl IntoIterator<Item = u8>) -> String {
    let bytes: Vec<u8> = made.into_iter().take(HASHED).collect();
    let hash = Sha256::digest(bytes).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    format!("{{\"seconds\":{seconds},\"sha256\":\"{hash}\"}}")
}

impl PeerBench {
    fn answer(&mut self, words: &[&str]) -> PeerResult<String> {
        match *words {
            ["about"] => Ok(about()),
            ["encode", engine, name, source, count, weighted] => self.encode(
                kernels(engine)?,
                Encoding::parse(name)?,
                source,
                count.parse()?,
                weighted == "weighted",
            ),
            ["decode", engine, name, count] => {
                self.decode(kernels(engine)?, DType::parse(name)?, count.parse()?)
            }
            ["read", bytes] => read(bytes.parse()?),
            ["copy", bytes] => copy(bytes.parse()?),
            _ => Err("no such request".into()),
        }
    }

    /// The generated values again and again, `count` in all.
    fn fill(&mut self, source: &str, count: usize) {
        let name = format!("{source} {count}");
        if self.source.0 != name {
            let values = self.values.iter().cycle().take(count);
            let bytes = match source {
                "bf16" => values.flat_map(|v| ((v.to_bits() >> 16) as u16).to_le_bytes()).collect(),
                _ => values.flat_map(|v| v.to_le_bytes()).collect(),
            };
            self.source = (name, bytes);
        }
    }

    fn encode(
        &mut self,
        k: &dyn Kernels,
        e: Encoding,
        source: &str,
        count: usize,
        weighted: bool,
    ) -> PeerResult<String> {
        encoder(e).ok_or("cannot be written")?;
        self.fill(source, count);
        let from = if source == "bf16" { DType::BF16 } else { DType::F32 };
        let weights = weighted.then_some(self.weights.as_slice());
        // Not zeros: those would be given by the system page by page, on the clock.
        let mut out = vec![1; e.dtype().bytes_for(count as u64).ok_or("no whole blocks")? as usize];
        let (step, size) = (TILE * from.block_bytes() as usize, out.len() / (count / TILE).max(1));
        let mut tile = vec![0.0; TILE];
        let seconds = timed(|| {
            for (src, dst) in self.source.1.chunks(step).zip(black_box(&mut out).chunks_mut(size)) {
                let tile = &mut tile[..src.len() / from.block_bytes() as usize];
                let done = match weights {
                    None => k.recode(from, src, e, tile, dst),
                    _ => k.decode(from, src, tile).and_then(|()| k.encode(e, tile, weights, dst)),
                };
                done.map_err(|r| r.error())?;
            }
            Ok(())
        })?;
        Ok(answer(seconds, out))
    }

    fn decode(&self, k: &dyn Kernels, d: DType, count: usize) -> PeerResult<String> {
        decoder(d).ok_or("cannot be read")?;
        let raw = std::fs::read(self.folder.join(format!("{d}.blocks")))?;
        let values = raw.len() / d.block_bytes() as usize * d.block_len() as usize;
        let mut tile = vec![0.0; values];
        let seconds = timed(|| {
            for _ in 0..count / values {
                k.decode(d, black_box(&raw), black_box(&mut tile)).map_err(|r| r.error())?;
            }
            Ok(())
        })?;
        Ok(answer(seconds, tile.iter().flat_map(|v| v.to_le_bytes())))
    }
}

fn about() -> String {
    let engines: Vec<String> = SimdLevel::available().iter().map(|l| format!("{:?}", l.name())).collect();
    let types = DType::ALL.iter().filter(|d| decoder(**d).is_some()).map(|&d| {
        let e = Encoding::Type(d);
        let used = e.importance() != ImportanceUse::Ignored;
        let (writes, required) = (encoder(e).is_some(), e.importance() == ImportanceUse::Required);
        format!("\"{d}\":{{\"writes\":{writes},\"weights\":{used},\"needs_weights\":{required}}}")
    });
    let types: Vec<String> = types.collect();
    format!("{{\"engines\":[{}],\"types\":{{{}}}}}", engines.join(","), types.join(","))
}

/// Adds up all words of a buffer.
fn read(bytes: usize) -> PeerResult<String> {
    let words = vec![1_u64; bytes / 8];
    let seconds = timed(|| {
        let sums = black_box(&words).chunks_exact(64).fold([0_u64; 64], |mut sums, chunk| {
            sums.iter_mut().zip(chunk).for_each(|(sum, word)| *sum = sum.wrapping_add(*word));
            sums
        });
        black_box(sums);
        Ok(())
    })?;
    Ok(answer(seconds, []))
}

fn copy(bytes: usize) -> PeerResult<String> {
    let (from, mut to) = (vec![1_u8; bytes], vec![2_u8; bytes]);
    let seconds = timed(|| {
        to.copy_from_slice(black_box(&from));
        black_box(&mut to);
        Ok(())
    })?;
    Ok(answer(seconds, []))
}
