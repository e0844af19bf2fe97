//! A run with a device beside the processor: caught, lost, or right, the bytes are the same.
#![cfg(target_arch = "wasm32")]

mod page;

use page::{drive, get, number, open, recipe, saved, text, values, weight};
use quantoscope_accel::Engine;
use quantoscope_accel::device::{self, DeviceFuture, DeviceOutcome, Kernel, KernelTask, Offload};
use quantoscope_core::DType;
use quantoscope_core::error::{Code, Error};
use quantoscope_core::kernels::{Kernels, Scalar};
use quantoscope_core::quant::Encoding;
use quantoscope_wasm::Device;
use std::cell::Cell;
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Right,
    Lies,
    Lost,
}

thread_local! {
    static MOOD: Cell<Mood> = const { Cell::new(Mood::Right) };
}

/// A device with one kernel, which behaves by `MOOD`.
struct Puppet;

const KERNEL: Kernel = Kernel::Quantize { from: DType::F32, to: DType::Q8_0, weighted: false };

impl device::Device for Puppet {
    fn name(&self) -> &str {
        "a puppet"
    }

    fn kernels(&self) -> Vec<Kernel> {
        vec![KERNEL]
    }

    fn run<'a>(&'a self, task: KernelTask<'a>, out: &'a mut [u8]) -> DeviceFuture<'a> {
        let mut values = vec![0.0; task.src.len() / 4];
        let done = Scalar
            .decode(DType::F32, task.src, &mut values)
            .and_then(|()| Scalar.encode(Encoding::Type(DType::Q8_0), &values, None, out));
        Box::pin(std::future::ready(match MOOD.get() {
            Mood::Lost => Err(Error::new(Code::Device, "the puppet is gone")),
            _ if done.is_err() => Ok(DeviceOutcome::Declined),
            mood => {
                if mood == Mood::Lies {
                    out.iter_mut().for_each(|b| *b ^= 1);
                }
                Ok(DeviceOutcome::Done)
            }
        }))
    }
}

/// A model whose one weight has enough blocks that some are made again.
fn large() -> Vec<u8> {
    let name = page::NAME;
    let header = format!(r#"{{"{name}":{{"dtype":"F32","shape":[4096,32],"data_offsets":[0,524288]}}}}"#);
    let data: Vec<u8> = (0..1024).flat_map(|_| values()).flat_map(f32::to_le_bytes).collect();
    page::file(&header, &data)
}

/// What is written with a puppet that changes its mood once it has been probed, and the report.
async fn converted(bytes: &[u8], mood: Option<Mood>) -> (Vec<u8>, JsValue) {
    let run =
        open(bytes).await.ok().unwrap().plan(recipe("gguf", "q8_0"), true).ok().unwrap().run().ok().unwrap();
    if let Some(mood) = mood {
        MOOD.set(Mood::Right);
        let offload = Offload::new("puppet", Box::new(Puppet), Engine::auto().kernels());
        offload.probe(|_| true).await.unwrap();
        assert!(offload.is_exact(KERNEL));
        MOOD.set(mood);
        let device = Device::of(offload);
        run.attach_device(&device).unwrap();
        assert_eq!(run.kernels(&device), [0]);
    }
    let out = saved(&run).await.unwrap();
    (out, run.report().unwrap())
}

#[wasm_bindgen_test]
async fn whatever_a_device_does_the_bytes_and_the_figures_are_the_same() {
    let bytes = large();
    let (expected, alone) = converted(&bytes, None).await;
    assert!(get(&alone, "run.device").is_undefined());
    for mood in [Mood::Right, Mood::Lies, Mood::Lost] {
        let (out, report) = converted(&bytes, Some(mood)).await;
        assert!(out == expected);
        let told = |r: &JsValue| js_sys::JSON::stringify(&get(r, "tensors")).unwrap();
        assert_eq!(told(&report), told(&alone));
        assert_eq!(text(&report, "run.device.name"), "a puppet");
        let blocks = number(&report, "run.device.blocks");
        let differing = number(&report, "run.device.differing");
        match mood {
            Mood::Right => assert!(blocks == 4096.0 && differing == 0.0),
            Mood::Lies => assert!(differing > 0.0),
            Mood::Lost => assert!(blocks == 0.0 && text(&report, "run.device.ended").contains("gone")),
        }
        assert_eq!(number(&report, "run.device.checked") > 0.0, mood != Mood::Lost);
    }
}

#[wasm_bindgen_test]
async fn a_device_that_was_caught_is_not_asked_again() {
    let bytes = large();
    MOOD.set(Mood::Right);
    let offload = Offload::new("puppet", Box::new(Puppet), Engine::auto().kernels());
    let device = Device::of(offload);
    assert_eq!(JsFuture::from(device.probe(0)).await.unwrap(), JsValue::TRUE);
    MOOD.set(Mood::Lies);
    let plan = open(&bytes).await.ok().unwrap().plan(recipe("gguf", "q8_0"), false).ok().unwrap();
    // What was made of a part of the kernels is the same device.
    for (device, asked) in [(&device, true), (&device.with_kernels(vec![0]), false)] {
        let run = plan.run().ok().unwrap();
        run.attach_device(device).unwrap();
        assert_eq!(run.on_device(), asked);
        saved(&run).await.unwrap();
        assert!(!run.on_device());
        assert_eq!(number(&run.report().unwrap(), "run.device.blocks") > 0.0, asked);
    }
}

#[wasm_bindgen_test]
async fn run_that_is_driven_already_is_refused() {
    let model = open(&weight()).await.ok().unwrap();
    let run = model.tensor_values(0, true).ok().unwrap();
    drive(&run).await.unwrap();
    assert_eq!(text(&drive(&run).await.unwrap_err(), "code"), "usage");
}
