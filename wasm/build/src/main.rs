//! Compiles the WebAssembly modules of the page and writes the JavaScript packages around them.
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

/// A WebAssembly module of the page.
struct WasmModule {
    /// Its crate.
    package: &'static str,
    /// The profile of cargo that it is compiled with, and the folder of its output.
    profile: &'static str,
    /// Arguments of cargo that choose its features.
    features: &'static [&'static str],
    /// The name of its files.
    name: &'static str,
}

/// The core that the page starts with, the whole core, which the first job that needs it loads, and the encoder that a
/// conversion of a tokenizer loads.
const MODULES: &[WasmModule] = &[
    WasmModule {
        package: "quantoscope-wasm",
        profile: "page",
        features: &["--no-default-features"],
        name: "quantoscope",
    },
    WasmModule {
        package: "quantoscope-wasm",
        profile: "page",
        features: &["--features", "full"],
        name: "full",
    },
    WasmModule { package: "quantoscope-wasm-tokenizer", profile: "small", features: &[], name: "tokenizer" },
];

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
    for module in MODULES {
        compile(root, &target, module)?;
        let wasm = target.join(TARGET).join(module.profile).join(module.package.replace('-', "_"));
        let mut bindgen = Bindgen::new();
        bindgen.input_path(wasm.with_extension("wasm")).web(true)?.typescript(true).out_name(module.name);
        bindgen.remove_name_section(true).remove_producers_section(true);
        bindgen.generate(&out)?;
    }
    println!("{}", out.display());
    Ok(())
}

/// Flags of the target are in `.cargo/config.toml`, which tests share.
fn compile(root: &Path, target: &Path, module: &WasmModule) -> Result<(), Box<dyn Error>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(root)
        .args(["build", "--locked", "--profile", module.profile])
        .args(["--package", module.package, "--target", TARGET])
        .args(module.features)
        .arg("--target-dir")
        .arg(target)
        .status()?;
    if status.success() { Ok(()) } else { Err(format!("{} did not compile", module.package).into()) }
}
