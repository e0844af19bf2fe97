//! The graphics device beside the worker's thread: opened once, its kernels verified and timed on request.

use crate::api_error::IntoApiResult;
use crate::driver::browser::now;
use crate::view::to_js;
use js_sys::Promise;
use quantoscope_accel::Engine;
use quantoscope_accel::device::{Kernel, Offload, ProbeVerdict, benchmark};
use quantoscope_accel::gpu::WgpuDevice;
use quantoscope_accel::select;
use quantoscope_core::error::Result;
use serde::Serialize;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;

/// An open device. It stays open as long as the worker lives.
#[wasm_bindgen]
pub struct Device(&'static Offload);

impl Device {
    /// Wraps any device.
    pub fn of(offload: Offload) -> Device {
        Device(Box::leak(Box::new(offload)))
    }

    /// The device with the processor beside it.
    pub(crate) fn offload(&self) -> &'static Offload {
        self.0
    }

    /// The kernels; the number of each is its place here.
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
struct KernelSpeed {
    /// Values per second of the processor; absent where it has no such kernel.
    processor: Option<f64>,
    /// Values per second of the device; absent where it has no such kernel, or where that is not exact.
    device: Option<f64>,
    /// True if the device is fast enough to be used beside the processor.
    worth_it: bool,
}

#[wasm_bindgen]
impl Device {
    /// Opens the adapter that the browser calls its fastest. Its name, and whether it is a program on the processor,
    /// come from the script: the browser gives them to scripts only.
    pub fn open(name: String, software: bool) -> Promise {
        future_to_promise(
            async move { Device::opened(name, software).await.map(JsValue::from).into_api_result() },
        )
    }

    /// `{name, software, kernels: [{work, name, from, to, weighted, exact}], ended}`; `exact` is `null` before a probe.
    ///
    /// # Errors
    /// That of the conversion to a JavaScript value.
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
            offload.probe(|k| k == kernel).await.into_api_result()?;
            Ok(offload.is_exact(kernel).into())
        })
    }

    /// Measures kernel number `index`: see `KernelSpeed`.
    pub fn benchmark(&self, index: usize) -> Promise {
        let offload = self.0;
        future_to_promise(async move {
            let seconds = || now() / 1000.0;
            let Some(kernel) = offload.verdicts().get(index).map(|(k, _)| *k) else {
                return Ok(JsValue::UNDEFINED);
            };
            let processor = benchmark::of_processor(offload.cpu(), kernel, &seconds);
            let device = benchmark::of_device(offload, kernel, &seconds).await;
            let worth_it = select::is_worth_it(device.unwrap_or(0.0), processor.unwrap_or(0.0));
            to_js(&KernelSpeed { processor, device, worth_it })
        })
    }

    /// The same device restricted to the kernels with these numbers.
    pub fn with_kernels(&self, indices: Vec<usize>) -> Device {
        let numbered = self.kernels().enumerate().filter(|(at, _)| indices.contains(at));
        let chosen: Vec<Kernel> = numbered.map(|(_, kernel)| kernel).collect();
        Device::of(self.0.part(|kernel| chosen.contains(&kernel)))
    }
}
