//! A counter-rotated adapter is beside the rotated model what it was beside its own: merging and rotating commute.

use crate::rotated::{folder, folders, plan as rotation, rotation_options, world};
use quantoscope_core::error::Result;
use quantoscope_core::format::Container;
use quantoscope_core::model::family::{HeadsVerdict, RotationRules, StreamRole, StreamVerdict, rules};
use quantoscope_core::plan::{Plan, lora};
use quantoscope_core::recipe::Recipe;
use quantoscope_core::recipe::rotation::RotationOptions;
use quantoscope_core::schedule::Budget;
use quantoscope_core::{Code, DType};
use quantoscope_tests::memory::{MemoryModel, run};
use quantoscope_tests::models::{Rng, Tensor, safetensors};
use std::collections::BTreeMap;
use std::path::Path;

pub(crate) const CONFIG: &[u8] = br#"{"peft_type":"LORA","r":3,"lora_alpha":6}"#;
const RANK: u64 = 3;
const SCALE: f64 = 2.0;

/// Plans the counter-rotation of an adapter.
pub(crate) fn plan(
    base: &MemoryModel,
    adapter: &MemoryModel,
    rotate: RotationOptions,
    dtype: Option<DType>,
) -> Result<Plan> {
    let recipe = Recipe { rotate: Some(rotate), ..Recipe::new(Container::Safetensors, dtype) };
    lora::plan(&base.checkpoint, &adapter.checkpoint, CONFIG, &recipe, &[])
}

pub(crate) fn open(tensors: &[Tensor]) -> MemoryModel {
    MemoryModel::file(lora::WEIGHTS, safetensors(tensors)).expect("a sound adapter")
}

/// What a plan makes, opened again.
fn run_to_model(plan: &Plan, worlds: &[&MemoryModel], budget: Budget) -> MemoryModel {
    let made = run(plan, worlds, budget).expect("a run");
    let named = plan.files.iter().map(|f| if f.name.is_empty() { "model.safetensors" } else { &f.name });
    let first = named.zip(made.files).next().expect("the weights");
    MemoryModel::file(first.0, first.1).expect("a sound file")
}

fn values(world: &MemoryModel, name: &str) -> Vec<f32> {
    let dtype = world.checkpoint.tensors.iter().find(|t| t.name == name).expect("a tensor").dtype;
    let bytes = world.tensor(name);
    match dtype {
        DType::F32 => bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        DType::BF16 => {
            bytes.as_chunks::<2>().0.iter().map(|&b| half::bf16::from_le_bytes(b).to_f32()).collect()
        }
        other => panic!("{other}"),
    }
}

/// A module of the model that gets an adapter.
struct AdaptedModule {
    name: String,
    axes: [u64; 2],
    embedding: bool,
    /// Whether the weight lies inputs first.
    inputs_first: bool,
    biased: bool,
}

impl AdaptedModule {
    fn sides(&self) -> (u64, u64) {
        let [a, b] = self.axes;
        if self.inputs_first || self.embedding { (a, b) } else { (b, a) }
    }

    fn keys(&self) -> (String, String) {
        let key = |half: &str| match self.embedding {
            true => format!("base_model.model.{}.lora_embedding_{half}", self.name),
            false => format!("base_model.model.{}.lora_{half}.weight", self.name),
        };
        (key("A"), key("B"))
    }

    fn bias_key(&self) -> String {
        format!("base_model.model.{}.lora_B.bias", self.name)
    }

    fn tensors(&self, rng: &mut Rng) -> Vec<Tensor> {
        let ((inputs, outputs), (a, b)) = (self.sides(), self.keys());
        let mut all = vec![
            Tensor::random(&a, DType::F32, &[RANK, inputs], rng),
            Tensor::random(&b, DType::F32, &[outputs, RANK], rng),
        ];
        if self.biased {
            all.push(Tensor::random(&self.bias_key(), DType::F32, &[outputs], rng));
        }
        all
    }

    /// Adds `s B A` of an adapter to a weight.
    fn merge(&self, weight: &mut [f32], adapter: &MemoryModel) {
        let (inputs, outputs) = self.sides();
        let (a, b) = self.keys();
        let (a, b) = (values(adapter, &a), values(adapter, &b));
        let at = |row: u64, col: u64, width: u64| (row * width + col) as usize;
        for i in 0..inputs {
            for o in 0..outputs {
                let sum: f64 =
                    (0..RANK).map(|r| f64::from(b[at(o, r, RANK)]) * f64::from(a[at(r, i, inputs)])).sum();
                let transposed = self.inputs_first || self.embedding;
                let w = &mut weight[if transposed { at(i, o, outputs) } else { at(o, i, inputs) }];
                *w = (f64::from(*w) + SCALE * sum) as f32;
            }
        }
    }
}

fn of(world: &MemoryModel) -> RotationRules {
    rules(world.checkpoint.config.as_deref(), &world.checkpoint.tensors).expect("rules")
}

/// Every module that has a matrix, but a tied embedding: its adapter has two meanings.
fn modules(world: &MemoryModel, path: &Path) -> Vec<AdaptedModule> {
    let rules = of(world);
    let names: Vec<&str> = world.checkpoint.tensors.iter().map(|t| t.name.as_str()).collect();
    let tensors = world.checkpoint.tensors.iter().zip(&rules.parts);
    let module = |(t, part): (
        &quantoscope_core::tensor::TensorInfo,
        &quantoscope_core::model::family::RotationRoles,
    )| {
        let name = t.name.strip_suffix(".weight")?;
        let &[a, b] = t.shape.axes() else { return None };
        let token = ["embed_tokens", "wte", "embed_in", "lm_head", "word_embeddings"]
            .iter()
            .any(|e| name.ends_with(e));
        let embedding = matches!(part.stream, StreamRole::Embedding { .. });
        let conv1d = path.ends_with("gpt2") && name.contains(".c_");
        if part.stream == StreamRole::Mtp || (rules.tied && token) {
            return None;
        }
        let biased = names.contains(&format!("{name}.bias").as_str());
        Some(AdaptedModule { name: name.into(), axes: [a, b], embedding, inputs_first: conv1d, biased })
    };
    tensors.filter_map(module).collect()
}

/// The model with the adapter in it, as binary32.
fn merged(world: &MemoryModel, modules: &[AdaptedModule], adapter: &MemoryModel, path: &Path) -> MemoryModel {
    let mut all: Vec<Tensor> = Vec::new();
    for t in &world.checkpoint.tensors {
        let mut weight = values(world, &t.name);
        if let Some(module) =
            t.name.strip_suffix(".weight").and_then(|n| modules.iter().find(|m| m.name == n))
        {
            module.merge(&mut weight, adapter);
        }
        let biased = |m: &&AdaptedModule| m.biased && t.name.strip_suffix(".bias") == Some(&m.name);
        if let Some(module) = modules.iter().find(biased) {
            let bias = values(adapter, &module.bias_key());
            weight.iter_mut().zip(bias).for_each(|(w, b)| *w += SCALE as f32 * b);
        }
        all.push(Tensor::of(&t.name, DType::F32, t.shape.axes(), &weight));
    }
    let config = std::fs::read(path.join("config.json")).expect("a configuration");
    let files = [("model.safetensors".to_string(), safetensors(&all)), ("config.json".to_string(), config)];
    MemoryModel::directory(files.into()).expect("a sound model")
}

/// The largest difference of two models' tensors, in units of the largest value of each.
fn distance(a: &MemoryModel, b: &MemoryModel) -> f64 {
    assert_eq!(a.checkpoint.tensors.len(), b.checkpoint.tensors.len());
    let each = |t: &quantoscope_core::tensor::TensorInfo| {
        let (x, y) = (values(a, &t.name), values(b, &t.name));
        assert_eq!(x.len(), y.len(), "{}", t.name);
        let most = x.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
        let off = x.iter().zip(&y).fold(0.0_f32, |m, (x, y)| m.max((x - y).abs()));
        f64::from(off / most)
    };
    a.checkpoint.tensors.iter().map(each).fold(0.0, f64::max)
}

/// The rotated model with the adapter in it.
fn beside(rotated: &MemoryModel, modules: &[AdaptedModule], adapter: &MemoryModel) -> MemoryModel {
    let mut all: BTreeMap<String, (Vec<u64>, Vec<f32>)> = BTreeMap::new();
    for t in &rotated.checkpoint.tensors {
        all.insert(t.name.to_string(), (t.shape.axes().to_vec(), values(rotated, &t.name)));
    }
    for module in modules {
        let (_, weight) = all.get_mut(&format!("{}.weight", module.name)).expect("the module is there still");
        module.merge(weight, adapter);
        if module.biased {
            let bias = values(adapter, &module.bias_key());
            let (_, sum) = all.get_mut(&format!("{}.bias", module.name)).expect("so is its bias");
            sum.iter_mut().zip(bias).for_each(|(w, b)| *w += SCALE as f32 * b);
        }
    }
    let tensors: Vec<Tensor> =
        all.iter().map(|(name, (axes, values))| Tensor::of(name, DType::F32, axes, values)).collect();
    MemoryModel::safetensors(&tensors)
}

#[test]
fn merging_and_rotating_commute_for_every_family() {
    let (mut tried, mut turned) = (0, 0);
    for path in folders() {
        // All as binary32, so that nothing but the algebra is compared.
        let world = merged(&world(&path), &[], &open(&[]), &path);
        let rules = of(&world);
        let stream = !matches!(rules.stream, StreamVerdict::Refused { .. });
        let heads = matches!(rules.heads, HeadsVerdict::Exact(_));
        let modules = modules(&world, &path);
        let mut rng = Rng(0xADA);
        let tensors: Vec<Tensor> = modules.iter().flat_map(|m| m.tensors(&mut rng)).collect();
        let original = open(&tensors);
        let merged = merged(&world, &modules, &original, &path);
        let name = path.file_name().expect("a family").to_string_lossy().into_owned();
        for (text, holds) in
            [("quarot", stream), ("r2", heads), ("quarot,r2", stream && heads), ("fold", stream)]
        {
            let options = rotation_options(text);
            let made = plan(&world, &original, options, None);
            if !holds {
                assert_eq!(made.expect_err("not exact").code(), Code::UnsupportedRotation, "{name} {text}");
                continue;
            }
            let plan = made.unwrap_or_else(|e| panic!("{name} {text}: {e}"));
            let adapter = run_to_model(&plan, &[&original, &world], Budget::default());
            let rotated = |w: &MemoryModel| {
                run_to_model(&rotation(w, options).expect("exact"), &[w], Budget::default())
            };
            let (expected, base) = (rotated(&merged), rotated(&world));
            let off = distance(&expected, &beside(&base, &modules, &adapter));
            println!("{name} {text}: {} modules, off by {off:.1e}", modules.len());
            assert!(off < 3e-6, "{name} {text}: {off}");
            // The same beside the adapter as it was: another model.
            let unturned = distance(&expected, &beside(&base, &modules, &original));
            assert!(unturned > 1e-3, "{name} {text}: {unturned}");
            // And turned by another seed.
            if text != "fold" {
                let other = self::plan(
                    &world,
                    &original,
                    RotationOptions { seed: options.seed + 1, ..options },
                    None,
                );
                let other = run_to_model(&other.expect("a plan"), &[&original, &world], Budget::default());
                let wrong = distance(&expected, &beside(&base, &modules, &other));
                assert!(wrong > 1e-3, "{name} {text}: {wrong}");
            }
            tried += 1;
            turned += plan.conversion.and_then(|c| c.rotation).expect("a rotation").tensors;
        }
    }
    assert!(tried >= 50 && turned > 1000, "{tried} {turned}");
}

/// The result does not depend on windows, and tensors without a part in the rotation keep their bytes.
#[test]
fn windows_change_nothing_and_untouched_tensors_stay() {
    let path = folder("mixtral");
    let world = world(&path);
    let modules = modules(&world, &path);
    let tensors: Vec<Tensor> = modules.iter().flat_map(|m| m.tensors(&mut Rng(7))).collect();
    let original = open(&tensors);
    let plan = plan(&world, &original, rotation_options("quarot"), None).expect("a plan");
    let whole = run_to_model(&plan, &[&original, &world], Budget::default());
    let narrow = run_to_model(&plan, &[&original, &world], Budget { memory: 4096, workers: 1 });
    let mut kept = 0;
    for t in &original.checkpoint.tensors {
        assert_eq!(whole.tensor(&t.name), narrow.tensor(&t.name), "{}", t.name);
        // Of a reader B, of a writer A.
        let writer = ["o_proj", "w2", "embed_tokens"].iter().any(|w| t.name.contains(w));
        let stays = t.name.contains(if writer { "_A" } else { "_B" });
        assert_eq!(whole.tensor(&t.name) == original.tensor(&t.name), stays, "{}", t.name);
        kept += usize::from(stays);
    }
    assert_eq!(kept * 2, original.checkpoint.tensors.len());
}

/// Tensors that take the place of the model's get what the model's get.
#[test]
fn whole_tensors_are_turned_like_those_they_replace() {
    let path = folder("mixtral");
    let world = world(&path);
    let names = ["lm_head.weight", "model.embed_tokens.weight", "model.layers.1.self_attn.o_proj.weight"];
    let mut rng = Rng(9);
    let replaced: Vec<Tensor> = world
        .checkpoint
        .tensors
        .iter()
        .map(|t| match names.contains(&t.name.as_str()) {
            true => Tensor::random(&t.name, DType::F32, t.shape.axes(), &mut rng),
            false => Tensor::of(&t.name, DType::F32, t.shape.axes(), &values(&world, &t.name)),
        })
        .collect();
    let saved: Vec<Tensor> = replaced
        .iter()
        .filter(|t| names.contains(&t.name.as_str()))
        .map(|t| Tensor { name: format!("base_model.model.{}", t.name), ..t.clone() })
        .collect();
    let config = std::fs::read(path.join("config.json")).expect("a configuration");
    let files =
        [("model.safetensors".to_string(), safetensors(&replaced)), ("config.json".to_string(), config)];
    let other = MemoryModel::directory(files.into()).expect("a sound model");
    let options = rotation_options("quarot,r2");
    let expected = run_to_model(&rotation(&other, options).expect("exact"), &[&other], Budget::default());
    let adapter = open(&saved);
    let plan = plan(&world, &adapter, options, None).expect("a plan");
    let made = run_to_model(&plan, &[&adapter, &world], Budget::default());
    for name in names {
        assert_eq!(made.tensor(&format!("base_model.model.{name}")), expected.tensor(name), "{name}");
    }
}
