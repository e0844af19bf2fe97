//! Source files of the workspace, and their code without comments and tests.

use std::path::{Path, PathBuf};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_path_buf()
}

/// A source file.
pub(crate) struct SourceText {
    /// Relative to the root, with `/`.
    pub path: String,
    /// All of it.
    pub text: String,
}

impl SourceText {
    /// Numbered lines of the product code, without comments and `cfg(test)` items.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        // What ends the item that is for tests only; `;` on the item's first line, else a brace at its
        // indentation.
        let (mut test, mut end) = (false, None::<usize>);
        let indent = |l: &str| l.len() - l.trim_start().len();
        let product = self.text.lines().enumerate().filter(move |(_, l)| match end {
            Some(at) => {
                end = (!(indent(l) == at && l.trim_start().starts_with('}'))).then_some(at);
                false
            }
            None if test => {
                // Further attributes belong to the same item.
                test = l.trim_start().starts_with("#[");
                end = (!test && !l.trim_end().ends_with([';', '}'])).then(|| indent(l));
                false
            }
            None => {
                test = l.trim() == "#[cfg(test)]";
                !test
            }
        });
        product.map(|(i, l)| (i + 1, without_comment(l))).filter(|(_, l)| !l.is_empty())
    }
}

/// A line without its comment; slashes in string literals are kept.
fn without_comment(line: &str) -> &str {
    let (mut text, mut escaped) = (false, false);
    for (at, c) in line.char_indices() {
        match c {
            '"' if !escaped && !line[..at].ends_with('\'') => text = !text,
            '/' if !text && line[at..].starts_with("//") => return &line[..at],
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    line
}

/// Every `.rs` file under `folder`.
pub(crate) fn rust(folder: &str) -> Vec<SourceText> {
    let root = root();
    let mut all = Vec::new();
    let mut todo = vec![root.join(folder)];
    while let Some(next) = todo.pop() {
        let Ok(entries) = std::fs::read_dir(&next) else { continue };
        for path in entries.map(|e| e.expect("an entry").path()) {
            let skip = path.file_name().is_some_and(|n| n == "target" || n == "node_modules");
            if path.is_dir() && !skip {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).expect("text");
                let path = path.strip_prefix(&root).expect("inside").to_string_lossy().replace('\\', "/");
                all.push(SourceText { path, text });
            }
        }
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

/// All Rust sources of the workspace.
pub(crate) fn everything() -> Vec<SourceText> {
    ["core", "native-cli", "wasm", "tests", "benches"].iter().flat_map(|f| rust(f)).collect()
}

/// Whether `line` contains `word` as a whole word.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

#[test]
fn source_code_excludes_tests_and_comments() {
    let text = "a\n#[cfg(test)]\nmod x;\nb // no\nlet u = \"http://c\";\n#[cfg(test)]\n#[allow(y)]\nmod tests {\n    d\n}\ne";
    let source = SourceText { path: String::new(), text: text.into() };
    let code: Vec<_> = source.code().collect();
    assert_eq!(code, [(1, "a"), (4, "b "), (5, "let u = \"http://c\";"), (11, "e")]);
}

#[test]
fn has_word_matches_whole_words() {
    assert!(has_word("unsafe { }", "unsafe") && has_word("x(unsafe)", "unsafe"));
    assert!(!has_word("forbid(unsafe_code)", "unsafe") && !has_word("", "unsafe"));
}
