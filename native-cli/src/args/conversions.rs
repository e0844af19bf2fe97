//! Arguments of the commands that plan or write a model: `plan`, `quantize`, `rotate`.

use super::recipe::{EquivalenceArgs, RecipeArgs, RotationArgs};
use super::target::{CalibrationArgs, TargetArgs};
use super::{AprArgs, ResourceArgs, parse};
use clap::Args;
use quantoscope::options::{
    AdapterOptions, AutoRotation, OutputOptions, PlanOptions, QuantizeOptions, RotateOptions, TargetOptions,
};
use quantoscope::render::conversion::{ConversionFormat, ConversionPrinter};
use quantoscope_core::DType;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::recipe::rotation::{RotationOptions, SEED};
use quantoscope_core::sensitivity::fit::SizeLimit;
use quantoscope_core::sensitivity::units::BASE;
use std::path::PathBuf;

/// Write a quantized model.
///
/// With --type, every weight matrix whose rows are a multiple of the block size gets that type. Norms,
/// biases, other vectors, routers, positional tables, convolution kernels, embeddings and the output head
/// keep their type. With --recipe, each tensor gets the type that llama-quantize would choose, embeddings and
/// output head included. With --target-size, the types are chosen so that the output fits and the model's output
/// changes least. --dry-run prints the type of every tensor, the reason, and the exact size of the output; it
/// reads headers only, unless something is measured for --target-size or --rotate auto.
///
/// The output gets its name when it is complete. Until then it is called OUT.partial.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quantoscope quantize model.safetensors -o model-q4.gguf --type q4_0
  quantoscope quantize my-model/ -o model-q4_k_m.gguf --recipe q4_k_m
  quantoscope quantize my-model/ -o out.gguf --recipe q4_k_m --tensor-type attn_v=q8_0
  quantoscope quantize my-model/ -o out.gguf --recipe iq3_m --imatrix imatrix.gguf
  quantoscope quantize my-model/ -o my-model-q4/ --to q4 --dry-run
  quantoscope quantize big.gguf -o big-q8.gguf --type q8_0 --pure --threads 8
  quantoscope quantize my-model/ -o rotated-q4.gguf --type q4_1 --rotate quarot
  quantoscope quantize my-model/ -o out.gguf --target-size 1.5GiB --text notes.txt

Lossless, from lattice blocks:
  quantoscope quantize model-q4/ -o model.gguf --type q4_1

Continue after an interruption:
  quantoscope quantize model.gguf -o out.gguf --type q8_0 --resume")]
pub(crate) struct QuantizeArgs {
    /// A .safetensors, .gguf, .apr, .q4 or .f16 file, or a directory that holds one model.
    pub input: PathBuf,
    /// The file to write; a directory for --to q4.
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Print the plan and stop. Reads headers only, writes nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not measure the quantization error (faster).
    #[arg(long)]
    pub no_measure: bool,
    /// Replace an existing output.
    #[arg(long)]
    pub force: bool,
    /// Continue an interrupted run. If this run is interrupted, keep the partial output.
    #[arg(long, conflicts_with = "dry_run")]
    pub resume: bool,
    /// Print one JSON event per line.
    #[arg(long, conflicts_with = "json")]
    pub events: bool,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub tokens: CalibrationArgs,
    #[command(flatten)]
    pub rotation: RotationArgs,
    #[command(flatten)]
    pub gate: EquivalenceArgs,
    #[command(flatten)]
    pub apr: AprArgs,
    #[command(flatten)]
    pub work: ResourceArgs,
}

impl QuantizeArgs {
    pub(crate) fn resolve(self) -> Result<(QuantizeOptions, ConversionPrinter)> {
        let recipe = self.recipe.resolve(&self.rotation, Some(&self.output))?;
        let format = match (self.json, self.events) {
            (true, _) => ConversionFormat::Json,
            (_, true) => ConversionFormat::Events,
            _ => ConversionFormat::Text,
        };
        let printer = ConversionPrinter {
            format,
            input: self.input.clone(),
            output: self.output.clone(),
            dry_run: self.dry_run,
        };
        let resources = self.work.resolve(format == ConversionFormat::Text);
        let target = self.target.resolve(&self.tokens, resources.clone(), None)?;
        let auto_rotation = self
            .rotation
            .auto()?
            .map(|rotation| AutoRotation { rotation, calibration: self.tokens.resolve(BASE) });
        if auto_rotation.is_none() {
            self.tokens.refuse_unmeasured(target.as_ref(), "--target-size, --target-bpw or --rotate auto")?;
        }
        if target.is_none() {
            self.tokens.refuse_grouping()?;
        }
        refuse_importance(&self.recipe, target.as_ref(), auto_rotation.is_some())?;
        let options = QuantizeOptions {
            input: self.apr.model(self.input),
            output: OutputOptions {
                path: self.output,
                dry_run: self.dry_run,
                force: self.force,
                resume: self.resume,
            },
            recipe,
            imatrix: self.recipe.weights.imatrix,
            target,
            auto_rotation,
            measure: !self.no_measure,
            equivalence: self.gate.resolve(),
            resources,
        };
        Ok((options, printer))
    }
}

/// Write a rotated model, which computes the same function with other weights.
///
/// OUT is a directory in Hugging Face's layout with model.safetensors, config.json (output head untied) and
/// the unchanged tokenizer, which transformers loads without a patch. Rules per model family determine which
/// tensors are rotated, on which side, and which norm gains are folded. A tensor without a rule, or a
/// rotation that is not exact, is refused. Every rotated tile is verified with Freivalds' check, and before
/// anything is written, the rotated model and its source must compute the same logits on a few tokens.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quantoscope rotate my-model/ -o my-model-rotated/
  quantoscope rotate my-model/ -o my-model-rotated/ --rotate quarot,r2 --seed 42 --type f32
  quantoscope rotate my-model/ -o my-model-rotated/ --dry-run

Rotate a LoRA adapter like its model:
  quantoscope rotate my-model/ --adapter my-lora/ --rotated my-model-rotated/ -o my-lora-rotated/

Rotate and quantize in one run:
  quantoscope quantize my-model/ -o my-model-q4/ --to q4 --rotate quarot")]
pub(crate) struct RotateArgs {
    /// A directory that holds one model with its config.json.
    pub input: PathBuf,
    /// The directory to write.
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// What to rotate: quarot (the residual stream, called R1 in SpinQuant), block:N (the residual stream in
    /// blocks of N channels), r2 (the values of each attention head), quarot,r2 (both), or fold (fold the
    /// norm gains only, for comparison) [default: quarot].
    #[arg(long = "rotate", value_name = "WHAT")]
    pub what: Option<String>,
    /// The seed of the rotation's signs, decimal or 0x hexadecimal [default: 0xC0FFEE].
    #[arg(long, value_name = "SEED", value_parser = parse::seed)]
    pub seed: Option<u64>,
    /// Rotate this PEFT adapter (LoRA) instead of the model. INPUT must be the model before its rotation,
    /// because the gains of its norms are needed. The result does for the rotated model what the adapter does
    /// for INPUT. Adapters that cannot be rotated exactly (DoRA, trained norms, embeddings tied to the output
    /// head, modules that INPUT does not have) are refused. The adapter's configuration, tokenizer, README
    /// and licence are copied unchanged.
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// The rotated model that the adapter is for. The rotation that it records is used; --rotate and --seed,
    /// if given, must agree with it.
    #[arg(long, value_name = "DIR", requires = "adapter")]
    pub rotated: Option<PathBuf>,
    /// The type to write: f32, f16 or bf16 [default: the type of each tensor].
    #[arg(long = "type", value_name = "TYPE", value_parser = parse::dtype)]
    pub dtype: Option<DType>,
    /// Copy NaN and infinities in tensors that are not rotated, with a warning per tensor, instead of
    /// failing.
    #[arg(long)]
    pub allow_nonfinite: bool,
    /// Print the plan and stop. Reads headers only, writes nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Replace an existing rotated model.
    #[arg(long)]
    pub force: bool,
    /// Continue an interrupted run. If this run is interrupted, keep the partial output.
    #[arg(long, conflicts_with = "dry_run")]
    pub resume: bool,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub gate: EquivalenceArgs,
    #[command(flatten)]
    pub apr: AprArgs,
    #[command(flatten)]
    pub work: ResourceArgs,
}

impl RotateArgs {
    pub(crate) fn resolve(self) -> Result<(RotateOptions, ConversionPrinter)> {
        let rotation = self.what.as_ref().map(|what| RotationOptions::parse(what, SEED)).transpose()?;
        let printer = ConversionPrinter {
            format: if self.json { ConversionFormat::Json } else { ConversionFormat::Text },
            input: self.input.clone(),
            output: self.output.clone(),
            dry_run: self.dry_run,
        };
        let rotated = self.rotated;
        let options = RotateOptions {
            input: self.apr.model(self.input),
            output: OutputOptions {
                path: self.output,
                dry_run: self.dry_run,
                force: self.force,
                resume: self.resume,
            },
            rotation,
            seed: self.seed,
            dtype: self.dtype,
            allow_nonfinite: self.allow_nonfinite,
            adapter: self.adapter.map(|path| AdapterOptions { path, rotated }),
            equivalence: self.gate.resolve(),
            resources: self.work.resolve(!self.json),
        };
        Ok((options, printer))
    }
}

/// Show what quantize would write: types, reasons, exact size.
///
/// Reads headers only, unless types are chosen for a size: then errors of weights and, without --sensitivity or
/// --no-sensitivity, the model's output are measured. The options are those of quantize.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quantoscope plan model.safetensors --type q4_0
  quantoscope plan my-model/ --recipe q4_k_m
  quantoscope plan my-model/ --to q4
  quantoscope plan my-model/ --target-size 1.5GiB --text notes.txt
  quantoscope plan my-model/ --curve --text notes.txt
  quantoscope plan model.gguf --type q8_0 --pure --json | jq .result.totals")]
pub(crate) struct PlanArgs {
    /// A .safetensors, .gguf, .apr, .q4 or .f16 file, or a directory that holds one model.
    pub input: PathBuf,
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Print the plan as JSON.
    #[arg(long)]
    pub json: bool,
    /// Print sizes and predicted KL divergences of types that are chosen for a size, from the smallest to the largest, with
    /// those of the presets.
    #[arg(long, conflicts_with_all = ["target_size", "target_bpw", "check", "no_sensitivity"])]
    pub curve: bool,
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub tokens: CalibrationArgs,
    #[command(flatten)]
    pub rotation: RotationArgs,
    #[command(flatten)]
    pub apr: AprArgs,
    #[command(flatten)]
    pub work: ResourceArgs,
}

/// Refuses an importance matrix where a divergence is measured of weights that are encoded without it.
fn refuse_importance(recipe: &RecipeArgs, target: Option<&TargetOptions>, rotated: bool) -> Result<()> {
    let option = match target {
        _ if rotated => "--rotate auto",
        Some(target) if target.check => "--check",
        _ => return Ok(()),
    };
    if recipe.weights.imatrix.is_none() {
        return Ok(());
    }
    let message = format!("{option} measures without an importance matrix: leave out --imatrix, or {option}");
    Err(Error::new(Code::Usage, message))
}

impl PlanArgs {
    pub(crate) fn resolve(self) -> Result<PlanOptions> {
        let recipe = self.recipe.resolve(&self.rotation, None)?;
        if self.rotation.auto()?.is_some() {
            let message = "plan does not decide a rotation; quantize --dry-run --rotate auto does";
            return Err(Error::new(Code::Usage, message));
        }
        let any = self.curve.then_some(SizeLimit::Bytes(u64::MAX));
        let target = self.target.resolve(&self.tokens, self.work.resolve(!self.json), any)?;
        self.tokens.refuse_unmeasured(target.as_ref(), "--target-size, --target-bpw or --curve")?;
        refuse_importance(&self.recipe, target.as_ref(), false)?;
        Ok(PlanOptions {
            input: self.apr.model(self.input),
            recipe,
            imatrix: self.recipe.weights.imatrix,
            target,
        })
    }
}
