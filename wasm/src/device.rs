//! The graphics device beside the worker's thread: opened once, its kernels probed and timed when somebody asks.

use crate::problem::OrProblem;
use crate::view::to_js;
use js_sys::Promise;
use quantoscope_accel::Engine;
use quantoscope_accel::device::{Kernel, Offload, ProbeVerdict, benchmark};
use quantoscope_accel::gpu::WgpuDevice;
use quantoscope_core::error::Result;
use serde::Serialize;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;

#[wasm_bindgen]
extern "C" {
    /// Milliseconds.
    #[wasm_bindgen(js_namespace = performance)]
    fn now() -> f64;
}

/// What the processor works with, alone or beside a device.
#[wasm_bindgen]
pub fn processor() -> String {
    Engine::auto().name().into()
}

/// An open device. It stays open as long as the worker lives.
#[wasm_bindgen]
pub struct Device(&'static Offload);

impl Device {
    /// Of any device.
    pub fn of(offload: Offload) -> Device {
        Device(Box::leak(Box::new(offload)))
    }

    /// What runs jobs on it.
    pub(crate) fn offload(&self) -> &'static Offload {
        self.0
    }

    /// Its kernels; their numbers are their places here.
    pub(crate) fn kernels(&self) -> impl Iterator<Item = Kernel> {
        self.0.verdicts().into_iter().map(|(kernel, _)| kernel)
    }

    /// Opens the adapter that the browser calls its fastest.
    async fn opened(name: String, software: bool) -> Result<Device> {
        let gpu = WgpuDevice::open().await?.named(name, software);
        Ok(Device::of(Offload::new("webgpu", Box::new(gpu), Engine::auto().kernels())))
    }
}

#[derive(Serialize)]
struct DeviceDetails<'a> {
    name: &'a str,
    software: bool,
    kernels: Vec<KernelView>,
    ended: Option<String>,
}

#[derive(Serialize)]
struct KernelView {
    work: &'static str,
    name: String,
    from: &'static str,
    to: &'static str,
    weighted: bool,
    exact: Option<bool>,
}

#[derive(Serialize)]
struct PaceView {
    processor: Option<f64>,
    device: Option<f64>,
}

#[wasm_bindgen]
impl Device {
    /// Opens the adapter that the browser calls its fastest. What it is called, and whether it is a program on the
    /// processor, the browser tells scripts only.
    pub fn open(name: String, software: bool) -> Promise {
        future_to_promise(async move { Device::opened(name, software).await.map(JsValue::from).or_problem() })
    }

    /// `{name, software, kernels: [{work, name, from, to, weighted, exact}], ended}`; `exact` is `null` where nobody asked.
    pub fn view(&self) -> Result<JsValue, JsValue> {
        let kernel = |(k, verdict): (Kernel, Option<ProbeVerdict>)| KernelView {
            work: k.entry(),
            name: k.to_string(),
            from: k.from().name(),
            to: k.to().name(),
            weighted: k.is_weighted(),
            exact: verdict.map(|verdict| verdict == ProbeVerdict::Exact),
        };
        to_js(&DeviceDetails {
            name: self.0.device().name(),
            software: self.0.device().is_software(),
            kernels: self.0.verdicts().into_iter().map(kernel).collect(),
            ended: self.0.ended(),
        })
    }

    /// Compiles and probes kernel number `index`; whether it is exact.
    pub fn probe(&self, index: usize) -> Promise {
        let offload = self.0;
        future_to_promise(async move {
            let Some(kernel) = offload.verdicts().get(index).map(|(k, _)| *k) else {
                return Ok(JsValue::FALSE);
            };
            offload.probe(|k| k == kernel).await.or_problem()?;
            Ok(offload.is_exact(kernel).into())
        })
    }

    /// Values per second of kernel number `index`, as `{processor, device}`; `null` where it cannot or must not.
    pub fn pace(&self, index: usize) -> Promise {
        let offload = self.0;
        future_to_promise(async move {
            let seconds = || now() / 1000.0;
            let Some(kernel) = offload.verdicts().get(index).map(|(k, _)| *k) else {
                return Ok(JsValue::UNDEFINED);
            };
            to_js(&PaceView {
                processor: benchmark::of_processor(offload.cpu(), kernel, &seconds),
                device: benchmark::of_device(offload, kernel, &seconds).await,
            })
        })
    }

    /// The same device, asked for the kernels with these numbers only.
    pub fn choosing(&self, indices: Vec<usize>) -> Device {
        let numbered = self.kernels().enumerate().filter(|(at, _)| indices.contains(at));
        let chosen: Vec<Kernel> = numbered.map(|(_, kernel)| kernel).collect();
        Device::of(self.0.part(|kernel| chosen.contains(&kernel)))
    }
}
