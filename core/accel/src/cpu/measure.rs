//! Leaves of measurements in eight f64 lanes. The CPU reference has the same lanes, and each sum runs in its
//! order. Leaves with NaN or infinity, or whose length is not a multiple of sixteen, are left to the
//! reference.

use fearless_simd::{Simd, f32x16, f64x8, prelude::*};
use quantoscope_core::metric::{LANES, Moments, PairSums, add_lanes, moments_leaf, pair_leaf};

/// Values per step: two rows of lanes.
const CHUNK: usize = 2 * LANES;

/// Two rows of lanes, converted to f64.
#[inline(always)]
fn rows<S: Simd>(simd: S, values: &[f32; CHUNK]) -> [f64x8<S>; 2] {
    f32x16::load_array_ref(simd, values).widen().into()
}

/// Whether all values are finite.
#[inline(always)]
fn finite(values: &[f32]) -> bool {
    const INFINITE: u32 = 0x7F80_0000;
    values.iter().fold(0, |top, x| (x.to_bits() & 0x7FFF_FFFF).max(top)) < INFINITE
}

/// Same result as [`pair_leaf`].
#[inline(always)]
pub(super) fn pair<S: Simd>(simd: S, reference: &[f32], candidate: &[f32]) -> PairSums {
    let ((r, rest), (q, over)) = (reference.as_chunks::<CHUNK>(), candidate.as_chunks::<CHUNK>());
    let plain = rest.is_empty() && over.is_empty() && r.len() == q.len();
    if !plain || !finite(reference) || !finite(candidate) {
        return pair_leaf(reference, candidate);
    }
    let none = f64x8::splat(simd, 0.0);
    let [mut e1, mut e2, mut r2, mut q2, mut rq, mut max] = [none; 6];
    for (r, q) in r.iter().zip(q) {
        for (r, q) in rows(simd, r).into_iter().zip(rows(simd, q)) {
            let e = r - q;
            e1 += e;
            e2 += e * e;
            r2 += r * r;
            q2 += q * q;
            rq += r * q;
            max = max.max(e.abs());
        }
    }
    let sum = |lanes: f64x8<S>| add_lanes(&lanes.to_array());
    PairSums {
        n: reference.len() as u64,
        e1: sum(e1),
        e2: sum(e2),
        r2: sum(r2),
        q2: sum(q2),
        rq: sum(rq),
        max_abs: max.to_array().iter().fold(0.0, |m, &x| if x > m { x } else { m }),
        ..PairSums::default()
    }
}

/// Same result as [`moments_leaf`].
#[inline(always)]
pub(super) fn moments<S: Simd>(simd: S, values: &[f32]) -> Moments {
    let (taken, rest) = values.as_chunks::<CHUNK>();
    if taken.is_empty() || !rest.is_empty() || !finite(values) {
        return moments_leaf(values);
    }
    let mut m = Moments { n: values.len() as u64, ..Moments::default() };
    m.zeros = values.iter().map(|x| u32::from(*x == 0.0)).sum::<u32>().into();
    let (mut sum, mut min) = (f64x8::splat(simd, 0.0), f64x8::splat(simd, m.min));
    let mut max = f64x8::splat(simd, m.max);
    for values in taken {
        for x in rows(simd, values) {
            sum += x;
            min = min.min(x);
            max = max.max(x);
        }
    }
    // Adding 0 turns -0 into +0, as the reference does.
    m.min = min.to_array().iter().fold(m.min, |a, &b| if b < a { b } else { a }) + 0.0;
    m.max = max.to_array().iter().fold(m.max, |a, &b| if b > a { b } else { a }) + 0.0;
    m.absmax = if m.min.abs() > m.max.abs() { m.min.abs() } else { m.max.abs() };
    m.mean = add_lanes(&sum.to_array()) / m.n as f64;
    let [mut m2, mut m3, mut m4] = [f64x8::splat(simd, 0.0); 3];
    for values in taken {
        for x in rows(simd, values) {
            let d = x - m.mean;
            let square = d * d;
            m2 += square;
            m3 += square * d;
            m4 += square * square;
        }
    }
    (m.m2, m.m3, m.m4) = (add_lanes(&m2.to_array()), add_lanes(&m3.to_array()), add_lanes(&m4.to_array()));
    m
}
