//! `verify`: an artefact's structure and values, and its bytes against its source.

use super::measure;
use crate::args::Verify;
use crate::drive::Resources;
use crate::io::source::Source;
use crate::render::{self, clean};
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::plan::{measure as plan_measure, pair};
use quantoscope_core::report::{VerifyReport, checked, verified};
use std::process::ExitCode;

pub fn run(args: &Verify) -> Result<ExitCode> {
    let artefact = Source::open(&args.artefact)?;
    let resources = Resources::new(&args.work)?;
    let name = args.artefact.to_string_lossy();
    let report = match &args.against {
        None => {
            let plan = plan_measure::stats(&artefact.checkpoint, &|_| true)?;
            let collected = measure(&plan, &[&artefact], resources, "Verifying", args.json)?;
            checked(&name, &plan, &collected)
        }
        Some(path) => {
            let source = Source::open(path)?;
            let pairing = pair::verify(&source.checkpoint, &artefact.checkpoint);
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
    let differing = report.tensors.iter().filter(|t| !t.identical).count();
    let message = format!("{differing} tensors differ, {} findings", report.findings.len());
    Err(Error::new(Code::Difference, message))
}

fn as_text(report: &VerifyReport) -> String {
    let mut text = String::new();
    for t in report.tensors.iter().filter(|t| !t.identical) {
        let at = t.first_element.map(|e| format!(", the first at element {e}")).unwrap_or_default();
        text.push_str(&clean(&format!("differs  {} ({}): {} blocks{at}", t.tensor, t.dtype, t.differing)));
        text.push('\n');
    }
    for f in &report.findings {
        let tensor = f.tensor.as_deref().unwrap_or("");
        text.push_str(&clean(&format!("finding  {} {tensor}: {}", f.kind, f.detail)));
        text.push('\n');
    }
    let good = report.tensors.iter().filter(|t| t.identical).count();
    let against = report.source.as_ref();
    text.push_str(&match against {
        Some(source) => {
            format!("{good} of {} tensors are exactly what {} makes\n", report.tensors.len(), clean(source))
        }
        None => format!(
            "structure sound; {good} of {} tensors decoded, every value finite\n",
            report.tensors.len()
        ),
    });
    text
}
