//! CUDA kernels on real NVIDIA devices: every vector, and random blocks (`QUANTOSCOPE_BLOCKS` sets how many).
//! Without a device these tests pass vacuously; `ptx.rs` runs the same PTX in an interpreter.

use crate::engines::NamedEngine;
use crate::gpu::{ask, stored};
use crate::gpu_wide::{UNUSUAL, USUAL, WideDeviceCodec, check_on};
use crate::vectors::check_file;
use quantoscope_accel::cuda;
use quantoscope_accel::device::{Device, DeviceOutcome, Kernel, ProbeVerdict, probe_kernel};
use quantoscope_tests::generators::word;
use quantoscope_tests::vectors::load;

/// The devices as one, if there are any.
fn device() -> Option<&'static cuda::CudaDevice> {
    match pollster::block_on(cuda::open()) {
        Ok(gpu) => Some(Box::leak(Box::new(gpu))),
        Err(e) => {
            println!("no CUDA device: {e}");
            None
        }
    }
}

#[test]
fn cuda_kernels_pass_the_probe() {
    let Some(gpu) = device() else { return };
    for kernel in gpu.kernels() {
        let verdict = pollster::block_on(probe_kernel(gpu, kernel)).expect("no failure");
        assert_eq!(verdict, ProbeVerdict::Exact, "{}: {kernel}", gpu.name());
    }
}

#[test]
fn cuda_vectors_match() {
    let Some(gpu) = device() else { return };
    let kernels = WideDeviceCodec::new(gpu);
    for file in ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k"] {
        check_file(&NamedEngine { name: "cuda", kernels }, file, &load(file));
    }
    let (made, declined) = kernels.counts();
    assert!(made > declined, "{made} made, {declined} declined");
}

#[test]
fn cuda_many_blocks_equal_the_reference() {
    let Some(gpu) = device() else { return };
    let asked = std::env::var("QUANTOSCOPE_BLOCKS").ok();
    let blocks: usize = asked.map_or(1000, |n| n.parse().expect("a number of blocks"));
    let devices: [(&str, &dyn Device); 1] = [(gpu.name(), gpu)];
    let encoders = gpu.kernels().into_iter().filter(|k| matches!(k, Kernel::Quantize { .. }));
    for (kernel, seed) in encoders.zip(1..) {
        if kernel.block().block_len() == 32 {
            let (input, want) = stored(kernel.from(), kernel.to(), blocks);
            let mut got = vec![0; want.len()];
            assert_eq!(
                ask(gpu, kernel.from(), &input, kernel.to(), &mut got),
                DeviceOutcome::Done,
                "{kernel}"
            );
            assert!(got == want, "{kernel}");
            continue;
        }
        for (n, family) in USUAL.iter().chain(&UNUSUAL).enumerate() {
            check_on(&devices, kernel, family, (word(seed, n as u64), blocks.div_ceil(12), n < USUAL.len()));
        }
    }
}
