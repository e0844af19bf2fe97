// Q3_K: 256 upper bits, 256 pairs of lower bits, sixteen scales of six bits, `f16 d`.

#include "super_block.cuh"

struct Q3_K {
  enum : u32 { N = 16, P = 16, CODES = 32, SCALES = 96, D = 108, BYTES = 110, ROOM = 1 };

  // This sub-block's scale, counted from -32, and the scale of scales.
  struct Stored {
    u32 scale;
    float d;
  };

  template <bool WEIGHTED>
  INLINE bool encode(SubBlock x, SubBlock weights, ExchangeBuffer exchange, Place<P> p, u8 *out) {
    Fit fit = {0.0f, 0.0f, 0.0f, 0.0f};
    Stored stored;
    bool accepted = true;
    if (WEIGHTED) {
      float sum;
      accepted = weigh<N>(x, weights, 2.0f, &sum);
      fit = symmetric<N>(4, x, Importance<STEP>{weights});
      stored = weighted(exchange, fit.scale, sum);
    } else {
      fit.scale = q3_refine<N>(4, x, weights);
      stored = scale_integers(fit.scale);
    }
    u16 field = narrow(stored.d);
    accepted &= finite(fit.scale) && !overflows(field);
    float d = product(widen(field), (float)((int)stored.scale - 32));
    CodeMap maps = code_map(fit, d, 0.0f);
    // Codes that the search changed belong to no grid.
    __syncwarp();
    Quarter mine = quarter();
    u32 codes = 0, plane = 0;
    for (u32 q = 0; q < 4; q++) {
      u32 now = four<P>(x, maps, mine.part(q), mine.at(), -4, 3);
      if (!WEIGHTED && of<P>(d, mine.part(q)) == 0.0f) now = left(weights, mine.part(q), mine.at());
      codes |= (now & 0x03030303u) << 2 * q;
      plane |= (now >> 2 & 0x01010101u) << 4 * mine.half + q;
    }
    plane |= __shfl_xor_sync(WARP, plane, 8);
    u32 table = packed(stored.scale, p.part);
    if (p.live) {
      put32(out + CODES + 32 * mine.half + 4 * mine.word, codes);
      if (mine.half == 0) put32(out + 4 * mine.word, plane);
      if (p.part < 12) out[SCALES + p.part] = (u8)table;
      if (p.part == 0) put16(out + D, field);
    }
    return accepted;
  }

  // The scale of largest magnitude is -32 steps.
  INLINE Stored scale_integers(float scale) {
    float top = signed_greatest<P>(scale), inverse = __fdiv_rn(-32.0f, top);
    if (top == 0.0f) return {0, 0.0f};
    return {(u32)(within(-32, nearest(product(inverse, scale)), 31) + 32), __fdiv_rn(1.0f, inverse)};
  }

  // Fits the scales as values are fitted; the weight of a scale is the sum of its values' weights.
  INLINE Stored weighted(ExchangeBuffer exchange, float scale, float sum) {
    __syncwarp();
    exchange.line(0) = finite_or_zero(scale), exchange.line(1) = sum;
    __syncwarp();
    Fit all = {0.0f, 0.0f, 0.0f, 0.0f};
    if (threadIdx.x % P == 0) all = symmetric<P>(32, exchange.numbers<P>(0), Importance<1>{exchange.numbers<P>(1)});
    __syncwarp();
    CodeMap maps = {0.0f, of<P>(all.inverse, 0), of<P>(all.inverse, 0) == 0.0f ? (u32)LOWEST : (u32)SEARCHED};
    return {code(scale, maps, -32, 31), of<P>(all.scale, 0)};
  }

  // Four codes that the search of another thread left.
  INLINE u32 left(SubBlock codes, u32 part, u32 at) {
    int other = (int)part - (int)(threadIdx.x % P);
    u32 four = 0;
    for (u32 n = 0; n < 4; n++) four |= (u32)((int)codes.at[(int)(STEP * (at + n)) + other] + 4) << 8 * n;
    return four;
  }

  // Byte `at` of the table of scales: nibbles of the first and of the second eight, then the upper bits of four.
  INLINE u32 packed(u32 scale, u32 at) {
    u32 all[P], low = 0, upper = 0;
#pragma unroll
    for (u32 j = 0; j < P; j++) all[j] = of<P>(scale, j);
#pragma unroll
    for (u32 j = 0; j < 8; j++) {
      if (at == j) low = all[j] & 15 | all[j + 8] << 4;
    }
#pragma unroll
    for (u32 j = 0; j < P; j++) {
      if (at == 8 + j % 4) upper |= (all[j] >> 4 & 3) << 2 * (j / 4);
    }
    return low | upper;
  }

  INLINE void decode(const u8 *src, u32 four, float *x) {
    u32 part = four / 4, low = src[SCALES + part % 8] >> part / 8 * 4 & 15;
    u32 upper = src[SCALES + 8 + part % 4] >> part / 4 * 2 & 3;
    float d = product(widen(get16(src + D)), (float)((int)(low | upper << 4) - 32));
    u32 codes = get32(src + CODES + four / 32 * 32 + four % 8 * 4) >> four / 8 % 4 * 2 & 0x03030303u;
    codes |= (get32(src + four % 8 * 4) >> four / 8 & 0x01010101u) << 2;
    for (u32 j = 0; j < 4; j++) x[j] = product(d, (float)((int)byte(codes, j) - 4));
  }
};

SUPER_KERNELS(Q3_K)
