//! Signals that end the work between two windows, and those that would end it without cleaning up.

use std::sync::atomic::{AtomicBool, Ordering};

/// Set by Ctrl-C, by a hang-up and by a request to end.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether the work is to end.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Makes Ctrl-C, a hang-up, SIGTERM and a limit of processor time end the work between two windows. Those that the process was started with as
/// ignored stay so: that is how `nohup` and shells keep a background job alive.
#[cfg(unix)]
pub fn watch() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXCPU};
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let ignored = ignored();
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGXCPU] {
            if ignored & (1 << (signal - 1)) == 0 {
                let _ = signal_hook::flag::register(signal, &INTERRUPTED);
            }
        }
    });
}

/// A write beyond the limit of a file's size is then an error like any other, and no end without a word.
#[cfg(unix)]
pub fn survive_file_limits() {
    static EXCEEDED: AtomicBool = AtomicBool::new(false);
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, &EXCEEDED);
}

/// The set of signals that the process was started with as ignored, bit `n - 1` for signal `n`.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// There is no way to ask here without unsafe code. A hang-up is left as it is, so that `nohup` works; a process that is
/// ended by one leaves an output that `--resume` goes on with.
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
fn ignored() -> u64 {
    1 << (signal_hook::consts::SIGHUP - 1)
}

/// Makes Ctrl-C end the work between two windows.
#[cfg(not(unix))]
pub fn watch() {
    // Fails only when a handler is set already, which is this one.
    let _ = ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed));
}

#[cfg(not(unix))]
pub fn survive_file_limits() {}
