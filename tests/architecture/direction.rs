//! Import direction: lower modules never import higher ones.

use crate::sources::{SourceText, rust};
use std::collections::BTreeSet;

/// The modules of `core` in layers, lowest first. A module may import modules of the layers before its own.
const LAYERS: &[&[&str]] = &[
    &["error"],
    &["bytes", "dtype"],
    &["tensor"],
    &["float", "format", "metric"],
    &["quant", "rotation"],
    &["kernels"],
    &["model"],
    &["recipe"],
    &["plan"],
    &["job"],
    &["schedule", "wire"],
    &["run"],
    &["model_pass"],
    &["eval", "model_equivalence"],
    &["sensitivity"],
    &["report"],
];

/// Names that the crate root re-exports, and their modules.
const REEXPORTED: &[(&str, &str)] =
    &[("Result", "error"), ("Error", "error"), ("Code", "error"), ("ErrorKind", "error"), ("DType", "dtype")];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// The path of a file's module: `core/src/format/gguf/read.rs` is `format`, `gguf`, `read`.
fn module(source: &SourceText) -> Vec<&str> {
    let inner = source.path.strip_prefix("core/src/").expect("a file of core");
    let inner = inner.trim_end_matches(".rs").trim_end_matches("/mod");
    inner.split('/').collect()
}

/// The names at the root of the crate that a line imports or uses.
fn imported(line: &str, depth: usize) -> Vec<String> {
    let up = "super::".repeat(depth);
    let mut found = Vec::new();
    for prefix in ["crate::", up.as_str()] {
        for (at, _) in line.match_indices(prefix) {
            let rest = &line[at + prefix.len()..];
            let name =
                |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
            match rest.strip_prefix('{') {
                None => found.push(name(rest)),
                Some(list) => found.extend(members(list).map(|s| name(s.trim()))),
            }
        }
    }
    found.retain(|n| !n.is_empty() && n != "super");
    found
}

/// The members of a list in braces, from after its opening brace; nested lists belong to their member.
fn members(list: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let end = list.find(|c| {
        depth += usize::from(c == '{');
        let last = c == '}' && depth == 0;
        depth -= usize::from(c == '}' && depth > 0);
        last
    });
    let mut depth = 0_usize;
    list[..end.unwrap_or(list.len())].split(move |c| {
        depth += usize::from(c == '{');
        depth -= usize::from(c == '}' && depth > 0);
        c == ',' && depth == 0
    })
}

/// Statements, so that a `use` of several lines is one text.
fn statements(source: &SourceText) -> Vec<String> {
    let code: Vec<&str> = source.code().map(|(_, l)| l).collect();
    code.join(" ").split(';').map(String::from).collect()
}

#[test]
fn import_reader_nested_lists_sees_all_names() {
    assert_eq!(imported("use crate::format::Checkpoint", 1), ["format"]);
    assert_eq!(imported("use crate::{job::Job, plan}", 1), ["job", "plan"]);
    assert_eq!(
        imported("use crate::{job::{Job, Read}, plan::{a::{B, C}, d}, quant}", 1),
        ["job", "plan", "quant"]
    );
    assert_eq!(imported("use super::super::Layout", 3), [""; 0]);
    assert_eq!(imported("fn f(x: super::quant::Encoding)", 1), ["quant"]);
}

#[test]
fn core_modules_all_have_a_layer() {
    for source in rust("core/src").iter().filter(|s| s.path != "core/src/lib.rs") {
        let name = module(source)[0];
        assert!(layer(name).is_some(), "{}: add the module {name:?} to LAYERS", source.path);
    }
}

#[test]
fn core_modules_import_lower_layers_only() {
    let mut edges = BTreeSet::new();
    for source in rust("core/src").iter().filter(|s| s.path != "core/src/lib.rs") {
        let (module, text) = (module(source), statements(source));
        for name in text.iter().flat_map(|s| imported(s, module.len())) {
            let reexported = REEXPORTED.iter().find(|(n, _)| *n == name).map(|(_, module)| *module);
            let other = reexported.unwrap_or(&name);
            if other == module[0] {
                continue;
            }
            let below = layer(other).zip(layer(module[0])).is_some_and(|(a, b)| a < b);
            assert!(below, "{} imports {other:?}, which is not below {:?}", source.path, module[0]);
            edges.insert((module[0].to_string(), other.to_string()));
        }
    }
    assert!(edges.len() > 20, "the imports were read: {edges:?}");
}

/// File formats do not know encodings, and encodings do not know file formats.
#[test]
fn format_and_quant_never_import_each_other() {
    for (folder, never) in [("core/src/format", "quant"), ("core/src/quant", "format")] {
        for source in rust(folder) {
            for text in statements(&source) {
                let names = imported(&text, module(&source).len());
                assert!(!names.iter().any(|n| n == never), "{} names {never}", source.path);
            }
        }
    }
}

/// Engines execute jobs: they never open files, plan or report.
#[test]
fn accel_never_imports_format_plan_or_report() {
    for source in rust("core/accel/src") {
        for (n, line) in source.code() {
            let bad = ["format", "plan", "report", "recipe"];
            let found = bad.iter().find(|m| line.contains(&format!("quantoscope_core::{m}")));
            assert!(found.is_none(), "{}:{n} uses {found:?}", source.path);
        }
    }
}
