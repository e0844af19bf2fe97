//! The buffers of one submission of several dispatches: bytes in, a matrix that stays on the device, bytes out.

use super::buffers::{WORD, fetch, write};
use super::device::Driver;
use quantoscope_core::error::Result;

/// Words of a dispatch's parameters, and the bytes from those of one to those of the next.
pub const WORDS: usize = 18;
const PARAMETERS: usize = 256;

/// What a dispatch reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The bytes that were sent.
    Source,
    /// The tables.
    Tables,
    /// The matrix.
    Matrix,
}

/// One kernel's work.
pub struct Dispatch<'a> {
    pub pipeline: &'a wgpu::ComputePipeline,
    pub input: Input,
    /// Whether it writes the result; else it changes the matrix.
    pub last: bool,
    pub parameters: [u32; WORDS],
    /// Workgroups, in all.
    pub groups: u32,
}

/// Bytes of each buffer.
#[derive(Clone, Copy, Default)]
pub struct BufferSizes {
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

    /// Room for what this and another have room for, in whole words of which the last may hold half of nothing.
    fn with(&self, other: &BufferSizes) -> BufferSizes {
        let most = |a: usize, b: usize| a.max(b).max(1).next_multiple_of(256);
        BufferSizes {
            source: most(self.source, other.source),
            tables: most(self.tables, other.tables),
            matrix: most(self.matrix, other.matrix),
            result: most(self.result, other.result),
            dispatches: self.dispatches.max(other.dispatches).max(1),
        }
    }
}

/// Buffers on the device, and the one that both sides see.
pub struct MultiPass {
    room: BufferSizes,
    source: wgpu::Buffer,
    tables: wgpu::Buffer,
    matrix: wgpu::Buffer,
    result: wgpu::Buffer,
    doubt: wgpu::Buffer,
    parameters: wgpu::Buffer,
    /// A zero.
    given: wgpu::Buffer,
    /// The result, and after it the doubt.
    staging: wgpu::Buffer,
}

impl MultiPass {
    /// `kept`, if it has the room, or buffers that have.
    pub fn with_room(driver: &Driver, kept: Option<MultiPass>, room: &BufferSizes) -> Result<MultiPass> {
        use wgpu::BufferUsages as Usage;
        let room = match kept {
            Some(kept) if kept.room.holds(room) => return Ok(kept),
            Some(kept) => kept.room.with(room),
            None => BufferSizes::default().with(room),
        };
        let make = |bytes: usize, usage| {
            let descriptor =
                wgpu::BufferDescriptor { label: None, size: bytes as u64, usage, mapped_at_creation: false };
            driver.device.create_buffer(&descriptor)
        };
        let chain = MultiPass {
            room,
            source: make(room.source, Usage::STORAGE | Usage::COPY_DST),
            tables: make(room.tables, Usage::STORAGE | Usage::COPY_DST),
            matrix: make(room.matrix, Usage::STORAGE | Usage::COPY_SRC),
            result: make(room.result, Usage::STORAGE | Usage::COPY_SRC),
            doubt: make(WORD, Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC),
            parameters: make(room.dispatches * PARAMETERS, Usage::UNIFORM | Usage::COPY_DST),
            given: make(WORD, Usage::STORAGE | Usage::COPY_DST),
            staging: make(room.matrix.max(room.result) + WORD, Usage::MAP_READ | Usage::COPY_DST),
        };
        driver.check()?;
        Ok(chain)
    }

    /// Runs dispatches, each after the one before has ended. `out` is filled from what the last has written; false
    /// where one raised its doubt, and then it is as it was.
    pub async fn run(
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
                let high = dispatch.groups.div_ceil(driver.most_groups).max(1);
                pass.set_pipeline(dispatch.pipeline);
                pass.set_bind_group(0, group, &[]);
                pass.dispatch_workgroups(dispatch.groups.div_ceil(high), high, 1);
            }
        }
        let last = if dispatches.last().is_some_and(|d| d.last) { &self.result } else { &self.matrix };
        commands.copy_buffer_to_buffer(last, 0, &self.staging, 0, length as u64);
        commands.copy_buffer_to_buffer(&self.doubt, 0, &self.staging, length as u64, WORD as u64);
        let submission = driver.queue.submit([commands.finish()]);
        fetch(driver, submission, &self.staging, out).await
    }

    /// The buffers of one dispatch.
    fn bind(&self, driver: &Driver, number: usize, dispatch: &Dispatch<'_>) -> wgpu::BindGroup {
        let input = match dispatch.input {
            Input::Source => &self.source,
            Input::Tables => &self.tables,
            Input::Matrix => &self.matrix,
        };
        let output = if dispatch.last { &self.result } else { &self.matrix };
        let parameters = wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.parameters,
            offset: (number * PARAMETERS) as u64,
            size: wgpu::BufferSize::new(PARAMETERS as u64),
        });
        let buffers = [input, output, &self.doubt].map(wgpu::Buffer::as_entire_binding);
        let given = self.given.as_entire_binding();
        let bound = (0..).zip(buffers.into_iter().chain([parameters, given]));
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
        let mut parameters = Vec::with_capacity(dispatches.len() * PARAMETERS);
        for dispatch in dispatches {
            parameters.extend(bytes(&dispatch.parameters));
            parameters.resize(parameters.len().next_multiple_of(PARAMETERS), 0);
        }
        driver.queue.write_buffer(&self.parameters, 0, &parameters);
        driver.queue.write_buffer(&self.doubt, 0, &[0; WORD]);
        driver.queue.write_buffer(&self.given, 0, &[0; WORD]);
    }
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}
