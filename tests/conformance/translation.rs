//! WGSL programs translated by naga to MSL, HLSL and SPIR-V: valid in each, with the optimization barriers
//! kept and without instructions that round differently.

use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Module, front::wgsl};
use quantoscope_accel::gpu::wgsl_programs;

fn parsed(name: &str, text: &str) -> (Module, ModuleInfo) {
    let module = wgsl::parse_str(text).unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(text)));
    // What WebGPU promises everywhere is all that a kernel may use.
    let valid = Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(&module);
    (module, valid.unwrap_or_else(|e| panic!("{name}: {e:?}")))
}

/// What Metal's compiler is given.
fn metal(module: &Module, info: &ModuleInfo) -> String {
    let options =
        msl::Options { lang_version: (2, 4), fake_missing_bindings: true, ..msl::Options::default() };
    let (text, found) =
        msl::write_string(module, info, &options, &msl::PipelineOptions::default()).expect("MSL");
    assert!(found.entry_point_names.iter().all(Result::is_ok), "{:?}", found.entry_point_names);
    text
}

/// What Direct3D's is.
fn direct3d(module: &Module, info: &ModuleInfo) -> String {
    let options = hlsl::Options { fake_missing_bindings: true, ..hlsl::Options::default() };
    let (mut text, pipeline) = (String::new(), hlsl::PipelineOptions::default());
    let found = hlsl::Writer::new(&mut text, &options, &pipeline).write(module, info, None).expect("HLSL");
    assert!(found.entry_point_names.iter().all(Result::is_ok), "{:?}", found.entry_point_names);
    text
}

/// The numbers of the instructions that Vulkan's is given, those of the extended set apart.
fn vulkan(module: &Module, info: &ModuleInfo) -> (Vec<u32>, Vec<u32>) {
    let words = spv::write_vec(module, info, &spv::Options::default(), None).expect("SPIR-V");
    assert_eq!(words[0], 0x0723_0203);
    let (mut all, mut extended, mut at) = (Vec::new(), Vec::new(), 5);
    while at < words.len() {
        let (length, code) = ((words[at] >> 16) as usize, words[at] & 0xFFFF);
        all.push(code);
        if code == EXTENDED {
            extended.push(words[at + 4]);
        }
        at += length.max(1);
    }
    (all, extended)
}

/// Instructions of SPIR-V, and of its extended set.
const EXTENDED: u32 = 12;
const BITCAST: u32 = 124;
const XOR: u32 = 198;
const FMA: u32 = 50;
const PACK_HALVES: u32 = 58;

#[test]
fn wgsl_programs_translate_to_every_backend() {
    let texts = wgsl_programs();
    assert!(texts.len() >= 60, "{} texts", texts.len());
    let mut guarded = 0;
    for (name, text) in &texts {
        let (module, info) = parsed(name, text);
        let (metal, direct3d) = (metal(&module, &info), direct3d(&module, &info));
        let (all, extended) = vulkan(&module, &info);
        assert!(metal.contains("kernel void") && direct3d.contains("numthreads"), "{name}");
        for wrong in ["fma(", "mad(", "f32tof16", "half(", "half "] {
            let told = |text: &str| text.contains(wrong);
            assert!(!told(&metal) && !told(&direct3d), "{name}: {wrong}");
        }
        assert!(!extended.contains(&FMA) && !extended.contains(&PACK_HALVES), "{name}");
        // A guard is an exclusive or of a float's pattern, which is looked at as a number again.
        if text.contains("fn black_box(") || text.contains("fn guard(") {
            guarded += 1;
            assert!(metal.contains("as_type<float>(as_type<uint>("), "{name}");
            assert!(direct3d.contains("asfloat((asuint("), "{name}");
            assert!(all.contains(&BITCAST) && all.contains(&XOR), "{name}");
        }
    }
    // Searches with and without weights, and rotations.
    assert!(guarded >= 11, "{guarded} texts have guards");
}
