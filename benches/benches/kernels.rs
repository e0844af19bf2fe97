//! Kernels of every engine on one thread, on a tile that stays in the L2 cache, in GB/s of input.
//!
//! `cargo bench -p quantoscope-benches --bench kernels`
#![allow(missing_docs)] // criterion_group! makes a public function without any

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quantoscope_accel::SimdLevel;
use quantoscope_core::DType;
use quantoscope_core::metric::{Histogram, LEAF, MergeTree, pair_leaf};
use quantoscope_core::quant::{Encoding, ImportanceUse, check_finite, encoder, transcoder};
use quantoscope_tests::generators::{generate, importance};
use std::hint::black_box;
use std::time::Duration;

/// Values in the tile.
const N: usize = 1 << 16;

fn encodings() -> Vec<Encoding> {
    use DType::*;
    let types = [
        F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, IQ3_S,
        IQ3_XXS, IQ2_S, IQ2_XS, IQ2_XXS, IQ1_M, IQ1_S, TQ1_0, MXFP4, NVFP4,
    ]
    .map(Encoding::Type);
    types.into_iter().chain([Encoding::F16Finite, Encoding::LatticeAsym, Encoding::LatticeSym]).collect()
}

fn bytes(d: DType) -> usize {
    d.bytes_for(N as u64).unwrap_or(0) as usize
}

/// Importance weights of a row, for the types that need them.
fn weights(e: Encoding) -> Option<Vec<f32>> {
    (e.importance() >= ImportanceUse::Wanted).then(|| importance(2, 4096))
}

fn encode(c: &mut Criterion) {
    let x = generate("normal", 1, N);
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Bytes(4 * N as u64));
    for e in encodings() {
        let weights = weights(e);
        for level in SimdLevel::available() {
            let (kernels, mut out) = (level.kernels(), vec![0; bytes(e.dtype())]);
            group.bench_function(format!("{e}/{}", level.name()), |b| {
                b.iter(|| kernels.encode(e, black_box(&x), weights.as_deref(), &mut out));
            });
        }
    }
    group.finish();
}

fn recode(c: &mut Criterion) {
    let mut raw = vec![0; 2 * N];
    encoder(Encoding::Type(DType::BF16)).expect("in the table")(&generate("normal", 1, N), None, &mut raw)
        .expect("in range");
    let mut group = c.benchmark_group("recode_bf16");
    group.throughput(Throughput::Bytes(raw.len() as u64));
    let mut values = vec![0.0; N];
    for e in encodings().into_iter().filter(|e| !e.searches()) {
        for level in SimdLevel::available() {
            let (kernels, mut out) = (level.kernels(), vec![0; bytes(e.dtype())]);
            group.bench_function(format!("{e}/{}", level.name()), |b| {
                b.iter(|| kernels.recode(DType::BF16, black_box(&raw), e, &mut values, &mut out));
            });
        }
    }
    group.finish();
}

/// Encoding with importance of rows of 4096 columns, on every SIMD level of this machine.
fn encode_weighted(c: &mut Criterion) {
    let (x, weights) = (generate("normal", 1, N), importance(1, 4096));
    let mut group = c.benchmark_group("encode_weighted");
    group.throughput(Throughput::Bytes(4 * N as u64));
    for e in encodings().into_iter().filter(|e| e.importance() != ImportanceUse::Ignored) {
        let mut out = vec![0; bytes(e.dtype())];
        for level in SimdLevel::available() {
            let run = level.kernels();
            group.bench_function(format!("{e}/{}", level.name()), |b| {
                b.iter(|| run.encode(e, black_box(&x), Some(&weights), &mut out));
            });
        }
    }
    group.finish();
}

fn decode(c: &mut Criterion) {
    let x = generate("normal", 1, N);
    let mut group = c.benchmark_group("decode");
    for e in encodings().into_iter().filter(|e| *e != Encoding::F16Finite && *e != Encoding::LatticeSym) {
        let (mut raw, d) = (vec![0; bytes(e.dtype())], e.dtype());
        encoder(e).expect("in the table")(&x, weights(e).as_deref(), &mut raw).expect("in range");
        group.throughput(Throughput::Bytes(raw.len() as u64));
        for level in SimdLevel::available() {
            let (kernels, mut out) = (level.kernels(), vec![0.0; N]);
            group.bench_function(format!("{d}/{}", level.name()), |b| {
                b.iter(|| kernels.decode(d, black_box(&raw), &mut out));
            });
        }
    }
    group.finish();
}

fn transcode(c: &mut Criterion) {
    let mut raw = vec![0; bytes(DType::LATTICE_Q4)];
    encoder(Encoding::LatticeSym).expect("in the table")(&generate("normal", 1, N), None, &mut raw)
        .expect("in range");
    let mut group = c.benchmark_group("transcode");
    group.throughput(Throughput::Bytes(raw.len() as u64));
    for to in [DType::Q4_1, DType::Q4_0] {
        let (run, mut out) = (transcoder(DType::LATTICE_Q4, to).expect("in the table"), vec![0; bytes(to)]);
        group.bench_function(format!("LATTICE_Q4-{to}"), |b| b.iter(|| run(black_box(&raw), &mut out)));
    }
    group.finish();
}

fn measure(c: &mut Criterion) {
    let (x, y) = (generate("normal", 1, N), generate("heavy", 2, N));
    let leaves = || x.chunks(LEAF).zip(y.chunks(LEAF));
    let mut group = c.benchmark_group("measure");
    // Elements and not bytes: what is compared is a pair of values.
    group.throughput(Throughput::Elements(N as u64));
    for level in SimdLevel::available() {
        let (kernels, name) = (level.kernels(), level.name());
        group.bench_function(format!("pair/{name}"), |b| {
            b.iter(|| leaves().map(|(r, q)| kernels.pair(black_box(r), black_box(q)).e2).sum::<f64>());
        });
        group.bench_function(format!("moments/{name}"), |b| {
            b.iter(|| leaves().map(|(r, _)| kernels.moments(black_box(r)).m2).sum::<f64>());
        });
        let mut histogram = Histogram::new();
        group.bench_function(format!("histogram/{name}"), |b| {
            b.iter(|| kernels.count(&mut histogram, black_box(&x)));
        });
    }
    for cols in [256, 4096] {
        group.bench_function(format!("pair_forest_{cols}"), |b| {
            b.iter(|| {
                let mut forest = MergeTree::new((N / cols) as u64, cols as u64);
                for (at, (r, q)) in leaves().enumerate() {
                    let per_row = cols / LEAF;
                    forest.leaf(
                        (at / per_row) as u64,
                        (at % per_row) as u64,
                        pair_leaf(black_box(r), black_box(q)),
                    );
                }
                forest.total()
            });
        });
    }
    group.bench_function("check_finite", |b| b.iter(|| check_finite(black_box(&x))));
    group.finish();
}

criterion_group! {
    name = kernels;
    config = Criterion::default().measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(300));
    targets = encode, encode_weighted, recode, decode, transcode, measure
}
criterion_main!(kernels);
