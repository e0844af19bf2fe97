// Operations of rotations on hardware floats. The xor with `zero`, which the compiler does not know to be 0, forces each
// result to exist, so that nothing is fused or reordered. The probe checks that the device rounds to nearest.
//
// No result depends on flushing of subnormals: inputs of a product are 0 or at least 2^-102, hence multiples of 2^-125,
// and so are all sums; results of scaling are checked.

var<private> zero: u32;

fn add(a: u32, b: u32) -> u32 {
  return bitcast<u32>(bitcast<f32>(a) + bitcast<f32>(b)) ^ zero;
}

fn subtract(a: u32, b: u32) -> u32 {
  return bitcast<u32>(bitcast<f32>(a) - bitcast<f32>(b)) ^ zero;
}

// The product; b must be positive.
fn multiply(a: u32, b: u32) -> u32 {
  if ((a & MAGNITUDE) != 0u && ((a & INFINITE) >> 23u) + (b >> 23u) < 129u) {
    decline();
  }
  return bitcast<u32>(bitcast<f32>(a) * bitcast<f32>(b)) ^ zero;
}

// Declines inputs of a product that are neither 0 nor at least 2^-102.
fn check_input(x: u32) {
  if ((x & MAGNITUDE) != 0u && ((x & INFINITE) >> 23u) < 25u) {
    decline();
  }
}
