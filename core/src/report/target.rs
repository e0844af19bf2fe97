//! What a report says of types that were chosen for a size, and of rotations that were measured by the model's output.

use crate::dtype::DType;
use alloc::string::String;
use alloc::vec::Vec;
use serde::Serialize;

/// Types that were chosen for a size.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TargetView {
    /// The most bytes of all files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_bytes: Option<u64>,
    /// The most stored bits of all tensors for each weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_bits_per_weight: Option<f64>,
    /// Bytes of all files.
    pub bytes: u64,
    /// What damage was predicted by: `measured`, `sensitivity_file` or `heuristic`.
    pub chosen_by: &'static str,
    /// Tokens on which sensitivities were measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Where they are from: `text`, `ids` or `seeded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_from: Option<String>,
    /// The type that tensors were encoded as, one at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<DType>,
    /// Whether tensors were measured in groups of kind and depth.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub grouped: bool,
    /// The sum of the predicted divergences of all tensors, in nats a token. Absent for a heuristic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_kl: Option<f64>,
    /// The measured divergence of the output from its source, on request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured_kl: Option<f64>,
    /// Tokens of that measurement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked_tokens: Option<u64>,
    /// Where they are from: `text`, `ids` or `seeded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked_tokens_from: Option<String>,
}

/// A rotation that was decided by the divergence of the model's output.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RotationChoiceView {
    /// Whether the model is rotated.
    pub rotated: bool,
    /// The divergence without the rotation, in nats a token.
    pub kl_plain: f64,
    /// The divergence with it.
    pub kl_rotated: f64,
    /// Tokens of the measurement.
    pub tokens: u64,
    /// Where they are from: `text`, `ids` or `seeded`.
    pub tokens_from: String,
}

/// `sweep --rotate --measure kl`: what types do to the output of a model, rotated and not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RotationKlReport {
    /// The version of all reports.
    pub schema_version: u32,
    /// The path of the model.
    pub model: String,
    /// Tokens of the measurement.
    pub tokens: u64,
    /// Where they are from: `text`, `ids` or `seeded`.
    pub tokens_from: String,
    /// The seed of the rotations' signs.
    pub seed: u64,
    /// A row for each type and rotation.
    pub rows: Vec<RotationKlRow>,
}

/// A model at one type, under one rotation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RotationKlRow {
    /// The type of all eligible tensors.
    #[serde(rename = "type")]
    pub dtype: DType,
    /// The rotation, or `none`.
    pub rotation: String,
    /// Bytes of all files.
    pub bytes: u64,
    /// Tensors of that type.
    pub quantized: u64,
    /// The divergence of the output from that of the source, in nats a token.
    pub kl: f64,
    /// That divergence less the one without a rotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<f64>,
}
