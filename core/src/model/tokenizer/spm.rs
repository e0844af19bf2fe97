//! Token lists of SentencePiece models: Llama, Phi-3, T5, XLM-RoBERTa.

use super::files::{AddedToken, MergePair, TokenizerFiles, id_map};
use super::list::{ADDED_SCORE, Token, TokenList, added_kind};
use super::sentencepiece::{SentencePiece, piece};
use super::text_index::TextIndex;
use crate::error::Result;
use alloc::borrow::Cow;
use alloc::vec;
use alloc::vec::Vec;

/// The pieces, padded to `size`; pieces beyond are left out.
///
/// # Errors
/// `too_many`.
pub(super) fn pieces<'a>(model: &SentencePiece<'a>, size: u64) -> Result<TokenList<'a>> {
    let mut list = TokenList::padding(size)?;
    for (id, p) in model.pieces.iter().enumerate() {
        // User-defined pieces are text in llama.cpp's files.
        let kind = if p.kind == piece::USER_DEFINED { piece::NORMAL } else { p.kind };
        list.put(id as u64, Token { text: Cow::Borrowed(p.text), score: p.score, kind });
    }
    Ok(list)
}

/// Lays `added_tokens.json` over the pieces.
///
/// # Errors
/// `bad_json`.
pub(super) fn lay_added_json<'a>(list: &mut TokenList<'a>, files: &TokenizerFiles<'a>) -> Result<()> {
    for (text, id) in id_map(files.all, "added_tokens.json")?.unwrap_or_default() {
        let token = Token { text, score: ADDED_SCORE, kind: piece::USER_DEFINED };
        if let Ok(id) = u64::try_from(id) {
            list.put(id, token);
        }
    }
    Ok(())
}

/// Lays the configuration's added tokens over the pieces.
///
/// # Errors
/// `bad_value`.
pub(super) fn lay_added_decoder<'a>(list: &mut TokenList<'a>, files: &TokenizerFiles<'a>) -> Result<()> {
    for token in files.added_decoder()? {
        let id = u64::try_from(token.id).unwrap_or(u64::MAX);
        let (text, kind) = added_kind(token.content, token.special);
        list.put(id, Token { text, score: ADDED_SCORE, kind });
    }
    Ok(())
}

/// Lays added tokens over the pieces, with their texts unchanged: Phi-3.
pub(super) fn lay_raw<'a>(list: &mut TokenList<'a>, added: impl IntoIterator<Item = AddedToken<'a>>) {
    for token in added {
        let kind = if token.special { piece::CONTROL } else { piece::USER_DEFINED };
        let id = u64::try_from(token.id).unwrap_or(u64::MAX);
        list.put(id, Token { text: token.content, score: ADDED_SCORE, kind });
    }
}

/// The ids of XLM-RoBERTa: four special tokens, then the pieces after the first three, without the last one.
pub(super) fn realign(list: &mut TokenList<'_>) {
    list.0.pop();
    list.0.drain(..list.0.len().min(3));
    let first = [
        ("<s>", piece::CONTROL),
        ("<pad>", piece::CONTROL),
        ("</s>", piece::CONTROL),
        ("<unk>", piece::UNKNOWN),
    ];
    let first = first.map(|(text, kind)| Token { text: Cow::Borrowed(text), score: 0.0, kind });
    list.0.splice(0..0, first);
}

/// Scores by which an engine that merges by the score of the result merges as `merges` does: the first result has 0, the next
/// -1. Returns false if the merges of a result do not follow one another, so that no scores are equal to them.
pub(super) fn score_by_merges(list: &mut TokenList<'_>, merges: &[MergePair<'_>]) -> bool {
    let results = TextIndex::of_runs(merges.iter().filter_map(MergePair::parts));
    let mut distinct = vec![true; results.len()];
    for repeated in results.repeated() {
        if let Some(first) = distinct.get_mut(repeated as usize) {
            *first = false;
        }
    }
    let mut scores = Vec::with_capacity(distinct.len());
    let mut below = 0_u32;
    for &first in &distinct {
        scores.push(-(below as f32));
        below += u32::from(first);
    }
    let lowest = -(below as f32);
    for token in list.0.iter_mut().filter(|t| t.kind == piece::NORMAL) {
        let score = results.first(&token.text).and_then(|result| scores.get(result as usize));
        token.score = score.copied().unwrap_or(lowest);
    }
    below as usize == distinct.len()
}
