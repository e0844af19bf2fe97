//! `verify`: an artefact's structure and values, and its bytes against its source.

use super::{measure, plural};
use crate::args::VerifyArgs;
use crate::drive::Resources;
use crate::io::source::Source;
use crate::render::{self, clean};
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::plan::{measure as plan_measure, pair, replay};
use quantoscope_core::report::{VerifyReport, VerifyRow, checked, verified};
use std::process::ExitCode;

pub fn run(args: &VerifyArgs) -> Result<ExitCode> {
    let artefact = Source::open(&args.artefact)?;
    let resources = Resources::new(&args.work)?;
    let name = args.artefact.to_string_lossy();
    let report = match &args.against {
        None if args.weights.path.is_some() => {
            return Err(Error::new(
                Code::Usage,
                "--imatrix belongs to --against: without it nothing is encoded",
            ));
        }
        None => {
            let plan = plan_measure::moments(&artefact.checkpoint, &|_| true)?;
            let collected = measure(&plan, &[&artefact], resources, "Verifying", args.json)?;
            checked(&name, &plan, &collected)
        }
        Some(path) => {
            let source = Source::open(path)?.weighted(args.weights.path.as_deref())?;
            let made_with = artefact.checkpoint.metadata.text("quantize.imatrix.file");
            if let (Some(file), None) = (made_with, source.imatrix()) {
                render::note(&format!("warning: the artefact was made with --imatrix {}", clean(file)));
            }
            let pairing = match replay::recorded(&artefact.checkpoint) {
                // Of a rotated artefact every tensor is made anew, by its own recipe.
                Some(recipe) => replay::verify(&source.checkpoint, &artefact.checkpoint, &recipe)?,
                None => pair::verify(&source.checkpoint, &artefact.checkpoint, source.imatrix()),
            };
            let collected = measure(&pairing.plan, &[&source, &artefact], resources, "Verifying", args.json)?;
            verified((&name, &path.to_string_lossy()), &pairing.plan, pairing.findings, &collected)
        }
    };
    if args.json {
        render::json(&report)?;
    } else {
        render::warn(&report.warnings);
        render::print(&as_text(&report))?;
    }
    if report.verified {
        return Ok(ExitCode::SUCCESS);
    }
    let findings = plural(report.findings.len(), "finding");
    let message = match report.source {
        Some(_) => format!("{} not identical, {findings}", plural(differing(&report).count(), "tensor")),
        None => findings,
    };
    Err(Error::new(Code::Difference, message))
}

/// Tensors that are not what the source makes. Without a source, bad values are findings and there are none.
fn differing(report: &VerifyReport) -> impl Iterator<Item = &VerifyRow> {
    let against = report.source.is_some();
    report.tensors.iter().filter(move |t| against && !t.identical)
}

fn as_text(report: &VerifyReport) -> String {
    let mut text = String::new();
    for t in differing(report) {
        let blocks =
            t.differing.map_or("no encoding takes the source's values".into(), |n| format!("{n} blocks"));
        let at = t.first_element.map(|e| format!(", the first at element {e}")).unwrap_or_default();
        text.push_str(&clean(&format!("differs  {} ({}): {blocks}{at}", t.tensor, t.dtype)));
        text.push('\n');
    }
    for f in &report.findings {
        let tensor = f.tensor.as_deref().unwrap_or("");
        text.push_str(&clean(&format!("finding  {} {tensor}: {}", f.kind, f.detail)));
        text.push('\n');
    }
    let (good, all) = (report.tensors.iter().filter(|t| t.identical).count(), report.tensors.len());
    text.push_str(&match &report.source {
        Some(source) => format!("{good} of {all} tensors are exactly what {} makes\n", clean(source)),
        None => format!("structure sound; {all} tensors decoded, {good} of them with finite values only\n"),
    });
    text
}
