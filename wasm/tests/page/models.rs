//! Small models and importance matrices for tests.

use super::file;

/// A tensor of a model: its name and shape.
pub type TensorSpec = (&'static str, &'static [usize]);

/// Every role that presets distinguish, with rows of one super-block.
pub const ROLES: &[TensorSpec] = &[
    ("model.embed_tokens.weight", &[4, 256]),
    ("model.layers.0.input_layernorm.weight", &[256]),
    ("model.layers.0.self_attn.q_proj.weight", &[2, 256]),
    ("model.layers.0.self_attn.k_proj.weight", &[2, 256]),
    ("model.layers.0.self_attn.v_proj.weight", &[2, 256]),
    ("model.layers.0.self_attn.o_proj.weight", &[2, 256]),
    ("model.layers.0.mlp.gate_proj.weight", &[2, 256]),
    ("model.layers.0.mlp.up_proj.weight", &[2, 256]),
    ("model.layers.0.mlp.down_proj.weight", &[2, 256]),
    ("model.norm.weight", &[256]),
    ("lm_head.weight", &[4, 256]),
];

/// A Llama model that can be run: hidden size 64, one layer, two heads, vocabulary of 16.
pub const LLAMA: &[TensorSpec] = &[
    ("model.embed_tokens.weight", &[16, 64]),
    ("model.layers.0.input_layernorm.weight", &[64]),
    ("model.layers.0.self_attn.q_proj.weight", &[64, 64]),
    ("model.layers.0.self_attn.k_proj.weight", &[32, 64]),
    ("model.layers.0.self_attn.v_proj.weight", &[32, 64]),
    ("model.layers.0.self_attn.o_proj.weight", &[64, 64]),
    ("model.layers.0.post_attention_layernorm.weight", &[64]),
    ("model.layers.0.mlp.gate_proj.weight", &[96, 64]),
    ("model.layers.0.mlp.up_proj.weight", &[96, 64]),
    ("model.layers.0.mlp.down_proj.weight", &[64, 96]),
    ("model.norm.weight", &[64]),
    ("lm_head.weight", &[16, 64]),
];

/// The configuration of [`LLAMA`].
pub const LLAMA_CONFIG: &str = r#"{
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 1,
  "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "intermediate_size": 96, "vocab_size": 16,
  "tie_word_embeddings": false, "rope_theta": 10000.0, "rms_norm_eps": 1e-05, "hidden_act": "silu",
  "max_position_embeddings": 64, "torch_dtype": "float32"
}"#;

fn values(count: usize, seed: usize) -> impl Iterator<Item = f32> {
    (0..count).map(move |i| (((i * 37 + seed * 11) % 101) as f32 - 50.0) / 64.0 + 0.001 * (i % 7) as f32)
}

/// A safetensors file of these tensors in F32.
pub fn safetensors(tensors: &[TensorSpec]) -> Vec<u8> {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (seed, (name, shape)) in tensors.iter().enumerate() {
        let start = data.len();
        data.extend(values(shape.iter().product(), seed).flat_map(f32::to_le_bytes));
        entries.push(format!(
            r#""{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{start},{}]}}"#,
            data.len()
        ));
    }
    file(&format!("{{{}}}", entries.join(",")), &data)
}

/// An importance matrix (`.dat`) with sums for every matrix of these tensors, by name.
pub fn imatrix(tensors: &[TensorSpec]) -> Vec<u8> {
    let matrices: Vec<&TensorSpec> = tensors.iter().filter(|(_, shape)| shape.len() == 2).collect();
    let mut bytes = (matrices.len() as u32).to_le_bytes().to_vec();
    for (name, shape) in matrices {
        bytes.extend((name.len() as u32).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend((shape[1] as u32).to_le_bytes());
        bytes.extend((0..shape[1]).flat_map(|i| (0.25 + (i % 5) as f32).to_le_bytes()));
    }
    bytes
}
