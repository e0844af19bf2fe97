// Q4_1 and Q5_1: a scale and a minimum.

#include "small_block.cuh"

// `TOP` is the largest code.
template <int TOP>
struct AsymmetricBlock {
  enum : u32 { BYTES = TOP == 15 ? 20 : 24, CODES = BYTES - LEN / 2 };

  INLINE bool encode(const float *x, Place p, u8 *out) {
    float low, high;
    extremes(x, p.lane, &low, &high);
    float d = __fdiv_rn(__fsub_rn(high, low), (float)TOP);
    float id = reciprocal(d);
    u32 q[4];
    for (u32 j = 0; j < 4; j++) {
      float t = __fadd_rn(__fmul_rn(__fsub_rn(x[j], low), id), 0.5f);
      q[j] = finite(id) ? truncated(t, TOP) : 0;
    }
    u32 codes = pack(q[0], q[1], q[2], q[3]);
    u32 halves = nibbles(codes), fifth = TOP == 31 ? fifths(codes, p.lane) : 0;
    u16 scale = narrow(d), minimum = narrow(low);
    if (p.live && p.lane < LANES / 2) put32(out + CODES + 4 * p.lane, halves);
    if (p.live && p.lane == LANES / 2) put32(out, scale | (u32)minimum << 16);
    if (p.live && p.lane == LANES / 2 && TOP == 31) put32(out + 4, fifth);
    return overflows(scale) || overflows(minimum);
  }

  INLINE void decode(const u8 *src, u32 lane, float *x) {
    float d = widen(get16(src)), m = widen(get16(src + 2));
    u32 codes = unpack_nibbles(get32(src + CODES + 4 * (lane % 4)), lane);
    if (TOP == 31) codes |= unpack_fifths(get32(src + 4), lane);
    for (u32 j = 0; j < 4; j++) x[j] = __fadd_rn(__fmul_rn((float)(int)(codes >> 8 * j & 31), d), m);
  }
};
