//! Every SIMD level of this machine against the CPU reference, on random and on adversarial sub-blocks.

use super::VectorSearch;
use fearless_simd::Simd;
use quantoscope_core::quant::ScalarSearch;
use quantoscope_core::quant::scale_search::{AffineFit, RefinedFit, ScaleGrid, ScaleSearch, SearchWeights};

/// Sub-blocks per draw; not a multiple of any number of lanes.
const DRAW: usize = 331;

/// SplitMix64; draws are the same on every machine.
struct Bits(u64);

impl Bits {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Uniform between -1 and 1.
    fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Bell-shaped around 0, mostly within 1.
    fn bell(&mut self) -> f32 {
        self.uniform() + self.uniform() + self.uniform()
    }

    fn pick(&mut self, from: &[f32]) -> f32 {
        from[self.below(from.len() as u64) as usize]
    }

    fn finite(&mut self) -> f32 {
        let x = f32::from_bits(self.next() as u32);
        if x.is_finite() { x } else { 0.0 }
    }

    fn sub_block<const N: usize>(&mut self) -> [f32; N] {
        const SCALES: [f32; 10] = [1.0, 0.02, 1e-5, 1e-15, 1e-18, 1e-30, 1e-38, 1e18, 1e20, 3e37];
        let (scale, at, family) = (self.pick(&SCALES), self.bell(), self.below(15));
        let mut x = [0.0; N];
        for x in &mut x {
            *x = match family {
                0 | 1 => 0.02 * self.bell(),
                2 => scale * self.bell(),
                3 => f32::from_bits((scale * self.bell()).to_bits() & 0xFFFF_0000),
                4 => scale * (self.below(32) as f32 - 16.0) * 0.5,
                5 => scale * at,
                6 => self.pick(&[0.0, -0.0, 0.0, scale, -scale]),
                7 => f32::from_bits(self.next() as u32 & 0x807F_FFFF),
                8 => self.finite(),
                9 => self.bell() * 2_f32.powi(self.below(60) as i32 - 30),
                10 => self.pick(&[0.0, -0.0, -1.0, -2.0, -3.0, -1e-7]) * scale,
                13 => self.pick(&[-1.0, -2.0, -3.0, -1e-7, -1e-8, -1e-10]) * scale,
                11 => at + self.below(3) as f32 * 6e-8,
                12 => (scale * self.bell()).abs(),
                _ => scale * (1.0 + at.abs() + 1e-3 * self.uniform()),
            };
            if !x.is_finite() {
                *x = 0.0;
            }
        }
        if self.below(3) == 0 {
            // One outlier.
            x[self.below(N as u64) as usize] *= 8.0;
        }
        x.map(|x| if x.is_finite() { x } else { 1.0 })
    }

    /// Importance weights, not negative.
    fn weights<const N: usize>(&mut self) -> [f32; N] {
        let (family, scale) = (self.below(5), self.pick(&[1.0, 1e-6, 1e-30, 1e12, 1e30]));
        let mut w = [0.0; N];
        for w in &mut w {
            *w = match family {
                0 => 0.0,
                1 => self.pick(&[0.0, 1.0]),
                2 => self.uniform().abs(),
                3 => scale * self.uniform().abs(),
                _ => self.uniform().abs() * 2_f32.powi(self.below(40) as i32 - 20),
            };
        }
        w
    }
}

/// Equal bits; any NaN equals any other.
fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

fn same_fit(a: &AffineFit, b: &AffineFit) -> bool {
    same(a.scale, b.scale) && same(a.min, b.min) && same(a.inverse, b.inverse) && same(a.base, b.base)
}

/// A check that runs on every level.
trait LevelCheck {
    fn check<S: Simd>(&mut self, simd: S);
}

fn every_level(check: &mut impl LevelCheck) {
    let machine = fearless_simd::Level::new();
    #[cfg(target_arch = "x86_64")]
    {
        machine.as_avx2().into_iter().for_each(|simd| check.check(simd));
        machine.as_avx512().into_iter().for_each(|simd| check.check(simd));
    }
    #[cfg(target_arch = "aarch64")]
    machine.as_neon().into_iter().for_each(|simd| check.check(simd));
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    machine.as_wasm_simd128().into_iter().for_each(|simd| check.check(simd));
    let _ = machine;
}

/// One draw of sub-blocks, for all searches.
struct Draw<const N: usize> {
    seed: u64,
    x: Vec<[f32; N]>,
    given: Vec<[f32; N]>,
}

impl<const N: usize> Draw<N> {
    fn new(seed: u64) -> Draw<N> {
        let mut bits = Bits(seed);
        let x = (0..DRAW).map(|_| bits.sub_block()).collect();
        Draw { seed, x, given: (0..DRAW).map(|_| bits.weights()).collect() }
    }

    fn all_weights(&self) -> [SearchWeights<'_, N>; 4] {
        [
            SearchWeights::Magnitude,
            SearchWeights::MeanMagnitude,
            SearchWeights::Square,
            SearchWeights::Given(&self.given),
        ]
    }

    fn fits(&self, what: &str, search: impl Fn(SearchWeights<'_, N>, bool, &mut [AffineFit])) {
        for (k, weights) in self.all_weights().into_iter().enumerate() {
            let (mut lanes, mut one) = (vec![AffineFit::ZERO; DRAW], vec![AffineFit::ZERO; DRAW]);
            search(weights, true, &mut lanes);
            search(weights, false, &mut one);
            for (j, (lane, one)) in lanes.iter().zip(&one).enumerate() {
                let seed = self.seed;
                assert!(
                    same_fit(lane, one),
                    "{what}, seed {seed}, weights {k}, sub-block {j}: {lane:?} and not {one:?}, {:?} {:?}",
                    self.x[j],
                    self.given[j]
                );
            }
        }
    }
}

/// Checks the codebook search, on sub-blocks of 32 whatever the length of the draw's.
fn check_iq4<S: Simd, const N: usize>(simd: S, draw: &Draw<N>) {
    let [x, given] = [&draw.x, &draw.given].map(|all| all.as_flattened().as_chunks::<32>().0);
    for (k, weights) in
        [SearchWeights::Square, SearchWeights::Magnitude, SearchWeights::Given(given)].into_iter().enumerate()
    {
        let (mut lanes, mut one) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        VectorSearch(simd).iq4(x, weights, &mut lanes);
        ScalarSearch.iq4(x, weights, &mut one);
        for (j, (lane, one)) in lanes.into_iter().zip(one).enumerate() {
            assert!(
                same(lane, one),
                "{simd:?} IQ4, seed {}, weights {k}, sub-block {j}: {lane:?} and not {one:?}, {:?}",
                draw.seed,
                x[j]
            );
        }
    }
}

/// Checks the search that changes codes, whose codes are compared too.
fn check_refined<S: Simd, const N: usize>(simd: S, draw: &Draw<N>, half: i32) {
    let blank = || vec![RefinedFit { scale: 0.0, codes: [0; N] }; DRAW];
    let (mut lanes, mut one) = (blank(), blank());
    VectorSearch(simd).q3_refine(half, &draw.x, &mut lanes);
    ScalarSearch.q3_refine(half, &draw.x, &mut one);
    for (j, (lane, one)) in lanes.iter().zip(&one).enumerate() {
        let seed = draw.seed;
        assert!(
            same(lane.scale, one.scale) && lane.codes == one.codes,
            "{simd:?} {N} within {half}, seed {seed}, sub-block {j}: {lane:?} and not {one:?}, {:?}",
            draw.x[j]
        );
    }
}

/// Checks the weights that importance gives.
fn check_weigh<S: Simd, const N: usize>(simd: S, draw: &Draw<N>) {
    let spreads: Vec<f32> = draw.x.iter().map(|x| x[0] * x[1]).map(f32::abs).collect();
    let (mut lanes, mut one) = ((draw.given.clone(), vec![0.0; DRAW]), (draw.given.clone(), vec![0.0; DRAW]));
    VectorSearch(simd).weigh(&draw.x, &spreads, &mut lanes.0, &mut lanes.1);
    ScalarSearch.weigh(&draw.x, &spreads, &mut one.0, &mut one.1);
    let all = |(weights, sums): (Vec<[f32; N]>, Vec<f32>)| [weights.as_flattened(), &sums].concat();
    for (j, (lane, one)) in all(lanes).into_iter().zip(all(one)).enumerate() {
        assert!(same(lane, one), "{simd:?} {N} weighed, seed {}, {j}: {lane} and not {one}", draw.seed);
    }
}

impl<const N: usize> LevelCheck for Draw<N> {
    fn check<S: Simd>(&mut self, simd: S) {
        const GRIDS: [ScaleGrid; 5] = [
            ScaleGrid { top: 3, first: -0.5, step: 0.1, count: 15, absolute: true },
            ScaleGrid { top: 15, first: -1.0, step: 0.1, count: 20, absolute: false },
            ScaleGrid { top: 31, first: -0.5, step: 0.1, count: 15, absolute: false },
            ScaleGrid { top: 3, first: -0.9, step: 0.05, count: 36, absolute: false },
            ScaleGrid { top: 15, first: -0.9, step: 0.05, count: 36, absolute: false },
        ];
        for grid in &GRIDS {
            self.fits(&format!("{simd:?} {N} {grid:?}"), |weights, lanes, fits| match lanes {
                true => VectorSearch(simd).asymmetric(grid, &self.x, weights, fits),
                false => ScalarSearch.asymmetric(grid, &self.x, weights, fits),
            });
        }
        check_iq4(simd, self);
        check_weigh(simd, self);
        check_refined(simd, self, 4);
        check_refined(simd, self, 8);
        for half in [4, 8, 16, 32] {
            self.fits(&format!("{simd:?} {N} {half}"), |weights, lanes, fits| match lanes {
                true => VectorSearch(simd).symmetric(half, &self.x, weights, fits),
                false => ScalarSearch.symmetric(half, &self.x, weights, fits),
            });
        }
    }
}

fn draws(from: u64, count: u64) {
    for seed in from..from + count {
        every_level(&mut Draw::<16>::new(seed));
        every_level(&mut Draw::<32>::new(seed + 1_000_000));
    }
}

#[test]
fn vector_searches_random_sub_blocks_equal_the_reference() {
    draws(0, 16);
}

/// `cargo test --release -p quantoscope-accel by_hand_ -- --ignored`
#[test]
#[ignore = "by hand: a million sub-blocks of either length take minutes"]
fn by_hand_vector_searches_a_million_sub_blocks_equal_the_reference() {
    draws(1 << 20, 1_000_000_u64.div_ceil(DRAW as u64));
}
