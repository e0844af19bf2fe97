//! The engine that works on a device, with the machine for PTX in the device's place: sound, broken, and failing.

use crate::ptx::{kernel, launch, stored, text};
use quantoscope_accel::cuda::texts::{self, LEN, SOURCES, TYPES};
use quantoscope_accel::cuda::{Call, Gpu, carry_out, kernels};
use quantoscope_accel::device::{Answer, Device, Kernel, Offload, Outcome, Task, Verdict};
use quantoscope_core::DType;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::kernels::{Kernels, Scalar};
use quantoscope_core::quant::Encoding;
use quantoscope_tests::painters::paint;
use quantoscope_tests::ptx::{Kernel as Program, Memory};
use quantoscope_tests::vectors::f32_bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What is the matter with a device.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// Half of what Q4_0 adds before it truncates is a little less than a half.
    Constant,
    /// Subnormal numbers are taken for zeros.
    Flushes,
    /// Nothing is ever refused.
    Silent,
    /// The last byte is not written.
    Short,
    /// All ends with an error after so many runs.
    After(u32),
}

struct Machine {
    programs: Vec<(DType, &'static str, Program)>,
    fault: Fault,
    runs: Arc<AtomicU32>,
}

impl Machine {
    fn new(fault: Fault) -> Machine {
        let mut programs = Vec::new();
        for d in TYPES {
            let broken = fault == Fault::Constant && d == DType::Q4_0;
            let text = if broken { text(d).replace("0f41080000", "0f4107FFFE") } else { text(d).to_string() };
            programs.extend(texts::entries().map(|entry| (d, entry, kernel(&text, entry))));
        }
        Machine { programs, fault, runs: Arc::default() }
    }
}

impl Device for Machine {
    fn name(&self) -> &str {
        "a machine"
    }

    fn kernels(&self) -> Vec<Kernel> {
        kernels()
    }

    fn run<'a>(&'a self, task: Task<'a>, out: &'a mut [u8]) -> Answer<'a> {
        Box::pin(std::future::ready(carry_out(task, out, |call| self.call(call))))
    }
}

impl Machine {
    fn call(&self, call: Call) -> Result<bool> {
        let Call { dtype, entry, src, out, blocks } = call;
        let runs = self.runs.fetch_add(1, Ordering::Relaxed);
        if matches!(self.fault, Fault::After(n) if runs >= n) {
            out.fill(0xEE);
            return Err(Error::new(Code::Device, "gone"));
        }
        assert_eq!(texts::sizes(dtype, entry, blocks), Some((src.len() as u64, out.len() as u64)));
        let mut src = src.to_vec();
        if self.fault == Fault::Flushes && entry == "encode_f32" {
            for x in src.as_chunks_mut::<4>().0 {
                let value = f32::from_le_bytes(*x);
                *x = if value.is_subnormal() { 0.0_f32.copysign(value) } else { value }.to_le_bytes();
            }
        }
        let (_, _, kernel) = self.programs.iter().find(|k| k.0 == dtype && k.1 == entry).unwrap();
        let mut memory = Memory::default();
        let arguments = [memory.add(src), memory.add(out.to_vec()), memory.add(vec![0; 4]), blocks.into()];
        match entry {
            texts::DECODE => {
                launch(kernel, blocks as usize, &[arguments[0], arguments[1], arguments[3]], &mut memory)
            }
            _ => launch(kernel, blocks as usize, &arguments, &mut memory),
        }
        let end = out.len() - usize::from(self.fault == Fault::Short);
        out[..end].copy_from_slice(&memory.bytes(arguments[1])[..end]);
        Ok(self.fault != Fault::Silent && memory.bytes(arguments[2]) != [0; 4])
    }
}

/// The engine on a machine, and how often that is asked since the probe (or ever, where it is to fail).
fn engine(fault: Fault) -> (Offload, Arc<AtomicU32>) {
    let machine = Machine::new(fault);
    let runs = Arc::clone(&machine.runs);
    let offload = pollster::block_on(Offload::probed("machine", Box::new(machine), &Scalar)).unwrap();
    if !matches!(fault, Fault::After(_)) {
        runs.store(0, Ordering::Relaxed);
    }
    (offload, runs)
}

/// Whether the probe found a kernel exact.
fn exact(offload: &Offload, kernel: Kernel) -> bool {
    offload.verdicts().contains(&(kernel, Verdict::Exact))
}

fn exact_count(offload: &Offload) -> usize {
    offload.verdicts().iter().filter(|(_, v)| *v == Verdict::Exact).count()
}

/// What is made is what the definition makes; how many tasks were.
fn agrees(offload: &Offload) -> u32 {
    let (n, mut made) = (40 * LEN, 0);
    let mut check = |from: DType, src: &[u8], to: DType| {
        let mut want = vec![0; to.bytes_for(n as u64).unwrap() as usize];
        let mut got = want.clone();
        let outcome =
            pollster::block_on(offload.make(Task { from, to, width: LEN, src, weights: &[] }, &mut got));
        let mut values = vec![0.0; n];
        let refused = Scalar.recode(from, src, Encoding::Type(to), &mut values, &mut want);
        if outcome == Outcome::Done {
            assert!(refused.is_ok() && got == want, "{from} to {to}");
            made += 1;
        }
        refused.is_ok().then_some(want)
    };
    for d in TYPES.into_iter().chain([DType::BF16, DType::IQ4_NL]) {
        for family in ["heavy", "ties", "tiny", "huge"] {
            let x = paint(family, 3, n);
            for source in SOURCES {
                check(source, &stored(source, &x), d);
            }
            if let Some(blocks) = check(DType::F32, &f32_bytes(&x), d) {
                check(d, &blocks, DType::F32);
            }
        }
    }
    made
}

#[test]
fn a_sound_device_is_asked() {
    let (engine, runs) = engine(Fault::None);
    assert_eq!(exact_count(&engine), TYPES.len() * 4);
    // Of five types and three families that nobody refuses: three sources, values themselves, and back.
    let made = agrees(&engine);
    assert!(made >= 5 * 3 * 5 && made <= runs.load(Ordering::Relaxed), "{made}");
    assert_eq!(engine.ended(), None);
}

#[test]
fn a_broken_kernel_is_not_asked_and_the_others_are() {
    let (engine, _) = engine(Fault::Constant);
    for kernel in kernels() {
        let broken = kernel.to() == DType::Q4_0;
        assert_eq!(exact(&engine, kernel), !broken, "{kernel}");
    }
    assert!(agrees(&engine) >= 4 * 3 * 5);
}

#[test]
fn a_device_that_flushes_is_not_asked() {
    let (engine, _) = engine(Fault::Flushes);
    for kernel in kernels() {
        assert_eq!(exact(&engine, kernel), kernel.from() != DType::F32, "{kernel}");
    }
    agrees(&engine);
}

#[test]
fn a_device_that_never_refuses_or_stops_short_is_not_asked() {
    let (silent, _) = engine(Fault::Silent);
    assert!(TYPES.iter().all(|&d| exact(&silent, Kernel::Dequantize(d))));
    assert_eq!(exact_count(&silent), TYPES.len());
    agrees(&silent);
    let (short, _) = engine(Fault::Short);
    assert_eq!((exact_count(&short), agrees(&short)), (0, 0));
}

#[test]
fn a_device_that_fails_is_not_asked_again_and_nothing_is_lost() {
    let (whole, runs) = engine(Fault::After(u32::MAX));
    let probe = runs.load(Ordering::Relaxed);
    assert_eq!(exact_count(&whole), 20);
    for after in [0, 7] {
        let (engine, runs) = engine(Fault::After(probe + after));
        assert_eq!(exact_count(&engine), 20);
        assert!(agrees(&engine) <= after);
        assert_eq!(runs.load(Ordering::Relaxed), probe + after + 1);
        assert_eq!(engine.ended().as_deref(), Some("gone"));
    }
    let dead = Offload::probed("machine", Box::new(Machine::new(Fault::After(0))), &Scalar);
    assert_eq!(pollster::block_on(dead).expect_err("no device").code(), Code::Device);
}

#[test]
fn a_device_that_is_not_there_says_what_is_missing() {
    if let Err(error) = Gpu::open(0) {
        assert_eq!(error.code(), Code::Device);
        assert!(error.to_string().contains("CUDA"), "{error}");
    }
    assert_eq!(Gpu::open(4096).err().map(|e| e.code()), Some(Code::Device));
    let engine = pollster::block_on(quantoscope_accel::Engine::open("cuda"));
    assert_eq!(engine.is_ok(), Gpu::open(0).is_ok());
}
