//! One error for the whole house: who is to blame, a stable code, and where it happened.
//!
//! A [`Code`] is part of the public contract: the command line prints it in JSON errors, the page shows
//! it, and tests name it. The sentence is for people and may change; the code may not.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use core::fmt;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Who has to change something for the error to go away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The bytes of an input are not what their format allows.
    File,
    /// The input asks for more than we are willing to hold.
    Limit,
    /// What was asked for makes no sense or is refused for safety.
    Request,
    /// Valid, but not something this version can do.
    Unsupported,
    /// The work was done and its result did not meet the bar that was set.
    Gate,
    /// An accelerator is missing or misbehaved.
    Device,
    /// The operating system said no.
    System,
    /// The user stopped the work.
    Interrupted,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $kind:ident;)*) => {
        /// What went wrong, as a stable word.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[$doc])* $variant,)* }

        impl Code {
            /// Every code there is, in the order of the documentation.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// The code of a stable text.
            pub fn parse(text: &str) -> Option<Code> {
                Code::ALL.iter().copied().find(|code| code.as_str() == text)
            }

            /// The stable text of the code.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $text,)* }
            }

            /// Who is to blame.
            pub const fn kind(self) -> ErrorKind {
                match self { $(Code::$variant => ErrorKind::$kind,)* }
            }
        }
    };
}

codes! {
    /// The first bytes are not those of any format we read.
    BadMagic = "bad_magic", File;
    /// The format is known, this version of it is not.
    UnknownVersion = "unknown_version", File;
    /// The file ends before what it promises.
    Truncated = "truncated", File;
    /// Bytes after the end that the format does not allow.
    TrailingBytes = "trailing_bytes", File;
    /// Two tensors claim the same bytes.
    Overlap = "overlap", File;
    /// Bytes between two tensors that belong to none.
    Hole = "hole", File;
    /// A span runs past the end of its file, or ends before it starts.
    OutOfBounds = "out_of_bounds", File;
    /// Shape and dtype do not make the number of bytes that the file says.
    SizeMismatch = "size_mismatch", File;
    /// A name stands twice.
    DuplicateName = "duplicate_name", File;
    /// Text that is not UTF-8.
    BadUtf8 = "bad_utf8", File;
    /// JSON that does not parse, or is not the shape that the format asks for.
    BadJson = "bad_json", File;
    /// An alignment of zero, or not a power of two.
    BadAlignment = "bad_alignment", File;
    /// More axes than the format allows.
    TooManyAxes = "too_many_axes", File;
    /// A product or sum of the file's numbers does not fit 64 bits.
    Overflow = "overflow", File;
    /// A dtype or type number that no version of the format names.
    UnknownDtype = "unknown_dtype", File;
    /// A value outside what the field allows.
    BadValue = "bad_value", File;
    /// A count larger than the file could hold.
    CountTooLarge = "count_too_large", File;
    /// A name that is empty, escapes its directory, or is not allowed there.
    BadName = "bad_name", File;
    /// An index names a file or tensor that is not there, or leaves one out.
    BadIndex = "bad_index", File;
    /// NaN or infinity where a number is needed.
    NonFinite = "non_finite", File;
    /// A value too large for the 16-bit float it must become.
    F16Overflow = "f16_overflow", File;
    /// A value is too large for a bfloat16.
    BF16Overflow = "bf16_overflow", File;
    /// A value is too large for a binary32, as which values are worked on.
    F32Overflow = "f32_overflow", File;
    /// JSON nested deeper than we follow.
    TooDeep = "too_deep", Limit;
    /// A header larger than we read.
    HeaderTooLarge = "header_too_large", Limit;
    /// A string longer than we keep.
    StringTooLong = "string_too_long", Limit;
    /// More entries than we keep.
    TooMany = "too_many", Limit;
    /// The command line or the recipe makes no sense.
    Usage = "usage", Request;
    /// The type asked for cannot be encoded without an importance matrix.
    NeedsImportance = "needs_importance", Request;
    /// One window of the work does not fit the memory budget.
    MemoryBudget = "memory_budget", Request;
    /// Input and output are the same file or directory.
    SameFile = "same_file", Request;
    /// The output exists already.
    Exists = "exists", Request;
    /// An unfinished output of an earlier run is in the way.
    PartialExists = "partial_exists", Request;
    /// `--resume` found a partial output of another plan.
    ResumeMismatch = "resume_mismatch", Request;
    /// A tensor that was asked for by name is not in the input.
    NoSuchTensor = "no_such_tensor", Request;
    /// A dtype we know but cannot decode or encode.
    UnsupportedDtype = "unsupported_dtype", Unsupported;
    /// The source is already quantized.
    Requantize = "requantize", Unsupported;
    /// Two tensors would get the same file name.
    NameCollision = "name_collision", Unsupported;
    /// A transcode that promised to be lossless would not be.
    NotExact = "not_exact", Unsupported;
    /// The container cannot hold this tensor or metadata.
    UnsupportedContainer = "unsupported_container", Unsupported;
    /// A rotation that cannot be made, or that is not exact for this model.
    UnsupportedRotation = "unsupported_rotation", Unsupported;
    /// Nothing in the input can be worked on.
    Empty = "empty", Unsupported;
    /// A tensor is worse than the threshold, or a finding stands.
    BelowThreshold = "below_threshold", Gate;
    /// The artefact is not what its source makes.
    Difference = "difference", Gate;
    /// Rotated values are not what the source's make, or the rotated model does not compute what the source does.
    RotationOff = "rotation_off", Gate;
    /// The device asked for is not there or failed its probe.
    Device = "device", Device;
    /// The file or directory is not there.
    NotFound = "not_found", System;
    /// Reading or writing failed.
    Io = "io", System;
    /// The disk has less room than the plan needs.
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

/// An error: its code, a sentence, and as much of "where" as is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Error(Box<Detail>);

/// What an [`Error`] says; absent fields are unknown or do not apply.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Detail {
    /// The stable code.
    pub code: Code,
    /// The sentence for people, without the place.
    pub message: String,
    /// The file, by the name it was opened under.
    pub file: Option<String>,
    /// The tensor, by its name in the file.
    pub tensor: Option<String>,
    /// The byte offset in the file.
    pub offset: Option<u64>,
    /// The element of the tensor, row-major.
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

/// The result of anything in this crate that can fail.
pub type Result<T, E = Error> = core::result::Result<T, E>;

impl Error {
    /// An error with no place yet.
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

    /// Adds the byte offset, unless one is known already (the innermost place is the exact one).
    #[must_use]
    pub fn at(mut self, offset: u64) -> Error {
        self.0.offset.get_or_insert(offset);
        self
    }

    /// Adds the file name, unless one is known already.
    #[must_use]
    pub fn in_file(mut self, name: &str) -> Error {
        self.0.file.get_or_insert_with(|| name.to_string());
        self
    }

    /// Adds the tensor name, unless one is known already.
    #[must_use]
    pub fn of_tensor(mut self, name: &str) -> Error {
        self.0.tensor.get_or_insert_with(|| name.to_string());
        self
    }

    /// Adds the element index, unless one is known already.
    #[must_use]
    pub fn element(mut self, index: u64) -> Error {
        self.0.element.get_or_insert(index);
        self
    }

    /// The same place with another code and sentence: what the error means for what was asked for.
    #[must_use]
    pub fn explained(mut self, code: Code, message: impl Into<String>) -> Error {
        (self.0.code, self.0.message) = (code, message.into());
        self
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Everything that is known about the error.
    pub fn detail(&self) -> &Detail {
        &self.0
    }

    /// Replaces the element index by `f` of it: a window knows where it lies in its tensor.
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
