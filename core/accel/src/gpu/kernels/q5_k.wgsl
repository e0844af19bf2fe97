// Q5_K: as Q4_K, with 32 bytes of fifth bits before the nibbles.

const WIDTH = 32u;
const BYTES = 176u;
const LOW = 0;
const TOP = 31;
const GRID = Grid(31.0, -0.5, 0.1, 15u, false);
const SPREAD = 0.0078125;
const MOST = 63;
const LIMITED = true;

fn byte(block: u32, at: u32) -> u32 {
  if (at < 16u) {
    return header(block, at);
  }
  if (at < 48u) {
    return packed(block, at - 16u, 32u, 4u, 1u);
  }
  let l = at - 48u;
  return packed(block, (l >> 5u) * 64u + (l & 31u), 32u, 0u, 4u);
}

fn code_at(at: u32, part: u32, i: u32) -> u32 {
  let low = (byte_at(at + 48u + (part >> 1u) * 32u + i) >> ((part & 1u) * 4u)) & 15u;
  return low | (((byte_at(at + 16u + i) >> part) & 1u) << 4u);
}
