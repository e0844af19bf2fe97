// Multiplies or divides the rows or columns of a matrix by a gain, element-wise.

struct Gain {
  values: u32,
  width: u32,
  // Index of the first gain in the tables; 1 if there is one gain per column, 0 if one per row.
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
