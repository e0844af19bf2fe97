//! The buffers of one submission: bytes in, one dispatch, bytes out. Knows no kernel.

use super::device::Driver;
use super::failed;
use quantoscope_core::error::Result;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

/// Copies are of whole words.
pub const WORD: usize = 4;

/// Buffers on the device, and the one that both sides see.
pub struct BufferSet {
    source: wgpu::Buffer,
    result: wgpu::Buffer,
    doubt: wgpu::Buffer,
    size: wgpu::Buffer,
    /// A zero, and the weights of the columns of a row.
    given: wgpu::Buffer,
    /// The result, and after it the doubt.
    staging: wgpu::Buffer,
    group: wgpu::BindGroup,
    room: (usize, usize, usize),
}

/// What one submission is about.
pub struct Submission<'a> {
    /// Workgroups.
    pub groups: u32,
    pub blocks: u32,
    /// Which block of its row the first one is.
    pub first: u32,
    /// Blocks of a row, where columns have weights.
    pub row: u32,
    /// How values are stored, where a kernel takes several.
    pub kind: u32,
    pub weights: &'a [f32],
    pub src: &'a [u8],
}

impl BufferSet {
    /// Buffers for so many bytes in and out and so many weights, or some more.
    pub fn new(driver: &Driver, input: usize, output: usize, weights: usize) -> Result<BufferSet> {
        use wgpu::BufferUsages as Usage;
        // Whole words, of which the last may hold half of nothing.
        let room =
            (input.next_multiple_of(256), output.next_multiple_of(256), (weights + 1).next_multiple_of(64));
        let make = |bytes: usize, usage| {
            let descriptor =
                wgpu::BufferDescriptor { label: None, size: bytes as u64, usage, mapped_at_creation: false };
            driver.device.create_buffer(&descriptor)
        };
        let source = make(room.0, Usage::STORAGE | Usage::COPY_DST);
        let result = make(room.1, Usage::STORAGE | Usage::COPY_SRC);
        let doubt = make(WORD, Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC);
        let size = make(4 * WORD, Usage::UNIFORM | Usage::COPY_DST);
        let given = make(room.2 * WORD, Usage::STORAGE | Usage::COPY_DST);
        let staging = make(room.1 + WORD, Usage::MAP_READ | Usage::COPY_DST);
        let buffers = [&source, &result, &doubt, &size, &given];
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
        Ok(BufferSet { source, result, doubt, size, given, staging, group, room })
    }

    /// Whether so many bytes and weights fit.
    pub fn holds(&self, input: usize, output: usize, weights: usize) -> bool {
        input <= self.room.0 && output <= self.room.1 && weights < self.room.2
    }

    /// Runs a kernel, if there is one, over so many blocks; false where it raised its doubt, and then `out` is as it was.
    pub async fn run(
        &self,
        driver: &Driver,
        pipeline: Option<&wgpu::ComputePipeline>,
        work: Submission<'_>,
        out: &mut [u8],
    ) -> Result<bool> {
        self.upload(driver, &work);
        let length = out.len().next_multiple_of(WORD);
        let mut commands = driver.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        if let Some(pipeline) = pipeline {
            let mut pass = commands.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, &self.group, &[]);
            pass.dispatch_workgroups(work.groups, 1, 1);
        }
        commands.copy_buffer_to_buffer(&self.result, 0, &self.staging, 0, length as u64);
        commands.copy_buffer_to_buffer(&self.doubt, 0, &self.staging, length as u64, WORD as u64);
        let submission = driver.queue.submit([commands.finish()]);
        fetch(driver, submission, &self.staging, out).await
    }

    fn upload(&self, driver: &Driver, work: &Submission<'_>) {
        write(driver, &self.source, work.src);
        let size = [work.blocks, work.row.max(1), work.first, work.kind].map(u32::to_le_bytes);
        driver.queue.write_buffer(&self.size, 0, size.as_flattened());
        let given: Vec<u8> =
            [&0.0].into_iter().chain(work.weights).flat_map(|w: &f32| w.to_le_bytes()).collect();
        driver.queue.write_buffer(&self.given, 0, &given);
        driver.queue.write_buffer(&self.doubt, 0, &[0; WORD]);
    }
}

/// Sends bytes, of which the last may be no whole word.
pub fn write(driver: &Driver, buffer: &wgpu::Buffer, src: &[u8]) {
    let (words, rest) = src.split_at(src.len() / WORD * WORD);
    driver.queue.write_buffer(buffer, 0, words);
    if !rest.is_empty() {
        let mut last = [0; WORD];
        last[..rest.len()].copy_from_slice(rest);
        driver.queue.write_buffer(buffer, words.len() as u64, &last);
    }
}

/// Waits for a submission whose result, and behind it the doubt, go to `staging`; false where doubt was raised, and then
/// `out` is as it was.
pub async fn fetch(
    driver: &Driver,
    submission: wgpu::SubmissionIndex,
    staging: &wgpu::Buffer,
    out: &mut [u8],
) -> Result<bool> {
    let length = out.len().next_multiple_of(WORD);
    let span = 0..(length + WORD) as u64;
    map(driver, submission, staging, span.clone()).await?;
    let view = staging.get_mapped_range(span).map_err(failed)?;
    let sure = view[length..] == [0; WORD];
    if sure {
        out.copy_from_slice(&view[..out.len()]);
    }
    drop(view);
    staging.unmap();
    // An error that was told in the meantime is this submission's: its bytes may be anything.
    driver.check()?;
    Ok(sure)
}

/// What a callback leaves for the one who waits for it.
#[derive(Default)]
struct Readback {
    given: Option<Result<(), wgpu::BufferAsyncError>>,
    waker: Option<Waker>,
}

/// Waits until the device has done its work and the buffer can be read.
async fn map(
    driver: &Driver,
    submission: wgpu::SubmissionIndex,
    buffer: &wgpu::Buffer,
    span: std::ops::Range<u64>,
) -> Result<()> {
    let answer = Arc::new(Mutex::new(Readback::default()));
    let told = Arc::clone(&answer);
    buffer.map_async(wgpu::MapMode::Read, span, move |given| {
        if let Ok(mut answer) = told.lock() {
            answer.given = Some(given);
            if let Some(waker) = answer.waker.take() {
                waker.wake();
            }
        }
    });
    // Natively this waits for no more than this submission, and calls back; in a page the browser does, later.
    let wait = wgpu::PollType::Wait { submission_index: Some(submission), timeout: None };
    driver.device.poll(wait).map_err(failed)?;
    let wait = poll_fn(|context| match answer.lock() {
        Ok(mut answer) => match answer.given.take() {
            Some(given) => Poll::Ready(given.map_err(failed)),
            None => {
                answer.waker = Some(context.waker().clone());
                Poll::Pending
            }
        },
        Err(_) => Poll::Ready(Err(failed("its answer was lost"))),
    });
    wait.await
}
