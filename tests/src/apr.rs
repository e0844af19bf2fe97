//! APR files, written by the description of the format without the code under test: the container, its checksums, and
//! aprender's encoders of q4 and q8.

use half::f16;

/// Bytes between which the parts of a file are padded.
const ALIGNMENT: usize = 64;

/// binary32.
pub const F32: u8 = 0;
/// binary16.
pub const F16: u8 = 1;
/// bfloat16.
pub const BF16: u8 = 30;
/// ggml's Q4_K.
pub const Q4_K: u8 = 12;
/// ggml's Q6_K.
pub const Q6_K: u8 = 14;
/// Native q4.
pub const Q4: u8 = 128;
/// Native q8.
pub const Q8: u8 = 129;

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct AprTensor {
    /// Its name.
    pub name: String,
    /// The dtype byte.
    pub byte: u8,
    /// Outermost axis first.
    pub shape: Vec<u64>,
    /// The stored bytes.
    pub payload: Vec<u8>,
}

impl AprTensor {
    /// A tensor of given bytes.
    pub fn raw(name: &str, byte: u8, shape: &[u64], payload: Vec<u8>) -> AprTensor {
        AprTensor { name: name.into(), byte, shape: shape.to_vec(), payload }
    }

    /// A tensor of F32 values.
    pub fn f32(name: &str, shape: &[u64], values: &[f32]) -> AprTensor {
        AprTensor::raw(name, F32, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// A tensor of native q4.
    pub fn q4(name: &str, shape: &[u64], values: &[f32]) -> AprTensor {
        AprTensor::raw(name, Q4, shape, encode_q4(values))
    }

    /// A tensor of native q8.
    pub fn q8(name: &str, shape: &[u64], values: &[f32]) -> AprTensor {
        AprTensor::raw(name, Q8, shape, encode_q8(values))
    }
}

/// A file to be written.
#[derive(Clone, Debug)]
pub struct AprFile {
    /// The flags of the header.
    pub flags: u16,
    /// JSON.
    pub metadata: String,
    /// Sorted by name when they are written.
    pub tensors: Vec<AprTensor>,
}

impl AprFile {
    /// A row-major file without metadata.
    pub fn of(tensors: impl IntoIterator<Item = AprTensor>) -> AprFile {
        AprFile { flags: 1 << 10, metadata: "{}".into(), tensors: tensors.into_iter().collect() }
    }

    /// The same with this metadata.
    #[must_use]
    pub fn with_metadata(self, metadata: &str) -> AprFile {
        AprFile { metadata: metadata.into(), ..self }
    }

    /// The bytes of the file.
    pub fn bytes(mut self) -> Vec<u8> {
        self.tensors.sort_by(|a, b| a.name.cmp(&b.name));
        let (mut index, mut data) = (Vec::new(), Vec::new());
        for t in &self.tensors {
            index.extend_from_slice(&(t.name.len() as u16).to_le_bytes());
            index.extend_from_slice(t.name.as_bytes());
            index.extend_from_slice(&[t.byte, t.shape.len() as u8]);
            t.shape.iter().for_each(|n| index.extend_from_slice(&n.to_le_bytes()));
            index.extend_from_slice(&(data.len() as u64).to_le_bytes());
            index.extend_from_slice(&(t.payload.len() as u64).to_le_bytes());
            data.extend_from_slice(&t.payload);
            pad(&mut data);
        }
        pad(&mut index);
        let mut metadata = self.metadata.clone().into_bytes();
        pad(&mut metadata);
        let index_at = 64 + metadata.len() as u64;
        let data_at = index_at + index.len() as u64;
        let mut out = b"APR\0\x02\0".to_vec();
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&(self.tensors.len() as u32).to_le_bytes());
        out.extend_from_slice(&64_u64.to_le_bytes());
        out.extend_from_slice(&(self.metadata.len() as u32).to_le_bytes());
        out.extend_from_slice(&index_at.to_le_bytes());
        out.extend_from_slice(&data_at.to_le_bytes());
        out.resize(64, 0);
        for part in [metadata, index, data] {
            out.extend_from_slice(&part);
        }
        out.extend_from_slice(&[0; 4]);
        seal(&mut out);
        out
    }
}

fn pad(part: &mut Vec<u8>) {
    part.resize(part.len().next_multiple_of(ALIGNMENT), 0);
}

/// Sets the checksums of header and file to those of the bytes.
pub fn seal(file: &mut [u8]) {
    if file.len() < 68 {
        return;
    }
    let header = [&file[..40], &file[44..64]].concat();
    file[40..44].copy_from_slice(&crc32(&header).to_le_bytes());
    let body = file.len() - 4;
    let sum = crc32(&file[..body]);
    file[body..].copy_from_slice(&sum.to_le_bytes());
}

/// CRC-32 of IEEE 802.3, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let bit = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, b| (0..8).fold(crc ^ u32::from(*b), |crc, _| bit(crc)))
}

/// Native q4: the scale is that of the largest magnitude over 7, unrounded for the codes.
pub fn encode_q4(values: &[f32]) -> Vec<u8> {
    let mut out = Vec::new();
    for block in values.chunks(32) {
        let top = block.iter().fold(0.0_f32, |top, v| top.max(v.abs()));
        let scale = if top == 0.0 { 1.0 } else { top / 7.0 };
        out.extend_from_slice(&f16::from_f32(scale).to_le_bytes());
        let mut nibbles = [0_u8; 32];
        for (n, v) in nibbles.iter_mut().zip(block) {
            *n = ((v / scale).round().clamp(-8.0, 7.0) as i8 + 8) as u8;
        }
        out.extend(nibbles.chunks(2).map(|pair| pair[0] | pair[1] << 4));
    }
    out
}

/// The values of native q4.
pub fn decode_q4(raw: &[u8], n: usize) -> Vec<f32> {
    let value = |i: usize| {
        let block = &raw[i / 32 * 18..i / 32 * 18 + 18];
        let code = block[2 + i % 32 / 2] >> (4 * (i % 2)) & 15;
        (f32::from(code) - 8.0) * f16::from_le_bytes([block[0], block[1]]).to_f32()
    };
    (0..n).map(value).collect()
}

/// Native q8: one scale for the whole tensor, the largest magnitude over 127.
pub fn encode_q8(values: &[f32]) -> Vec<u8> {
    let top = values.iter().fold(0.0_f32, |top, v| top.max(v.abs()));
    let scale = if top == 0.0 { 1.0 } else { top / 127.0 };
    let code = |v: &f32| (v / scale).round().clamp(-127.0, 127.0) as i8 as u8;
    scale.to_le_bytes().into_iter().chain(values.iter().map(code)).collect()
}

/// The values of native q8.
pub fn decode_q8(raw: &[u8]) -> Vec<f32> {
    let scale = f32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]);
    raw[4..].iter().map(|&code| f32::from(code as i8) * scale).collect()
}
