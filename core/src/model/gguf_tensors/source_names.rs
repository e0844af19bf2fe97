//! Names of a checkpoint as the converter sees them: what it leaves out of every text model, and what it renames before
//! it looks names up.

use super::config_view::ConfigView;
use crate::model::arch::gguf_rules::BeyondRule;
use crate::model::arch::{Arch, row};
use alloc::borrow::Cow;
use alloc::format;

const TOWER_STARTS: &[&str] = &[
    "mlp",
    "vit.",
    "vpm.",
    "siglip2.",
    "conformer.",
    "merger.",
    "resampler.",
    "sound_encoder.",
    "sound_projection.",
    "speech_embeddings.",
];
const TOWER_PARTS: &[&str] = &[
    "visual.",
    "vision.",
    "audio.",
    "talker.",
    "vision_",
    "audio_",
    "token2wav.",
    "code2wav.",
    "projector.",
    "pre_mm_projector_norm",
    "image_newline",
    "view_seperator",
    "patch_embed",
    "patch_embedding",
    "patch_merger.",
    "patch_merge_mlp.",
    "model.connector.",
];
const BUFFERS: &[&str] = &[".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq"];

/// Whether a tensor belongs to a vision or audio tower.
pub(super) fn is_tower(name: &str) -> bool {
    TOWER_STARTS.iter().any(|s| name.starts_with(s)) || TOWER_PARTS.iter().any(|p| name.contains(p))
}

/// Whether a tensor is a buffer, or of a kind that GGUF files of the architecture do not have.
pub(super) fn is_dropped(arch: &Arch, name: &str) -> bool {
    let ends = |tails: &[&str]| tails.iter().any(|t| name.ends_with(t));
    ends(BUFFERS) || ends(arch.gguf_rules.dropped)
}

/// The name to look up. Predictors (`mtp.`) are layers after the last one.
pub(super) fn looked_up<'n>(arch: &Arch, config: &ConfigView<'_>, name: &'n str) -> Cow<'n, str> {
    let cut = match name.contains("language_model.") {
        true => Cow::Owned(name.replace("language_model.", "")),
        false => Cow::Borrowed(name),
    };
    if arch.gguf_rules.beyond == BeyondRule::Mtp
        && let Some(inner) = cut.strip_prefix("mtp.").or_else(|| cut.strip_prefix("model.mtp."))
        && let Some(layers) = config.layers()
        && let Some(renamed) = predictor(inner, layers)
    {
        return Cow::Owned(renamed);
    }
    for (old, new) in [(".gamma", ".weight"), (".beta", ".bias")] {
        if let Some(stem) = cut.strip_suffix(old) {
            return Cow::Owned(format!("{stem}{new}"));
        }
    }
    cut
}

/// Modules of a predictor outside of its layers, and their names in a layer.
const RENAMED: &[(&str, &str)] = &[
    ("fc.", "eh_proj."),
    ("pre_fc_norm_embedding.", "enorm."),
    ("pre_fc_norm_hidden.", "hnorm."),
    ("norm.", "shared_head.norm."),
];

/// The inverse of [`predictor`]: the name under `mtp.` of a tensor of a layer after `layers`.
pub(super) fn as_predictor(name: &str, layers: u64) -> Option<alloc::string::String> {
    let (index, tail) = row::number(name.strip_prefix("model.layers.")?)?;
    let place = u64::from(index).checked_sub(layers)?;
    let inner = tail.strip_prefix('.')?;
    let renamed = |(old, new): &(&str, &str)| Some(format!("mtp.{old}{}", inner.strip_prefix(new)?));
    RENAMED.iter().find_map(renamed).or_else(|| Some(format!("mtp.layers.{place}.{inner}")))
}

/// The name of a predictor's tensor as one of the layers after `layers`.
fn predictor(inner: &str, layers: u64) -> Option<alloc::string::String> {
    if let Some(rest) = inner.strip_prefix("layers.") {
        let (index, tail) = row::number(rest)?;
        return Some(format!("model.layers.{}{tail}", layers.checked_add(index.into())?));
    }
    let (old, new) = RENAMED.iter().find(|(old, _)| inner.starts_with(old))?;
    Some(format!("model.layers.{layers}.{new}{}", inner.get(old.len()..)?))
}

/// The block of a name: its first part that is a number.
pub(super) fn block(name: &str) -> Option<u32> {
    row::split(name).map(|(_, number, _)| number)
}
