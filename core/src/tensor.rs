//! Parts of a checkpoint: shapes, names, tensors, metadata. Values are checked when they are constructed.

pub mod packed;

use crate::bytes::ByteRange;
use crate::dtype::DType;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::fmt;
use core::ops::Deref;
use packed::Packed;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Axis lengths, outermost first (safetensors order; GGUF files store the reverse).
///
/// The product of the non-zero axes fits 64 bits.
///
/// ```
/// use quantoscope_core::tensor::Shape;
///
/// // A stack of 8 experts with matrices [128, 64].
/// let shape = Shape::new([8, 128, 64]).unwrap();
/// assert_eq!((shape.rows(), shape.cols(), shape.numel()), (1024, 64, 65536));
/// assert_eq!(Shape::new([1 << 40, 1 << 40]), None);
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Shape(Axes);

/// Axis lengths; up to [`INLINE_AXES`] are stored inline, so that a million shapes need no million
/// allocations.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Axes {
    /// The first `len` are used; the others are 0.
    Inline { len: u8, axes: [u64; INLINE_AXES] },
    /// More axes; copies share the allocation.
    Shared(Arc<[u64]>),
}

/// Axes that are stored inline: those of stacked experts. Kernels of convolutions have more.
const INLINE_AXES: usize = 3;

impl Shape {
    /// Creates a shape from axis lengths, outermost first.
    ///
    /// Returns `None` if the product of the non-zero axes overflows 64 bits: `[0, 2^40, 2^40]` is refused
    /// too.
    pub fn new(axes: impl AsRef<[u64]>) -> Option<Shape> {
        let axes = axes.as_ref();
        axes.iter().filter(|&&a| a != 0).try_fold(1_u64, |n, &a| n.checked_mul(a))?;
        if axes.len() > INLINE_AXES {
            return Some(Shape(Axes::Shared(axes.into())));
        }
        let mut inline = [0; INLINE_AXES];
        inline.iter_mut().zip(axes).for_each(|(to, from)| *to = *from);
        Some(Shape(Axes::Inline { len: axes.len() as u8, axes: inline }))
    }

    /// Axis lengths, outermost first.
    pub fn axes(&self) -> &[u64] {
        match &self.0 {
            Axes::Inline { len, axes } => axes.get(..usize::from(*len)).unwrap_or(axes),
            Axes::Shared(axes) => axes,
        }
    }

    /// Number of elements; 1 for the shape `[]`.
    pub fn numel(&self) -> u64 {
        self.axes().iter().product()
    }

    /// Number of columns: the length of the innermost axis; 1 for the shape `[]`.
    pub fn cols(&self) -> u64 {
        self.axes().last().copied().unwrap_or(1)
    }

    /// Number of rows: the product of all axes but the innermost; 0 if the tensor has no elements, 1 for
    /// `[]`.
    pub fn rows(&self) -> u64 {
        match self.axes().split_last() {
            Some((_, outer)) if self.numel() != 0 => outer.iter().product(),
            Some(_) => 0,
            None => 1,
        }
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shape").field(&self.axes()).finish()
    }
}

impl Serialize for Shape {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.axes().serialize(s)
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Shape, D::Error> {
        let axes = Vec::<u64>::deserialize(d)?;
        Shape::new(axes)
            .ok_or_else(|| serde::de::Error::custom("the product of the axes does not fit 64 bits"))
    }
}

/// Name of a tensor. Clones share the text, so checkpoint, plan and report store each name once.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// Text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Arc<str>>> From<T> for Name {
    fn from(text: T) -> Name {
        Name(text.into())
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        String::from(&*name)
    }
}

impl From<&Name> for String {
    fn from(name: &Name) -> String {
        String::from(&**name)
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == **other
    }
}

impl PartialEq<String> for Name {
    fn eq(&self, other: &String) -> bool {
        *self.0 == **other
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (*self.0).fmt(f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

/// Index of a file in [`Checkpoint::files`](crate::format::Checkpoint::files).
pub type FileId = u32;

/// Header entry of one tensor: type, shape and location.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorInfo {
    /// Name in the file.
    pub name: Name,
    /// Storage type of the elements; of a packed weight, the type that a window of it is decoded to without loss.
    pub dtype: DType,
    /// Axis lengths, outermost first.
    pub shape: Shape,
    /// Index of the file that holds the bytes.
    pub file: FileId,
    /// Byte range in that file, of the size that dtype and shape require; of a packed weight, that of its codes.
    pub bytes: ByteRange,
    /// The parts of a weight that is stored as several tensors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packed: Option<Arc<Packed>>,
}

/// Key-value metadata in file order; keys are unique.
///
/// The keys are those of GGUF (`general.architecture`), or of `__metadata__` in safetensors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata(pub Vec<(String, MetaValue)>);

impl Metadata {
    /// Returns the value of `key`.
    pub fn get(&self, key: &str) -> Option<&MetaValue> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// Returns the value of `key` if it is a string.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            MetaValue::String(s) => Some(s),
            _ => None,
        }
    }

    /// Returns the value of `key` if it is a non-negative integer of any width.
    pub fn uint(&self, key: &str) -> Option<u64> {
        match *self.get(key)? {
            MetaValue::U8(v) => Some(v.into()),
            MetaValue::U16(v) => Some(v.into()),
            MetaValue::U32(v) => Some(v.into()),
            MetaValue::U64(v) => Some(v),
            MetaValue::I8(v) => v.try_into().ok(),
            MetaValue::I16(v) => v.try_into().ok(),
            MetaValue::I32(v) => v.try_into().ok(),
            MetaValue::I64(v) => v.try_into().ok(),
            _ => None,
        }
    }
}

/// Metadata value, with the value types of GGUF. Safetensors metadata has strings only.
#[derive(Clone, Debug, PartialEq)]
pub enum MetaValue {
    /// Type 0 of GGUF.
    U8(u8),
    /// Type 1.
    I8(i8),
    /// Type 2.
    U16(u16),
    /// Type 3.
    I16(i16),
    /// Type 4.
    U32(u32),
    /// Type 5.
    I32(i32),
    /// Type 10.
    U64(u64),
    /// Type 11.
    I64(i64),
    /// Type 6.
    F32(f32),
    /// Type 12.
    F64(f64),
    /// Type 7: one byte of 0 or 1.
    Bool(bool),
    /// Type 8: UTF-8.
    String(String),
    /// Type 8 with bytes that are not UTF-8.
    Bytes(Vec<u8>),
    /// Type 9.
    Array(MetaArray),
}

impl MetaValue {
    /// A string of these bytes.
    pub fn of_bytes(bytes: &[u8]) -> MetaValue {
        match core::str::from_utf8(bytes) {
            Ok(text) => MetaValue::String(text.into()),
            Err(_) => MetaValue::Bytes(bytes.into()),
        }
    }
}

/// Metadata array. Stored as the validated bytes of the file, because vocabularies are large and rarely
/// needed.
#[derive(Clone, Debug, PartialEq)]
pub struct MetaArray {
    /// GGUF type number of the elements (8 is a string).
    pub element: u32,
    /// Number of elements.
    pub len: u64,
    /// Encoded elements, little-endian, as in a GGUF file.
    pub raw: Vec<u8>,
}
