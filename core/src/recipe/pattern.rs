//! Patterns for tensor names: `*` stands for anything, `?` for one character, the rest for itself.
//!
//! A pattern speaks of a whole name or of any run of its parts between dots, so that `attn_v` finds
//! `blk.3.attn_v.weight`, and `output.weight` does not find `blk.3.attn_output.weight`.

/// Whether `pattern` finds `name`; case does not matter.
pub fn finds(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let starts = core::iter::once(0).chain(dots(name).map(|d| d + 1));
    starts.into_iter().any(|start| {
        let ends = dots(name).filter(|&end| end >= start).chain([name.len()]);
        ends.into_iter().any(|end| name.get(start..end).is_some_and(|part| matches(pattern, part)))
    })
}

fn dots(name: &[u8]) -> impl Iterator<Item = usize> + '_ {
    name.iter().enumerate().filter(|(_, b)| **b == b'.').map(|(i, _)| i)
}

/// Whether all of `text` is what `pattern` says. Only the last star is ever tried again, so the time is at most the
/// product of both lengths.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(&c) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&want) if want == b'?' || want.eq_ignore_ascii_case(&c) => {
                p += 1;
                t += 1;
            }
            _ => match &mut star {
                Some((after, from)) => {
                    *from += 1;
                    (p, t) = (*after + 1, *from);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|&c| c == b'*'))
}

#[cfg(test)]
mod tests {
    use super::finds;

    #[test]
    fn patterns_find_parts_and_wholes() {
        for (pattern, name, found) in [
            ("attn_v", "blk.3.attn_v.weight", true),
            ("attn_v.weight", "blk.3.attn_v.weight", true),
            ("blk.3.attn_v.weight", "blk.3.attn_v.weight", true),
            ("ATTN_V", "blk.3.attn_v.weight", true),
            ("attn", "blk.3.attn_v.weight", false),
            ("attn_*", "blk.3.attn_v.weight", true),
            ("*", "blk.3.attn_v.weight", true),
            ("output.weight", "blk.3.attn_output.weight", false),
            ("*output.weight", "blk.3.attn_output.weight", true),
            ("blk.1", "blk.11.attn_v.weight", false),
            ("blk.?.attn_*", "blk.1.attn_v.weight", true),
            ("blk.?.attn_*", "blk.11.attn_v.weight", false),
            ("*.*.*.*.*", "blk.1.attn_v.weight", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("", "blk", false),
            ("**", "", true),
        ] {
            assert_eq!(finds(pattern, name), found, "{pattern} in {name}");
        }
    }
}
