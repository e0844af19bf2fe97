//! Which tensors of a GGUF are F32 whatever the file's type, as llama.cpp's converter decides it.

const KEPT: &[&str] = &[
    "ffn_gate_inp.weight",
    "ffn_gate_inp_shexp.weight",
    "position_embd.weight",
    "token_types.weight",
    "ssm_conv1d.weight",
    "ssm_conv1d_q.weight",
    "ssm_conv1d_k.weight",
    "ssm_conv1d_v.weight",
    "shortconv.conv.weight",
    "time_mix_first.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    "altup_correct_coef.weight",
    "altup_predict_coef.weight",
    "indexer.proj.weight",
];

/// Whether the GGUF tensor `name` with `axes` axes is F32 in files of any type: vectors, norms, routers, tables of
/// positions, convolutions, and what is no weight.
pub fn kept_f32(name: &str, axes: usize) -> bool {
    let ends =
        |tail: &&str| name.strip_suffix(*tail).is_some_and(|head| head.is_empty() || head.ends_with('.'));
    axes <= 1 || name.ends_with("_norm.weight") || !name.ends_with(".weight") || KEPT.iter().any(ends)
}

/// Whether the tensor has the type of the file.
pub fn follows_outtype(name: &str, axes: usize) -> bool {
    !kept_f32(name, axes)
}
