// Loads F32.

fn load(at: u32) -> u32 {
  return source[at];
}
