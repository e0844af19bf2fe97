//! Headers with very many entries: nothing may take the square of their number.

use crate::support::{gguf, plan};
use quantoscope_core::DType;
use quantoscope_tests::memory::World;
use quantoscope_tests::models::{Tensor, safetensors_with};
use std::time::{Duration, Instant};

/// Far more than it takes, far less than a square of it would.
const PATIENCE: Duration = Duration::from_secs(8);

#[test]
fn a_hundred_thousand_metadata_keys_are_opened_at_once() {
    let keys: Vec<String> = (0..100_000).map(|i| format!("key {i}")).collect();
    let pairs: Vec<(&str, &str)> = keys.iter().map(|k| (k.as_str(), "value")).collect();
    let file = safetensors_with(&[Tensor::raw("w.weight", DType::F32, &[1], vec![0; 4])], &pairs);
    let begun = Instant::now();
    let world = World::file("m.safetensors", file).expect("a sound file");
    assert_eq!(world.checkpoint.metadata.0.len(), keys.len());
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

#[test]
fn fifty_thousand_8_bit_floats_are_planned_at_once() {
    let tensor = |i| Tensor::raw(&format!("layers.{i}.weight"), DType::F8_E4M3, &[1, 32], vec![0x38; 32]);
    let world = World::safetensors(&(0..50_000).map(tensor).collect::<Vec<_>>());
    let begun = Instant::now();
    assert_eq!(plan(&world, &gguf(DType::Q8_0)).outputs.len(), 50_000);
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}
