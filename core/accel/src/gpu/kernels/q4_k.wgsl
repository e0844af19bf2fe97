// Q4_K: f16 d, f16 dmin, 12 bytes of 8 scales and 8 minima, 256 nibbles; w = d scale q - dmin min.

const WIDTH = 32u;
const BYTES = 144u;
const LOW = 0;
const TOP = 15;
const GRID = Grid(15.0, -1.0, 0.1, 20u, false);
const SPREAD = 0.0078125;
const MOST = 63;
// With importance weights the reference (ggml) may store integers above 63.
const LIMITED = !WEIGHTED;

fn byte(block: u32, at: u32) -> u32 {
  if (at < 16u) {
    return header(block, at);
  }
  let l = at - 16u;
  return packed(block, (l >> 5u) * 64u + (l & 31u), 32u, 0u, 4u);
}

fn code_at(at: u32, part: u32, i: u32) -> u32 {
  return (byte_at(at + 16u + (part >> 1u) * 32u + i) >> ((part & 1u) * 4u)) & 15u;
}
