//! Patterns for tensor names: `*` stands for anything, `?` for one character, the rest for itself.
//!
//! A pattern speaks of a whole name or of any run of its parts between dots, so that `attn_v` finds
//! `blk.3.attn_v.weight`, and `output.weight` does not find `blk.3.attn_output.weight`.

/// Whether `pattern` finds `name`; case does not matter.
///
/// What stands between stars is looked for from left to right and never again, so the time is at most the product of
/// both lengths, however many stars and parts there are.
pub fn finds(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (first, rest) = at_star(pattern);
    let Some(mut rest) = rest else { return starts(name).any(|at| is_part(first, name, at)) };
    // The earliest place leaves the most room for what follows.
    let found = starts(name).find(|&at| is_at(first, name, at));
    let Some(mut at) = found.map(|at| at + first.len()) else { return false };
    while let (middle, Some(after)) = at_star(rest) {
        let Some(found) = (at..=name.len()).find(|&from| is_at(middle, name, from)) else { return false };
        (at, rest) = (found + middle.len(), after);
    }
    ends(name)
        .any(|end| end.checked_sub(rest.len()).is_some_and(|from| from >= at && is_at(rest, name, from)))
}

/// What stands before the first star, and what after it.
fn at_star(pattern: &[u8]) -> (&[u8], Option<&[u8]>) {
    let star = pattern.iter().position(|&c| c == b'*').unwrap_or(pattern.len());
    let (before, rest) = pattern.split_at(star);
    (before, rest.split_first().map(|(_, after)| after))
}

/// Where the parts of `name` begin.
fn starts(name: &[u8]) -> impl Iterator<Item = usize> + '_ {
    core::iter::once(0).chain(dots(name).map(|dot| dot + 1))
}

/// Where the parts of `name` end.
fn ends(name: &[u8]) -> impl Iterator<Item = usize> + '_ {
    dots(name).chain([name.len()])
}

fn dots(name: &[u8]) -> impl Iterator<Item = usize> + '_ {
    name.iter().enumerate().filter(|(_, b)| **b == b'.').map(|(i, _)| i)
}

/// Whether the bytes of `name` from `at` on are those of `want`, which has no stars, up to the end of a part.
fn is_part(want: &[u8], name: &[u8], at: usize) -> bool {
    is_at(want, name, at) && matches!(name.get(at + want.len()), None | Some(b'.'))
}

/// Whether the bytes of `name` from `at` on are those of `want`, which has no stars.
fn is_at(want: &[u8], name: &[u8], at: usize) -> bool {
    let same = |(want, have): (&u8, &u8)| *want == b'?' || want.eq_ignore_ascii_case(have);
    name.get(at..).and_then(|rest| rest.get(..want.len())).is_some_and(|have| want.iter().zip(have).all(same))
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
