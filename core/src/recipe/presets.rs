//! The named presets: what llama-quantize calls a file type. Each has a name, a base type and a number.
//!
//! Which tensor gets what in a preset is in [`rules`](super::preset_rules).

use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use alloc::borrow::Cow;
use alloc::format;
use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! presets {
    ($($variant:ident: $name:literal, $base:ident, $number:literal;)*) => {
        /// A named preset of types.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(non_camel_case_types, missing_docs)]
        pub enum Preset { $($variant,)* }

        impl Preset {
            /// Every preset, from many bits to few.
            pub const ALL: &'static [Preset] = &[$(Preset::$variant,)*];

            /// The name, as it is typed.
            pub const fn name(self) -> &'static str {
                match self { $(Preset::$variant => $name,)* }
            }

            /// The type of every tensor that no rule speaks of.
            pub const fn base(self) -> DType {
                match self { $(Preset::$variant => DType::$base,)* }
            }

            /// llama.cpp's number for it, `general.file_type` in a GGUF file.
            pub const fn file_type(self) -> u32 {
                match self { $(Preset::$variant => $number,)* }
            }
        }
    };
}

presets! {
    F32: "f32", F32, 0;
    BF16: "bf16", BF16, 32;
    F16: "f16", F16, 1;
    Q8_0: "q8_0", Q8_0, 7;
    Q6_K: "q6_k", Q6_K, 18;
    Q5_1: "q5_1", Q5_1, 9;
    Q5_K_M: "q5_k_m", Q5_K, 17;
    Q5_K_S: "q5_k_s", Q5_K, 16;
    Q5_0: "q5_0", Q5_0, 8;
    Q4_1: "q4_1", Q4_1, 3;
    Q4_K_M: "q4_k_m", Q4_K, 15;
    Q4_K_S: "q4_k_s", Q4_K, 14;
    Q4_0: "q4_0", Q4_0, 2;
    IQ4_NL: "iq4_nl", IQ4_NL, 25;
    IQ4_XS: "iq4_xs", IQ4_XS, 30;
    MXFP4_MOE: "mxfp4_moe", MXFP4, 38;
    Q3_K_L: "q3_k_l", Q3_K, 13;
    Q3_K_M: "q3_k_m", Q3_K, 12;
    Q3_K_S: "q3_k_s", Q3_K, 11;
    IQ3_M: "iq3_m", IQ3_S, 27;
    IQ3_S: "iq3_s", IQ3_S, 26;
    IQ3_XS: "iq3_xs", IQ3_S, 22;
    IQ3_XXS: "iq3_xxs", IQ3_XXS, 23;
    Q2_K: "q2_k", Q2_K, 10;
    Q2_K_S: "q2_k_s", Q2_K, 21;
    IQ2_M: "iq2_m", IQ2_S, 29;
    IQ2_S: "iq2_s", IQ2_XS, 28;
    IQ2_XS: "iq2_xs", IQ2_XS, 20;
    IQ2_XXS: "iq2_xxs", IQ2_XXS, 19;
    Q2_0: "q2_0", Q2_0, 41;
    TQ2_0: "tq2_0", TQ2_0, 37;
    IQ1_M: "iq1_m", IQ1_M, 31;
    TQ1_0: "tq1_0", TQ1_0, 36;
    IQ1_S: "iq1_s", IQ1_S, 24;
    Q1_0: "q1_0", Q1_0, 40;
}

/// Other names that the field uses.
const ALIASES: &[(&str, Preset)] = &[
    ("q3_k", Preset::Q3_K_M),
    ("q4_k", Preset::Q4_K_M),
    ("q5_k", Preset::Q5_K_M),
    ("mxfp4", Preset::MXFP4_MOE),
];

impl Preset {
    /// The preset that a user typed, in any case.
    ///
    /// # Errors
    ///
    /// `usage` if there is none of this name.
    pub fn parse(text: &str) -> Result<Preset> {
        let named = Preset::ALL.iter().map(|&m| (m.name(), m));
        let found = named.chain(ALIASES.iter().copied()).find(|(n, _)| n.eq_ignore_ascii_case(text));
        let unknown = || Error::new(Code::Usage, format!("{text:?} is not a recipe"));
        found.map(|(_, preset)| preset).ok_or_else(unknown)
    }
}

impl Preset {
    /// The preset with this base type that most people take.
    pub fn nearest(dtype: DType) -> Option<Preset> {
        Preset::parse(dtype.name()).ok()
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Preset {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Preset {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Preset, D::Error> {
        let text = Cow::<'de, str>::deserialize(d)?;
        Preset::parse(&text).map_err(serde::de::Error::custom)
    }
}
