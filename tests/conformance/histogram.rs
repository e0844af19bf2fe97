//! Histograms: exact counts, quantiles within a bucket, bins that sum, journals that are read back.

use proptest::prelude::*;
use quantoscope_core::metric::{Histogram, PackedHistogram};
use quantoscope_core::wire;
use quantoscope_tests::painters::paint;
use quantoscope_tests::property::property;

fn histogram(x: &[f32]) -> Histogram {
    let mut h = Histogram::new();
    h.add(x);
    h
}

#[test]
fn counts_are_exact() {
    let x = [
        0.0,
        -0.0,
        f32::NAN,
        -f32::NAN,
        f32::INFINITY,
        1.0,
        1.01,
        -1.0,
        f32::MAX,
        f32::MIN,
        1e-45,
        f32::from_bits(0x7F80_0001),
    ];
    let h = histogram(&x);
    assert_eq!((h.finite(), h.zeros(), h.nan(), h.inf()), (8, 2, 3, 1));
    let buckets: Vec<_> = h.buckets().collect();
    assert_eq!(buckets.iter().map(|b| b.2).collect::<Vec<_>>(), [1, 1, 2, 1, 2, 1]);
    assert_eq!((buckets[1].0, buckets[1].1), (-1.03125, -1.0));
    assert_eq!(buckets[5].1, 2.0_f64.powi(128));
}

#[test]
fn quantiles_lie_in_their_buckets() {
    for family in ["normal", "heavy", "sparse", "shifted", "magnitudes", "huge"] {
        let mut x = paint(family, 21, 5000);
        let h = histogram(&x);
        x.sort_by(f32::total_cmp);
        for k in 0..=100 {
            let q = f64::from(k) / 100.0;
            let truth = f64::from(x[((q * 5000.0).ceil() as usize).max(1) - 1]);
            let (low, high) = h.quantile_bounds(q).unwrap();
            assert!(low <= truth && truth <= high, "{family} {q}: {low} {truth} {high}");
            assert!((h.quantile(q).unwrap() - truth).abs() <= (high - low) / 2.0);
        }
    }
    assert_eq!(histogram(&[f32::NAN]).quantile(0.5), None);
    let one = histogram(&[1.0]);
    assert_eq!((one.quantile(-0.1), one.quantile(1.1), one.quantile(f64::NAN)), (None, None, None));
}

#[test]
fn bins_are_about_where_the_values_are() {
    let x = paint("normal", 22, 50_000);
    let bins = histogram(&x).linear(16, -0.08, 0.08);
    for (i, &count) in bins.iter().enumerate() {
        let (lo, hi) = (-0.08 + 0.01 * i as f32, -0.07 + 0.01 * i as f32);
        let inside = |v: f32| (v >= lo || i == 0) && (v < hi || i == 15);
        let truth = x.iter().filter(|&&v| inside(v)).count() as f64;
        assert!((count as f64 - truth).abs() <= 0.1 * truth + 20.0, "{i}: {count} {truth}");
    }
}

/// Where the edges of bins are edges of buckets, nothing is shared out: the counts are exact.
#[test]
fn bins_on_bucket_edges_are_exact() {
    // Buckets of 1 to 2 are 1/32 wide.
    let x: Vec<f32> = paint("normal", 23, 20_000)
        .iter()
        .map(|v| 1.5 + v * 5.0)
        .filter(|v| (1.0..2.0).contains(v))
        .collect();
    assert!(x.len() > 15_000);
    for bins in [32, 16, 8] {
        let edge = |i: usize| 1.0 + i as f32 / bins as f32;
        let truth: Vec<u64> = (0..bins)
            .map(|i| x.iter().filter(|&&v| edge(i) <= v && v < edge(i + 1)).count() as u64)
            .collect();
        assert_eq!(histogram(&x).linear(bins, 1.0, 2.0), truth);
    }
}

proptest! {
    #![proptest_config(property(file!(), 256))]

    #[test]
    fn bins_sum_to_the_finite_values(bits in prop::collection::vec(any::<u32>(), 0..400), bins in 1_usize..70, lo in -1e3_f64..1e3, width in 1e-6_f64..1e6) {
        let x: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
        let h = histogram(&x);
        let out = h.linear(bins, lo, lo + width);
        prop_assert_eq!(out.len(), bins);
        prop_assert_eq!(out.iter().sum::<u64>(), h.finite());
        prop_assert_eq!(h.finite() + h.nan() + h.inf(), x.len() as u64);
    }

    #[test]
    fn parts_merge_and_byte_forms_are_exact(bits in prop::collection::vec(any::<u32>(), 1..400), cut in 0_usize..400) {
        let x: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
        let h = histogram(&x);
        let (a, b) = x.split_at(cut.min(x.len()));
        let mut parts = histogram(b);
        parts.merge(&histogram(a));
        prop_assert_eq!(&parts, &h);
        let mut bytes = wire::encode(&packed(&h)).unwrap();
        prop_assert_eq!(wire::decode::<PackedHistogram>(&bytes).unwrap().unpack(), h);
        bytes.pop();
        prop_assert!(wire::decode::<PackedHistogram>(&bytes).is_err());
    }

    /// Damaged bytes are refused, or read as a histogram that can be written.
    #[test]
    fn damaged_byte_forms_are_histograms_or_refused(bits in prop::collection::vec(any::<u32>(), 1..40), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)) {
        let x: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
        let mut raw = wire::encode(&packed(&histogram(&x))).unwrap();
        for (at, byte) in damage {
            *at.get_mut(&mut raw) = byte;
        }
        if let Ok(found) = wire::decode::<PackedHistogram>(&raw) {
            let again = wire::decode::<PackedHistogram>(&wire::encode(&found).unwrap());
            prop_assert_eq!(again.unwrap().unpack(), found.unpack());
        }
    }
}

#[test]
fn nonsense_has_no_bins() {
    let h = histogram(&[1.0]);
    for (bins, lo, hi) in
        [(0, 0.0, 1.0), (4, 1.0, 1.0), (4, 2.0, 1.0), (4, f64::NAN, 1.0), (4, 0.0, f64::INFINITY)]
    {
        assert!(h.linear(bins, lo, hi).is_empty());
    }
}

/// Whether the byte form of these buckets is that of a histogram.
fn is_histogram(filled: &[(u16, u64)], beyond: &[(u32, u64)]) -> bool {
    wire::decode::<PackedHistogram>(&wire::encode(&(filled, beyond)).unwrap()).is_ok()
}

#[test]
fn buckets_that_do_not_exist_are_refused() {
    for (k, count, fine) in [
        (5, 1, true),
        (5, 0, false),
        (0x1FE0, 1, false),
        (0x4000, 1, true),
        (0x4002, 1, true),
        (0x4003, 1, false),
    ] {
        assert_eq!(is_histogram(&[(k, count)], &[]), fine, "{k:x}");
    }
    for (first, second, fine) in [(5, 6, true), (5, 5, false), (6, 5, false)] {
        assert_eq!(is_histogram(&[(first, 1), (second, 1)], &[]), fine, "{first} {second}");
    }
    // Beyond: no key of zero, of a binary32, of infinity, or twice. Octave 1 is that of the least subnormal number.
    let octave = |n: u32| n << 5;
    for (keys, fine) in [
        (vec![octave(1), octave(52 + 800), octave(52 + 2046), octave(52 + 2046) | 1 << 17], true),
        (vec![0], false),
        (vec![octave(52 + 1023)], false),
        (vec![octave(52 + 2047)], false),
        (vec![octave(52 + 2000), octave(52 + 2000)], false),
        (vec![octave(52 + 2000), octave(52 + 100)], false),
        (vec![1 << 18], false),
    ] {
        let beyond: Vec<(u32, u64)> = keys.iter().map(|&k| (k, 1)).collect();
        assert_eq!(is_histogram(&[], &beyond), fine, "{keys:x?}");
    }
}

fn packed(h: &Histogram) -> PackedHistogram {
    let mut packed = PackedHistogram::default();
    packed.merge(h);
    packed
}

/// Packed counts are those of one histogram that saw everything, whatever came first.
#[test]
fn packed_counts_merge_to_the_same() {
    let parts: [&[f32]; 4] = [&[1.0, -2.0, 0.0], &[f32::NAN, 1.0, 3.5], &[], &[f32::INFINITY, -2.0, 1e-40]];
    let whole = histogram(&parts.concat());
    let mut packed = PackedHistogram::default();
    for part in parts.iter().rev() {
        packed.merge(&histogram(part));
    }
    assert_eq!(packed.unpack(), whole);
    assert_eq!(PackedHistogram::default().unpack(), Histogram::new());
}
