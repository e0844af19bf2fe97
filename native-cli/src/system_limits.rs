//! Limits of the operating system: worker threads that fit the address space (`ulimit -v`, `RLIMIT_AS`), and
//! open files (`ulimit -n`). A failed allocation aborts the process, so the limit is read before the work.

use quantoscope_core::schedule::Budget;

/// Bytes that a thread needs beside its windows: its stack, and the heap that the C library reserves for it.
const THREAD: u64 = (2 << 20) + (64 << 20);

/// Files that a source holds open at most. A lattice directory has hundreds; the others are opened for each
/// read.
const HELD_OPEN: usize = 100;
/// Descriptors for everything else: standard streams, the output and its journal, a file per worker.
const OTHERS: usize = 32;

/// Files that one source may hold open. A run has up to two sources.
pub(crate) fn held_open() -> usize {
    HELD_OPEN.min(descriptors().saturating_sub(OTHERS) / 2)
}

#[cfg(unix)]
fn descriptors() -> usize {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |n| n as usize)
}

#[cfg(not(unix))]
fn descriptors() -> usize {
    512
}

/// The workers of `budget` that fit the address space, at least one, with their share of its memory.
pub(crate) fn fitting(budget: Budget) -> Budget {
    match free() {
        Some(free) => within(budget, free),
        None => budget,
    }
}

fn within(budget: Budget, free: u64) -> Budget {
    let workers = u64::from(budget.workers.max(1));
    let share = budget.memory / workers;
    let fit = free / share.saturating_add(THREAD).max(1);
    if fit >= workers {
        return budget;
    }
    // A single worker uses the heap of the process and half of the free memory.
    let memory = if fit == 0 { share.min(free / 2) } else { share.saturating_mul(fit) };
    Budget { memory, workers: fit.max(1) as u32 }
}

/// Bytes that can still be mapped; `None` if there is no limit.
#[cfg(target_os = "linux")]
fn free() -> Option<u64> {
    use rustix::process::{Resource, getrlimit};
    let limit = getrlimit(Resource::As).current?;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib = size.and_then(|s| s.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0);
    Some(limit.saturating_sub(kib << 10))
}

#[cfg(not(target_os = "linux"))]
fn free() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_reduced_to_what_fits() {
        let budget = Budget { memory: 16 * (32 << 20), workers: 16 };
        assert_eq!(within(budget, u64::MAX), budget);
        assert_eq!(within(budget, 300 << 20), Budget { memory: 3 * (32 << 20), workers: 3 });
        assert_eq!(within(budget, 40 << 20), Budget { memory: 20 << 20, workers: 1 });
        assert_eq!(within(budget, 0), Budget { memory: 0, workers: 1 });
    }
}
