//! How a tensor's values are distributed: exact counts in fixed logarithmic buckets.
//!
//! A bucket is a pattern of the top bits of a binary32 (sign, exponent, five bits of mantissa), so the buckets
//! need no range in advance, merge by adding, and are at most 1/32 of their value wide. Zeros, NaN and
//! infinities are counted apart. Binary64 values outside of binary32's normal range have buckets of the same kind beyond.
//! Knows nothing of screens: [`Histogram::linear`] makes bins for whoever asks.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Mantissa bits below the key.
const SHIFT: u32 = 18;
/// Keys of one sign that belong to finite values.
const FINITE: u32 = 0x7F80_0000 >> SHIFT;
/// The sign in a key.
const SIGN: u32 = 0x8000_0000 >> SHIFT;
/// Beyond the keys: the three counts that are no bucket's.
const ZERO: usize = 1 << (32 - SHIFT);
const INF: usize = ZERO + 1;
const NAN: usize = ZERO + 2;
const SLOTS: usize = ZERO + 3;

/// Counts of values by bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
    /// Binary64 values outside of binary32's normal range, by octave and top mantissa bits.
    beyond: BTreeMap<u32, u64>,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram::new()
    }
}

/// Where a value is counted. Without branches, so that it vectorises.
#[inline(always)]
fn slot(x: f32) -> u16 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7FFF_FFFF;
    let special = if magnitude > 0x7F80_0000 { NAN } else { INF };
    let special = if magnitude == 0 { ZERO } else { special };
    let counted = magnitude.wrapping_sub(1) < 0x7F80_0000 - 1;
    (if counted { bits >> SHIFT } else { special as u32 }) as u16
}

/// Mantissa bits that a key keeps.
const KEPT: u32 = 23 - SHIFT;
/// Octaves of binary64's subnormal numbers, which come before those of its exponent field.
const SUBNORMAL: u32 = 52;
/// The sign in a key beyond.
const WIDE_SIGN: u32 = 1 << 17;
/// Octaves of all finite binary64 values but zero, in order; the first is that of the least subnormal number.
const OCTAVES: core::ops::RangeInclusive<u32> = 1..=SUBNORMAL + 2046;
/// Those of binary32's normal numbers, which have slots.
const NORMAL: core::ops::Range<u32> = SUBNORMAL + 1023 - 126..SUBNORMAL + 1023 + 128;
/// 2^52, which makes a subnormal number normal.
const UP: f64 = (1_u64 << 52) as f64;

/// Octave and top mantissa bits of a finite magnitude that is not zero.
fn octave_key(magnitude: f64) -> u32 {
    let subnormal = magnitude < f64::MIN_POSITIVE;
    let bits = if subnormal { magnitude * UP } else { magnitude }.to_bits();
    (bits >> (52 - KEPT)) as u32 + if subnormal { 0 } else { SUBNORMAL << KEPT }
}

/// Where a binary64 value is counted: a slot, or a key beyond.
fn wide_slot(x: f64) -> core::result::Result<usize, u32> {
    if x.is_nan() || x.is_infinite() || x == 0.0 {
        return Ok(if x.is_nan() {
            NAN
        } else if x == 0.0 {
            ZERO
        } else {
            INF
        });
    }
    let key = octave_key(x.abs());
    if !NORMAL.contains(&(key >> KEPT)) {
        return Err(key | if x < 0.0 { WIDE_SIGN } else { 0 });
    }
    let rebased = key - ((SUBNORMAL + 1023 - 127) << KEPT);
    Ok((rebased | if x < 0.0 { SIGN } else { 0 }) as usize)
}

/// The lower edge of the bucket with this magnitude; the largest binary64 for the end of the last one.
fn wide_edge(magnitude: u32) -> f64 {
    let pattern = |key: u32| f64::from_bits(u64::from(key) << (52 - KEPT));
    match magnitude.checked_sub((SUBNORMAL + 1) << KEPT) {
        Some(_) => pattern(magnitude - (SUBNORMAL << KEPT)).min(f64::MAX),
        None => pattern(magnitude) / UP,
    }
}

/// The interval of a bucket beyond.
fn wide_bounds(key: u32) -> (f64, f64) {
    let magnitude = key & !WIDE_SIGN;
    let (low, high) = (wide_edge(magnitude), wide_edge(magnitude + 1));
    if key & WIDE_SIGN == 0 { (low, high) } else { (-high, -low) }
}

/// Whether there is a bucket beyond with this key.
fn is_beyond(key: u32) -> bool {
    let octave = (key & !WIDE_SIGN) >> KEPT;
    key < WIDE_SIGN << 1 && OCTAVES.contains(&octave) && !NORMAL.contains(&octave)
}

/// 2^128, where the last finite bucket ends.
const END: f64 = (1_u128 << 127) as f64 * 2.0;

/// The interval of a bucket, as numbers in order.
fn bounds(key: u32) -> (f64, f64) {
    let edge = |k: u32| if k < FINITE { f64::from(f32::from_bits(k << SHIFT)) } else { END };
    let magnitude = key & !SIGN;
    let (low, high) = (edge(magnitude), edge(magnitude + 1));
    if key & SIGN == 0 { (low, high) } else { (-high, -low) }
}

impl Histogram {
    /// No counts.
    pub fn new() -> Histogram {
        Histogram { counts: vec![0; SLOTS], beyond: BTreeMap::new() }
    }

    /// Counts values.
    #[inline(always)]
    pub fn add(&mut self, values: &[f32]) {
        let Some(counts) = self.counts.first_chunk_mut::<SLOTS>() else { return };
        let mut slots = [0; 256];
        for values in values.chunks(slots.len()) {
            for (at, &x) in slots.iter_mut().zip(values) {
                *at = slot(x);
            }
            for &at in &slots[..values.len()] {
                counts[usize::from(at)] += 1;
            }
        }
    }

    /// Counts binary64 values, none of which is rounded.
    pub fn add_f64(&mut self, values: &[f64]) {
        for &x in values {
            match wide_slot(x) {
                Ok(slot) => self.counts.get_mut(slot).into_iter().for_each(|count| *count += 1),
                Err(key) => *self.beyond.entry(key).or_default() += 1,
            }
        }
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &Histogram) {
        add_beyond(&mut self.beyond, &other.beyond);
        for (a, b) in self.counts.iter_mut().zip(&other.counts) {
            *a = a.saturating_add(*b);
        }
    }

    fn count(&self, slot: usize) -> u64 {
        self.counts.get(slot).copied().unwrap_or(0)
    }

    /// Finite values counted, zeros included.
    pub fn finite(&self) -> u64 {
        self.buckets().fold(0, |sum, (_, _, count)| sum.saturating_add(count))
    }

    /// Zeros of either sign.
    pub fn zeros(&self) -> u64 {
        self.count(ZERO)
    }

    /// NaNs.
    pub fn nan(&self) -> u64 {
        self.count(NAN)
    }

    /// Infinities of either sign.
    pub fn inf(&self) -> u64 {
        self.count(INF)
    }

    /// The non-empty buckets in the order of their values, as `(low, high, count)`; zero is `(0, 0, count)`.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, f64, u64)> {
        let of = |key: u32| {
            let (low, high) = bounds(key);
            (low, high, self.count(key as usize))
        };
        let beyond = move |keys: core::ops::Range<u32>| {
            self.beyond.range(keys).map(|(&key, &count)| {
                let (low, high) = wide_bounds(key);
                (low, high, count)
            })
        };
        // Keys of negative values ascend away from zero.
        let middle = NORMAL.start << KEPT;
        let small = beyond(0..middle);
        let large = beyond(middle..WIDE_SIGN);
        let small_negative = beyond(WIDE_SIGN..WIDE_SIGN | middle).rev();
        let large_negative = beyond(WIDE_SIGN | middle..u32::MAX).rev();
        let negative = (0..FINITE).rev().map(move |k| of(k | SIGN));
        let zero = core::iter::once((0.0, 0.0, self.zeros()));
        let below = large_negative.chain(negative).chain(small_negative);
        below.chain(zero).chain(small).chain((0..FINITE).map(of)).chain(large).filter(|b| b.2 > 0)
    }

    /// Between which bounds the quantile `q` lies: the value that `q` of all finite values do not exceed.
    /// `None` without finite values, and for a `q` outside `[0, 1]`.
    pub fn quantile_bounds(&self, q: f64) -> Option<(f64, f64)> {
        let n = self.finite();
        if n == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let rank = (libm::ceil(q * n as f64) as u64).clamp(1, n);
        let mut seen = 0;
        let hit = self.buckets().find(|b| {
            seen = b.2.saturating_add(seen);
            seen >= rank
        });
        hit.map(|(low, high, _)| (low, high))
    }

    /// The middle of [`Histogram::quantile_bounds`]: within 1/64 of the true quantile.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        // Not half of the sum, which may be infinite.
        self.quantile_bounds(q).map(|(low, high)| low + (high - low) / 2.0)
    }

    /// The finite values in `bins` equal bins over `[lo, hi]`, for display. A bucket that spans bins is shared
    /// out by length, what lies outside goes to the outermost bins, and the counts sum to [`Histogram::finite`].
    /// Empty for no bins, or where `lo < hi` does not hold or is not finite.
    pub fn linear(&self, bins: usize, lo: f64, hi: f64) -> Vec<u64> {
        // Two ends of opposite signs can be further apart than f64 tells.
        let half = if (hi - lo).is_finite() { 1.0 } else { 0.5 };
        let (lo, hi) = (lo * half, hi * half);
        let width = (hi - lo) / bins as f64;
        if bins == 0 || !(width > 0.0 && width.is_finite()) {
            return Vec::new();
        }
        let mut out = vec![0; bins];
        let bin_of = |x: f64| (libm::floor((x - lo) / width).max(0.0) as usize).min(bins - 1);
        for (low, high, count) in self.buckets() {
            let (low, high) = (low * half, high * half);
            // Rounding what lies below each edge, instead of each share, keeps the sum exact.
            let (first, last, mut given) = (bin_of(low), bin_of(high), 0);
            for bin in out.iter_mut().take(last).skip(first).zip(first + 1..) {
                let below = (lo + bin.1 as f64 * width - low) / (high - low);
                let upto = (libm::round(count as f64 * below.clamp(0.0, 1.0)) as u64).clamp(given, count);
                *bin.0 += upto - given;
                given = upto;
            }
            if let Some(bin) = out.get_mut(last) {
                *bin += count - given;
            }
        }
        out
    }
}

/// The same counts without the empty buckets, for as many tensors as there are: a full table has a hundred kilobytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredHistogram")]
pub struct PackedHistogram {
    /// Slot and count, ascending.
    filled: Vec<(u16, u64)>,
    beyond: BTreeMap<u32, u64>,
}

/// A histogram as it is stored, not yet checked.
#[derive(Deserialize)]
struct StoredHistogram {
    filled: Vec<(u16, u64)>,
    beyond: Vec<(u32, u64)>,
}

impl TryFrom<StoredHistogram> for PackedHistogram {
    type Error = &'static str;

    /// Fails unless slots and keys exist and ascend, and no count is 0.
    fn try_from(stored: StoredHistogram) -> core::result::Result<PackedHistogram, &'static str> {
        let StoredHistogram { filled, beyond } = stored;
        let infinite = |slot: u16| (u32::from(slot) & !SIGN) >= FINITE && usize::from(slot) < ZERO;
        let slots = filled.iter().all(|&(slot, n)| usize::from(slot) < SLOTS && n > 0 && !infinite(slot));
        let ascending = filled.is_sorted_by(|a, b| a.0 < b.0) && beyond.is_sorted_by(|a, b| a.0 < b.0);
        let wide = beyond.iter().all(|&(key, n)| is_beyond(key) && n > 0);
        if !(slots && ascending && wide) {
            return Err("no histogram has these buckets");
        }
        Ok(PackedHistogram { filled, beyond: beyond.into_iter().collect() })
    }
}

fn add_beyond(all: &mut BTreeMap<u32, u64>, part: &BTreeMap<u32, u64>) {
    for (key, count) in part {
        let sum = all.entry(*key).or_default();
        *sum = sum.saturating_add(*count);
    }
}

impl PackedHistogram {
    /// Adds the counts of a histogram.
    pub fn merge(&mut self, part: &Histogram) {
        let filled = (0_u16..).zip(part.counts.iter().copied()).filter(|(_, count)| *count > 0);
        self.add(filled, &part.beyond);
    }

    /// Adds the counts of a packed histogram.
    pub fn merge_packed(&mut self, part: &PackedHistogram) {
        self.add(part.filled.iter().copied(), &part.beyond);
    }

    /// Adds slots with their counts, ascending.
    fn add(&mut self, slots: impl Iterator<Item = (u16, u64)>, beyond: &BTreeMap<u32, u64>) {
        add_beyond(&mut self.beyond, beyond);
        let mut all = Vec::with_capacity(self.filled.len());
        let mut old = self.filled.iter().copied().peekable();
        for (slot, count) in slots {
            while let Some(before) = old.next_if(|(s, _)| *s < slot) {
                all.push(before);
            }
            let same = old.next_if(|(s, _)| *s == slot).map_or(0, |(_, c)| c);
            all.push((slot, count.saturating_add(same)));
        }
        all.extend(old);
        self.filled = all;
    }

    /// The full table.
    pub fn unpack(&self) -> Histogram {
        let mut out = Histogram { beyond: self.beyond.clone(), ..Histogram::new() };
        for &(slot, count) in &self.filled {
            if let Some(c) = out.counts.get_mut(usize::from(slot)) {
                *c = count;
            }
        }
        out
    }
}
