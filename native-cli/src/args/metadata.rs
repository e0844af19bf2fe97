//! Arguments of `metadata`.

use clap::{Args, Subcommand};
use quantoscope::exit::io_error;
use quantoscope::options::MetadataOptions;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::format::gguf::MetadataChanges;
use quantoscope_core::recipe::key_value::{KeyValue, check_key};
use quantoscope_core::tensor::MetaValue;
use std::path::PathBuf;

/// Show or change the metadata of a GGUF file.
///
/// Works for every architecture, and changes no tensor. A change is made in place if the tensors stay where they
/// are; else the file is written again and replaces the old one when it is complete. A change that is interrupted
/// leaves the old file, the new one, or a file that no program opens; the next `metadata` command restores it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quantoscope metadata get model.gguf
  quantoscope metadata get model.gguf tokenizer.chat_template > template.jinja
  quantoscope metadata set model.gguf general.name='str:My Model' llama.context_length=int:8192
  quantoscope metadata set model.gguf --text-file tokenizer.chat_template=template.jinja
  quantoscope metadata rm model.gguf general.source.url -o other.gguf")]
pub(crate) struct MetadataArgs {
    #[command(subcommand)]
    pub what: MetadataVerb,
}

/// What is done with the metadata.
#[derive(Debug, Subcommand)]
pub(crate) enum MetadataVerb {
    Get(MetadataGetArgs),
    Set(MetadataSetArgs),
    Rm(MetadataRmArgs),
}

impl MetadataVerb {
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            MetadataVerb::Get(a) => a.json,
            MetadataVerb::Set(a) => a.write.json,
            MetadataVerb::Rm(a) => a.write.json,
        }
    }
}

/// Print metadata: all keys in short, or the values of the named keys in full.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  quantoscope metadata get model.gguf general.name general.architecture")]
pub(crate) struct MetadataGetArgs {
    /// A .gguf file.
    pub file: PathBuf,
    /// Keys; one alone prints its value without the key.
    pub keys: Vec<String>,
    /// Print types and values as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Set keys. A key that is there keeps its place, a new one comes last.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  quantoscope metadata set model.gguf llama.rope.freq_base=float:1e6")]
pub(crate) struct MetadataSetArgs {
    /// A .gguf file; of a split, its first file.
    pub file: PathBuf,
    /// Keys and their values. Types: int (u32), float (f32), bool, str, and u8 i8 u16 i16 u32 i32 u64 i64 f32
    /// f64; [TYPE] for an array, with a JSON array as its value.
    #[arg(value_name = "KEY=TYPE:VALUE", required_unless_present = "text_files")]
    pub values: Vec<String>,
    /// Set a key to the text of a file; can be repeated.
    #[arg(long = "text-file", value_name = "KEY=FILE")]
    pub text_files: Vec<String>,
    #[command(flatten)]
    pub write: MetadataWriteArgs,
}

/// Remove keys.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  quantoscope metadata rm model.gguf general.source.url")]
pub(crate) struct MetadataRmArgs {
    /// A .gguf file; of a split, its first file.
    pub file: PathBuf,
    /// Keys.
    #[arg(required = true)]
    pub keys: Vec<String>,
    #[command(flatten)]
    pub write: MetadataWriteArgs,
}

/// How a change is written.
#[derive(Debug, Args)]
pub(crate) struct MetadataWriteArgs {
    /// Write another file, and leave FILE as it is.
    #[arg(short, long, value_name = "OUT")]
    pub output: Option<PathBuf>,
    /// Replace an existing OUT.
    #[arg(long, requires = "output")]
    pub force: bool,
    /// Print what would change, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Print the changes as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Limit of a text file in bytes.
const MAX_TEXT: u64 = 1 << 26;

impl MetadataSetArgs {
    pub(crate) fn resolve(self) -> Result<MetadataOptions> {
        let mut set = Vec::with_capacity(self.values.len() + self.text_files.len());
        for text in &self.values {
            let KeyValue { key, value } = KeyValue::parse(text)?;
            set.push((key, value));
        }
        for text in &self.text_files {
            set.push(text_file(text)?);
        }
        Ok(self.write.options(self.file, MetadataChanges { set, remove: Vec::new() }))
    }
}

impl MetadataRmArgs {
    pub(crate) fn resolve(self) -> Result<MetadataOptions> {
        self.keys.iter().try_for_each(|key| check_key(key))?;
        Ok(self.write.options(self.file, MetadataChanges { set: Vec::new(), remove: self.keys }))
    }
}

impl MetadataWriteArgs {
    fn options(self, input: PathBuf, changes: MetadataChanges) -> MetadataOptions {
        let MetadataWriteArgs { output, force, dry_run, .. } = self;
        MetadataOptions { input, output, changes, force, dry_run }
    }
}

/// `KEY=FILE`: the key and the text of the file.
fn text_file(text: &str) -> Result<(String, MetaValue)> {
    let (key, path) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
        Error::new(Code::Usage, format!("{text:?} is not KEY=FILE, such as tokenizer.chat_template=x.jinja"))
    })?;
    check_key(key)?;
    let about = |e: std::io::Error| io_error(&e, format!("cannot read {path}"));
    let meta = std::fs::metadata(path).map_err(about)?;
    if !meta.is_file() || meta.len() > MAX_TEXT {
        return Err(Error::new(Code::Usage, format!("{path} is no text file of at most {MAX_TEXT} bytes")));
    }
    Ok((key.into(), MetaValue::String(std::fs::read_to_string(path).map_err(about)?)))
}
