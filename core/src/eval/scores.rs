//! The scores of predicted tokens, from logits that come in parts of the vocabulary: no position keeps more than a few sums.
//!
//! Sums are those of a softmax relative to the greatest logit so far. With a reference, `sum(exp(zp) * (zp - zq))` gives the
//! divergence: `KL(P || Q) = E_P[zp - zq] - ln Zp + ln Zq`, where `zp` are the logits of the reference and `zq` those of the
//! model.

use core::ops::Range;

/// Sums over the logits of one model at one position.
#[derive(Clone, Copy, Debug)]
struct LogitSums {
    /// The greatest logit, and the first entry that has it.
    max: f64,
    best: usize,
    /// The sum of exponentials relative to `max`.
    sum: f64,
    /// The logit of the predicted token.
    target: f64,
}

impl LogitSums {
    const NONE: LogitSums = LogitSums { max: f64::NEG_INFINITY, best: 0, sum: 0.0, target: f64::NAN };

    /// Finds the greatest logit of a part; what sums so far are multiplied with.
    fn advance(&mut self, first: usize, target: usize, logits: &[f64]) -> f64 {
        let before = self.max;
        for (entry, &logit) in (first..).zip(logits) {
            if logit > self.max || logit.is_nan() {
                (self.max, self.best) = (logit, entry);
            }
        }
        if let Some(logit) = target.checked_sub(first).and_then(|at| logits.get(at)) {
            self.target = *logit;
        }
        let fading = if before == self.max { 1.0 } else { libm::exp(before - self.max) };
        self.sum *= fading;
        fading
    }

    /// The logarithm of the sum of exponentials.
    fn log_sum(&self) -> f64 {
        self.max + libm::log(self.sum)
    }

    /// The negative log likelihood of the predicted token.
    fn nll(&self) -> f64 {
        self.log_sum() - self.target
    }
}

/// Sums over the logits of a predicted token.
#[derive(Clone, Copy, Debug)]
pub struct PositionScores {
    target: usize,
    model: LogitSums,
    reference: LogitSums,
    /// The sum of differences of logits, weighted with the exponentials of the reference.
    weighted: f64,
}

/// The scores of a predicted token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// The token.
    pub target: u32,
    /// Its negative log likelihood.
    pub nll: f64,
    /// The scores against a reference.
    pub reference: Option<ReferenceScore>,
}

/// The scores of a predicted token against a reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReferenceScore {
    /// The negative log likelihood of the token by the reference.
    pub nll: f64,
    /// The divergence of the model's distribution from that of the reference, in nats; at least 0.
    pub kl: f64,
    /// Whether the most likely token is the same.
    pub same_top: bool,
    /// The probability of the token by the model less that by the reference.
    pub probability_difference: f64,
}

impl PositionScores {
    /// No logits yet.
    pub fn new(target: u32) -> PositionScores {
        let none = LogitSums::NONE;
        PositionScores { target: target as usize, model: none, reference: none, weighted: 0.0 }
    }

    /// Adds the logits of the next entries of the vocabulary. Parts come in order.
    pub fn add(&mut self, entries: &Range<usize>, model: &[f64]) {
        self.model.advance(entries.start, self.target, model);
        let top = self.model.max;
        self.model.sum = model.iter().fold(self.model.sum, |sum, z| sum + libm::exp(z - top));
    }

    /// Adds the logits of the same entries by both models.
    pub fn add_pair(&mut self, entries: &Range<usize>, model: &[f64], reference: &[f64]) {
        self.add(entries, model);
        self.weighted *= self.reference.advance(entries.start, self.target, reference);
        let top = self.reference.max;
        for (p, q) in reference.iter().zip(model) {
            let share = libm::exp(p - top);
            self.reference.sum += share;
            self.weighted += share * (p - q);
        }
    }

    /// The scores; `None` if a logit was not finite, or too few came.
    pub fn finish(&self) -> Option<Score> {
        let nll = self.model.nll();
        let against = self.reference.sum > 0.0;
        let reference = against.then(|| {
            let expected = self.weighted / self.reference.sum;
            let kl = expected - self.reference.log_sum() + self.model.log_sum();
            let own = self.reference.nll();
            ReferenceScore {
                nll: own,
                kl: if kl < 0.0 { 0.0 } else { kl },
                same_top: self.model.best == self.reference.best,
                probability_difference: libm::exp(-nll) - libm::exp(-own),
            }
        });
        let finite = nll.is_finite() && reference.is_none_or(|r| r.nll.is_finite() && r.kl.is_finite());
        let target = u32::try_from(self.target).ok()?;
        finite.then_some(Score { target, nll, reference })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// Logits of 40 entries, of both models.
    fn logits() -> (Vec<f64>, Vec<f64>) {
        let model = (0..40).map(|i| libm::sin(f64::from(i) * 1.7) * 30.0).collect();
        let reference = (0..40).map(|i| libm::cos(f64::from(i * i)) * 25.0 + f64::from(i)).collect();
        (model, reference)
    }

    fn shares(logits: &[f64]) -> Vec<f64> {
        let sum: f64 = logits.iter().map(|z| libm::exp(*z)).sum();
        logits.iter().map(|z| libm::exp(*z) / sum).collect()
    }

    #[test]
    fn scores_in_parts_are_those_of_the_definition() {
        let (model, reference) = logits();
        let (q, p) = (shares(&model), shares(&reference));
        let mut scores = PositionScores::new(7);
        for start in (0..40).step_by(8) {
            let part = start..start + 8;
            scores.add_pair(&part, &model[part.clone()], &reference[part.clone()]);
        }
        let score = scores.finish().expect("scores");
        let against = score.reference.expect("a reference");
        let kl: f64 = p.iter().zip(&q).map(|(p, q)| p * libm::log(p / q)).sum();
        assert!((score.nll + libm::log(q[7])).abs() < 1e-12, "{score:?}");
        assert!((against.nll + libm::log(p[7])).abs() < 1e-12, "{score:?}");
        assert!((against.kl / kl - 1.0).abs() < 1e-12, "{} and {kl}", against.kl);
        assert!((against.probability_difference - (q[7] - p[7])).abs() < 1e-12);
        let mut same = PositionScores::new(7);
        same.add_pair(&(0..40), &model, &model);
        let same = same.finish().and_then(|s| s.reference).expect("scores");
        assert_eq!((same.kl, same.same_top, same.probability_difference), (0.0, true, 0.0));
    }

    #[test]
    fn logits_that_are_not_finite_have_no_score() {
        for bad in [f64::NAN, f64::INFINITY] {
            let mut scores = PositionScores::new(1);
            scores.add(&(0..3), &[0.0, 1.0, bad]);
            assert_eq!(scores.finish(), None);
        }
        assert_eq!(PositionScores::new(1).finish(), None);
    }
}
