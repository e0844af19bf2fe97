//! Importance matrices in both formats (GGUF and `.dat`), and damaged ones.

use crate::random::{apply, damage};
use proptest::prelude::*;
use quantoscope_core::format::imatrix::{Imatrix, ImatrixEntry};
use quantoscope_core::{Code, Result};
use quantoscope_tests::memory::imatrix as open;
use quantoscope_tests::models::{Kv, Tensor, gguf, imatrix, imatrix_dat};
use quantoscope_tests::property::property;
use quantoscope_tests::vectors::sha256;

fn sample() -> Vec<u8> {
    imatrix(&[
        ("blk.0.ffn_down.weight", vec![vec![1.0, 2.0, 3.0, 4.0]], vec![2.0]),
        (
            "blk.0.ffn_up_exps.weight",
            vec![vec![5.0, 6.0], vec![7.0, 8.0], vec![9.0, 10.0]],
            vec![3.0, 0.4, 0.0],
        ),
    ])
}

fn old() -> Vec<u8> {
    let entries =
        [("blk.0.ffn_down.weight", vec![1.0, 2.0, 3.0, 4.0], 2), ("blk.1.attn_q.weight", vec![5.0], 0)];
    imatrix_dat(&entries, Some((9, "text.txt")))
}

/// Opens in whole reads and in single bytes: both must end the same.
fn same(bytes: &[u8]) -> Result<Imatrix> {
    let whole = open("i.gguf", bytes, u64::MAX);
    for max_read in [1, 7] {
        assert_eq!(open("i.gguf", bytes, max_read), whole);
    }
    whole
}

fn sums(bytes: &[u8], entry: &ImatrixEntry) -> Vec<f32> {
    let span = entry.at as usize..(entry.at + entry.values * 4) as usize;
    bytes[span].chunks(4).map(|b| f32::from_le_bytes(b.try_into().expect("four bytes"))).collect()
}

#[test]
fn imatrix_gguf_reads_back() {
    let bytes = sample();
    let found = same(&bytes).expect("a sound file");
    assert_eq!((found.chunks, found.len), (Some(7), bytes.len() as u64));
    assert_eq!(found.datasets, ["one.txt", "two.txt"]);
    assert_eq!(found.sha256.iter().map(|b| format!("{b:02x}")).collect::<String>(), sha256(&bytes));
    let down = &found.entries["blk.0.ffn_down.weight"];
    assert_eq!((sums(&bytes, down), &down.counts), (vec![1.0, 2.0, 3.0, 4.0], &vec![2.0]));
    assert_eq!(down.part(0, 1, 4), Some((down.at, 2.0)));
    let up = &found.entries["blk.0.ffn_up_exps.weight"];
    // Counts are whole numbers: less than half of one is none.
    assert_eq!(up.counts, [3.0, 0.0, 0.0]);
    assert_eq!(up.part(2, 3, 2), Some((up.at + 16, 0.0)));
}

#[test]
fn imatrix_missing_parts_are_absent() {
    let entry = |values, counts: &[f32]| ImatrixEntry {
        at: 100,
        values,
        counts: counts.to_vec(),
        above_zero: vec![true; counts.len()],
    };
    assert_eq!(entry(8, &[1.0]).part(1, 2, 4), Some((116, 1.0)), "one count for all");
    assert_eq!(entry(8, &[1.0, 2.0]).part(3, 4, 2), Some((124, 2.0)), "a count for two each");
    for (index, stack, cols) in
        [(0, 1, 4), (2, 2, 4), (0, 3, 4), (0, 0, 0), (0, u64::MAX, 8), (0, 8, u64::MAX)]
    {
        assert_eq!(entry(8, &[1.0]).part(index, stack, cols), None, "{index} of {stack} with {cols}");
    }
    assert_eq!(entry(6, &[1.0, 2.0]).part(0, 3, 2), None, "three matrices do not share two counts");
}

#[test]
fn imatrix_dat_reads_back() {
    let bytes = old();
    let found = same(&bytes).expect("a sound file");
    assert_eq!((found.chunks, found.datasets.as_slice()), (Some(9), &["text.txt".to_string()][..]));
    let down = &found.entries["blk.0.ffn_down.weight"];
    assert_eq!((sums(&bytes, down), &down.counts), (vec![1.0, 2.0, 3.0, 4.0], &vec![2.0]));
    assert_eq!(found.entries["blk.1.attn_q.weight"].counts, [1.0], "sums without calls stand for themselves");
    // What follows the tensors need not be there, and more than that is odd.
    let bare = imatrix_dat(&[("a", vec![1.0], 1)], None);
    assert_eq!(same(&bare).expect("sound").chunks, None);
    let long = [old(), vec![0; 3]].concat();
    assert_eq!(same(&long).expect("sound").warnings.len(), 1);
}

#[track_caller]
fn refused(bytes: &[u8], code: Code) {
    let error = same(bytes).expect_err("refused");
    assert_eq!(error.code(), code, "{error}");
    assert_eq!(error.detail().file.as_deref(), Some("i.gguf"));
}

#[test]
fn imatrix_other_files_are_refused() {
    refused(&[], Code::Truncated);
    refused(b"GGU", Code::Truncated);
    refused(&[0; 64], Code::BadMagic);
    refused(b"a text of some length, which is not an importance matrix", Code::BadMagic);
    refused(&gguf(&[("general.type", Kv::Text("model"))], &[]), Code::Empty);
    let one = |name: &str, shape: &[u64], v: &[f32]| Tensor::of(name, quantoscope_core::DType::F32, shape, v);
    let file = |tensors: &[Tensor]| gguf(&[], tensors);
    refused(&file(&[one("a.weight", &[2], &[1.0, 2.0])]), Code::Empty);
    refused(&file(&[one("a.in_sum2", &[2], &[1.0, 2.0])]), Code::BadValue);
    refused(&file(&[one("a.counts", &[1], &[1.0])]), Code::BadValue);
    let pair = |sums: &[f32], counts: &[f32]| {
        file(&[one("a.in_sum2", &[sums.len() as u64], sums), one("a.counts", &[counts.len() as u64], counts)])
    };
    assert!(same(&pair(&[1.0, 2.0], &[1.0])).is_ok());
    refused(&pair(&[1.0, 2.0, 3.0], &[1.0, 1.0]), Code::BadValue);
    for bad in [-1.0, f32::NAN, f32::INFINITY] {
        refused(&pair(&[1.0, bad], &[1.0]), Code::BadValue);
        refused(&pair(&[1.0, 2.0], &[bad]), Code::BadValue);
    }
    let halves = Tensor::of("a.in_sum2", quantoscope_core::DType::F16, &[2], &[1.0, 2.0]);
    refused(&file(&[halves, one("a.counts", &[1], &[1.0])]), Code::BadValue);
}

#[test]
fn imatrix_dat_damaged_is_refused() {
    refused(&imatrix_dat(&[("a", vec![1.0], 1), ("a", vec![2.0], 1)], None), Code::DuplicateName);
    refused(&imatrix_dat(&[("a", vec![f32::NAN], 1)], None), Code::BadValue);
    refused(&imatrix_dat(&[("", vec![1.0; 9], 1)], None), Code::BadMagic);
    refused(&imatrix_dat(&[("a", vec![1.0; 9], 1), ("", vec![1.0], 1)], None), Code::StringTooLong);
    let mut long = imatrix_dat(&[("a", vec![1.0; 9], 1)], None);
    long[13..17].copy_from_slice(&1000_u32.to_le_bytes());
    refused(&long, Code::CountTooLarge);
    let mut latin = imatrix_dat(&[("a", vec![1.0; 9], 1)], None);
    latin[8] = 0xff;
    refused(&latin, Code::BadUtf8);
}

#[test]
fn imatrix_truncated_at_any_byte_is_refused_or_consistent() {
    for bytes in [sample(), old()] {
        for n in (0..bytes.len()).filter(|&n| same(&bytes[..n]).is_ok()) {
            // The padding of the last tensor may be missing; of the older form, what follows the tensors.
            let padding = bytes[n..].iter().all(|b| *b == 0);
            let tail = bytes == old() && [12, 16].contains(&(bytes.len() - n));
            assert!(padding || tail, "{n} of {} bytes", bytes.len());
        }
    }
}

proptest! {
    #![proptest_config(property(file!(), 1000))]

    #[test]
    fn imatrix_damaged_anywhere_does_not_panic(list in prop::collection::vec(damage(), 1..4), max_read in 1..200_u64) {
        for mut bytes in [sample(), old()] {
            list.iter().for_each(|d| apply(&mut bytes, d));
            // The driver asserts all that must hold of reads and results.
            let _ = open("i.gguf", &bytes, max_read);
        }
    }
}
