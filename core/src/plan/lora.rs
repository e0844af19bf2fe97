//! The counter-rotation of a PEFT adapter: with the rotated base model it computes what it computed with the original.
//!
//! `W + s B A` becomes `R_out (W + s B A) G R_in^T`: the input side of a module's rotation acts on A, the output side on
//! B. So each tensor gets the steps of its module's side, the gains come from the base model that was not rotated, and the
//! scale `s` stays. A tensor without such steps is refused by name.

use super::replay::recorded;
use super::rotate::{AppliedRotation, RotationPlanner, UNTOUCHED, untied};
use super::target::{self, Contents, lay_out_folder};
use super::{Conversion, OutFile, Output, Plan, Totals, Warning};
use crate::dtype::{DType, DTypeKind};
use crate::error::{Code, Error, Result};
use crate::format::{Checkpoint, Companion, Container};
use crate::model::family::{HeadRole, HeadSide, RotationRoles, StreamRole};
use crate::model::lora_adapter::{AdapterPart, AdapterTensor, check, meaning};
use crate::quant::Encoding;
use crate::recipe::rotation::RotationOptions;
use crate::recipe::{Action, Decision, Reason, Recipe};
use crate::tensor::TensorInfo;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The file name of an adapter's weights.
pub const WEIGHTS: &str = "adapter_model.safetensors";
/// The file name of an adapter's configuration.
pub use crate::model::lora_adapter::CONFIG;

fn refuse(message: impl Into<String>) -> Error {
    Error::new(Code::UnsupportedRotation, message)
}

/// Plans the rotation of `adapter`, which was trained on `base`, for a base model that is rotated by `recipe`.
///
/// `config` is its `adapter_config.json`; the files `others` beside it are copied. The adapter is the source of all reads
/// and the base model the candidate, from which the gains are read.
///
/// # Errors
///
/// `unsupported_rotation` if the base model cannot be rotated so, or if a tensor belongs to no module of the base model, is
/// neither part of a low-rank adapter nor a tensor of the base model, or has no exact counter-rotation.
pub fn plan(
    base: &Checkpoint,
    adapter: &Checkpoint,
    config: &[u8],
    recipe: &Recipe,
    others: &[Companion],
) -> Result<Plan> {
    target::check(recipe)?;
    let named = check(config)?;
    let Some(options) = recipe.rotate.filter(|_| recipe.to.container() == Container::Safetensors) else {
        return Err(Error::new(Code::Usage, "an adapter is rotated, and stays safetensors"));
    };
    check_sources(base, adapter)?;
    let (all, _) = untied(base, &options)?;
    let planner = RotationPlanner::new(&all, base, options, recipe.dtype)?.of_candidate();
    let mut rotation = planner.record(base.files.iter().chain(&adapter.files));
    let mut outputs = outputs(&planner, &all, adapter, recipe, options, &mut rotation)?;
    let warnings = warnings(adapter, &rotation, named);
    let contents =
        Contents { checkpoint: adapter, recipe, imatrix: None, rotation: Some(&rotation), mapping: None };
    let config = OutFile::literal(CONFIG, config.to_vec());
    let files = lay_out_folder(&contents, &mut outputs, WEIGHTS, config, others)?;
    let conversion = Conversion {
        recipe: recipe.clone(),
        container: Container::Safetensors,
        directory: true,
        importance: None,
        left_out: Vec::new(),
        totals: Totals::of(adapter, &outputs, &files, None)?,
        rotation: Some(rotation),
    };
    Ok(Plan { outputs, files, conversion: Some(conversion), warnings })
}

/// An output for each tensor of the adapter, rotated, without a place.
fn outputs(
    planner: &RotationPlanner<'_>,
    base: &Checkpoint,
    adapter: &Checkpoint,
    recipe: &Recipe,
    options: RotationOptions,
    rotation: &mut AppliedRotation,
) -> Result<Vec<Output>> {
    let modules = Modules::new(planner, base, options);
    let mut outputs = Vec::with_capacity(adapter.tensors.len());
    let mut halves = Halves::default();
    for (index, tensor) in adapter.tensors.iter().enumerate() {
        let made = modules.roles(tensor, &mut halves).and_then(|roles| {
            let decision = unrotated(tensor, recipe.dtype);
            let mut output = Output::converted(index, tensor, decision, recipe, false);
            if roles != UNTOUCHED {
                planner.rotate_as(&roles, (index, tensor), &mut output, rotation)?;
            }
            Ok(output)
        });
        outputs.push(made.map_err(|e| e.of_tensor(&tensor.name))?);
    }
    halves.check()?;
    Ok(outputs)
}

/// The warnings of the adapter's files, and those of its rotation; `named` is the base model that its configuration names.
fn warnings(adapter: &Checkpoint, rotation: &AppliedRotation, named: Option<String>) -> Vec<Warning> {
    let mut warnings = adapter.warnings.clone();
    if rotation.tensors == 0 {
        let message = "no module of this adapter has a part in the rotation: it stays what it is";
        warnings.push(Warning::new("nothing_rotated", message));
    }
    if let Some(name) = named {
        let message = format!(
            "{CONFIG} still names {name:?}, as it was; the adapter fits that model only once it is rotated so"
        );
        warnings.push(Warning::new("base_not_renamed", message));
    }
    warnings
}

/// Checks that `rotated` can have been made from `base`: they have tensors in common, of the same shapes.
///
/// # Errors
///
/// `unsupported_rotation` if it cannot.
pub fn check_rotated(base: &Checkpoint, rotated: &Checkpoint) -> Result<()> {
    let shapes: BTreeMap<&str, &TensorInfo> = rotated.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
    let both = || base.tensors.iter().filter_map(|t| Some((t, *shapes.get(t.name.as_str())?)));
    if let Some((t, other)) = both().find(|(t, other)| t.shape != other.shape) {
        let (is, was) = (other.shape.axes(), t.shape.axes());
        return Err(refuse(format!(
            "the rotated model was not made from this one: {is:?} there, {was:?} here"
        ))
        .of_tensor(&t.name));
    }
    match both().next() {
        Some(_) => Ok(()),
        None => Err(refuse("the rotated model was not made from this one: they have no tensor in common")),
    }
}

/// Refuses a base model or an adapter that was rotated before: its gains are folded already.
fn check_sources(base: &Checkpoint, adapter: &Checkpoint) -> Result<()> {
    if adapter.container != Container::Safetensors {
        let message = format!("the adapter is {}; PEFT's are safetensors", adapter.container.name());
        return Err(Error::new(Code::UnsupportedContainer, message));
    }
    if adapter.tensors.is_empty() {
        return Err(Error::new(Code::Empty, "the adapter holds no tensors"));
    }
    let rotated = |c: &Checkpoint| recorded(c).is_some();
    if rotated(base) {
        return Err(refuse(
            "the model was rotated already, and its gains are in its readers: name the one that it was made from",
        ));
    }
    if rotated(adapter) {
        return Err(refuse("the adapter was counter-rotated already"));
    }
    Ok(())
}

/// The decision for a tensor before any rotation.
fn unrotated(tensor: &TensorInfo, dtype: Option<DType>) -> Decision {
    let float = tensor.dtype.kind() == DTypeKind::Float;
    match dtype.filter(|d| float && *d != tensor.dtype) {
        Some(to) => Decision {
            action: Action::Encode(Encoding::Type(to)),
            reason: Reason { code: "converted", text: "".into() }.into(),
        },
        None => Decision {
            action: Action::Copy,
            reason: Reason { code: "untouched", text: "lies beside the rotation".into() }.into(),
        },
    }
}

/// The tensors of the base model by name, and their roles in the rotation.
struct Modules<'a> {
    planner: &'a RotationPlanner<'a>,
    tensors: BTreeMap<&'a str, (usize, &'a TensorInfo)>,
    /// Indices of tensors that are embedding and head in one, if the residual stream is rotated.
    shared: BTreeSet<usize>,
}

impl<'a> Modules<'a> {
    fn new(planner: &'a RotationPlanner<'a>, base: &'a Checkpoint, options: RotationOptions) -> Modules<'a> {
        let tensors = base.tensors.iter().enumerate().map(|(i, t)| (t.name.as_str(), (i, t))).collect();
        let shared = if options.stream { planner.shared() } else { BTreeSet::new() };
        Modules { planner, tensors, shared }
    }

    fn find(&self, name: &str) -> Result<(usize, &'a TensorInfo, RotationRoles)> {
        let unknown = || refuse(format!("the model has no tensor {name:?} that this would belong to"));
        let &(index, tensor) = self.tensors.get(name).ok_or_else(unknown)?;
        if self.shared.contains(&index) {
            return Err(refuse(format!(
                "{name} is embedding and head in one, and a rotation divides it: run beside the model the adapter changes \
                 one of them, merged it changes both"
            )));
        }
        let roles = self.planner.roles(index);
        if roles.stream == StreamRole::Mtp {
            return Err(refuse(format!("{name} predicts further tokens, which a rotated model does not")));
        }
        Ok((index, tensor, roles))
    }

    /// The roles of a tensor of the adapter.
    fn roles(&self, tensor: &TensorInfo, halves: &mut Halves) -> Result<RotationRoles> {
        match meaning(&tensor.name) {
            AdapterTensor::Low { module, adapter, half } => {
                let (_, weight, part) = self.find(&format!("{module}.weight"))?;
                halves.add(module, adapter, half, tensor);
                fits(&part, weight, half, tensor)?;
                low(&part, half)
            }
            AdapterTensor::Whole(name) => {
                let (_, replaced, part) = self.find(&name)?;
                whole(&part, replaced, tensor)
            }
        }
    }
}

/// The roles of a tensor that replaces one of the base model's: the same. Norms are refused, because their gains are folded
/// into the weights that read them as they were before training.
fn whole(part: &RotationRoles, replaced: &TensorInfo, tensor: &TensorInfo) -> Result<RotationRoles> {
    if matches!(part.stream, StreamRole::Norm { .. }) {
        return Err(refuse(
            "the gain of this norm was folded into the weights that read it, before it was trained",
        ));
    }
    let (axes, own) = (replaced.shape.axes(), tensor.shape.axes());
    // The vocabulary may have grown.
    let free = |axis: usize| match part.stream {
        StreamRole::Embedding { axis: stream } | StreamRole::Head { axis: stream, .. } => axis != stream,
        _ => false,
    };
    let same =
        axes.len() == own.len() && axes.iter().zip(own).enumerate().all(|(i, (a, b))| a == b || free(i));
    if same {
        Ok(*part)
    } else {
        Err(refuse(format!("its shape is {own:?}, and that of the model's tensor {axes:?}")))
    }
}

/// The roles of one tensor of an adapter of a weight with the roles `part`.
fn low(part: &RotationRoles, half: AdapterPart) -> Result<RotationRoles> {
    let embedding = matches!(part.stream, StreamRole::Embedding { .. });
    let inputs = matches!(half, AdapterPart::A | AdapterPart::EmbeddingA);
    match half {
        AdapterPart::Magnitude if *part != UNTOUCHED => {
            return Err(refuse(
                "DoRA divides by the lengths of the merged weight's rows, and these are others once gains are folded in or \
                 outputs rotated; merge the adapter into the model, and rotate that",
            ));
        }
        AdapterPart::A | AdapterPart::B | AdapterPart::Bias if embedding => {
            return Err(refuse("this is an adapter of a linear module, and the model's is an embedding"));
        }
        AdapterPart::EmbeddingA | AdapterPart::EmbeddingB if !embedding && *part != UNTOUCHED => {
            return Err(refuse("this is an adapter of an embedding, and the model's module is none"));
        }
        _ => {}
    }
    // Inputs lie along A's columns, outputs along B's rows.
    let stream = match part.stream {
        StreamRole::Reader { fold, .. } | StreamRole::Head { fold, .. } if inputs => {
            StreamRole::Reader { axis: 1, fold }
        }
        StreamRole::Writer { .. } | StreamRole::Embedding { .. } if !inputs => StreamRole::Writer { axis: 0 },
        _ => StreamRole::Untouched,
    };
    let side = if inputs { HeadSide::OProj } else { HeadSide::VProj };
    let axis = usize::from(inputs);
    let heads = part.heads.filter(|h| h.side == side).map(|h| HeadRole { axis, ..h });
    Ok(RotationRoles { stream, heads })
}

/// Whether the inputs lie along the last axis of a weight, by its roles; `None` if they do not show it.
fn inputs_last(part: &RotationRoles) -> Option<bool> {
    match (part.stream, part.heads) {
        (StreamRole::Reader { axis, .. } | StreamRole::Head { axis, .. }, _) => Some(axis == 1),
        (StreamRole::Writer { axis }, _) => Some(axis == 0),
        // The rows of an embedding table are its inputs, and the vectors its outputs.
        (StreamRole::Embedding { .. }, _) => Some(false),
        (_, Some(HeadRole { axis, side, .. })) => Some((axis == 1) == (side == HeadSide::OProj)),
        _ => None,
    }
}

/// Refuses a tensor whose shape is not that of an adapter of this weight. Convolution kernels, which are not rotated, have
/// other shapes.
fn fits(part: &RotationRoles, weight: &TensorInfo, half: AdapterPart, tensor: &TensorInfo) -> Result<()> {
    let (axes, own) = (weight.shape.axes(), tensor.shape.axes());
    let known = inputs_last(part);
    let sides = match (axes, known) {
        ([a, b], Some(true)) => Vec::from([(*b, *a)]),
        ([a, b], Some(false)) => Vec::from([(*a, *b)]),
        ([a, b], None) => Vec::from([(*b, *a), (*a, *b)]),
        _ if *part == UNTOUCHED => return Ok(()),
        _ => Vec::new(),
    };
    let fit = |&(inputs, outputs): &(u64, u64)| match (half, own) {
        (AdapterPart::A | AdapterPart::EmbeddingA, [_, n]) => *n == inputs,
        (AdapterPart::B | AdapterPart::EmbeddingB, [n, _]) | (AdapterPart::Bias, [n]) => *n == outputs,
        (AdapterPart::Magnitude, _) => true,
        _ => false,
    };
    if sides.iter().any(fit) {
        return Ok(());
    }
    Err(refuse(format!("its shape {own:?} is not that of an adapter of a weight of {axes:?}")))
}

/// The tensor name and the rank of one half.
type HalfSeen = Option<(String, u64)>;

/// Both halves of every adapter, by module and adapter name.
#[derive(Default)]
struct Halves(BTreeMap<(String, String), [HalfSeen; 2]>);

impl Halves {
    fn add(&mut self, module: &str, adapter: &str, half: AdapterPart, tensor: &TensorInfo) {
        let axes = tensor.shape.axes();
        let (slot, rank) = match half {
            AdapterPart::A | AdapterPart::EmbeddingA => (0, axes.first()),
            AdapterPart::B | AdapterPart::EmbeddingB => (1, axes.get(1)),
            AdapterPart::Bias | AdapterPart::Magnitude => return,
        };
        let both = self.0.entry((module.into(), adapter.into())).or_default();
        if let Some(place) = both.get_mut(slot) {
            *place = Some(((&tensor.name).into(), rank.copied().unwrap_or(0)));
        }
    }

    /// Refuses one half without the other, and two of different ranks.
    fn check(&self) -> Result<()> {
        for both in self.0.values() {
            match both {
                [Some((_, a)), Some((_, b))] if a == b => {}
                [Some((name, a)), Some((_, b))] => {
                    return Err(
                        refuse(format!("its rank is {a}, and that of its other half {b}")).of_tensor(name)
                    );
                }
                [Some((name, _)), None] | [None, Some((name, _))] => {
                    return Err(refuse("its other half is missing").of_tensor(name));
                }
                [None, None] => {}
            }
        }
        Ok(())
    }
}
