// Converts stored floats to F32.

struct Size {
  values: u32,
}

@group(0) @binding(3) var<uniform> size: Size;

@compute @workgroup_size(256)
fn widen(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) me: u32,
) {
  let at = (group.y * groups.x + group.x) * 256u + me;
  if (at < size.values) {
    result[at] = finite(load(at));
  }
}
