//! Arguments of the commands that change the files of a model, not its values: `split`, `merge`.

use super::ResourceArgs;
use super::output_files::SplitArgs;
use clap::Args;
use quantoscope::options::{FilesOptions, OutputOptions};
use quantoscope::render::conversion::{ConversionFormat, ConversionPrinter};
use quantoscope_core::recipe::SplitOptions;
use std::path::PathBuf;

/// Write a model as several files.
///
/// A GGUF becomes a GGUF split: OUT-00001-of-0000N.gguf and so on, where OUT is written without its extension.
/// The first file holds the metadata; engines open it and find the others by their names. Safetensors become
/// shards with their index: a folder, or files beside each other if OUT ends with .safetensors. Tensors and
/// metadata stay as they are.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quantoscope split model.gguf -o model.gguf --split-max-size 2G
  quantoscope split model.gguf -o part --split-max-tensors 64 --no-tensor-first-split
  quantoscope split model.safetensors -o model-sharded/ --split-max-size 5G")]
pub(crate) struct SplitVerbArgs {
    #[command(flatten)]
    pub files: FilesArgs,
    #[command(flatten)]
    pub split: SplitArgs,
    #[command(flatten)]
    pub work: ResourceArgs,
}

impl SplitVerbArgs {
    pub(crate) fn resolve(self) -> (FilesOptions, ConversionPrinter) {
        self.files.resolve(self.split.resolve(false), self.work)
    }
}

/// Write the files of a model as one file.
///
/// INPUT is any file of a GGUF split or of a set of safetensors shards, or their folder. Tensors and metadata
/// stay as they are; the keys of the split are dropped.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quantoscope merge model-00001-of-00003.gguf -o model.gguf
  quantoscope merge my-model/ -o model.safetensors")]
pub(crate) struct MergeArgs {
    #[command(flatten)]
    pub files: FilesArgs,
    #[command(flatten)]
    pub work: ResourceArgs,
}

impl MergeArgs {
    pub(crate) fn resolve(self) -> (FilesOptions, ConversionPrinter) {
        self.files.resolve(SplitOptions::default(), self.work)
    }
}

/// Input and output of both.
#[derive(Debug, Args)]
pub(crate) struct FilesArgs {
    /// A .gguf or .safetensors file, or a directory that holds one model.
    pub input: PathBuf,
    /// The output.
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// Print the plan and stop. Reads headers only, writes nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Replace existing files.
    #[arg(long)]
    pub force: bool,
    /// Continue an interrupted run. If this run is interrupted, keep the partial output.
    #[arg(long, conflicts_with = "dry_run")]
    pub resume: bool,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

impl FilesArgs {
    fn resolve(self, split: SplitOptions, work: ResourceArgs) -> (FilesOptions, ConversionPrinter) {
        let printer = ConversionPrinter {
            format: if self.json { ConversionFormat::Json } else { ConversionFormat::Text },
            input: self.input.clone(),
            output: self.output.clone(),
            dry_run: self.dry_run,
        };
        let options = FilesOptions {
            input: self.input.into(),
            output: OutputOptions {
                path: self.output,
                dry_run: self.dry_run,
                force: self.force,
                resume: self.resume,
            },
            split,
            resources: work.resolve(!self.json),
        };
        (options, printer)
    }
}
