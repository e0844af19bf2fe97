//! Buffers of one submission of several dispatches: upload, a matrix that stays on the device, readback.

use super::buffers::{WORD, read_back, write};
use super::device::Driver;
use quantoscope_core::error::Result;

/// Words of a dispatch's parameters.
pub(super) const PARAMETER_WORDS: usize = 18;
/// Bytes from one dispatch's parameters to the next: the alignment of uniform offsets.
const PARAMETER_STRIDE: usize = 256;

/// Input buffer of a dispatch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// The uploaded bytes.
    Source,
    /// The tables.
    Tables,
    /// The matrix.
    Matrix,
}

/// One kernel launch.
pub(super) struct Dispatch<'a> {
    pub pipeline: &'a wgpu::ComputePipeline,
    pub input: Input,
    /// True if it writes the result; else it writes the matrix.
    pub last: bool,
    pub parameters: [u32; PARAMETER_WORDS],
    /// Workgroups in all.
    pub groups: u32,
}

/// Bytes of each buffer, and number of dispatches.
#[derive(Clone, Copy, Default)]
pub(super) struct BufferSizes {
    pub source: usize,
    pub tables: usize,
    pub matrix: usize,
    pub result: usize,
    pub dispatches: usize,
}

impl BufferSizes {
    fn holds(&self, other: &BufferSizes) -> bool {
        self.source >= other.source
            && self.tables >= other.tables
            && self.matrix >= other.matrix
            && self.result >= other.result
            && self.dispatches >= other.dispatches
    }

    /// Sizes that hold both, rounded up.
    fn max_with(&self, other: &BufferSizes) -> BufferSizes {
        let max = |a: usize, b: usize| a.max(b).max(1).next_multiple_of(256);
        BufferSizes {
            source: max(self.source, other.source),
            tables: max(self.tables, other.tables),
            matrix: max(self.matrix, other.matrix),
            result: max(self.result, other.result),
            dispatches: self.dispatches.max(other.dispatches).max(1),
        }
    }
}

/// Device buffers and the staging buffer for readback.
pub(super) struct MultiPass {
    sizes: BufferSizes,
    source: wgpu::Buffer,
    tables: wgpu::Buffer,
    matrix: wgpu::Buffer,
    result: wgpu::Buffer,
    /// One word; not 0 if a kernel declined.
    declined: wgpu::Buffer,
    parameters: wgpu::Buffer,
    /// A zero: rotated columns have no importance weights.
    column_weights: wgpu::Buffer,
    /// The result, then the word of `declined`.
    staging: wgpu::Buffer,
}

impl MultiPass {
    /// Returns `idle` if it is large enough, or new buffers.
    ///
    /// # Errors
    /// [`Code::Device`](quantoscope_core::error::Code::Device) if the device is out of memory or lost.
    pub(super) fn with_sizes(
        driver: &Driver,
        idle: Option<MultiPass>,
        sizes: &BufferSizes,
    ) -> Result<MultiPass> {
        use wgpu::BufferUsages as Usage;
        let sizes = match idle {
            Some(idle) if idle.sizes.holds(sizes) => return Ok(idle),
            Some(idle) => idle.sizes.max_with(sizes),
            None => BufferSizes::default().max_with(sizes),
        };
        let make = |bytes: usize, usage| {
            let descriptor =
                wgpu::BufferDescriptor { label: None, size: bytes as u64, usage, mapped_at_creation: false };
            driver.device.create_buffer(&descriptor)
        };
        let buffers = MultiPass {
            sizes,
            source: make(sizes.source, Usage::STORAGE | Usage::COPY_DST),
            tables: make(sizes.tables, Usage::STORAGE | Usage::COPY_DST),
            matrix: make(sizes.matrix, Usage::STORAGE | Usage::COPY_SRC),
            result: make(sizes.result, Usage::STORAGE | Usage::COPY_SRC),
            declined: make(WORD, Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC),
            parameters: make(sizes.dispatches * PARAMETER_STRIDE, Usage::UNIFORM | Usage::COPY_DST),
            column_weights: make(WORD, Usage::STORAGE | Usage::COPY_DST),
            staging: make(sizes.matrix.max(sizes.result) + WORD, Usage::MAP_READ | Usage::COPY_DST),
        };
        driver.check()?;
        Ok(buffers)
    }

    /// Runs dispatches in order and reads back the output of the last one. Returns false, and leaves `out`
    /// unchanged, if any of them declined.
    ///
    /// # Errors
    /// As [`MultiPass::with_sizes`].
    pub(super) async fn run(
        &self,
        driver: &Driver,
        dispatches: &[Dispatch<'_>],
        src: &[u8],
        tables: &[u32],
        out: &mut [u8],
    ) -> Result<bool> {
        self.upload(driver, dispatches, src, tables);
        let length = out.len().next_multiple_of(WORD);
        let groups: Vec<_> = (0..).zip(dispatches).map(|(n, d)| self.bind(driver, n, d)).collect();
        let mut commands = driver.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = commands.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for (dispatch, group) in dispatches.iter().zip(&groups) {
                let high = dispatch.groups.div_ceil(driver.max_groups).max(1);
                pass.set_pipeline(dispatch.pipeline);
                pass.set_bind_group(0, group, &[]);
                pass.dispatch_workgroups(dispatch.groups.div_ceil(high), high, 1);
            }
        }
        let last = if dispatches.last().is_some_and(|d| d.last) { &self.result } else { &self.matrix };
        commands.copy_buffer_to_buffer(last, 0, &self.staging, 0, length as u64);
        commands.copy_buffer_to_buffer(&self.declined, 0, &self.staging, length as u64, WORD as u64);
        let submission = driver.queue.submit([commands.finish()]);
        read_back(driver, submission, &self.staging, out).await
    }

    /// The bind group of dispatch `number`.
    fn bind(&self, driver: &Driver, number: usize, dispatch: &Dispatch<'_>) -> wgpu::BindGroup {
        let input = match dispatch.input {
            Input::Source => &self.source,
            Input::Tables => &self.tables,
            Input::Matrix => &self.matrix,
        };
        let output = if dispatch.last { &self.result } else { &self.matrix };
        let parameters = wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.parameters,
            offset: (number * PARAMETER_STRIDE) as u64,
            size: wgpu::BufferSize::new(PARAMETER_STRIDE as u64),
        });
        let buffers = [input, output, &self.declined].map(wgpu::Buffer::as_entire_binding);
        let weights = self.column_weights.as_entire_binding();
        let bound = (0..).zip(buffers.into_iter().chain([parameters, weights]));
        let entries: Vec<_> =
            bound.map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource }).collect();
        driver.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &driver.bindings,
            entries: &entries,
        })
    }

    fn upload(&self, driver: &Driver, dispatches: &[Dispatch<'_>], src: &[u8], tables: &[u32]) {
        write(driver, &self.source, src);
        driver.queue.write_buffer(&self.tables, 0, &bytes(tables));
        let mut parameters = Vec::with_capacity(dispatches.len() * PARAMETER_STRIDE);
        for dispatch in dispatches {
            parameters.extend(bytes(&dispatch.parameters));
            parameters.resize(parameters.len().next_multiple_of(PARAMETER_STRIDE), 0);
        }
        driver.queue.write_buffer(&self.parameters, 0, &parameters);
        driver.queue.write_buffer(&self.declined, 0, &[0; WORD]);
        driver.queue.write_buffer(&self.column_weights, 0, &[0; WORD]);
    }
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}
