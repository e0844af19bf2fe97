// Loads F32 (kind 0), F16 (1) or BF16 (2). One source for all types: the branch costs nothing beside a scale search.

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
