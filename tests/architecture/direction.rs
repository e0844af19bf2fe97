//! Lower rooms never import higher ones.

use crate::sources::{SourceText, rust};
use std::collections::BTreeSet;

/// The rooms of `core`, from the ground up. A room knows those above it in this list, never those beside or below.
const ROOMS: &[&[&str]] = &[
    &["error"],
    &["bytes", "dtype"],
    &["tensor"],
    &["float", "format", "metric"],
    &["quant", "rotation"],
    &["kernels", "model"],
    &["recipe"],
    &["plan"],
    &["job"],
    &["schedule", "wire"],
    &["run"],
    &["model_equivalence"],
    &["report"],
];

/// What the root itself offers, and where it comes from.
const OFFERED: &[(&str, &str)] =
    &[("Result", "error"), ("Error", "error"), ("Code", "error"), ("ErrorKind", "error"), ("DType", "dtype")];

fn floor(room: &str) -> Option<usize> {
    ROOMS.iter().position(|rooms| rooms.contains(&room))
}

/// The path of a file's module: `core/src/format/gguf/read.rs` is `format`, `gguf`, `read`.
fn module(source: &SourceText) -> Vec<&str> {
    let inner = source.path.strip_prefix("core/src/").expect("a file of core");
    let inner = inner.trim_end_matches(".rs").trim_end_matches("/mod");
    inner.split('/').collect()
}

/// The names that a line reaches at the root of the crate.
fn reached(line: &str, depth: usize) -> Vec<String> {
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

/// The members of a list in braces, which has begun; lists within members are part of them.
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

/// Statements, so that a `use` of several lines is seen whole.
fn statements(source: &SourceText) -> Vec<String> {
    let code: Vec<&str> = source.code().map(|(_, l)| l).collect();
    code.join(" ").split(';').map(String::from).collect()
}

#[test]
fn the_reader_of_imports_sees_them() {
    assert_eq!(reached("use crate::format::Checkpoint", 1), ["format"]);
    assert_eq!(reached("use crate::{job::Job, plan}", 1), ["job", "plan"]);
    assert_eq!(
        reached("use crate::{job::{Job, Read}, plan::{a::{B, C}, d}, quant}", 1),
        ["job", "plan", "quant"]
    );
    assert_eq!(reached("use super::super::Layout", 3), [""; 0]);
    assert_eq!(reached("fn f(x: super::quant::Encoding)", 1), ["quant"]);
}

#[test]
fn every_room_is_on_the_list() {
    for source in rust("core/src").iter().filter(|s| s.path != "core/src/lib.rs") {
        let room = module(source)[0];
        assert!(floor(room).is_some(), "{}: give the room {room:?} its place in ROOMS", source.path);
    }
}

#[test]
fn rooms_know_only_rooms_below() {
    let mut edges = BTreeSet::new();
    for source in rust("core/src").iter().filter(|s| s.path != "core/src/lib.rs") {
        let (module, text) = (module(source), statements(source));
        for name in text.iter().flat_map(|s| reached(s, module.len())) {
            let offered = OFFERED.iter().find(|(n, _)| *n == name).map(|(_, room)| *room);
            let other = offered.unwrap_or(&name);
            if other == module[0] {
                continue;
            }
            let below = floor(other).zip(floor(module[0])).is_some_and(|(a, b)| a < b);
            assert!(below, "{} imports {other:?}, which is not below {:?}", source.path, module[0]);
            edges.insert((module[0].to_string(), other.to_string()));
        }
    }
    assert!(edges.len() > 20, "the imports were read: {edges:?}");
}

/// The two that must never meet: files do not know encodings, encodings do not know files.
#[test]
fn format_and_quant_do_not_know_each_other() {
    for (folder, never) in [("core/src/format", "quant"), ("core/src/quant", "format")] {
        for source in rust(folder) {
            for text in statements(&source) {
                let names = reached(&text, module(&source).len());
                assert!(!names.iter().any(|n| n == never), "{} names {never}", source.path);
            }
        }
    }
}

/// Engines interpret jobs: they never open, plan or report.
#[test]
fn accel_never_parses() {
    for source in rust("core/accel/src") {
        for (n, line) in source.code() {
            let bad = ["format", "plan", "report", "recipe"];
            let found = bad.iter().find(|m| line.contains(&format!("quantoscope_core::{m}")));
            assert!(found.is_none(), "{}:{n} uses {found:?}", source.path);
        }
    }
}
