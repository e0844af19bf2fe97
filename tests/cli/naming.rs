//! The moment at which an output gets its name: nothing is replaced that must not be, and a run that is killed or fails
//! leaves the old model, the new one, or nothing under the name.

use crate::errors::fails;
use crate::outputs::{link, refused};
use crate::support::{Dir, snapshot, with_faults};
use quantoscope_core::{Code, DType};
use quantoscope_tests::binary::{Ended, tree};
use quantoscope_tests::models::{llama, safetensors};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

/// Every call that changes a name.
const NAMES: &str = "rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,mkdir,mkdirat";

/// Lets a run end when all is written and nothing is named.
pub(crate) fn killed_before_naming(dir: &Dir, line: &str) {
    let renames = "rename,renameat,renameat2,link,linkat";
    let kill = format!("inject={renames}:signal=SIGKILL:when=1");
    let ended = with_faults(dir, &[&format!("trace={renames}"), &kill], line);
    assert_eq!(ended.code, None, "{}", ended.err);
}

/// A directory with the model `m`, a model `other` of other values, and both as they come out.
struct Pair {
    dir: Dir,
    old: Vec<(String, Vec<u8>)>,
    new: Vec<(String, Vec<u8>)>,
}

impl Pair {
    fn new(from: &str, to: &str) -> Pair {
        let dir = Dir::with_family("llama_tied");
        std::fs::create_dir(dir.at("other")).expect("a directory");
        dir.write("other/model.safetensors", &safetensors(&llama(DType::BF16, false, 77)));
        dir.write("other/config.json", &dir.read("m/config.json"));
        dir.run(&format!("{from} -o old")).exits(0);
        dir.run(&format!("{to} -o new")).exits(0);
        let (old, new) = (tree(&dir.at("old")), tree(&dir.at("new")));
        assert!(old != new);
        Pair { dir, old, new }
    }

    /// The state under `x`; nothing but the old model, the new one, or no model at all is right.
    #[track_caller]
    fn check(&self, after: &str) {
        let now = if self.dir.at("x").exists() { tree(&self.dir.at("x")) } else { Vec::new() };
        assert!(now.is_empty() || now == self.old || now == self.new, "a mixture after {after}");
    }

    fn start(&self, from: &str) {
        for name in self.dir.names() {
            assert!(!name.contains("partial"), "{name} is left");
        }
        let _ = std::fs::remove_dir_all(self.dir.at("x"));
        self.dir.run(&format!("{from} -o x")).exits(0);
    }
}

const Q4: &str = "quantize m --to q4";
const OTHER: &str = "quantize other --to q4 --threads 1";

#[test]
fn replacement_killed_at_any_step_leaves_one_model() {
    let pair = Pair::new(Q4, OTHER);
    let line = format!("{OTHER} -o x --force");
    // The second: a file system that neither exchanges names nor refuses to replace.
    for unsupported in [None, Some("inject=renameat2:error=EINVAL")] {
        let mut kills = 0;
        for step in 1.. {
            pair.start(Q4);
            let calls = if unsupported.is_some() { NAMES.replace(",renameat2", "") } else { NAMES.into() };
            let kill = format!("inject={calls}:signal=SIGKILL:when={step}");
            let faults: Vec<&str> =
                [Some("trace=all"), Some(&kill), unsupported].into_iter().flatten().collect();
            let ended = with_faults(&pair.dir, &faults, &line);
            if ended.code == Some(0) {
                break;
            }
            assert_eq!(ended.code, None, "step {step}: {}", ended.err);
            kills += 1;
            pair.check(&format!("a kill at step {step}, {unsupported:?}"));
            for verb in ["inspect x", "verify x"] {
                let read = pair.dir.run(verb);
                assert_eq!(read.code == Some(0), pair.dir.at("x").exists(), "{verb}: {}", read.err);
            }
            let again = if step % 2 == 0 { " --resume" } else { "" };
            pair.dir.run(&format!("{line}{again}")).exits(0);
            assert!(tree(&pair.dir.at("x")) == pair.new, "step {step}, {unsupported:?}");
            assert!(pair.dir.names().iter().all(|n| !n.contains("partial")), "{:?}", pair.dir.names());
        }
        assert!(kills >= 3, "{kills} steps only");
    }
}

#[test]
fn replacement_that_fails_at_any_step_leaves_one_model() {
    let pair = Pair::new(Q4, OTHER);
    let line = format!("{OTHER} -o x --force --json");
    for unsupported in [None, Some("inject=renameat2:error=EINVAL")] {
        for step in 1.. {
            pair.start(Q4);
            let calls =
                if unsupported.is_some() { "rename,mkdir,mkdirat,unlinkat,unlink,rmdir" } else { NAMES };
            let fail = format!("inject={calls}:error=EIO:when={step}");
            let faults: Vec<&str> =
                [Some("trace=all"), Some(&fail), unsupported].into_iter().flatten().collect();
            let ended = with_faults(&pair.dir, &faults, &line);
            if ended.code == Some(0) {
                break;
            }
            let error = ended.exits(3).error();
            let message = error["message"].as_str().expect("words").to_string();
            pair.check(&format!("a failure at step {step}, {unsupported:?}: {message}"));
            assert!(pair.dir.at("x").exists(), "step {step}, {unsupported:?}: {message}");
            let named = tree(&pair.dir.at("x")) == pair.new;
            assert_eq!(named, message.contains("is complete"), "step {step}: {message}");
            pair.dir.run(&format!("{OTHER} -o x --force --resume")).exits(0);
            assert!(tree(&pair.dir.at("x")) == pair.new, "step {step}, {unsupported:?}");
        }
    }
}

/// Killed at any call that touches a file: a run goes on to the same bytes, and no name is left over.
#[test]
fn run_killed_at_any_call_is_finished_by_resume() {
    let calls =
        "openat,pwrite64,write,fsync,fdatasync,ftruncate,fallocate,mkdir,unlink,rename,renameat2,flock,chmod";
    for options in ["--to gguf --type q8_0", "--to q4"] {
        for force in ["", "--force"] {
            let dir = Dir::with_family("llama_tied");
            let whole = |name: &str| {
                let path = dir.at(name);
                if path.is_dir() { tree(&path) } else { vec![(String::new(), dir.read(name))] }
            };
            dir.run(&format!("quantize m {options} -o whole")).exits(0);
            let line = format!("quantize m {options} -o x --threads 1 {force}");
            // From the first call after the binary is loaded to the end, every second one.
            for step in (1..).step_by(2) {
                if !force.is_empty() && !dir.at("x").exists() {
                    dir.run(&format!("quantize m {options} -o x")).exits(0);
                }
                let kill = format!("inject={calls}:signal=SIGKILL:when={step}");
                let ended = with_faults(&dir, &[&format!("trace={calls}"), &kill], &line);
                if ended.code.is_some() {
                    ended.exits(0);
                    assert!(step > 20, "{step}");
                    break;
                }
                // Where the journal was gone already, the output is whole and there is nothing to finish.
                if force.is_empty() && dir.at("x").exists() && !dir.at("x.partial.journal").exists() {
                    assert!(!dir.at("x.partial").exists(), "{options}, step {step}");
                } else {
                    dir.run(&format!("{line} --resume")).exits(0);
                }
                assert!(whole("x") == whole("whole"), "{options} {force}, step {step}");
                assert!(dir.names().iter().all(|n| !n.contains("partial")), "{:?}", dir.names());
                if force.is_empty() {
                    let path = dir.at("x");
                    if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
                        .expect("removed");
                }
            }
        }
    }
}

/// Nothing of the old model stays, whatever its container was; what was never part of it does.
#[test]
fn replaced_directory_leaves_nothing_of_the_old_model() {
    let pair = Pair::new("rotate m", Q4);
    for unsupported in [None, Some("inject=renameat2:error=EINVAL")] {
        pair.start("rotate m");
        pair.dir.write("x/note.txt", b"mine");
        std::fs::create_dir(pair.dir.at("x/runs")).expect("a directory");
        pair.dir.write("x/runs/log", b"mine too");
        let faults: Vec<&str> = [Some("trace=all"), unsupported].into_iter().flatten().collect();
        with_faults(&pair.dir, &faults, &format!("{Q4} -o x --force")).exits(0);
        let mut expected = pair.new.clone();
        expected.push(("note.txt".into(), b"mine".to_vec()));
        expected.push(("runs/log".into(), b"mine too".to_vec()));
        expected.sort();
        assert!(tree(&pair.dir.at("x")) == expected, "{:?}", pair.dir.names());
        pair.dir.run("verify x --against m").exits(0);
    }
}

#[test]
fn foreign_entry_that_is_in_the_way_is_refused_before_any_work() {
    let pair = Pair::new(Q4, OTHER);
    pair.start("rotate m");
    let name = pair.old.iter().map(|(name, _)| name).find(|n| n.ends_with(".q4")).expect("a tensor");
    std::fs::create_dir(pair.dir.at("x").join(name)).expect("a directory");
    refused(&pair.dir, &format!("{Q4} -o x --force --json"), Code::Exists);
    // The name that is needed where directories cannot be exchanged.
    std::fs::remove_dir(pair.dir.at("x").join(name)).expect("removed");
    pair.dir.write("x.partial.old", b"mine");
    refused(&pair.dir, &format!("{Q4} -o x --force --json"), Code::PartialExists);
}

#[test]
fn output_killed_after_its_naming_is_finished_by_resume() {
    for line in ["quantize m -o x --type q8_0 --to gguf", "quantize m -o x --to q4", "rotate m -o x"] {
        let dir = Dir::with_family("llama_tied");
        let report = dir.run(&format!("{line} --json")).exits(0).json();
        let whole = snapshot(dir.path());
        let content = |all: &[(String, String, Vec<u8>)]| -> Vec<(String, Vec<u8>)> {
            all.iter().map(|(name, _, bytes)| (name.clone(), bytes.clone())).collect()
        };
        let remove = || {
            if dir.at("x").is_dir() {
                std::fs::remove_dir_all(dir.at("x"))
            } else {
                std::fs::remove_file(dir.at("x"))
            }
            .expect("removed");
        };
        remove();
        let kill = "inject=unlink,unlinkat:signal=SIGKILL:when=1";
        assert_eq!(with_faults(&dir, &["trace=unlink,unlinkat", kill], line).code, None);
        assert!(dir.at("x").exists() && dir.at("x.partial.journal").exists());
        // Another plan does not finish it, and says so.
        let other =
            if line.contains("q8_0") { line.replace("q8_0", "q4_0") } else { format!("{line} --memory 7MB") };
        if line.contains("q8_0") {
            fails(dir.run(&format!("{other} --resume --json")), Code::ResumeMismatch);
        }
        fails(dir.run(&format!("{line} --json")), Code::Exists);
        let resumed = dir.run(&format!("{other} --resume --json").replace("q4_0", "q8_0")).exits(0).json();
        assert_eq!(resumed["result"], report["result"], "{line}");
        assert!(content(&snapshot(dir.path())) == content(&whole), "{line}: {:?}", dir.names());
        fails(dir.run(&format!("{line} --resume --json")), Code::Exists);
    }
}

/// The output is there and whole, and the message says so; what could not be removed is named.
#[test]
fn journal_that_cannot_be_removed_is_named() {
    let dir = Dir::with_model_directory(false);
    let fault = ["trace=unlink,unlinkat", "inject=unlink,unlinkat:error=EACCES"];
    let ended = with_faults(&dir, &fault, "quantize m -o x.gguf --type q8_0 --names source --json").exits(3);
    let error = ended.error();
    let message = error["message"].as_str().expect("words");
    assert!(
        message.contains("x.gguf is complete") && message.contains("x.gguf.partial.journal"),
        "{message}"
    );
    dir.run("verify x.gguf --against m").exits(0);
    dir.run("quantize m -o x.gguf --type q8_0 --names source --resume").exits(0);
    assert!(dir.names().iter().all(|n| !n.contains("partial")), "{:?}", dir.names());
}

/// A disk that fails is not taken for a mistake in the request.
#[test]
fn disk_error_on_the_old_model_is_told_as_one() {
    let dir = Dir::with_model_directory(false);
    dir.run("quantize m --to q4 -o x").exits(0);
    for call in ["openat", "getdents64"] {
        let before = snapshot(dir.path());
        let index = dir.at("x/quantize_index.json");
        let (path, fault) = match call {
            "openat" => (index.display().to_string(), "inject=openat:error=EIO"),
            _ => (dir.at("x").display().to_string(), "inject=getdents64:error=EIO"),
        };
        let mut command = Command::new("strace");
        command.args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-P",
            &path,
            "-P",
            path.trim_start_matches(&format!("{}/", dir.path().display())),
        ]);
        command.args(["-e", &format!("trace={call}"), "-e", fault]).arg(quantoscope_tests::binary::path());
        command.args("quantize m --to q4 -o x --force --json".split(' ')).current_dir(dir.path());
        let error = quantoscope_tests::binary::ended(&mut command).exits(3).error();
        let message = error["message"].as_str().expect("words");
        assert!(message.contains("x"), "{message}");
        assert!(snapshot(dir.path()) == before, "{call}: {message}");
    }
}

/// A failing sync is an error, wherever it happens; the name then stands only over a whole output.
#[test]
fn failing_sync_is_an_error() {
    let dir = Dir::with_model_directory(false);
    for line in ["quantize m -o x --type q8_0 --to gguf --threads 1", "quantize m -o x --to q4 --threads 1"] {
        for step in 1.. {
            let fault = format!("inject=fsync,fdatasync:error=EIO:when={step}");
            let ended = with_faults(&dir, &["trace=fsync,fdatasync", &fault], &format!("{line} --json"));
            if ended.code == Some(0) {
                assert!(step > 5, "{step}");
                break;
            }
            let error = ended.exits(3).error();
            let message = error["message"].as_str().expect("words").to_string();
            if dir.at("x").exists() {
                dir.run("verify x --against m").exits(0);
            }
            for name in ["x", "x.partial", "x.partial.journal"] {
                let path = dir.at(name);
                let _ =
                    if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
            }
            assert_eq!(dir.names(), ["m/config.json", "m/model.safetensors"], "step {step}: {message}");
        }
        let path = dir.at("x");
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
            .expect("removed");
    }
}

/// What is neither a regular file nor a directory of ours is not replaced, and `--force` is not suggested.
#[test]
fn only_regular_files_are_replaced() {
    let dir = Dir::with_model();
    Command::new("mkfifo").arg(dir.at("pipe")).status().expect("a pipe");
    let socket = std::os::unix::net::UnixListener::bind(dir.at("socket")).expect("a socket");
    link(&dir, "nowhere", "dangling");
    dir.write("text", b"mine");
    link(&dir, "text", "link");
    let before = snapshot(dir.path());
    for output in ["pipe", "socket", "dangling", "link", "/dev/null", "/dev/zero"] {
        for options in ["--to gguf --type q8_0", "--to q4"] {
            for permission in ["", "--force", "--resume", "--dry-run"] {
                let line = format!("quantize m.safetensors -o {output} {options} {permission} --json");
                let error = fails(dir.run(&line), Code::Exists);
                let message = error["message"].as_str().expect("words");
                assert!(!message.contains("--force"), "{message}");
            }
        }
    }
    for output in ["-", "/dev/stdout", "/dev/../dev/stderr", "/dev/fd/1", "/proc/self/fd/1"] {
        for permission in ["", "--force", "--dry-run"] {
            let line =
                format!("quantize m.safetensors -o {output} --to gguf --type q8_0 {permission} --json");
            let error = fails(dir.run(&line), Code::Usage);
            assert!(error["message"].as_str().is_some_and(|m| m.contains("positions")), "{error}");
        }
    }
    assert!(snapshot(dir.path()) == before);
    drop(socket);
}

#[test]
fn mode_of_what_is_replaced_is_kept() {
    let mode = |dir: &Dir, name: &str| dir.at(name).metadata().expect("it").mode() & 0o777;
    for bits in [0o600, 0o640, 0o444, 0o666] {
        let dir = Dir::with_model();
        dir.write("x.gguf", b"private");
        let set = |name: &str, bits| {
            std::fs::set_permissions(dir.at(name), std::fs::Permissions::from_mode(bits)).expect("set");
        };
        set("x.gguf", bits);
        dir.run("quantize m.safetensors -o x.gguf --type q8_0 --force").exits(0);
        assert_eq!(mode(&dir, "x.gguf"), bits);
        std::fs::create_dir(dir.at("d")).expect("a directory");
        set("d", bits | 0o300);
        dir.run("quantize m.safetensors -o d --to q4").exits(0);
        assert_eq!(mode(&dir, "d"), bits | 0o300, "of an empty directory");
        set("d/quantize_index.json", bits | 0o400);
        dir.run("quantize m.safetensors -o d --to q4 --force").exits(0);
        assert_eq!((mode(&dir, "d"), mode(&dir, "d/quantize_index.json")), (bits | 0o300, bits | 0o400));
    }
}

/// A partial output is never more readable than what it will replace.
#[test]
fn partial_output_is_as_private_as_what_it_replaces() {
    let dir = Dir::with_model();
    dir.write("x.gguf", b"private");
    std::fs::set_permissions(dir.at("x.gguf"), std::fs::Permissions::from_mode(0o600)).expect("set");
    killed_before_naming(&dir, "quantize m.safetensors -o x.gguf --type q8_0 --force");
    assert_eq!(dir.at("x.gguf.partial").metadata().expect("it").mode() & 0o777, 0o600);
}

/// Runs in a mount name space of its own, with an empty file system and a file mounted in `dir`.
fn on_mounts(dir: &Dir, line: &str) -> Ended {
    let script = format!(
        "mount -t tmpfs -o size=20m tmpfs vol && mount --bind text file && mount --bind old bound && exec {} {line}",
        quantoscope_tests::binary::path().display()
    );
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", &script]).current_dir(dir.path());
    quantoscope_tests::binary::ended(&mut command)
}

#[test]
fn mount_point_is_refused_before_any_work() {
    let dir = Dir::with_family("llama_tied");
    std::fs::create_dir(dir.at("vol")).expect("a directory");
    std::fs::create_dir(dir.at("bound")).expect("a directory");
    dir.write("text", b"mine");
    dir.write("file", b"mine");
    dir.run("quantize m --to q4 -o old").exits(0);
    let before = snapshot(dir.path());
    for line in [
        "quantize m --to q4 -o vol",
        "rotate m -o vol/",
        "quantize m --to q4 -o bound --force",
        "quantize m --type q8_0 --to gguf -o file --force",
    ] {
        let error = fails(on_mounts(&dir, &format!("{line} --json")), Code::Exists);
        assert!(error["message"].as_str().is_some_and(|m| m.contains("mount point")), "{error}");
        assert!(snapshot(dir.path()) == before, "{line}");
    }
    on_mounts(&dir, "quantize m --to q4 -o vol/q").exits(0);
}
