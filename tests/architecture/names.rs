//! Type names: one name, one meaning in the whole workspace.

use crate::sources::everything;
use std::collections::{BTreeMap, BTreeSet};

/// Types of `wasm` that wrap the type of the same name in `core` or `core/accel` for JavaScript, which sees this name.
const WRAPPED: &[&str] = &["Device", "Imatrix", "Plan", "Run"];

/// The name that a line defines as a struct, enum, union or trait, or as a type alias outside of an `impl` or a trait.
/// Types that a macro defines are not seen.
fn defined(line: &str) -> Option<&str> {
    let (mut rest, indented) = (line.trim_start(), line.starts_with(' '));
    if let Some(public) = rest.strip_prefix("pub") {
        let public =
            public.strip_prefix('(').map_or(public, |scope| scope.split_once(')').map_or("", |s| s.1));
        rest = public.strip_prefix(' ')?;
    }
    let (keyword, rest) = rest.split_once(' ')?;
    // An indented alias is an associated type.
    let defines = matches!(keyword, "struct" | "enum" | "union" | "trait") || keyword == "type" && !indented;
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let name = &rest[..end];
    (defines && name.starts_with(char::is_uppercase)).then_some(name)
}

#[test]
fn definition_lines_give_the_type_name() {
    assert_eq!(defined("pub struct Plan {"), Some("Plan"));
    assert_eq!(defined("    pub(super) enum Op<'a> {"), Some("Op"));
    assert_eq!(defined("type Rows<S> = [S; 2];"), Some("Rows"));
    assert_eq!(defined("trait Scan: Sized {}"), Some("Scan"));
    assert_eq!(defined("    type Item = u8;"), None);
    assert_eq!(defined("struct of arrays"), None);
    assert_eq!(defined("pub use crate::Plan;"), None);
    assert_eq!(defined("/// struct Plan"), None);
    assert_eq!(defined("publish struct Plan"), None);
}

#[test]
fn type_names_have_one_definition() {
    let mut places = BTreeMap::<String, Vec<String>>::new();
    for source in everything() {
        for (n, line) in source.text.lines().enumerate() {
            // `Result` with its own error is the custom of the language.
            if let Some(name) = defined(line).filter(|n| *n != "Result") {
                places.entry(name.to_string()).or_default().push(format!("{}:{}", source.path, n + 1));
            }
        }
    }
    assert!(places.len() > 400, "{} types", places.len());
    let (mut wrapped, mut repeated) = (BTreeSet::new(), Vec::new());
    for (name, places) in places.iter().filter(|(_, places)| places.len() > 1) {
        let others = places.iter().filter(|p| !p.starts_with("wasm/")).count();
        let wraps = places.len() == 2 && others == 1 && WRAPPED.contains(&name.as_str());
        match wraps {
            true => drop(wrapped.insert(name.as_str())),
            false => repeated.push(format!("{name}: {}", places.join(", "))),
        }
    }
    assert!(repeated.is_empty(), "defined more than once: {repeated:#?}");
    let unneeded: Vec<_> = WRAPPED.iter().filter(|n| !wrapped.contains(**n)).collect();
    assert!(unneeded.is_empty(), "take these off the list, for nothing wraps them: {unneeded:?}");
}
