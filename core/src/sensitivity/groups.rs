//! Units that are measured together where one by one would cost too much: those of a kind of module and a third of the depth.

use super::report::SensitivityRow;
use super::variants::Variant;
use crate::quant::Encoding;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Floating-point operations above which tensors are measured in groups.
const COSTLY: f64 = 200e12;

/// Parts of the depth.
const PARTS: usize = 3;

/// Units that are quantized together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitGroup {
    /// The name, if there may be several units.
    pub name: Option<String>,
    /// Indices of the units.
    pub units: Vec<usize>,
}

/// Whether measuring each of `units` of a model alone costs more than about 200 TFLOP: every variant runs through half of the
/// weights, on average.
pub fn is_costly(weights: u64, units: usize, tokens: usize) -> bool {
    weights as f64 * units as f64 * tokens as f64 > COSTLY
}

/// The kind of a tensor and its layer, if it is in one: its name with the first number replaced.
fn kind(name: &str) -> (String, Option<usize>) {
    let mut layer = None;
    let parts = name.split('.').map(|part| match part.parse() {
        Ok(number) if layer.is_none() => {
            layer = Some(number);
            "*"
        }
        _ => part,
    });
    let kind = parts.collect::<Vec<_>>().join(".");
    (kind, layer)
}

/// The groups of units: one for each, or with `grouped` one for each kind and third of `layers`.
pub fn of(rows: &[SensitivityRow], layers: usize, grouped: bool) -> Vec<UnitGroup> {
    if !grouped {
        return (0..rows.len()).map(|unit| UnitGroup { name: None, units: Vec::from([unit]) }).collect();
    }
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (unit, row) in rows.iter().enumerate() {
        let name = match kind(&row.name) {
            (kind, Some(layer)) => {
                let part = (layer.saturating_mul(PARTS) / layers.max(1)).min(PARTS - 1);
                format!("{kind} in part {} of {PARTS}", part + 1)
            }
            (kind, None) => kind,
        };
        groups.entry(name.to_string()).or_default().push(unit);
    }
    groups.into_iter().map(|(name, units)| UnitGroup { name: Some(name), units }).collect()
}

impl UnitGroup {
    /// The variant of a model in which these units are encoded. `tensors` are the names of each unit in the model.
    pub fn variant(&self, tensors: &[Vec<String>], rows: &[SensitivityRow]) -> Variant {
        let named = |unit: &usize| Some((tensors.get(*unit)?, Encoding::Type(rows.get(*unit)?.base)));
        let units = self.units.iter().filter_map(named);
        Variant { encodings: units.flat_map(|(n, e)| n.iter().map(move |n| (n.clone(), e))).collect() }
    }

    /// Gives each row its share of the divergence of the group, in proportion to squared errors.
    pub fn share(&self, kl: Option<f64>, rows: &mut [SensitivityRow]) {
        let error = |rows: &[SensitivityRow], unit: usize| {
            rows.get(unit).and_then(|r| r.squared_error).unwrap_or(0.0)
        };
        let all: f64 = self.units.iter().map(|u| error(rows, *u)).fold(0.0, |a, e| a + e);
        for &unit in &self.units {
            let share = match self.units.len() {
                1 => 1.0,
                _ if all > 0.0 => error(rows, unit) / all,
                _ => 0.0,
            };
            if let Some(row) = rows.get_mut(unit) {
                row.group.clone_from(&self.name);
                row.set_divergence(kl.map(|kl| kl * share));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_names_without_their_layer() {
        assert_eq!(kind("blk.12.attn_q.weight"), ("blk.*.attn_q.weight".into(), Some(12)));
        assert_eq!(kind("model.layers.3.experts.7.w1"), ("model.layers.*.experts.7.w1".into(), Some(3)));
        assert_eq!(kind("token_embd.weight"), ("token_embd.weight".into(), None));
    }

    #[test]
    fn models_of_eight_billion_weights_are_measured_one_by_one() {
        assert!(!is_costly(8_000_000_000, 224, 64));
        assert!(is_costly(70_000_000_000, 560, 64));
    }
}
