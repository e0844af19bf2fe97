//! The tables of `tests/README.md` name files that exist.

use crate::sources::root;

/// `a/{b,c}.rs` as `a/b.rs` and `a/c.rs`.
fn expanded(path: &str) -> Vec<String> {
    match path
        .split_once('{')
        .and_then(|(before, rest)| rest.split_once('}').map(|(in_, after)| (before, in_, after)))
    {
        Some((before, names, after)) => names.split(',').map(|n| [before, n, after].concat()).collect(),
        None => vec![path.to_string()],
    }
}

#[test]
fn tests_readme_names_existing_files() {
    let readme = std::fs::read_to_string(root().join("tests/README.md")).expect("the README");
    let quoted = readme.split('`').skip(1).step_by(2).filter(|t| t.ends_with(".rs") && !t.contains('*'));
    let paths: Vec<String> = quoted.flat_map(expanded).collect();
    assert!(paths.len() > 60, "{} paths", paths.len());
    for path in paths {
        let found = ["", "tests/", "core/src/", "native-cli/src/"]
            .iter()
            .any(|f| root().join(f).join(&path).is_file());
        assert!(found, "tests/README.md names {path}, which does not exist");
    }
}
