//! Merges of a SentencePiece BPE model from the scores of its pieces, in the order of transformers' conversion.

use super::super::sentencepiece::piece;
use super::GgufToken;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// For each piece, the pairs of pieces that make it, by falling score of the piece, then by the ids of the pair.
pub(super) fn merges<'a>(tokens: &[GgufToken<'a>]) -> Vec<(&'a str, &'a str)> {
    // Other pieces are matched before any merge, or never.
    let normal = |t: &&GgufToken<'_>| t.kind == piece::NORMAL;
    let ids: BTreeMap<&str, usize> =
        tokens.iter().enumerate().filter(|(_, t)| normal(t)).map(|(id, t)| (t.text, id)).collect();
    let mut found: Vec<(f32, usize, usize, (&str, &str))> = Vec::new();
    for token in tokens.iter().filter(normal) {
        for (at, _) in token.text.char_indices().skip(1) {
            let (left, right) = token.text.split_at(at);
            if let (Some(l), Some(r)) = (ids.get(left), ids.get(right)) {
                found.push((token.score, *l, *r, (left, right)));
            }
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    found.into_iter().map(|(.., pair)| pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_follow_the_scores() {
        let token = |text, score| GgufToken { text, score, kind: piece::NORMAL };
        let tokens =
            [token("a", -9.0), token("b", -9.0), token("ab", -2.0), token("abb", -1.0), token("bb", -3.0)];
        assert_eq!(merges(&tokens), [("a", "bb"), ("ab", "b"), ("a", "b"), ("b", "b")]);
    }
}
