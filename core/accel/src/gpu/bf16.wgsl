// Values stored as the upper half of a binary32.

fn load(at: u32) -> u32 {
  return half_at(at) << 16u;
}
