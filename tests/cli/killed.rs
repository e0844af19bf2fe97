//! Killed at a random moment, fifty times: a run goes on to the same bytes, or leaves nothing under the final name.

use crate::support::{Dir, big};
use quantoscope_tests::binary::{command, tree};
use quantoscope_tests::models::Rng;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const KILLS: u32 = 50;

/// All bytes of an artefact, whether file or directory.
fn bytes(path: &Path) -> Vec<(String, Vec<u8>)> {
    if path.is_dir() { tree(path) } else { vec![(String::new(), std::fs::read(path).expect("a file"))] }
}

fn remove(path: &Path) {
    if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.expect("removed");
}

struct KillPoint {
    dir: Dir,
    options: &'static str,
    whole: Vec<(String, Vec<u8>)>,
    /// How long an uninterrupted run takes.
    time: Duration,
    resumed: u64,
}

impl KillPoint {
    fn new(options: &'static str) -> KillPoint {
        let dir = Dir::new();
        let mut course = KillPoint { dir, options, whole: Vec::new(), time: Duration::ZERO, resumed: 0 };
        let begun = Instant::now();
        course.complete();
        course.time = begun.elapsed();
        course.whole = bytes(&course.out());
        remove(&course.out());
        course
    }

    fn out(&self) -> std::path::PathBuf {
        self.dir.at("out.gguf")
    }

    fn line(&self) -> String {
        let input = big();
        format!(
            "quantize {} -o out.gguf {} --resume --threads 1 --memory 2MB --json",
            input.display(),
            self.options
        )
    }

    /// Runs to the end, going on from what there is.
    fn complete(&mut self) {
        let report = self.dir.run(&self.line()).exits(0).json();
        self.resumed += report["run"]["resumed_windows"].as_u64().unwrap_or(0);
    }

    /// What stands under the final name must be whole; it is then taken away.
    fn check(&self) {
        assert!(bytes(&self.out()) == self.whole, "an artefact with other bytes");
        remove(&self.out());
    }

    /// Kills a run after `delay`; false where it was done before.
    fn kill(&self, delay: Duration) -> bool {
        let mut child = command(self.dir.path(), self.line().split_whitespace());
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
        std::thread::sleep(delay);
        let running = child.try_wait().expect("a status").is_none();
        child.kill().expect("killed");
        let status = child.wait().expect("ended");
        assert!(running || status.success());
        running
    }

    fn run(mut self, kills: u32, seed: u64) {
        let rng = &mut Rng(seed);
        let mut done = 0;
        while done < kills {
            // A run that goes on from another is shorter than a whole one, so late moments are met as well.
            let limit = self.time.as_micros() as u64 * 7 / 10;
            done += u32::from(self.kill(Duration::from_micros(rng.below(limit))));
            if self.out().exists() {
                self.check();
            } else if rng.below(5) == 0 {
                self.complete();
                self.check();
            }
        }
        self.complete();
        self.check();
        // On a fast machine most kills come before the first windows are brought to the disk: late ones then.
        for _ in 0..50 {
            if self.resumed > 0 {
                break;
            }
            let whole = self.time.as_micros() as u64;
            self.kill(Duration::from_micros(whole * 6 / 10 + rng.below(whole * 4 / 10)));
            if !self.out().exists() {
                self.complete();
            }
            self.check();
        }
        assert!(self.resumed > 0, "no run ever went on from another");
    }
}

#[test]
fn a_file_survives_fifty_kills() {
    KillPoint::new("--type q5_1 --engine scalar").run(KILLS, 1);
}

#[test]
fn a_directory_survives_kills() {
    KillPoint::new("--to q4 --engine scalar").run(KILLS / 2, 2);
}
