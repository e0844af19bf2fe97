//! Random damage of files: no panic, reads in bounds, and files that are accepted are accepted by the
//! official reader.

use crate::build::lattice;
use crate::{apr, gguf, safetensors};
use proptest::prelude::*;
use proptest::sample::Index;
use quantoscope_core::DType;
use quantoscope_core::format::Root;
use quantoscope_core::format::q4::index_json;
use quantoscope_tests::drive::{Files, drive};
use quantoscope_tests::property::property;

/// One way to damage a file.
#[derive(Clone, Debug)]
pub(crate) enum HeaderDamage {
    Set(Index, u8),
    Flip(Index, u8),
    Remove(Index, u8),
    Insert(Index, Vec<u8>),
    /// Eight bytes become a number that is likely to matter.
    Number(Index, u64),
}

pub(crate) fn damage() -> impl Strategy<Value = HeaderDamage> {
    let edges =
        prop_oneof![Just(0), Just(1), Just(u64::MAX), Just(1 << 63), Just(1 << 32), any::<u64>(), 0..300_u64];
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(i, b)| HeaderDamage::Set(i, b)),
        (any::<Index>(), 0..8_u8).prop_map(|(i, b)| HeaderDamage::Flip(i, b)),
        (any::<Index>(), 1..20_u8).prop_map(|(i, n)| HeaderDamage::Remove(i, n)),
        (any::<Index>(), prop::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(i, b)| HeaderDamage::Insert(i, b)),
        (any::<Index>(), edges).prop_map(|(i, n)| HeaderDamage::Number(i, n)),
    ]
}

pub(crate) fn apply(bytes: &mut Vec<u8>, damage: &HeaderDamage) {
    if bytes.is_empty() {
        return;
    }
    match damage {
        HeaderDamage::Set(i, b) => *i.get_mut(bytes) = *b,
        HeaderDamage::Flip(i, bit) => *i.get_mut(bytes) ^= 1 << bit,
        HeaderDamage::Remove(i, n) => {
            let at = i.index(bytes.len());
            bytes.drain(at..(at + usize::from(*n)).min(bytes.len()));
        }
        HeaderDamage::Insert(i, new) => {
            let at = i.index(bytes.len());
            bytes.splice(at..at, new.iter().copied());
        }
        HeaderDamage::Number(i, n) => {
            let at = i.index(bytes.len());
            bytes.iter_mut().skip(at).zip(n.to_le_bytes()).for_each(|(b, new)| *b = new);
        }
    }
}

/// Opens the damaged file; the driver asserts all that must hold of reads and results.
fn survives(name: &str, bytes: &[u8], max_read: usize) -> Option<quantoscope_core::format::Checkpoint> {
    drive(Root::File(name), &Files::of(name, bytes), max_read).ok()
}

proptest! {
    // A failure becomes a test of its own, not a seed in a file.
    #![proptest_config(property(file!(), 2000))]

    #[test]
    fn safetensors_damaged_anywhere_does_not_panic(list in prop::collection::vec(damage(), 1..4), max_read in 1..200_usize) {
        let mut bytes = safetensors::official();
        list.iter().for_each(|d| apply(&mut bytes, d));
        if let Some(ours) = survives("m.safetensors", &bytes, max_read) {
            let newer = [DType::F8_E4M3FNUZ, DType::F8_E5M2FNUZ, DType::C64];
            if ours.tensors.iter().all(|t| !newer.contains(&t.dtype)) {
                safetensors::agrees(&ours, &bytes);
            }
        }
    }

    #[test]
    fn gguf_damaged_anywhere_does_not_panic(list in prop::collection::vec(damage(), 1..4), max_read in 1..200_usize) {
        let mut bytes = gguf::sample(32).0;
        list.iter().for_each(|d| apply(&mut bytes, d));
        survives("m.gguf", &bytes, max_read);
    }

    /// With checksums that fit the damage, and without.
    #[test]
    fn apr_damaged_anywhere_does_not_panic(list in prop::collection::vec(damage(), 1..4), max_read in 1..200_usize, sealed: bool) {
        let mut bytes = apr::sample().bytes();
        list.iter().for_each(|d| apply(&mut bytes, d));
        if sealed {
            quantoscope_tests::apr::seal(&mut bytes);
        }
        survives("m.apr", &bytes, max_read);
    }

    #[test]
    fn q4_damaged_anywhere_does_not_panic(list in prop::collection::vec(damage(), 1..4), max_read in 1..40_usize) {
        for (mut bytes, name) in [
            (lattice(b"KHQ4", 2, 2, &[2, 33], 66, 60), "w.q4"),
            (lattice(b"KHF1", 1, 1, &[3], 3, 6), "w.f16"),
        ] {
            list.iter().for_each(|d| apply(&mut bytes, d));
            survives(name, &bytes, max_read);
        }
    }

    #[test]
    fn index_damaged_anywhere_does_not_panic(list in prop::collection::vec(damage(), 1..4)) {
        let shards = br#"{"metadata":{},"weight_map":{"a":"s.safetensors","b":"t.safetensors"}}"#.to_vec();
        for mut bytes in [shards, index_json(&[], Some(5))] {
            list.iter().for_each(|d| apply(&mut bytes, d));
            survives("x.json", &bytes, usize::MAX);
        }
    }

    #[test]
    fn random_bytes_in_any_format_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), which in 0..6_usize) {
        let magics: [&[u8]; 6] = [b"", b"APR\0\x02\0", b"GGUF\x03\0\0\0", b"KHQ4\x02\0\0\0", b"\x10\0\0\0\0\0\0\0{", b"{"];
        let bytes = [magics[which], &bytes].concat();
        survives("x", &bytes, usize::MAX);
    }
}
