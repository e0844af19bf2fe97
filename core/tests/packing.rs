//! The packing of bits and bytes against the first committed vectors of every type: few enough for Miri (`make miri`).
//! All vectors, on every engine, are in `tests/conformance/vectors.rs`.

use quantoscope_core::quant::{Encoding, ImportanceUse, decoder, encoder};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::path::Path;

#[path = "../../tests/src/generators.rs"]
#[allow(dead_code)]
mod generators;

#[derive(Deserialize)]
struct PackingVectors {
    encoding: Encoding,
    cases: Vec<PackingCase>,
}

#[derive(Deserialize)]
struct PackingCase {
    family: String,
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    n: usize,
    bytes: Option<String>,
    decoded_sha256: Option<String>,
    importance: Option<serde_json::Value>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    (0..text.len()).step_by(2).map(byte).collect()
}

/// The cases of a type that hold their bytes, from the shortest on.
fn cases(name: &str) -> (Encoding, Vec<(PackingCase, Vec<u8>)>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/vectors/{name}.json"));
    let text = std::fs::read_to_string(&path).expect("committed vectors");
    let PackingVectors { encoding, cases } = serde_json::from_str(&text).expect("vectors");
    let held = cases.into_iter().filter_map(|c| Some((unhex(c.bytes.as_deref()?), c)));
    let mut held: Vec<(PackingCase, Vec<u8>)> = held.map(|(bytes, case)| (case, bytes)).collect();
    held.sort_by_key(|(case, _)| case.n);
    (encoding, held)
}

/// Decodes the shortest case; with `encodes`, encodes one where the type needs no importance.
fn check(name: &str, encodes: bool) {
    let (encoding, held) = cases(name);
    let dtype = encoding.dtype();
    let (case, bytes) =
        held.iter().find(|(c, _)| c.n > 0 && c.decoded_sha256.is_some()).expect("a decoded case");
    let mut values = vec![f32::NAN; case.n];
    decoder(dtype).expect("a decoder")(bytes, &mut values);
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(Some(hex(&Sha256::digest(raw))), case.decoded_sha256, "{name} decoded");
    if !encodes {
        return;
    }
    let Some(encode) = encoder(encoding).filter(|_| encoding.importance() != ImportanceUse::Required) else {
        return;
    };
    let generated =
        |c: &PackingCase| c.importance.is_none() && !["every", "blocks", "fixture"].contains(&&*c.family);
    let (case, bytes) = held.iter().find(|(c, _)| generated(c)).expect("a generated case");
    let mut out = vec![0; bytes.len()];
    encode(&generators::generate(&case.family, case.seed, case.n), None, &mut out).expect("finite values");
    assert_eq!(&out, bytes, "{name} encoded");
}

#[test]
fn simple_blocks_are_packed_as_the_reference_packs_them() {
    ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "mxfp4", "nvfp4", "q1_0", "q2_0", "f16", "bf16"]
        .into_iter()
        .for_each(|name| check(name, true));
}

#[test]
fn super_blocks_are_packed_as_the_reference_packs_them() {
    ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "tq1_0", "tq2_0"]
        .into_iter()
        .for_each(|name| check(name, true));
}

#[test]
fn grids_are_packed_as_the_reference_packs_them() {
    // The search of a grid takes Miri tens of minutes.
    let all = ["iq2_xxs", "iq1_m", "iq1_s", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s"];
    let few = if cfg!(miri) { 2 } else { all.len() };
    all.into_iter().take(few).for_each(|name| check(name, !cfg!(miri)));
}

#[test]
fn lattice_blocks_are_packed_as_the_reference_packs_them() {
    ["q4_asym", "q4_sym"].into_iter().for_each(|name| check(name, true));
}
