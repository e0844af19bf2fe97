//! What a rotation report comes to, in figures and in words: by how much weight errors change, and no verdict about the
//! model, which weight errors cannot give.

use super::rotated::{RotatedEncoding, RotatedTensor};
use crate::dtype::DType;
use crate::quant::Encoding;
use crate::tensor::Name;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::Serialize;

/// Less than this is hardly a difference.
const MATTERS: f64 = 0.5;

/// Kurtosis between these is near that of a Gaussian, 3.
const NEAR_GAUSSIAN: core::ops::RangeInclusive<f64> = 2.5..=4.0;

/// Two encodings of which one has a minimum and the other has none.
const PAIRS: [(Encoding, Encoding); 3] = [
    (Encoding::LatticeSym, Encoding::LatticeAsym),
    (Encoding::Type(DType::Q4_0), Encoding::Type(DType::Q4_1)),
    (Encoding::Type(DType::Q5_0), Encoding::Type(DType::Q5_1)),
];

/// What all tensors come to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RotationSummary {
    /// Median kurtosis of the tensors as stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median_kurtosis: Option<f64>,
    /// One for each rotation.
    pub rotations: Vec<RotationGain>,
    /// Rotated encodings without a minimum against plain ones with one, a line for each rotation.
    pub lessons: Vec<SymVsAsymRow>,
    /// The same in sentences.
    pub words: Vec<String>,
}

/// By how much one rotation lowers weight errors. The figure of a tensor is the median over its encodings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RotationGain {
    /// The rotation.
    pub rotation: String,
    /// Tensors that were measured under it.
    pub tensors: usize,
    /// Those whose weight error falls by more than 0.5 dB.
    pub gaining: usize,
    /// Those whose weight error rises by more than 0.5 dB.
    pub losing: usize,
    /// Median decrease of the tensors' weight errors, in decibels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median_db: Option<f64>,
    /// The tensor whose weight error falls most, and by how many decibels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most: Option<(Name, f64)>,
    /// Median kurtosis of the rotated tensors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median_kurtosis: Option<f64>,
}

/// A symmetric encoding of rotated tensors against an asymmetric one of the tensors as stored.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SymVsAsymRow {
    /// The one without a minimum.
    pub symmetric: Encoding,
    /// The one with a minimum.
    pub asymmetric: Encoding,
    /// The rotation of the first.
    pub rotation: String,
    /// Tensors that have both.
    pub tensors: usize,
    /// Those on which the rotated symmetric one has more error.
    pub lost: usize,
    /// By how many decibels its error is lower, at the median.
    pub median_db: f64,
    /// By how many decibels the rotation lowers the error of the symmetric one, at the median.
    pub symmetric_db: f64,
    /// By how many it lowers that of the asymmetric one.
    pub asymmetric_db: f64,
}

fn median(mut all: Vec<f64>) -> Option<f64> {
    all.sort_by(f64::total_cmp);
    let (low, high) = (all.get(all.len().saturating_sub(1) / 2)?, all.get(all.len() / 2)?);
    Some((low + high) / 2.0)
}

fn gain(encoding: &RotatedEncoding, rotation: &str) -> Option<f64> {
    encoding.rotated.iter().find(|r| r.rotation == rotation)?.gain_db
}

pub(super) fn summary(rotations: &[String], tensors: &[RotatedTensor]) -> RotationSummary {
    let kurtosis = tensors.iter().filter_map(|t| t.stats.as_ref()?.kurtosis).collect();
    let mut summary = RotationSummary {
        median_kurtosis: median(kurtosis),
        rotations: rotations.iter().map(|r| gains(r, tensors)).collect(),
        lessons: Vec::new(),
        words: Vec::new(),
    };
    for (symmetric, asymmetric) in PAIRS {
        summary.lessons.extend(rotations.iter().filter_map(|r| lesson(symmetric, asymmetric, r, tensors)));
    }
    summary.words = words(&summary);
    summary
}

fn gains(rotation: &str, tensors: &[RotatedTensor]) -> RotationGain {
    let of = |t: &RotatedTensor| {
        Some((t.name.clone(), median(t.encodings.iter().filter_map(|e| gain(e, rotation)).collect())?))
    };
    let all: Vec<(Name, f64)> = tensors.iter().filter_map(of).collect();
    let frames = tensors.iter().flat_map(|t| &t.frames).filter(|f| f.rotation == rotation);
    let kurtosis = frames.filter_map(|f| f.stats.as_ref()?.kurtosis).collect();
    RotationGain {
        rotation: rotation.into(),
        tensors: all.len(),
        gaining: all.iter().filter(|(_, db)| *db > MATTERS).count(),
        losing: all.iter().filter(|(_, db)| *db < -MATTERS).count(),
        median_db: median(all.iter().map(|(_, db)| *db).collect()),
        // The first of equals.
        most: all.into_iter().reduce(|most, next| if next.1 > most.1 { next } else { most }),
        median_kurtosis: median(kurtosis),
    }
}

fn lesson(
    symmetric: Encoding,
    asymmetric: Encoding,
    rotation: &str,
    tensors: &[RotatedTensor],
) -> Option<SymVsAsymRow> {
    let (mut apart, mut alike) = (Vec::new(), (Vec::new(), Vec::new()));
    for t in tensors {
        let of = |encoding| t.encodings.iter().find(|e| e.plain.encoding == encoding);
        let Some((s, a)) = of(symmetric).zip(of(asymmetric)) else { continue };
        let kept = |e: &RotatedEncoding| e.plain.error.as_ref()?.sqnr_db;
        let Some(((s_gain, a_gain), (s_kept, a_kept))) =
            gain(s, rotation).zip(gain(a, rotation)).zip(kept(s).zip(kept(a)))
        else {
            continue;
        };
        apart.push(s_kept + s_gain - a_kept);
        alike.0.push(s_gain);
        alike.1.push(a_gain);
    }
    Some(SymVsAsymRow {
        symmetric,
        asymmetric,
        rotation: rotation.into(),
        tensors: apart.len(),
        lost: apart.iter().filter(|db| **db < 0.0).count(),
        median_db: median(apart)?,
        symmetric_db: median(alike.0)?,
        asymmetric_db: median(alike.1)?,
    })
}

fn words(summary: &RotationSummary) -> Vec<String> {
    let mut words: Vec<String> = summary.rotations.iter().map(rotation_in_words).collect();
    words.extend(conclusion(summary));
    for (symmetric, _) in PAIRS {
        let about = summary.lessons.iter().filter(|l| l.symmetric == symmetric);
        // Even the best of the rotations.
        let best = about.reduce(|best, l| if l.median_db > best.median_db { l } else { best });
        words.extend(best.map(lesson_in_words));
    }
    words
}

/// With its sign; what rounds to nothing is not less than nothing.
pub fn decibels(db: f64) -> String {
    let db = if db.abs() < 0.005 { 0.0 } else { db };
    format!("{db:+.2}")
}

/// `falls by 0.46 dB` or `rises by 0.46 dB`.
fn change(gain: f64) -> String {
    let verb = if gain < 0.0 { "rises" } else { "falls" };
    format!("{verb} by {:.2} dB", gain.abs())
}

fn rotation_in_words(g: &RotationGain) -> String {
    let Some(median) = g.median_db else { return format!("{}: nothing to measure.", g.rotation) };
    format!(
        "{}: weight error falls by more than 0.5 dB in {} of {} tensors and rises by as much in {}; at the median it {}.",
        g.rotation,
        g.gaining,
        g.tensors,
        g.losing,
        change(median)
    )
}

/// The largest change of weight error, the kurtosis beside it, and what these figures do not decide.
fn conclusion(summary: &RotationSummary) -> Vec<String> {
    let measured = summary.rotations.iter().filter_map(|g| Some((g, g.median_db?)));
    let Some((best, gain)) = measured.reduce(|best, next| if next.1 > best.1 { next } else { best }) else {
        return Vec::new();
    };
    let mut text = format!("Weight error {} at the median with {}", change(gain), best.rotation);
    if let Some(kurtosis) = summary.median_kurtosis {
        let near = if NEAR_GAUSSIAN.contains(&kurtosis) { "near" } else { "not near" };
        text.push_str(&format!(
            "; stored values are {near} Gaussian (median kurtosis {kurtosis:.2}; Gaussian is 3)"
        ));
    }
    text.push('.');
    let most = summary.rotations.iter().filter_map(|g| Some((g, g.most.as_ref()?)));
    let most = most.reduce(|best, next| if next.1.1 > best.1.1 { next } else { best });
    if let Some((g, (tensor, db))) = most.filter(|(_, (_, db))| *db > MATTERS) {
        text.push_str(&format!(" Most: {tensor}, {} with {}.", change(*db), g.rotation));
    }
    Vec::from([text, UNDECIDED.into()])
}

/// What weight errors cannot tell.
const UNDECIDED: &str = "This does not decide whether the model gains: a rotation can lower every weight error and make the \
    model's outputs worse, or halve their divergence while weight errors hardly change. A measurement decides: perplexity or KL \
    divergence of the quantized model, rotated and not.";

fn lesson_in_words(l: &SymVsAsymRow) -> String {
    let (name, other) = (l.symmetric.to_string(), l.asymmetric.to_string());
    let more = l.median_db < 0.0;
    let (word, on) = if more { ("more", l.lost) } else { ("less", l.tensors - l.lost) };
    format!(
        "{name} rotated ({}) has {word} weight error than {other} as stored in {on} of {} tensors (median {} dB). That compares \
         encodings: with the same encoding on both sides the error of {name} {} and that of {other} {}.",
        l.rotation,
        l.tensors,
        decibels(l.median_db),
        change(l.symmetric_db),
        change(l.asymmetric_db)
    )
}
