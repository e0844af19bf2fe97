//! How much of an untrusted file we are willing to hold, each number with its reason.
//!
//! A limit is not a rule of a format: exceeding one says "too much for us" or names the reader whose limit it is.

/// Smallest read that is asked for when nothing is known about a header: one round trip covers most of them.
pub const FIRST_READ: u64 = 64 << 10;

/// First read of a file that is expected to have a tiny header: a lattice directory has hundreds of them.
pub const FIRST_READ_SMALL: u64 = 512;

/// Largest single read. Reads double up to this, so memory in flight stays small and round trips few.
pub const MAX_READ: u64 = 8 << 20;

/// Largest safetensors header, the limit of the official library.
pub const MAX_SAFETENSORS_HEADER: u64 = 100_000_000;

/// Largest GGUF header. The largest vocabularies take some tens of megabytes, a million tensors of the longest names 120;
/// a plan holds it three times.
pub const MAX_GGUF_HEADER: u64 = 128 << 20;

/// Longest GGUF string and most elements of a GGUF array: ggml's limits.
pub const MAX_GGUF_STRING: u64 = 1 << 30;
/// See [`MAX_GGUF_STRING`].
pub const MAX_GGUF_ARRAY: u64 = 1 << 30;

/// Longest GGUF key: the specification's limit.
pub const MAX_GGUF_KEY: u64 = 65_535;

/// Longest tensor name in a GGUF file: ggml keeps it in 64 bytes with a closing zero and refuses longer ones.
pub const MAX_GGUF_NAME: u64 = 63;

/// Most axes of a GGUF tensor: ggml's.
pub const MAX_GGUF_AXES: u64 = 4;

/// Deepest nesting of GGUF arrays: legal without limit, never seen deeper than one.
pub const MAX_ARRAY_DEPTH: usize = 4;

/// Most axes of any other tensor. 64 axes of two elements already overflow; only ones and zeros could make more.
pub const MAX_AXES: u64 = 64;

/// Most tensors of all files together, index entries or metadata keys: ten times the largest checkpoints of today. So many
/// are inspected and planned in 600 MB, with names of up to 35 bytes.
pub const MAX_ENTRIES: u64 = 1_000_000;

/// Deepest JSON. Ours is three deep; a limit of our own keeps the parser's stack out of reach.
pub const MAX_JSON_DEPTH: u32 = 64;

/// Largest `*.safetensors.index.json`.
pub const MAX_INDEX: u64 = 64 << 20;

/// Largest `quantize_index.json`: the limit of its own reader.
pub const MAX_Q4_INDEX: u64 = 16 << 20;

/// Largest `config.json`.
pub const MAX_CONFIG: u64 = 16 << 20;

/// Longest name in an importance matrix of the older form: tensors of GGUF files have shorter ones, paths of texts may be
/// longer.
pub const MAX_IMATRIX_NAME: u64 = 4096;
