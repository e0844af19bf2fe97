// One pass of a rotation (`device/rotation_passes.rs`): signs, butterflies, dense part, scale, signs.
//
// A pass divides vectors into lines of equally spaced values. A thread block loads neighbouring lines into shared memory,
// transforms them, and stores them to `out`, which may be `src`.

#include "float.cuh"

// The lines of a pass. Value `k` of line `(v, start, col)` is at `at + v * stride + (first + k * step) * width + col`, where `first`
// is its first index on the axis: each run of `length * step` values of the axis holds `step` lines.
struct Lines {
  u32 count, length, step, starts, width;
  u64 stride, at;
};

// A sign vector, one bit per index of the axis (1 for -1), or null.
typedef const u32 *Signs;

INLINE u32 flip(Signs signs, u32 i) { return signs ? signs[i / 32] >> i % 32 << 31 : 0; }

// Maximum number of lines per thread block, a power of two.
enum : u32 { MOST = 128 };

struct Group {
  u64 base[MOST];
  u32 axis[MOST];
};

// Computes the positions of the lines of a thread block; returns how many there are.
INLINE u32 find(Lines all, u32 lines, Group &group) {
  u32 first = blockIdx.x * lines, count = min(lines, all.count - first);
  if (threadIdx.x < count) {
    u32 line = first + threadIdx.x, col = line % all.width, whole = line / all.width;
    u32 v = whole / all.starts, start = whole % all.starts;
    u32 axis = start / all.step * all.length * all.step + start % all.step;
    group.axis[threadIdx.x] = axis;
    group.base[threadIdx.x] = all.at + v * all.stride + (u64)axis * all.width + col;
  }
  return count;
}

// Neighbouring lines are in neighbouring banks; so are neighbouring values if there is more than one line.
extern __shared__ float room[];

INLINE u32 slot(u32 k, u32 t, u32 lines) { return k * (lines | 1) + t; }

// The value that a thread moves: neighbouring threads move values that are neighbours in memory.
struct Move {
  u32 k, t;
};

INLINE Move move(Lines all, u32 lines, u32 n) {
  if (all.step == 1 && all.width == 1) return {n % all.length, n / all.length};
  return {n / lines, n % lines};
}

INLINE void fetch(const float *src, Lines all, u32 lines, u32 count, Signs before, const Group &group) {
#pragma unroll 1
  for (u32 n = threadIdx.x; n < lines * all.length; n += blockDim.x) {
    Move m = move(all, lines, n);
    if (m.t >= count) continue;
    float x = src[group.base[m.t] + (u64)(m.k * all.step) * all.width];
    room[slot(m.k, m.t, lines)] = number(bits(x) ^ flip(before, group.axis[m.t] + m.k * all.step));
  }
}

// Scales (unless `factor` is 0), applies signs and stores. Returns whether the value is finite; a line with a value that is not
// finite has no finite result.
INLINE bool put(float *out, Lines all, const Group &group, u32 k, u32 t, float x, float factor, Signs after) {
  if (factor != 0.0f) x = __fmul_rn(x, factor);
  u32 i = group.axis[t] + k * all.step;
  out[group.base[t] + (u64)(k * all.step) * all.width] = number(bits(x) ^ flip(after, i));
  return finite(x);
}

// Parameters of the transform of a line.
struct Transform {
  // Butterfly strides are the powers of two below this.
  u32 rounds;
  // If more than 1, `base` runs of a line are then multiplied by a matrix of 1 and -1, one bit per entry (1 for -1), rows
  // padded to whole words.
  u32 base;
  const u32 *matrix;
};

INLINE void butterflies(u32 length, u32 rounds, u32 lines, u32 count) {
#pragma unroll 1
  for (u32 far = 1; far < rounds; far *= 2) {
#pragma unroll 1
    for (u32 n = threadIdx.x; n < lines * (length / 2); n += blockDim.x) {
      u32 t = n % lines, pair = n / lines, k = pair / far * far + pair;
      if (t >= count) continue;
      float &low = room[slot(k, t, lines)], &high = room[slot(k + far, t, lines)];
      float a = low, b = high;
      low = __fadd_rn(a, b), high = __fsub_rn(a, b);
    }
    __syncthreads();
  }
}

// Value `k` of a line after the dense part: a sum in column order.
INLINE float dense_sum(Transform turn, u32 part, u32 k, u32 t, u32 lines) {
  const u32 *row = turn.matrix + k / part * ((turn.base + 31) / 32);
  // Adding to -0 keeps the first term, zeros of both signs included.
  float sum = -0.0f;
  u32 at = slot(k % part, t, lines), signs = 0;
#pragma unroll 4
  for (u32 col = 0; col < turn.base; col++, at += slot(part, 0, lines), signs >>= 1) {
    if (col % 32 == 0) signs = row[col / 32];
    sum = __fadd_rn(sum, number(bits(room[at]) ^ signs << 31));
  }
  return sum;
}

extern "C" __global__ void turn(const float *src, float *out, u32 *refused, u32 count, u32 length, u32 step, u32 starts, u32 width,
                                u64 stride, u64 at, u32 lines, u32 rounds, u32 base, const u32 *matrix, Signs before,
                                Signs after, float factor) {
  __shared__ Group group;
  Lines all = {count, length, step, starts, width, stride, at};
  u32 here = find(all, lines, group), part = length / base;
  __syncthreads();
  fetch(src, all, lines, here, before, group);
  __syncthreads();
  butterflies(length, rounds, lines, here);
  bool accepted = true;
#pragma unroll 1
  for (u32 n = threadIdx.x; n < lines * length; n += blockDim.x) {
    Move m = move(all, lines, n);
    if (m.t >= here) continue;
    float x = base > 1 ? dense_sum({rounds, base, matrix}, part, m.k, m.t, lines) : room[slot(m.k, m.t, lines)];
    accepted &= put(out, all, group, m.k, m.t, x, factor, after);
  }
  if (!accepted) *refused = 1;
}
