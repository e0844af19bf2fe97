//! The row of the tensor map that a name belongs to. Knows no shape.

use crate::model::arch::module::Module;
use crate::model::arch::row::{LocalName, NameForm, StreamSide, TensorMapRow, root, split};
use crate::model::arch::{Arch, MtpLocation, Prefix, RotationFacts};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Which of a module's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ModuleTensor {
    Weight,
    Bias,
    /// Codes or scales, of which only a quantizer knows how they make the weight.
    Packed,
}

/// The row of a name.
#[derive(Clone, Copy, Debug)]
pub(super) enum NameMatch {
    Ruled(RuledName),
    /// Of a predictor of further tokens.
    Mtp,
    /// No rule names it; whether it is named like a part of the decoder's layers.
    Unnamed {
        in_layer: bool,
    },
}

/// A name with a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct RuledName {
    pub row: TensorMapRow,
    pub kind: ModuleTensor,
    pub layer: Option<u32>,
    /// Whether it makes the values of the heads.
    pub makes_values: bool,
    /// Whether it is the output projection of the heads.
    pub reads_values: bool,
}

impl RuledName {
    fn plain(row: TensorMapRow) -> RuledName {
        RuledName { row, kind: ModuleTensor::Weight, layer: None, makes_values: false, reads_values: false }
    }

    pub(super) fn is_head(&self) -> bool {
        self.row.module == Module::Output
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

/// The row of `name` in a model of this architecture with `layers` layers.
pub(super) fn match_name(
    arch: &Arch,
    facts: &RotationFacts,
    prefix: Prefix,
    layers: u32,
    name: &str,
) -> NameMatch {
    let local = name.strip_prefix(prefix.decoder);
    let more = match facts.mtp {
        MtpLocation::None => false,
        MtpLocation::Module => name.starts_with("mtp."),
        MtpLocation::LayersBeyond => local.and_then(layer_of).is_some_and(|n| n >= layers),
    };
    if more {
        return NameMatch::Mtp;
    }
    let ends = |b: &str| name.strip_suffix(b).is_some_and(|n| n.is_empty() || n.ends_with('.'));
    if BUFFERS.iter().any(|b| ends(b)) {
        return NameMatch::Ruled(RuledName::plain(root(Module::AttnMask, "")));
    }
    let is_head = |r: &&TensorMapRow| r.module == Module::Output;
    let head = name.strip_prefix(prefix.head).and_then(|n| ruled(arch.rows().filter(is_head), n));
    if let Some(named) = head {
        return NameMatch::Ruled(named);
    }
    let inner = local.and_then(|l| ruled(arch.rows().filter(|r| !is_head(r)), l));
    if let Some(named) = inner {
        // A layer that the model does not have is none of its parts.
        return match named.layer {
            Some(n) if n >= layers => NameMatch::Unnamed { in_layer: true },
            _ => NameMatch::Ruled(RuledName {
                makes_values: named.row.module == facts.values.module(),
                reads_values: named.row.module == Module::AttnOutput,
                ..named
            }),
        };
    }
    match ruled(arch.outside.iter(), name) {
        Some(named) => NameMatch::Ruled(RuledName { layer: None, ..named }),
        None => NameMatch::Unnamed { in_layer: local.is_some_and(|l| layer_of(l).is_some()) },
    }
}

/// The layer of a name behind the prefix: all covered decoders have their layers under `layers` or `h`.
fn layer_of(local: &str) -> Option<u32> {
    let (folder, layer, _) = split(local)?;
    matches!(folder, "layers" | "h").then_some(layer)
}

/// The first row that the rotation covers and a name fits.
fn ruled(rows: impl Iterator<Item = &'static TensorMapRow>, name: &str) -> Option<RuledName> {
    let (weight, bias) = (ModuleTensor::Weight, ModuleTensor::Bias);
    let ending = |ending: &str, kind, module: Option<bool>| {
        Some((LocalName::of(name.strip_suffix(ending)?), kind, module))
    };
    let plain = [
        ending(".weight", weight, Some(true)),
        ending(".bias", bias, Some(true)),
        ending("", weight, Some(false)),
        ending("_bias", bias, Some(false)),
    ];
    let packed = PACKED.iter().map(|end| ending(end, ModuleTensor::Packed, None));
    let stems: Vec<_> = plain.into_iter().chain(packed).flatten().collect();
    rows.filter(|r| r.side != StreamSide::Unknown).find_map(|row| {
        let is_module = row.form == NameForm::Module;
        stems.iter().find_map(|(stem, kind, module)| {
            // Tables of vectors have no bias: there is none to say what becomes of it.
            let biased = *kind == bias && row.side == StreamSide::Embedding;
            let form = module.is_none_or(|m| m == is_module) && !biased;
            let (layer, _) = form.then(|| stem.fits(row)).flatten()?;
            Some(RuledName { kind: *kind, layer, ..RuledName::plain(*row) })
        })
    })
}

/// The name of the weight of a module in files with this prefix.
pub(super) fn weight_name(arch: &Arch, prefix: Prefix, module: Module, layer: Option<u32>) -> String {
    let covered = |r: &&TensorMapRow| r.module == module && r.side != StreamSide::Unknown;
    let row = arch.rows().find(covered);
    let (folder, tail) = row.map_or(("", ""), |r| (r.folder, r.tail));
    match layer.filter(|_| !folder.is_empty()) {
        Some(n) => format!("{}{folder}.{n}.{tail}.weight", prefix.decoder),
        None => format!("{}{tail}.weight", prefix.decoder),
    }
}

impl RuledName {
    /// Whether it takes a part in R1.
    pub(super) fn has_part(&self) -> bool {
        match self.row.side {
            StreamSide::Embedding | StreamSide::Writes | StreamSide::Norm => true,
            // What is added to the outputs of a reader does not lie on the stream.
            StreamSide::Reads(_) => self.kind != ModuleTensor::Bias,
            StreamSide::PreventsRotation | StreamSide::Untouched | StreamSide::Unknown => false,
        }
    }
}
