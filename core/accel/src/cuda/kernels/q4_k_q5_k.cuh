// Q4_K and Q5_K: `f16 d`, `f16 dmin`, scales and minima of six bits, a plane of fifth bits (Q5_K), nibbles.

#include "super_block.cuh"

template <bool FIFTH>
struct Pairs {
  enum : u32 { N = 32, P = 8, PLANE = 16, NIBBLES = FIFTH ? 48 : 16, BYTES = NIBBLES + 128, ROOM = 0 };
  enum : int { TOP = FIFTH ? 31 : 15 };

  template <bool WEIGHTED>
  INLINE bool encode(SubBlock x, SubBlock weights, ExchangeBuffer exchange, Place<P> p, u8 *out) {
    Fit fit;
    IntegerScale scales, mins;
    bool accepted = true;
    if (WEIGHTED) {
      float sum;
      accepted = weigh<N>(x, weights, 2.0f, &sum);
      fit = asymmetric<N, false>({TOP, -0.9f, 0.05f, 36}, x, Importance<STEP>{weights});
      integer_scales_weighted<P>(exchange, 63, fit, sum, &scales, &mins);
    } else {
      fit = asymmetric<N, false>({TOP, FIFTH ? -0.5f : -1.0f, 0.1f, FIFTH ? 15 : 20}, x, mean_magnitude<N>(x));
      scales = integer_scales<P>(fit.scale, 63.0f), mins = integer_scales<P>(fit.min, 63.0f);
    }
    // A negative integer cast to a byte is large. ggml limits it to 63, but not in Q4_K with importance weights.
    if (FIFTH || !WEIGHTED) scales.code = min(scales.code, 63), mins.code = min(mins.code, 63);
    u16 d = narrow(scales.scale), dmin = narrow(mins.scale);
    accepted &= finite(fit.scale) && finite(fit.min) && !overflows(d) && !overflows(dmin);
    SixBits table = packed(scales.code, mins.code);
    CodeMap maps = code_map(fit, product(widen(d), (float)table.scale(p.part)), product(widen(dmin), (float)table.minimum(p.part)));
    u32 plane = 0;
#pragma unroll 1
    for (u32 t = 0; t < 4; t++) {
      u32 low = four<P>(x, maps, 2 * t, 4 * p.part, 0, TOP), high = four<P>(x, maps, 2 * t + 1, 4 * p.part, 0, TOP);
      if (p.live) put32(out + NIBBLES + 32 * t + 4 * p.part, low & 0x0F0F0F0Fu | (high & 0x0F0F0F0Fu) << 4);
      plane |= (low >> 4 & 0x01010101u) << 2 * t | (high >> 4 & 0x01010101u) << 2 * t + 1;
    }
    if (p.live && FIFTH) put32(out + PLANE + 4 * p.part, plane);
    if (p.live && p.part == 0) put32(out, d | (u32)dmin << 16);
    for (u32 w = 0; w < 3; w++) {
      if (p.live && p.part == w + 1) put32(out + 4 + 4 * w, table.words[w]);
    }
    return accepted;
  }

  // The upper bits of values above 63 overlap those of others, as in ggml.
  INLINE SixBits packed(u32 scale, u32 min) {
    SixBits table = {{0, 0, 0}};
    for (u32 j = 0; j < 4; j++) {
      u32 s = of<P>(scale, j), m = of<P>(min, j), s4 = of<P>(scale, j + 4), m4 = of<P>(min, j + 4);
      table.words[0] |= (s | s4 >> 4 << 6 & 0xC0) << 8 * j;
      table.words[1] |= (m | m4 >> 4 << 6 & 0xC0) << 8 * j;
      table.words[2] |= (s4 & 15 | m4 << 4 & 0xF0) << 8 * j;
    }
    return table;
  }

  INLINE void decode(const u8 *src, u32 four, float *x) {
    u32 part = four / 8, at = four % 8 * 4;
    SixBits table = {{get32(src + 4), get32(src + 8), get32(src + 12)}};
    float d = product(widen(get16(src)), (float)table.scale(part));
    float m = product(widen(get16(src + 2)), (float)table.minimum(part));
    u32 codes = get32(src + NIBBLES + part / 2 * 32 + at) >> part % 2 * 4 & 0x0F0F0F0Fu;
    if (FIFTH) codes |= (get32(src + PLANE + at) >> part & 0x01010101u) << 4;
    for (u32 j = 0; j < 4; j++) x[j] = difference(product(d, (float)byte(codes, j)), m);
  }
};
