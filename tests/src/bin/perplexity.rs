//! Perplexity of a model over a file of token ids (u16, little-endian), window by window.
//!
//!     perplexity MODEL_FOLDER IDS [WINDOWS]
//!
//! A window is 256 predicted tokens, each from those before it in its window.

use quantoscope_tests::forward::Model;
use std::path::Path;

const WINDOW: usize = 256;

fn main() {
    let mut args = std::env::args().skip(1);
    let (Some(folder), Some(ids)) = (args.next(), args.next()) else {
        eprintln!("usage: perplexity MODEL_FOLDER IDS [WINDOWS]");
        std::process::exit(2);
    };
    let windows = args.next().map_or(usize::MAX, |n| n.parse().expect("a number of windows"));
    let model = Model::read(Path::new(&folder));
    let bytes = std::fs::read(ids).expect("the token ids");
    let ids: Vec<u32> = bytes.as_chunks().0.iter().map(|&b| u16::from_le_bytes(b).into()).collect();
    let (mut sum, mut count) = (0.0, 0);
    for (n, start) in (0..ids.len().saturating_sub(WINDOW)).step_by(WINDOW).take(windows).enumerate() {
        let (tokens, next) = (&ids[start..start + WINDOW], &ids[start + 1..=start + WINDOW]);
        let logits = model.logits(tokens).expect("a model that the pass can run");
        let loss = mean_loss(&logits, next);
        println!("window {n}: {loss:.12}");
        sum += loss;
        count += 1;
    }
    let mean = sum / f64::from(count);
    println!("mean {mean:.12}, perplexity {:.9}", mean.exp());
}

/// The mean negative log likelihood of the tokens that came next.
fn mean_loss(logits: &[f64], next: &[u32]) -> f64 {
    let vocab = logits.len() / next.len();
    let of = |(logits, &token): (&[f64], &u32)| {
        let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|l| (l - top).exp()).sum();
        top + sum.ln() - logits[token as usize]
    };
    logits.chunks_exact(vocab).zip(next).map(of).sum::<f64>() / next.len() as f64
}
