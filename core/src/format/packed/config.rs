//! What `config.json` says of the quantization of a checkpoint. The tensors decide; this settles what they leave open.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde_json::Value;

/// The quantization that a configuration declares.
#[derive(Debug, Default)]
pub(super) struct Quantization {
    /// `quant_method`.
    pub(super) method: Option<String>,
    /// `weight_block_size`: rows and columns that share a scale, in every quantized weight.
    pub(super) block: Option<[u64; 2]>,
    /// Blocks that some weights have.
    pub(super) hints: Vec<[u64; 2]>,
    /// `group_size` of GPTQ and AWQ; absent where a row is one group.
    pub(super) group: Option<u64>,
    /// Whether GPTQ stores zeros as they are.
    pub(super) is_gptq_v2: bool,
    /// Whether the codes of GPTQ and AWQ are in their usual order.
    pub(super) has_usual_codes: bool,
    /// The integers of compressed-tensors.
    pub(super) integers: Vec<IntegerScheme>,
    /// Whether activations are rotated while the model runs, so that the stored weights are not those of the model.
    pub(super) has_online_transforms: bool,
    /// `quantization` of MLX.
    mlx: Option<Value>,
}

/// The integers of a group of weights of compressed-tensors.
#[derive(Clone, Debug)]
pub(super) struct IntegerScheme {
    /// Bits of a code.
    pub(super) bits: u64,
    /// Columns that share a scale; absent where a row does.
    pub(super) group: Option<u64>,
}

impl Quantization {
    pub(super) fn of(config: Option<&[u8]>) -> Quantization {
        let config = config.and_then(|c| serde_json::from_slice::<Value>(c).ok());
        let nested = |key: &str| {
            let config = config.as_ref()?;
            let of = |config: &Value| config.get(key).filter(|v| !v.is_null()).cloned();
            of(config).or_else(|| of(config.get("text_config")?))
        };
        let mlx = nested("quantization").filter(Value::is_object);
        let found = nested("quantization_config").or_else(|| nested("compression_config"));
        let Some(found) = found.filter(|_| mlx.is_none()) else {
            return Quantization { has_usual_codes: true, mlx, ..Quantization::default() };
        };
        let weights = found.get("config_groups").and_then(Value::as_object);
        let weights = weights.into_iter().flat_map(|groups| groups.values().filter_map(|g| g.get("weights")));
        let integers = weights.clone().filter_map(IntegerScheme::of).collect();
        let hints = weights.flat_map(|w| {
            let group = w.get("group_size").and_then(Value::as_u64).filter(|n| *n > 0).map(|n| [1, n]);
            w.get("block_structure").and_then(pair).into_iter().chain(group)
        });
        let text = |key: &str| found.get(key).and_then(Value::as_str).map(str::to_ascii_lowercase);
        let format = text("checkpoint_format");
        let usual = matches!(format.as_deref(), None | Some("gptq" | "gptq_v2" | "gemm"));
        let group = ["group_size", "q_group_size"].iter().find_map(|key| found.get(key)?.as_u64());
        Quantization {
            integers,
            has_online_transforms: has_online_transforms(&found),
            mlx,
            group: group.filter(|n| *n > 0),
            is_gptq_v2: format.as_deref() == Some("gptq_v2"),
            has_usual_codes: usual && matches!(text("version").as_deref(), None | Some("gemm")),
            hints: hints.collect(),
            method: found.get("quant_method").and_then(Value::as_str).map(ToString::to_string),
            block: found.get("weight_block_size").and_then(pair),
        }
    }
}

impl Quantization {
    /// Whether MLX quantized the checkpoint.
    pub(super) fn is_mlx(&self) -> bool {
        self.mlx.is_some()
    }

    /// Bits and columns of a group of MLX's affine mode for the module `name`; `None` for other modes and widths.
    pub(super) fn affine(&self, name: &str) -> Option<(u64, u64)> {
        let all = self.mlx.as_ref()?;
        // The settings of a module replace those of the model; what they leave out is what MLX does by default.
        let own = all.get(name).filter(|v| v.is_object());
        let number = |key: &str, usual: u64| match own.unwrap_or(all).get(key) {
            Some(value) => value.as_u64(),
            None => own.map(|_| usual),
        };
        let mode = own.unwrap_or(all).get("mode").and_then(Value::as_str);
        let affine = mode.is_none_or(|mode| mode == "affine");
        let bits = number("bits", 4)?;
        let group = number("group_size", 64)?;
        (affine && matches!(bits, 2..=6 | 8) && group > 0).then_some((bits, group))
    }
}

impl IntegerScheme {
    /// The integers that `weights` of a group describe.
    fn of(weights: &Value) -> Option<IntegerScheme> {
        let number = |key: &str| weights.get(key).and_then(Value::as_u64).filter(|n| *n > 0);
        let is_integer = weights.get("type").and_then(Value::as_str).is_none_or(|t| t == "int");
        let bits = number("num_bits").filter(|n| is_integer && *n <= 8)?;
        Some(IntegerScheme { bits, group: number("group_size") })
    }
}

/// Whether a configuration of compressed-tensors rotates activations while the model runs: transforms of weights alone are in
/// the weights.
fn has_online_transforms(found: &Value) -> bool {
    let groups =
        found.get("transform_config").and_then(|t| t.get("config_groups")).and_then(Value::as_object);
    let applied = groups.into_iter().flat_map(|g| g.values()).filter_map(|s| s.get("apply")?.as_array());
    let mut places = applied.flatten().filter_map(|a| a.get("location")?.as_str());
    places.any(|place| !matches!(place, "weight_input" | "weight_output"))
}

/// Two positive numbers.
fn pair(value: &Value) -> Option<[u64; 2]> {
    match value.as_array()?.as_slice() {
        [rows, cols] => Some([rows.as_u64().filter(|n| *n > 0)?, cols.as_u64().filter(|n| *n > 0)?]),
        _ => None,
    }
}
