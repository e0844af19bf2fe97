// Gains: each vector times a vector, or divided by it.

struct Gain {
  values: u32,
  width: u32,
  // Where in the tables the gain of the first vector element is, and whether it is one for each column.
  at: u32,
  columns: u32,
  divides: u32,
}

@group(0) @binding(3) var<uniform> gain: Gain;

@compute @workgroup_size(256)
fn scale(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) me: u32,
) {
  let at = (group.y * groups.x + group.x) * 256u + me;
  if (at >= gain.values) {
    return;
  }
  let row = at / gain.width;
  let by = source[gain.at + select(row, at - row * gain.width, gain.columns == 1u)];
  if (gain.divides == 1u) {
    result[at] = finite(quotient(result[at], by));
  } else {
    result[at] = finite(product(result[at], by));
  }
}
