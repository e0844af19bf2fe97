//! Rules for every source file: forbidden words, module documentation, length, paths, ignored tests.

use crate::sources::{SourceText, everything, has_word, root, rust};

/// Exceptions to the line limit, with a limit of their own.
// Tables of data.
const LONG: &[(&str, usize)] = &[("core/src/model/tokenizer/pre_table.rs", 600)];
const LINES: usize = 500;

#[track_caller]
fn never(sources: &[SourceText], word: &str, found: impl Fn(&str) -> bool) {
    for source in sources {
        for (n, line) in source.code() {
            assert!(!found(line), "{}:{n} has {word}: {}", source.path, line.trim());
        }
    }
}

#[test]
fn core_is_pure() {
    let lib = std::fs::read_to_string(root().join("core/src/lib.rs")).expect("the root of core");
    assert!(lib.lines().any(|l| l == "#![forbid(unsafe_code)]") && lib.lines().any(|l| l == "#![no_std]"));
    let core = rust("core/src");
    // The crate root names `std` for the feature `std` of dependencies; no code uses it.
    never(&core, "std::", |l| l.contains("std::") && !l.contains("extern crate std"));
    for word in ["HashMap", "HashSet", "Instant", "SystemTime", "Mutex", "thread_local"] {
        never(&core, word, |l| has_word(l, word));
    }
}

/// Clippy finds calls that panic on purpose, and indices: here only that the lints are on, and that exceptions have a reason.
#[test]
fn core_denies_panics_and_indices() {
    let lib = std::fs::read_to_string(root().join("core/src/lib.rs")).expect("the root of core");
    for lint in
        ["expect_used", "indexing_slicing", "panic", "todo", "unimplemented", "unreachable", "unwrap_used"]
    {
        assert!(lib.contains(&format!("clippy::{lint}")), "{lint}");
    }
    let mut excepted: Vec<String> = Vec::new();
    for source in rust("core/src").iter().filter(|s| s.path != "core/src/lib.rs") {
        for (at, _) in source.text.match_indices("clippy::indexing_slicing") {
            let attribute = source.text[at..].split(']').next().unwrap_or_default();
            assert!(attribute.contains("reason = \""), "{}: an exception without a reason", source.path);
            excepted.push(source.path.clone());
        }
    }
    let modules = ["format/apr", "job", "metric", "model/forward", "quant", "rotation"];
    assert_eq!(excepted, modules.map(|m| format!("core/src/{m}/mod.rs")));
}

#[test]
fn unsafe_is_in_accel_only_with_a_reason() {
    let outside: Vec<SourceText> =
        everything().into_iter().filter(|s| !s.path.starts_with("core/accel/")).collect();
    never(&outside, "unsafe", |l| has_word(l, concat!("un", "safe")) && !l.contains('"'));
    // Inside, each has its reason.
    for source in rust("core/accel") {
        let lines: Vec<&str> = source.text.lines().collect();
        for (i, _) in lines.iter().enumerate().filter(|(_, l)| l.contains(concat!("un", "safe {"))) {
            let reason = lines[i.saturating_sub(6)..=i].iter().any(|l| l.contains("SAFETY"));
            assert!(reason, "{}:{} gives no reason", source.path, i + 1);
        }
    }
}

#[test]
fn modules_start_with_documentation() {
    for source in everything() {
        let first = source.text.lines().find(|l| !l.starts_with("#!")).unwrap_or("");
        assert!(first.starts_with("//! ") && first.len() > 10, "{} opens with {first:?}", source.path);
    }
}

#[test]
fn files_are_within_the_line_limit() {
    for source in everything() {
        let limit = LONG.iter().find(|(p, _)| *p == source.path).map_or(LINES, |(_, n)| *n);
        let n = source.text.lines().count();
        assert!(n <= limit, "{} has {n} lines, more than {limit}", source.path);
    }
}

#[test]
fn long_file_exceptions_are_needed() {
    for (path, _) in LONG {
        let n = std::fs::read_to_string(root().join(path)).map_or(0, |t| t.lines().count());
        assert!(n > LINES, "{path} has {n} lines: take it off the list");
    }
}

/// Absolute paths of a developer's machine must not be committed.
#[test]
fn tracked_files_have_no_machine_paths() {
    let listed = std::process::Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    // Without git (an unpacked archive), only the sources are searched.
    let listed =
        listed.ok().filter(|o| o.status.success()).map(|o| String::from_utf8(o.stdout).expect("text"));
    let listed =
        listed.unwrap_or_else(|| everything().into_iter().map(|s| s.path).collect::<Vec<_>>().join("\0"));
    let names: Vec<&str> = listed.split('\0').filter(|n| !n.is_empty()).collect();
    assert!(names.len() > 100, "{} files", names.len());
    for name in names {
        let Ok(text) = std::fs::read_to_string(root().join(name)) else { continue };
        for part in
            [concat!("/ho", "me/"), concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")]
        {
            // A URL or a path inside the repository may well have such a part; a path of a machine starts
            // with it.
            let bad = text.match_indices(part).any(|(at, _)| {
                let before = text[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || "._-~}".contains(c))
            });
            assert!(!bad, "{name} has a path under {part}");
        }
    }
}

/// `make test` runs tests that are not ignored, `make proof` those marked "make proof"; `by_hand_` tests are run by
/// hand.
#[test]
fn ignored_tests_are_run_by_make_proof() {
    let mut proof = 0;
    for source in everything() {
        let mut reason = None;
        for (n, line) in source.text.lines().enumerate() {
            let line = line.trim();
            if let Some(given) = line.strip_prefix(concat!("#[", "ignore")) {
                reason = Some(given.trim_start_matches(" = \"").trim_end_matches("\"]"));
            } else if let Some(name) = line.strip_prefix("fn ").filter(|_| reason.is_some()) {
                let by_hand = reason.is_some_and(|r| r.starts_with("by hand: "));
                let why = format!("{}:{}: {reason:?} of {name}", source.path, n + 1);
                assert!(by_hand || reason == Some("make proof"), "{why}");
                assert_eq!(by_hand, name.starts_with("by_hand_"), "{why}");
                proof += usize::from(!by_hand);
                reason = None;
            } else if let Some(name) = line.strip_prefix("fn ") {
                assert!(
                    !name.starts_with("by_hand_"),
                    "{}:{}: {name} is run by no target",
                    source.path,
                    n + 1
                );
            }
        }
    }
    assert!(proof > 30, "{proof} tests");
    let makefile = std::fs::read_to_string(root().join("Makefile")).expect("the Makefile");
    assert!(makefile.contains("$(TESTS) -- --ignored --skip by_hand_\n"));
    assert!(makefile.contains("\t$(TESTS)\n"), "make test runs all that is not ignored");
}
