//! What a tensor is by its name alone. Knows the tables, no shape.

use super::pattern::{self, Filled};
use super::table::{MtpLocation, NameRule, Prefix, RotationFamily, StreamSide, untouched};
use alloc::format;
use alloc::string::{String, ToString};

/// Which of a module's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleTensor {
    Weight,
    Bias,
    /// Codes or scales, of which only a quantizer knows how they make the weight.
    Packed,
}

/// What a name says.
#[derive(Clone, Copy, Debug)]
pub enum NameMatch {
    Ruled(RuledName),
    /// Of a predictor of further tokens.
    Mtp,
    /// No rule names it; whether it is named like a part of the decoder's layers.
    Unnamed {
        in_layer: bool,
    },
}

/// A name that a rule fits.
#[derive(Clone, Copy, Debug)]
pub struct RuledName {
    pub rule: NameRule,
    pub kind: ModuleTensor,
    pub layer: Option<u32>,
    pub is_head: bool,
    /// Whether it makes the values of the heads.
    pub makes_values: bool,
    /// Whether it reads them.
    pub reads_values: bool,
}

impl RuledName {
    fn plain(rule: NameRule) -> RuledName {
        let (kind, layer) = (ModuleTensor::Weight, None);
        RuledName { rule, kind, layer, is_head: false, makes_values: false, reads_values: false }
    }
}

/// Tables that modules keep beside their weights; older files have them.
const BUFFERS: &[&str] = &["rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached"];

/// What quantizers put in the place of a weight, or beside it.
const PACKED: &[&str] = &[
    ".weight_scale_inv",
    ".weight_scale",
    ".weight_scale_2",
    ".weight_global_scale",
    ".weight_zero_point",
    ".weight_packed",
    ".weight_shape",
    ".weight_g_idx",
    ".input_scale",
    ".output_scale",
    ".k_scale",
    ".v_scale",
    ".input_global_scale",
    ".qweight",
    ".qzeros",
    ".scales",
    ".biases",
    ".g_idx",
    ".SCB",
    ".weight.absmax",
    ".weight.quant_map",
    ".weight.nested_absmax",
    ".weight.nested_quant_map",
    ".weight.quant_state.bitsandbytes__nf4",
    ".weight.quant_state.bitsandbytes__fp4",
    "_blocks",
    "_scales",
    "_scale",
    "_scale_inv",
];

/// What `name` is in a model of this family with so many layers.
pub fn match_name(family: &RotationFamily, prefix: Prefix, layers: u32, name: &str) -> NameMatch {
    let local = name.strip_prefix(prefix.decoder);
    let beyond = |l: &str| layer(l).is_some_and(|n| n >= layers);
    let more = match family.mtp {
        MtpLocation::None => false,
        MtpLocation::Module => name.starts_with("mtp."),
        MtpLocation::LayersBeyond => local.is_some_and(beyond),
    };
    if more {
        return NameMatch::Mtp;
    }
    let ends = |b: &str| name.strip_suffix(b).is_some_and(|n| n.is_empty() || n.ends_with('.'));
    if BUFFERS.iter().any(|b| ends(b)) {
        return NameMatch::Ruled(RuledName::plain(untouched("")));
    }
    let head = name.strip_prefix(prefix.head).and_then(|n| ruled(family.heads, n));
    if let Some((named, _)) = head {
        return NameMatch::Ruled(RuledName { is_head: true, ..named });
    }
    let inner = local.and_then(|l| family.tables.iter().find_map(|t| ruled(t, l)));
    if let Some((named, stem)) = inner {
        // A layer that the model does not have is none of its parts.
        return match named.layer {
            Some(n) if n >= layers => NameMatch::Unnamed { in_layer: true },
            _ => NameMatch::Ruled(RuledName {
                makes_values: pattern::fill(family.values.v_proj, stem).is_some(),
                reads_values: pattern::fill(family.values.o_proj, stem).is_some(),
                ..named
            }),
        };
    }
    match ruled(family.outside, name) {
        Some((named, _)) => NameMatch::Ruled(named),
        None => NameMatch::Unnamed { in_layer: local.is_some_and(|l| layer(l).is_some()) },
    }
}

/// The layer that a name of the decoder stands in: `layers.` and `h.` are all that the tables have.
fn layer(local: &str) -> Option<u32> {
    let rest = local.strip_prefix("layers.").or_else(|| local.strip_prefix("h."))?;
    let (n, rest) = pattern::number(rest)?;
    rest.starts_with('.').then_some(n)
}

/// The first rule that fits a name, and the name of the module.
fn ruled<'a>(rules: &[NameRule], name: &'a str) -> Option<(RuledName, &'a str)> {
    rules.iter().find_map(|rule| {
        let (kind, Filled { layer }, stem) = fits(rule, name)?;
        Some((RuledName { kind, layer, ..RuledName::plain(*rule) }, stem))
    })
}

fn fits<'a>(rule: &NameRule, name: &'a str) -> Option<(ModuleTensor, Filled, &'a str)> {
    let (weight, bias) = if rule.bare { ("", "_bias") } else { (".weight", ".bias") };
    let plain = [(weight, ModuleTensor::Weight), (bias, ModuleTensor::Bias)];
    let packed = PACKED.iter().map(|&ending| (ending, ModuleTensor::Packed));
    plain.into_iter().chain(packed).find_map(|(ending, kind)| {
        let stem = name.strip_suffix(ending)?;
        let filled = pattern::fill(rule.names, stem)?;
        // Tables of vectors have no bias: there is none to say what becomes of it.
        (kind != ModuleTensor::Bias || rule.side != StreamSide::Embedding).then_some((kind, filled, stem))
    })
}

/// The name of the weight of a norm (or embedding) of this pattern, as files have it.
pub fn weight_name(prefix: Prefix, module: &str, layer: Option<u32>) -> String {
    let local = match layer {
        Some(n) => module.replace("{layer}", &n.to_string()),
        None => module.to_string(),
    };
    format!("{}{local}.weight", prefix.decoder)
}

impl RuledName {
    /// Whether it takes a part in R1.
    pub fn has_part(&self) -> bool {
        match self.rule.side {
            StreamSide::Embedding | StreamSide::Writes | StreamSide::Norm => true,
            // What is added to the outputs of a reader does not lie on the stream.
            StreamSide::Reads(_) => self.kind != ModuleTensor::Bias,
            StreamSide::PreventsRotation | StreamSide::Untouched => false,
        }
    }
}
