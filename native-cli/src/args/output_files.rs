//! Arguments about the files of an output and the metadata of a GGUF. The names are those of llama.cpp's programs.

use super::parse;
use clap::Args;
use quantoscope::exit::io_error;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::recipe::{GgufOptions, SplitOptions};
use std::path::{Path, PathBuf};

/// Limits of each file of an output.
#[derive(Clone, Copy, Debug, Default, Args)]
#[command(next_help_heading = "Several files")]
pub(crate) struct SplitArgs {
    /// Most bytes of the tensors of a file, such as 2G, 500M or 100K (decimal, as llama.cpp counts them). The
    /// files of a GGUF are called OUT-00001-of-0000N.gguf (OUT without its extension); those of safetensors
    /// have an index beside them.
    #[arg(long, value_name = "SIZE", value_parser = parse::size)]
    pub split_max_size: Option<u64>,
    /// Most tensors of a file.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub split_max_tensors: Option<u64>,
    /// Write the metadata alone into the first file of a GGUF.
    #[arg(long)]
    pub no_tensor_first_split: bool,
}

impl SplitArgs {
    pub(crate) fn resolve(self, keep: bool) -> SplitOptions {
        SplitOptions {
            max_tensors: self.split_max_tensors,
            max_bytes: self.split_max_size,
            no_tensor_first: self.no_tensor_first_split,
            keep,
        }
    }
}

/// Metadata and tensors of a GGUF.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "GGUF output")]
pub(crate) struct GgufArgs {
    /// Set a metadata key, such as llama.context_length=int:8192; can be repeated. Types: int (u32), float
    /// (f32), bool, str, and u8 i8 u16 i16 u32 i32 u64 i64 f32 f64; [TYPE] for an array, with a JSON array as
    /// its value.
    #[arg(long, value_name = "KEY=TYPE:VALUE")]
    pub override_kv: Vec<String>,
    /// The model's name (general.name), for a Hugging Face folder.
    #[arg(long, value_name = "NAME")]
    pub model_name: Option<String>,
    /// A JSON file of general.* keys, which override those of the model card and config.json, for a Hugging
    /// Face folder.
    #[arg(long, value_name = "FILE")]
    pub metadata: Option<PathBuf>,
    /// Write the metadata with the tokenizer, and no tensor.
    #[arg(long)]
    pub vocab_only: bool,
    /// Leave out the layers of a multi-token predictor (MTP, NextN).
    #[arg(long, alias = "no-nextn")]
    pub no_mtp: bool,
    /// Join query, key and value projections into attn_qkv.
    #[arg(long)]
    pub fuse_qkv: bool,
    /// Join the gate and up projections of experts into ffn_gate_up_exps.
    #[arg(long)]
    pub fuse_gate_up_exps: bool,
    /// Not supported: the projector of vision and audio towers. The text model is converted without it.
    #[arg(long, hide = true)]
    pub mmproj: bool,
}

/// Limit of the bytes of a file of metadata.
const MAX_METADATA: u64 = 1 << 24;

impl GgufArgs {
    /// The options; reads the file of metadata.
    pub(crate) fn resolve(&self) -> Result<GgufOptions> {
        if self.mmproj {
            let message = "--mmproj is not supported: vision and audio towers are not converted; without it, the text \
                           model is";
            return Err(Error::new(Code::UnsupportedContainer, message));
        }
        Ok(GgufOptions {
            vocab_only: self.vocab_only,
            no_mtp: self.no_mtp,
            fuse_qkv: self.fuse_qkv,
            fuse_gate_up_exps: self.fuse_gate_up_exps,
            model_name: self.model_name.clone(),
            metadata: self.metadata.as_deref().map(text_of).transpose()?,
            override_kv: self.override_kv.clone(),
            verbatim: false,
        })
    }
}

/// The text of a small file.
fn text_of(path: &Path) -> Result<String> {
    let about = |e: std::io::Error| io_error(&e, format!("cannot read {}", path.display()));
    let meta = std::fs::metadata(path).map_err(about)?;
    if !meta.is_file() || meta.len() > MAX_METADATA {
        let message =
            format!("{} is no file of metadata: at most {MAX_METADATA} bytes of JSON", path.display());
        return Err(Error::new(Code::Usage, message));
    }
    std::fs::read_to_string(path).map_err(about)
}
