//! The PTX interpreter itself: arithmetic by hand-written programs, and rejection of invalid programs.

use quantoscope_tests::ptx::{Memory, Size, parse};

const SIZE: Size = Size { groups: 1, threads: 32, shared: 0 };

/// A program of one entry that is given the address of its output.
fn program(body: &str) -> String {
    let registers = ".reg .pred %p<9>;\n.reg .b32 %r<9>;\n.reg .b64 %rd<9>;\n";
    let begin = "ld.param.u64 %rd1, [at];\nmov.u32 %r1, %tid.x;\nmul.wide.u32 %rd2, %r1, 4;\nadd.s64 %rd3, %rd1, %rd2;";
    format!(".visible .entry f(\n.param .u64 at\n)\n{{\n{registers}{begin}\n{body}\n}}\n")
}

/// Runs it with 32 threads and as many words of output.
fn run(body: &str) -> Result<Vec<u32>, String> {
    let mut memory = Memory::default();
    let at = memory.add(vec![0; 128]);
    parse(&program(body), "f")?.launch(SIZE, &[at], &mut memory)?;
    Ok(memory.bytes(at).as_chunks().0.iter().map(|&b| u32::from_le_bytes(b)).collect())
}

/// What every lane gets from one instruction that leaves its result in `%r2`.
fn one(instruction: &str) -> u32 {
    run(&format!("{instruction}\nst.global.u32 [%rd3], %r2;\nret;")).unwrap()[5]
}

#[test]
fn ptx_machine_arithmetic_equals_the_isa() {
    for (instruction, want) in [
        // To even, and a subnormal number stays one.
        ("add.rn.f32 %r2, 0f3F800000, 0f33800000;", 0x3F80_0000),
        ("add.rn.f32 %r2, 0f3F800001, 0f33800000;", 0x3F80_0002),
        ("mul.rn.f32 %r2, 0f00800000, 0f3F000000;", 0x0040_0000),
        ("div.rn.f32 %r2, 0f3F800000, 0f40400000;", 0x3EAA_AAAB),
        // There is one NaN.
        ("sub.rn.f32 %r2, 0fFF800000, 0fFF800000;", 0x7FFF_FFFF),
        ("cvt.rzi.s32.f32 %r2, 0fC0600000;", -3_i32 as u32),
        ("cvt.rzi.s32.f32 %r2, 0f7F800000;", i32::MAX as u32),
        ("cvt.rzi.s32.f32 %r2, 0f7FC00000;", 0),
        ("cvt.rn.f16.f32 %r2, 0f387FE000;", 0x0400),
        ("cvt.rn.f16.f32 %r2, 0f477FF000;", 0x7C00),
        ("cvt.f32.f16 %r2, 1;", 0x3380_0000),
        ("cvt.rn.f32.s32 %r2, -3;", 0xC040_0000),
        ("mov.b32 %r2, {1, 2};", 0x2_0001),
        ("shl.b32 %r2, 1, 32;", 0),
        ("shr.u32 %r2, -1, 31;", 1),
        ("bfi.b32 %r2, 5, 255, 4, 2;", 0xDF),
        ("min.u32 %r2, -1, 3;", 3),
        ("min.s32 %r2, -1, 3;", u32::MAX),
        ("cvt.s16.s8 %r2, 200;", 0xFFC8),
        ("sqrt.rn.f32 %r2, 0f40000000;", 0x3FB5_04F3),
        ("max.f32 %r2, 0f7FC00000, 0f80000000;", 0x8000_0000),
        ("max.f32 %r2, 0f80000000, 0f00000000;", 0),
        ("mad.lo.s32 %r2, -2, 3, 1;", -5_i32 as u32),
        ("rem.u32 %r2, 17, 5;", 2),
    ] {
        assert_eq!(one(instruction), want, "{instruction}");
    }
}

#[test]
fn ptx_machine_guards_and_branches_are_per_lane() {
    let body = "setp.gt.u32 %p1, %r1, 3;\nmov.u32 %r2, 7;\n@%p1 bra $over;\nmov.u32 %r2, 9;\n$over:\n@!%p1 add.s32 %r2, %r2, 1;\n\
                st.global.u32 [%rd3], %r2;\nret;";
    assert_eq!(run(body).unwrap()[..6], [10, 10, 10, 10, 7, 7]);
}

#[test]
fn ptx_machine_shuffles_stay_in_segments() {
    let store = "st.global.u32 [%rd3], %r2;\nret;";
    let pairs = run(&format!("shfl.sync.bfly.b32 %r2|%p1, %r1, 2, 31, -1;\n{store}")).unwrap();
    assert_eq!((pairs[0], pairs[1], pairs[30]), (2, 3, 28));
    // Eight lanes to a segment; who asks past its end gets its own.
    let down = run(&format!("shfl.sync.down.b32 %r2|%p1, %r1, 4, 6175, -1;\n{store}")).unwrap();
    assert_eq!((down[0], down[3], down[4], down[11], down[31]), (4, 7, 4, 15, 31));
}

/// A word for each thread, at `%rd6` its own.
const SHARED: &str = ".shared .align 4 .b8 room[128];\nmov.u64 %rd4, room;\nadd.s64 %rd6, %rd4, %rd2;\n";

#[test]
fn ptx_machine_barriers_order_shared_memory() {
    let write = "st.shared.u32 [%rd6], %r1;";
    let read = "ld.shared.u32 %r2, [%rd4+20];\nst.global.u32 [%rd3], %r2;\nret;";
    for wait in ["bar.sync 0;", "bar.warp.sync -1;"] {
        assert_eq!(run(&format!("{SHARED}{write}\n{wait}\n{read}")).unwrap(), [5; 32]);
    }
    let pick = "shfl.sync.idx.b32 %r2|%p1, %r1, 3, 6175, -1;\nst.global.u32 [%rd3], %r2;\nret;";
    let picked = run(pick).unwrap();
    assert_eq!((picked[0], picked[7], picked[8], picked[31]), (3, 3, 11, 27));
}

/// The machine runs threads in an order of its own: what depends on it is an error.
#[test]
fn ptx_machine_race_in_any_order_is_detected() {
    let write = "st.shared.u32 [%rd6], %r1;";
    for (body, what) in [
        // Lane 5 wrote before lane 6 reads, as it happens.
        (format!("{write}\nld.shared.u32 %r2, [%rd4];\nret;"), "nobody waited"),
        (format!("{write}\nbar.sync 0;\nld.shared.u32 %r2, [%rd4+4];\n{write}\nret;"), "nobody waited"),
        ("st.shared.u32 [%rd4], %r1;\nret;".to_string(), "nobody waited"),
        ("ld.shared.u32 %r2, [%rd6];\nret;".to_string(), "nobody wrote"),
        ("st.shared.u32 [%rd6+128], %r1;\nret;".to_string(), "nobody's"),
        ("st.shared.u32 [%rd3], %r1;\nret;".to_string(), "nobody's"),
        ("bar.warp.sync 255;\nret;".to_string(), "apart"),
        ("setp.gt.u32 %p1, %r1, 3;\n@%p1 ret;\nbar.sync 0;\nret;".to_string(), "apart"),
    ] {
        let fault = run(&format!("{SHARED}{body}")).expect_err(what);
        assert!(fault.contains(what), "{body}: {fault}");
    }
}

#[test]
fn ptx_machine_invalid_programs_are_refused() {
    for (body, what) in [
        ("fma.rn.f32 %r2, %r2, %r2, %r2;\nret;", "no such instruction"),
        ("add.f32 %r2, %r2, %r2;\nret;", "no such instruction"),
        ("mul.rn.ftz.f32 %r2, %r2, %r2;\nret;", "no such instruction"),
        ("st.global.u32 [%rd3+4], %r2;\nret;", "nobody's"),
        ("st.global.u32 [%rd3+2], %r2;\nret;", "not aligned"),
        ("ld.global.v2.u32 {%r2, %r3}, [%rd3];\nret;", "not aligned"),
        ("setp.gt.u32 %p1, %r1, 3;\n@%p1 ret;\nshfl.sync.bfly.b32 %r2, %r1, 1, 31, -1;\nret;", "apart"),
        ("setp.gt.u32 %p1, %r1, 3;\n@%p1 shfl.sync.bfly.b32 %r2, %r1, 1, 31, -1;\nret;", "apart"),
        ("shfl.sync.bfly.b32 %r2, %r1, 1, 31, 255;\nret;", "apart"),
        ("$again:\nbra $again;", "does not end"),
        ("mov.u32 %r2, 1;", "without a return"),
    ] {
        let fault = run(body).expect_err(what);
        assert!(fault.contains(what), "{body}: {fault}");
    }
    let mut memory = Memory::default();
    let kernel = parse(&program("ret;"), "f").unwrap();
    assert!(kernel.launch(SIZE, &[], &mut memory).is_err());
    assert!(parse(&program("ret;"), "g").is_err());
}
