//! Patterns of the tables of families: `{layer}`, `{expert}` and `{block}` stand for a number, `{q,k,v}` for one of these words.

/// What the holes of a pattern were filled with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// The number at `{layer}`.
    pub layer: Option<u32>,
}

/// What the holes of `pattern` must hold to make it `text`, where that can be.
pub fn fill(pattern: &str, text: &str) -> Option<Filled> {
    walk(pattern, text, Filled::default())
}

/// Patterns are constants with a few holes: as deep as those, and no deeper.
fn walk(pattern: &str, text: &str, filled: Filled) -> Option<Filled> {
    let Some((before, rest)) = pattern.split_once('{') else {
        return (pattern == text).then_some(filled);
    };
    let text = text.strip_prefix(before)?;
    let (hole, rest) = rest.split_once('}')?;
    match hole {
        "layer" => {
            let (layer, text) = number(text)?;
            walk(rest, text, Filled { layer: Some(layer) })
        }
        "expert" | "block" => walk(rest, number(text)?.1, filled),
        words => words.split(',').find_map(|word| walk(rest, text.strip_prefix(word)?, filled)),
    }
}

/// The number that `text` begins with, written as numbers are in names (no leading zero), and what follows it.
pub fn number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    if digits.len() > 1 && digits.starts_with('0') {
        return None;
    }
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::{Filled, fill};

    #[test]
    fn holes_are_filled_by_numbers_and_words() {
        let layer = |n| Some(Filled { layer: Some(n) });
        let none = Some(Filled::default());
        for (pattern, text, filled) in [
            ("norm", "norm", none),
            ("norm", "norm2", None),
            ("norm", "", None),
            ("layers.{layer}.{q,k}_proj", "layers.0.k_proj", layer(0)),
            ("layers.{layer}.{q,k}_proj", "layers.12.q_proj", layer(12)),
            ("layers.{layer}.{q,k}_proj", "layers.12.v_proj", None),
            ("layers.{layer}.{q,k}_proj", "layers.012.q_proj", None),
            ("layers.{layer}.{q,k}_proj", "layers..q_proj", None),
            ("layers.{layer}.{q,k}_proj", "layers.99999999999.q_proj", None),
            ("layers.{layer}.{q,k}_proj", "layers.1.q_proj.x", None),
            ("layers.{layer}.experts.{expert}.{gate,up}", "layers.3.experts.7.up", layer(3)),
            ("layers.{layer}.experts.{expert}.{gate,up}", "layers.3.experts.x.up", None),
            // A word that is the beginning of another does not hide it.
            ("{in,in_proj}.{a,b}", "in_proj.b", none),
            ("{,model.}visual", "visual", none),
            ("{,model.}visual", "model.visual", none),
        ] {
            assert_eq!(fill(pattern, text), filled, "{pattern} of {text}");
        }
    }
}
