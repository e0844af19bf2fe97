// Loads F16.

fn load(at: u32) -> u32 {
  return widened(half_at(at));
}
