//! WebGPU in a browser's worker: every kernel answers what is known, and makes the committed vectors again. A missing
//! adapter is a failure.
#![cfg(target_arch = "wasm32")]

mod files;
#[path = "../../tests/src/generators.rs"]
#[allow(dead_code)]
mod generators;
mod page;
#[path = "../../tests/src/vectors.rs"]
#[allow(dead_code)]
mod vectors;

use files::{ELSEWHERE, FILES};
use page::{drive, get, number, open, weight};
use quantoscope_accel::Engine;
use quantoscope_accel::device::{DeviceOutcome, Kernel, KernelTask, Offload, ProbeVerdict};
use quantoscope_accel::gpu::WgpuDevice;
use quantoscope_core::DType;
use quantoscope_core::quant::Encoding;
use quantoscope_wasm::{Device, Run};
use std::cell::Cell;
use vectors::{VectorCase, VectorFile, f32_bytes, sha256};
use wasm_bindgen::JsValue;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

thread_local! {
    static OPEN: Cell<Option<&'static Offload>> = const { Cell::new(None) };
}

/// The browser's device, opened once: compiling its kernels is what takes time.
async fn graphics() -> &'static Offload {
    if let Some(known) = OPEN.get() {
        return known;
    }
    let gpu =
        WgpuDevice::open().await.expect("the browser has an adapter").named("the browser's".into(), false);
    let offload = Offload::new("webgpu", Box::new(gpu), Engine::auto().kernels());
    OPEN.set(Some(Box::leak(Box::new(offload))));
    OPEN.get().unwrap()
}

#[wasm_bindgen_test]
async fn every_kernel_is_exact() {
    let offload = graphics().await;
    assert!(offload.verdicts().len() >= 57);
    offload.probe(|_| true).await.unwrap();
    for (kernel, verdict) in offload.verdicts() {
        assert_eq!(verdict, Some(ProbeVerdict::Exact), "{kernel}");
    }
}

/// Holds one vector against what the device makes; whether it made it.
async fn holds(offload: &Offload, dtype: DType, case: &VectorCase) -> bool {
    let place = format!("{dtype} {} n={} seed={}", case.family, case.n, case.seed);
    let values = generators::generate(&case.family, case.seed, case.n);
    let row = case.importance.as_ref();
    let weights = row.map(|r| generators::importance(r.seed, r.columns)).unwrap_or_default();
    let mut raw = vec![0; dtype.bytes_for(case.n as u64).unwrap() as usize];
    let src = f32_bytes(&values);
    let task = KernelTask { from: DType::F32, to: dtype, width: weights.len(), src: &src, weights: &weights };
    if offload.make(task, &mut raw).await != DeviceOutcome::Done {
        return false;
    }
    assert_eq!(Some(sha256(&raw)), case.bytes_sha256, "{place}");
    let Some(want) = &case.decoded_sha256 else { return true };
    let mut decoded = vec![0; src.len()];
    let back = KernelTask { from: dtype, to: DType::F32, width: 0, src: &raw, weights: &[] };
    assert_eq!(offload.make(back, &mut decoded).await, DeviceOutcome::Done, "{place}");
    assert_eq!(&sha256(&decoded), want, "decoded: {place}");
    true
}

#[wasm_bindgen_test]
async fn every_vector_of_a_kernel() {
    let offload = graphics().await;
    offload.probe(|k| k.from() == DType::F32 || k.to() == DType::F32).await.unwrap();
    let mut types = 0;
    for (name, text) in FILES {
        let VectorFile { encoding, cases, .. } = serde_json::from_str(text).unwrap();
        let Encoding::Type(to) = encoding else { continue };
        let kernel = |weighted| Kernel::Quantize { from: DType::F32, to, weighted };
        let (mut held, mut declined) = (0, 0);
        for case in cases.iter().filter(|c| !ELSEWHERE.contains(&c.family.as_str())) {
            if offload.is_exact(kernel(case.importance.is_some())) {
                *(if holds(offload, to, case).await { &mut held } else { &mut declined }) += 1;
            }
        }
        if held + declined > 0 {
            types += 1;
            // Searches may leave what lies at the ends of binary32 to the processor.
            assert!(
                held > 5 && (declined == 0 || to.block_len() > 32),
                "{name}: {held} held, {declined} declined"
            );
        }
    }
    assert!(types >= 10);
}

/// What a run says, the run itself apart; and the blocks that a device made.
async fn said(run: Run, device: Option<&Device>) -> (String, f64) {
    if let Some(device) = device {
        run.attach_device(device).unwrap();
    }
    drive(&run).await.unwrap();
    let report = run.report().unwrap();
    let text = |value: JsValue| String::from(js_sys::JSON::stringify(&value).unwrap());
    let blocks = if device.is_some() { number(&report, "run.device.blocks") } else { 0.0 };
    (text(get(&report, "tensors")), blocks)
}

#[wasm_bindgen_test]
async fn a_tensor_is_looked_into_and_rotated_to_the_same_figures() {
    let offload = graphics().await;
    let model = open(&weight()).await.ok().unwrap();
    offload.probe(|k| k.block().block_len() <= 32).await.unwrap();
    let device = Device::of(offload.part(|k| k.block().block_len() <= 32));
    let look = || model.tensor_errors(0, vec!["q4_0".into(), "q8_0".into()], true).ok().unwrap();
    let rotated = || model.rotated(0, vec!["block:32".into()], None).ok().unwrap();
    for run in [&look as &dyn Fn() -> Run, &rotated] {
        let (alone, _) = said(run(), None).await;
        let (with, blocks) = said(run(), Some(&device)).await;
        assert_eq!(with, alone);
        assert!(blocks > 0.0);
    }
}
