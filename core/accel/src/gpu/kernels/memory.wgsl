// Bindings and header fields of all block kernels.
//
// A kernel sets `declined` if the CPU reference would refuse a value, if NaN or infinity occurs, or if its own result is
// uncertain. The CPU then does the whole task.

struct Size {
  blocks: u32,
  // Blocks per row, and index of the first block in its row.
  row: u32,
  first: u32,
  // Source type; see `load_any.wgsl`.
  kind: u32,
}

@group(0) @binding(0) var<storage, read> source: array<u32>;
@group(0) @binding(1) var<storage, read_write> result: array<u32>;
@group(0) @binding(2) var<storage, read_write> declined: atomic<u32>;
@group(0) @binding(3) var<uniform> size: Size;
// A zero that the compiler cannot see, then the importance weights of the columns, if any.
@group(0) @binding(4) var<storage, read> column_weights: array<u32>;

fn half_at(at: u32) -> u32 {
  return (source[at >> 1u] >> ((at & 1u) * 16u)) & 0xffffu;
}

fn decline() {
  atomicStore(&declined, 1u);
}

// Maps bit patterns to integers in the order of their values; -0 equals +0.
fn order(x: u32) -> u32 {
  let a = x & MAGNITUDE;
  return select(SIGN + a, SIGN - a, x >= SIGN);
}

// Rounds to F16 for the header and declines if the result is not finite. Headers hold extremes, so this sees every
// infinite value.
fn field(x: u32) -> u32 {
  let half = narrowed(x);
  if ((half & 0x7c00u) == 0x7c00u) {
    decline();
  }
  return half;
}

// An integer of at most 12 bits times an F16: exact in F32.
fn multiple(half: u32, count: i32) -> u32 {
  let negative = (half >= 0x8000u) != (count < 0);
  let sign = select(0u, SIGN, negative);
  let field = (half >> 10u) & 0x1fu;
  if (field == 31u) {
    decline();
  }
  let significand = (half & 0x3ffu) | select(0u, 0x400u, field != 0u);
  let total = significand * u32(abs(count));
  if (total == 0u) {
    return sign;
  }
  let leading = firstLeadingBit(total);
  return sign | ((leading + max(field, 1u) + 102u) << 23u) | ((total << (23u - leading)) & 0x7fffffu);
}
