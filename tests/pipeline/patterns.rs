//! Patterns of tensor names against their definitions: globs place by place, regular expressions against the
//! `regex` crate.

use proptest::prelude::*;
use quantoscope_core::recipe::pattern::{Pattern, finds};
use regex::RegexBuilder;

/// The definition of a glob: all of some run of a name's parts matches.
fn finds_by_definition(pattern: &[char], name: &[char]) -> bool {
    let dots: Vec<usize> = (0..name.len()).filter(|&i| name[i] == '.').collect();
    let starts = std::iter::once(0).chain(dots.iter().map(|d| d + 1));
    let ends: Vec<usize> = dots.iter().copied().chain([name.len()]).collect();
    starts
        .into_iter()
        .any(|start| ends.iter().filter(|&&end| end >= start).any(|&end| is_all(pattern, &name[start..end])))
}

fn is_all(pattern: &[char], text: &[char]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, _) => text.is_empty(),
        (Some(('*', rest)), _) => (0..=text.len()).any(|n| is_all(rest, &text[n..])),
        (Some((want, rest)), Some((have, after))) => {
            (*want == '?' || want.eq_ignore_ascii_case(have)) && is_all(rest, after)
        }
        (Some(_), None) => false,
    }
}

/// A regular expression of every kind of syntax that is supported.
fn regex() -> impl Strategy<Value = String> {
    let class = r"\[\^?(a|b|a-b|\.|\\w|\\d){1,2}\]";
    let leaf = prop_oneof![
        4 => "[ab.0]".prop_map(String::from),
        2 => class.prop_map(String::from),
        1 => prop_oneof![Just("^"), Just("$"), Just("\\b"), Just("\\B"), Just("\\."), Just("\\w"), Just("\\D")]
            .prop_map(String::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let times = "[*+?]|[{][0-2][}]|[{][01],[}]|[{][01],[2-3][}]";
        prop_oneof![
            3 => prop::collection::vec(inner.clone(), 0..4).prop_map(|all| all.concat()),
            2 => prop::collection::vec(inner.clone(), 1..4).prop_map(|all| format!("({})", all.join("|"))),
            2 => (inner, times).prop_map(|(part, times)| format!("(?:{part}){times}")),
        ]
    })
}

#[test]
fn globs_find_parts_and_wholes() {
    for (pattern, name, found) in [
        ("attn_v", "blk.3.attn_v.weight", true),
        ("attn_v.weight", "blk.3.attn_v.weight", true),
        ("blk.3.attn_v.weight", "blk.3.attn_v.weight", true),
        ("ATTN_V", "blk.3.attn_v.weight", true),
        ("attn", "blk.3.attn_v.weight", false),
        ("attn_*", "blk.3.attn_v.weight", true),
        ("*", "blk.3.attn_v.weight", true),
        ("output.weight", "blk.3.attn_output.weight", false),
        ("*output.weight", "blk.3.attn_output.weight", true),
        ("blk.1", "blk.11.attn_v.weight", false),
        ("blk.?.attn_*", "blk.1.attn_v.weight", true),
        ("blk.?.attn_*", "blk.11.attn_v.weight", false),
        ("*.*.*.*.*", "blk.1.attn_v.weight", false),
        ("a*b*c", "axxbyyc", true),
        ("a*b*c", "axxbyy", false),
        ("", "blk", false),
        ("**", "", true),
        ("blk.[0-2].attn_{q,k}", "blk.2.attn_k.weight", true),
        ("blk.[0-2].attn_{q,k}", "blk.3.attn_k.weight", false),
        ("blk.[!0-2].attn_{q,k,{v,output}}", "blk.3.attn_output.weight", true),
        ("blk.[^0-2].attn_v", "blk.2.attn_v.weight", false),
        ("x[]-]y", "x]y", true),
        (r"a\*", "a*", true),
        (r"a\*", "ab", false),
        ("a[0", "a[0", true),
    ] {
        assert_eq!(finds(pattern, name), found, "{pattern} in {name}");
    }
}

#[test]
fn regexes_are_searched_for() {
    for (pattern, name, found) in [
        (r"/\.([0-9]|1[01257])\.attn_v/", "blk.12.attn_v.weight", true),
        (r"/\.([0-9]|1[01257])\.attn_v/", "blk.13.attn_v.weight", false),
        ("/ATTN_/", "blk.12.attn_v.weight", true),
        ("/^attn/", "blk.12.attn_v.weight", false),
        ("/weight$/", "blk.12.attn_v.weight", true),
        (r"/blk\.\d{2}\./", "blk.12.attn_v.weight", true),
        (r"/blk\.\d{2,}\./", "blk.1.attn_v.weight", false),
        ("/(?:ffn|attn)_(up|v)?/", "ffn_down", true),
        ("/a+?b*$/", "xaabb", true),
        (r"/\battn_v\b/", "blk.1.attn_v.weight", true),
        (r"/\battn\b/", "blk.1.attn_v.weight", false),
        ("/(a*)*b/", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac", false),
        ("//", "anything", true),
        ("/x{0}y/", "y", true),
    ] {
        assert_eq!(finds(pattern, name), found, "{pattern} in {name}");
    }
}

#[test]
fn patterns_that_do_not_compile_are_refused() {
    for bad in [
        "a[",
        "a{b",
        r"a\",
        "[z-a]",
        "/(/",
        "/)/",
        "/[/",
        "/*/",
        "/a{2/",
        "/a{3,2}/",
        r"/\q/",
        "/(?=a)/",
        r"/(a)\1/",
        "/(a{99}){99}/",
        "/a**/",
    ] {
        assert!(Pattern::new(bad).is_err(), "{bad}");
    }
    let deep = "(".repeat(100_000);
    assert!(Pattern::new(&format!("/{deep}/")).is_err());
    assert!(Pattern::new(&"{".repeat(100_000)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_glob_finds_what_its_definition_says(pattern in "[aAb.?*]{0,7}", name in "[aAbB.*?é]{0,9}") {
        let chars = |text: &str| text.chars().collect::<Vec<char>>();
        prop_assert_eq!(finds(&pattern, &name), finds_by_definition(&chars(&pattern), &chars(&name)));
    }

    #[test]
    fn a_regex_finds_what_the_regex_crate_finds(pattern in regex(), name in "[aAbB0_.]{0,9}") {
        let expected = RegexBuilder::new(&pattern).case_insensitive(true).build().expect("a regular expression");
        let ours = Pattern::new(&format!("/{pattern}/")).expect("a pattern");
        prop_assert_eq!(ours.finds(&name), expected.is_match(&name), "{} in {}", pattern, name);
    }

    #[test]
    fn any_text_is_a_pattern_or_an_error(pattern in "[a.*?{},!^|()+0-9/\\[\\]\\\\-]{0,12}", name in "[a.]{0,4}") {
        finds(&pattern, &name);
        finds(&format!("/{pattern}/"), &name);
    }
}

/// Trying every run of parts, or every place of a star again, would not come to an end here.
#[test]
fn names_of_many_parts_are_decided_at_once() {
    let parts = "a.".repeat(32 << 10);
    let letters = "a".repeat(64 << 10);
    let few = "a".repeat(2 << 10);
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
        ("{a,b}".repeat(1000), &letters, false),
        ("/(a*)*(a|aa)*b$/".into(), &few, false),
        ("/(a{0,30}){0,30}b/".into(), &few, false),
    ] {
        assert_eq!(finds(&pattern, name), found, "{:.20}", pattern);
    }
}
