//! Arguments of recipes: container, types, presets, rotation.

use super::output_files::{GgufArgs, SplitArgs};
use super::{ImatrixArgs, parse};
use clap::{Args, ValueEnum};
use quantoscope::options::EquivalenceOptions;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::plan::target;
use quantoscope_core::recipe::presets::Preset;
use quantoscope_core::recipe::rotation::RotationOptions;
use quantoscope_core::recipe::{
    MlxMixed, Override, Q4Scheme, Recipe, SplitOptions, TargetName, TensorNaming, can_target, mixed_names,
};
use quantoscope_core::{DType, model_equivalence};
use std::path::Path;

/// Types and container.
#[derive(Debug, Args)]
pub(crate) struct RecipeArgs {
    /// The container to write: gguf, safetensors, hf (a folder for transformers; of a GGUF, with its configuration and
    /// tokenizer, in the float type of the file or in that of --type), mlx (a folder for mlx-lm), or q4 (a directory of
    /// lattice blocks) [default: by the extension of OUT; gguf for `plan`].
    #[arg(long, value_name = "CONTAINER")]
    pub to: Option<TargetArg>,
    #[arg(long = "type", value_name = "TYPE", value_parser = parse::dtype, help = type_help())]
    pub dtype: Option<DType>,
    #[arg(long, value_name = "NAME", value_parser = parse::preset, conflicts_with = "dtype", help = preset_help())]
    pub recipe: Option<RecipeName>,
    /// The type of the tensors that a pattern matches, such as attn_v=q6_k, 'blk.1?.ffn_*=q8_0' or
    /// 'blk\.([0-9]|1[0-3])\.attn_v=q5_k'; can be repeated, the first match wins. A pattern is a glob,
    /// compared with a whole name or any run of its parts between dots, or a regular expression, as
    /// llama-quantize takes them: what holds \. or one of ( ) | ^ $ + is one, and what stands between slashes.
    /// The name can be that in the input or that in GGUF. Globs: * any characters, ? one character, [0-3] one
    /// of a class, {q,k} alternatives. Upper and lower case are equal. A pattern that matches nothing is an
    /// error.
    #[arg(long = "tensor-type", value_name = "PATTERN=TYPE", value_parser = parse::type_override)]
    pub overrides: Vec<Override>,
    /// Fail not, but warn, if a --tensor-type finds no tensor or does not fit one.
    #[arg(long, requires = "overrides")]
    pub lenient: bool,
    /// Write only the tensors that a pattern matches; can be repeated.
    #[arg(long, value_name = "PATTERN")]
    pub include: Vec<String>,
    /// Leave out the tensors that a pattern matches, such as 'vision_tower.*'; can be repeated.
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// The type of the output head, and of token embeddings if they are tied to it.
    #[arg(long, value_name = "TYPE", value_parser = parse::dtype)]
    pub output_tensor_type: Option<DType>,
    /// The type of token embeddings.
    #[arg(long, value_name = "TYPE", value_parser = parse::dtype)]
    pub token_embedding_type: Option<DType>,
    /// Copy the output head unchanged.
    #[arg(long, conflicts_with = "output_tensor_type")]
    pub leave_output_tensor: bool,
    #[command(flatten)]
    pub weights: ImatrixArgs,
    /// The block form for --to q4: asym (scale and minimum) or sym (scale only).
    #[arg(long, value_name = "SCHEME", default_value = "asym")]
    pub q4_scheme: SchemeArg,
    /// Quantize embeddings and the output head to --type too. With --recipe, use its base type for all
    /// weights.
    #[arg(long)]
    pub pure: bool,
    /// Decode tensors that are already quantized and quantize them again. This loses quality.
    #[arg(long)]
    pub allow_requantize: bool,
    /// Copy NaN and infinities in tensors that are written as floats (F32, F16, BF16, copies of any float
    /// type), with a warning per tensor, instead of failing. Quantized blocks and the .f16 files of --to q4
    /// can hold neither.
    #[arg(long)]
    pub allow_nonfinite: bool,
    /// The tensors of a GGUF that is made of a Hugging Face folder: gguf (names and values as engines load them), source
    /// (names and values of the folder; for any architecture, and no engine loads the file) or auto (gguf if the folder
    /// has a tokenizer). Of a folder that is made of a GGUF: auto gives the names and values of transformers, source those
    /// of the GGUF.
    #[arg(long, value_name = "NAMES", default_value = "auto")]
    pub names: NamesArg,
    /// Write the GGUF exactly as this program does, without the keys that only Quantoscope writes.
    #[arg(long, value_name = "PROGRAM")]
    pub compat: Option<CompatArg>,
    /// The name of the tokenizer's pre-tokenizer (tokenizer.ggml.pre), where it cannot be determined from the files.
    #[arg(long, value_name = "NAME")]
    pub pre_tokenizer: Option<String>,
    /// Keep the files of the input: each tensor of a GGUF split, or of safetensors shards, stays in the file of
    /// its number.
    #[arg(long, help_heading = "Several files")]
    pub keep_split: bool,
    #[command(flatten)]
    pub gguf: GgufArgs,
    #[command(flatten)]
    pub split: SplitArgs,
}

/// What `--recipe` names.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RecipeName {
    /// The precision of the source.
    Auto,
    /// A preset.
    Preset(Preset),
    /// A mixed recipe of mlx-lm.
    Mixed(MlxMixed),
}

impl RecipeName {
    fn preset(self) -> Option<Preset> {
        match self {
            RecipeName::Auto | RecipeName::Mixed(_) => None,
            RecipeName::Preset(preset) => Some(preset),
        }
    }

    fn mixed(self) -> Option<MlxMixed> {
        match self {
            RecipeName::Mixed(mixed) => Some(mixed),
            RecipeName::Auto | RecipeName::Preset(_) => None,
        }
    }
}

/// Tensor names of a GGUF.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum NamesArg {
    Auto,
    Gguf,
    Source,
}

impl From<NamesArg> for TensorNaming {
    fn from(names: NamesArg) -> TensorNaming {
        match names {
            NamesArg::Auto => TensorNaming::Auto,
            NamesArg::Gguf => TensorNaming::Gguf,
            NamesArg::Source => TensorNaming::Source,
        }
    }
}

/// Programs whose files can be written byte for byte.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum CompatArg {
    #[value(name = "llama.cpp")]
    LlamaCpp,
}

impl RecipeArgs {
    /// The recipe, with the container that the output's name implies.
    pub(crate) fn resolve(&self, rotation: &RotationArgs, output: Option<&Path>) -> Result<Recipe> {
        let split = self.split.resolve(self.keep_split);
        let recipe = Recipe {
            gguf: self.gguf.resolve()?,
            split,
            preset: self.recipe.and_then(RecipeName::preset),
            mixed: self.recipe.and_then(RecipeName::mixed),
            names: self.names.into(),
            compat: self.compat.is_some(),
            pre_tokenizer: self.pre_tokenizer.clone(),
            overrides: self.overrides.clone(),
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            lenient: self.lenient,
            output_type: self.output_tensor_type,
            embedding_type: self.token_embedding_type,
            leave_output: self.leave_output_tensor,
            q4_scheme: self.q4_scheme.into(),
            pure: self.pure,
            allow_requantize: self.allow_requantize,
            allow_nonfinite: self.allow_nonfinite,
            rotate: rotation.resolve()?,
            ..Recipe::new(container(self.to, output, &split)?, self.dtype)
        };
        target::check(&recipe)?;
        Ok(recipe)
    }
}

/// The target. Shards of safetensors are a folder, unless the output is called *.safetensors.
fn container(typed: Option<TargetArg>, output: Option<&Path>, split: &SplitOptions) -> Result<TargetName> {
    let extension = output.map(|o| o.extension().and_then(|e| e.to_str()).unwrap_or(""));
    match (typed, extension) {
        (Some(TargetArg::Gguf), _) | (None, None) => Ok(TargetName::Gguf),
        (Some(TargetArg::Hf), _) => Ok(TargetName::HfFolder),
        (Some(TargetArg::Mlx), _) => Ok(TargetName::Mlx),
        (Some(TargetArg::Q4), _) => Ok(TargetName::Lattice),
        (Some(TargetArg::Safetensors), extension) => {
            let is_file = extension.is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
            let folder = !split.is_none() && !is_file;
            Ok(if folder { TargetName::HfFolder } else { TargetName::Safetensors })
        }
        (None, Some(e)) if e.eq_ignore_ascii_case("gguf") => Ok(TargetName::Gguf),
        (None, Some(e)) if e.eq_ignore_ascii_case("safetensors") => Ok(TargetName::Safetensors),
        (None, Some(_)) => {
            let message =
                "the output's name does not say its container; give --to gguf, hf, mlx, q4 or safetensors";
            Err(Error::new(Code::Usage, message))
        }
    }
}

/// A rotation before quantization.
#[derive(Debug, Args)]
#[command(next_help_heading = "Rotation")]
pub(crate) struct RotationArgs {
    /// Rotate the weights first, which spreads outliers: quarot (the residual stream, called R1 in SpinQuant),
    /// block:N (the residual stream in blocks of N channels), r2 (the values of each attention head),
    /// quarot,r2 (both), or fold (fold the norm gains only, for comparison). Whether the quantized model gains
    /// depends on the model, and lower weight errors do not show it: measure its outputs. Norm gains are
    /// folded into the weights, and a tied output head is written as a tensor of its own. Needs config.json
    /// of a supported model family; refused if the rotated model would compute something else. With auto, the model is
    /// run on --tokens tokens, quantized with quarot and without: the smaller KL divergence decides.
    #[arg(long = "rotate", value_name = "WHAT")]
    pub what: Option<String>,
    /// The seed of the rotation's signs, decimal or 0x hexadecimal.
    #[arg(long, value_name = "SEED", default_value = "0xC0FFEE", value_parser = parse::seed)]
    pub seed: u64,
}

impl RotationArgs {
    fn resolve(&self) -> Result<Option<RotationOptions>> {
        self.what
            .as_ref()
            .filter(|what| *what != AUTO)
            .map(|what| RotationOptions::parse(what, self.seed))
            .transpose()
    }
}

/// The word that leaves a rotation to the model's output.
const AUTO: &str = "auto";

impl RotationArgs {
    /// The rotation that is compared with none, if the model's output is to decide.
    pub(crate) fn auto(&self) -> Result<Option<RotationOptions>> {
        let auto = self.what.as_ref().is_some_and(|what| what == AUTO);
        auto.then(|| RotationOptions::parse("quarot", self.seed)).transpose()
    }
}

/// The comparison of a rotated model with its source, before it is written.
#[derive(Debug, Args)]
#[command(next_help_heading = "Check of a rotated model")]
pub(crate) struct EquivalenceArgs {
    /// Tokens on which the source and the rotated model must compute the same logits.
    #[arg(long, value_name = "N", default_value_t = model_equivalence::TOKENS, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub probe_tokens: u32,
    /// Allowed difference of logits, as a share of the largest logit (or of 1, if that is more).
    #[arg(long, value_name = "SHARE", default_value_t = model_equivalence::TOLERANCE, value_parser = parse::tolerance)]
    pub tolerance: f64,
    /// Write the rotated model of a family whose forward pass is not supported. The rotation of every tile is
    /// verified all the same.
    #[arg(long)]
    pub allow_unprobed: bool,
}

impl EquivalenceArgs {
    pub(crate) fn resolve(&self) -> EquivalenceOptions {
        let EquivalenceArgs { probe_tokens, tolerance, allow_unprobed } = *self;
        EquivalenceOptions { probe_tokens, tolerance, allow_unprobed }
    }
}

/// A container, as typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum TargetArg {
    Gguf,
    Hf,
    Mlx,
    Q4,
    Safetensors,
}

/// A lattice block form, as typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SchemeArg {
    Asym,
    Sym,
}

impl From<SchemeArg> for Q4Scheme {
    fn from(s: SchemeArg) -> Q4Scheme {
        match s {
            SchemeArg::Asym => Q4Scheme::Asym,
            SchemeArg::Sym => Q4Scheme::Sym,
        }
    }
}

/// Help with the name of every type that can be written.
fn type_help() -> String {
    let all = DType::ALL.iter().filter(|d| can_target(**d));
    let names: Vec<String> = all.map(|d| d.name().to_ascii_lowercase()).collect();
    format!(
        "The type of all eligible tensors, in any case: {}; for --to mlx, also mlx_q2, mlx_q3, mlx_q4, mlx_q5, mlx_q6 and \
         mlx_q8 with groups of 64 weights, or with others: mlx_q4_g32, mlx_q4_g128",
        names.join(", ")
    )
}

/// Help with the name of every preset.
fn preset_help() -> String {
    let names: Vec<&str> = Preset::ALL.iter().map(|m| m.name()).collect();
    format!(
        "A preset (ftype) of llama-quantize: each tensor gets the type that llama-quantize chooses under this name, in any \
         case: {}; for --to mlx a recipe of mlx-lm: {}; or auto: the precision of the input [default for gguf]",
        names.join(", "),
        mixed_names()
    )
}
