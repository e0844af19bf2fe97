//! The error type of the whole workspace: a stable code, a message, and where the error occurred.
//!
//! A [`Code`] is part of the public contract: the command line prints it in JSON errors, the page shows it,
//! and tests compare it. Messages are for people and may change; codes do not. The exit status of the command
//! line follows from [`Code::kind`].

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use core::fmt;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Who can fix the error: decides the exit status of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// An input file violates its format.
    File,
    /// An input exceeds a limit of [`crate::format::limits`].
    Limit,
    /// The request is invalid, or refused for safety.
    Request,
    /// The input is valid, but this version cannot process it.
    Unsupported,
    /// The work finished, and its result is below the requested threshold.
    Gate,
    /// A device (GPU) is missing or failed.
    Device,
    /// The operating system reported an error.
    System,
    /// The user stopped the work.
    Interrupted,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $kind:ident;)*) => {
        /// Stable code of an error.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[$doc])* $variant,)* }

        impl Code {
            /// All codes, in the order of the documentation.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// The code of a stable text.
            pub fn parse(text: &str) -> Option<Code> {
                Code::ALL.iter().copied().find(|code| code.as_str() == text)
            }

            /// Text of the code, as in JSON: `bad_magic`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $text,)* }
            }

            /// Kind of the error.
            pub const fn kind(self) -> ErrorKind {
                match self { $(Code::$variant => ErrorKind::$kind,)* }
            }
        }
    };
}

codes! {
    /// The first bytes match none of the supported formats.
    BadMagic = "bad_magic", File;
    /// The format is known, but not this version of it.
    UnknownVersion = "unknown_version", File;
    /// The file ends before the end that its header declares.
    Truncated = "truncated", File;
    /// Bytes follow the last tensor, and the format does not allow them.
    TrailingBytes = "trailing_bytes", File;
    /// Two tensors share bytes.
    Overlap = "overlap", File;
    /// Bytes between two tensors belong to neither.
    Hole = "hole", File;
    /// A byte range ends after its file, or before it starts.
    OutOfBounds = "out_of_bounds", File;
    /// The byte range of a tensor does not have the size that shape and dtype require.
    SizeMismatch = "size_mismatch", File;
    /// A tensor name or key occurs twice.
    DuplicateName = "duplicate_name", File;
    /// Text is not valid UTF-8.
    BadUtf8 = "bad_utf8", File;
    /// Invalid JSON, or JSON without the required structure.
    BadJson = "bad_json", File;
    /// The alignment is not a power of two, or an offset is not a multiple of it.
    BadAlignment = "bad_alignment", File;
    /// A tensor has more axes than the format allows.
    TooManyAxes = "too_many_axes", File;
    /// A size or offset overflows 64 bits.
    Overflow = "overflow", File;
    /// A dtype name or type number that the format does not define.
    UnknownDtype = "unknown_dtype", File;
    /// A field has a value that the format does not allow.
    BadValue = "bad_value", File;
    /// A count is larger than the file has room for.
    CountTooLarge = "count_too_large", File;
    /// A name is empty, leaves its directory, or is not allowed.
    BadName = "bad_name", File;
    /// An index names a missing file or tensor, or omits one.
    BadIndex = "bad_index", File;
    /// NaN or infinity where a finite number is required.
    NonFinite = "non_finite", File;
    /// A value is too large for the binary16 field that must hold it.
    F16Overflow = "f16_overflow", File;
    /// A value is too large for bfloat16.
    BF16Overflow = "bf16_overflow", File;
    /// A value is too large for binary32, in which values are processed.
    F32Overflow = "f32_overflow", File;
    /// JSON or arrays are nested too deeply.
    TooDeep = "too_deep", Limit;
    /// A header is longer than the limit.
    HeaderTooLarge = "header_too_large", Limit;
    /// A string is longer than the limit.
    StringTooLong = "string_too_long", Limit;
    /// More entries (tensors, keys, elements) than the limit.
    TooMany = "too_many", Limit;
    /// The command line or the recipe is invalid.
    Usage = "usage", Request;
    /// The requested type requires an importance matrix.
    NeedsImportance = "needs_importance", Request;
    /// The smallest window of the work exceeds the memory budget.
    MemoryBudget = "memory_budget", Request;
    /// Input and output are the same file or directory.
    SameFile = "same_file", Request;
    /// The output already exists.
    Exists = "exists", Request;
    /// A partial output of an earlier run exists.
    PartialExists = "partial_exists", Request;
    /// `--resume` found a partial output of a different plan.
    ResumeMismatch = "resume_mismatch", Request;
    /// The input has no tensor with the requested name.
    NoSuchTensor = "no_such_tensor", Request;
    /// The dtype is known, but cannot be decoded or encoded.
    UnsupportedDtype = "unsupported_dtype", Unsupported;
    /// The source is already quantized, and requantizing was not allowed.
    Requantize = "requantize", Unsupported;
    /// Two tensors would be written to the same file name.
    NameCollision = "name_collision", Unsupported;
    /// A lossless transcode is not possible for these values.
    NotExact = "not_exact", Unsupported;
    /// The target container cannot store this tensor or metadata.
    UnsupportedContainer = "unsupported_container", Unsupported;
    /// The rotation cannot be constructed, or is not exact for this model.
    UnsupportedRotation = "unsupported_rotation", Unsupported;
    /// The forward pass cannot run the model: its tensors or configuration do not fit.
    UnsupportedForward = "unsupported_forward", Unsupported;
    /// The architecture cannot be converted to a GGUF that engines load.
    UnsupportedArchitecture = "unsupported_architecture", Unsupported;
    /// Tensors of a checkpoint do not fit its architecture and configuration.
    UnmappedTensors = "unmapped_tensors", Unsupported;
    /// The input has nothing to process.
    Empty = "empty", Unsupported;
    /// A tensor is below the threshold, or a check found a defect.
    BelowThreshold = "below_threshold", Gate;
    /// The artifact differs from what its source and recipe produce.
    Difference = "difference", Gate;
    /// Rotated values failed Freivalds' check, or the rotated model computes other logits than its source.
    RotationOff = "rotation_off", Gate;
    /// The requested device is missing or failed its verification.
    Device = "device", Device;
    /// The file or directory does not exist.
    NotFound = "not_found", System;
    /// Reading or writing failed.
    Io = "io", System;
    /// The disk has less free space than the plan needs.
    NoSpace = "no_space", System;
    /// The user stopped the work.
    Interrupted = "interrupted", Interrupted;
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Code, D::Error> {
        let text = String::deserialize(d)?;
        Code::parse(&text).ok_or_else(|| serde::de::Error::custom("an unknown error code"))
    }
}

/// An error: code, message and location.
///
/// The builder methods ([`Error::at`], [`Error::in_file`], [`Error::of_tensor`], [`Error::element`]) set a
/// part of the location only if it is not set yet: the innermost caller knows the exact place.
///
/// ```
/// use quantoscope_core::{Code, Error};
///
/// let error = Error::new(Code::Truncated, "the header is incomplete").at(8).in_file("a.gguf").in_file("b");
/// assert_eq!(error.code().as_str(), "truncated");
/// assert_eq!(error.to_string(), "the header is incomplete (file \"a.gguf\", byte 8)");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Error(Box<Detail>);

/// Content of an [`Error`]; absent fields are unknown or do not apply.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Detail {
    /// Stable code.
    pub code: Code,
    /// Message for people, without the location.
    pub message: String,
    /// Name under which the file was opened.
    pub file: Option<String>,
    /// Name of the tensor in its file.
    pub tensor: Option<String>,
    /// Byte offset in the file.
    pub offset: Option<u64>,
    /// Index of the element in the tensor, row-major.
    pub element: Option<u64>,
}

impl Serialize for Detail {
    /// In JSON absent fields are left out; binary forms have every field.
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let all = !s.is_human_readable();
        let Detail { code, message, file, tensor, offset, element } = self;
        let present = [file.is_some(), tensor.is_some(), offset.is_some(), element.is_some()];
        let places = if all { present.len() } else { present.into_iter().filter(|p| *p).count() };
        let mut out = s.serialize_struct("Detail", 2 + places)?;
        out.serialize_field("code", code)?;
        out.serialize_field("message", message)?;
        for (key, text) in [("file", file), ("tensor", tensor)] {
            if all || text.is_some() {
                out.serialize_field(key, text)?;
            }
        }
        for (key, number) in [("offset", offset), ("element", element)] {
            if all || number.is_some() {
                out.serialize_field(key, number)?;
            }
        }
        out.end()
    }
}

/// Result of every fallible function of this crate.
pub type Result<T, E = Error> = core::result::Result<T, E>;

impl Error {
    /// Creates an error without a location.
    pub fn new(code: Code, message: impl Into<String>) -> Error {
        Error(Box::new(Detail {
            code,
            message: message.into(),
            file: None,
            tensor: None,
            offset: None,
            element: None,
        }))
    }

    /// Sets the byte offset if none is set.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Error {
        self.0.offset.get_or_insert(offset);
        self
    }

    /// Sets the file name if none is set.
    #[must_use]
    pub fn in_file(mut self, name: &str) -> Error {
        self.0.file.get_or_insert_with(|| name.to_string());
        self
    }

    /// Sets the tensor name if none is set.
    #[must_use]
    pub fn of_tensor(mut self, name: &str) -> Error {
        self.0.tensor.get_or_insert_with(|| name.to_string());
        self
    }

    /// Sets the element index if none is set.
    #[must_use]
    pub fn element(mut self, index: u64) -> Error {
        self.0.element.get_or_insert(index);
        self
    }

    /// Replaces code and message and keeps the location.
    #[must_use]
    pub fn explained(mut self, code: Code, message: impl Into<String>) -> Error {
        (self.0.code, self.0.message) = (code, message.into());
        self
    }

    /// Stable code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Code, message and location.
    pub fn detail(&self) -> &Detail {
        &self.0
    }

    /// Applies `f` to the element index, if one is set: maps an index in a window to one in the tensor.
    #[must_use]
    pub fn map_element(mut self, f: impl FnOnce(u64) -> u64) -> Error {
        self.0.element = self.0.element.map(f);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let d = &*self.0;
        f.write_str(&d.message)?;
        let mut sep = " (";
        if let Some(tensor) = &d.tensor {
            write!(f, "{sep}tensor {tensor:?}")?;
            sep = ", ";
        }
        if let Some(element) = d.element {
            write!(f, "{sep}element {element}")?;
            sep = ", ";
        }
        if let Some(file) = &d.file {
            write!(f, "{sep}file {file:?}")?;
            sep = ", ";
        }
        if let Some(offset) = d.offset {
            write!(f, "{sep}byte {offset}")?;
            sep = ", ";
        }
        if sep == ", " { f.write_str(")") } else { Ok(()) }
    }
}

impl core::error::Error for Error {}
