//! `imatrix`: an importance matrix of a model, from the inputs of its matrices on a calibration text.

use super::convert::permission;
use super::eval::{OpenedModel, about, context};
use super::passes::PassResources;
use crate::io::imatrix::ImatrixFile;
use crate::io::imatrix_journal::{FinishedChunks, ImatrixJournal, written_beside};
use crate::io::output::{Intent, OutputFiles, check_scratch};
use crate::io::scratch::{ScratchNames, parent};
use crate::io::source::Source;
use crate::io::target::{OutputForm, target};
use crate::io::token_ids::{self, TokenIds, Wanted};
use crate::options::{EvalPrecision, EvalTokens, ImatrixOptions, OutputOptions};
use crate::render::progress::PassProgress;
use crate::render::{note, plural};
use crate::signals;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::eval::imatrix::{Coverage, EntrySource};
use quantoscope_core::eval::{ImatrixReport, UnreachedExperts, chunks};
use quantoscope_core::format::imatrix::{
    Calibration, EntrySize, EntryTotals, ImatrixFormat, ImatrixLayout, PlacedBytes,
};
use quantoscope_core::job::{Region, Write};
use quantoscope_core::model::forward::{Batch, F32, F64, InputSums, MatMul};
use quantoscope_core::model_pass::ModelPass;
use quantoscope_core::plan::{OutFile, Plan, Warning};
use quantoscope_core::report::SCHEMA_VERSION;
use quantoscope_core::schedule::Budget;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The most chunks that run through the model together: more would save nothing, and a journal would be written less often.
const ROUND: usize = 16;

/// Collects an importance matrix and writes it.
///
/// # Errors
///
/// Those of opening and reading the model, the texts and the merged files; `unsupported_architecture` if there is no forward pass
/// for it, `unsupported_forward` if its tensors or configuration do not fit; `empty` if a text has no whole chunk; `memory_budget`
/// if the sums and one chunk do not fit; `size_mismatch` or `no_such_tensor` if a merged file is of another model; `exists` if the
/// output exists.
pub fn run(options: &ImatrixOptions) -> Result<ImatrixReport> {
    let started = Instant::now();
    signals::watch();
    let passes = PassResources::new(&options.resources)?;
    let model = OpenedModel::open(&options.input)?;
    let output =
        OutputOptions { path: options.output.clone(), force: options.force, ..OutputOptions::default() };
    let out = target(&[&model.source], &options.output, &OutputForm::File, permission(&output))?;
    check_places(options, &model.source, &out)?;
    check_scratch(&out, permission(&output))?;
    let coverage = Coverage::of(&model.source.checkpoint, options.process_output)?;
    let mut merged = Vec::new();
    for path in &options.merge {
        merged.push(MergedFile::open(path, &coverage, options, &model)?);
    }
    let limit = model.tensors.config.positions;
    let asked = options.context.or_else(|| chunk_size(options, &merged));
    let size = context(asked, limit.filter(|_| !options.tokens.is_empty()))?;
    let chunks = all_chunks(options, &model, size)?;
    let work = Collection {
        options,
        model: &model,
        sums_bytes: coverage.bytes(),
        progress: passes.progress("Collecting"),
        passes,
    };
    let (journal, done) = match &options.journal {
        Some(path) => {
            let own = fingerprint(&model, options, &chunks, work.passes.kernels.name())?;
            let (journal, done) = ImatrixJournal::open(path, own)?;
            (Some(journal), done)
        }
        None => (None, FinishedChunks::default()),
    };
    let sums = match options.precision {
        EvalPrecision::F32 => {
            let matmul = work.passes.threaded(F32(work.passes.kernels));
            work.run(matmul, &chunks, journal.as_ref(), done)
        }
        EvalPrecision::F64 => work.run(work.passes.threaded(F64), &chunks, journal.as_ref(), done),
    };
    work.progress.finish();
    let sums = sums.map_err(|e| about(e, &options.input))?;
    model.source.check_unchanged()?;
    let totals = CollectedTotals { coverage: &coverage, sums: &sums, merged: &merged, size };
    let calibration = calibration(options, &merged, chunks.len(), size)?;
    let layout = ImatrixLayout::new(options.format, totals.sizes()?, &calibration)?;
    write(&out, &layout, &totals, &output)?;
    journal.map_or(Ok(()), |journal| journal.remove())?;
    let seconds = started.elapsed().as_secs_f64();
    let tokens: usize = chunks.iter().map(Vec::len).sum();
    let mut warnings = model.source.checkpoint.warnings.clone();
    warnings.extend(coverage.warnings.iter().cloned());
    warnings.extend(merged.iter().flat_map(|m| m.file.imatrix.warnings.iter().cloned()));
    warnings.extend(other_chunks(options, &merged, size));
    Ok(ImatrixReport {
        schema_version: SCHEMA_VERSION,
        model: options.input.to_string_lossy().into_owned(),
        architecture: model.tensors.config.model_type.clone(),
        output: options.output.to_string_lossy().into_owned(),
        format: options.format.name(),
        entries: layout.entries().len() as u64,
        chunks: u64::from(calibration.chunks),
        chunk_size: u64::from(calibration.chunk_size),
        datasets: calibration.datasets,
        tokens: tokens as u64,
        unreached: unreached(&totals)?,
        precision: options.precision.name(),
        engine: work.passes.kernels.name(),
        threads: work.passes.threads(),
        seconds,
        tokens_per_second: tokens as f64 / seconds.max(f64::MIN_POSITIVE),
        warnings,
    })
}

/// Refuses an output and a journal that are read by the same run, or that cannot be written.
fn check_places(options: &ImatrixOptions, source: &Source, out: &Path) -> Result<()> {
    let output: BTreeSet<PathBuf> =
        ScratchNames::beside(out).all().into_iter().chain([out]).map(place).collect();
    let journal = options.journal.iter().flat_map(|path| [path.clone(), written_beside(path)]);
    let journal: BTreeSet<PathBuf> = journal.map(|p| place(&p)).collect();
    let texts: Vec<PathBuf> = options.tokens.iter().map(|t| place(path_of(t))).collect();
    let model = source.all_paths().chain([source.path.clone()]).map(|p| place(&p));
    let read: Vec<PathBuf> =
        model.chain(options.merge.iter().map(|p| place(p))).chain(texts.iter().cloned()).collect();
    let same = |message: String| Err(Error::new(Code::SameFile, message));
    if let Some(path) = texts.iter().find(|p| output.contains(*p)) {
        return same(format!("the output is the text {}, or one of its scratch names", path.display()));
    }
    if let Some(path) = journal.iter().find(|p| output.contains(*p) || read.contains(p)) {
        return same(format!("the journal {} is the output, or a file that is read", path.display()));
    }
    for path in [Some(out), options.journal.as_deref()].into_iter().flatten() {
        if !parent(path).is_dir() {
            let message = format!(
                "{} cannot be written: there is no directory {}",
                path.display(),
                parent(path).display()
            );
            return Err(Error::new(Code::NotFound, message));
        }
    }
    Ok(())
}

/// Where a file lies, behind all links; of one that does not exist, in its directory behind all links.
fn place(path: &Path) -> PathBuf {
    let in_directory = || Some(fs::canonicalize(parent(path)).ok()?.join(path.file_name()?));
    fs::canonicalize(path).ok().or_else(in_directory).unwrap_or_else(|| path.to_path_buf())
}

/// Tokens of a chunk that all merged files record, where there is no text to cut.
fn chunk_size(options: &ImatrixOptions, merged: &[MergedFile]) -> Option<usize> {
    let mut sizes = merged.iter().map(|m| m.file.imatrix.chunk_size);
    let first = sizes.next().flatten().filter(|_| options.tokens.is_empty())?;
    sizes.all(|size| size == Some(first)).then(|| usize::try_from(first).ok()).flatten()
}

/// A warning for each merged file whose chunks have another length: activations depend on it.
fn other_chunks(options: &ImatrixOptions, merged: &[MergedFile], size: usize) -> Vec<Warning> {
    let others = merged.iter().filter_map(|m| {
        let other = m.file.imatrix.chunk_size.filter(|other| *other != size as u64)?;
        let message = format!(
            "{} was collected from chunks of {other} tokens, and {} has {size}",
            m.path.display(),
            options.output.display()
        );
        Some(Warning { code: "other_chunk_size", message })
    });
    others.collect()
}

/// The chunks of all texts.
fn all_chunks(options: &ImatrixOptions, model: &OpenedModel, size: usize) -> Result<Vec<Vec<u32>>> {
    let most = options.chunks.map(|n| n.saturating_add(options.skipped).saturating_mul(size));
    let wanted = Wanted { vocabulary: model.tensors.config.vocab, most, bos_of_ids: true };
    let mut all = Vec::new();
    for tokens in &options.tokens {
        let TokenIds { ids, bos } = token_ids::read(tokens, &model.source, wanted)?;
        let found = chunks(&ids, size, bos, options.skipped, options.chunks);
        let path = name(tokens);
        let named = |e: Error| e.clone().explained(e.code(), format!("{path}: {}", e.detail().message));
        all.extend(found.map_err(named)?);
    }
    Ok(all)
}

/// The name of a text.
fn name(tokens: &EvalTokens) -> String {
    path_of(tokens).to_string_lossy().into_owned()
}

fn path_of(tokens: &EvalTokens) -> &Path {
    let (EvalTokens::Text(path) | EvalTokens::Ids(path)) = tokens;
    path
}

/// What the file is computed with: texts of merged files first.
fn calibration(
    options: &ImatrixOptions,
    merged: &[MergedFile],
    chunks: usize,
    size: usize,
) -> Result<Calibration> {
    let earlier = merged.iter().map(|m| m.file.imatrix.chunks.unwrap_or(0)).fold(0, u64::saturating_add);
    let chunks = u32::try_from(earlier.saturating_add(chunks as u64)).unwrap_or(u32::MAX);
    let mut datasets: Vec<String> = Vec::new();
    let texts = merged.iter().flat_map(|m| m.file.imatrix.datasets.iter().cloned());
    for text in texts.chain(options.tokens.iter().map(name)) {
        if !datasets.contains(&text) {
            datasets.push(text);
        }
    }
    let chunk_size = u32::try_from(size)
        .map_err(|_| Error::new(Code::Usage, format!("chunks of {size} tokens are too long")))?;
    Ok(Calibration { datasets, chunks, chunk_size })
}

/// A digest of everything that determines the sums.
fn fingerprint(
    model: &OpenedModel,
    options: &ImatrixOptions,
    chunks: &[Vec<u32>],
    engine: &str,
) -> Result<[u8; 32]> {
    let mut hash = Sha256::new();
    hash.update(env!("CARGO_PKG_VERSION"));
    hash.update(model.source.salt()?);
    hash.update(options.precision.name());
    hash.update(engine);
    hash.update([u8::from(options.process_output)]);
    for chunk in chunks {
        hash.update((chunk.len() as u64).to_le_bytes());
        chunk.iter().for_each(|id| hash.update(id.to_le_bytes()));
    }
    Ok(hash.finalize().into())
}

/// Experts that neither a text nor a merged file reached.
fn unreached(totals: &CollectedTotals<'_>) -> Result<Vec<UnreachedExperts>> {
    let mut found = Vec::new();
    for name in totals.coverage.entries.iter().filter(|e| e.is_stack()).map(|e| e.name.clone()) {
        let counts = totals.of(&name)?.counts;
        let experts = counts.iter().filter(|count| **count == 0.0).count() as u64;
        if experts > 0 {
            found.push(UnreachedExperts { tensor: name, experts, of: counts.len() as u64 });
        }
    }
    Ok(found)
}

/// How sums are collected.
struct Collection<'a> {
    options: &'a ImatrixOptions,
    model: &'a OpenedModel,
    passes: PassResources,
    /// Bytes of all sums.
    sums_bytes: u64,
    progress: PassProgress,
}

impl Collection<'_> {
    /// Chunks that fit the memory together with the sums.
    fn round(&self, size: usize) -> Result<usize> {
        let chunk = self.model.tensors.bytes_per_token(1).saturating_mul(size as u64).max(1);
        let what = format!("the sums of all matrices and a chunk of {size} tokens");
        Ok(self.passes.fitting(chunk, self.sums_bytes, &what)?.min(ROUND))
    }

    /// The sums of all chunks.
    fn run<M: MatMul + Copy + Sync>(
        &self,
        matmul: M,
        chunks: &[Vec<u32>],
        journal: Option<&ImatrixJournal<'_>>,
        FinishedChunks { chunks: done, mut sums }: FinishedChunks,
    ) -> Result<InputSums> {
        let Some(first) = chunks.first() else { return Ok(InputSums::default()) };
        let round = self.round(first.len())?;
        let mut done = usize::try_from(done).unwrap_or(usize::MAX).min(chunks.len());
        if let Some(path) = self.options.journal.as_ref().filter(|_| done > 0) {
            note(&format!("{}: goes on after {} of an earlier run", path.display(), plural(done, "chunk")));
        }
        let rest = chunks.get(done..).unwrap_or_default();
        let rounds = rest.len().div_ceil(round) as u64;
        self.progress.start(self.model.tensors.weights().saturating_mul(rounds));
        for part in rest.chunks(round) {
            sums = self.collect(matmul, part, sums)?;
            done += part.len();
            if let Some(name) = sums.nonfinite() {
                let message = "the inputs of this matrix are NaN or infinite";
                return Err(Error::new(Code::NonFinite, message).of_tensor(name));
            }
            // After the last round too: what is left is to write the file.
            if let Some(journal) = journal {
                journal.write(done as u64, &sums)?;
            }
        }
        Ok(sums)
    }

    /// Adds the sums of chunks that run through the model together.
    fn collect<M: MatMul + Copy + Sync>(
        &self,
        matmul: M,
        chunks: &[Vec<u32>],
        sums: InputSums,
    ) -> Result<InputSums> {
        let batch = Batch { sequences: chunks.to_vec(), scored_from: 0, head_rows: 1 };
        let add = |n| self.progress.add(n);
        let mut pass = ModelPass::batch(&self.model.tensors, matmul, &batch)?;
        pass.observe(sums);
        self.passes.runner(&self.model.source, &add).layers(&mut pass)?;
        Ok(pass.take_observed())
    }
}

fn misfit(path: &Path, name: &str, here: u64, there: u64, what: &str) -> Error {
    let message = format!("{} has {there} {what} of this tensor, and {here} are expected", path.display());
    Error::new(Code::SizeMismatch, message).of_tensor(name)
}

/// An importance matrix that is merged.
struct MergedFile {
    path: PathBuf,
    file: ImatrixFile,
    /// Matrices with a count each, of every entry of the model.
    matrices: BTreeMap<String, usize>,
}

impl MergedFile {
    /// Opens a file of the same model.
    fn open(
        path: &Path,
        coverage: &Coverage,
        options: &ImatrixOptions,
        model: &OpenedModel,
    ) -> Result<MergedFile> {
        let file = ImatrixFile::open(path)?;
        let known: BTreeMap<&str, &EntrySource> =
            coverage.entries.iter().map(|e| (e.name.as_str(), e)).collect();
        for (name, entry) in &file.imatrix.entries {
            // Sums of head and embedding are kept, although this run does not collect them.
            let besides = name == "output.weight" || name == "token_embd.weight";
            let (values, matrices) = match known.get(name.as_str()) {
                Some(own) => (own.values(), own.matrices()),
                None if besides => (Some(model.tensors.config.hidden as u64), 1),
                None => {
                    let message = format!(
                        "{} has sums of the tensor {name}, which {} does not have",
                        path.display(),
                        options.input.display()
                    );
                    return Err(Error::new(Code::NoSuchTensor, message));
                }
            };
            if let Some(values) = values.filter(|values| *values != entry.values) {
                return Err(misfit(path, name, values, entry.values, "sums"));
            }
            let counts = entry.counts.len();
            if values.is_some() && counts != 1 && counts != matrices {
                return Err(misfit(path, name, matrices as u64, counts as u64, "counts"));
            }
            let uncounted =
                entry.counts.iter().zip(&entry.above_zero).position(|(n, above)| *n == 0.0 && *above);
            if let Some(index) = uncounted {
                let message =
                    format!("{}: count {index} of this tensor is 0, and its sums are not", path.display());
                return Err(Error::new(Code::BadValue, message).of_tensor(name));
            }
        }
        let matrices = known.into_iter().map(|(name, entry)| (name.to_string(), entry.matrices())).collect();
        Ok(MergedFile { path: path.to_path_buf(), file, matrices })
    }

    /// Matrices of an entry with a count each. The legacy format stores one count for all.
    fn counts(&self, name: &str) -> usize {
        let Some(entry) = self.file.imatrix.entries.get(name) else { return 0 };
        let matrices = self.matrices.get(name).copied().unwrap_or(1).max(1);
        let spread =
            self.file.imatrix.format == ImatrixFormat::Legacy && entry.values.is_multiple_of(matrices as u64);
        if spread { matrices } else { entry.counts.len() }
    }

    /// Sums and counts of an entry; `size` is the number of tokens of a chunk, which the legacy format does not record.
    fn totals(&self, name: &str, size: usize) -> Result<Option<EntryTotals>> {
        let Some(entry) = self.file.imatrix.entries.get(name) else { return Ok(None) };
        let bytes = entry.values.saturating_mul(4);
        let mut buffer = Vec::new();
        let region = Region { offset: entry.at, run: bytes, stride: bytes, count: 1 };
        self.file.read(&region, &mut buffer)?;
        let scale = match self.file.imatrix.format {
            ImatrixFormat::Gguf => 1.0,
            ImatrixFormat::Legacy => size as f64,
        };
        let sums = buffer.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b)) * scale);
        let counts = entry.counts.iter().map(|count| f64::from(*count) * scale);
        let mut totals = EntryTotals { sums: sums.collect(), counts: counts.collect() };
        let matrices = self.counts(name);
        if self.file.imatrix.format == ImatrixFormat::Legacy && matrices > 1 {
            totals.drop_placeholders(matrices);
        }
        Ok(Some(totals))
    }
}

/// Sums of the run and of merged files.
struct CollectedTotals<'a> {
    coverage: &'a Coverage,
    sums: &'a InputSums,
    merged: &'a [MergedFile],
    /// Tokens of a chunk.
    size: usize,
}

impl CollectedTotals<'_> {
    fn entry(&self, name: &str) -> Option<&EntrySource> {
        self.coverage.entries.iter().find(|e| e.name == name)
    }

    /// Names and sizes of all entries.
    fn sizes(&self) -> Result<Vec<EntrySize>> {
        let own = self.coverage.entries.iter().filter_map(|e| e.size(self.sums));
        let mut sizes: BTreeMap<String, EntrySize> = own.map(|size| (size.name.clone(), size)).collect();
        for merged in self.merged {
            for (name, entry) in &merged.file.imatrix.entries {
                let counts = merged.counts(name) as u64;
                let size = EntrySize { name: name.clone(), values: entry.values, counts };
                let found = sizes.entry(name.clone()).or_insert_with(|| size.clone());
                if found.values != size.values {
                    return Err(misfit(&merged.path, name, found.values, size.values, "sums"));
                }
                found.counts = found.counts.max(counts);
            }
        }
        Ok(sizes.into_values().collect())
    }

    /// Sums and counts of an entry.
    fn of(&self, name: &str) -> Result<EntryTotals> {
        let mut totals = self.entry(name).and_then(|e| e.totals(self.sums));
        for merged in self.merged {
            let Some(more) = merged.totals(name, self.size)? else { continue };
            totals = Some(match totals {
                None => more,
                Some(totals) => {
                    let (here, there) = (totals.counts.len() as u64, more.counts.len() as u64);
                    let sum = totals.plus(more);
                    sum.ok_or_else(|| misfit(&merged.path, name, here, there, "counts"))?
                }
            });
        }
        Ok(totals.unwrap_or_default())
    }
}

/// Writes the file, which gets its name when it is complete.
fn write(
    out: &Path,
    layout: &ImatrixLayout,
    totals: &CollectedTotals<'_>,
    output: &OutputOptions,
) -> Result<()> {
    let file = OutFile { name: String::new(), len: layout.len, header: layout.header.clone(), copied: false };
    let plan = Plan { outputs: Vec::new(), files: vec![file], conversion: None, warnings: Vec::new() };
    let fingerprint: [u8; 32] = Sha256::digest(&layout.header).into();
    let intent = Intent {
        plan: &plan,
        permission: permission(output),
        fingerprint: &fingerprint,
        budget: Budget::default(),
    };
    let files = OutputFiles::begin(out, intent)?.files;
    let put = |placed: &PlacedBytes| {
        let run = placed.bytes.len() as u64;
        let region = Region { offset: placed.at, run, stride: run, count: 1 };
        files.write(&Write { file: 0, region, part: None }, &placed.bytes)
    };
    let written = (|| {
        for (index, entry) in layout.entries().iter().enumerate() {
            layout.entry(index, &totals.of(&entry.name)?)?.iter().try_for_each(put)?;
            if signals::interrupted() {
                return Err(Error::new(Code::Interrupted, "interrupted"));
            }
        }
        let at = layout.len - layout.tail.len() as u64;
        if layout.tail.is_empty() { Ok(()) } else { put(&PlacedBytes { at, bytes: layout.tail.clone() }) }
    })();
    written.inspect_err(|_| files.discard())?;
    files.commit()
}
