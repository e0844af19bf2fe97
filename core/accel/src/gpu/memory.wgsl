// What every kernel shares: where bytes are, doubts, and the fields of headers.
//
// `doubt` is raised where the definition would refuse or where NaN decides, and where a kernel does not know: the
// processor then does the slice again.

struct Size {
  blocks: u32,
  // Blocks of a row, and which of them is the first.
  row: u32,
  first: u32,
  // How values are stored.
  kind: u32,
}

@group(0) @binding(0) var<storage, read> source: array<u32>;
@group(0) @binding(1) var<storage, read_write> result: array<u32>;
@group(0) @binding(2) var<storage, read_write> doubt: atomic<u32>;
@group(0) @binding(3) var<uniform> size: Size;
// A zero of which no compiler knows, and the weights of the columns of a row, where they have any.
@group(0) @binding(4) var<storage, read> given: array<u32>;

fn half_at(at: u32) -> u32 {
  return (source[at >> 1u] >> ((at & 1u) * 16u)) & 0xffffu;
}

fn raise() {
  atomicStore(&doubt, 1u);
}

// Orders patterns as the numbers that they are; zeros of both signs are equal.
fn order(x: u32) -> u32 {
  let a = x & MAGNITUDE;
  return select(SIGN + a, SIGN - a, x >= SIGN);
}

// A binary16 for the header; it is not finite where a value is not, for what is a header's is an extreme.
fn field(x: u32) -> u32 {
  let half = narrowed(x);
  if ((half & 0x7c00u) == 0x7c00u) {
    raise();
  }
  return half;
}

// An integer of at most 12 bits times a binary16: exact, so there is nothing to round.
fn multiple(half: u32, count: i32) -> u32 {
  let negative = (half >= 0x8000u) != (count < 0);
  let sign = select(0u, SIGN, negative);
  let field = (half >> 10u) & 0x1fu;
  if (field == 31u) {
    raise();
  }
  let significand = (half & 0x3ffu) | select(0u, 0x400u, field != 0u);
  let total = significand * u32(abs(count));
  if (total == 0u) {
    return sign;
  }
  let leading = firstLeadingBit(total);
  return sign | ((leading + max(field, 1u) + 102u) << 23u) | ((total << (23u - leading)) & 0x7fffffu);
}
