//! `bench`: measures claims.

use crate::args::BenchRotationArgs;
use crate::render;
use crate::render::table::{Align, Styled, Tone, plain, render};
use quantoscope_core::error::Result;
use quantoscope_core::rotation::benchmark::{
    BenchmarkResult, ErrorSums, Figures, RotationBenchmark, formats, matrix,
};
use std::num::NonZero;
use std::process::ExitCode;
use std::thread;

/// The rows of the published table.
const PUBLISHED: usize = 6;

pub fn rotation(args: &BenchRotationArgs) -> Result<ExitCode> {
    let trial = RotationBenchmark::new(args.cols, args.group, formats(args.block, args.group))?;
    let values = matrix(args.rows, args.cols, args.seed)?;
    let threads =
        args.threads.map_or_else(|| thread::available_parallelism().map_or(1, NonZero::get), |n| n as usize);
    let answer = trial.answer(&measure(&trial, &values, args.cols as usize, threads));
    match args.json {
        true => render::json(&answer)?,
        false => render::print(&as_text(args, &answer))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The sums of all rows, each measured apart and added in order, so that the number of threads changes nothing.
fn measure(trial: &RotationBenchmark, values: &[f32], cols: usize, threads: usize) -> Vec<ErrorSums> {
    let rows: Vec<&[f32]> = values.chunks(cols).collect();
    let share = rows.len().div_ceil(threads).max(1);
    let measured: Vec<Vec<ErrorSums>> = thread::scope(|scope| {
        let work = |part: &[&[f32]]| part.iter().map(|row| trial.measure(row)).collect::<Vec<_>>();
        let start = |part| (part, thread::Builder::new().spawn_scoped(scope, move || work(part)).ok());
        let workers: Vec<_> = rows.chunks(share).map(start).collect();
        // What no thread could be started for is measured here.
        let measured = |(part, worker): (_, Option<thread::ScopedJoinHandle<'_, _>>)| match worker {
            Some(worker) => worker.join().unwrap_or_else(|e| std::panic::resume_unwind(e)),
            None => work(part),
        };
        workers.into_iter().flat_map(measured).collect()
    });
    let mut measured = measured.into_iter();
    let mut total = measured.next().unwrap_or_default();
    for row in measured {
        total.iter_mut().zip(&row).for_each(|(sum, row)| sum.add(row));
    }
    total
}

fn as_text(args: &BenchRotationArgs, answer: &BenchmarkResult) -> String {
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
        "{} x {} weights of deviation 0.02, {} of them large (0.3 to 0.7), seed {}\n\
         groups of {}; H{} is a Hadamard rotation of blocks of {}, undone before the error is taken\n\n",
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
    text.push_str("\nwhat it left out\n\n");
    text.push_str(&table(ours, false));
    text.push_str(&verdict(args, answer));
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

fn verdict(args: &BenchRotationArgs, answer: &BenchmarkResult) -> String {
    let lowest = |bits: Option<u32>| bits.map_or_else(|| "none".to_string(), |b| format!("{b} bits"));
    let mut text = format!(
        "\nFewest bits at which a rotated format is no worse than plain Q4: {} as published, {} in the best form here.\n\
         Bits per weight count a 16-bit scale for each group; the published table counts 32.\n",
        lowest(answer.lowest_matching_bits),
        lowest(answer.lowest_matching_bits_of_all),
    );
    if args.rows == 1024 {
        text.push_str("The whole published table: quantoscope bench rotation --rows 4096\n");
    }
    text
}
