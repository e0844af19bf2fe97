// Q4_0 and Q5_0: one scale, symmetric codes.

#include "small_block.cuh"

// `HALF` is the code of zero.
template <int HALF>
struct SymmetricBlock {
  enum : u32 { BYTES = HALF == 8 ? 18 : 22, CODES = BYTES - LEN / 2 };

  INLINE bool encode(const float *x, Place p, u8 *out) {
    float max = signed_absmax(x, p.lane);
    // The power of two makes the product the quotient.
    float d = __fmul_rn(max, -1.0f / HALF);
    float id = reciprocal(d);
    u32 q[4];
    for (u32 j = 0; j < 4; j++) {
      float t = __fadd_rn(__fmul_rn(x[j], id), HALF + 0.5f);
      q[j] = finite(id) ? truncated(t, 2 * HALF - 1) : 0;
    }
    u32 codes = pack(q[0], q[1], q[2], q[3]);
    u32 halves = nibbles(codes), fifth = HALF == 16 ? fifths(codes, p.lane) : 0;
    u16 field = narrow(d);
    if (p.live && p.lane < LANES / 2) put32(out + CODES + 4 * p.lane, halves);
    if (p.live && p.lane == LANES / 2) put16(out, field);
    if (p.live && p.lane == LANES / 2 && HALF == 16) put32(out + 2, fifth);
    return overflows(field);
  }

  INLINE void decode(const u8 *src, u32 lane, float *x) {
    float d = widen(get16(src));
    u32 codes = unpack_nibbles(get32(src + CODES + 4 * (lane % 4)), lane);
    if (HALF == 16) codes |= unpack_fifths(get32(src + 2), lane);
    for (u32 j = 0; j < 4; j++) x[j] = __fmul_rn((float)((int)(codes >> 8 * j & 31) - HALF), d);
  }
};
