//! Lengths that two tensors of a layer have in common, whatever the configuration says: what one writes, the other reads.

use super::GgufTensor;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The side of a tensor that a length is taken of.
#[derive(Clone, Copy)]
enum LengthOf {
    /// Values that a row reads.
    In,
    /// Rows: of a stack, those of each matrix.
    Out,
    /// Matrices of a stack.
    Stack,
    /// All values.
    All,
}
use LengthOf::{All, In, Out, Stack};

impl LengthOf {
    fn length(self, axes: &[u64]) -> Option<u64> {
        let from_end = |n: usize| axes.len().checked_sub(n).and_then(|at| axes.get(at)).copied();
        match self {
            In => from_end(1),
            Out => from_end(2),
            Stack => from_end(3),
            All => axes.iter().try_fold(1_u64, |n, axis| n.checked_mul(*axis)),
        }
    }

    fn words(self) -> &'static str {
        match self {
            In => "columns",
            Out => "rows",
            Stack => "matrices",
            All => "values",
        }
    }
}

/// A length of one module, and one of another that is equal to it, or divides it.
type Rule = (&'static str, LengthOf, Divides, &'static str, LengthOf);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Divides {
    /// Both are equal.
    Once,
    /// The first is a multiple: heads of queries share keys and values, a norm is of one head, gate and up are one tensor.
    Often,
}
use Divides::{Often, Once};

const RULES: &[Rule] = &[
    ("attn_q", Out, Often, "attn_k", Out),
    ("attn_output", In, Often, "attn_v", Out),
    ("attn_o", In, Often, "attn_v", Out),
    ("cross_attn_q", Out, Often, "cross_attn_k", Out),
    ("cross_attn_o", In, Often, "cross_attn_v", Out),
    ("attn_q", Out, Often, "attn_q_norm", All),
    ("attn_k", Out, Often, "attn_k_norm", All),
    ("attn_q", Out, Often, "attn_sinks", All),
    ("attn_q_a", Out, Once, "attn_q_a_norm", All),
    ("attn_q_b", In, Once, "attn_q_a_norm", All),
    ("attn_kv_b", In, Once, "attn_kv_a_norm", All),
    ("ffn_gate", Out, Once, "ffn_up", Out),
    ("ffn_gate", Out, Once, "ffn_down", In),
    ("ffn_up", Out, Often, "ffn_down", In),
    ("ffn_gate_shexp", Out, Once, "ffn_up_shexp", Out),
    ("ffn_up_shexp", Out, Once, "ffn_down_shexp", In),
    ("ffn_gate_exps", Out, Once, "ffn_up_exps", Out),
    ("ffn_up_exps", Out, Once, "ffn_down_exps", In),
    ("ffn_gate_up_exps", Out, Often, "ffn_down_exps", In),
    ("ffn_gate_exps", Stack, Once, "ffn_up_exps", Stack),
    ("ffn_up_exps", Stack, Once, "ffn_down_exps", Stack),
    ("ffn_gate_up_exps", Stack, Once, "ffn_down_exps", Stack),
    // A router may have experts that do nothing, which have no matrix.
    ("exp_probs_b", All, Once, "ffn_gate_inp", Out),
    ("output", Out, Once, "token_embd", Out),
];

/// The layer of a tensor, empty outside of layers, and its name in there.
pub(super) fn split_name(name: &str) -> (&str, &str) {
    let inside = name.find("blk.").and_then(|at| {
        let number = at + "blk.".len();
        let dot = name.get(number..)?.find('.')?;
        Some((name.get(..number + dot)?, name.get(number + dot + 1..)?))
    });
    inside.unwrap_or(("", name))
}

/// What two tensors of a layer contradict each other in.
pub(super) fn contradictions(tensors: &[GgufTensor]) -> Vec<String> {
    let mut layers: BTreeMap<&str, BTreeMap<&str, &[u64]>> = BTreeMap::new();
    for tensor in tensors {
        let (layer, name) = split_name(&tensor.name);
        layers.entry(layer).or_default().insert(name, tensor.shape.axes());
    }
    let mut found = Vec::new();
    for (layer, named) in &layers {
        let dot = if layer.is_empty() { "" } else { "." };
        found.extend(
            RULES.iter().filter_map(|rule| broken(rule, named)).map(|why| format!("{layer}{dot}{why}")),
        );
        found.extend(fused_attention(named).map(|why| format!("{layer}{dot}{why}")));
        found.extend(biases(named).map(|why| format!("{layer}{dot}{why}")));
    }
    found
}

/// The sentence for a rule that two tensors of a layer break.
fn broken(&(one, side, divides, other, other_side): &Rule, named: &BTreeMap<&str, &[u64]>) -> Option<String> {
    let (long, one) = with_length(named, one, side)?;
    let (short, other) = with_length(named, other, other_side)?;
    let fits = match divides {
        Once => long == short,
        Often => short != 0 && long.is_multiple_of(short),
    };
    let (what, and) = (side.words(), if divides == Often { "no multiple of the" } else { "not the" });
    (!fits).then(|| format!("{one} has {long} {what}, {and} {short} {} of {other}", other_side.words()))
}

/// The length of a tensor of the layer, and its whole name.
fn with_length(named: &BTreeMap<&str, &[u64]>, module: &str, side: LengthOf) -> Option<(u64, String)> {
    ["weight", "bias"].into_iter().find_map(|part| {
        let name = format!("{module}.{part}");
        Some((side.length(named.get(name.as_str())?)?, name))
    })
}

/// The sentence for a fused projection that does not have as many keys as values beside the queries of the output.
fn fused_attention(named: &BTreeMap<&str, &[u64]>) -> Option<String> {
    let (rows, fused) = with_length(named, "attn_qkv", Out)?;
    let (queries, output) = with_length(named, "attn_output", In)?;
    let keys = rows.checked_sub(queries).filter(|both| *both > 0 && both.is_multiple_of(2));
    let why = || {
        format!(
            "{fused} has {rows} rows, not {queries} of queries for {output} and as many of keys as of values"
        )
    };
    keys.is_none().then(why)
}

/// Biases that have another length than the rows of their weights.
fn biases<'a>(named: &'a BTreeMap<&str, &[u64]>) -> impl Iterator<Item = String> + 'a {
    named.iter().filter_map(|(name, bias)| {
        let module = name.strip_suffix(".bias")?;
        let weight = named.get(format!("{module}.weight").as_str())?;
        let rows = match weight {
            [n] => *n,
            [n, _] => *n,
            [n, rows, _] if module.ends_with("_exps") => n.checked_mul(*rows)?,
            _ => return None,
        };
        let values = All.length(bias)?;
        (values != rows).then(|| format!("{name} has {values} values, and its weight has {rows} rows"))
    })
}
