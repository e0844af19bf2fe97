// Loads BF16, the upper half of an F32.

fn load(at: u32) -> u32 {
  return half_at(at) << 16u;
}
