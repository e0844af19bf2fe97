//! `bench`: published measurements, repeated.

use super::threads;
use crate::options::BenchRotationOptions;
use quantoscope_core::error::Result;
use quantoscope_core::rotation::benchmark::{BenchmarkResult, ErrorSums, RotationBenchmark, formats, matrix};
use std::thread;

/// Quantizes a random matrix with outliers, with and without a rotation, in every format of the benchmark.
///
/// # Errors
///
/// `usage` if the sizes do not divide, or no Hadamard matrix of the block's order is known.
pub fn rotation(options: &BenchRotationOptions) -> Result<BenchmarkResult> {
    let formats = formats(options.block, options.group);
    let benchmark = RotationBenchmark::new(options.cols, options.group, formats)?;
    let values = matrix(options.rows, options.cols, options.seed)?;
    let threads = threads(options.threads) as usize;
    Ok(benchmark.answer(&measure(&benchmark, &values, options.cols as usize, threads)))
}

/// The sums of all rows. Rows are measured one by one and added in order, so that the number of threads
/// changes nothing.
fn measure(benchmark: &RotationBenchmark, values: &[f32], cols: usize, threads: usize) -> Vec<ErrorSums> {
    let rows: Vec<&[f32]> = values.chunks(cols).collect();
    let share = rows.len().div_ceil(threads).max(1);
    let measured: Vec<Vec<ErrorSums>> = thread::scope(|scope| {
        let work = |part: &[&[f32]]| part.iter().map(|row| benchmark.measure(row)).collect::<Vec<_>>();
        let start = |part| (part, thread::Builder::new().spawn_scoped(scope, move || work(part)).ok());
        let workers: Vec<_> = rows.chunks(share).map(start).collect();
        // A part whose thread could not be started is measured by this one.
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
