//! The choice of an adapter, its limits, the compiler, and what went wrong. Knows no kernel's meaning.

use super::failed;
use quantoscope_core::error::{Code, Error, Result};
use std::sync::{Arc, Mutex, OnceLock};

/// An open device.
pub struct Driver {
    pub name: String,
    pub software: bool,
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    /// Workgroups along one side of a dispatch.
    pub most_groups: u32,
    /// Of the buffers that every kernel has.
    pub bindings: wgpu::BindGroupLayout,
    layout: wgpu::PipelineLayout,
    /// The first error that nobody was there to be told of.
    trouble: Arc<Mutex<Option<String>>>,
}

impl Driver {
    /// Opens the adapter that the platform calls its fastest.
    pub async fn open() -> Result<Driver> {
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
        // Slices are small enough for what every device has: nothing more is asked for than WebGPU promises.
        let limits = wgpu::Limits {
            max_compute_workgroup_storage_size: 16 << 10,
            ..wgpu::Limits::downlevel_defaults()
        };
        let most_groups = limits.max_compute_workgroups_per_dimension;
        let wanted = wgpu::DeviceDescriptor { required_limits: limits, ..wgpu::DeviceDescriptor::default() };
        let (device, queue) = adapter.request_device(&wanted).await.map_err(|e| none(&e))?;
        let trouble = Arc::new(Mutex::new(None));
        let note = Arc::clone(&trouble);
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| {
            if let Ok(mut first) = note.lock() {
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
            most_groups,
            bindings,
            layout,
            trouble,
        })
    }

    /// Compiles a program; the error says what is wrong with it.
    async fn compile(&self, program: &Program) -> std::result::Result<wgpu::ComputePipeline, String> {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let label = Some(program.name.as_str());
        let source = wgpu::ShaderSource::Wgsl(program.text.as_str().into());
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

    /// Fails if anything went wrong since the device was opened.
    pub fn check(&self) -> Result<()> {
        match self.trouble.lock().as_deref() {
            Ok(None) => Ok(()),
            Ok(Some(what)) => Err(failed(what)),
            Err(_) => Err(failed("its errors could not be told")),
        }
    }
}

/// A text that is compiled when it is first needed.
pub struct Program {
    pub name: String,
    entry: &'static str,
    pub text: String,
    compiled: OnceLock<Option<wgpu::ComputePipeline>>,
}

impl Program {
    pub fn new(name: &str, entry: &'static str, text: String) -> Program {
        Program { name: name.into(), entry, text, compiled: OnceLock::new() }
    }

    /// Whether it is the same program as one with this entry and text.
    pub fn is(&self, entry: &str, text: &str) -> bool {
        self.entry == entry && self.text == text
    }

    /// Compiled for the device; none where that has a compiler that does not take it.
    pub async fn on(&self, driver: &Driver) -> Option<&wgpu::ComputePipeline> {
        if self.compiled.get().is_none() {
            let made = driver.compile(self).await.ok();
            // Another may have been first: both are the same.
            let _ = self.compiled.set(made);
        }
        self.compiled.get()?.as_ref()
    }
}

/// The source, the result, the doubt, the size, and what is given beside the source.
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
