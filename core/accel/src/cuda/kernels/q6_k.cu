// Q6_K: 256 low nibbles, 256 pairs of upper bits, sixteen signed scales, `f16 d`.

#include "super_block.cuh"

struct Q6_K {
  enum : u32 { N = 16, P = 16, UPPER = 128, SCALES = 192, D = 208, BYTES = 210, ROOM = 0 };

  template <bool WEIGHTED>
  INLINE bool encode(SubBlock x, SubBlock weights, ExchangeBuffer, Place<P> p, u8 *out) {
    Fit fit = WEIGHTED ? symmetric<N>(32, x, Importance<STEP>{weights}) : symmetric<N>(32, x, Square());
    bool accepted = finite(fit.scale);
    float top = signed_greatest<P>(fit.scale);
    bool zeros = absolute(top) < EPSILON;
    float inverse = __fdiv_rn(-128.0f, top);
    int scale = (signed char)min(nearest(product(inverse, fit.scale)), 127);
    u16 d = narrow(__fdiv_rn(1.0f, inverse));
    if (zeros) scale = 0, d = 0;
    accepted &= !overflows(d);
    CodeMap maps = code_map(fit, product(widen(d), (float)scale), 0.0f);
    Quarter mine = quarter();
    u32 low[4], upper = 0;
    for (u32 q = 0; q < 4; q++) {
      u32 codes = four<P>(x, maps, mine.part(q), mine.at(), -32, 31);
      if (zeros) codes = 0;
      low[q] = codes & 0x0F0F0F0Fu;
      upper |= (codes >> 4 & 0x03030303u) << 2 * q;
    }
    if (p.live) {
      u8 *nibbles = out + 64 * mine.half + 4 * mine.word;
      put32(nibbles, low[0] | low[2] << 4);
      put32(nibbles + 32, low[1] | low[3] << 4);
      put32(out + UPPER + 32 * mine.half + 4 * mine.word, upper);
      out[SCALES + p.part] = (u8)scale;
      if (p.part == 0) put16(out + D, d);
    }
    return accepted;
  }

  INLINE void decode(const u8 *src, u32 four, float *x) {
    u32 half = four / 32, q = four / 8 % 4, at = four % 8 * 4;
    float d = product(widen(get16(src + D)), (float)(signed char)src[SCALES + four / 4]);
    u32 codes = get32(src + 64 * half + q % 2 * 32 + at) >> q / 2 * 4 & 0x0F0F0F0Fu;
    codes |= (get32(src + UPPER + 32 * half + at) >> 2 * q & 0x03030303u) << 4;
    for (u32 j = 0; j < 4; j++) x[j] = product(d, (float)((int)byte(codes, j) - 32));
  }
};

SUPER_KERNELS(Q6_K)
