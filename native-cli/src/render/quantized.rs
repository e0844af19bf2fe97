//! The report of a conversion: a row per tensor and the totals below.

use super::order::in_order;
use super::table::{self, Align, Styled, Tone, plain};
use super::{WithRows, clean, count, fixed, percent, sci, shape, short_size, size};
use quantoscope_core::DType;
use quantoscope_core::plan::rotate::AppliedRotation;
use quantoscope_core::plan::{ImportanceSource, LeftOut};
use quantoscope_core::recipe::MlxMixed;
use quantoscope_core::report::{
    ConvertReport, ConvertedTensor, DeviceView, EquivalenceView, RotationChoiceView, RoundingView, RunInfo,
    SplitFileView, TargetView,
};
use quantoscope_core::rotation::Form;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

/// Writes the report as text; without `run` it is that of a plan.
pub(super) fn write_text(
    to: &mut dyn Write,
    report: &ConvertReport<'_>,
    run: Option<&RunInfo>,
    out: Option<&Path>,
) -> io::Result<()> {
    let measured = report.tensors.iter().any(|t| t.error.is_some());
    let right = |name| (name, Align::Right);
    let mut columns =
        vec![("tensor", Align::Left), ("shape", Align::Left), ("type", Align::Left), right("bytes")];
    if measured {
        columns.extend([right("rmse"), right("rel. error"), right("cosine")]);
    } else {
        columns.push(("why", Align::Left));
    }
    let order = in_order(report.tensors.names(), |(_, name)| name.as_str());
    let rows = order.iter().filter_map(|(index, _)| report.tensors.get(*index));
    table::write(to, &columns, rows.map(|t| row(&t, measured)))?;
    writeln!(to, "\n{}", sums(report, run, out).trim_end())
}

/// The report as JSON. Rows are serialized one by one, all keys are sorted.
#[derive(Serialize)]
pub(super) struct Document<R: Serialize> {
    dry_run: bool,
    result: R,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<Value>,
}

impl Document<()> {
    pub(super) fn new<'a>(
        report: &'a ConvertReport<'a>,
        run: Option<&RunInfo>,
        dry_run: bool,
    ) -> Document<impl Serialize + use<'a>> {
        // Plain structs serialize without errors.
        let head = serde_json::to_value(report.without_rows()).unwrap_or_default();
        let run = run.map(|run| serde_json::to_value(run).unwrap_or_default());
        Document { dry_run, result: WithRows { head, key: "tensors", rows: report.tensors.iter() }, run }
    }
}

fn row(t: &ConvertedTensor, measured: bool) -> Vec<Styled> {
    let kept = t.dtype_in == t.dtype_out;
    let dtype = if kept { t.dtype_in.to_string() } else { format!("{} → {}", t.dtype_in, t.dtype_out) };
    let tone = if t.action == "keep" { Tone::Dim } else { Tone::Plain };
    let mut cells = vec![
        plain(&*t.name),
        plain(shape(t.shape.axes())),
        (dtype, tone),
        plain(format!("{} → {}", short_size(t.bytes_in), short_size(t.bytes_out))),
    ];
    if !measured {
        cells.push((t.reason.text.to_string(), Tone::Dim));
    } else if let Some(e) = &t.error {
        cells.extend([plain(sci(e.rmse)), plain(percent(e.relative_error)), plain(fixed(e.cosine, 6))]);
    } else {
        let word = match t.action {
            "transcode" => "lossless",
            "rotate" => "rotated",
            _ => "kept",
        };
        cells.extend([(word.into(), Tone::Dim), plain(""), plain("")]);
    }
    cells
}

/// Tensors that are not written: how many, the first of them, and why.
fn left_out(all: &[LeftOut]) -> Option<String> {
    let shown: Vec<String> =
        all.iter().take(5).map(|t| format!("{} ({})", clean(&t.name), t.reason.text)).collect();
    let more = if all.len() > shown.len() { ", ..." } else { "" };
    (!all.is_empty()).then(|| format!("{}: {}{more}", count(all.len() as u64), shown.join(", ")))
}

/// Files of a split that are named.
const SHOWN_FILES: usize = 4;

/// The files of a split output: how many, and the first of them.
fn files(all: &[SplitFileView]) -> String {
    let one = |f: &SplitFileView| {
        format!("{} ({}, {})", clean(&f.name), size(f.bytes), super::plural(f.tensors as usize, "tensor"))
    };
    let shown: Vec<String> = all.iter().take(SHOWN_FILES).map(one).collect();
    let more = if all.len() > SHOWN_FILES { ", ..." } else { "" };
    format!("{}: {}{more}", count(all.len() as u64), shown.join(", "))
}

/// The importance matrix: file, use, chunks, dataset and digest.
fn importance(i: &ImportanceSource) -> String {
    let mut text = format!("{} for {} tensors", clean(&i.file), i.used);
    if let Some(chunks) = i.chunks {
        text.push_str(&format!(", {chunks} chunks"));
    }
    if let Some(first) = i.datasets.first() {
        text.push_str(&format!(" of {}", clean(first)));
    }
    text.push_str(&format!(" (sha256 {})", i.sha256.get(..16).unwrap_or_default()));
    text
}

/// The rotation: its form, family, counts and seed.
fn rotation(r: &AppliedRotation) -> String {
    let stream = r.stream.map(|form| match form {
        Form::Full => "residual stream".into(),
        Form::Block(n) => format!("residual stream in blocks of {n}"),
        Form::FixesOnes => "residual stream, the mean kept".into(),
    });
    let heads = r.heads.map(|n| format!("heads of {n}"));
    let what: Vec<String> = stream.into_iter().chain(heads).collect();
    let mut text = format!(
        "{} ({}): {} tensors, {} norms folded, seed {}",
        if what.is_empty() { "norm gains folded only".into() } else { what.join(" and ") },
        r.family,
        r.tensors,
        r.folded_norms,
        r.seed
    );
    if let Some(head) = &r.made_head {
        text.push_str(&format!(", {} copied from the tied embedding", clean(head)));
    }
    if let Some(first) = r.left_out.first() {
        text.push_str(&format!(", {} not written (MTP: {}, ...)", r.left_out.len(), clean(first)));
    }
    text
}

fn gate(g: &EquivalenceView) -> String {
    let algebra = format!("{} elements verified with Freivalds' check", g.algebra_elements);
    match (&g.probe, &g.unprobed) {
        (Some(p), _) => format!(
            "{algebra}; logits of {} tokens, before weights are rounded to their types, differ by at most {} ({} allowed)",
            p.tokens,
            sci(Some(p.max)),
            sci(Some(p.limit))
        ),
        (None, Some(why)) => format!("{algebra}; logits not compared: {}", clean(why)),
        (None, None) => algebra,
    }
}

/// The rounding of rotated weights to a type that is written.
fn rounding(r: &RoundingView) -> String {
    let what = format!("{} rotated tensors are written as {}", r.tensors, r.dtype);
    match r.relative_bound {
        Some(bound) => {
            format!("{what}: each value is rounded once more, by at most {} of itself", sci(Some(bound)))
        }
        None => format!("{what}: the error of each block depends on its values"),
    }
}

/// Tokens of a measurement, and where they are from.
pub(super) fn tokens_of(count: u64, from: &str) -> String {
    let tokens = if count == 1 { "token" } else { "tokens" };
    match from {
        "seeded" => format!("{count} seeded {tokens}"),
        "ids" => format!("{count} {tokens} of the ids given"),
        _ => format!("{count} {tokens} of the text"),
    }
}

/// What types were chosen for, and their predicted damage.
fn target(t: &TargetView) -> String {
    let limit = match (t.target_bytes, t.target_bits_per_weight) {
        (Some(bytes), _) => format!("{} of at most {} bytes", count(t.bytes), count(bytes)),
        (None, Some(bits)) => format!("at most {bits} bits per weight"),
        (None, None) => String::new(),
    };
    let tokens = t.tokens.zip(t.tokens_from.as_deref());
    let tokens = tokens.map_or_else(String::new, |(n, from)| format!(" on {}", tokens_of(n, from)));
    let groups = if t.grouped { ", in groups of kind and depth" } else { "" };
    let by = match t.chosen_by {
        "measured" => format!("types chosen by the output of the model{tokens}{groups}"),
        "sensitivity_file" => format!("types chosen by a sensitivity file{tokens}{groups}"),
        _ => "types chosen by weight errors alone, a guess".into(),
    };
    let mut text = format!("{limit}; {by}");
    if let Some(kl) = t.predicted_kl {
        text.push_str(&format!("; KL divergence predicted {kl:.6} nats a token (the sum over tensors)"));
    }
    if let Some(kl) = t.measured_kl {
        let tokens = t.checked_tokens.zip(t.checked_tokens_from.as_deref());
        let tokens = tokens.map_or_else(String::new, |(n, from)| format!(" on {}", tokens_of(n, from)));
        text.push_str(&format!("; measured {kl:.6}{tokens}"));
    }
    text
}

/// What decided the rotation.
fn rotation_choice(c: &RotationChoiceView) -> String {
    let verdict = if c.rotated { "rotated" } else { "not rotated" };
    format!(
        "{verdict}: the KL divergence of the output is {:.6} nats a token rotated and {:.6} not, on {}",
        c.kl_rotated,
        c.kl_plain,
        tokens_of(c.tokens, &c.tokens_from)
    )
}

/// The number of tensors per type, in descending order of their bytes.
fn types(report: &ConvertReport<'_>) -> String {
    let mut all: BTreeMap<DType, (u64, u64)> = BTreeMap::new();
    for t in report.tensors.iter() {
        let (bytes, n) = all.entry(t.dtype_out).or_default();
        *bytes = bytes.saturating_add(t.bytes_out);
        *n += 1;
    }
    let mut all: Vec<_> = all.into_iter().map(|(dtype, (bytes, n))| (bytes, dtype, n)).collect();
    all.sort_by_key(|&(bytes, dtype, _)| (std::cmp::Reverse(bytes), dtype));
    let each: Vec<String> = all.iter().map(|(_, dtype, n)| format!("{n} {dtype}")).collect();
    each.join(", ")
}

/// A device's share of the work, and its spot checks.
fn device(d: &DeviceView) -> String {
    let name = clean(&d.name);
    if d.made.differing > 0 {
        return format!("{name} returned wrong bytes; the processor did everything");
    }
    let ended = d.ended.as_ref().map(|why| format!("; no longer used: {}", clean(why))).unwrap_or_default();
    if d.made.blocks == 0 {
        return format!("{name}: not used{ended}");
    }
    let share = |s: f64| format!("; {} wrong blocks would have been detected", percent(Some(s)));
    let seen = d.seen_from.map(share).unwrap_or_default();
    let (blocks, checked) = (count(d.made.blocks), count(d.made.checked));
    format!("{name}: {blocks} blocks, {checked} spot-checked{seen}{ended}")
}

fn sums(report: &ConvertReport<'_>, run: Option<&RunInfo>, out: Option<&Path>) -> String {
    // The files of a set are listed; none of them has the name of the output.
    let named = report.split_files.is_empty() || report.conversion.directory;
    let to =
        out.filter(|_| named).map(|o| format!(" to {}", clean(&o.to_string_lossy()))).unwrap_or_default();
    let t = &report.conversion.totals;
    let verb = if run.is_some() { "wrote" } else { "would write" };
    let recipe = &report.conversion.recipe;
    let preset = recipe.preset.map(|preset| preset.to_string()).or(recipe.mixed.map(MlxMixed::name));
    let mut lines: Vec<(&str, String)> = preset.into_iter().map(|name| ("recipe", name)).collect();
    lines.extend(left_out(&report.conversion.left_out).map(|text| ("left out", text)));
    lines.extend(report.conversion.importance.as_ref().map(|i| ("importance", importance(i))));
    lines.extend(report.conversion.rotation.as_ref().map(|r| ("rotation", rotation(r))));
    lines.extend(t.untied_head_bytes.map(|bytes| ("untying", format!("adds a head of {}", size(bytes)))));
    lines.extend(report.gate.as_ref().map(|g| ("gate", gate(g))));
    lines.extend(report.rotation_choice.as_ref().map(|c| ("rotation by", rotation_choice(c))));
    lines.extend(report.target.as_ref().map(|t| ("target", target(t))));
    lines.extend(report.rounding.iter().map(|r| ("rounding", rounding(r))));
    lines.extend([
        ("tensors", format!("{} quantized, {} kept: {}", t.planned_quantized, t.kept, types(report))),
        ("read", format!("{} of tensors, {} of files", size(t.total_bytes_in), size(t.source_file_bytes))),
        (verb, format!("{}{to}", size(t.total_bytes_out))),
    ]);
    lines.extend((!report.split_files.is_empty()).then(|| ("files", files(&report.split_files))));
    if let Some(bits) = t.bits_per_weight {
        lines.push(("weights", format!("{bits:.3} bits each")));
    }
    if let Some(ratio) = t.ratio {
        lines.push(("ratio", format!("{ratio:.3} : 1")));
    }
    if let Some(run) = run {
        let seconds = run.seconds.unwrap_or(0.0);
        let threads = if run.threads == 1 { "1 thread".into() } else { format!("{} threads", run.threads) };
        lines.push(("time", format!("{seconds:.2} s, {threads}, {} engine", run.engine)));
        lines.extend(run.device.as_ref().map(|d| ("device", device(d))));
        if run.resumed_windows > 0 {
            lines.push(("resumed", format!("{} windows of an earlier run", run.resumed_windows)));
        }
    }
    lines.iter().map(|(k, v)| format!("{k:<13}{v}\n")).collect()
}
