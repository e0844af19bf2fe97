//! Perplexity of a model over a file of token ids (u16, little-endian), window by window; and how far others are from it.
//!
//!     perplexity MODEL_FOLDER IDS [WINDOWS [CANDIDATE_FOLDER...]]
//!
//! A window is 256 predicted tokens, each from those before it in its window. For a candidate there is one line: its mean
//! loss, by how much that is above the model's (with the standard error over the windows), its perplexity, the mean
//! Kullback-Leibler divergence of its predictions from the model's (in nats a token), and the share of tokens whose
//! likeliest successor is the same.

use quantoscope_tests::forward::TestModel;
use std::path::Path;

const WINDOW: usize = 256;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, ids, rest @ ..] = args.as_slice() else {
        eprintln!("usage: perplexity MODEL_FOLDER IDS [WINDOWS [CANDIDATE_FOLDER...]]");
        std::process::exit(2);
    };
    let count = rest.first().map_or(usize::MAX, |n| n.parse().expect("a number of windows"));
    let bytes = std::fs::read(ids).expect("the token ids");
    let ids: Vec<u32> = bytes.as_chunks().0.iter().map(|&b| u16::from_le_bytes(b).into()).collect();
    let starts = (0..ids.len().saturating_sub(WINDOW)).step_by(WINDOW).take(count);
    let windows: Vec<TokenWindow> = starts
        .map(|at| TokenWindow { tokens: &ids[at..at + WINDOW], next: &ids[at + 1..=at + WINDOW] })
        .collect();
    let model = TestModel::read(Path::new(folder));
    let candidates = rest.get(1..).unwrap_or_default();
    // Only candidates need the predictions again.
    let reference = of_each(&windows, |_, window| {
        let rows = window.predictions(&model);
        (window.mean_loss(&rows), if candidates.is_empty() { Vec::new() } else { rows })
    });
    for (n, (loss, _)) in reference.iter().enumerate() {
        println!("window {n}: {loss:.12}");
    }
    let mean = mean(reference.iter().map(|r| r.0));
    println!("mean {mean:.12}, perplexity {:.9}", mean.exp());
    for folder in candidates {
        let model = TestModel::read(Path::new(folder));
        let found = of_each(&windows, |n, window| {
            let rows = window.predictions(&model);
            let (divergence, same) = divergence(&reference[n].1, &rows, window.next.len());
            (window.mean_loss(&rows), divergence, same)
        });
        let above: Vec<f64> = found.iter().zip(&reference).map(|(f, r)| f.0 - r.0).collect();
        let loss = self::mean(found.iter().map(|f| f.0));
        let (divergence, same) =
            (self::mean(found.iter().map(|f| f.1)), self::mean(found.iter().map(|f| f.2)));
        println!(
            "{folder}: mean {loss:.12}, above {:.6} +- {:.6}, perplexity {:.9}, divergence {divergence:.6e}, same best {same:.6}",
            self::mean(above.iter().copied()),
            standard_error(&above),
            loss.exp()
        );
    }
}

/// A run of tokens and what came after each.
struct TokenWindow<'a> {
    tokens: &'a [u32],
    next: &'a [u32],
}

impl TokenWindow<'_> {
    /// The logarithm of the probability of every token, for each place.
    fn predictions(&self, model: &TestModel) -> Vec<f64> {
        let mut rows = model.logits(self.tokens).expect("a model that the pass can run");
        let vocab = rows.len() / self.tokens.len();
        for row in rows.chunks_exact_mut(vocab) {
            let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|l| (l - top).exp()).sum();
            row.iter_mut().for_each(|l| *l -= top + sum.ln());
        }
        rows
    }

    /// The mean negative log likelihood of the tokens that came next.
    fn mean_loss(&self, rows: &[f64]) -> f64 {
        let vocab = rows.len() / self.next.len();
        mean(rows.chunks_exact(vocab).zip(self.next).map(|(row, &token)| -row[token as usize]))
    }
}

/// Mean divergence of `rows` from `reference`, and the share of places with the same likeliest token.
fn divergence(reference: &[f64], rows: &[f64], places: usize) -> (f64, f64) {
    assert_eq!(reference.len(), rows.len(), "another vocabulary");
    let vocab = rows.len() / places;
    let best = |row: &[f64]| row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(i, _)| i);
    let pairs = || reference.chunks_exact(vocab).zip(rows.chunks_exact(vocab));
    let of = |(p, q): (&[f64], &[f64])| -> f64 { p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum() };
    (mean(pairs().map(of)), mean(pairs().map(|(p, q)| f64::from(u8::from(best(p) == best(q))))))
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len();
    values.sum::<f64>() / count as f64
}

/// Of the mean of `values`; infinite for fewer than two.
fn standard_error(values: &[f64]) -> f64 {
    let (count, mean) = (values.len() as f64, mean(values.iter().copied()));
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    if count < 2.0 { f64::INFINITY } else { (squares / (count - 1.0) / count).sqrt() }
}

/// What `work` makes of each window, in their order, on all processors.
fn of_each<T: Send>(
    windows: &[TokenWindow<'_>],
    work: impl Fn(usize, &TokenWindow<'_>) -> T + Sync,
) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = windows.len().div_ceil(threads).max(1);
    let run = |part: usize, windows: &[TokenWindow<'_>]| -> Vec<T> {
        windows.iter().enumerate().map(|(i, w)| work(part * share + i, w)).collect()
    };
    let run = &run;
    std::thread::scope(|scope| {
        let parts: Vec<_> =
            windows.chunks(share).enumerate().map(|(n, part)| scope.spawn(move || run(n, part))).collect();
        parts.into_iter().flat_map(|part| part.join().expect("a window that could be run")).collect()
    })
}
