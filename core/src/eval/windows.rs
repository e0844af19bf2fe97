//! Windows of token ids: the inputs of a model, and the tokens that it has to predict.

use crate::error::{Code, Error, Result};
use alloc::format;
use alloc::vec::Vec;

/// How token ids are cut into windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowOptions {
    /// Predicted tokens of a window; with `half`, tokens of a window.
    pub context: usize,
    /// The most predicted tokens of all windows; `None`: all.
    pub tokens: Option<usize>,
    /// The token that starts every window, if the tokenizer has one.
    pub bos: Option<u32>,
    /// Whether only the second half of a window is predicted, as llama.cpp's perplexity does.
    pub half: bool,
}

impl WindowOptions {
    /// The first position of a window that is scored.
    pub fn scored_from(&self) -> usize {
        if self.half { self.context / 2 } else { 0 }
    }
}

/// A window: it starts with a fresh state of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvalWindow {
    /// The tokens that the model reads.
    pub input: Vec<u32>,
    /// The tokens that follow the last `targets.len()` tokens of the input.
    pub targets: Vec<u32>,
}

/// Cuts token ids into windows.
///
/// Without `half`, every window predicts the next `context` tokens: the first token of a window is `bos`, or else the last
/// token of the window before it. The last window may be shorter. With `half`, ids (after a first `bos`) are cut into whole
/// windows of `context` tokens, whose first token is replaced by `bos`, and the second half is predicted.
///
/// # Errors
///
/// `empty` if nothing is left to predict, `usage` if a window is too short.
pub fn windows(ids: &[u32], options: &WindowOptions) -> Result<Vec<EvalWindow>> {
    let found = if options.half { halves(ids, options)? } else { whole(ids, options)? };
    if found.is_empty() {
        let message = match options.half {
            true => format!("{} tokens are fewer than one window of {}", ids.len(), options.context),
            false => format!("{} tokens leave none to predict", ids.len()),
        };
        return Err(Error::new(Code::Empty, message));
    }
    Ok(found)
}

fn too_short(least: usize) -> Error {
    Error::new(Code::Usage, format!("a window has at least {least} tokens"))
}

fn whole(ids: &[u32], options: &WindowOptions) -> Result<Vec<EvalWindow>> {
    if options.context == 0 {
        return Err(too_short(1));
    }
    let (first, rest) = match options.bos {
        Some(bos) => (Some(bos), ids),
        None => (ids.first().copied(), ids.get(1..).unwrap_or_default()),
    };
    let most = options.tokens.unwrap_or(usize::MAX).min(rest.len());
    let Some(mut before) = first else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for targets in rest.get(..most).unwrap_or_default().chunks(options.context) {
        let start = options.bos.unwrap_or(before);
        let inputs = targets.iter().take(targets.len().saturating_sub(1));
        let input = core::iter::once(start).chain(inputs.copied()).collect();
        before = targets.last().copied().unwrap_or(before);
        found.push(EvalWindow { input, targets: targets.to_vec() });
    }
    Ok(found)
}

fn halves(ids: &[u32], options: &WindowOptions) -> Result<Vec<EvalWindow>> {
    const LEAST: usize = 4;
    if options.context < LEAST {
        return Err(too_short(LEAST));
    }
    let scored = options.context - 1 - options.scored_from();
    if let Some(n) = options.tokens.filter(|n| *n < scored) {
        let message = format!("{n} tokens are less than the {scored} that one window predicts");
        return Err(Error::new(Code::Usage, message));
    }
    let most = options.tokens.map_or(usize::MAX, |n| n / scored);
    let stream: Vec<u32> = options.bos.into_iter().chain(ids.iter().copied()).collect();
    let cut = |tokens: &[u32]| {
        let (last, mut input) = (tokens.last().copied(), tokens.to_vec());
        input.pop();
        let targets = input.iter().skip(options.scored_from() + 1).copied().chain(last).collect();
        if let (Some(first), Some(bos)) = (input.first_mut(), options.bos) {
            *first = bos;
        }
        EvalWindow { input, targets }
    };
    Ok(stream.chunks_exact(options.context).take(most).map(cut).collect())
}

/// Cuts token ids into whole chunks of `context` tokens, as llama-imatrix does: ids (after a first `bos`) in their order, the first
/// token of each chunk replaced by `bos`. The first `skipped` chunks are left out, and at most `most` follow.
///
/// # Errors
///
/// `usage` if a chunk has no tokens; `empty` if there is no whole chunk, or none behind the skipped ones.
pub fn chunks(
    ids: &[u32],
    context: usize,
    bos: Option<u32>,
    skipped: usize,
    most: Option<usize>,
) -> Result<Vec<Vec<u32>>> {
    if context == 0 {
        return Err(too_short(1));
    }
    let stream: Vec<u32> = bos.into_iter().chain(ids.iter().copied()).collect();
    let cut = |tokens: &[u32]| {
        let mut chunk = tokens.to_vec();
        if let (Some(first), Some(bos)) = (chunk.first_mut(), bos) {
            *first = bos;
        }
        chunk
    };
    let all = stream.chunks_exact(context).skip(skipped).take(most.unwrap_or(usize::MAX));
    let found: Vec<Vec<u32>> = all.map(cut).collect();
    if found.is_empty() {
        let whole = stream.len() / context;
        let message = match whole {
            0 => format!(
                "{} tokens are fewer than one chunk of {context}; a smaller --context needs less",
                stream.len()
            ),
            _ => format!("the text has {whole} chunks of {context} tokens, and {skipped} are skipped"),
        };
        return Err(Error::new(Code::Empty, message));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const PLAIN: WindowOptions = WindowOptions { context: 3, tokens: None, bos: None, half: false };

    fn cut(ids: &[u32], options: WindowOptions) -> Vec<(Vec<u32>, Vec<u32>)> {
        windows(ids, &options).expect("windows").into_iter().map(|w| (w.input, w.targets)).collect()
    }

    #[test]
    fn windows_predict_every_token_once() {
        let ids = [1, 2, 3, 4, 5, 6];
        assert_eq!(cut(&ids, PLAIN), [(vec![1, 2, 3], vec![2, 3, 4]), (vec![4, 5], vec![5, 6])]);
        let bos = WindowOptions { bos: Some(9), ..PLAIN };
        assert_eq!(cut(&ids, bos), [(vec![9, 1, 2], vec![1, 2, 3]), (vec![9, 4, 5], vec![4, 5, 6])]);
        let few = WindowOptions { tokens: Some(4), ..PLAIN };
        assert_eq!(cut(&ids, few), [(vec![1, 2, 3], vec![2, 3, 4]), (vec![4], vec![5])]);
    }

    #[test]
    fn halves_predict_the_second_half_of_whole_windows() {
        let half = WindowOptions { context: 4, half: true, ..PLAIN };
        let ids = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        assert_eq!(cut(&ids, half), [(vec![1, 2, 3], vec![4]), (vec![5, 6, 7], vec![8])]);
        let bos = WindowOptions { bos: Some(0), ..half };
        assert_eq!(cut(&ids, bos), [(vec![0, 1, 2], vec![3]), (vec![0, 5, 6], vec![7])]);
    }

    #[test]
    fn chunks_are_whole_and_start_with_bos() {
        let ids = [1, 2, 3, 4, 5, 6, 7];
        assert_eq!(chunks(&ids, 3, None, 0, None), Ok(vec![vec![1, 2, 3], vec![4, 5, 6]]));
        assert_eq!(chunks(&ids, 4, Some(9), 0, None), Ok(vec![vec![9, 1, 2, 3], vec![9, 5, 6, 7]]));
        assert_eq!(chunks(&ids, 2, None, 1, Some(1)), Ok(vec![vec![3, 4]]));
        let code = |context, skipped| chunks(&ids, context, None, skipped, None).map_err(|e| e.code());
        assert_eq!(code(8, 0), Err(Code::Empty));
        assert_eq!(code(3, 2), Err(Code::Empty));
        assert_eq!(code(0, 0), Err(Code::Usage));
    }

    #[test]
    fn nothing_to_predict_is_refused() {
        let code = |ids: &[u32], options| windows(ids, &options).map_err(|e| e.code());
        assert_eq!(code(&[], PLAIN), Err(Code::Empty));
        assert_eq!(code(&[5], PLAIN), Err(Code::Empty));
        assert!(windows(&[5], &WindowOptions { bos: Some(1), ..PLAIN }).is_ok());
        assert_eq!(code(&[1, 2], WindowOptions { context: 0, ..PLAIN }), Err(Code::Usage));
        assert_eq!(code(&[1, 2], WindowOptions { context: 4, half: true, ..PLAIN }), Err(Code::Empty));
    }
}
