//! APR files: header, metadata, index, the dtype bytes, tied heads, shards.

use crate::build::{no_prefix_opens, open_one, refused, same};
use quantoscope_core::format::{AprWriter, Checkpoint, Container, Opening, Root, Want, limits};
use quantoscope_core::tensor::MetaValue;
use quantoscope_core::{Code, DType, Result};
use quantoscope_tests::apr::{self, AprFile, AprTensor};
use quantoscope_tests::drive::{Files, drive_counted};

/// Every type whose byte has one meaning, rows that do not end with a block included.
pub(crate) fn sample() -> AprFile {
    let values: Vec<f32> = (0..99).map(|i| (i as f32 - 50.0) / 64.0).collect();
    AprFile::of([
        AprTensor::f32("norm.weight", &[33], &values[..33]),
        AprTensor::raw("half.weight", apr::F16, &[2, 3], vec![0; 12]),
        AprTensor::raw("brain.weight", apr::BF16, &[5], vec![0; 10]),
        AprTensor::raw("k4.weight", apr::Q4_K, &[2, 256], vec![0; 288]),
        AprTensor::raw("k6.weight", apr::Q6_K, &[256], vec![0; 210]),
        AprTensor::q4("q4.weight", &[3, 33], &values),
        AprTensor::q8("q8.weight", &[3, 33], &values),
    ])
    .with_metadata(
        r#"{"architecture":"qwen2","num_layers":2,"num_heads":4,"chat_format":null,"custom":[1,2]}"#,
    )
}

fn open_by(writer: AprWriter, bytes: &[u8]) -> Result<Checkpoint> {
    let mut opening = Opening::new(Root::File("m.apr")).with_apr_writer(Some(writer));
    loop {
        match opening.want() {
            Want::Open(name) => opening.opened((name == "m.apr").then_some(bytes.len() as u64))?,
            Want::Read { range, .. } => opening.data(&bytes[range.start as usize..range.end as usize])?,
            Want::Ready => return opening.finish(),
            Want::List => unreachable!("a file was opened"),
        }
    }
}

#[test]
fn apr_file_has_its_tensors_packed() {
    let c = open_one("m.apr", &sample().bytes()).expect("it opens");
    assert_eq!((c.container, c.alignment, c.warnings.len()), (Container::Apr, 64, 0));
    let found: Vec<_> = c.tensors.iter().map(|t| (t.name.as_str(), t.dtype, t.bytes.len())).collect();
    let expected = [
        ("brain.weight", DType::BF16, 10),
        ("half.weight", DType::F16, 12),
        ("k4.weight", DType::Q4_K, 288),
        ("k6.weight", DType::Q6_K, 210),
        ("norm.weight", DType::F32, 132),
        // As stored, not four bytes for each weight.
        ("q4.weight", DType::APR_Q4, 18 * 4),
        ("q8.weight", DType::APR_Q8, 4 + 99),
    ];
    assert_eq!(found, expected);
    assert_eq!(c.tensors[5].shape.axes(), [3, 33]);
}

#[test]
fn apr_metadata_become_values_and_a_configuration() {
    let c = open_one("m.apr", &sample().bytes()).expect("it opens");
    assert_eq!(c.metadata.text("architecture"), Some("qwen2"));
    assert_eq!(c.metadata.get("num_layers"), Some(&MetaValue::U64(2)));
    assert_eq!(c.metadata.text("custom"), Some("[1,2]"));
    assert_eq!(c.metadata.get("chat_format"), None);
    let config: serde_json::Value =
        serde_json::from_slice(&c.config.expect("a configuration")).expect("JSON");
    assert_eq!(config["model_type"], "qwen2");
    assert_eq!((&config["num_hidden_layers"], &config["num_attention_heads"]), (&2.into(), &4.into()));
}

#[test]
fn apr_configuration_beside_the_file_comes_first() {
    let files = Files::of("m.apr", sample().bytes()).with("config.json", &b"{\"model_type\":\"llama\"}"[..]);
    let c = same(Root::Dir, &files).expect("it opens");
    assert_eq!(c.config.as_deref(), Some(&b"{\"model_type\":\"llama\"}"[..]));
}

#[test]
fn apr_truncated_at_any_byte_is_refused() {
    no_prefix_opens("m.apr", &sample().bytes(), Container::Apr);
}

#[test]
fn apr_head_without_bytes_is_tied() {
    let values = [0.5; 64];
    let head = AprTensor::raw("lm_head.weight", apr::Q4, &[2, 32], Vec::new());
    let file = AprFile::of([AprTensor::q4("model.embed_tokens.weight", &[2, 32], &values), head]);
    let c = open_one("m.apr", &file.with_metadata(r#"{"architecture":"llama"}"#).bytes()).expect("it opens");
    assert_eq!(c.tensors.len(), 1);
    assert_eq!(c.warnings[0].code, "tied_head");
    let config: serde_json::Value =
        serde_json::from_slice(&c.config.expect("a configuration")).expect("JSON");
    assert_eq!(config["tie_word_embeddings"], true);
    let other = AprFile::of([AprTensor::raw("down.weight", apr::Q4, &[2, 32], Vec::new())]);
    assert_eq!(open_one("m.apr", &other.bytes()).expect_err("refused").code(), Code::SizeMismatch);
}

#[test]
fn apr_ambiguous_bytes_are_refused_by_name_until_the_writer_is_known() {
    for (byte, core, serve) in [
        (3, Some((DType::F64, 512)), Some((DType::Q4_1, 40))),
        (4, Some((DType::I32, 256)), None),
        (5, Some((DType::I64, 512)), None),
        (6, Some((DType::I8, 64)), Some((DType::Q5_0, 44))),
        (7, Some((DType::U8, 64)), Some((DType::Q5_1, 48))),
    ] {
        for (writer, of) in [(AprWriter::Core, core), (AprWriter::Serve, serve)] {
            let size = of.map_or(64, |(_, size)| size);
            let bytes = AprFile::of([AprTensor::raw("t", byte, &[2, 32], vec![0; size])]).bytes();
            let error = open_one("m.apr", &bytes).expect_err("refused");
            assert_eq!((error.code(), error.detail().tensor.as_deref()), (Code::UnknownDtype, Some("t")));
            assert!(error.detail().message.contains("--apr-writer"), "{error}");
            match of {
                Some((dtype, _)) => {
                    assert_eq!(open_by(writer, &bytes).expect("it opens").tensors[0].dtype, dtype)
                }
                None => {
                    assert_eq!(open_by(writer, &bytes).expect_err("refused").code(), Code::UnknownDtype)
                }
            }
        }
    }
}

#[test]
fn apr_legacy_bytes_are_told_apart_by_size() {
    for (byte, size, dtype) in
        [(8, 36, DType::APR_Q4), (8, 68, DType::Q8_0), (9, 68, DType::APR_Q8), (9, 72, DType::Q8_1)]
    {
        let bytes = AprFile::of([AprTensor::raw("t", byte, &[2, 32], vec![0; size])]).bytes();
        let c = open_one("m.apr", &bytes).expect("it opens");
        assert_eq!((c.tensors[0].dtype, c.warnings[0].code), (dtype, "ambiguous_dtype"));
    }
    // 32 values take 36 bytes in both.
    let bytes = AprFile::of([AprTensor::raw("t", 9, &[32], vec![0; 36])]).bytes();
    assert_eq!(open_one("m.apr", &bytes).expect_err("refused").code(), Code::UnknownDtype);
    assert_eq!(open_by(AprWriter::Core, &bytes).expect("it opens").tensors[0].dtype, DType::APR_Q8);
}

#[test]
fn apr_writer_names_are_parsed() {
    assert_eq!(AprWriter::parse("core").unwrap(), AprWriter::Core);
    assert_eq!(AprWriter::parse("Aprender-Serve").unwrap(), AprWriter::Serve);
    assert_eq!(AprWriter::parse("llama.cpp").expect_err("refused").code(), Code::Usage);
}

/// A file of two.
fn shard(index: u64, tensor: &str) -> Vec<u8> {
    let metadata =
        format!(r#"{{"architecture":"llama","sharding":{{"shard_count":2,"shard_index":{index}}}}}"#);
    let mut file = AprFile::of([AprTensor::q4(tensor, &[32], &[0.25; 32])]).with_metadata(&metadata);
    file.flags |= 1 << 4;
    file.bytes()
}

#[test]
fn apr_shards_are_one_model() {
    for first in [0, 1] {
        let files = Files::of("m-00001-of-00002.apr", shard(first, "a.weight"))
            .with("m-00002-of-00002.apr", shard(first + 1, "b.weight"));
        for root in [Root::Dir, Root::File("m-00002-of-00002.apr")] {
            let c = same(root, &files).expect("it opens");
            assert_eq!(c.tensors.len(), 2);
        }
        let error = same(Root::Dir, &files.without("m-00002-of-00002.apr")).expect_err("refused");
        assert_eq!(error.code(), Code::BadIndex);
    }
    let files = Files::of("m-00001-of-00002.apr", shard(1, "a.weight"))
        .with("m-00002-of-00002.apr", shard(1, "b.weight"));
    let error =
        same(Root::Dir, &files.with("m-00001-of-00002.apr", shard(5, "a.weight"))).expect_err("refused");
    assert_eq!(error.code(), Code::BadValue);
    refused(open_one("alone.apr", &shard(0, "a.weight")), Code::BadIndex, Some(64), None);
}

/// The index of a large sparse file is read, and nothing after it.
#[test]
fn apr_large_file_is_opened_by_its_header() {
    let mut bytes = AprFile::of([AprTensor::raw("t", apr::Q4, &[1 << 20, 1 << 15], vec![0; 64])]).bytes();
    let size = (1_u64 << 30) * 18;
    let at = entry(&bytes) + 2 + 1 + 2 + 16;
    bytes[at + 8..at + 16].copy_from_slice(&size.to_le_bytes());
    apr::seal(&mut bytes);
    let data_at = u64::from_le_bytes(bytes[32..40].try_into().unwrap());
    let files = Files::default().with_sparse("m.apr", bytes, data_at + size + 4);
    let (outcome, read) = drive_counted(Root::File("m.apr"), &files, usize::MAX);
    let c = outcome.expect("it opens");
    assert_eq!((c.tensors[0].bytes.len(), c.warnings[0].code), (size, "checksum_unchecked"));
    assert!(read <= limits::FIRST_READ);
}

/// Offset of the first entry of the index.
pub(crate) fn entry(bytes: &[u8]) -> usize {
    u64::from_le_bytes(bytes[24..32].try_into().unwrap()) as usize
}
