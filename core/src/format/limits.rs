//! Limits on what is read and kept of an untrusted file, each with its reason.
//!
//! A limit is not a rule of a format. Exceeding one is an error of kind
//! [`ErrorKind::Limit`](crate::ErrorKind::Limit), unless the format or its reference reader has the same
//! limit.

/// First read of an unknown header in bytes: one round trip covers most headers.
pub const FIRST_READ: u64 = 64 << 10;

/// First read in bytes of a file with a small header: a lattice directory has hundreds of files.
pub const FIRST_READ_SMALL: u64 = 512;

/// Largest single read in bytes. Reads double up to this size, so that long headers take few round trips in
/// bounded memory.
pub const MAX_READ: u64 = 8 << 20;

/// Largest safetensors header in bytes: the limit of the official library.
pub const MAX_SAFETENSORS_HEADER: u64 = 100_000_000;

/// Largest GGUF header in bytes.
///
/// The largest vocabularies take tens of megabytes, a million tensors with the longest names 120 MB. A plan
/// holds the header three times.
pub const MAX_GGUF_HEADER: u64 = 128 << 20;

/// Largest APR header in bytes, metadata and index included: that of GGUF.
pub const MAX_APR_HEADER: u64 = MAX_GGUF_HEADER;

/// Largest metadata of an APR file in bytes: the limit that the format declares.
pub const MAX_APR_METADATA: u64 = 16 << 20;

/// Longest tensor name in an APR file in bytes: aprender's writer truncates longer ones.
pub const MAX_APR_NAME: u64 = 256;

/// Most axes of an APR tensor: aprender's writer drops the others.
pub const MAX_APR_AXES: u64 = 8;

/// Largest APR file in bytes that is compared with its checksum when it is opened: one read.
pub const MAX_APR_CHECKED: u64 = MAX_READ;

/// Longest GGUF string in bytes: ggml's limit.
pub const MAX_GGUF_STRING: u64 = 1 << 30;
/// Most elements of a GGUF array: ggml's limit.
pub const MAX_GGUF_ARRAY: u64 = 1 << 30;

/// Longest GGUF key in bytes: the limit of the specification.
pub const MAX_GGUF_KEY: u64 = 65_535;

/// Longest tensor name in a GGUF file in bytes: ggml stores names in 64 bytes with a terminating zero and
/// refuses longer ones.
pub const MAX_GGUF_NAME: u64 = 63;

/// Most axes of a GGUF tensor: ggml's `GGML_MAX_DIMS`.
pub const MAX_GGUF_AXES: u64 = 4;

/// Deepest nesting of GGUF arrays. The format has no limit; files in use do not nest arrays.
pub const MAX_ARRAY_DEPTH: usize = 4;

/// Most axes of other tensors. 64 axes of length 2 already overflow 64 bits.
pub const MAX_AXES: u64 = 64;

/// Most tensors of all files together, index entries, or metadata keys: ten times those of the largest
/// checkpoints. A million tensors are inspected and planned in 600 MB.
pub const MAX_ENTRIES: u64 = 1_000_000;

/// Deepest nesting of JSON. Headers nest three levels; the limit protects the stack of the recursive parser.
pub const MAX_JSON_DEPTH: u32 = 64;

/// Largest `*.safetensors.index.json` in bytes.
pub const MAX_INDEX: u64 = 64 << 20;

/// Largest `quantize_index.json` in bytes: the limit of lattice's reader.
pub const MAX_Q4_INDEX: u64 = 16 << 20;

/// Most bytes of all files beside the weights that a conversion reads: tokenizers with the largest vocabularies
/// take 40 MB.
pub const MAX_COMPANIONS: u64 = 256 << 20;

/// Largest `config.json` in bytes.
pub const MAX_CONFIG: u64 = 16 << 20;

/// Longest name in a legacy importance matrix (`.dat`) in bytes: a tensor name, or the path of the
/// calibration text.
pub const MAX_IMATRIX_NAME: u64 = 4096;
