//! The wgpu adapter, its limits, shader compilation, and device errors. Knows no kernel.

use super::failed;
use quantoscope_core::error::{Code, Error, Result};
use std::sync::{Arc, Mutex, OnceLock};

/// An open device.
pub(super) struct Driver {
    pub name: String,
    pub software: bool,
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    /// Maximum number of workgroups per dimension of a dispatch.
    pub max_groups: u32,
    /// Layout of the buffers that every kernel has.
    pub bindings: wgpu::BindGroupLayout,
    layout: wgpu::PipelineLayout,
    /// The first uncaptured error of the device.
    first_error: Arc<Mutex<Option<String>>>,
}

impl Driver {
    /// Opens the high-performance adapter of the platform.
    ///
    /// # Errors
    /// [`Code::Device`] if there is no adapter or it cannot be opened.
    pub(super) async fn open() -> Result<Driver> {
        let none = |e: &dyn std::fmt::Display| {
            Error::new(Code::Device, format!("this machine has no graphics device that can be used: {e}"))
        };
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends: wgpu::Backends::PRIMARY,
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..wgpu::RequestAdapterOptions::default()
        };
        let adapter = instance.request_adapter(&options).await.map_err(|e| none(&e))?;
        // Slices are small: the limits that every WebGPU device has are enough.
        let limits = wgpu::Limits {
            max_compute_workgroup_storage_size: 16 << 10,
            ..wgpu::Limits::downlevel_defaults()
        };
        let max_groups = limits.max_compute_workgroups_per_dimension;
        let wanted = wgpu::DeviceDescriptor { required_limits: limits, ..wgpu::DeviceDescriptor::default() };
        let (device, queue) = adapter.request_device(&wanted).await.map_err(|e| none(&e))?;
        let first_error = Arc::new(Mutex::new(None));
        let shared = Arc::clone(&first_error);
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| {
            if let Ok(mut first) = shared.lock() {
                first.get_or_insert_with(|| e.to_string());
            }
        }));
        let info = adapter.get_info();
        let bindings = bindings(&device);
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&bindings)],
            immediate_size: 0,
        });
        Ok(Driver {
            name: format!("{} ({:?})", info.name, info.backend),
            software: info.device_type == wgpu::DeviceType::Cpu,
            device,
            queue,
            max_groups,
            bindings,
            layout,
            first_error,
        })
    }

    /// Compiles a program; the error is the compiler's message.
    async fn compile(&self, program: &Program) -> std::result::Result<wgpu::ComputePipeline, String> {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let label = Some(program.name.as_str());
        let source = wgpu::ShaderSource::Wgsl(program.wgsl.as_str().into());
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor { label, source });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&self.layout),
            module: &module,
            entry_point: Some(program.entry),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        match scope.pop().await {
            Some(e) => Err(e.to_string()),
            None => Ok(pipeline),
        }
    }

    /// # Errors
    /// [`Code::Device`] if the device reported an error since it was opened.
    pub(super) fn check(&self) -> Result<()> {
        match self.first_error.lock().as_deref() {
            Ok(None) => Ok(()),
            Ok(Some(error)) => Err(failed(error)),
            Err(_) => Err(failed("its errors could not be told")),
        }
    }
}

/// A WGSL program that is compiled on first use.
pub(super) struct Program {
    pub name: String,
    entry: &'static str,
    pub wgsl: String,
    compiled: OnceLock<Option<wgpu::ComputePipeline>>,
}

impl Program {
    pub(super) fn new(name: &str, entry: &'static str, wgsl: String) -> Program {
        Program { name: name.into(), entry, wgsl, compiled: OnceLock::new() }
    }

    /// Whether the program has this entry point and source.
    pub(super) fn is(&self, entry: &str, wgsl: &str) -> bool {
        self.entry == entry && self.wgsl == wgsl
    }

    /// The pipeline on the device; `None` if it does not compile.
    pub(super) async fn pipeline(&self, driver: &Driver) -> Option<&wgpu::ComputePipeline> {
        if self.compiled.get().is_none() {
            let pipeline = driver.compile(self).await.ok();
            // If another thread was first, both pipelines are the same.
            let _ = self.compiled.set(pipeline);
        }
        self.compiled.get()?.as_ref()
    }
}

/// Layout of the bindings: source, result, declined, size, column weights.
fn bindings(device: &wgpu::Device) -> wgpu::BindGroupLayout {
    let storage = |read_only| wgpu::BufferBindingType::Storage { read_only };
    let kinds =
        [storage(true), storage(false), storage(false), wgpu::BufferBindingType::Uniform, storage(true)];
    let entries: Vec<_> = (0..)
        .zip(kinds)
        .map(|(binding, ty)| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
            count: None,
        })
        .collect();
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries })
}
