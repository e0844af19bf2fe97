//! Headers with very many entries: no step takes quadratic time.
//!
//! What is compared is the processor time of sixteen times as many entries with that of the few: 16 times
//! where work is proportional, 256 times where it is a square. A slow or loaded machine makes both longer.

use crate::support::{gguf, plan};
use quantoscope_core::DType;
use quantoscope_tests::memory::MemoryModel;
use quantoscope_tests::models::{Tensor, safetensors_with};
use std::hint::black_box;

const TIMES: usize = 16;

/// Processor time of this thread in nanoseconds, as the system counts it; elsewhere the clock's.
fn spent() -> u64 {
    static BEGUN: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    let counted = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let first = counted.as_deref().and_then(|t| t.split(' ').next()?.parse().ok());
    first.unwrap_or_else(|| BEGUN.elapsed().as_nanos() as u64)
}

/// The system counts by its ticks of some milliseconds: work is repeated until many of them have passed.
const ENOUGH: u64 = 200_000_000;

/// Compares the mean time of `work` for a `few` entries with that for `TIMES` as many.
#[track_caller]
fn assert_not_square<T, R>(few: usize, prepare: impl Fn(usize) -> T, work: impl Fn(&T) -> R) {
    let mean = |count: usize| {
        let input = prepare(count);
        black_box(work(&input));
        let (begun, mut runs) = (spent(), 0);
        loop {
            black_box(work(&input));
            runs += 1;
            let time = spent() - begun;
            if time >= ENOUGH {
                return time / runs;
            }
        }
    };
    let (one, many) = (mean(few), mean(few * TIMES));
    let ratio = many as f64 / one as f64;
    assert!(
        ratio < (4 * TIMES) as f64,
        "{few} entries: {one} ns, {TIMES} times as many: {ratio:.0} times as long"
    );
}

#[test]
fn metadata_with_many_keys_opens_in_linear_time() {
    let file = |count: usize| {
        let keys: Vec<String> = (0..count).map(|i| format!("key {i}")).collect();
        let pairs: Vec<(&str, &str)> = keys.iter().map(|k| (k.as_str(), "value")).collect();
        safetensors_with(&[Tensor::raw("w.weight", DType::F32, &[1], vec![0; 4])], &pairs)
    };
    assert_not_square(6_250, file, |file| {
        let model = MemoryModel::file("m.safetensors", file.clone()).expect("a sound file");
        assert!(model.checkpoint.metadata.0.len() >= 6_250);
    });
}

#[test]
fn plan_of_many_f8_tensors_takes_linear_time() {
    let model = |count: usize| {
        let tensor = |i| Tensor::raw(&format!("layers.{i}.weight"), DType::F8_E4M3, &[1, 32], vec![0x38; 32]);
        MemoryModel::safetensors(&(0..count).map(tensor).collect::<Vec<_>>())
    };
    assert_not_square(3_000, model, |model| {
        assert_eq!(plan(model, &gguf(DType::Q8_0)).outputs.len(), model.checkpoint.tensors.len());
    });
}
