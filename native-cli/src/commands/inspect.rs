//! `inspect`: what is in a file.

use super::{TensorFilter, measure};
use crate::args::InspectArgs;
use crate::drive::Resources;
use crate::io::source::Source;
use crate::render::table::{self, Align, Styled, Tone, plain};
use crate::render::{self, WithRows, clean, count, fixed, sci, shape, short_size, size};
use quantoscope_core::error::Result;
use quantoscope_core::plan::measure as plan_measure;
use quantoscope_core::report::{SCHEMA_VERSION, StatsTensor, stats};
use quantoscope_core::tensor::{MetaValue, Name, TensorInfo};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;

/// Metadata values longer than this are cut in the table; JSON carries texts whole.
const MAX_VALUE: usize = 60;
/// Histogram bins in JSON.
const BINS: usize = 64;

pub fn run(args: &InspectArgs) -> Result<ExitCode> {
    let wanted = TensorFilter::new(&args.filter)?;
    let source = Source::open(&args.input)?;
    wanted.check(&source)?;
    let measured = if args.stats { Some(measured(&source, args, &wanted)?) } else { None };
    let tensors: Vec<&TensorInfo> =
        source.checkpoint.tensors.iter().filter(|t| wanted.takes(&t.name)).collect();
    if args.json {
        render::json(&as_json(&source, &tensors, measured.as_ref()))?;
    } else {
        render::warn(&source.checkpoint.warnings);
        render::stream(|out| write_text(out, &source, &tensors, measured.as_ref()))?;
    }
    Ok(ExitCode::SUCCESS)
}

type MeasuredTensors = BTreeMap<Name, StatsTensor>;

fn measured(source: &Source, args: &InspectArgs, wanted: &TensorFilter) -> Result<MeasuredTensors> {
    let takes = |t: &TensorInfo| wanted.takes(&t.name);
    // The table shows no histogram.
    let plan = match args.json {
        true => plan_measure::stats(&source.checkpoint, &takes)?,
        false => plan_measure::moments(&source.checkpoint, &takes)?,
    };
    let resources = Resources::new(&args.work)?;
    let collected = measure(&plan, &[source], resources, "Measuring", args.json)?;
    let report = stats(&plan, &collected, BINS);
    if !args.json {
        render::warn(report.warnings.iter().filter(|w| w.code == "not_measured"));
    }
    Ok(report.tensors.into_iter().map(|t| (t.name.clone(), t)).collect())
}

fn meta_json(value: &MetaValue) -> Value {
    match value {
        MetaValue::U8(v) => json!(v),
        MetaValue::I8(v) => json!(v),
        MetaValue::U16(v) => json!(v),
        MetaValue::I16(v) => json!(v),
        MetaValue::U32(v) => json!(v),
        MetaValue::I32(v) => json!(v),
        MetaValue::U64(v) => json!(v),
        MetaValue::I64(v) => json!(v),
        MetaValue::F32(v) => json!(v),
        MetaValue::F64(v) => json!(v),
        MetaValue::Bool(v) => json!(v),
        MetaValue::String(v) => json!(v),
        // Vocabularies are long: their length is told, not their content.
        MetaValue::Array(a) => json!({ "array": { "element_type": a.element, "len": a.len } }),
    }
}

fn as_json(source: &Source, tensors: &[&TensorInfo], measured: Option<&MeasuredTensors>) -> impl Serialize {
    let c = &source.checkpoint;
    let tensor = move |t: &&TensorInfo| {
        let mut value = json!({
            "name": t.name, "dtype": t.dtype, "shape": t.shape, "numel": t.shape.numel(),
            "bytes": t.bytes.len(), "bits_per_weight": t.dtype.bits_per_weight(),
            "file": c.files.get(t.file as usize).map(|f| f.name.as_str()), "offset": t.bytes.start,
        });
        if let (Some(m), Value::Object(map)) = (measured.and_then(|m| m.get(&t.name)), &mut value) {
            map.insert("stats".into(), json!(m.stats));
            map.insert("quantiles".into(), json!(m.quantiles));
            map.insert("histogram".into(), json!(m.histogram));
        }
        value
    };
    let metadata: serde_json::Map<String, Value> =
        c.metadata.0.iter().map(|(k, v)| (k.clone(), meta_json(v))).collect();
    let head = json!({
        "schema_version": SCHEMA_VERSION,
        "input": source.path.to_string_lossy(),
        "container": c.container,
        "gguf_version": c.gguf_version,
        "files": c.files.iter().map(|f| json!({
            "name": f.name, "bytes": f.len, "header_bytes": f.header.len(), "header_sha256": hex(&f.header_sha256),
        })).collect::<Vec<_>>(),
        "parameters": tensors.iter().map(|t| t.shape.numel()).fold(0, u64::saturating_add),
        "tensor_bytes": tensors.iter().map(|t| t.bytes.len()).fold(0, u64::saturating_add),
        "metadata": metadata,
        "companions": c.companions.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(),
        "warnings": c.warnings,
        "tensors": [],
    });
    WithRows { head, key: "tensors", rows: tensors.iter().map(tensor) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn write_text(
    out: &mut dyn Write,
    source: &Source,
    tensors: &[&TensorInfo],
    measured: Option<&MeasuredTensors>,
) -> io::Result<()> {
    writeln!(out, "{}", summary(source, tensors))?;
    let mut columns = vec![
        ("tensor", Align::Left),
        ("dtype", Align::Left),
        ("shape", Align::Left),
        ("bytes", Align::Right),
        ("share", Align::Right),
    ];
    if measured.is_some() {
        let more = ["mean", "std", "min", "max", "kurtosis", "zeros", "NaN/Inf", "asymmetry"];
        columns.extend(more.map(|c| (c, Align::Right)));
    }
    let total = tensors.iter().map(|t| t.bytes.len()).fold(0, u64::saturating_add);
    let rows = tensors.iter().map(|t| {
        let mut row = row(t, total);
        if let Some(m) = measured {
            row.extend(stats_cells(m.get(&t.name)));
        }
        row
    });
    table::write(out, &columns, rows)
}

fn row(t: &TensorInfo, total: u64) -> Vec<Styled> {
    let share = 100.0 * t.bytes.len() as f64 / (total.max(1)) as f64;
    vec![
        plain(&*t.name),
        plain(t.dtype.name()),
        plain(shape(t.shape.axes())),
        plain(short_size(t.bytes.len())),
        (format!("{share:.1} %"), Tone::Dim),
    ]
}

fn stats_cells(tensor: Option<&StatsTensor>) -> Vec<Styled> {
    let Some(s) = tensor.and_then(|t| t.stats.as_ref()) else { return vec![plain("–"); 8] };
    let bad = s.nan + s.inf;
    vec![
        plain(sci(s.mean)),
        plain(sci(s.std)),
        plain(sci(s.min)),
        plain(sci(s.max)),
        plain(fixed(s.kurtosis, 2)),
        plain(count(s.zeros)),
        (
            if bad == 0 { "0".into() } else { format!("{}/{}", s.nan, s.inf) },
            if bad == 0 { Tone::Dim } else { Tone::Bad },
        ),
        plain(s.asymmetry.map_or_else(|| "–".into(), |a| format!("{:.2} %", a * 100.0))),
    ]
}

fn summary(source: &Source, tensors: &[&TensorInfo]) -> String {
    let c = &source.checkpoint;
    let bytes = c.files.iter().map(|f| f.len).fold(0, u64::saturating_add);
    let mut lines = vec![("input", clean(&source.path.to_string_lossy()))];
    let version = c.gguf_version.map(|v| format!(" v{v}")).unwrap_or_default();
    let files = if c.files.len() == 1 {
        "1 file".to_string()
    } else {
        format!("{} files", count(c.files.len() as u64))
    };
    lines.push(("container", format!("{}{version}, {files}, {}", c.container.name(), size(bytes))));
    let parameters = tensors.iter().map(|t| t.shape.numel()).fold(0, u64::saturating_add);
    lines.push(("tensors", format!("{}, {} elements", count(tensors.len() as u64), count(parameters))));
    let mut dtypes: BTreeMap<&str, u64> = BTreeMap::new();
    for t in tensors {
        *dtypes.entry(t.dtype.name()).or_default() += 1;
    }
    let dtypes: Vec<String> = dtypes.iter().map(|(d, n)| format!("{n} × {d}")).collect();
    lines.push(("dtypes", dtypes.join(", ")));
    let mut text: String = lines.iter().map(|(k, v)| format!("{k:<11}{v}\n")).collect();
    for (key, value) in &c.metadata.0 {
        let value: String = match meta_json(value) {
            Value::String(s) => s,
            Value::Object(_) => match value {
                MetaValue::Array(a) => format!("array of {}", count(a.len)),
                _ => String::new(),
            },
            other => other.to_string(),
        };
        let cut: String = clean(&value).chars().take(MAX_VALUE).collect();
        let dots = if value.chars().count() > MAX_VALUE { "…" } else { "" };
        text.push_str(&format!("  {} = {cut}{dots}\n", clean(key)));
    }
    text
}
