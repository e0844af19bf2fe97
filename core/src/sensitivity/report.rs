//! What was measured of a model's tensors, and the damage that it predicts for every type.

use super::units::BASE;
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::model::arch;
use crate::plan::allocation::TypeCandidate;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Relative difference of squared errors of the same weights, stored in two formats.
const SAME_ERROR: f64 = 0.05;

/// The version of the JSON.
pub const VERSION: u32 = 1;

/// The measurement of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SensitivityReport {
    /// The version of this form.
    pub sensitivity_version: u32,
    /// The path of the model.
    pub model: String,
    /// The architecture.
    pub architecture: String,
    /// The type that tensors were encoded as, one at a time.
    pub base: DType,
    /// Predicted tokens.
    pub tokens: u64,
    /// Where they are from: `text`, `ids` or `seeded`.
    pub tokens_from: String,
    /// Whether tensors were measured in groups of kind and depth.
    pub grouped: bool,
    /// The arithmetic of products.
    pub precision: String,
    /// The tensors, in the order of the file.
    pub tensors: Vec<SensitivityRow>,
}

/// What was measured of a tensor, or of the few that get one type together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SensitivityRow {
    /// The name of the tensor in the file that is written.
    pub name: String,
    /// Others that get the same type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub with: Vec<String>,
    /// The group that was measured as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Number of weights.
    pub weights: u64,
    /// The type that was measured.
    pub base: DType,
    /// The sum of squared errors at that type; absent if it cannot hold the values.
    pub squared_error: Option<f64>,
    /// The sum of squares of the weights.
    pub squared_norm: f64,
    /// The divergence of the model's output with this tensor alone at the base type (the share of its group), in nats a token;
    /// absent if no forward pass reads it.
    pub kl: Option<f64>,
    /// That divergence for each unit of squared error.
    pub sensitivity: Option<f64>,
    /// 1 for the greatest divergence.
    pub rank: Option<u64>,
    /// The types that the tensor can have, in a fixed order.
    pub types: Vec<TypeRow>,
}

/// A tensor at a type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TypeRow {
    /// The type.
    #[serde(rename = "type")]
    pub dtype: DType,
    /// Bytes in the file, with padding.
    pub bytes: u64,
    /// The sum of squared errors.
    pub squared_error: f64,
    /// The root of that sum, divided by that of the weights.
    pub relative_error: f64,
    /// The divergence of the model's output that is predicted.
    pub predicted_kl: Option<f64>,
}

impl SensitivityRow {
    /// Sets the divergence at the base type, and what follows from it.
    pub fn set_divergence(&mut self, kl: Option<f64>) {
        self.kl = kl;
        // No error, or no divergence, says nothing of other errors: a single token does not reach queries and keys, and few
        // tokens do not reach every expert.
        let measured = kl.zip(self.squared_error).filter(|(kl, e)| *kl > 0.0 && *e > 0.0);
        self.sensitivity = measured.map(|(kl, e)| kl / e);
        for row in &mut self.types {
            row.predicted_kl = match self.sensitivity {
                Some(s) => Some(s * row.squared_error),
                None => kl.filter(|_| row.squared_error == 0.0).map(|_| 0.0),
            };
        }
    }

    /// The squared error at a type, if it was measured.
    fn error_at(&self, dtype: DType) -> Option<f64> {
        let of_type = self.types.iter().find(|t| t.dtype == dtype).map(|t| t.squared_error);
        self.squared_error.filter(|_| self.base == dtype).or(of_type)
    }

    /// Relative squared error times weights: what stands for the damage where no output was measured.
    fn heuristic(&self, squared_error: f64) -> f64 {
        if self.squared_norm > 0.0 { squared_error / self.squared_norm * self.weights as f64 } else { 0.0 }
    }

    /// The types with their sizes and the damage that `damage` gives a squared error.
    fn candidates(&self, damage: impl Fn(&TypeRow) -> f64) -> Vec<TypeCandidate> {
        self.types.iter().map(|t| TypeCandidate { bytes: t.bytes, damage: damage(t) }).collect()
    }
}

/// Sets the ranks of rows: 1 for the greatest divergence, the earlier row first.
pub fn rank(rows: &mut [SensitivityRow]) {
    let mut order: Vec<(f64, usize)> =
        rows.iter().enumerate().filter_map(|(i, r)| Some((r.kl?, i))).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    for (rank, (_, row)) in (1..).zip(order) {
        rows.iter_mut().skip(row).take(1).for_each(|r| r.rank = Some(rank));
    }
}

/// The candidates of each row: predicted divergences. A row without one is as sensitive as the median of the others, relative
/// to its own weights; if no row has one, damage is relative squared error times weights, in no unit.
pub fn candidates(rows: &[SensitivityRow]) -> Vec<Vec<TypeCandidate>> {
    let of = |r: &SensitivityRow| {
        let at_base = r.heuristic(r.squared_error?);
        (at_base > 0.0).then_some(r.kl.filter(|kl| *kl > 0.0)? / at_base)
    };
    let mut known: Vec<f64> = rows.iter().filter_map(of).collect();
    known.sort_by(f64::total_cmp);
    let median = known.get(known.len() / 2).copied().unwrap_or(1.0);
    let one = |r: &SensitivityRow| {
        r.candidates(|t| t.predicted_kl.unwrap_or_else(|| median * r.heuristic(t.squared_error)))
    };
    rows.iter().map(one).collect()
}

impl SensitivityReport {
    /// Reads the JSON.
    ///
    /// # Errors
    ///
    /// `bad_json` if it is not one of this version.
    pub fn parse(json: &[u8]) -> Result<SensitivityReport> {
        let bad = |message: String| Error::new(Code::BadJson, message);
        let report: SensitivityReport = serde_json::from_slice(json)
            .map_err(|e| bad(format!("not a sensitivity report (the JSON of `sensitivity --json`): {e}")))?;
        report.check()?;
        Ok(report)
    }

    /// Checks the version and the numbers.
    ///
    /// # Errors
    ///
    /// `bad_json`.
    pub fn check(&self) -> Result<()> {
        let bad = |message: String| Error::new(Code::BadJson, message);
        if self.sensitivity_version != VERSION {
            let message = format!(
                "a sensitivity report of version {}, not {VERSION}: measure it again",
                self.sensitivity_version
            );
            return Err(bad(message));
        }
        let sound = |x: f64| x.is_finite() && x >= 0.0;
        let unsound = self.tensors.iter().find(|r| {
            let types = r.types.iter().any(|t| !sound(t.squared_error) || !t.predicted_kl.is_none_or(sound));
            let scaled = r.kl.zip(r.squared_error).is_none_or(|(kl, e)| e == 0.0 || sound(kl / e));
            types
                || !r.kl.is_none_or(sound)
                || !r.squared_error.is_none_or(sound)
                || !sound(r.squared_norm)
                || !scaled
        });
        let mut names: Vec<&str> = self.tensors.iter().map(|r| r.name.as_str()).collect();
        names.sort_unstable();
        if let Some([name, _]) = names.array_windows().find(|[a, b]| a == b) {
            return Err(bad("the sensitivity report has this tensor twice".to_string()).of_tensor(name));
        }
        match unsound {
            Some(row) => {
                let message = "a number of its sensitivity is negative or not finite".to_string();
                Err(bad(message).of_tensor(&row.name))
            }
            None => Ok(()),
        }
    }

    /// Refuses a report of another architecture. `architecture` is the `model_type` of the model; one of a GGUF is that of the
    /// first architecture with its GGUF name.
    ///
    /// # Errors
    ///
    /// `usage`.
    pub fn check_architecture(&self, architecture: &str) -> Result<()> {
        let gguf = |name: &str| arch::find(name).and_then(|a| a.gguf);
        let same = match (gguf(&self.architecture), gguf(architecture)) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => self.architecture == architecture,
        };
        if same {
            return Ok(());
        }
        let message = format!(
            "the sensitivity report is of a model of the architecture {:?}, and this one is of {architecture:?}",
            self.architecture
        );
        Err(Error::new(Code::Usage, message))
    }

    /// Gives divergences of the report to the rows of a plan, by name.
    ///
    /// # Errors
    ///
    /// `usage` if the report lacks a tensor of the plan, has it with another number of weights, was measured at another base type
    /// than it says, or on weights with other errors at that type.
    pub fn apply(&self, rows: &mut [SensitivityRow]) -> Result<()> {
        let known: BTreeMap<&str, &SensitivityRow> =
            self.tensors.iter().map(|r| (r.name.as_str(), r)).collect();
        for row in rows {
            let other = known.get(row.name.as_str()).filter(|r| r.weights == row.weights);
            let Some(other) = other else {
                let message = "the sensitivity report does not have this tensor: it is of another model";
                return Err(Error::new(Code::Usage, message).of_tensor(&row.name));
            };
            if other.base != self.base && other.base != BASE {
                let message = format!(
                    "the sensitivity report says that it was measured at {}, and has this tensor at {}",
                    self.base, other.base
                );
                return Err(Error::new(Code::Usage, message).of_tensor(&row.name));
            }
            if let Some((here, there)) = row.error_at(other.base).zip(other.squared_error)
                && (here - there).abs() > SAME_ERROR * here.max(there)
            {
                let message = format!(
                    "the sensitivity report has the squared error {there:.6e} of this tensor at {}, which is {here:.6e} here: \
                     it is of other weights",
                    other.base
                );
                return Err(Error::new(Code::Usage, message).of_tensor(&row.name));
            }
            (row.base, row.squared_error) = (other.base, other.squared_error);
            row.group.clone_from(&other.group);
            row.set_divergence(other.kl);
        }
        Ok(())
    }
}
