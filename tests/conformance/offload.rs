//! The engine that works on a device, with the machine for PTX in the device's place: sound, broken, and failing.

use crate::ptx::{kernel, launch, stored, text};
use quantoscope_accel::cuda::texts::{self, LEN, SOURCES, TYPES};
use quantoscope_accel::cuda::{Call, Device, Gpu, Offload};
use quantoscope_core::DType;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::kernels::{Kernels, Scalar};
use quantoscope_core::quant::Encoding;
use quantoscope_tests::painters::paint;
use quantoscope_tests::ptx::{Kernel, Memory};
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
    kernels: Vec<(DType, &'static str, Kernel)>,
    fault: Fault,
    runs: AtomicU32,
}

impl Machine {
    fn new(fault: Fault) -> Machine {
        let mut kernels = Vec::new();
        for d in TYPES {
            let broken = fault == Fault::Constant && d == DType::Q4_0;
            let text = if broken { text(d).replace("0f41080000", "0f4107FFFE") } else { text(d).to_string() };
            kernels.extend(texts::entries().map(|entry| (d, entry, kernel(&text, entry))));
        }
        Machine { kernels, fault, runs: AtomicU32::new(0) }
    }
}

impl Device for Machine {
    fn name(&self) -> &str {
        "a machine"
    }

    fn run(&self, call: Call) -> Result<bool> {
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
        let (_, _, kernel) = self.kernels.iter().find(|k| k.0 == dtype && k.1 == entry).unwrap();
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

/// The engine on a machine; how many runs the probe took is forgotten.
fn engine(fault: Fault) -> Offload<Machine> {
    let engine = Offload::new(Machine::new(fault), &Scalar);
    if !matches!(fault, Fault::After(_)) {
        engine.device().runs.store(0, Ordering::Relaxed);
    }
    engine
}

/// Encodes, decodes and recodes as the definition does; how often the device was asked.
fn agrees(engine: &Offload<Machine>) -> u32 {
    let n = 40 * LEN;
    for d in TYPES.into_iter().chain([DType::BF16, DType::IQ4_NL]) {
        let size = d.bytes_for(n as u64).unwrap() as usize;
        for family in ["heavy", "ties", "tiny", "huge"] {
            let x = paint(family, 3, n);
            let both = [engine as &dyn Kernels, &Scalar].map(|kernels| {
                let mut out = vec![0; size];
                let mut made = vec![(kernels.encode(Encoding::Type(d), &x, None, &mut out), out.clone())];
                for source in SOURCES.into_iter().chain([DType::Q8_0]) {
                    let raw = match source {
                        DType::Q8_0 => vec![0x11; n / LEN * 34],
                        _ => stored(source, &x),
                    };
                    let mut room = vec![0.0; n];
                    made.push((
                        kernels.recode(source, &raw, Encoding::Type(d), &mut room, &mut out),
                        out.clone(),
                    ));
                }
                let mut values = vec![0.0_f32; n];
                let decoded = kernels.decode(d, &out, &mut values);
                // What stands in the output after a refusal is nobody's.
                made.retain_mut(|(refused, out)| {
                    if refused.is_err() {
                        out.clear();
                    }
                    true
                });
                (made, decoded, values.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
            });
            assert!(both[0] == both[1], "{d} {family}");
        }
    }
    engine.device().runs.load(Ordering::Relaxed)
}

#[test]
fn a_sound_device_is_asked() {
    let engine = engine(Fault::None);
    assert_eq!((engine.exact().count(), engine.lost()), (TYPES.len() * 4, false));
    // Of five types and four families: three sources, values themselves, what was decoded from Q8_0, and back.
    assert!(agrees(&engine) >= 5 * 4 * 6);
    assert!(!engine.lost());
}

#[test]
fn a_broken_kernel_is_not_asked_and_the_others_are() {
    let engine = engine(Fault::Constant);
    for d in TYPES {
        for entry in texts::entries() {
            let broken = d == DType::Q4_0 && entry != texts::DECODE;
            assert_eq!(engine.exact().has(d, entry), !broken, "{d} {entry}");
        }
    }
    assert!(agrees(&engine) >= 4 * 4 * 6);
}

#[test]
fn a_device_that_flushes_is_not_asked() {
    let engine = engine(Fault::Flushes);
    for d in TYPES {
        for entry in texts::entries() {
            assert_eq!(engine.exact().has(d, entry), entry != "encode_f32", "{d} {entry}");
        }
    }
    agrees(&engine);
}

#[test]
fn a_device_that_never_refuses_or_stops_short_is_not_asked() {
    let silent = engine(Fault::Silent);
    assert!(TYPES.iter().all(|&d| silent.exact().has(d, texts::DECODE)));
    assert_eq!(silent.exact().count(), TYPES.len());
    agrees(&silent);
    let short = engine(Fault::Short);
    assert_eq!((short.exact().count(), agrees(&short)), (0, 0));
}

#[test]
fn a_device_that_fails_is_not_asked_again_and_nothing_is_lost() {
    // The probe takes two runs of each encoder and one of each decoder.
    let probe = 5 * (3 * 2 + 1);
    for after in [0, 7] {
        let engine = engine(Fault::After(probe + after));
        assert_eq!(engine.exact().count(), 20);
        assert_eq!(agrees(&engine), probe + after + 1);
        assert!(engine.lost());
    }
    assert_eq!(engine(Fault::After(0)).exact().count(), 0);
}

#[test]
fn a_device_that_is_not_there_says_what_is_missing() {
    if let Err(error) = Gpu::open(0) {
        assert_eq!(error.code(), Code::Device);
        assert!(error.to_string().contains("CUDA"), "{error}");
    }
    assert_eq!(Gpu::open(4096).err().map(|e| e.code()), Some(Code::Device));
    let byname = quantoscope_accel::Engine::by_name("cuda");
    assert_eq!(byname.is_ok(), quantoscope_accel::cuda::first().is_ok());
}
