//! Reading headers: GB/s of header bytes, for a checkpoint of ten thousand tensors in each container.
//!
//! `cargo bench -p quantoscope-benches --bench formats`
#![allow(missing_docs)] // criterion_group! makes a public function without any

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quantoscope_core::DType;
use quantoscope_core::format::{LayoutTensor, Opening, Root, Want, gguf, safetensors};
use quantoscope_core::tensor::{MetaValue, Metadata, Shape};
use std::hint::black_box;
use std::time::Duration;

const TENSORS: usize = 10_000;

/// Opens a file of which only the header exists; no other bytes are requested.
fn open(name: &str, header: &[u8], len: u64) -> usize {
    let mut opening = Opening::new(Root::File(name));
    loop {
        match opening.want() {
            Want::List => opening.listed(Vec::new()).expect("no directory is listed"),
            Want::Open(wanted) => opening.opened((wanted == name).then_some(len)).expect("a sound file"),
            Want::Read { range, .. } => {
                let end = (range.end as usize).min(header.len());
                opening.data(&header[range.start as usize..end]).expect("a sound header");
            }
            Want::Ready => return opening.finish().expect("a sound checkpoint").tensors.len(),
        }
    }
}

fn headers(c: &mut Criterion) {
    let shape = Shape::new([4096_u64, 4096]).expect("a shape");
    let names: Vec<String> = (0..TENSORS).map(|i| format!("model.layers.{i}.mlp.down_proj.weight")).collect();
    let tensors: Vec<_> =
        names.iter().map(|name| LayoutTensor { name, dtype: DType::F16, shape: &shape }).collect();
    let metadata = Metadata(vec![("general.architecture".into(), MetaValue::String("llama".into()))]);
    let layouts = [
        ("model.safetensors", safetensors::layout(&[], &tensors).expect("a layout")),
        ("model.gguf", gguf::layout(&metadata, gguf::DEFAULT_ALIGNMENT, &tensors).expect("a layout")),
    ];
    let mut group = c.benchmark_group("open");
    for (name, layout) in &layouts {
        group.throughput(Throughput::Bytes(layout.header.len() as u64));
        group.bench_function(*name, |b| b.iter(|| open(name, black_box(&layout.header), layout.file_len)));
    }
    group.finish();
}

criterion_group! {
    name = formats;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).sample_size(20);
    targets = headers
}
criterion_main!(formats);
