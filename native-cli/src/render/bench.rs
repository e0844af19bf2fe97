//! The report of `bench rotation`.

use super::table::{Align, Styled, Tone, plain, render};
use crate::options::BenchRotationOptions;
use quantoscope_core::error::Result;
use quantoscope_core::rotation::benchmark::{BenchmarkResult, Figures};

/// Rows of the published table.
const PUBLISHED: usize = 6;

/// Prints the report, as JSON or as text.
///
/// # Errors
///
/// `io` if standard output cannot be written to.
pub fn print(options: &BenchRotationOptions, result: &BenchmarkResult, json: bool) -> Result<()> {
    if json { super::json(result) } else { super::print(&as_text(options, result)) }
}

fn as_text(args: &BenchRotationOptions, answer: &BenchmarkResult) -> String {
    let right = |name| (name, Align::Right);
    let columns = [
        ("format", Align::Left),
        ("scale", Align::Left),
        right("bpw"),
        right("published"),
        right("MSE"),
        right("max error"),
        right("cosine"),
        right("SQNR dB"),
        right("<= Q4"),
    ];
    let (published, ours) = answer.formats.split_at(PUBLISHED.min(answer.formats.len()));
    let head = format!(
        "{} x {} weights of standard deviation 0.02, {} of them outliers (0.3 to 0.7), seed {}\n\
         groups of {}; H{} is a Hadamard rotation of blocks of {}, inverted before the error is measured\n\n",
        args.rows,
        args.cols,
        u64::from((args.cols / 200).max(1)) * u64::from(args.rows),
        args.seed,
        args.group,
        args.block,
        args.block,
    );
    let table = |rows: &[Figures], from| render(&columns, rows.iter().map(|f| cells(f, from)));
    let mut text = head + &table(published, true);
    text.push_str("\nnot in the published table\n\n");
    text.push_str(&table(ours, false));
    text.push_str(&summary(args, answer));
    text
}

fn cells(f: &Figures, published: bool) -> Vec<Styled> {
    let bits = if published { format!("{:.2}", f.published_bits_per_weight) } else { String::new() };
    let tone = if f.matches_plain_4_bits { Tone::Good } else { Tone::Bad };
    vec![
        plain(&f.name),
        plain(f.rule),
        plain(format!("{:.2}", f.bits_per_weight)),
        plain(bits),
        plain(format!("{:.5e}", f.mse)),
        plain(format!("{:.4}", f.max_error)),
        plain(format!("{:.6}", f.cosine)),
        plain(format!("{:.2}", f.sqnr_db)),
        (if f.matches_plain_4_bits { "yes" } else { "no" }.to_string(), tone),
    ]
}

fn summary(args: &BenchRotationOptions, answer: &BenchmarkResult) -> String {
    let lowest = |bits: Option<u32>| bits.map_or_else(|| "none".to_string(), |b| format!("{b} bits"));
    let mut text = format!(
        "\nThe error of one synthetic matrix; it says nothing about a model.\n\
         Fewest bits at which a rotated format is no worse than plain Q4: {} as published, {} for the best format here.\n\
         Bits per weight count a 16-bit scale for each group; the published table counts 32.\n",
        lowest(answer.lowest_matching_bits),
        lowest(answer.lowest_matching_bits_of_all),
    );
    if args.rows == 1024 {
        text.push_str("The whole published table: quantoscope bench rotation --rows 4096\n");
    }
    text
}
