//! Patterns of `--tensor-type` against their definition, tried place by place, and against names made to be slow.

use proptest::prelude::*;
use quantoscope_core::recipe::pattern::finds;

/// The definition: all of some run of a name's parts is what the pattern says.
fn finds_by_definition(pattern: &[u8], name: &[u8]) -> bool {
    let dots: Vec<usize> = (0..name.len()).filter(|&i| name[i] == b'.').collect();
    let starts = std::iter::once(0).chain(dots.iter().map(|d| d + 1));
    let ends: Vec<usize> = dots.iter().copied().chain([name.len()]).collect();
    starts
        .into_iter()
        .any(|start| ends.iter().filter(|&&end| end >= start).any(|&end| is_all(pattern, &name[start..end])))
}

fn is_all(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, _) => text.is_empty(),
        (Some((b'*', rest)), _) => (0..=text.len()).any(|n| is_all(rest, &text[n..])),
        (Some((want, rest)), Some((have, after))) => {
            (*want == b'?' || want.eq_ignore_ascii_case(have)) && is_all(rest, after)
        }
        (Some(_), None) => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pattern_finds_what_its_definition_says(pattern in "[aAb.?*]{0,7}", name in "[aAbB.*?é]{0,9}") {
        prop_assert_eq!(finds(&pattern, &name), finds_by_definition(pattern.as_bytes(), name.as_bytes()));
    }
}

/// Trying every run of parts, or every place of a star again, would not come to an end here.
#[test]
fn names_of_many_parts_are_decided_at_once() {
    let parts = "a.".repeat(32 << 10);
    let letters = "a".repeat(64 << 10);
    for (pattern, name, found) in [
        ("*a*b".to_string(), &parts, false),
        ("*a*a*a*b".into(), &parts, false),
        ("*.*.*.*=".into(), &parts, false),
        ("*?*?*?*=*".into(), &parts, false),
        ("a*a*a*a".into(), &parts, true),
        ("*a".repeat(1000) + "b", &parts, false),
        ("*a.".repeat(1000) + "*", &parts, true),
        ("a.".repeat(1000) + "b", &parts, false),
        ("*aaa*aaa*aab".into(), &letters, false),
        ("a?".repeat(1000) + "*", &letters, true),
        ("?".repeat((64 << 10) - 1) + "b", &letters, false),
        ("*".repeat(64 << 10) + "b", &letters, false),
    ] {
        assert_eq!(finds(&pattern, name), found, "{:.20}", pattern);
    }
}
