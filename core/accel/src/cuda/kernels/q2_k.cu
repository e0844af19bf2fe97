// Q2_K: sixteen scales and minima of four bits, 256 codes of two, `f16 d`, `f16 dmin`.

#include "super.cuh"

struct Q2_K {
  enum : u32 { N = 16, P = 16, CODES = 16, D = 80, BYTES = 84, ROOM = 0 };

  template <bool WEIGHTED>
  INLINE bool encode(Own x, Own weights, Desk desk, Place<P> p, u8 *out) {
    Fit fit;
    Share scales, mins;
    bool sound = true;
    if (WEIGHTED) {
      float sum;
      sound = weigh<N>(x, weights, 1.0f, &sum);
      fit = with_minimum<N, false>({3, -0.9f, 0.05f, 36}, x, Given<STEP>{weights});
      share_weighted<P>(desk, 15, fit, sum, &scales, &mins);
    } else {
      fit = with_minimum<N, true>({3, -0.5f, 0.1f, 15}, x, Magnitude());
      scales = share<P>(fit.scale, 15.0f), mins = share<P>(fit.min, 15.0f);
    }
    u16 d = narrow(scales.scale), dmin = narrow(mins.scale);
    sound &= finite(fit.scale) && finite(fit.min) && !overflows(d) && !overflows(dmin);
    u32 both = (scales.code | mins.code << 4) & 0xFF;
    Way ways = way(fit, product(widen(d), (float)(both & 15)), product(widen(dmin), (float)(both >> 4)));
    Quarter mine = quarter();
    u32 codes = 0;
    for (u32 q = 0; q < 4; q++) codes |= four<P>(x, ways, mine.part(q), mine.at(), 0, 3) << 2 * q;
    if (p.live) {
      out[p.part] = (u8)both;
      put32(out + CODES + 32 * mine.half + 4 * mine.word, codes);
      if (p.part == 0) put32(out + D, d | (u32)dmin << 16);
    }
    return sound;
  }

  INLINE void decode(const u8 *src, u32 four, float *x) {
    u32 both = src[four / 4];
    float d = product(widen(get16(src + D)), (float)(both & 15)), m = product(widen(get16(src + D + 2)), (float)(both >> 4));
    u32 codes = get32(src + CODES + four / 32 * 32 + four % 8 * 4) >> four / 8 % 4 * 2 & 0x03030303u;
    for (u32 j = 0; j < 4; j++) x[j] = difference(product(d, (float)byte(codes, j)), m);
  }
};

SUPER_KERNELS(Q2_K)
