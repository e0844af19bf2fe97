//! Compiles `quantoscope-wasm` for the browser and writes the JavaScript package around it.
//!
//! One step, so that the two halves cannot come from different versions. Fails where the page's generated types are out
//! of date: see [`protocol`].

mod protocol;

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use wasm_bindgen_cli_support::Bindgen;

const TARGET: &str = "wasm32-unknown-unknown";

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quantoscope-wasm-build: {error}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).ok_or("the workspace is gone")?;
    let out = env::args_os().nth(1).map_or_else(|| root.join("www/src/pkg"), PathBuf::from);
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    protocol::check(root)?;
    compile(root, &target)?;
    let wasm = target.join(TARGET).join("release/quantoscope_wasm.wasm");
    let mut bindgen = Bindgen::new();
    bindgen.input_path(wasm).web(true)?.typescript(true).out_name("quantoscope");
    bindgen.remove_name_section(true).remove_producers_section(true);
    bindgen.generate(&out)?;
    println!("{}", out.display());
    Ok(())
}

/// Flags of the target are in `.cargo/config.toml`, which tests share.
fn compile(root: &Path, target: &Path) -> Result<(), Box<dyn Error>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(root)
        .args(["build", "--release", "--locked", "--package", "quantoscope-wasm", "--target", TARGET])
        .arg("--target-dir")
        .arg(target)
        .status()?;
    if status.success() { Ok(()) } else { Err("the wasm crate did not compile".into()) }
}
