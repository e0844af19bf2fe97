//! Memory and reads of a rotation, its model check included, counted in buffers and regions.

use crate::rotated::rotation_options;
use quantoscope_core::format::Container;
use quantoscope_core::job::{self, Job, LONG_RUN, Piece, Region, Workspace};
use quantoscope_core::kernels::Scalar;
use quantoscope_core::model::config::Config;
use quantoscope_core::model_equivalence::{ModelPass, tokens};
use quantoscope_core::plan::{Plan, convert};
use quantoscope_core::recipe::Recipe;
use quantoscope_core::recipe::rotation::SEED;
use quantoscope_core::schedule::{Budget, schedule};
use quantoscope_core::{Code, DType};
use quantoscope_tests::memory::{MemoryModel, read, run_shuffled};
use quantoscope_tests::models::{Rng, Tensor, safetensors};

const HIDDEN: u64 = 512;
const WIDE: u64 = 6144;

/// A Llama of one layer whose matrices take up to 12.6 MB as binary32.
fn model(dtype: DType) -> MemoryModel {
    let rng = &mut Rng(12);
    let mut tensor = |name: &str, shape: &[u64]| Tensor::random(name, dtype, shape, rng);
    let layer = |name: &str| format!("model.layers.0.{name}.weight");
    let tensors = [
        tensor("model.embed_tokens.weight", &[96, HIDDEN]),
        tensor("lm_head.weight", &[96, HIDDEN]),
        tensor("model.norm.weight", &[HIDDEN]),
        tensor(&layer("input_layernorm"), &[HIDDEN]),
        tensor(&layer("post_attention_layernorm"), &[HIDDEN]),
        tensor(&layer("mlp.up_proj"), &[WIDE, HIDDEN]),
        tensor(&layer("mlp.gate_proj"), &[WIDE, HIDDEN]),
        tensor(&layer("mlp.down_proj"), &[HIDDEN, WIDE]),
        tensor(&layer("self_attn.q_proj"), &[HIDDEN, HIDDEN]),
        tensor(&layer("self_attn.k_proj"), &[HIDDEN / 2, HIDDEN]),
        tensor(&layer("self_attn.v_proj"), &[HIDDEN / 2, HIDDEN]),
        tensor(&layer("self_attn.o_proj"), &[HIDDEN, HIDDEN]),
    ];
    let config = format!(
        r#"{{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":{HIDDEN},
        "intermediate_size":{WIDE},"num_hidden_layers":1,"num_attention_heads":8,"num_key_value_heads":4,
        "vocab_size":96,"rms_norm_eps":1e-6,"rope_theta":10000.0,"tie_word_embeddings":false,
        "hidden_act":"silu"}}"#
    );
    let files = [
        ("model.safetensors".to_string(), safetensors(&tensors)),
        ("config.json".to_string(), config.into()),
    ];
    MemoryModel::directory(files.into()).expect("a sound model")
}

fn plan(model: &MemoryModel, to: DType, rotation: &str) -> Plan {
    let container = if to == DType::Q8_0 { Container::Gguf } else { Container::Safetensors };
    let recipe = Recipe { rotate: Some(rotation_options(rotation)), ..Recipe::new(container, Some(to)) };
    convert::plan(&model.checkpoint, &recipe, None, true).expect("a plan")
}

/// Runs a job, and returns the bytes that were held for it.
fn held(plan: &Plan, job: &Job, model: &MemoryModel, scratch: &mut Workspace) -> u64 {
    let inputs: Vec<Vec<u8>> = job.reads.iter().map(|r| read(plan, job, &[model], r)).collect();
    let slices: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    job::run(&Scalar, job, &slices, scratch).expect("a window");
    inputs.iter().map(|i| i.len() as u64).sum::<u64>() + scratch.bytes_held()
}

/// The logits of a pass, and the most bytes that a window held.
fn logits(mut pass: ModelPass, model: &MemoryModel, memory: u64) -> (Vec<u64>, u64) {
    let mut most = 0;
    while let Some(request) = pass.request().expect("a request") {
        for job in schedule(&request.plan, &Budget { memory, workers: 1 }).expect("windows") {
            let scratch = &mut Workspace::default();
            most = most.max(held(&request.plan, &job, model, scratch));
            pass.feed(&request, &job.window, &scratch.out).expect("the next window");
        }
    }
    (pass.logits().iter().map(|l| l.to_bits()).collect(), most)
}

/// Both passes of the model check stay within a budget that is a small part of a matrix as binary32, and their logits are those
/// of a pass with all the memory it wants.
#[test]
fn model_check_within_a_small_budget_gives_equal_logits() {
    const SMALL: u64 = 5 << 20;
    for (dtype, rotation) in [(DType::BF16, "quarot,r2"), (DType::F32, "quarot"), (DType::F16, "quarot")] {
        let model = model(dtype);
        let plan = plan(&model, DType::F32, rotation);
        let config = Config::parse(model.checkpoint.config.as_deref().unwrap()).unwrap();
        let tokens = tokens(SEED, 4, config.vocab);
        let source = || ModelPass::source(&model.checkpoint, &tokens).expect("a pass");
        let planned = || ModelPass::planned(&model.checkpoint, &plan, &tokens).expect("a pass");
        for (name, large, small) in [("source", source(), source()), ("planned", planned(), planned())] {
            let (expected, _) = logits(large, &model, 1 << 30);
            let (found, most) = logits(small, &model, SMALL);
            assert!(most <= SMALL, "{name} of {dtype} held {most} bytes");
            assert!(found == expected, "{name} of {dtype} has other logits");
            assert_eq!(found.len(), 4 * 96);
        }
    }
}

/// Windows of columns hold what the budget allows, bytes are equal, and short runs are read together.
#[test]
fn rotated_columns_are_read_in_long_pieces() {
    for (from, to, rotation) in [
        (DType::BF16, DType::BF16, "quarot"),
        (DType::F32, DType::F32, "quarot"),
        (DType::BF16, DType::Q8_0, "quarot,r2"),
    ] {
        let model = model(from);
        let plan = plan(&model, to, rotation);
        // A narrower window of binary32 than the budgets left out have would be read run by run.
        let first = run_shuffled(&plan, &[&model], Budget { memory: 1 << 30, workers: 1 }, None).unwrap();
        for memory in [5 << 20, 8 << 20, 24 << 20, 64 << 20].into_iter().skip(usize::from(from == DType::F32))
        {
            let budget = Budget { memory, workers: 1 };
            let (mut reads, mut bytes) = (0, 0);
            for job in schedule(&plan, &budget).expect("windows") {
                let most = held(&plan, &job, &model, &mut Workspace::default());
                assert!(most <= memory, "{most} of {memory} bytes: {:?}", job.window);
                let Some(read) = job.reads.first() else { continue };
                for piece in read.region.pieces() {
                    let last =
                        piece.offset + piece.len == read.region.runs().last().map_or(0, |(at, n)| at + n);
                    assert!(piece.len >= LONG_RUN || last, "{piece:?} of {:?}", read.region);
                    (reads, bytes) = (reads + 1, bytes + piece.len);
                }
            }
            let stored: u64 = model.checkpoint.tensors.iter().map(|t| t.bytes.len()).sum();
            assert!(reads < 64 + bytes / LONG_RUN, "{reads} reads of {bytes} bytes");
            assert!(bytes <= 8 * stored, "{bytes} bytes read of {stored} with {memory}");
            let again = run_shuffled(&plan, &[&model], budget, Some(memory)).expect("a run");
            assert!(again.files == first.files, "{from} to {to} with {memory}");
        }
    }
}

/// Pieces are the runs of a region, each once, in order, and lie inside it.
#[test]
fn pieces_of_a_region_are_its_runs() {
    let rng = &mut Rng(3);
    let mut joined = 0;
    for _ in 0..2000 {
        let bits = rng.below(18);
        let run = 1 + rng.below(1 << bits);
        let stride = run + rng.below(run * 40);
        let region = Region { offset: rng.below(1 << 40), run, stride, count: rng.below(300) };
        let pieces: Vec<Piece> = region.pieces().collect();
        let runs: Vec<(u64, u64)> = region.runs().collect();
        let mut left = runs.as_slice();
        for piece in &pieces {
            let (part, rest) = left.split_at(piece.runs as usize);
            let (&(first, _), &(last, len)) = (part.first().unwrap(), part.last().unwrap());
            assert_eq!((piece.offset, piece.len), (first, last + len - first));
            let gaps = piece.len - piece.runs * run;
            assert!(piece.runs == 1 || (gaps < 16 * piece.runs * run && piece.len <= 256 << 10));
            joined += u64::from(piece.runs > 1);
            left = rest;
        }
        assert!(left.is_empty());
    }
    assert!(joined > 1000, "{joined} pieces of several runs");
}

/// A budget that no window of whole columns fits is refused by the model check as by the run.
#[test]
fn model_check_without_memory_is_refused() {
    let model = model(DType::BF16);
    let plan = plan(&model, DType::BF16, "quarot");
    let mut pass = ModelPass::planned(&model.checkpoint, &plan, &[1]).expect("a pass");
    let refused = loop {
        let request = pass.request().expect("a request").expect("a tensor that does not fit");
        let budget = Budget { memory: 1 << 20, workers: 1 };
        let jobs = match schedule(&request.plan, &budget) {
            Ok(jobs) => jobs,
            Err(e) => break e,
        };
        for job in jobs {
            let scratch = &mut Workspace::default();
            held(&request.plan, &job, &model, scratch);
            pass.feed(&request, &job.window, &scratch.out).expect("the next window");
        }
    };
    assert_eq!(refused.code(), Code::MemoryBudget, "{refused}");
    assert!(refused.detail().tensor.as_deref().is_some_and(|t| t.contains("o_proj")), "{refused}");
}
