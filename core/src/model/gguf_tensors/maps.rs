//! Value maps: the parts of a source tensor that a GGUF tensor is made of. Each refuses shapes that it does not fit.

use super::config_view::ConfigView;
use super::{GgufTensor, Order, Part, ValueStep, View};
use crate::model::arch::Arch;
use crate::model::arch::gguf_rules::ValueMap;
use crate::model::tensor_id::{TensorId, TensorPart};
use crate::tensor::packed::Packed;
use crate::tensor::{Shape, TensorInfo};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

type Result<T> = core::result::Result<T, String>;

/// Most parts of one tensor: heads, experts, or groups of rows.
const MAX_PARTS: u64 = 1 << 16;

/// Applies the maps of an architecture.
pub(super) struct Mapper<'a, 'c> {
    pub(super) arch: &'static Arch,
    pub(super) config: &'a ConfigView<'c>,
}

/// A source tensor seen as a matrix: its first axis is the rows. The elements of a vector are its rows.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    index: usize,
    axes: &'a [u64],
    rows: u64,
    cols: u64,
}

/// Heads of linear attention.
struct LinearHeads {
    /// Key heads.
    keys: u64,
    /// Value heads for each key head.
    each: u64,
    /// Values of a key.
    key_dim: u64,
    /// Values of a value.
    value_dim: u64,
}

/// First row and number of rows of the source, for consecutive rows of the output.
type Runs = Vec<(u64, u64)>;

impl Mapper<'_, '_> {
    /// The GGUF tensors that are made of `tensor`.
    pub(super) fn map(&self, index: usize, tensor: &TensorInfo, id: TensorId) -> Result<Vec<GgufTensor>> {
        let names = self.names(id);
        let axes = tensor.shape.axes();
        let rows = axes.first().copied().unwrap_or(1);
        let cols = tensor.shape.numel().checked_div(rows).unwrap_or(0);
        let source = Matrix { index, axes, rows, cols };
        let maps = self.arch.gguf_rules.maps;
        let map = maps.iter().find(|(m, _)| *m == id.module).map(|(_, map)| *map);
        let map = match tensor.packed.as_deref().is_some_and(Packed::is_transposed_stack) {
            true => map.and_then(of_transposed_stack),
            false => map,
        };
        let Some(map) = map.filter(|m| applies(*m, id, axes)) else {
            return Ok(Vec::from([copy(one(&names)?, source, &tensor.shape)]));
        };
        match &*names {
            [name] => Ok(Vec::from([self.single(map, source, name)?])),
            [first, second] => self.pair(map, source, first, second),
            _ => Err("it has no GGUF name".into()),
        }
    }

    /// The GGUF names; shared experts are the only ones where a model has no others.
    fn names(&self, id: TensorId) -> Vec<String> {
        let shared = id.module.is_shared_expert();
        let plain = shared && self.config.experts() == 0 && self.arch.has_gate_up_shared();
        let names = self.arch.to_gguf(id).into_iter();
        names.map(|n| if plain { n.replace("_shexp", "") } else { n }).collect()
    }

    /// A map with one output.
    fn single(&self, map: ValueMap, s: Matrix<'_>, name: &str) -> Result<GgufTensor> {
        let linear = || self.linear_heads();
        match map {
            ValueMap::PermuteQ => permute(s, name, self.config.heads()),
            ValueMap::PermuteK => permute(s, name, self.kv_heads()),
            ValueMap::Transpose => transpose(s, name),
            ValueMap::TransposeEach => transpose_each(s, name),
            ValueMap::Squeeze => shaped(s, name, &squeezed(s)?),
            ValueMap::Column => shaped(s, name, &[s.rows, 1]),
            ValueMap::NegExp => Ok(GgufTensor { step: ValueStep::NegExp, ..shaped(s, name, s.axes)? }),
            ValueMap::NegExpColumn => {
                Ok(GgufTensor { step: ValueStep::NegExp, ..shaped(s, name, &[s.rows, 1])? })
            }
            ValueMap::Groups => {
                let groups = self.config.count(&["n_groups", "mamba_n_groups"]).filter(|n| *n > 0);
                let groups = groups.ok_or("the configuration has no n_groups")?;
                let each = s.rows.checked_div(groups).filter(|e| e * groups == s.rows);
                shaped(s, name, &[groups, each.ok_or("its length is no multiple of n_groups")?])
            }
            ValueMap::QkvByHead => {
                let heads = self.config.heads().ok_or("the configuration has no number of heads")?;
                gather(s, name, s.axes, qkv_by_head(s.rows, heads)?)
            }
            ValueMap::QkvByGroup => gather(s, name, s.axes, self.qkv_by_group(s.rows)?),
            ValueMap::CutPositions => {
                let pad =
                    self.config.count(&["pad_token_id"]).ok_or("the configuration has no pad_token_id")?;
                let cut =
                    pad.checked_add(1).filter(|c| *c <= s.rows).ok_or("pad_token_id is beyond its rows")?;
                gather(s, name, &[s.rows - cut, s.cols], Vec::from([(cut, s.rows - cut)]))
            }
            ValueMap::NegExpVHeads => {
                let made = gather(s, name, s.axes, linear()?.values(0, 1, s.rows)?)?;
                Ok(GgufTensor { step: ValueStep::NegExp, ..made })
            }
            ValueMap::VHeadScalars => gather(s, name, s.axes, linear()?.values(0, 1, s.rows)?),
            ValueMap::VHeads => {
                let heads = linear()?;
                gather(s, name, s.axes, heads.values(0, heads.value_dim, s.rows)?)
            }
            ValueMap::VHeadsOfQkv => gather(s, name, s.axes, linear()?.after_keys(s.rows)?),
            ValueMap::VHeadsOfConv => gather(s, name, &squeezed(s)?, linear()?.after_keys(s.rows)?),
            ValueMap::VHeadColumns => linear()?.columns(s, name),
            ValueMap::Halves
            | ValueMap::HalvesTransposed
            | ValueMap::EvenOdd
            | ValueMap::EvenOddTransposed
            | ValueMap::LatentKv
            | ValueMap::Qkvz => Err("the architecture has one GGUF name for two tensors".into()),
        }
    }

    /// A map with two outputs.
    fn pair(&self, map: ValueMap, s: Matrix<'_>, first: &str, second: &str) -> Result<Vec<GgufTensor>> {
        match map {
            ValueMap::Halves => halves(s, first, second),
            ValueMap::HalvesTransposed => columns_of_stack(s, [first, second], 1),
            ValueMap::EvenOdd => even_odd_rows(s, first, second),
            ValueMap::EvenOddTransposed if s.axes.len() == 2 => even_odd(s, first, second),
            ValueMap::EvenOddTransposed => columns_of_stack(s, [first, second], 2),
            ValueMap::LatentKv => self.latent(s, first, second),
            ValueMap::Qkvz => {
                let (qkv, gate) = self.linear_heads()?.qkvz(s.rows)?;
                let rows = |runs: &Runs| runs.iter().map(|r| r.1).sum::<u64>();
                let (a, b) = ([rows(&qkv), s.cols], [rows(&gate), s.cols]);
                Ok(Vec::from([gather(s, first, &a, qkv)?, gather(s, second, &b, gate)?]))
            }
            _ => Err("the architecture has two GGUF names for one tensor".into()),
        }
    }

    /// Key heads. Configurations of Mistral and Mixtral leave them out where they are 8.
    fn kv_heads(&self) -> Option<u64> {
        let given = self.config.count(&["num_key_value_heads", "n_kv_heads"]);
        let usual = matches!(self.arch.name, "mistral" | "mixtral").then_some(8);
        given.or(usual).or_else(|| self.config.heads())
    }

    /// Falcon: rows `[kv, heads / kv + 2, d]`.
    fn qkv_by_group(&self, rows: u64) -> Result<Runs> {
        let heads = self.config.heads().ok_or("the configuration has no number of heads")?;
        let flag = |key: &str, default| {
            self.config.get(&[key]).and_then(serde_json::Value::as_bool).unwrap_or(default)
        };
        let kv = match (flag("new_decoder_architecture", false), flag("multi_query", true)) {
            (true, _) => self.config.count(&["num_kv_heads", "n_head_kv"]).unwrap_or(heads),
            (false, true) => 1,
            (false, false) => self.config.count(&["num_kv_heads", "n_head_kv"]).unwrap_or(heads),
        };
        let queries = heads.checked_div(kv).filter(|q| q.checked_mul(kv) == Some(heads));
        let queries = queries.ok_or("heads are no multiple of key heads")?;
        let each = rows.checked_div(kv).filter(|e| e * kv == rows);
        let dim = each.and_then(|e| e.checked_div(queries + 2).filter(|d| d * (queries + 2) == e));
        let (Some(each), Some(dim)) = (each, dim) else {
            return Err(format!("{rows} rows do not fit the heads"));
        };
        limited(kv)?;
        let all = |at: u64, n: u64| (0..kv).map(move |g| (g * each + at, n));
        let (keys, values) = (queries * dim, (queries + 1) * dim);
        Ok(all(0, queries * dim).chain(all(keys, dim)).chain(all(values, dim)).collect())
    }

    /// DeepSeek: the key part of each head transposed, and its value part.
    fn latent(&self, s: Matrix<'_>, keys: &str, values: &str) -> Result<Vec<GgufTensor>> {
        let need = |key: &str| self.config.count(&[key]).ok_or(format!("the configuration has no {key}"));
        let heads = self.config.count(&["num_key_value_heads"]).or(self.config.heads());
        let heads = heads.filter(|h| *h > 0).ok_or("the configuration has no number of heads")?;
        let (nope, v) = (need("qk_nope_head_dim")?, need("v_head_dim")?);
        let each = nope.checked_add(v).filter(|e| e.checked_mul(heads) == Some(s.rows));
        let each = each.ok_or(format!("{} rows are not those of {heads} heads of {nope} + {v}", s.rows))?;
        limited(heads)?;
        let view = |h: u64| View { row: h * each, col: 0, cols: s.cols, order: Order::Transpose { step: 1 } };
        let part = |h| Part { source: s.index, rows: s.cols, view: view(h) };
        let k = GgufTensor {
            name: keys.to_string(),
            shape: shape(&[heads, s.cols, nope])?,
            cols: nope,
            parts: (0..heads).map(part).collect(),
            step: ValueStep::None,
            generated: Vec::new(),
        };
        let runs = (0..heads).map(|h| (h * each + nope, v)).collect();
        Ok(Vec::from([k, gather(s, values, &[heads, v, s.cols], runs)?]))
    }

    fn linear_heads(&self) -> Result<LinearHeads> {
        let need = |key: &str| {
            let count = self.config.count(&[key]).filter(|n| (1..=MAX_PARTS).contains(n));
            count.ok_or(format!("the configuration has no {key}"))
        };
        let (keys, all) = (need("linear_num_key_heads")?, need("linear_num_value_heads")?);
        let each = all.checked_div(keys).filter(|e| e * keys == all);
        Ok(LinearHeads {
            keys,
            each: each.ok_or("linear value heads are no multiple of the key heads")?,
            key_dim: need("linear_key_head_dim")?,
            value_dim: need("linear_value_head_dim")?,
        })
    }
}

impl LinearHeads {
    /// The rows `at..rows` of V heads of `dim` rows: `[keys, each]` as `[each, keys]`.
    fn values(&self, at: u64, dim: u64, rows: u64) -> Result<Runs> {
        let heads = self.keys * self.each;
        if rows != at + heads * dim {
            return Err(format!("{rows} rows are not those of {heads} value heads"));
        }
        if self.each == 1 || self.keys == 1 {
            return Ok(Vec::from([(at, heads * dim)]));
        }
        let one = |i: u64| (at + (i % self.keys * self.each + i / self.keys) * dim, dim);
        Ok((0..heads).map(one).collect())
    }

    /// Queries and keys, then values.
    fn after_keys(&self, rows: u64) -> Result<Runs> {
        let at = 2 * self.keys * self.key_dim;
        let mut runs = Vec::from([(0, at)]);
        runs.extend(self.values(at, self.value_dim, rows)?);
        Ok(runs)
    }

    /// Columns of V heads.
    fn columns(&self, s: Matrix<'_>, name: &str) -> Result<GgufTensor> {
        if s.cols != self.keys * self.each * self.value_dim {
            return Err(format!("{} columns are not those of the value heads", s.cols));
        }
        let mut made = shaped(s, name, s.axes)?;
        if self.each > 1 && self.keys > 1 {
            let order = Order::SwapColumns { outer: self.keys, inner: self.each, width: self.value_dim };
            made.parts.iter_mut().for_each(|p| p.view.order = order);
        }
        Ok(made)
    }

    /// Queries, keys and values of all key heads; and their gates.
    fn qkvz(&self, rows: u64) -> Result<(Runs, Runs)> {
        let (k, v) = (self.key_dim, self.each * self.value_dim);
        let each = 2 * k + 2 * v;
        if each * self.keys != rows {
            return Err(format!("{rows} rows are not those of {} key heads", self.keys));
        }
        let all = |at: u64, n: u64| (0..self.keys).map(move |h| (h * each + at, n));
        Ok((all(0, k).chain(all(k, k)).chain(all(2 * k, v)).collect(), all(2 * k + v, v).collect()))
    }
}

/// Whether a map concerns a tensor: those of matrices leave biases alone.
pub(super) fn applies(map: ValueMap, id: TensorId, axes: &[u64]) -> bool {
    let weight = id.part == TensorPart::Weight;
    match map {
        ValueMap::Transpose | ValueMap::TransposeEach | ValueMap::Squeeze | ValueMap::Groups => {
            weight && (axes.len() > 1 || map == ValueMap::Groups)
        }
        ValueMap::VHeadsOfConv | ValueMap::VHeadColumns | ValueMap::LatentKv => weight,
        _ => true,
    }
}

fn one(names: &[String]) -> Result<&str> {
    match names {
        [name] => Ok(name),
        [] => Err("it has no GGUF name".into()),
        _ => Err("it becomes several tensors, and how is not known".into()),
    }
}

fn limited(parts: u64) -> Result<()> {
    if parts > MAX_PARTS { Err(format!("{parts} heads or experts are too many")) } else { Ok(()) }
}

fn shape(axes: &[u64]) -> Result<Shape> {
    Shape::new(axes).ok_or_else(|| "its shape does not fit 64 bits".to_string())
}

/// All values as they are.
fn copy(name: &str, s: Matrix<'_>, shape: &Shape) -> GgufTensor {
    let view = View { row: 0, col: 0, cols: shape.cols(), order: Order::Rows };
    let parts = Vec::from([Part { source: s.index, rows: shape.rows(), view }]);
    let (name, shape, cols) = (name.to_string(), shape.clone(), shape.cols());
    GgufTensor { name, shape, cols, parts, step: ValueStep::None, generated: Vec::new() }
}

/// All values in their order, with another shape.
fn shaped(s: Matrix<'_>, name: &str, axes: &[u64]) -> Result<GgufTensor> {
    let shape = shape(axes)?;
    if Some(shape.numel()) != s.rows.checked_mul(s.cols) {
        return Err("it has another number of values than the configuration says".into());
    }
    Ok(copy(name, s, &shape))
}

/// Runs of rows, one after the other.
fn gather(s: Matrix<'_>, name: &str, axes: &[u64], runs: Runs) -> Result<GgufTensor> {
    let shape = shape(axes)?;
    let rows: u64 = runs.iter().map(|r| r.1).sum();
    let inside = runs.iter().all(|(at, n)| at.checked_add(*n).is_some_and(|end| end <= s.rows));
    if !inside || rows.checked_mul(s.cols) != Some(shape.numel()) {
        return Err(format!("its shape {:?} does not fit the configuration", s.axes));
    }
    let view = |row| View { row, col: 0, cols: s.cols, order: Order::Rows };
    let parts = runs.into_iter().filter(|r| r.1 > 0);
    let parts = parts.map(|(row, rows)| Part { source: s.index, rows, view: view(row) }).collect();
    let (name, cols, step) = (name.to_string(), s.cols, ValueStep::None);
    Ok(GgufTensor { name, shape, cols, parts, step, generated: Vec::new() })
}

fn squeezed(s: Matrix<'_>) -> Result<Vec<u64>> {
    match s.axes {
        [channels, 1, kernel] => Ok(Vec::from([*channels, *kernel])),
        _ => Err(format!("its shape {:?} is not [channels, 1, kernel]", s.axes)),
    }
}

fn permute(s: Matrix<'_>, name: &str, heads: Option<u64>) -> Result<GgufTensor> {
    let heads = heads.filter(|h| *h > 0).ok_or("the configuration has no number of heads")?;
    let head = s.rows / heads;
    if head == 0 || !head.is_multiple_of(2) || head * heads != s.rows {
        return Err(format!("{} rows are not those of {heads} heads of an even length", s.rows));
    }
    let mut made = gather(s, name, s.axes, Vec::from([(0, s.rows)]))?;
    made.parts.iter_mut().for_each(|p| p.view.order = Order::Permute { head });
    Ok(made)
}

fn transpose(s: Matrix<'_>, name: &str) -> Result<GgufTensor> {
    let [rows, cols] = *s.axes else { return Err(format!("its shape {:?} is no matrix", s.axes)) };
    let view = View { row: 0, col: 0, cols, order: Order::Transpose { step: 1 } };
    Ok(GgufTensor {
        name: name.to_string(),
        shape: shape(&[cols, rows])?,
        cols: rows,
        parts: Vec::from([Part { source: s.index, rows: cols, view }]),
        step: ValueStep::None,
        generated: Vec::new(),
    })
}

fn transpose_each(s: Matrix<'_>, name: &str) -> Result<GgufTensor> {
    let [n, rows, cols] = *s.axes else { return Err(format!("its shape {:?} is no stack", s.axes)) };
    limited(n)?;
    let view = |i: u64| View { row: i * rows, col: 0, cols, order: Order::Transpose { step: 1 } };
    Ok(GgufTensor {
        name: name.to_string(),
        shape: shape(&[n, cols, rows])?,
        cols: rows,
        parts: (0..n).map(|i| Part { source: s.index, rows: cols, view: view(i) }).collect(),
        step: ValueStep::None,
        generated: Vec::new(),
    })
}

/// The first and the second half of the rows, of each matrix of a stack.
fn halves(s: Matrix<'_>, first: &str, second: &str) -> Result<Vec<GgufTensor>> {
    let (n, rows, inner) = match *s.axes {
        [n, rows, inner] => (n, rows, inner),
        [rows, inner] => (1, rows, inner),
        _ => return Err(format!("its shape {:?} is neither a matrix nor a stack", s.axes)),
    };
    let half = rows / 2;
    if half * 2 != rows {
        return Err(format!("{rows} rows have no halves"));
    }
    limited(n)?;
    let source = Matrix { rows: n * rows, cols: inner, ..s };
    let axes = if s.axes.len() == 3 { Vec::from([n, half, inner]) } else { Vec::from([half, inner]) };
    let runs = |at: u64| (0..n).map(|i| (i * rows + at, half)).collect();
    Ok(Vec::from([gather(source, first, &axes, runs(0))?, gather(source, second, &axes, runs(half))?]))
}

/// Columns of each matrix of a stack as rows: of two halves (`step` 1), or in turns (`step` 2).
fn columns_of_stack(s: Matrix<'_>, names: [&str; 2], step: u64) -> Result<Vec<GgufTensor>> {
    let [n, rows, cols] = *s.axes else { return Err(format!("its shape {:?} is no stack", s.axes)) };
    let half = cols / 2;
    if half * 2 != cols {
        return Err(format!("{cols} columns have no halves"));
    }
    limited(n)?;
    let second = if step == 1 { half } else { 1 };
    let made = |name: &str, col: u64| -> Result<GgufTensor> {
        let view = |i: u64| View { row: i * rows, col, cols, order: Order::Transpose { step } };
        Ok(GgufTensor {
            name: name.to_string(),
            shape: shape(&[n, half, rows])?,
            cols: rows,
            parts: (0..n).map(|i| Part { source: s.index, rows: half, view: view(i) }).collect(),
            step: ValueStep::None,
            generated: Vec::new(),
        })
    };
    let [a, b] = names;
    Ok(Vec::from([made(a, 0)?, made(b, second)?]))
}

/// The map of a stack that is stored as a GGUF has it, where a plain checkpoint stores it transposed.
fn of_transposed_stack(map: ValueMap) -> Option<ValueMap> {
    match map {
        ValueMap::EvenOddTransposed => Some(ValueMap::EvenOdd),
        ValueMap::HalvesTransposed => Some(ValueMap::Halves),
        ValueMap::TransposeEach => None,
        other => Some(other),
    }
}

/// Even and odd rows of each matrix of a stack.
fn even_odd_rows(s: Matrix<'_>, first: &str, second: &str) -> Result<Vec<GgufTensor>> {
    let [n, rows, inner] = *s.axes else { return Err(format!("its shape {:?} is no stack", s.axes)) };
    let half = rows / 2;
    let (all, both) = (n.checked_mul(half), inner.checked_mul(2));
    let (Some(all), Some(cols)) = (all, both.filter(|_| half * 2 == rows)) else {
        return Err(format!("{rows} rows have no halves"));
    };
    let made = |name: &str, col: u64| -> Result<GgufTensor> {
        // Two rows side by side are one row of the view.
        let view = View { row: 0, col, cols, order: Order::Rows };
        let parts = Vec::from([Part { source: s.index, rows: all, view }]);
        let (name, shape, step) = (name.to_string(), shape(&[n, half, inner])?, ValueStep::None);
        Ok(GgufTensor { name, shape, cols: inner, parts, step, generated: Vec::new() })
    };
    Ok(Vec::from([made(first, 0)?, made(second, inner)?]))
}

/// Even and odd values of each row.
fn even_odd(s: Matrix<'_>, first: &str, second: &str) -> Result<Vec<GgufTensor>> {
    let half = s.cols / 2;
    if half * 2 != s.cols {
        return Err(format!("{} values have no halves", s.cols));
    }
    let made = |name: &str, col: u64| -> Result<GgufTensor> {
        let view = View { row: 0, col, cols: 2, order: Order::Rows };
        let parts = Vec::from([Part { source: s.index, rows: s.rows * half, view }]);
        let (name, shape, step) = (name.to_string(), shape(&[s.rows, half])?, ValueStep::None);
        Ok(GgufTensor { name, shape, cols: 1, parts, step, generated: Vec::new() })
    };
    Ok(Vec::from([made(first, 0)?, made(second, 1)?]))
}

/// GPT-NeoX: rows `[heads, 3, d]` as `[3, heads, d]`.
fn qkv_by_head(rows: u64, heads: u64) -> Result<Runs> {
    let dim = heads.checked_mul(3).and_then(|n| rows.checked_div(n).filter(|d| d * n == rows));
    let dim = dim.ok_or(format!("{rows} rows are not those of {heads} heads"))?;
    limited(heads)?;
    let kind = |k: u64| (0..heads).map(move |h| ((h * 3 + k) * dim, dim));
    Ok((0..3).flat_map(kind).collect())
}
