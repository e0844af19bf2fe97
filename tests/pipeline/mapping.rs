//! What GGUF converters do to tensors is undone before comparing: renamed, interleaved, shifted, stacked.
//!
//! The fixtures are converted here, by the rules of `convert_hf_to_gguf.py`, not by code of ours.

use crate::support::{assert_equal, compare, kinds, verify};
use quantoscope_core::DType;
use quantoscope_tests::memory::MemoryModel;
use quantoscope_tests::models::{Kv, Rng, Tensor, gguf, llama};

const HEADS: u32 = 4;
const KV_HEADS: u32 = 2;

/// `permute` of the converter: `reshape(heads, 2, rows / heads / 2, cols).swapaxes(1, 2)`.
fn interleave(t: &Tensor, heads: u64) -> Tensor {
    let (rows, row) = (t.shape[0], t.bytes.len() / t.shape[0] as usize);
    let half = rows / heads / 2;
    let mut bytes = Vec::with_capacity(t.bytes.len());
    for head in 0..heads {
        for b in 0..half {
            for a in 0..2 {
                let from = (head * half * 2 + a * half + b) as usize;
                bytes.extend_from_slice(&t.bytes[from * row..(from + 1) * row]);
            }
        }
    }
    Tensor { bytes, ..t.clone() }
}

fn gguf_name(hf: &str) -> String {
    const MODULES: [(&str, &str); 9] = [
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
    ];
    match hf {
        "model.embed_tokens.weight" => return "token_embd.weight".into(),
        "model.norm.weight" => return "output_norm.weight".into(),
        "lm_head.weight" => return "output.weight".into(),
        _ => {}
    }
    let name = hf.replace("model.layers.", "blk.");
    let (from, to) = MODULES.iter().find(|(m, _)| name.contains(m)).expect("a module of a llama");
    name.replace(from, to)
}

/// As the converter would write these tensors.
fn converted(tensors: &[Tensor]) -> Vec<Tensor> {
    let one = |t: &Tensor| {
        let t = match &t.name {
            n if n.contains("q_proj") => interleave(t, HEADS.into()),
            n if n.contains("k_proj") => interleave(t, KV_HEADS.into()),
            _ => t.clone(),
        };
        Tensor { name: gguf_name(&t.name), ..t }
    };
    tensors.iter().map(one).collect()
}

fn llama_keys(heads: u32, kv_heads: u32) -> Vec<(&'static str, Kv)> {
    vec![
        ("general.architecture", Kv::Text("llama")),
        ("llama.attention.head_count", Kv::U32(heads)),
        ("llama.attention.head_count_kv", Kv::U32(kv_heads)),
    ]
}

fn file(keys: &[(&str, Kv)], tensors: &[Tensor]) -> MemoryModel {
    MemoryModel::file("model.gguf", gguf(keys, tensors)).expect("a sound file")
}

#[test]
fn a_converted_llama_has_no_error_in_either_direction() {
    for tied in [false, true] {
        let source = llama(DType::F32, tied, 21);
        let hf = MemoryModel::safetensors(&source);
        let ggml = file(&llama_keys(HEADS, KV_HEADS), &converted(&source));
        assert_equal(&compare(&hf, &ggml), source.len());
        assert_equal(&compare(&ggml, &hf), source.len());
        assert_equal(&compare(&ggml, &ggml), source.len());
        let names: Vec<String> =
            compare(&ggml, &hf).tensors.into_iter().map(|r| r.tensor.to_string()).collect();
        assert!(names.contains(&"model.layers.1.self_attn.q_proj.weight".to_string()), "{names:?}");
    }
}

#[test]
fn rows_that_were_not_interleaved_are_found() {
    let source = llama(DType::F32, true, 22);
    let plain: Vec<Tensor> =
        source.iter().map(|t| Tensor { name: gguf_name(&t.name), ..t.clone() }).collect();
    let report = compare(&MemoryModel::safetensors(&source), &file(&llama_keys(HEADS, KV_HEADS), &plain));
    assert!(!report.passes());
    for row in &report.tensors {
        let rotary = row.tensor.contains("q_proj") || row.tensor.contains("k_proj");
        assert_eq!(row.error.rmse != Some(0.0), rotary, "{}", row.tensor);
    }
}

#[test]
fn a_wrong_head_count_is_a_finding() {
    let source = llama(DType::F32, true, 23);
    let hf = MemoryModel::safetensors(&source);
    // No whole even heads: the permutation is unknown.
    let report = compare(&hf, &file(&llama_keys(5, KV_HEADS), &converted(&source)));
    assert_eq!(
        kinds(&report).iter().filter(|k| **k == "unmapped_tensor").count(),
        2,
        "{:?}",
        report.findings
    );
    assert!(!report.passes());
    let none = [("general.architecture", Kv::Text("llama"))];
    let report = compare(&hf, &file(&none, &converted(&source)));
    assert_eq!(
        kinds(&report).iter().filter(|k| **k == "unmapped_tensor").count(),
        4,
        "{:?}",
        report.findings
    );
    // Another whole head count compares the wrong rows, and the gate sees it.
    let report = compare(&hf, &file(&llama_keys(2, KV_HEADS), &converted(&source)));
    assert!(report.any_below_threshold && !report.passes());
}

#[test]
fn an_unknown_architecture_is_a_finding() {
    let source = llama(DType::F32, true, 24);
    let keys = [("general.architecture", Kv::Text("not-a-family")), ("x", Kv::F32(1.0))];
    let report = compare(&MemoryModel::safetensors(&source), &file(&keys, &converted(&source)));
    assert!(kinds(&report).contains(&"unknown_architecture"), "{:?}", report.findings);
    assert!(kinds(&report).contains(&"no_overlap"));
    assert!(report.tensors.is_empty() && !report.passes());
}

fn norm(name: &str, shift: f32) -> Tensor {
    // Multiples of 2^-8 below 2, so that adding one and taking it away again is exact.
    let values: Vec<f32> = (0..64_u8).map(|i| f32::from(i) / 256.0 - 0.125 + shift).collect();
    Tensor::of(name, DType::F32, &[64], &values)
}

#[test]
fn gemma_norms_are_shifted_back() {
    let rng = &mut Rng(25);
    let up = Tensor::random("model.layers.0.mlp.up_proj.weight", DType::F32, &[96, 64], rng);
    let hf = MemoryModel::safetensors(&[
        up.clone(),
        norm("model.layers.0.input_layernorm.weight", 0.0),
        norm("model.layers.0.post_attention_layernorm.weight", 0.0),
        norm("model.layers.0.pre_feedforward_layernorm.weight", 0.0),
        norm("model.norm.weight", 0.0),
    ]);
    let ggml = |shift| {
        let tensors = [
            Tensor { name: "blk.0.ffn_up.weight".into(), ..up.clone() },
            norm("blk.0.attn_norm.weight", shift),
            norm("blk.0.post_attention_norm.weight", shift),
            norm("blk.0.ffn_norm.weight", shift),
            norm("output_norm.weight", shift),
        ];
        file(&[("general.architecture", Kv::Text("gemma2"))], &tensors)
    };
    assert_equal(&compare(&hf, &ggml(1.0)), 5);
    assert_equal(&compare(&ggml(1.0), &hf), 5);
    let forgotten = compare(&hf, &ggml(0.0));
    assert_eq!(forgotten.tensors.iter().filter(|r| r.error.max_abs == Some(1.0)).count(), 4);
}

#[test]
fn stacked_experts_are_unstacked() {
    let rng = &mut Rng(26);
    let expert = |e: u32, w: &str, shape: [u64; 2], rng: &mut Rng| {
        Tensor::random(
            &format!("model.layers.0.block_sparse_moe.experts.{e}.{w}.weight"),
            DType::BF16,
            &shape,
            rng,
        )
    };
    let mut hf = Vec::new();
    let mut ggml = Vec::new();
    for (w, stack, shape) in
        [("w1", "ffn_gate", [40, 64]), ("w2", "ffn_down", [64, 40]), ("w3", "ffn_up", [40, 64])]
    {
        let experts: Vec<Tensor> = (0..3).map(|e| expert(e, w, shape, rng)).collect();
        let bytes = experts.iter().flat_map(|t| t.bytes.clone()).collect();
        ggml.push(Tensor::raw(
            &format!("blk.0.{stack}_exps.weight"),
            DType::BF16,
            &[3, shape[0], shape[1]],
            bytes,
        ));
        hf.extend(experts);
    }
    let (keys, source) = (llama_keys(HEADS, KV_HEADS), MemoryModel::safetensors(&hf));
    assert_equal(&compare(&source, &file(&keys, &ggml)), 9);
    assert_equal(&compare(&file(&keys, &ggml), &source), 9);
    // An expert out of place is seen.
    let half = ggml[0].bytes.len() / 3;
    let mut swapped = ggml.clone();
    swapped[0].bytes.rotate_left(half);
    let report = compare(&source, &file(&keys, &swapped));
    assert_eq!(report.tensors.iter().filter(|r| r.error.rmse != Some(0.0)).count(), 3);
    // One too few on the other side: nothing is compared by guess.
    let fewer = MemoryModel::safetensors(&hf[1..]);
    let report = compare(&fewer, &file(&keys, &ggml));
    assert!(!report.passes() && kinds(&report).contains(&"only_in_candidate"), "{:?}", report.findings);
    // One too many is on one side only.
    let mut more = hf.clone();
    more.push(expert(3, "w1", [40, 64], rng));
    let report = compare(&MemoryModel::safetensors(&more), &file(&keys, &ggml));
    assert_eq!(kinds(&report), ["only_in_reference"]);
}

#[test]
fn a_mapped_tensor_of_another_shape_is_a_finding() {
    let one =
        |shape: &[u64]| Tensor::random("model.layers.0.mlp.up_proj.weight", DType::F32, shape, &mut Rng(1));
    let ggml = Tensor { name: "blk.0.ffn_up.weight".into(), ..one(&[64, 32]) };
    let ggml = file(&llama_keys(HEADS, KV_HEADS), &[ggml]);
    for shape in [&[32, 64][..], &[2048], &[2, 32, 32], &[64, 64]] {
        let report = compare(&MemoryModel::safetensors(&[one(shape)]), &ggml);
        assert!(kinds(&report).contains(&"shape_mismatch"), "{shape:?}: {:?}", report.findings);
        assert!(!report.passes());
    }
}

#[test]
fn bytes_of_rearranged_tensors_are_not_held_against_bytes() {
    let source = llama(DType::F32, true, 27);
    let report =
        verify(&MemoryModel::safetensors(&source), &file(&llama_keys(HEADS, KV_HEADS), &converted(&source)));
    assert!(!report.verified);
    assert_eq!(
        report.findings.iter().filter(|f| f.kind == "not_comparable").count(),
        4,
        "{:?}",
        report.findings
    );
}
