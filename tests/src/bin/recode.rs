//! Runs one encoding over a file of binary32 values, for the comparison in `generate/fresh.py`.
//!
//! `recode ENGINE NAME IN OUT_BYTES OUT_DECODED [IMPORTANCE]`, the input being whole rows of as many values
//! as there are weights; `narrow_f16` and `narrow_bf16` convert any pattern and decode it; `read_NAME` takes
//! the input as blocks of the type, and only decodes them. Where an element is refused, its number is printed
//! and the exit code is 3.

use quantoscope_accel::SimdLevel;
use quantoscope_core::float::{f32_to_bf16, f32_to_f16};
use quantoscope_core::kernels::Kernels;
use quantoscope_core::quant::Encoding;
use quantoscope_core::{DType, Result};
use quantoscope_tests::vectors::f32_bytes;

fn encode(
    kernels: &dyn Kernels,
    name: &str,
    x: &[f32],
    importance: Option<&[f32]>,
) -> Result<(DType, Vec<u8>)> {
    let narrow = |f: fn(f32) -> u16| x.iter().flat_map(|&v| f(v).to_le_bytes()).collect();
    Ok(match name {
        "narrow_f16" => (DType::F16, narrow(f32_to_f16)),
        "narrow_bf16" => (DType::BF16, narrow(f32_to_bf16)),
        _ => {
            let e = Encoding::parse(name)?;
            let mut out = vec![0; e.dtype().bytes_for(x.len() as u64).expect("whole blocks") as usize];
            kernels.encode(e, x, importance, &mut out)?;
            (e.dtype(), out)
        }
    })
}

fn floats(raw: &[u8]) -> Vec<f32> {
    raw.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [engine, name, input, bytes, values, importance @ ..] = args.as_slice() else {
        panic!("recode ENGINE NAME IN OUT_BYTES OUT_DECODED [IMPORTANCE]")
    };
    let level = SimdLevel::available().into_iter().find(|l| l.name() == engine);
    let kernels = level.unwrap_or_else(|| panic!("this machine has no engine {engine}")).kernels();
    let raw = std::fs::read(input).expect("the input");
    let importance = importance.first().map(|path| floats(&std::fs::read(path).expect("the importance")));
    let (dtype, out, len) = match name.strip_prefix("read_") {
        Some(name) => {
            let dtype = DType::parse(name).unwrap_or_else(|e| panic!("{e}"));
            let len = raw.len() / dtype.block_bytes() as usize * dtype.block_len() as usize;
            (dtype, raw, len)
        }
        None => {
            let x = floats(&raw);
            match encode(kernels, name, &x, importance.as_deref()) {
                Ok((dtype, out)) => (dtype, out, x.len()),
                Err(e) => {
                    let element = e.detail().element.unwrap_or_else(|| panic!("{name}: {e}"));
                    println!("{element}");
                    std::process::exit(3);
                }
            }
        }
    };
    let mut back = vec![0.0; len];
    kernels.decode(dtype, &out, &mut back).expect("a decoder");
    std::fs::write(bytes, out).expect("the bytes");
    std::fs::write(values, f32_bytes(&back)).expect("the values");
}
