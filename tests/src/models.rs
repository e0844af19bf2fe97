//! Small models: safetensors, GGUF and lattice files written without the code under test.

use half::{bf16, f16};
use quantoscope_core::DType;

/// A small generator of numbers, the same on every machine (splitmix64).
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.bits() % n.max(1)
    }

    /// Roughly normal, deviation 0.02, as weights are.
    pub fn weight(&mut self) -> f32 {
        let sum: f32 = (0..4).map(|_| (self.bits() >> 40) as f32 / 16_777_216.0 - 0.5).sum();
        sum * 0.035
    }

    /// `n` of them.
    pub fn weights(&mut self, n: u64) -> Vec<f32> {
        (0..n).map(|_| self.weight()).collect()
    }

    /// Puts things in an arbitrary order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// How the bytes are to be read.
    pub dtype: DType,
    /// Outermost axis first.
    pub shape: Vec<u64>,
    /// The elements.
    pub bytes: Vec<u8>,
}

fn bytes_of(dtype: DType, values: &[f32]) -> Vec<u8> {
    let each = |f: &dyn Fn(f32) -> Vec<u8>| values.iter().flat_map(|&v| f(v)).collect();
    match dtype {
        DType::F64 => each(&|v| f64::from(v).to_le_bytes().to_vec()),
        DType::F32 => each(&|v| v.to_le_bytes().to_vec()),
        DType::F16 => each(&|v| f16::from_f32(v).to_le_bytes().to_vec()),
        DType::BF16 => each(&|v| bf16::from_f32(v).to_le_bytes().to_vec()),
        other => panic!("{other} is not written from values here"),
    }
}

impl Tensor {
    /// A tensor of given bytes.
    pub fn raw(name: &str, dtype: DType, shape: &[u64], bytes: Vec<u8>) -> Tensor {
        Tensor { name: name.into(), dtype, shape: shape.to_vec(), bytes }
    }

    /// A tensor of given values.
    pub fn of(name: &str, dtype: DType, shape: &[u64], values: &[f32]) -> Tensor {
        assert_eq!(values.len() as u64, shape.iter().product::<u64>(), "{name}: values and shape");
        Tensor::raw(name, dtype, shape, bytes_of(dtype, values))
    }

    /// A tensor of random weights.
    pub fn random(name: &str, dtype: DType, shape: &[u64], rng: &mut Rng) -> Tensor {
        Tensor::of(name, dtype, shape, &rng.weights(shape.iter().product()))
    }
}

/// A safetensors file of these tensors, in this order.
pub fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    safetensors_with(tensors, &[])
}

/// The same with `__metadata__`.
pub fn safetensors_with(tensors: &[Tensor], metadata: &[(&str, &str)]) -> Vec<u8> {
    let text = |s: &str| serde_json::to_string(s).expect("text is JSON");
    let mut entries = Vec::new();
    if !metadata.is_empty() {
        let pairs: Vec<String> = metadata.iter().map(|(k, v)| format!("{}:{}", text(k), text(v))).collect();
        entries.push(format!("\"__metadata__\":{{{}}}", pairs.join(",")));
    }
    let mut at = 0;
    for t in tensors {
        let dtype = t.dtype.safetensors_name().expect("a dtype of safetensors");
        let end = at + t.bytes.len();
        entries.push(format!(
            "{}:{{\"dtype\":\"{dtype}\",\"shape\":{:?},\"data_offsets\":[{at},{end}]}}",
            text(&t.name),
            t.shape
        ));
        at = end;
    }
    let header = format!("{{{}}}", entries.join(","));
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(header.as_bytes());
    tensors.iter().for_each(|t| out.extend_from_slice(&t.bytes));
    out
}

/// A GGUF value.
#[derive(Clone, Debug)]
pub enum Kv {
    /// Text.
    Text(&'static str),
    /// An unsigned number.
    U32(u32),
    /// A real number.
    F32(f32),
    /// A list of texts.
    Texts(Vec<&'static str>),
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn value(out: &mut Vec<u8>, value: &Kv) {
    let kind: u32 = match value {
        Kv::U32(_) => 4,
        Kv::F32(_) => 6,
        Kv::Text(_) => 8,
        Kv::Texts(_) => 9,
    };
    out.extend_from_slice(&kind.to_le_bytes());
    match value {
        Kv::U32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Kv::F32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Kv::Text(v) => string(out, v),
        Kv::Texts(v) => {
            out.extend_from_slice(&8_u32.to_le_bytes());
            out.extend_from_slice(&(v.len() as u64).to_le_bytes());
            v.iter().for_each(|t| string(out, t));
        }
    }
}

/// A GGUF file (version 3, alignment 32) of these tensors, in this order.
pub fn gguf(metadata: &[(&str, Kv)], tensors: &[Tensor]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend_from_slice(&3_u32.to_le_bytes());
    out.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
    out.extend_from_slice(&(metadata.len() as u64).to_le_bytes());
    for (key, v) in metadata {
        string(&mut out, key);
        value(&mut out, v);
    }
    let mut at = 0_usize;
    for t in tensors {
        string(&mut out, &t.name);
        out.extend_from_slice(&(t.shape.len() as u32).to_le_bytes());
        t.shape.iter().rev().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
        out.extend_from_slice(&t.dtype.ggml_id().expect("a ggml type").to_le_bytes());
        out.extend_from_slice(&(at as u64).to_le_bytes());
        at = (at + t.bytes.len()).next_multiple_of(32);
    }
    for t in tensors {
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend_from_slice(&t.bytes);
    }
    out.resize(out.len().next_multiple_of(32), 0);
    out
}

/// A tensor's name, the sums of each matrix of its stack, and the counts.
pub type ImatrixSums<'a> = (&'a str, Vec<Vec<f32>>, Vec<f32>);

/// The file of an importance matrix.
pub fn imatrix(entries: &[ImatrixSums<'_>]) -> Vec<u8> {
    let mut tensors = Vec::new();
    for (name, sums, counts) in entries {
        let shape = [sums.len() as u64, sums[0].len() as u64];
        tensors.push(Tensor::of(&format!("{name}.in_sum2"), DType::F32, &shape, &sums.concat()));
        tensors.push(Tensor::of(&format!("{name}.counts"), DType::F32, &[counts.len() as u64, 1], counts));
    }
    let about = [
        ("general.type", Kv::Text("imatrix")),
        ("imatrix.datasets", Kv::Texts(vec!["one.txt", "two.txt"])),
        ("imatrix.chunk_count", Kv::U32(7)),
        ("imatrix.chunk_size", Kv::U32(512)),
    ];
    gguf(&about, &tensors)
}

/// The same in the older form, with one number of calls for each tensor, and chunks and a text's name at the
/// end.
pub fn imatrix_dat(entries: &[(&str, Vec<f32>, i32)], tail: Option<(i32, &str)>) -> Vec<u8> {
    let mut out = (entries.len() as i32).to_le_bytes().to_vec();
    for (name, sums, calls) in entries {
        out.extend_from_slice(&(name.len() as i32).to_le_bytes());
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&calls.to_le_bytes());
        out.extend_from_slice(&(sums.len() as i32).to_le_bytes());
        sums.iter().for_each(|v| out.extend_from_slice(&v.to_le_bytes()));
    }
    if let Some((chunks, name)) = tail {
        out.extend_from_slice(&chunks.to_le_bytes());
        out.extend_from_slice(&(name.len() as i32).to_le_bytes());
        out.extend_from_slice(name.as_bytes());
    }
    out
}

/// A small Llama in HF layout, as `dtype`: two layers, every kind of tensor that a dense model has.
pub fn llama(dtype: DType, tied: bool, seed: u64) -> Vec<Tensor> {
    let rng = &mut Rng(seed);
    let mut all = vec![Tensor::random("model.embed_tokens.weight", dtype, &[96, 64], rng)];
    for layer in 0..2 {
        let name = |module: &str| format!("model.layers.{layer}.{module}.weight");
        for (module, shape) in [
            ("self_attn.q_proj", [64, 64]),
            ("self_attn.k_proj", [32, 64]),
            ("self_attn.v_proj", [32, 64]),
            ("self_attn.o_proj", [64, 64]),
            ("mlp.gate_proj", [96, 64]),
            ("mlp.up_proj", [96, 64]),
            ("mlp.down_proj", [64, 96]),
        ] {
            all.push(Tensor::random(&name(module), dtype, &shape, rng));
        }
        all.push(Tensor::random(&name("input_layernorm"), dtype, &[64], rng));
        all.push(Tensor::random(&name("post_attention_layernorm"), dtype, &[64], rng));
    }
    all.push(Tensor::random("model.norm.weight", dtype, &[64], rng));
    if !tied {
        all.push(Tensor::random("lm_head.weight", dtype, &[96, 64], rng));
    }
    all
}

/// The `config.json` that goes with [`llama`].
pub const CONFIG: &str = r#"{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4}"#;
