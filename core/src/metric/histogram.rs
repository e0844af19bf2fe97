//! Distribution of a tensor's values: exact counts in fixed logarithmic buckets.
//!
//! A bucket is identified by the top bits of a binary32: sign, exponent, five bits of mantissa. So buckets
//! need no range in advance, merge by addition, and are at most 1/32 of their value wide. Zeros, NaN and
//! infinities are counted separately. Binary64 values outside the normal range of binary32 go to buckets of
//! the same kind in a separate map (*extended* buckets). Knows no screens: [`Histogram::linear`] makes bins
//! for display.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Mantissa bits of a binary32 that are not part of a key.
const SHIFT: u32 = 18;
/// Number of keys of one sign that belong to finite values.
const FINITE: u32 = 0x7F80_0000 >> SHIFT;
/// Sign bit of a key.
const SIGN: u32 = 0x8000_0000 >> SHIFT;
/// Slots after the keys: counts of zeros, infinities and NaN.
const ZERO: usize = 1 << (32 - SHIFT);
const INF: usize = ZERO + 1;
const NAN: usize = ZERO + 2;
const SLOTS: usize = ZERO + 3;

/// Counts of values by bucket.
///
/// ```
/// use quantoscope_core::metric::Histogram;
///
/// let mut histogram = Histogram::new();
/// histogram.add(&[-1.0, 0.0, 1.0, f32::NAN]);
/// assert_eq!((histogram.finite(), histogram.nan()), (3, 1));
/// assert_eq!(histogram.linear(2, -1.0, 1.0), [1, 2]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// One count for each slot.
    counts: Vec<u64>,
    /// Counts of binary64 values outside the normal range of binary32, by [`octave_key`] and sign.
    extended: BTreeMap<u32, u64>,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram::new()
    }
}

/// Slot of a value. Without branches, so that it vectorizes.
#[inline(always)]
fn slot(x: f32) -> u16 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7FFF_FFFF;
    let special = if magnitude > 0x7F80_0000 { NAN } else { INF };
    let special = if magnitude == 0 { ZERO } else { special };
    let has_bucket = magnitude.wrapping_sub(1) < 0x7F80_0000 - 1;
    (if has_bucket { bits >> SHIFT } else { special as u32 }) as u16
}

/// Mantissa bits of a value that are part of a key.
const KEPT: u32 = 23 - SHIFT;
/// Octaves of the subnormal numbers of binary64; they precede those of the exponent field.
const SUBNORMAL: u32 = 52;
/// Sign bit of an extended key.
const EXTENDED_SIGN: u32 = 1 << 17;
/// Octaves of all finite binary64 values but zero, ascending; the first holds the smallest subnormal number.
const OCTAVES: core::ops::RangeInclusive<u32> = 1..=SUBNORMAL + 2046;
/// Octaves of the normal numbers of binary32, which have slots.
const NORMAL: core::ops::Range<u32> = SUBNORMAL + 1023 - 126..SUBNORMAL + 1023 + 128;
/// 2^52: the factor that makes subnormal numbers normal.
const UP: f64 = (1_u64 << 52) as f64;

/// Octave and top mantissa bits of a finite magnitude other than zero.
fn octave_key(magnitude: f64) -> u32 {
    let subnormal = magnitude < f64::MIN_POSITIVE;
    let bits = if subnormal { magnitude * UP } else { magnitude }.to_bits();
    (bits >> (52 - KEPT)) as u32 + if subnormal { 0 } else { SUBNORMAL << KEPT }
}

/// Slot of a binary64 value, or as an error its extended key.
fn slot_f64(x: f64) -> core::result::Result<usize, u32> {
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
        return Err(key | if x < 0.0 { EXTENDED_SIGN } else { 0 });
    }
    let rebased = key - ((SUBNORMAL + 1023 - 127) << KEPT);
    Ok((rebased | if x < 0.0 { SIGN } else { 0 }) as usize)
}

/// Lower edge of the extended bucket with this magnitude key; `f64::MAX` for the end of the last one.
fn extended_edge(magnitude: u32) -> f64 {
    let pattern = |key: u32| f64::from_bits(u64::from(key) << (52 - KEPT));
    match magnitude.checked_sub((SUBNORMAL + 1) << KEPT) {
        Some(_) => pattern(magnitude - (SUBNORMAL << KEPT)).min(f64::MAX),
        None => pattern(magnitude) / UP,
    }
}

/// Interval of an extended bucket, in ascending order.
fn extended_bounds(key: u32) -> (f64, f64) {
    let magnitude = key & !EXTENDED_SIGN;
    let (low, high) = (extended_edge(magnitude), extended_edge(magnitude + 1));
    if key & EXTENDED_SIGN == 0 { (low, high) } else { (-high, -low) }
}

/// True if an extended bucket with this key exists.
fn is_extended(key: u32) -> bool {
    let octave = (key & !EXTENDED_SIGN) >> KEPT;
    key < EXTENDED_SIGN << 1 && OCTAVES.contains(&octave) && !NORMAL.contains(&octave)
}

/// 2^128: the end of the last finite bucket.
const END: f64 = (1_u128 << 127) as f64 * 2.0;

/// Interval of a bucket, in ascending order.
fn bounds(key: u32) -> (f64, f64) {
    let edge = |k: u32| if k < FINITE { f64::from(f32::from_bits(k << SHIFT)) } else { END };
    let magnitude = key & !SIGN;
    let (low, high) = (edge(magnitude), edge(magnitude + 1));
    if key & SIGN == 0 { (low, high) } else { (-high, -low) }
}

impl Histogram {
    /// Creates a histogram without counts.
    pub fn new() -> Histogram {
        Histogram { counts: vec![0; SLOTS], extended: BTreeMap::new() }
    }

    /// Counts binary32 values.
    #[inline(always)]
    pub fn add(&mut self, values: &[f32]) {
        let Some(counts) = self.counts.first_chunk_mut::<SLOTS>() else { return };
        let mut slots = [0; 256];
        for values in values.chunks(slots.len()) {
            for (index, &x) in slots.iter_mut().zip(values) {
                *index = slot(x);
            }
            for &index in &slots[..values.len()] {
                counts[usize::from(index)] += 1;
            }
        }
    }

    /// Counts binary64 values without rounding them to binary32.
    pub fn add_f64(&mut self, values: &[f64]) {
        for &x in values {
            match slot_f64(x) {
                Ok(slot) => self.counts.get_mut(slot).into_iter().for_each(|count| *count += 1),
                Err(key) => *self.extended.entry(key).or_default() += 1,
            }
        }
    }

    /// Adds the counts of another histogram; counts saturate.
    pub fn merge(&mut self, other: &Histogram) {
        add_extended(&mut self.extended, &other.extended);
        for (a, b) in self.counts.iter_mut().zip(&other.counts) {
            *a = a.saturating_add(*b);
        }
    }

    /// Count of a slot.
    fn count(&self, slot: usize) -> u64 {
        self.counts.get(slot).copied().unwrap_or(0)
    }

    /// Number of finite values, zeros included.
    pub fn finite(&self) -> u64 {
        self.buckets().fold(0, |sum, (_, _, count)| sum.saturating_add(count))
    }

    /// Number of zeros of either sign.
    pub fn zeros(&self) -> u64 {
        self.count(ZERO)
    }

    /// Number of NaN.
    pub fn nan(&self) -> u64 {
        self.count(NAN)
    }

    /// Number of infinities of either sign.
    pub fn inf(&self) -> u64 {
        self.count(INF)
    }

    /// Non-empty buckets in ascending order, as `(low, high, count)`; the bucket of zeros is `(0, 0, count)`.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, f64, u64)> {
        let of = |key: u32| {
            let (low, high) = bounds(key);
            (low, high, self.count(key as usize))
        };
        let extended = move |keys: core::ops::Range<u32>| {
            self.extended.range(keys).map(|(&key, &count)| {
                let (low, high) = extended_bounds(key);
                (low, high, count)
            })
        };
        // Keys of negative values ascend away from zero.
        let middle = NORMAL.start << KEPT;
        let small = extended(0..middle);
        let large = extended(middle..EXTENDED_SIGN);
        let small_negative = extended(EXTENDED_SIGN..EXTENDED_SIGN | middle).rev();
        let large_negative = extended(EXTENDED_SIGN | middle..u32::MAX).rev();
        let negative = (0..FINITE).rev().map(move |k| of(k | SIGN));
        let zero = core::iter::once((0.0, 0.0, self.zeros()));
        let below = large_negative.chain(negative).chain(small_negative);
        below.chain(zero).chain(small).chain((0..FINITE).map(of)).chain(large).filter(|b| b.2 > 0)
    }

    /// Bounds of the bucket that contains the quantile `q`: the value that a share `q` of all finite values
    /// does not exceed.
    ///
    /// Returns `None` without finite values, and for `q` outside `[0, 1]`.
    pub fn quantile_bounds(&self, q: f64) -> Option<(f64, f64)> {
        let n = self.finite();
        if n == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let rank = (libm::ceil(q * n as f64) as u64).clamp(1, n);
        let mut cumulative = 0;
        let bucket = self.buckets().find(|b| {
            cumulative = b.2.saturating_add(cumulative);
            cumulative >= rank
        });
        bucket.map(|(low, high, _)| (low, high))
    }

    /// Centre of [`Histogram::quantile_bounds`]: within 1/64 of the exact quantile.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        // Half of the sum of both bounds could be infinite.
        self.quantile_bounds(q).map(|(low, high)| low + (high - low) / 2.0)
    }

    /// Counts of the finite values in `bins` equal bins over `[lo, hi]`, for display.
    ///
    /// The count of a bucket that spans several bins is distributed by length. Values outside the range go to
    /// the first or last bin, so that the counts sum to [`Histogram::finite`]. Returns an empty vector if
    /// `bins` is 0, or unless `lo < hi` and both are finite.
    pub fn linear(&self, bins: usize, lo: f64, hi: f64) -> Vec<u64> {
        // The distance between bounds of opposite signs can exceed the range of f64.
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
            // Rounding the cumulative count at each edge, instead of each share, keeps the sum exact.
            let (first, last, mut assigned) = (bin_of(low), bin_of(high), 0);
            for bin in out.iter_mut().take(last).skip(first).zip(first + 1..) {
                let below = (lo + bin.1 as f64 * width - low) / (high - low);
                let cumulative =
                    (libm::round(count as f64 * below.clamp(0.0, 1.0)) as u64).clamp(assigned, count);
                *bin.0 += cumulative - assigned;
                assigned = cumulative;
            }
            if let Some(bin) = out.get_mut(last) {
                *bin += count - assigned;
            }
        }
        out
    }
}

/// Histogram without its empty buckets, for keeping one for each tensor: a [`Histogram`] takes about 128 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredHistogram")]
pub struct PackedHistogram {
    /// Slot and count of the non-empty buckets, ascending.
    filled: Vec<(u16, u64)>,
    extended: BTreeMap<u32, u64>,
}

/// A histogram as it is stored, not yet checked.
#[derive(Deserialize)]
struct StoredHistogram {
    filled: Vec<(u16, u64)>,
    extended: Vec<(u32, u64)>,
}

impl TryFrom<StoredHistogram> for PackedHistogram {
    type Error = &'static str;

    /// Fails unless slots and keys exist and ascend, and no count is 0.
    fn try_from(stored: StoredHistogram) -> core::result::Result<PackedHistogram, &'static str> {
        let StoredHistogram { filled, extended } = stored;
        let infinite = |slot: u16| (u32::from(slot) & !SIGN) >= FINITE && usize::from(slot) < ZERO;
        let slots = filled.iter().all(|&(slot, n)| usize::from(slot) < SLOTS && n > 0 && !infinite(slot));
        let ascending = filled.is_sorted_by(|a, b| a.0 < b.0) && extended.is_sorted_by(|a, b| a.0 < b.0);
        let wide = extended.iter().all(|&(key, n)| is_extended(key) && n > 0);
        if !(slots && ascending && wide) {
            return Err("no histogram has these buckets");
        }
        Ok(PackedHistogram { filled, extended: extended.into_iter().collect() })
    }
}

/// Adds the counts of `part` to `all`; counts saturate.
fn add_extended(all: &mut BTreeMap<u32, u64>, part: &BTreeMap<u32, u64>) {
    for (key, count) in part {
        let sum = all.entry(*key).or_default();
        *sum = sum.saturating_add(*count);
    }
}

impl PackedHistogram {
    /// Adds the counts of a histogram.
    pub fn merge(&mut self, part: &Histogram) {
        let filled = (0_u16..).zip(part.counts.iter().copied()).filter(|(_, count)| *count > 0);
        self.add(filled, &part.extended);
    }

    /// Adds the counts of a packed histogram.
    pub fn merge_packed(&mut self, part: &PackedHistogram) {
        self.add(part.filled.iter().copied(), &part.extended);
    }

    /// Adds slots with their counts, ascending.
    fn add(&mut self, slots: impl Iterator<Item = (u16, u64)>, extended: &BTreeMap<u32, u64>) {
        add_extended(&mut self.extended, extended);
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

    /// Expands to a full histogram.
    pub fn unpack(&self) -> Histogram {
        let mut out = Histogram { extended: self.extended.clone(), ..Histogram::new() };
        for &(slot, count) in &self.filled {
            if let Some(c) = out.counts.get_mut(usize::from(slot)) {
                *c = count;
            }
        }
        out
    }
}
