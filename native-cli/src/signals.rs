//! Signals that end the work between two windows.

use std::sync::atomic::{AtomicBool, Ordering};

/// Set by SIGINT, SIGTERM, SIGHUP and SIGXCPU.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether the work must end.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Makes SIGINT, SIGTERM, SIGHUP and SIGXCPU end the work between two windows. Signals that are ignored when
/// the process starts stay ignored: `nohup` and shells keep background jobs alive that way.
#[cfg(unix)]
pub(crate) fn watch() {
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

/// Makes a write beyond `RLIMIT_FSIZE` an error; otherwise SIGXFSZ ends the process without a message.
#[cfg(unix)]
pub(crate) fn survive_file_limits() {
    static EXCEEDED: AtomicBool = AtomicBool::new(false);
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, &EXCEEDED);
}

/// Signals that are ignored: bit `n - 1` for signal `n`.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// These systems have no way to read the set without unsafe code. SIGHUP is not handled, so that `nohup`
/// works; a process that it ends leaves an output that `--resume` continues.
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
fn ignored() -> u64 {
    1 << (signal_hook::consts::SIGHUP - 1)
}

/// Makes Ctrl-C end the work between two windows.
#[cfg(not(unix))]
pub fn watch() {
    // Fails only if this handler is already set.
    let _ = ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed));
}

#[cfg(not(unix))]
pub fn survive_file_limits() {}
