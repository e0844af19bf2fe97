//! Goes through the tensors of a checkpoint in the converter's order: drops, names, stacks, and maps each of them.

use super::config_view::ConfigView;
use super::generated::generated;
use super::maps::Mapper;
use super::source_names::{block, is_dropped, is_tower, looked_up};
use super::{GgufTensor, GgufTensorOptions, GgufTensors, Order, Part, ValueStep, View};
use crate::error::{Code, Error, Result};
use crate::model::arch::gguf_rules::{BeyondRule, HeadRule};
use crate::model::arch::module::Module;
use crate::model::arch::{Arch, NormForm};
use crate::model::tensor_id::{TensorId, TensorPart};
use crate::tensor::packed::Packed;
use crate::tensor::{Shape, TensorInfo};
use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde_json::Value;

/// Most findings that a message lists.
const SHOWN: usize = 20;
/// Names of T5's embedding, of which the first one in a checkpoint is written.
const SHARED: &[&str] = &["decoder.embed_tokens.weight", "encoder.embed_tokens.weight", "shared.weight"];

/// Where the tensors of a stack are collected: all experts of a layer, or the norms of its heads.
type StackKey = (Option<u32>, Option<Module>);

/// A stack that is not complete yet.
#[derive(Default)]
struct Stack {
    /// Source tensors by module and index.
    members: BTreeMap<(Module, u32), usize>,
    /// Members that the checkpoint has.
    total: usize,
}

/// A source tensor with its name.
struct Named<'a> {
    source: usize,
    name: Cow<'a, str>,
    id: TensorId,
}

pub(super) struct Builder<'a> {
    arch: &'static Arch,
    config: ConfigView<'a>,
    tensors: &'a [TensorInfo],
    options: GgufTensorOptions,
    out: GgufTensors,
    stacks: BTreeMap<StackKey, Stack>,
    blocks: BTreeSet<u32>,
    findings: Vec<String>,
    /// Findings that are not listed.
    more: usize,
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        arch: &'static Arch,
        config: ConfigView<'a>,
        tensors: &'a [TensorInfo],
        options: GgufTensorOptions,
    ) -> Builder<'a> {
        let out = GgufTensors {
            tensors: Vec::new(),
            towers: Vec::new(),
            dropped: Vec::new(),
            notes: Vec::new(),
            blocks: 0,
        };
        let (stacks, blocks) = (BTreeMap::new(), BTreeSet::new());
        Builder { arch, config, tensors, options, out, stacks, blocks, findings: Vec::new(), more: 0 }
    }

    pub(super) fn run(&mut self) {
        match generated(self.arch, &self.config) {
            Ok(tensors) => self.out.tensors.extend(tensors),
            Err(why) => self.find(why),
        }
        let named = self.named();
        for tensor in named.iter().filter(|t| t.id.expert.is_some()) {
            self.stacks.entry(stack_key(tensor.id)).or_default().total += 1;
        }
        // The converter writes experts whose blocks it rearranges before all others.
        let rearranged = |t: &&Named<'_>| self.is_transposed_stack(t.source);
        let (first, others): (Vec<_>, Vec<_>) = named.iter().partition(rearranged);
        first.into_iter().chain(others).for_each(|tensor| self.add(tensor));
        self.check_blocks();
    }

    /// Whether a tensor is a packed stack of experts in the order of a GGUF.
    fn is_transposed_stack(&self, source: usize) -> bool {
        let packed = self.tensors.get(source).and_then(|t| t.packed.as_deref());
        packed.is_some_and(Packed::is_transposed_stack)
    }

    /// The result, or all findings.
    pub(super) fn finish(mut self) -> Result<GgufTensors> {
        self.check_names();
        super::layers::findings(&self.out.tensors, self.config.hidden())
            .into_iter()
            .for_each(|f| self.find(f));
        if self.findings.is_empty() {
            self.out.blocks = self.blocks.last().map_or(0, |b| u64::from(*b) + 1);
            return Ok(self.out);
        }
        let more = if self.more > 0 { format!("; and {} more", self.more) } else { String::new() };
        let message = format!(
            "the tensors are not those of a {} checkpoint that can be converted: {}{more}",
            self.arch.name,
            self.findings.join("; ")
        );
        Err(Error::new(Code::UnmappedTensors, message))
    }

    fn find(&mut self, finding: String) {
        if self.findings.len() < SHOWN {
            self.findings.push(finding);
        } else {
            self.more += 1;
        }
    }

    /// The tensors that a GGUF has, in the converter's order: by file, then by name.
    fn named(&mut self) -> Vec<Named<'a>> {
        let mut order: Vec<usize> = (0..self.tensors.len()).collect();
        let key = |i: &usize| self.tensors.get(*i).map(|t| (t.file, t.name.as_str()));
        order.sort_by(|a, b| key(a).cmp(&key(b)));
        let shared = self.shared();
        let mut named = Vec::with_capacity(order.len());
        for source in order {
            let Some(tensor) = self.tensors.get(source) else { continue };
            if is_tower(&tensor.name) {
                self.out.towers.push((&tensor.name).into());
                continue;
            }
            let mut name = looked_up(self.arch, &self.config, &tensor.name);
            if let Some(shared) = shared.filter(|_| SHARED.contains(&&*name)) {
                if shared != &*name {
                    self.out.dropped.push((&tensor.name).into());
                    continue;
                }
                name = Cow::Borrowed("shared.weight");
            }
            if is_dropped(self.arch, &name) || self.is_beyond(&name) {
                self.out.dropped.push((&tensor.name).into());
                continue;
            }
            match self.arch.parse_hf(&name) {
                Some(id) if self.is_left_out(id) => self.out.dropped.push((&tensor.name).into()),
                Some(id) => named.push(Named { source, name, id }),
                None => self.find(format!("{} has no GGUF name", tensor.name)),
            }
        }
        named
    }

    /// T5's embedding: the first of its names in this checkpoint.
    fn shared(&self) -> Option<&'static str> {
        let is_t5 = self.arch.gguf.is_some_and(|g| g.starts_with("t5"));
        let has = |name: &&&str| self.tensors.iter().any(|t| t.name == **name);
        SHARED.iter().find(has).copied().filter(|_| is_t5)
    }

    /// Whether a tensor belongs to a layer after the last one, and such layers are dropped.
    fn is_beyond(&self, name: &str) -> bool {
        let last = self.config.layers().unwrap_or(u64::MAX);
        match self.arch.gguf_rules.beyond {
            BeyondRule::Mtp | BeyondRule::Kept if self.options.no_mtp => {
                block(name).is_some_and(|b| u64::from(b) >= last)
            }
            BeyondRule::Dropped => {
                name.contains(".mtp_") || block(name).is_some_and(|b| u64::from(b) >= last)
            }
            _ => false,
        }
    }

    /// Whether a GGUF leaves out a tensor that the architecture names.
    fn is_left_out(&self, id: TensorId) -> bool {
        let head = match self.arch.gguf_rules.head {
            HeadRule::Written => false,
            HeadRule::Dropped => true,
            HeadRule::DroppedWhenTied => self.config.tied(self.arch.config.tied),
        };
        let unused = id.part == TensorPart::Bias && self.arch.gguf_rules.unused_biases && !self.has_biases();
        (head && id.module == Module::Output) || id.module.gguf().is_empty() || unused
    }

    /// Whether the configuration says that projections have biases.
    fn has_biases(&self) -> bool {
        self.config.get(&["attention_bias"]).and_then(Value::as_bool).unwrap_or(false)
    }

    fn add(&mut self, tensor: &Named<'_>) {
        if let Some(layer) = tensor.id.layer {
            self.blocks.insert(layer);
        }
        if tensor.id.expert.is_some() {
            return self.collect(tensor);
        }
        let Some(info) = self.tensors.get(tensor.source) else { return };
        if tensor.id.module == Module::TokenEmbd
            && let Some(why) = self.embedding_misfit(info)
        {
            self.find(format!("{}: {why}", info.name));
        }
        let mapper = Mapper { arch: self.arch, config: &self.config };
        match mapper.map(tensor.source, info, tensor.id) {
            Ok(made) => {
                let shifted = self.arch.norm_form == NormForm::OnePlusGain
                    && tensor.id.module != Module::SsmNorm
                    && tensor.name.ends_with("norm.weight");
                let step = |t: GgufTensor| match shifted {
                    true => GgufTensor { step: ValueStep::AddOne, ..t },
                    false => t,
                };
                self.out.tensors.extend(made.into_iter().map(step));
            }
            Err(why) => self.find(format!("{}: {why}", info.name)),
        }
    }

    /// What contradicts the configuration in the token embeddings.
    fn embedding_misfit(&self, tensor: &TensorInfo) -> Option<String> {
        let [rows, cols] = tensor.shape.axes() else { return Some("it is no matrix".into()) };
        let hidden = self.config.hidden().filter(|h| h != cols);
        let vocab = self.config.count(&["vocab_size"]).filter(|v| v > rows);
        let hidden =
            hidden.map(|h| format!("rows of {cols}, and the configuration has a hidden size of {h}"));
        hidden
            .or_else(|| vocab.map(|v| format!("{rows} rows, and the configuration has a vocabulary of {v}")))
    }

    /// Collects a tensor of a stack; the last one of a stack completes it.
    fn collect(&mut self, tensor: &Named<'_>) {
        let (Some(index), key) = (tensor.id.expert, stack_key(tensor.id)) else { return };
        let Some(stack) = self.stacks.get_mut(&key) else { return };
        let twice = stack.members.insert((tensor.id.module, index), tensor.source).is_some();
        stack.total = stack.total.saturating_sub(1);
        let complete = stack.total == 0;
        if twice {
            self.find(format!("{} stands twice in its stack", tensor.name));
        }
        if complete && let Some(stack) = self.stacks.remove(&key) {
            self.emit(key, &stack);
        }
    }

    /// Adds the tensors of a complete stack.
    fn emit(&mut self, (layer, norm): StackKey, stack: &Stack) {
        let experts = self.arch.gguf_rules.experts;
        let modules = match &norm {
            Some(module) => core::slice::from_ref(module),
            None => experts.as_slice(),
        };
        for &module in modules {
            let id = TensorId { layer, module, expert: None, part: TensorPart::Weight };
            match self.stacked(id, stack) {
                Ok(tensor) => self.out.tensors.push(tensor),
                Err(why) => {
                    let name = self.arch.to_gguf(id).into_iter().next().unwrap_or_default();
                    self.find(format!("{name}: {why}"));
                }
            }
        }
        let others: Vec<Module> =
            stack.members.keys().map(|k| k.0).filter(|m| !modules.contains(m)).collect();
        if let Some(other) = others.first() {
            self.find(format!("layer {layer:?} has experts of another kind ({other:?})"));
        }
    }

    /// The tensors of one module of a stack, on top of each other.
    fn stacked(&self, id: TensorId, stack: &Stack) -> core::result::Result<GgufTensor, String> {
        let members = || stack.members.iter().filter(|((m, _), _)| *m == id.module);
        let (have, last) = (members().count() as u64, members().map(|((_, i), _)| u64::from(*i) + 1).max());
        let configured = if id.module.is_norm() { 0 } else { self.config.experts() };
        let wanted = last.unwrap_or(0).max(configured);
        if have != wanted || have == 0 {
            return Err(format!("{have} of {wanted} tensors of its stack are there"));
        }
        if configured != 0 && wanted > configured {
            return Err(format!("{wanted} experts, and the configuration has {configured}"));
        }
        let mut parts: Vec<Part> = Vec::with_capacity(stack.members.len());
        let mut common: Option<&Shape> = None;
        for (_, source) in members() {
            let tensor = self.tensors.get(*source).ok_or("a tensor is missing")?;
            if *common.get_or_insert(&tensor.shape) != &tensor.shape {
                return Err(format!("{} has another shape than the others of its stack", tensor.name));
            }
            let view = View { row: 0, col: 0, cols: tensor.shape.cols(), order: Order::Rows };
            parts.push(Part { source: *source, rows: tensor.shape.rows(), view });
        }
        let each = common.ok_or("it is empty")?;
        let axes: Vec<u64> = [have].into_iter().chain(each.axes().iter().copied()).collect();
        let shape = Shape::new(&axes).ok_or("its shape does not fit 64 bits")?;
        let name = self.arch.to_gguf(id).into_iter().next().ok_or("it has no GGUF name")?;
        let (cols, step) = (each.cols(), ValueStep::None);
        Ok(GgufTensor { name, shape, cols, parts, step, generated: Vec::new() })
    }

    /// Every layer of the configuration has tensors, and there are no others.
    fn check_blocks(&mut self) {
        let Some(layers) = self.config.layers() else { return };
        if layers > u64::from(u32::MAX) || self.blocks.is_empty() {
            return;
        }
        let beyond = match self.arch.gguf_rules.beyond {
            _ if self.options.no_mtp => 0,
            BeyondRule::Kept => self.config.count(&["num_nextn_predict_layers"]).unwrap_or(0),
            BeyondRule::Mtp => {
                let own = self.config.count(&["mtp_num_hidden_layers", "num_nextn_predict_layers"]);
                own.unwrap_or(1)
            }
            _ => 0,
        };
        let all = layers.saturating_add(beyond);
        // No more of them are looked for than there are tensors.
        let missing: Vec<u64> =
            (0..layers.min(1 << 16)).filter(|l| !self.blocks.contains(&(*l as u32))).collect();
        if let Some(first) = missing.first() {
            let n = missing.len();
            self.find(format!(
                "the configuration has {layers} layers, and {n} have no tensors (first: {first})"
            ));
        }
        if let Some(last) = self.blocks.last().filter(|b| u64::from(**b) >= all) {
            self.find(format!("layer {last} is beyond the {all} of the configuration"));
        }
    }

    /// No two tensors have one name.
    fn check_names(&mut self) {
        let mut names: Vec<&str> = self.out.tensors.iter().map(|t| t.name.as_str()).collect();
        names.sort_unstable();
        let twice = names.windows(2).filter_map(|w| match w {
            [a, b] if a == b => Some(format!("{a} is made of two tensors")),
            _ => None,
        });
        let twice: Vec<String> = twice.collect();
        twice.into_iter().for_each(|finding| self.find(finding));
    }
}

/// Experts of a layer are complete together; norms of heads, each kind by itself.
fn stack_key(id: TensorId) -> StackKey {
    (id.layer, id.module.is_norm().then_some(id.module))
}
