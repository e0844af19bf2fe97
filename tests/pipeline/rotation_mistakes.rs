//! Mistakes in rotations are refused: wrong arithmetic by Freivalds' check, wrong rules by the forward pass.

use crate::rotated::{folder, plan, probed, rotation_options, world as model};
use quantoscope_core::error::{Error, Result};
use quantoscope_core::job::{self, Workspace};
use quantoscope_core::kernels::{Kernels, Scalar};
use quantoscope_core::plan::{Axis, Op, Output, Plan, RotationOp};
use quantoscope_core::quant::{EncodeError, Encoding};
use quantoscope_core::rotation::{Form, Rotation};
use quantoscope_core::schedule::{Budget, schedule};
use quantoscope_core::{Code, DType};
use quantoscope_tests::memory::{MemoryModel, run};
use quantoscope_tests::models::{Tensor, safetensors};
use std::path::Path;

/// What a faulty engine does to a vector or a tile after rotating it.
type EngineMistake = fn(&mut [f32]);

/// An engine that rotates like the definition, and then makes a mistake.
struct Faulty(EngineMistake);

impl Faulty {
    /// Makes the mistake in binary64: values that it leaves alone keep all of their bits.
    fn spoil(&self, x: &mut [f64]) {
        let before: Vec<f32> = x.iter().map(|&v| v as f32).collect();
        let mut after = before.clone();
        (self.0)(&mut after);
        for ((x, before), after) in x.iter_mut().zip(before).zip(after) {
            if before.to_bits() != after.to_bits() {
                *x = after.into();
            }
        }
    }
}

impl Kernels for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn decode(&self, dtype: DType, src: &[u8], out: &mut [f32]) -> Result<(), EncodeError> {
        Scalar.decode(dtype, src, out)
    }

    fn encode(
        &self,
        e: Encoding,
        src: &[f32],
        importance: Option<&[f32]>,
        out: &mut [u8],
    ) -> Result<(), EncodeError> {
        Scalar.encode(e, src, importance, out)
    }

    fn rotate_rows(&self, rotation: &Rotation, x: &mut [f32], stride: usize, at: usize) {
        Scalar.rotate_rows(rotation, x, stride, at);
        (self.0)(x);
    }

    fn rotate_columns(&self, rotation: &Rotation, x: &mut [f32], width: usize) {
        Scalar.rotate_columns(rotation, x, width);
        (self.0)(x);
    }

    fn rotate_rows_f64(&self, rotation: &Rotation, x: &mut [f64], stride: usize, at: usize) {
        Scalar.rotate_rows_f64(rotation, x, stride, at);
        self.spoil(x);
    }

    fn rotate_columns_f64(&self, rotation: &Rotation, x: &mut [f64], width: usize) {
        Scalar.rotate_columns_f64(rotation, x, width);
        self.spoil(x);
    }

    fn transcode(&self, from: DType, to: DType, src: &[u8], out: &mut [u8]) -> Result<(), EncodeError> {
        Scalar.transcode(from, to, src, out)
    }
}

/// Runs the jobs of one output on an engine; the first error, if any.
fn one(plan: &Plan, model: &MemoryModel, index: usize, kernels: &dyn Kernels) -> Result<()> {
    let mut scratch = Workspace::default();
    for job in schedule(plan, &Budget::default())?.filter(|j| j.output as usize == index) {
        let inputs: Vec<Vec<u8>> = job.reads.iter().map(|r| model.gather(r.file, &r.region)).collect();
        let slices: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        job::run(kernels, &job, &slices, &mut scratch)?;
    }
    Ok(())
}

fn turned(output: &Output) -> bool {
    output.segments.iter().any(|p| p.from.ops.iter().any(|op| matches!(op, Op::Rotate(_))))
}

/// A fault in any rotated tensor of any family is seen while it is written.
#[test]
fn rotation_with_one_wrong_element_is_refused() {
    let faults: [(&str, EngineMistake); 3] = [
        ("one element", |x| {
            // A hundredth of what the values are usually like: less than four bits would show.
            let usual = (x.iter().map(|v| v * v).sum::<f32>() / x.len() as f32).sqrt();
            let at = x.len() * 5 / 7;
            x[at] += 0.01 * usual;
        }),
        ("NaN", |x| x[x.len() / 3] = f32::NAN),
        ("the mean taken away", |x| {
            let mean = x.iter().sum::<f32>() / x.len() as f32;
            x.iter_mut().for_each(|v| *v -= mean);
        }),
    ];
    let mut tried = 0;
    for name in ["llama_tied", "gpt_oss", "deepseek_v3", "starcoder2", "qwen3_5", "gpt2"] {
        let model = model(&folder(name));
        let options = rotation_options(if name == "qwen3_5" { "quarot" } else { "quarot,r2" });
        let plan = plan(&model, options).expect("a plan");
        for (index, output) in plan.outputs.iter().enumerate().filter(|(_, o)| turned(o)) {
            one(&plan, &model, index, &Scalar).expect("no fault, no refusal");
            for (fault, make) in faults {
                let error = one(&plan, &model, index, &Faulty(make)).expect_err(fault);
                assert_eq!(error.code(), Code::RotationOff, "{name} {} {fault}: {error}", output.name);
                tried += 1;
            }
        }
    }
    assert!(tried > 300, "{tried}");
}

/// Applies a change to the steps of every output that `which` picks.
fn change(plan: &mut Plan, which: impl Fn(&str) -> bool, mut to: impl FnMut(&mut Output)) {
    let mut changed = 0;
    for output in plan.outputs.iter_mut().filter(|o| which(&o.name)) {
        to(output);
        changed += 1;
    }
    assert!(changed > 0, "the mistake was made");
}

fn steps(output: &mut Output, mut to: impl FnMut(&mut Op)) {
    output.segments.iter_mut().flat_map(|p| &mut p.from.ops).for_each(&mut to);
}

fn without(output: &mut Output, drop: impl Fn(&Op) -> bool) {
    output.segments.iter_mut().for_each(|p| p.from.ops.retain(|op| !drop(op)));
}

fn refused(model: &MemoryModel, plan: &Plan, what: &str) -> Error {
    let error = probed(model, plan).expect_err(what);
    assert_eq!(error.code(), Code::RotationOff, "{what}: {error}");
    error
}

/// A plan with a mistake is sound algebra, and another model.
#[test]
fn rotation_with_a_wrong_rule_is_refused_by_the_forward_check() {
    let mistaken = |name: &str, rotations: &str, what: &str, make: &dyn Fn(&mut Plan)| {
        let model = model(&folder(name));
        let mut plan = plan(&model, rotation_options(rotations)).expect("a plan");
        probed(&model, &plan).expect("without the mistake");
        make(&mut plan);
        refused(&model, &plan, what);
    };
    mistaken("llama_tied", "quarot", "the head left tied to the rotated embedding", &|plan| {
        let ops = |name| {
            let found = plan.outputs.iter().find(|o| o.name == name).expect("a tensor");
            found.segments.clone()
        };
        let embedding = ops("model.embed_tokens.weight");
        change(plan, |n| n == "lm_head.weight", |o| o.segments.clone_from(&embedding));
    });
    mistaken("gemma", "quarot", "gains of 1+w read as w", &|plan| {
        change(
            plan,
            |_| true,
            |o| o.segments.iter_mut().flat_map(|p| &mut p.gain).for_each(|g| g.ops.clear()),
        );
    });
    mistaken("starcoder2", "quarot", "any rotation on norms that subtract the mean", &|plan| {
        change(
            plan,
            |_| true,
            |o| {
                steps(o, |op| {
                    if let Op::Rotate(RotationOp { form, .. }) = op {
                        *form = Form::Full;
                    }
                });
            },
        );
    });
    for name in ["q_proj", "up_proj", "lm_head"] {
        mistaken("llama", "quarot", "one reader missed", &|plan| {
            change(plan, |n| n.contains(name), |o| without(o, |_| true));
        });
    }
    mistaken("llama", "quarot", "gains not folded", &|plan| {
        change(plan, |_| true, |o| without(o, |op| matches!(op, Op::Gain(_) | Op::Set(_))));
        // The norms stay as they are and nothing takes their gains: what published code often does.
    });
    mistaken("llama", "quarot", "norms not made neutral", &|plan| {
        change(plan, |n| n.ends_with("norm.weight"), |o| without(o, |op| matches!(op, Op::Set(_))));
    });
    mistaken("qwen2", "r2", "the values' bias left", &|plan| {
        change(plan, |n| n.ends_with("v_proj.bias"), |o| without(o, |_| true));
    });
    mistaken("mixtral", "quarot", "the router left", &|plan| {
        change(plan, |n| n.ends_with("gate.weight"), |o| without(o, |_| true));
    });
    mistaken("gpt_oss", "quarot", "the biases of writers left", &|plan| {
        change(
            plan,
            |n| n.ends_with("o_proj.bias") || n.ends_with("down_proj_bias"),
            |o| without(o, |_| true),
        );
    });
    mistaken("llama", "quarot", "another seed for one tensor", &|plan| {
        change(
            plan,
            |n| n == "model.layers.1.mlp.down_proj.weight",
            |o| {
                steps(o, |op| {
                    if let Op::Rotate(RotationOp { seed, .. }) = op {
                        *seed ^= 1;
                    }
                });
            },
        );
    });
}

/// On a square matrix both sides are possible, and one is wrong.
#[test]
fn rotation_of_the_wrong_axis_is_refused() {
    let model = model(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../www/sample"));
    let mut plan = plan(&model, rotation_options("quarot")).expect("a plan");
    probed(&model, &plan).expect("without the mistake");
    change(
        &mut plan,
        |n| n == "model.layers.2.self_attn.o_proj.weight",
        |o| {
            assert_eq!(o.shape.axes(), [256, 256]);
            steps(o, |op| {
                if let Op::Rotate(turn) = op {
                    assert_eq!(turn.axis, Axis::Out);
                    turn.axis = Axis::In;
                }
            });
        },
    );
    refused(&model, &plan, "the wrong side");
}

#[test]
fn rotation_of_non_finite_source_names_the_element() {
    let folder = folder("llama");
    let plain = model(&folder);
    let name = "model.layers.0.mlp.down_proj.weight";
    let tensors = plain.checkpoint.tensors.iter().map(|t| {
        let mut bytes = plain.tensor(&t.name).to_vec();
        if t.name == name {
            bytes[2 * 77..2 * 78].copy_from_slice(&0x7FC0_u16.to_le_bytes());
        }
        Tensor::raw(&t.name, t.dtype, t.shape.axes(), bytes)
    });
    let weights = safetensors(&tensors.collect::<Vec<_>>());
    let config = std::fs::read(folder.join("config.json")).expect("a configuration");
    let files = [("model.safetensors".to_string(), weights), ("config.json".to_string(), config)];
    let model = MemoryModel::directory(files.into()).expect("a sound file");
    let plan = plan(&model, rotation_options("quarot")).expect("a plan");
    let error = run(&plan, &[&model], Budget::default()).expect_err("NaN");
    assert_eq!((error.code(), error.detail().element), (Code::NonFinite, Some(77)));
}
