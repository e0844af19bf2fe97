//! Plans the counter-rotation of a PEFT adapter: beside the rotated model it does what it did beside the model it was
//! trained on.
//!
//! `W + s B A` becomes `R_out (W + s B A) G R_in^T`: what a rotation does to the inputs of a module it does to A, what it
//! does to the outputs, to B. So each tensor gets the steps of its module's side, the gains come from the model that was
//! not rotated, and the scale stays. What has no such steps is refused by name.

use super::replay::recorded;
use super::rotate::{RotationPlanner, UNTOUCHED, untied};
use super::{Conversion, OutFile, Output, Plan, Totals, Warning, convert};
use crate::dtype::{DType, DTypeKind};
use crate::error::{Code, Error, Result};
use crate::format::{Checkpoint, Container};
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

/// What loaders of adapters ask for.
pub const WEIGHTS: &str = "adapter_model.safetensors";
/// What says how the adapter is to be used.
pub use crate::model::lora_adapter::CONFIG;

fn refuse(message: impl Into<String>) -> Error {
    Error::new(Code::UnsupportedRotation, message)
}

/// Plans what becomes of `adapter`, which was trained on `base`, where `base` is rotated as `wish` says. `config` is its
/// `adapter_config.json`, `others` go with it as they are. The adapter is the source of all reads, and the model the
/// candidate: its gains are read.
///
/// Fails with `unsupported_rotation` where the model cannot be rotated so, a tensor belongs to no module of the model, is
/// no part of a low-rank adapter and no tensor of the model, or has no exact counter-rotation.
pub fn plan(
    base: &Checkpoint,
    adapter: &Checkpoint,
    config: &[u8],
    recipe: &Recipe,
    others: Vec<OutFile>,
) -> Result<Plan> {
    recipe.check()?;
    let named = check(config)?;
    let Some(wish) = recipe.rotate.filter(|_| recipe.to == Container::Safetensors) else {
        return Err(Error::new(Code::Usage, "an adapter is rotated, and stays safetensors"));
    };
    check_sources(base, adapter)?;
    let all = untied(base, &wish)?;
    let turning = RotationPlanner::new(&all, base, wish, recipe.dtype)?.of_candidate();
    let modules = Modules::new(&turning, &all, wish);
    let mut told = turning.told(base.files.iter().chain(&adapter.files));
    let mut outputs = Vec::with_capacity(adapter.tensors.len());
    let mut halves = Halves::default();
    for (index, tensor) in adapter.tensors.iter().enumerate() {
        let made = modules.part(tensor, &mut halves).and_then(|part| {
            let mut output = convert::output(index, tensor, kept(tensor, recipe.dtype), false);
            if part != UNTOUCHED {
                turning.turn_as(&part, (index, tensor), &mut output, &mut told)?;
            }
            Ok(output)
        });
        outputs.push(made.map_err(|e| e.of_tensor(&tensor.name))?);
    }
    halves.check()?;
    let mut warnings = adapter.warnings.clone();
    if told.tensors == 0 {
        let message = "no module of this adapter has a part in the rotation: it stays what it is";
        warnings.push(Warning::new("nothing_rotated", message));
    }
    if let Some(name) = named {
        let message = format!(
            "{CONFIG} still names {name:?}, as it was; the adapter fits that model only once it is rotated so"
        );
        warnings.push(Warning::new("base_not_renamed", message));
    }
    convert::look_for_nonfinite(recipe, &mut outputs);
    let mut files = convert::safetensors_file(adapter, recipe, Some(&told), &mut outputs)?;
    files.iter_mut().for_each(|f| f.name = WEIGHTS.into());
    files.push(OutFile::literal(CONFIG, config.to_vec()));
    files.extend(others);
    let conversion = conversion(adapter, recipe, &outputs, &files, told)?;
    Ok(Plan { outputs, files, conversion: Some(conversion), warnings })
}

fn conversion(
    adapter: &Checkpoint,
    recipe: &Recipe,
    outputs: &[Output],
    files: &[OutFile],
    told: super::rotate::AppliedRotation,
) -> Result<Conversion> {
    Ok(Conversion {
        recipe: recipe.clone(),
        container: Container::Safetensors,
        directory: true,
        importance: None,
        rotation: Some(told),
        totals: Totals::of(adapter, outputs, files)?,
    })
}

/// Refuses a `rotated` model that cannot have been made from `base`: tensors of both have one shape, and there are some.
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

/// What was rotated before has lost its gains, or got them already.
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

/// What becomes of a tensor that is not turned.
fn kept(tensor: &TensorInfo, dtype: Option<DType>) -> Decision {
    let float = tensor.dtype.kind() == DTypeKind::Float;
    match dtype.filter(|d| float && *d != tensor.dtype) {
        Some(to) => Decision {
            action: Action::Encode(Encoding::Type(to)),
            reason: Reason { code: "converted", text: "".into() },
        },
        None => Decision {
            action: Action::Copy,
            reason: Reason { code: "untouched", text: "lies beside the rotation".into() },
        },
    }
}

/// The tensors of the model by name, and what a rotation does to them.
struct Modules<'a> {
    turning: &'a RotationPlanner<'a>,
    tensors: BTreeMap<&'a str, (usize, &'a TensorInfo)>,
    /// Embedding and head in one, where the stream is rotated.
    shared: BTreeSet<usize>,
}

impl<'a> Modules<'a> {
    fn new(turning: &'a RotationPlanner<'a>, base: &'a Checkpoint, wish: RotationOptions) -> Modules<'a> {
        let tensors = base.tensors.iter().enumerate().map(|(i, t)| (t.name.as_str(), (i, t))).collect();
        let shared = if wish.stream { turning.shared() } else { BTreeSet::new() };
        Modules { turning, tensors, shared }
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
        let part = self.turning.part(index);
        if part.stream == StreamRole::Mtp {
            return Err(refuse(format!("{name} predicts further tokens, which a rotated model does not")));
        }
        Ok((index, tensor, part))
    }

    /// The part of a tensor of the adapter.
    fn part(&self, tensor: &TensorInfo, halves: &mut Halves) -> Result<RotationRoles> {
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

/// The part of a tensor that takes the place of one of the model's: the same, but for norms. Their gains are in the
/// readers, as they were.
fn whole(part: &RotationRoles, replaced: &TensorInfo, tensor: &TensorInfo) -> Result<RotationRoles> {
    if matches!(part.stream, StreamRole::Norm { .. }) {
        return Err(refuse(
            "the gain of this norm was folded into the weights that read it, before it was trained",
        ));
    }
    let (axes, own) = (replaced.shape.axes(), tensor.shape.axes());
    // Vocabularies may have grown.
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

/// What the part of a weight is to one tensor of its adapter.
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

/// Whether the inputs lie along the last axis of a weight, by what reads and writes there; none where nothing tells.
fn inputs_last(part: &RotationRoles) -> Option<bool> {
    match (part.stream, part.heads) {
        (StreamRole::Reader { axis, .. } | StreamRole::Head { axis, .. }, _) => Some(axis == 1),
        (StreamRole::Writer { axis }, _) => Some(axis == 0),
        // A table's rows are its inputs, and the vectors its outputs.
        (StreamRole::Embedding { .. }, _) => Some(false),
        (_, Some(HeadRole { axis, side, .. })) => Some((axis == 1) == (side == HeadSide::OProj)),
        _ => None,
    }
}

/// Refuses a tensor that cannot be of an adapter of this weight. Beside the rotation, kernels have shapes of their own.
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

/// The name and the rank of one half.
type HalfSeen = Option<(String, u64)>;

/// Both halves of every adapter, by module and name.
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
