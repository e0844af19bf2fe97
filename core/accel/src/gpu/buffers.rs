//! Buffers of one submission: upload, one dispatch, readback. Knows no kernel.

use super::device::Driver;
use super::failed;
use quantoscope_core::error::Result;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

/// Bytes of a word; buffer copies are whole words.
pub(super) const WORD: usize = 4;

/// Device buffers and the staging buffer for readback.
pub(super) struct BufferSet {
    source: wgpu::Buffer,
    result: wgpu::Buffer,
    /// One word; not 0 if a kernel declined.
    declined: wgpu::Buffer,
    size: wgpu::Buffer,
    /// A zero, then the importance weights of the columns.
    column_weights: wgpu::Buffer,
    /// The result, then the word of `declined`.
    staging: wgpu::Buffer,
    group: wgpu::BindGroup,
    /// Bytes of source and result, and words of `column_weights`.
    capacity: (usize, usize, usize),
}

/// Parameters and input of one dispatch.
pub(super) struct Submission<'a> {
    /// Workgroups.
    pub groups: u32,
    pub blocks: u32,
    /// Index of the first block in its row.
    pub first: u32,
    /// Blocks per row, for kernels with column weights.
    pub row: u32,
    /// Source type, for kernels that take several; see `load_any.wgsl`.
    pub kind: u32,
    pub weights: &'a [f32],
    pub src: &'a [u8],
}

impl BufferSet {
    /// Creates buffers for at least `input` bytes in, `output` bytes out and `weights` weights.
    ///
    /// # Errors
    /// [`Code::Device`](quantoscope_core::error::Code::Device) if the device is out of memory or lost.
    pub(super) fn new(driver: &Driver, input: usize, output: usize, weights: usize) -> Result<BufferSet> {
        use wgpu::BufferUsages as Usage;
        // Rounded up, so that the last word is whole.
        let capacity =
            (input.next_multiple_of(256), output.next_multiple_of(256), (weights + 1).next_multiple_of(64));
        let make = |bytes: usize, usage| {
            let descriptor =
                wgpu::BufferDescriptor { label: None, size: bytes as u64, usage, mapped_at_creation: false };
            driver.device.create_buffer(&descriptor)
        };
        let source = make(capacity.0, Usage::STORAGE | Usage::COPY_DST);
        let result = make(capacity.1, Usage::STORAGE | Usage::COPY_SRC);
        let declined = make(WORD, Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC);
        let size = make(4 * WORD, Usage::UNIFORM | Usage::COPY_DST);
        let column_weights = make(capacity.2 * WORD, Usage::STORAGE | Usage::COPY_DST);
        let staging = make(capacity.1 + WORD, Usage::MAP_READ | Usage::COPY_DST);
        let buffers = [&source, &result, &declined, &size, &column_weights];
        let bound = (0..).zip(buffers);
        let entries: Vec<_> = bound
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let group = driver.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &driver.bindings,
            entries: &entries,
        });
        driver.check()?;
        Ok(BufferSet { source, result, declined, size, column_weights, staging, group, capacity })
    }

    /// Whether `input` bytes, `output` bytes and `weights` weights fit.
    pub(super) fn holds(&self, input: usize, output: usize, weights: usize) -> bool {
        input <= self.capacity.0 && output <= self.capacity.1 && weights < self.capacity.2
    }

    /// Uploads, runs the kernel (if any) and reads back into `out`. Returns false, and leaves `out`
    /// unchanged, if the kernel declined.
    ///
    /// # Errors
    /// As [`BufferSet::new`].
    pub(super) async fn run(
        &self,
        driver: &Driver,
        pipeline: Option<&wgpu::ComputePipeline>,
        dispatch: Submission<'_>,
        out: &mut [u8],
    ) -> Result<bool> {
        self.upload(driver, &dispatch);
        let length = out.len().next_multiple_of(WORD);
        let mut commands = driver.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        if let Some(pipeline) = pipeline {
            let mut pass = commands.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, &self.group, &[]);
            pass.dispatch_workgroups(dispatch.groups, 1, 1);
        }
        commands.copy_buffer_to_buffer(&self.result, 0, &self.staging, 0, length as u64);
        commands.copy_buffer_to_buffer(&self.declined, 0, &self.staging, length as u64, WORD as u64);
        let submission = driver.queue.submit([commands.finish()]);
        read_back(driver, submission, &self.staging, out).await
    }

    fn upload(&self, driver: &Driver, dispatch: &Submission<'_>) {
        write(driver, &self.source, dispatch.src);
        let size =
            [dispatch.blocks, dispatch.row.max(1), dispatch.first, dispatch.kind].map(u32::to_le_bytes);
        driver.queue.write_buffer(&self.size, 0, size.as_flattened());
        let weights: Vec<u8> =
            [&0.0].into_iter().chain(dispatch.weights).flat_map(|w: &f32| w.to_le_bytes()).collect();
        driver.queue.write_buffer(&self.column_weights, 0, &weights);
        driver.queue.write_buffer(&self.declined, 0, &[0; WORD]);
    }
}

/// Writes bytes to a buffer; the last word is padded with zeros.
pub(super) fn write(driver: &Driver, buffer: &wgpu::Buffer, src: &[u8]) {
    let (words, rest) = src.split_at(src.len() / WORD * WORD);
    driver.queue.write_buffer(buffer, 0, words);
    if !rest.is_empty() {
        let mut last = [0; WORD];
        last[..rest.len()].copy_from_slice(rest);
        driver.queue.write_buffer(buffer, words.len() as u64, &last);
    }
}

/// Waits for a submission and copies its result from `staging`. Returns false, and leaves `out` unchanged, if
/// the word after the result says that a kernel declined.
///
/// # Errors
/// [`Code::Device`](quantoscope_core::error::Code::Device) if the device was lost or reported an error.
pub(super) async fn read_back(
    driver: &Driver,
    submission: wgpu::SubmissionIndex,
    staging: &wgpu::Buffer,
    out: &mut [u8],
) -> Result<bool> {
    let length = out.len().next_multiple_of(WORD);
    let span = 0..(length + WORD) as u64;
    map(driver, submission, staging, span.clone()).await?;
    let view = staging.get_mapped_range(span).map_err(failed)?;
    let complete = view[length..] == [0; WORD];
    if complete {
        out.copy_from_slice(&view[..out.len()]);
    }
    drop(view);
    staging.unmap();
    // An error reported since then may have spoiled these bytes.
    driver.check()?;
    Ok(complete)
}

/// State shared between the map callback and the waiting future.
#[derive(Default)]
struct Readback {
    mapped: Option<Result<(), wgpu::BufferAsyncError>>,
    waker: Option<Waker>,
}

/// Waits until the submission is finished and the buffer is mapped.
async fn map(
    driver: &Driver,
    submission: wgpu::SubmissionIndex,
    buffer: &wgpu::Buffer,
    span: std::ops::Range<u64>,
) -> Result<()> {
    let state = Arc::new(Mutex::new(Readback::default()));
    let shared = Arc::clone(&state);
    buffer.map_async(wgpu::MapMode::Read, span, move |mapped| {
        if let Ok(mut state) = shared.lock() {
            state.mapped = Some(mapped);
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        }
    });
    // Natively, poll waits for this submission and runs the callback; in a page, the browser runs it later.
    let wait = wgpu::PollType::Wait { submission_index: Some(submission), timeout: None };
    driver.device.poll(wait).map_err(failed)?;
    let wait = poll_fn(|context| match state.lock() {
        Ok(mut state) => match state.mapped.take() {
            Some(mapped) => Poll::Ready(mapped.map_err(failed)),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        },
        Err(_) => Poll::Ready(Err(failed("its answer was lost"))),
    });
    wait.await
}
