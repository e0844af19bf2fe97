//! Recognizes weights that are quantized already in a form that is not decoded yet: GPTQ, AWQ, MLX,
//! bitsandbytes, compressed-tensors, and other packed integers. Forms that are decoded have been united to
//! [packed](crate::tensor::packed) weights when the checkpoint was opened.
//!
//! The tensors decide, by their types and by the tensors beside them; `config.json` names the method. GGUF and
//! lattice files are not looked at: their types tell how they are stored.

use super::tensor_role::{TensorRole, role};
use crate::dtype::{DType, DTypeKind};
use crate::error::{Code, Error, Result};
use crate::format::{Checkpoint, Container, Packing, Warning};
use crate::tensor::TensorInfo;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use core::ops::Bound;
use serde_json::Value;

/// The quantization of a checkpoint's tensors.
pub struct StoredQuantization<'a> {
    /// Tensors by name; empty where types tell everything.
    tensors: BTreeMap<&'a str, &'a TensorInfo>,
    /// The method that `config.json` names.
    config: Option<String>,
    /// What became of the parts of packed weights.
    packing: &'a Packing,
    /// Whether there are packed weights.
    packed: bool,
}

/// A method, and the tensor beside the weight that shows it.
struct Evidence<'a> {
    method: Option<&'static str>,
    companion: Option<&'a str>,
}

/// Last parts of the names of packed matrices, and the methods that use them.
const PACKED: &[(&str, &str)] = &[
    ("weight_packed", "compressed-tensors"),
    ("W_q", "HQQ"),
    ("codes", "AQLM"),
    ("trellis", "EXL3"),
    ("q_weight", "EXL2"),
    ("Qidxs", "QuIP#"),
    ("indices", "VPTQ"),
    ("_data", "quanto"),
];

/// Suffixes after the name of a packed weight, and the method that they show.
const BESIDE_WEIGHT: &[(&str, &str)] = &[
    (".absmax", "bitsandbytes 4-bit"),
    (".quant_map", "bitsandbytes 4-bit"),
    (".quant_state.bitsandbytes__nf4", "bitsandbytes NF4"),
    (".quant_state.bitsandbytes__fp4", "bitsandbytes FP4"),
];

/// Tensors beside `weight` in its module, and the method that they show.
const BESIDE_MODULE: &[(&str, &str)] = &[
    (".SCB", "bitsandbytes 8-bit"),
    (".biases", "MLX"),
    (".weight_scale_2", "NVFP4"),
    (".weights_scaling_factor_2", "NVFP4"),
];

impl<'a> StoredQuantization<'a> {
    /// Looks at the names of `checkpoint`.
    pub fn of(checkpoint: &'a Checkpoint) -> StoredQuantization<'a> {
        let named = checkpoint.container == Container::Safetensors;
        let tensors = checkpoint.tensors.iter().filter(|_| named).map(|t| (t.name.as_str(), t)).collect();
        let config = checkpoint.config.as_deref().filter(|_| named).and_then(configured);
        let packed = checkpoint.tensors.iter().any(|t| t.packed.is_some());
        StoredQuantization { tensors, config, packing: &checkpoint.packing, packed }
    }

    /// The method by which `tensor` is quantized, for example `MLX 4-bit`; `None` for plain numbers, and for
    /// block types that are decoded.
    pub fn method(&self, tensor: &TensorInfo) -> Option<String> {
        Some(self.method_of(&self.evidence(tensor)?, tensor))
    }

    /// Refuses a tensor whose stored numbers are not its weights.
    ///
    /// # Errors
    ///
    /// [`Code::UnsupportedDtype`] with the method and the tensor that shows it, [`Code::BadValue`] if parts of packed
    /// weights do not fit together.
    pub fn check(&self, tensor: &TensorInfo) -> Result<()> {
        self.packing.check()?;
        let Some(evidence) = self.evidence(tensor) else { return Ok(()) };
        let method = self.method_of(&evidence, tensor);
        let companion = evidence.companion.map(|n| format!(" with {n}")).unwrap_or_default();
        let message = format!("quantized already ({method}): {}{companion} is not decoded yet", tensor.dtype);
        Err(Error::new(Code::UnsupportedDtype, message).of_tensor(&tensor.name))
    }

    /// Refuses a checkpoint with any such tensor.
    ///
    /// # Errors
    ///
    /// See [`check`](StoredQuantization::check).
    pub fn check_all(&self) -> Result<()> {
        self.packing.check()?;
        self.tensors.values().try_for_each(|t| self.check(t))
    }

    /// Warnings about 8-bit floats without a scale, and about a configuration that the tensors contradict.
    pub fn warnings(&self) -> impl Iterator<Item = Warning> {
        let floats = self.tensors.values().filter(|t| is_scaled_float(t.dtype)).count();
        let unscaled = (floats > 0).then(|| {
            let message =
                format!("{floats} tensors of 8-bit floats have no scale beside them: taken as they are");
            Warning::new("no_scale", message)
        });
        let plain = floats == 0 && !self.packed && !self.tensors.is_empty();
        let contradicted = self.config.as_ref().filter(|_| plain);
        let contradicted = contradicted.map(|method| {
            let message =
                format!("config.json says {method}, but the tensors are plain numbers: taken as they are");
            Warning::new("config_quantization", message)
        });
        unscaled.into_iter().chain(contradicted)
    }

    fn method_of(&self, evidence: &Evidence<'_>, tensor: &TensorInfo) -> String {
        match (&self.config, evidence.method) {
            // `bitsandbytes NF4` says more than `bitsandbytes`.
            (Some(config), Some(method)) if method.starts_with(config.as_str()) => method.into(),
            (Some(config), _) => config.clone(),
            (None, Some(method)) => method.into(),
            (None, None) => format!("{} weights", tensor.dtype),
        }
    }

    fn has(&self, stem: &str, suffix: &str) -> Option<&'a str> {
        self.tensors.get_key_value(format!("{stem}{suffix}").as_str()).map(|(name, _)| *name)
    }

    fn evidence(&self, tensor: &TensorInfo) -> Option<Evidence<'a>> {
        let name = tensor.name.as_str();
        if !self.tensors.contains_key(name) {
            return None;
        }
        let stem = name.strip_suffix(".weight").unwrap_or(name);
        if is_scaled_float(tensor.dtype) {
            let companion = Some(self.scale_of(name, stem)?);
            return Some(Evidence { method: Some("FP8"), companion });
        }
        if tensor.dtype == DType::F4 {
            return Some(Evidence { method: Some("FP4"), companion: Some(self.scale_of(name, stem)?) });
        }
        if tensor.dtype.kind() != DTypeKind::Integer || tensor.shape.numel() < 2 {
            return None;
        }
        self.packed(tensor, name, stem)
    }

    /// Evidence for integers.
    fn packed(&self, tensor: &TensorInfo, name: &str, stem: &str) -> Option<Evidence<'a>> {
        let beside = |stem: &str, table: &'static [(&str, &'static str)]| {
            let mut found =
                table.iter().filter_map(|(suffix, method)| Some((self.has(stem, suffix)?, *method)));
            found.next_back()
        };
        if let Some((companion, method)) = beside(name, BESIDE_WEIGHT).or_else(|| beside(stem, BESIDE_MODULE))
        {
            return Some(Evidence { method: Some(method), companion: Some(companion) });
        }
        let last = name.rsplit('.').next().unwrap_or(name);
        if last == "qweight" {
            let stem = name.strip_suffix(".qweight").unwrap_or(name);
            return Some(self.gptq_or_awq(tensor, stem));
        }
        if let Some((_, method)) = PACKED.iter().find(|(part, _)| last == *part) {
            return Some(Evidence { method: Some(method), companion: None });
        }
        if let Some(stem) = name.strip_suffix("_blocks")
            && let Some(companion) = self.has(stem, "_scales")
        {
            return Some(Evidence { method: Some("MXFP4"), companion: Some(companion) });
        }
        let weight = matches!(
            role(name, &tensor.shape),
            TensorRole::Weight | TensorRole::Embedding | TensorRole::Output
        );
        let companion = self.scale_of(name, stem).filter(|_| weight);
        let mlx = tensor.dtype == DType::U32 && companion.is_some_and(|n| n.ends_with(".scales"));
        let configured = self.config.is_some() && !is_buffer(name);
        (weight || configured).then_some(Evidence { method: mlx.then_some("MLX"), companion })
    }

    /// GPTQ packs inputs, AWQ outputs: the scales have one column for each output.
    fn gptq_or_awq(&self, tensor: &TensorInfo, stem: &str) -> Evidence<'a> {
        let scales = self.has(stem, ".scales");
        let outputs = scales.and_then(|name| self.tensors.get(name)).map(|t| t.shape.cols());
        let gptq = self.has(stem, ".g_idx").is_some() || outputs == Some(tensor.shape.cols());
        Evidence { method: Some(if gptq { "GPTQ" } else { "AWQ" }), companion: scales }
    }

    /// A tensor beside `name`, in the module `stem`, that is a scale by its name.
    fn scale_of(&self, name: &str, stem: &str) -> Option<&'a str> {
        ['.', '_'].into_iter().find_map(|separator| {
            // Names with a common prefix are neighbours in the map.
            let prefix = format!("{stem}{separator}");
            let after = self.tensors.range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded));
            let mut beside =
                after.map(|(n, _)| *n).take_while(|n| n.starts_with(&prefix)).filter(|n| *n != name);
            beside.find(|n| {
                let rest = n.get(prefix.len()..).unwrap_or_default();
                let own = rest.strip_prefix("weight").map_or(rest, |r| r.trim_start_matches(['.', '_']));
                !own.contains('.') && own.to_ascii_lowercase().contains("scal")
            })
        })
    }
}

/// 8-bit floats that store a weight divided by a scale; `F8_E8M0` holds scales itself.
fn is_scaled_float(dtype: DType) -> bool {
    matches!(dtype, DType::F8_E4M3 | DType::F8_E5M2 | DType::F8_E4M3FNUZ | DType::F8_E5M2FNUZ)
}

/// Integers that are no weights whatever the method: positions, masks, counters.
fn is_buffer(name: &str) -> bool {
    const BUFFERS: &[&str] =
        &["position_ids", "num_batches_tracked", "position_index", ".bias", "mask", "tid2eid"];
    BUFFERS.iter().any(|b| name.contains(b))
}

/// The method that `config.json` names, in the spelling of its authors.
fn configured(config: &[u8]) -> Option<String> {
    let config: Value = serde_json::from_slice(config).ok()?;
    let nested = |key: &str| config.get(key).or_else(|| config.get("text_config")?.get(key));
    let bits = |value: &Value, key: &str| value.get(key).and_then(Value::as_u64);
    let with_bits = |method: &str, bits: Option<u64>| match bits {
        Some(bits) => format!("{method} {bits}-bit"),
        None => method.to_string(),
    };
    if let Some(quantization) = nested("quantization_config")
        && let Some(method) = quantization.get("quant_method").and_then(Value::as_str)
    {
        return Some(match method {
            "gptq" | "awq" | "hqq" | "aqlm" => {
                with_bits(&method.to_ascii_uppercase(), bits(quantization, "bits"))
            }
            "auto-round" | "quark" | "compressed-tensors" | "modelopt" => method.to_string(),
            "bitsandbytes" => match quantization.get("load_in_8bit").and_then(Value::as_bool) {
                Some(true) => "bitsandbytes 8-bit".into(),
                _ => "bitsandbytes".into(),
            },
            "bitnet" => "BitNet".into(),
            "fp8" | "fbgemm_fp8" => "FP8".into(),
            "mxfp4" => "MXFP4".into(),
            other => other.to_string(),
        });
    }
    let quantization = nested("quantization").filter(|q| q.is_object())?;
    Some(with_bits("MLX", bits(quantization, "bits")))
}
