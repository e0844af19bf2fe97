//! The CUDA kernels, run on the processor from the text that is given to a driver: the definition's bytes and refusals.
//!
//! `PTX_BLOCKS=1000 cargo test --release -p quantoscope-tests --test conformance ptx::` takes so many random blocks of each
//! type; a test run takes a hundredth of that.

use crate::engines::Engine;
use crate::vectors::tops;
use quantoscope_accel::cuda::texts::{self, LEN, SOURCES, TYPES};
use quantoscope_core::DType;
use quantoscope_core::float::{f32_to_bf16, f32_to_f16};
use quantoscope_core::kernels::Scalar;
use quantoscope_core::quant::Encoding;
use quantoscope_tests::painters::{blocks, paint, word};
use quantoscope_tests::ptx::{Kernel, Memory, parse};
use quantoscope_tests::vectors::{f32_bytes, load, sha256};

/// What stands where nothing was written yet.
const NOTHING: u8 = 0xA5;
const SCALAR: Engine = Engine { name: "scalar", kernels: &Scalar };

fn random_blocks() -> usize {
    std::env::var("PTX_BLOCKS").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

/// An entry of a type, from its text or another.
pub fn kernel(text: &str, entry: &str) -> Kernel {
    parse(text, entry).unwrap_or_else(|e| panic!("{entry}: {e}"))
}

pub fn text(d: DType) -> &'static str {
    texts::text(d).unwrap_or_else(|| panic!("no kernels for {d}"))
}

/// Launches as a device would be asked to.
pub fn launch(kernel: &Kernel, count: usize, arguments: &[u64], memory: &mut Memory) {
    let groups = u64::from(texts::groups(count as u32));
    kernel.launch(groups, u64::from(texts::THREADS), arguments, memory).unwrap();
}

/// The blocks, and whether any was refused.
fn encode(kernel: &Kernel, to: DType, raw: &[u8], count: usize) -> (Vec<u8>, bool) {
    let size = count * to.block_bytes() as usize;
    let mut memory = Memory::default();
    let (src, out) = (memory.add(raw.to_vec()), memory.add(vec![NOTHING; size]));
    let refused = memory.add(vec![0; 4]);
    launch(kernel, count, &[src, out, refused, count as u64], &mut memory);
    (memory.bytes(out).to_vec(), memory.bytes(refused) != [0; 4])
}

fn decode(kernel: &Kernel, raw: &[u8], count: usize) -> Vec<f32> {
    let mut memory = Memory::default();
    let (src, out) = (memory.add(raw.to_vec()), memory.add(vec![NOTHING; 4 * LEN * count]));
    launch(kernel, count, &[src, out, count as u64], &mut memory);
    memory.bytes(out).as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

/// Values as a source stores them.
pub fn stored(source: DType, x: &[f32]) -> Vec<u8> {
    match source {
        DType::BF16 => x.iter().flat_map(|&x| f32_to_bf16(x).to_le_bytes()).collect(),
        DType::F16 => x.iter().flat_map(|&x| f32_to_f16(x).to_le_bytes()).collect(),
        _ => f32_bytes(x),
    }
}

/// How many blocks of a launch are not the definition's; the flag must be raised exactly where one is refused.
fn differing(kernel: &Kernel, source: DType, to: DType, raw: &[u8]) -> usize {
    let (step, size) = (LEN * source.block_bytes() as usize, to.block_bytes() as usize);
    let count = raw.len() / step;
    let (got, flag) = encode(kernel, to, raw, count);
    let want = raw.chunks(step).map(|raw| SCALAR.recode(source, raw, Encoding::Type(to), LEN).ok());
    let pairs: Vec<_> = want.zip(got.chunks(size)).collect();
    assert_eq!(flag, pairs.iter().any(|(want, _)| want.is_none()), "{source} to {to}: refused");
    pairs.iter().filter(|(want, got)| want.as_ref().is_some_and(|want| want != got)).count()
}

/// The same for some blocks alone, so that a refusal is the block's own.
fn check_alone(kernel: &Kernel, source: DType, to: DType, raw: &[u8]) {
    for block in raw.chunks(LEN * source.block_bytes() as usize).take(40) {
        assert_eq!(differing(kernel, source, to, block), 0, "{source} to {to}: {block:02x?}");
    }
}

#[test]
fn every_vector() {
    for d in TYPES {
        let decoder = kernel(text(d), texts::DECODE);
        let encoders = SOURCES.map(|s| kernel(text(d), texts::encode(s).unwrap()));
        let file = load(&d.to_string().to_lowercase());
        for case in file.cases.iter().filter(|c| c.importance.is_none()) {
            let place = format!("{d} {} n={} seed={}", case.family, case.n, case.seed);
            let raw = if case.family == "blocks" {
                blocks(case.seed, case.n / LEN, d.block_bytes() as usize, tops(d))
            } else {
                let x = paint(&case.family, case.seed, case.n);
                for (source, encoder) in SOURCES.iter().zip(&encoders) {
                    assert_eq!(differing(encoder, *source, d, &stored(*source, &x)), 0, "{place}");
                }
                encode(&encoders[0], d, &f32_bytes(&x), case.n / LEN).0
            };
            // The reference has no bytes of ours for what we refuse.
            if case.family == "huge" {
                continue;
            }
            assert_eq!(Some(sha256(&raw)), case.bytes_sha256, "{place}");
            if let Some(want) = &case.decoded_sha256 {
                assert_eq!(&sha256(&f32_bytes(&decode(&decoder, &raw, case.n / LEN))), want, "{place}");
            }
        }
    }
}

#[test]
fn random_values_of_every_kind() {
    let families = ["heavy", "ties", "zeros", "scaled", "magnitudes", "tiny", "huge", "patterns"];
    for d in TYPES {
        let encoders = SOURCES.map(|s| kernel(text(d), texts::encode(s).unwrap()));
        for (n, family) in families.iter().enumerate() {
            // Numbers of blocks that leave threads without one.
            let count = random_blocks() + n;
            let x = paint(family, word(0xC0DA, n as u64), count * LEN);
            for (source, encoder) in SOURCES.iter().zip(&encoders) {
                let raw = stored(*source, &x);
                assert_eq!(differing(encoder, *source, d, &raw), 0, "{source} to {d}, {family}");
                if ["huge", "patterns"].contains(family) {
                    check_alone(encoder, *source, d, &raw);
                }
            }
        }
    }
}

#[test]
fn any_bytes_decode_alike() {
    for d in TYPES {
        let decoder = kernel(text(d), texts::DECODE);
        let count = 33.max(random_blocks());
        let raw: Vec<u8> = (0..).map(|i| word(7, i) as u8).take(count * d.block_bytes() as usize).collect();
        let (want, got) = (SCALAR.decode(d, &raw, count * LEN), decode(&decoder, &raw, count));
        // Which NaN a product hands on is nobody's promise.
        let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        assert_eq!(want.iter().zip(&got).position(|pair| !same(pair)), None, "{d}");
    }
}

/// Any float constant too small by a part in some thousands, and the values tell.
#[test]
fn a_wrong_constant_is_noticed() {
    let families = ["normal", "ties", "shifted", "zeros"];
    let x: Vec<f32> = families.iter().flat_map(|f| paint(f, 11, 128 * LEN)).collect();
    let raw = f32_bytes(&x);
    for d in TYPES {
        let (head, rest) = text(d).split_once(".visible .entry encode_bf16").unwrap();
        let mut noticed = 0;
        for (at, _) in head.match_indices("0f") {
            let bits = u32::from_str_radix(&head[at + 2..at + 10], 16).unwrap();
            // Zeros are compared with or chosen; the others are calculated with.
            if bits == 0 {
                continue;
            }
            let wrong = format!("{}0f{:08X}{}", &head[..at], bits - 0x1000, &head[at + 10..]);
            let kernel = kernel(&format!("{wrong}.visible .entry encode_bf16{rest}"), "encode_f32");
            assert!(differing(&kernel, DType::F32, d, &raw) > 0, "{d}: {bits:#x} at {at}");
            noticed += 1;
        }
        assert!(noticed >= 2, "{d} has {noticed} constants");
    }
}

/// What the text may not have: anything that rounds otherwise, flushes, or is younger than the language it claims.
#[test]
fn the_texts_are_exact_and_old() {
    for d in TYPES {
        let text = text(d);
        assert!(text.contains("\n.version 6.0\n.target sm_70\n"), "{d}");
        for line in text.lines() {
            let name = line.split_whitespace().find(|w| !w.starts_with('@')).unwrap_or("");
            let words: Vec<&str> = name.trim_end_matches(';').split('.').collect();
            let float = words.last() == Some(&"f32")
                && ["add", "sub", "mul", "div", "fma", "mad"].contains(&words[0]);
            assert!(!float || words.len() == 3 && words[1] == "rn" && words[0] != "fma", "{d}: {line}");
        }
    }
}
