//! The Mersenne Twister MT19937 (Matsumoto and Nishimura, 1998), with which the published benchmark generates
//! its matrix.

/// State of the generator.
#[derive(Clone)]
pub(super) struct Mersenne {
    /// The 624 words of the state.
    state: [u32; 624],
    /// Index of the next word to return; 624 if the state must be regenerated.
    next: usize,
}

impl Mersenne {
    /// Seeds the generator as the original `init_genrand` does.
    pub(super) fn new(seed: u32) -> Mersenne {
        let mut state = [seed; 624];
        for i in 1..624 {
            let before = state[i - 1];
            state[i] = (before ^ (before >> 30)).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Mersenne { state, next: 624 }
    }

    /// Computes the next 624 words.
    fn regenerate(&mut self) {
        for i in 0..624 {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % 624] & 0x7FFF_FFFF);
            let odd = if y & 1 == 1 { 0x9908_B0DF } else { 0 };
            self.state[i] = self.state[(i + 397) % 624] ^ (y >> 1) ^ odd;
        }
        self.next = 0;
    }

    /// Next 32 random bits.
    pub(super) fn word(&mut self) -> u32 {
        if self.next == 624 {
            self.regenerate();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9D2C_5680;
        y ^= (y << 15) & 0xEFC6_0000;
        y ^ (y >> 18)
    }

    /// Next float in `[0, 1)`: the low 24 bits of a word divided by 2^24.
    pub(super) fn unit(&mut self) -> f32 {
        (self.word() & 0x00FF_FFFF) as f32 / 16_777_216.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_words_of_seed_0() {
        let mut m = Mersenne::new(0);
        let expected = [
            2_357_136_044,
            2_546_248_239,
            3_071_714_933,
            3_626_093_760,
            2_588_848_963,
            3_684_848_379,
            2_340_255_427,
            3_638_918_503,
            1_819_583_497,
            2_678_185_683,
        ];
        assert_eq!([(); 10].map(|()| m.word()), expected);
    }
}
