//! Arguments of measurements of a model's output, and of types that are chosen for a size.

use super::{AprArgs, FormatArgs, JournalArgs, ResourceArgs, parse};
use clap::{Args, ValueEnum};
use quantoscope::options::{
    CalibrationOptions, CalibrationTokens, DamageSource, MeasureGrouping, ResourceOptions,
    SensitivityOptions, TargetOptions,
};
use quantoscope::render::Format;
use quantoscope_core::DType;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::sensitivity::fit::SizeLimit;
use quantoscope_core::sensitivity::tokens::SEED;
use quantoscope_core::sensitivity::units::BASE;
use std::path::PathBuf;

/// Default number of predicted tokens.
const TOKENS: u64 = 64;

/// Measure what quantizing each tensor alone does to the model's output.
///
/// Runs the model on a few tokens, and once more with each tensor alone at the base type: the KL divergence of the
/// outputs is the sensitivity of the model to that tensor. All variants advance through the layers together. Prints
/// the divergence, the rank, and for each type the squared error of the weights and the divergence that it predicts.
/// Weight errors alone do not say which tensor matters. The JSON is what `quantize --sensitivity` takes.
///
/// Tensors are those of the GGUF that `quantize` would write. Where measuring each would need more than about 200
/// TFLOP, those of one kind in a third of the depth are measured together (--per decides otherwise).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quantoscope sensitivity my-model/ --text notes.txt
  quantoscope sensitivity my-model/ --json > sensitivity.json
  quantoscope quantize my-model/ -o out.gguf --target-size 1.5GiB --sensitivity sensitivity.json")]
pub(crate) struct SensitivityArgs {
    /// A file or directory.
    pub input: PathBuf,
    #[command(flatten)]
    pub tokens: CalibrationArgs,
    /// The type that tensors are encoded as, one at a time.
    #[arg(long = "type", value_name = "BASE", default_value_t = BASE, value_parser = parse::dtype)]
    pub base: DType,
    /// The types whose damage is predicted, separated by commas [default: those that --target-size chooses from].
    #[arg(long, value_name = "TYPES", value_delimiter = ',', value_parser = parse::dtype)]
    pub types: Vec<DType>,
    /// Measure tensors that are quantized already too.
    #[arg(long)]
    pub allow_requantize: bool,
    #[command(flatten)]
    pub format: FormatArgs,
    #[command(flatten)]
    pub apr: AprArgs,
    #[command(flatten)]
    pub progress: JournalArgs,
    #[command(flatten)]
    pub work: ResourceArgs,
}

/// The tokens on which a model's output is measured.
#[derive(Debug, Args)]
#[command(next_help_heading = "Measurement of the model's output")]
pub(crate) struct CalibrationArgs {
    /// Measure on this UTF-8 text [default: seeded token ids].
    #[arg(long, value_name = "FILE", conflicts_with = "ids")]
    pub text: Option<PathBuf>,
    /// Measure on these token ids: decimal numbers, or binary ones as `eval` reads them.
    #[arg(long, value_name = "FILE")]
    pub ids: Option<PathBuf>,
    /// Tokens to predict, in one window.
    #[arg(long, value_name = "N", default_value_t = TOKENS, value_parser = clap::value_parser!(u64).range(1..=1 << 16))]
    pub tokens: u64,
    /// The seed of token ids where neither a text nor ids are given.
    #[arg(long, value_name = "SEED", default_value_t = SEED, value_parser = parse::seed)]
    pub token_seed: u64,
    /// Measure each tensor, or the tensors of a kind in a third of the depth together [default: group above about
    /// 200 TFLOP].
    #[arg(long, value_name = "WHAT")]
    pub per: Option<PerArg>,
}

/// What is measured as one, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PerArg {
    Tensor,
    Group,
}

impl CalibrationArgs {
    pub(crate) fn resolve(&self, base: DType) -> CalibrationOptions {
        let tokens = match (&self.text, &self.ids) {
            (Some(text), _) => CalibrationTokens::Text(text.clone()),
            (None, Some(ids)) => CalibrationTokens::Ids(ids.clone()),
            (None, None) => CalibrationTokens::Seeded(self.token_seed),
        };
        let grouping = match self.per {
            None => MeasureGrouping::Auto,
            Some(PerArg::Tensor) => MeasureGrouping::Tensor,
            Some(PerArg::Group) => MeasureGrouping::Group,
        };
        let count = usize::try_from(self.tokens).unwrap_or(usize::MAX);
        CalibrationOptions { tokens, count, base, grouping }
    }
}

impl CalibrationArgs {
    /// Refuses options of a measurement where a target size is none, or takes its damage from elsewhere.
    pub(crate) fn refuse_unmeasured(&self, target: Option<&TargetOptions>, needed: &str) -> Result<()> {
        match target {
            None => self.refuse_unused(needed),
            Some(target) if target.damage != DamageSource::Measured && !target.check => self.refuse_unused(
                "a measurement: leave out --sensitivity and --no-sensitivity, or give --check",
            ),
            Some(_) => Ok(()),
        }
    }

    /// Refuses `--per` where all tensors are quantized together.
    pub(crate) fn refuse_grouping(&self) -> Result<()> {
        if self.per.is_none() {
            return Ok(());
        }
        Err(Error::new(Code::Usage, "--per is of sensitivities, and all tensors are quantized together here"))
    }

    /// Refuses options of a measurement where nothing is measured.
    pub(crate) fn refuse_unused(&self, needed: &str) -> Result<()> {
        let typed = [
            ("--text", self.text.is_some()),
            ("--ids", self.ids.is_some()),
            ("--tokens", self.tokens != TOKENS),
            ("--token-seed", self.token_seed != SEED),
            ("--per", self.per.is_some()),
        ];
        match typed.iter().find(|(_, typed)| *typed) {
            Some((option, _)) => {
                let message = format!("{option} needs {needed}");
                Err(Error::new(Code::Usage, message))
            }
            None => Ok(()),
        }
    }
}

impl SensitivityArgs {
    pub(crate) fn resolve(self) -> Result<(SensitivityOptions, Format)> {
        let format = self.format.resolve();
        let options = SensitivityOptions {
            input: self.apr.model(self.input),
            types: self.types,
            allow_requantize: self.allow_requantize,
            calibration: self.tokens.resolve(self.base),
            journal: self.progress.journal,
            resources: self.work.resolve(format == Format::Table),
        };
        Ok((options, format))
    }
}

/// A size, and how types are chosen for it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Types for a size")]
pub(crate) struct TargetArgs {
    /// Choose a type for each tensor, so that all files together have at most this size, such as 4.2GiB, and the
    /// model's output changes least. In place of --type and --recipe; GGUF only.
    ///
    /// The damage of a type to a tensor is the KL divergence that the tensor alone causes at a base type, scaled by
    /// the squared error of its weights: measured on the way on --tokens tokens, or read from --sensitivity.
    #[arg(long, value_name = "SIZE", value_parser = parse::size, conflicts_with_all = ["dtype", "recipe"])]
    pub target_size: Option<u64>,
    /// The same for the stored bits of all tensors per weight, such as 4.25.
    #[arg(long, value_name = "BITS", value_parser = parse::bits, conflicts_with_all = ["dtype", "recipe", "target_size"])]
    pub target_bpw: Option<f64>,
    /// The types to choose from, separated by commas [default: of rows that divide by 256, q2_k, q3_k, iq4_xs, q4_k,
    /// q5_k, q6_k and q8_0; of others, mxfp4, iq4_nl, q5_0, q5_1 and q8_0; and the type of the source]. A tensor whose rows
    /// are no whole blocks of any of them gets one of the default types.
    #[arg(long, value_name = "TYPES", value_delimiter = ',', value_parser = parse::dtype)]
    pub types: Vec<DType>,
    /// Take the sensitivities from this file, which `sensitivity --json` wrote, instead of measuring.
    #[arg(long, value_name = "FILE", conflicts_with = "no_sensitivity")]
    pub sensitivity: Option<PathBuf>,
    /// Measure no output of the model: choose by relative weight errors times size. A guess, for models without a
    /// forward pass.
    #[arg(long)]
    pub no_sensitivity: bool,
    /// Measure the KL divergence of the result from its source too, on the tokens that the options below name.
    #[arg(long)]
    pub check: bool,
}

impl TargetArgs {
    /// The options; `None` where no size is given. `any` stands for a size where none is needed.
    pub(crate) fn resolve(
        &self,
        tokens: &CalibrationArgs,
        resources: ResourceOptions,
        any: Option<SizeLimit>,
    ) -> Result<Option<TargetOptions>> {
        let bytes = self.target_size.map(SizeLimit::Bytes);
        let Some(limit) = bytes.or(self.target_bpw.map(SizeLimit::BitsPerWeight)).or(any) else {
            let typed = [
                ("--types", !self.types.is_empty()),
                ("--sensitivity", self.sensitivity.is_some()),
                ("--no-sensitivity", self.no_sensitivity),
                ("--check", self.check),
            ];
            return match typed.iter().find(|(_, typed)| *typed) {
                Some((option, _)) => {
                    let message = format!("{option} needs --target-size or --target-bpw");
                    Err(Error::new(Code::Usage, message))
                }
                None => Ok(None),
            };
        };
        let damage = match &self.sensitivity {
            Some(path) => DamageSource::File(path.clone()),
            None if self.no_sensitivity => DamageSource::Heuristic,
            None => DamageSource::Measured,
        };
        Ok(Some(TargetOptions {
            limit,
            types: self.types.clone(),
            damage,
            calibration: tokens.resolve(BASE),
            check: self.check,
            resources,
        }))
    }
}
