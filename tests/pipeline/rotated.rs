//! Rotated models compute what their sources do, and mistakes are seen.

use quantoscope_core::error::Result;
use quantoscope_core::format::Container;
use quantoscope_core::job::{self, Workspace};
use quantoscope_core::kernels::Scalar;
use quantoscope_core::model::config::Config;
use quantoscope_core::model::family::{HeadsVerdict, StreamVerdict, rules};
use quantoscope_core::model_equivalence::{Equivalence, ModelPass, TOLERANCE, compare_logits, tokens};
use quantoscope_core::plan::{Plan, convert};
use quantoscope_core::recipe::Recipe;
use quantoscope_core::recipe::rotation::{RotationOptions, SEED};
use quantoscope_core::schedule::{Budget, schedule};
use quantoscope_core::{Code, DType};
use quantoscope_tests::memory::{MemoryModel, read};
use std::path::{Path, PathBuf};

/// The folder of a family.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/families").join(name)
}

/// The families whose weights are kept.
pub(crate) fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/families");
    let mut all: Vec<PathBuf> =
        std::fs::read_dir(root).expect("the fixtures").map(|e| e.expect("an entry").path()).collect();
    all.retain(|p| p.join("model.safetensors").exists());
    all.sort();
    all
}

pub(crate) fn world(folder: &Path) -> MemoryModel {
    let file =
        |name: &str| (name.to_string(), std::fs::read(folder.join(name)).expect("a file of the model"));
    MemoryModel::directory([file("model.safetensors"), file("config.json")].into()).expect("a sound model")
}

pub(crate) fn rotation_options(text: &str) -> RotationOptions {
    RotationOptions::parse(text, SEED).expect("rotation options")
}

/// Everything as binary32, rotated.
pub(crate) fn plan(world: &MemoryModel, rotate: RotationOptions) -> Result<Plan> {
    let recipe = Recipe { rotate: Some(rotate), ..Recipe::new(Container::Safetensors, Some(DType::F32)) };
    convert::plan(&world.checkpoint, &recipe, None, false)
}

/// Runs a pass to its end.
fn finish(pass: &mut ModelPass, world: &MemoryModel, budget: Budget) -> Result<()> {
    while let Some(request) = pass.request()? {
        let mut scratch = Workspace::default();
        for job in schedule(&request.plan, &budget)? {
            let inputs: Vec<Vec<u8>> =
                job.reads.iter().map(|r| read(&request.plan, &job, &[world], r)).collect();
            let slices: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
            job::run(&Scalar, &job, &slices, &mut scratch)?;
            pass.feed(&request, &job.window, &scratch.out)?;
        }
    }
    Ok(())
}

pub(crate) fn probed(world: &MemoryModel, plan: &Plan) -> Result<Equivalence> {
    let config = Config::parse(world.checkpoint.config.as_deref().expect("a configuration"))?;
    let tokens = tokens(SEED, 4, config.vocab);
    let (mut source, mut planned) = (
        ModelPass::source(&world.checkpoint, &tokens)?,
        ModelPass::planned(&world.checkpoint, plan, &tokens)?,
    );
    finish(&mut source, world, Budget::default())?;
    finish(&mut planned, world, Budget::default())?;
    compare_logits(&source, &planned, 4, TOLERANCE)
}

#[test]
fn every_family_computes_the_same_after_what_is_exact_for_it() {
    let mut probes = 0;
    for folder in folders() {
        let world = world(&folder);
        let rules = rules(world.checkpoint.config.as_deref(), &world.checkpoint.tensors).expect("rules");
        let exact = (
            !matches!(rules.stream, StreamVerdict::Refused { .. }),
            matches!(rules.heads, HeadsVerdict::Exact(_)),
        );
        for (text, holds) in [("quarot", exact.0), ("r2", exact.1), ("quarot,r2", exact.0 && exact.1)] {
            let plan = match plan(&world, rotation_options(text)) {
                Ok(plan) => plan,
                Err(e) => {
                    assert!(!holds, "{} {text}: {e}", folder.display());
                    assert_eq!(e.code(), Code::UnsupportedRotation);
                    continue;
                }
            };
            assert!(holds, "{} {text} is not exact", folder.display());
            match probed(&world, &plan) {
                Ok(found) => {
                    println!("{} {text}: {:.1e} of {:.2}", folder.display(), found.max, found.largest_logit);
                    assert!(found.max < 6e-6 * found.largest_logit, "{} {text}: {found:?}", folder.display());
                    probes += 1;
                }
                Err(e) => assert_eq!(e.code(), Code::UnsupportedForward, "{} {text}: {e}", folder.display()),
            }
        }
    }
    assert!(probes >= 40, "{probes}");
}
