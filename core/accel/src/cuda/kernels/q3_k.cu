// Q3_K: 256 upper bits, 256 pairs of lower bits, sixteen scales of six bits, `f16 d`.

#include "super.cuh"

struct Q3_K {
  enum : u32 { N = 16, P = 16, CODES = 32, SCALES = 96, D = 108, BYTES = 110, ROOM = 1 };

  // This sub-block's scale, counted from -32, and the scale of scales.
  struct Stored {
    u32 scale;
    float d;
  };

  template <bool WEIGHTED>
  INLINE bool encode(Own x, Own weights, Desk desk, Place<P> p, u8 *out) {
    Fit fit = {0.0f, 0.0f, 0.0f, 0.0f};
    Stored stored;
    bool sound = true;
    if (WEIGHTED) {
      float sum;
      sound = weigh<N>(x, weights, 2.0f, &sum);
      fit = around_zero<N>(4, x, Given<STEP>{weights});
      stored = weighted(desk, fit.scale, sum);
    } else {
      fit.scale = refined<N>(4, x, weights);
      stored = shared_out(fit.scale);
    }
    u16 field = narrow(stored.d);
    sound &= finite(fit.scale) && !overflows(field);
    float d = product(widen(field), (float)((int)stored.scale - 32));
    Way ways = way(fit, d, 0.0f);
    // Codes that the search moved are not those of any grid.
    __syncwarp();
    Quarter mine = quarter();
    u32 codes = 0, plane = 0;
    for (u32 q = 0; q < 4; q++) {
      u32 now = four<P>(x, ways, mine.part(q), mine.at(), -4, 3);
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
    return sound;
  }

  // The greatest scale is -32 steps.
  INLINE Stored shared_out(float scale) {
    float top = signed_greatest<P>(scale), inverse = __fdiv_rn(-32.0f, top);
    if (top == 0.0f) return {0, 0.0f};
    return {(u32)(within(-32, nearest(product(inverse, scale)), 31) + 32), __fdiv_rn(1.0f, inverse)};
  }

  // Scales are fitted as values are, and count as much as theirs together.
  INLINE Stored weighted(Desk desk, float scale, float sum) {
    __syncwarp();
    desk.line(0) = searchable(scale), desk.line(1) = sum;
    __syncwarp();
    Fit all = {0.0f, 0.0f, 0.0f, 0.0f};
    if (threadIdx.x % P == 0) all = around_zero<P>(32, desk.numbers<P>(0), Given<1>{desk.numbers<P>(1)});
    __syncwarp();
    Way ways = {0.0f, of<P>(all.inverse, 0), of<P>(all.inverse, 0) == 0.0f ? (u32)LOWEST : (u32)SEARCHED};
    return {code(scale, ways, -32, 31), of<P>(all.scale, 0)};
  }

  // Four codes as they were left by the search of another thread.
  INLINE u32 left(Own codes, u32 part, u32 at) {
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
