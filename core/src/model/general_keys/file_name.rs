//! The name of an output in a folder.

use alloc::string::String;

/// The parts of a file name; empty parts count as absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileNameParts<'a> {
    /// `general.name`.
    pub name: Option<&'a str>,
    /// `general.basename`, which stands in for the name.
    pub basename: Option<&'a str>,
    /// `general.finetune`.
    pub finetune: Option<&'a str>,
    /// `general.version`.
    pub version: Option<&'a str>,
    /// `general.size_label`.
    pub size_label: Option<&'a str>,
    /// The type, such as `Q8_0`.
    pub kind: Option<&'a str>,
    /// `vocab`, where only the vocabulary is written: size and type are left out then.
    pub vocabulary_only: bool,
}

/// The name without `.gguf`: `{basename or name}-{size}-{finetune}-{version}-{TYPE}`.
pub fn file_stem(names: &FileNameParts<'_>) -> String {
    let dashed = |text: &str| text.trim().replace([' ', '/'], "-");
    let present = |part: Option<&str>| part.filter(|p| !p.is_empty()).map(dashed);
    let first = present(names.basename).or_else(|| present(names.name));
    let mut stem = first.unwrap_or_else(|| "ggml-model".into());
    let with_size = |part: Option<&'_ str>| if names.vocabulary_only { None } else { present(part) };
    let kind = with_size(names.kind).map(|kind| kind.to_uppercase());
    let last = names.vocabulary_only.then(|| "vocab".into());
    for part in [with_size(names.size_label), present(names.finetune), present(names.version), kind, last]
        .into_iter()
        .flatten()
    {
        stem.push('-');
        stem.push_str(&part);
    }
    stem
}
