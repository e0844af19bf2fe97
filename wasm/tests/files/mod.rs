//! The committed vectors.

/// A browser has no files: the vectors are part of the test.
pub const FILES: [(&str, &str); 22] = [
    ("q8_0", include_str!("../../../tests/vectors/q8_0.json")),
    ("q4_0", include_str!("../../../tests/vectors/q4_0.json")),
    ("q4_1", include_str!("../../../tests/vectors/q4_1.json")),
    ("q5_0", include_str!("../../../tests/vectors/q5_0.json")),
    ("q5_1", include_str!("../../../tests/vectors/q5_1.json")),
    ("q2_k", include_str!("../../../tests/vectors/q2_k.json")),
    ("q3_k", include_str!("../../../tests/vectors/q3_k.json")),
    ("q4_k", include_str!("../../../tests/vectors/q4_k.json")),
    ("q5_k", include_str!("../../../tests/vectors/q5_k.json")),
    ("q6_k", include_str!("../../../tests/vectors/q6_k.json")),
    ("iq4_nl", include_str!("../../../tests/vectors/iq4_nl.json")),
    ("iq4_xs", include_str!("../../../tests/vectors/iq4_xs.json")),
    ("tq1_0", include_str!("../../../tests/vectors/tq1_0.json")),
    ("tq2_0", include_str!("../../../tests/vectors/tq2_0.json")),
    ("mxfp4", include_str!("../../../tests/vectors/mxfp4.json")),
    ("nvfp4", include_str!("../../../tests/vectors/nvfp4.json")),
    ("q1_0", include_str!("../../../tests/vectors/q1_0.json")),
    ("q2_0", include_str!("../../../tests/vectors/q2_0.json")),
    ("f16", include_str!("../../../tests/vectors/f16.json")),
    ("bf16", include_str!("../../../tests/vectors/bf16.json")),
    ("q4_asym", include_str!("../../../tests/vectors/q4_asym.json")),
    ("q4_sym", include_str!("../../../tests/vectors/q4_sym.json")),
];

/// Families that are about refusals or decoding alone; the native conformance tests go through those.
pub const ELSEWHERE: [&str; 5] = ["every", "blocks", "fixture", "huge", "patterns"];
