//! Encoders and decoders of every engine on one thread: weights per second from memory and from cache, beside what
//! the machine reads and copies in the same run.
//!
//! Each figure is the best of several passes, which is what a busy machine disturbs least.
//!
//! Usage: `cargo run --release -p quantoscope-benches --bin streams [TYPE...]`

use quantoscope_accel::SimdLevel;
use quantoscope_core::DType;
use quantoscope_core::kernels::Kernels;
use quantoscope_core::metric::LEAF;
use quantoscope_core::quant::{Encoding, decoder, encoder};
use quantoscope_tests::generators::generate;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Values of a pass through memory: 256 MiB of F32.
const FAR: usize = 64 << 20;
/// Values of a pass in cache: 64 KiB of F32, input and output together.
const NEAR: usize = 16 << 10;
const PASSES: usize = 9;

const STREAMS: [DType; 14] = [
    DType::Q4_0,
    DType::Q8_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::F16,
    DType::BF16,
    DType::TQ1_0,
    DType::TQ2_0,
    DType::MXFP4,
    DType::NVFP4,
    DType::Q1_0,
    DType::Q2_0,
    DType::LATTICE_Q4,
];

fn main() {
    let asked: Vec<DType> = std::env::args().skip(1).map(|t| DType::parse(&t).expect("a type")).collect();
    let wanted = |d: DType| asked.is_empty() || asked.contains(&d);
    // A repeated block: values matter to no branch, and painting all would take longer than the rest.
    let near = generate("normal", 1, NEAR);
    let far: Vec<f32> = near.iter().copied().cycle().take(FAR).collect();
    ceiling(&far);
    println!("\nencode, Mweights/s from memory / from cache\n");
    for d in STREAMS.into_iter().filter(|&d| wanted(d)) {
        let encoding = if d == DType::LATTICE_Q4 { Encoding::LatticeAsym } else { Encoding::Type(d) };
        encode(encoding, &near, &far);
    }
    println!("\nrecode from BF16, Mweights/s from memory / from cache\n");
    for d in STREAMS.into_iter().filter(|&d| wanted(d)) {
        let encoding = if d == DType::LATTICE_Q4 { Encoding::LatticeAsym } else { Encoding::Type(d) };
        recode(encoding, &far);
    }
    println!("\nmeasure, Mweights/s from cache\n");
    measure(&near);
    println!("\ndecode, Mweights/s to memory / to cache\n");
    for &d in DType::ALL.iter().filter(|&&d| decoder(d).is_some() && wanted(d)) {
        decode(d, &near);
    }
}

/// Seconds of the fastest pass.
fn best(mut pass: impl FnMut()) -> f64 {
    pass();
    let once = || {
        let started = Instant::now();
        pass();
        started.elapsed()
    };
    std::iter::repeat_with(once).take(PASSES).min().unwrap_or(Duration::MAX).as_secs_f64()
}

/// Weights per microsecond.
fn speed(weights: usize, pass: impl FnMut()) -> f64 {
    weights as f64 / best(pass) / 1e6
}

fn in_cache(weights: usize, mut pass: impl FnMut()) -> f64 {
    let repeats = (1 << 22) / weights;
    speed(weights * repeats, || (0..repeats).for_each(|_| pass()))
}

/// Speed of plain reads and copies of the same bytes.
fn ceiling(far: &[f32]) {
    let bytes = (4 * FAR) as f64 / 1e9;
    let read = best(|| {
        let sum = |part: &[f32]| {
            part.as_chunks::<64>().0.iter().fold([0_u32; 64], |mut sums, row| {
                sums.iter_mut().zip(row).for_each(|(s, x)| *s ^= x.to_bits());
                sums
            })
        };
        black_box(sum(black_box(far)));
    });
    let mut copy = vec![0.0_f32; FAR];
    let copied = best(|| black_box(&mut copy).copy_from_slice(black_box(far)));
    println!("read {:.2} GB/s, copied {:.2} GB/s", bytes / read, bytes / copied);
}

fn encode(e: Encoding, near: &[f32], far: &[f32]) {
    encoder(e).expect("in the table");
    print!("{:10}", e.name());
    for level in SimdLevel::available() {
        let kernels = level.kernels();
        let run = |src: &[f32], out: &mut [u8]| {
            kernels.encode(e, black_box(src), None, out).expect("values in range");
            black_box(&out);
        };
        let mut out = vec![0; bytes(e.dtype(), far.len())];
        let small = bytes(e.dtype(), near.len());
        let streamed = speed(far.len(), || run(far, &mut out));
        let cached = in_cache(near.len(), || run(near, &mut out[..small]));
        print!(" | {} {streamed:6.0} / {cached:6.0}", level.name());
    }
    println!();
}

/// Encoding from BF16 in tiles, as jobs do.
fn recode(e: Encoding, far: &[f32]) {
    const TILE: usize = 32 << 10;
    let mut raw = vec![0; 2 * far.len()];
    encoder(Encoding::Type(DType::BF16)).expect("in the table")(far, None, &mut raw)
        .expect("values in range");
    let (tile, mut values) = (bytes(e.dtype(), TILE), vec![0.0; TILE]);
    let mut out = vec![0; bytes(e.dtype(), far.len())];
    print!("{:10}", e.name());
    for level in SimdLevel::available() {
        let kernels = level.kernels();
        let mut run = |src: &[u8], out: &mut [u8]| {
            for (src, out) in black_box(src).chunks(2 * TILE).zip(out.chunks_mut(tile)) {
                let room = &mut values[..src.len() / 2];
                kernels.recode(DType::BF16, src, e, room, out).expect("values in range");
            }
            black_box(&out);
        };
        let streamed = speed(far.len(), || run(&raw, &mut out));
        let cached = in_cache(NEAR, || run(&raw[..2 * NEAR], &mut out[..bytes(e.dtype(), NEAR)]));
        print!(" | {} {streamed:6.0} / {cached:6.0}", level.name());
    }
    println!();
}

fn bytes(d: DType, n: usize) -> usize {
    d.bytes_for(n as u64).expect("a size") as usize
}

/// Measurement of leaves in cache, as jobs do.
fn measure(near: &[f32]) {
    let other: Vec<f32> = near.iter().map(|x| x * 1.01).collect();
    for what in ["error", "moments"] {
        print!("{what:10}");
        for level in SimdLevel::available() {
            let kernels = level.kernels();
            let run = || {
                for (x, y) in black_box(near).chunks(LEAF).zip(black_box(&other).chunks(LEAF)) {
                    match what {
                        "error" => drop(black_box(kernels.pair(x, y))),
                        _ => drop(black_box(kernels.moments(x))),
                    }
                }
            };
            print!(" | {} {:6.0}", level.name(), in_cache(near.len(), run));
        }
        println!();
    }
}

/// A tile of stored bytes, repeated over memory; random bytes for types without an encoder.
fn decode(d: DType, near: &[f32]) {
    let small = bytes(d, near.len());
    let mut raw = vec![0x11; small];
    if let Some(encode) = encoder(Encoding::Type(d)) {
        // Some types are written with importance only, which decoding has nothing to do with.
        if encode(near, None, &mut raw).is_err() {
            raw.fill(0x11);
        }
    }
    let far: Vec<u8> = raw.iter().copied().cycle().take(small * (FAR / 4 / near.len())).collect();
    let mut out = vec![0.0; FAR / 4];
    print!("{:10}", d.name());
    for level in SimdLevel::available() {
        let kernels: &dyn Kernels = level.kernels();
        let run = |src: &[u8], out: &mut [f32]| {
            kernels.decode(d, black_box(src), out).expect("in the table");
            black_box(&out);
        };
        let streamed = speed(out.len(), || run(&far, &mut out));
        let cached = in_cache(near.len(), || run(&raw, &mut out[..near.len()]));
        print!(" | {} {streamed:6.0} / {cached:6.0}", level.name());
    }
    println!();
}
