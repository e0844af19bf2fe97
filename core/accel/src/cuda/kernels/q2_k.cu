// Q2_K: sixteen scales and minima of four bits, 256 codes of two, `f16 d`, `f16 dmin`.

#include "super_block.cuh"

struct Q2_K {
  enum : u32 { N = 16, P = 16, CODES = 16, D = 80, BYTES = 84, ROOM = 0 };

  template <bool WEIGHTED>
  INLINE bool encode(SubBlock x, SubBlock weights, ExchangeBuffer exchange, Place<P> p, u8 *out) {
    Fit fit;
    IntegerScale scales, mins;
    bool accepted = true;
    if (WEIGHTED) {
      float sum;
      accepted = weigh<N>(x, weights, 1.0f, &sum);
      fit = asymmetric<N, false>({3, -0.9f, 0.05f, 36}, x, Importance<STEP>{weights});
      integer_scales_weighted<P>(exchange, 15, fit, sum, &scales, &mins);
    } else {
      fit = asymmetric<N, true>({3, -0.5f, 0.1f, 15}, x, Magnitude());
      scales = integer_scales<P>(fit.scale, 15.0f), mins = integer_scales<P>(fit.min, 15.0f);
    }
    u16 d = narrow(scales.scale), dmin = narrow(mins.scale);
    accepted &= finite(fit.scale) && finite(fit.min) && !overflows(d) && !overflows(dmin);
    u32 both = (scales.code | mins.code << 4) & 0xFF;
    CodeMap maps = code_map(fit, product(widen(d), (float)(both & 15)), product(widen(dmin), (float)(both >> 4)));
    Quarter mine = quarter();
    u32 codes = 0;
    for (u32 q = 0; q < 4; q++) codes |= four<P>(x, maps, mine.part(q), mine.at(), 0, 3) << 2 * q;
    if (p.live) {
      out[p.part] = (u8)both;
      put32(out + CODES + 32 * mine.half + 4 * mine.word, codes);
      if (p.part == 0) put32(out + D, d | (u32)dmin << 16);
    }
    return accepted;
  }

  INLINE void decode(const u8 *src, u32 four, float *x) {
    u32 both = src[four / 4];
    float d = product(widen(get16(src + D)), (float)(both & 15)), m = product(widen(get16(src + D + 2)), (float)(both >> 4));
    u32 codes = get32(src + CODES + four / 32 * 32 + four % 8 * 4) >> four / 8 % 4 * 2 & 0x03030303u;
    for (u32 j = 0; j < 4; j++) x[j] = difference(product(d, (float)byte(codes, j)), m);
  }
};

SUPER_KERNELS(Q2_K)
