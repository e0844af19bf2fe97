//! Help, completions and manual pages exist for everything, and agree with each other.

use crate::support::Dir;
use quantoscope_core::DType;

const VERBS: [&str; 9] =
    ["inspect", "plan", "quantize", "compare", "verify", "sweep", "bench", "completions", "man"];

#[test]
fn every_verb_has_help_with_examples() {
    let dir = Dir::new();
    let top = dir.run("--help").exits(0).out;
    for verb in VERBS {
        assert!(top.contains(&format!("  {verb}")), "{verb} is not in the overview:\n{top}");
        let help = dir.run(&format!("{verb} --help")).exits(0).out;
        assert!(help.contains("Example") && help.contains(&format!("quantoscope {verb}")), "{help}");
        assert_eq!(dir.run(&format!("help {verb}")).exits(0).out, help);
    }
    for code in ["0 ", "2 ", "3 ", "4 ", "5 ", "6 ", "7 ", "130 "] {
        assert!(top.lines().any(|l| l.trim_start().starts_with(code)), "exit code {code} is not documented");
    }
}

/// What help names as a type can be asked for, and nothing is left out.
#[test]
fn the_types_that_help_names_can_be_written() {
    let dir = Dir::with_model();
    let help = dir.run("quantize --help").exits(0).out;
    let flat = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let list = flat
        .split("in any case: ")
        .nth(1)
        .and_then(|s| s.split("; for --to mlx").next())
        .expect("a list of types");
    let types: Vec<&str> = list.trim_end_matches('.').split(", ").collect();
    let all = DType::ALL.iter().filter(|d| quantoscope_core::recipe::can_target(**d)).count();
    assert_eq!(types.len(), all, "{types:?}");
    for name in types {
        assert!(DType::parse(name).is_ok());
        dir.run(&format!("quantize m.safetensors -o {name}.gguf --type {name} --dry-run")).exits(0);
    }
}

#[test]
fn version_and_no_arguments() {
    let dir = Dir::new();
    assert!(dir.run("--version").exits(0).out.starts_with("quantoscope "));
    assert!(dir.run("").exits(2).err.contains("Usage"));
}

#[test]
fn completions_know_every_verb() {
    let dir = Dir::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = dir.run(&format!("completions {shell}")).exits(0).out;
        for verb in VERBS {
            assert!(text.contains(verb), "{shell} does not complete {verb}");
        }
        assert!(text.contains("q4-scheme"), "{shell}");
    }
    dir.run("completions tcsh").exits(2);
}

#[cfg(unix)]
#[test]
fn bash_accepts_its_completions() {
    let dir = Dir::new();
    dir.write("c.bash", dir.run("completions bash").exits(0).out.as_bytes());
    let bash = std::process::Command::new("bash").arg("-n").arg(dir.at("c.bash")).status();
    assert!(bash.expect("bash is installed").success());
}

#[test]
fn manual_pages_render() {
    let dir = Dir::new();
    let top = dir.run("man").exits(0).out;
    assert!(top.contains(".TH quantoscope 1"), "{top}");
    for verb in VERBS {
        let page = dir.run(&format!("man {verb}")).exits(0).out;
        assert!(page.contains(".SH NAME") && page.contains(".SH OPTIONS") || verb == "man", "{page}");
        assert!(page.contains(&format!("quantoscope\\-{verb}")), "{page}");
        assert!(page.contains("Example"), "{verb}");
    }
    dir.run("man nothing").exits(2);
}
