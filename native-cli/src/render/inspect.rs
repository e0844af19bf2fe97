//! The report of `inspect`.

use super::order::in_order;
use super::table::{self, Align, Styled, Tone, plain};
use super::{WithRows, clean, count, fixed, sci, shape, short_size, size};
use crate::verbs::inspect::Inspection;
use quantoscope_core::error::Result;
use quantoscope_core::format::Checkpoint;
use quantoscope_core::model::stored_quantization::StoredQuantization;
use quantoscope_core::report::{SCHEMA_VERSION, StatsTensor};
use quantoscope_core::tensor::{MetaValue, TensorInfo};
use serde::Serialize;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Characters of a metadata value in text. JSON has strings whole.
const MAX_VALUE: usize = 60;

/// Prints the report, as JSON or as text.
///
/// # Errors
///
/// `io` if standard output cannot be written to.
pub fn print(inspection: &Inspection, json: bool) -> Result<()> {
    if json {
        return super::json(&as_json(inspection));
    }
    super::warn(inspection.warnings());
    super::warn(&inspection.checkpoint().warnings);
    super::stream(|out| write_text(out, inspection))
}

/// Parameters and bytes of the selected tensors.
fn sums(inspection: &Inspection) -> (u64, u64) {
    let add = |(n, bytes): (u64, u64), t: &TensorInfo| {
        (n.saturating_add(t.shape.numel()), bytes.saturating_add(t.stored_bytes()))
    };
    inspection.tensors().fold((0, 0), add)
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
        MetaValue::Bytes(v) => json!(String::from_utf8_lossy(v)),
        // Vocabularies are long: only their length is printed.
        MetaValue::Array(a) => json!({ "array": { "element_type": a.element, "len": a.len } }),
    }
}

/// A stored tensor that is a part of a packed weight.
fn part_json(c: &Checkpoint, part: &TensorInfo) -> Value {
    json!({
        "name": part.name, "dtype": part.dtype.name(), "shape": part.shape, "bytes": part.bytes.len(),
        "file": c.files.get(part.file as usize).map(|f| f.name.as_str()), "offset": part.bytes.start,
    })
}

fn as_json(inspection: &Inspection) -> impl Serialize {
    let c = inspection.checkpoint();
    let tensor = move |t: &TensorInfo| {
        let mut value = json!({
            "name": t.name, "dtype": c.type_name(t), "shape": t.shape, "numel": t.shape.numel(),
            "bytes": t.stored_bytes(), "bits_per_weight": t.bits_per_weight(),
            "file": c.files.get(t.file as usize).map(|f| f.name.as_str()), "offset": t.bytes.start,
        });
        if let (Some(packed), Value::Object(map)) = (&t.packed, &mut value) {
            map.insert("decoded_to".into(), json!(t.dtype.name()));
            map.insert("parts".into(), packed.parts.iter().map(|p| part_json(c, p)).collect());
        }
        if let (Some(m), Value::Object(map)) = (inspection.statistics(&t.name), &mut value) {
            map.insert("stats".into(), json!(m.stats));
            map.insert("quantiles".into(), json!(m.quantiles));
            map.insert("histogram".into(), json!(m.histogram));
        }
        value
    };
    let (parameters, bytes) = sums(inspection);
    let metadata: serde_json::Map<String, Value> =
        c.metadata.0.iter().map(|(k, v)| (k.clone(), meta_json(v))).collect();
    let mut head = json!({
        "schema_version": SCHEMA_VERSION,
        "input": inspection.path().to_string_lossy(),
        "container": c.container,
        "gguf_version": c.gguf_version,
        "files": c.files.iter().map(|f| json!({
            "name": f.name, "bytes": f.len, "header_bytes": f.header.len(), "header_sha256": hex(&f.header_sha256),
        })).collect::<Vec<_>>(),
        "tensor_bytes": bytes,
        "metadata": metadata,
        "companions": c.companions.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(),
        "warnings": c.warnings,
        "tensors": [],
    });
    if let Value::Object(map) = &mut head {
        match stored_method(inspection) {
            Some(method) => map.insert("quantized_as".into(), method.into()),
            None => map.insert("parameters".into(), parameters.into()),
        };
    }
    WithRows { head, key: "tensors", rows: inspection.tensors().map(tensor) }
}

/// The method by which the selected tensors are quantized, if their codes are not decoded.
fn stored_method(inspection: &Inspection) -> Option<String> {
    let stored = StoredQuantization::of(inspection.checkpoint());
    inspection.tensors().find_map(|t| stored.method(t))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn write_text(out: &mut dyn Write, inspection: &Inspection) -> io::Result<()> {
    writeln!(out, "{}", summary(inspection))?;
    let mut columns = vec![
        ("tensor", Align::Left),
        ("dtype", Align::Left),
        ("shape", Align::Left),
        ("bytes", Align::Right),
        ("share", Align::Right),
    ];
    if inspection.is_measured() {
        let more = ["mean", "std", "min", "max", "kurtosis", "zeros", "NaN/Inf", "asymmetry"];
        columns.extend(more.map(|c| (c, Align::Right)));
    }
    let (_, total) = sums(inspection);
    let tensors = in_order(inspection.tensors(), |t| &t.name);
    let measured = inspection.is_measured();
    let rows = tensors.iter().flat_map(|t| {
        let mut row = row(inspection.checkpoint(), t, total);
        if measured {
            row.extend(stats_cells(inspection.statistics(&t.name)));
        }
        let parts = t.packed.iter().flat_map(|packed| &packed.parts);
        std::iter::once(row).chain(parts.map(move |part| part_row(part, measured)))
    });
    table::write(out, &columns, rows)
}

fn row(c: &Checkpoint, t: &TensorInfo, total: u64) -> Vec<Styled> {
    let share = 100.0 * t.stored_bytes() as f64 / (total.max(1)) as f64;
    vec![
        plain(&*t.name),
        plain(c.type_name(t)),
        plain(shape(t.shape.axes())),
        plain(short_size(t.stored_bytes())),
        (format!("{share:.1} %"), Tone::Dim),
    ]
}

/// The row of a stored tensor that is a part of the packed weight above it.
fn part_row(part: &TensorInfo, measured: bool) -> Vec<Styled> {
    let name = part.name.rsplit('.').next().unwrap_or(&part.name);
    let mut row = vec![
        (format!("  part {name}"), Tone::Dim),
        (part.dtype.name().into(), Tone::Dim),
        (shape(part.shape.axes()), Tone::Dim),
        (short_size(part.bytes.len()), Tone::Dim),
        (String::new(), Tone::Dim),
    ];
    row.extend((0..if measured { 8 } else { 0 }).map(|_| plain("")));
    row
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

fn summary(inspection: &Inspection) -> String {
    let c = inspection.checkpoint();
    let bytes = c.files.iter().map(|f| f.len).fold(0, u64::saturating_add);
    let mut lines = vec![("input", clean(&inspection.path().to_string_lossy()))];
    let version = c.gguf_version.map(|v| format!(" v{v}")).unwrap_or_default();
    let files = if c.files.len() == 1 {
        "1 file".to_string()
    } else {
        format!("{} files", count(c.files.len() as u64))
    };
    lines.push(("container", format!("{}{version}, {files}, {}", c.container.name(), size(bytes))));
    let (parameters, _) = sums(inspection);
    let tensors = inspection.tensors().count() as u64;
    let stored = stored_method(inspection);
    // Packed codes are several parameters each.
    let parameters =
        if stored.is_some() { String::new() } else { format!(", {} elements", count(parameters)) };
    lines.push(("tensors", format!("{}{parameters}", count(tensors))));
    lines.extend(stored.map(|method| ("quantized", format!("{method}: not decoded yet"))));
    let mut dtypes: BTreeMap<Cow<'static, str>, u64> = BTreeMap::new();
    for t in inspection.tensors() {
        *dtypes.entry(c.type_name(t)).or_default() += 1;
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
