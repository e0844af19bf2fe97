// Values stored as binary32 (0), binary16 (1) or the upper half of a binary32 (2): one text for searches, beside which the
// choice is nothing.

fn load(at: u32) -> u32 {
  if (size.kind == 0u) {
    return source[at];
  }
  let half = half_at(at);
  if (size.kind == 1u) {
    return widened(half);
  }
  return half << 16u;
}
