//! The importance weights of each tensor, and the tensors without any: decided before any work.

use super::{Op, Operand, Output, OutputOp, Segment, Side, Warning};
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::format::Checkpoint;
use crate::format::imatrix::{Imatrix, ImatrixEntry};
use crate::model::arch::{self, Arch};
use crate::model::config::hparams::stack;
use crate::model::tensor_role::{TensorRole, role};
use crate::quant::{self, Encoding};
use crate::tensor::TensorInfo;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use serde::Serialize;

/// Most experts of a stack that are given weights: a hundred times those of the largest models.
const MAX_STACK: u64 = 1 << 16;

/// The importance matrix of a conversion, as reports show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImportanceSource {
    /// The file's name.
    pub file: String,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
    /// Its calibration datasets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub datasets: Vec<String>,
    /// Number of chunks of calibration text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunks: Option<u64>,
    /// Number of entries in the file.
    pub entries: u64,
    /// Number of tensors that are encoded with its weights.
    pub used: u64,
}

/// Assigns importance weights to outputs, and records the tensors without any.
pub struct ImportancePlanner<'a> {
    imatrix: Option<&'a Imatrix>,
    /// The architecture, which decides the GGUF names of the tensors.
    arch: &'static Arch,
    /// Names of the entries whose tensor the model has.
    matched: BTreeSet<&'a str>,
    used: u64,
    /// Tensors that could use weights and have none.
    without: Vec<String>,
    /// Stacks with experts that no activation reached, and with sums that are all 0.
    unreached: Vec<String>,
    zeros: Vec<String>,
    /// Tensors of a type with few bits, which loses much quality without weights.
    poor: Vec<String>,
}

/// The weights of one matrix of a tensor, stored as sums of squared activations.
struct MatrixWeights {
    /// Byte offset of the row of sums.
    at: u64,
    /// Number of activations in each sum.
    count: f32,
}

impl MatrixWeights {
    fn operand(&self) -> Operand {
        let ops = vec![Op::Mean(self.count)].into();
        Operand { ops, ..Operand::stored(Side::Importance, self.at, DType::F32) }
    }
}

impl<'a> ImportancePlanner<'a> {
    /// A planner for the weights of `imatrix`, if there is one, for the tensors of `model`.
    pub fn new(imatrix: Option<&'a Imatrix>, model: &Checkpoint) -> ImportancePlanner<'a> {
        ImportancePlanner {
            imatrix,
            arch: arch::of_model(&model.metadata, model.config.as_deref()),
            matched: BTreeSet::new(),
            used: 0,
            without: Vec::new(),
            unreached: Vec::new(),
            zeros: Vec::new(),
            poor: Vec::new(),
        }
    }

    /// Adds the weights of `tensor` to the segments of `output`, if its encoding uses any.
    ///
    /// # Errors
    ///
    /// `needs_importance` if the encoding needs weights and there are none, `size_mismatch` if the weights do not fit the
    /// tensor.
    pub fn encode(&mut self, tensor: &TensorInfo, output: &mut Output) -> Result<()> {
        let found = self.find(tensor);
        let Some(OutputOp::Encode(encoding)) = output.segments.first().map(|p| p.op) else { return Ok(()) };
        if encoding.importance() == quant::ImportanceUse::Ignored {
            return Ok(());
        }
        match found {
            Some((entry, expert)) => self.give(tensor, entry, expert, output),
            None => self.go_without(tensor, encoding),
        }
    }

    /// Adds the weights of `tensor` to a measurement. Removes and returns the encodings that need weights if there are none.
    ///
    /// # Errors
    ///
    /// `size_mismatch` if the weights do not fit the tensor.
    pub fn measure(&mut self, tensor: &TensorInfo, output: &mut Output) -> Result<Vec<Encoding>> {
        let found = self.find(tensor);
        let uses = |e: &Encoding| e.importance() != quant::ImportanceUse::Ignored;
        match found {
            Some((entry, expert)) if output.metrics.encodings.iter().any(uses) => {
                self.give(tensor, entry, expert, output)?;
                Ok(Vec::new())
            }
            Some(_) => Ok(Vec::new()),
            None => {
                let needs = |e: &Encoding| e.importance() == quant::ImportanceUse::Required;
                let (out, kept): (_, Vec<Encoding>) =
                    core::mem::take(&mut output.metrics.encodings).into_iter().partition(needs);
                output.metrics.encodings = kept.into();
                Ok(out)
            }
        }
    }

    /// Adds the weights of `tensor` to its verification, if there are any.
    ///
    /// # Errors
    ///
    /// `size_mismatch` if the weights do not fit the tensor.
    pub fn verify(&mut self, tensor: &TensorInfo, output: &mut Output) -> Result<()> {
        let uses = |e: &Encoding| e.importance() != quant::ImportanceUse::Ignored;
        let whole = output.grid.rows == tensor.shape.rows();
        match self.find(tensor) {
            Some((entry, expert)) if whole && output.metrics.identity.iter().any(uses) => {
                self.give(tensor, entry, expert, output)
            }
            _ => Ok(()),
        }
    }

    /// The entry for a tensor by its name, here or in GGUF, and the number of its expert there.
    fn find(&mut self, tensor: &TensorInfo) -> Option<(&'a ImatrixEntry, Option<u64>)> {
        let imatrix = self.imatrix?;
        let own = imatrix.entries.get_key_value(tensor.name.as_str()).map(|found| (found, None));
        let other = || {
            let gguf = self.arch.gguf_name(&tensor.name)?;
            Some((imatrix.entries.get_key_value(&gguf.name)?, gguf.expert))
        };
        let ((name, entry), expert) = own.or_else(other)?;
        self.matched.insert(name);
        Some((entry, expert))
    }

    /// Cuts `output` into matrices, each with its weights.
    fn give(
        &mut self,
        tensor: &TensorInfo,
        entry: &ImatrixEntry,
        expert: Option<u64>,
        output: &mut Output,
    ) -> Result<()> {
        let cols = tensor.shape.cols();
        self.look(tensor, entry, expert, cols);
        let misfit = || {
            let words = format!(
                "the importance matrix has {} weights for it, which are no rows of {cols} for each matrix of {:?}",
                entry.values,
                tensor.shape.axes()
            );
            let error = Error::new(Code::SizeMismatch, words).of_tensor(&tensor.name);
            self.imatrix.map_or(error.clone(), |i| error.in_file(&i.file))
        };
        let parts = match expert {
            Some(e) => entry.part(e, entry.values.checked_div(cols).unwrap_or(0), cols).map(|p| vec![p]),
            None => {
                let n = stack(&tensor.shape);
                let few = n <= MAX_STACK;
                few.then(|| (0..n).map(|i| entry.part(i, n, cols)).collect()).flatten()
            }
        };
        let parts: Vec<MatrixWeights> =
            parts.ok_or_else(misfit)?.into_iter().map(|(at, count)| MatrixWeights { at, count }).collect();
        output.segments = weighted_segments(&output.segments, &parts).ok_or_else(misfit)?.into();
        self.used += 1;
        Ok(())
    }

    /// Records matrices of a tensor that no activation reached, or whose sums are all 0.
    fn look(&mut self, tensor: &TensorInfo, entry: &ImatrixEntry, expert: Option<u64>, cols: u64) {
        let n = entry.values.checked_div(cols).unwrap_or(0);
        let all = expert.map_or(0..n, |e| e..e.saturating_add(1));
        let matrices = all.end.saturating_sub(all.start);
        let (mut unreached, mut zeros) = (0_u64, 0_u64);
        for i in all {
            match entry.part(i, n, cols) {
                Some((_, 0.0)) => unreached += 1,
                Some(_) if entry.is_zero(i, n) => zeros += 1,
                _ => {}
            }
        }
        let told = |count| match matrices {
            1 => tensor.name.to_string(),
            _ => format!("{} ({count} of {matrices})", tensor.name),
        };
        self.unreached.extend((unreached > 0).then(|| told(unreached)));
        self.zeros.extend((zeros > 0).then(|| told(zeros)));
    }

    /// Records that a tensor has no weights, or refuses it if `encoding` needs some.
    fn go_without(&mut self, tensor: &TensorInfo, encoding: Encoding) -> Result<()> {
        let ends = matches!(role(&tensor.name, &tensor.shape), TensorRole::Embedding | TensorRole::Output);
        match encoding.importance() {
            quant::ImportanceUse::Required => {
                let words = match self.imatrix {
                    None => format!("{encoding} needs an importance matrix (--imatrix)"),
                    Some(_) => format!("{encoding} needs weights, and the importance matrix has none for it"),
                };
                return Err(Error::new(Code::NeedsImportance, words).of_tensor(&tensor.name));
            }
            quant::ImportanceUse::Wanted if !ends => self.poor.push((&tensor.name).into()),
            quant::ImportanceUse::Optional if !ends && self.imatrix.is_some() => {
                self.without.push((&tensor.name).into());
            }
            _ => {}
        }
        Ok(())
    }

    /// The warnings about tensors without weights and entries without a tensor.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut all = Vec::new();
        let mut tell = |code, text: &str, names: &[String]| {
            if !names.is_empty() {
                all.push(Warning::new(code, format!("{text}: {}", listed(names))));
            }
        };
        tell(
            "importance_wanted",
            "these become types of few bits, which serve badly without importance weights",
            &self.poor,
        );
        let text =
            "the calibration text never reached these matrices (experts), whose columns all count equally";
        tell("importance_unreached", text, &self.unreached);
        let text = "the importance matrix has only zeros for these matrices, so their errors do not count";
        tell("importance_zero", text, &self.zeros);
        tell("importance_missing", "the importance matrix has no weights for these", &self.without);
        let Some(imatrix) = self.imatrix else { return all };
        let unused: Vec<String> =
            imatrix.entries.keys().filter(|n| !self.matched.contains(n.as_str())).cloned().collect();
        tell("importance_unmatched", "entries of the importance matrix that match no tensor", &unused);
        all.extend(imatrix.warnings.iter().cloned());
        if self.used == 0 {
            all.push(Warning::new(
                "importance_unused",
                "no tensor is encoded with the weights of the importance matrix",
            ));
        }
        all
    }

    /// The importance matrix, as reports show it.
    pub fn importance(&self) -> Option<ImportanceSource> {
        let imatrix = self.imatrix?;
        Some(ImportanceSource {
            file: imatrix.file.clone(),
            sha256: imatrix.sha256.iter().map(|b| format!("{b:02x}")).collect(),
            datasets: imatrix.datasets.clone(),
            chunks: imatrix.chunks,
            entries: imatrix.entries.len() as u64,
            used: self.used,
        })
    }
}

/// The first few names, and the number of the others.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 4;
    let mut text = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

/// `segments` cut into matrices, each with its own weights; `None` if their rows are not a multiple of their number.
fn weighted_segments(segments: &[Segment], parts: &[MatrixWeights]) -> Option<Vec<Segment>> {
    let rows = segments.last()?.rows.end;
    let each = rows.checked_div(parts.len() as u64).filter(|n| n * parts.len() as u64 == rows)?;
    let cut = |segment: &Segment| {
        let matrices =
            segment.rows.start.checked_div(each).unwrap_or(0)..segment.rows.end.div_ceil(each.max(1));
        let one = |matrix: u64| {
            let part = parts.get(usize::try_from(matrix).ok()?)?;
            let rows = segment.rows.start.max(matrix * each)..segment.rows.end.min((matrix + 1) * each);
            let at = rows.start;
            Some(Segment { importance: Some(part.operand().into()), ..segment.slice(rows, at) })
        };
        matrices.filter_map(one).collect::<Vec<_>>()
    };
    Some(segments.iter().flat_map(cut).collect())
}
