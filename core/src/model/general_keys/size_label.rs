//! Size labels: `6.7B`, `8x7.2B`.

use alloc::format;
use alloc::string::String;

/// Elements of the tensors that are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParameterCount {
    /// All.
    pub total: u64,
    /// Those that every token uses.
    pub shared: u64,
    /// Those of one expert.
    pub per_expert: u64,
    /// Experts of a layer; 0 where there are none.
    pub experts: u64,
}

impl ParameterCount {
    /// The count of tensors with these GGUF names and dimensions, the innermost first; sums stop at the largest u64.
    pub fn of<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a [u64])>) -> ParameterCount {
        let mut count = ParameterCount::default();
        let (mut stacks, mut experts) = (0_u64, 0_u64);
        for (name, dims) in tensors {
            let elements = dims.iter().fold(1_u64, |n, d| n.saturating_mul(*d));
            count.total = count.total.saturating_add(elements);
            // The biases of experts count as shared.
            match dims.get(2).filter(|n| name.contains("_exps.") && **n > 0) {
                Some(n) => {
                    count.per_expert = count.per_expert.saturating_add(elements / n);
                    experts = experts.saturating_add(*n);
                    stacks += 1;
                }
                None => count.shared = count.shared.saturating_add(elements),
            }
        }
        count.experts = experts.checked_div(stacks).unwrap_or(0);
        count
    }
}

/// Units, and what a count of them is larger than.
const UNITS: [(u64, char); 4] =
    [(1_000_000_000_000, 'T'), (1_000_000_000, 'B'), (1_000_000, 'M'), (1_000, 'K')];

/// The label of a model of this size.
pub fn size_label(count: &ParameterCount) -> String {
    if count.experts == 0 {
        return rounded(count.total);
    }
    format!("{}x{}", count.experts, rounded(count.shared.saturating_add(count.per_expert)))
}

/// A count in its unit, with two significant digits at least.
fn rounded(n: u64) -> String {
    let (unit, letter) = UNITS.into_iter().find(|(unit, _)| n > *unit).unwrap_or((1_000, 'K'));
    let scaled = n as f64 / unit as f64;
    let whole = format!("{scaled:.0}");
    let digits = whole.trim_start_matches('0').len();
    let decimals = 2_usize.saturating_sub(digits);
    format!("{scaled:.decimals$}{letter}")
}
