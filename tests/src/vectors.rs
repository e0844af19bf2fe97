//! Reads the committed vectors. What they are and where they come from: `generate/README.md`.

use quantoscope_core::quant::Encoding;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::path::PathBuf;

/// One file of vectors.
#[derive(Deserialize)]
pub struct VectorFile {
    /// What is encoded to.
    pub encoding: Encoding,
    /// Where the outputs come from; must not be empty.
    pub provenance: serde_json::Map<String, serde_json::Value>,
    /// The vectors.
    pub cases: Vec<VectorCase>,
}

/// One vector; what a family does not have is absent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorCase {
    /// The generator, or `every`, `blocks`, `fixture`.
    pub family: String,
    /// Its seed.
    #[serde(default)]
    pub seed: u64,
    /// Number of values.
    #[serde(default)]
    pub n: usize,
    /// Hash of the generated values, little-endian.
    pub input_sha256: Option<String>,
    /// Hash of the encoded bytes.
    pub bytes_sha256: Option<String>,
    /// Hash of the decoded values, little-endian.
    pub decoded_sha256: Option<String>,
    /// The encoded bytes, in hex.
    pub bytes: Option<String>,
    /// The importance that the encoder was given.
    pub importance: Option<ImportanceRow>,
    /// For each block, whether a header field would be infinite.
    pub refused: Option<Vec<bool>>,
    /// The shape of a lattice file.
    pub shape: Option<Vec<u64>>,
    /// Hash of the lattice file.
    pub file_sha256: Option<String>,
}

/// One generated row of importance.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportanceRow {
    /// The generator's seed.
    pub seed: u64,
    /// How many weights; the input is rows of as many values.
    pub columns: usize,
    /// Hash of the generated weights, little-endian.
    pub sha256: String,
}

impl VectorCase {
    /// The encoded bytes, where the vector holds them.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let hex = self.bytes.as_ref()?;
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        Some(hex.as_bytes().chunks(2).map(byte).collect())
    }
}

/// The vectors in `vectors/NAME.json`.
pub fn load(name: &str) -> VectorFile {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("vectors/{name}.json"));
    let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// SHA-256 in hex.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Values as little-endian bytes.
pub fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}
