//! What a checkpoint is made of: shapes, tensors, metadata. Parsed once, never wrong afterwards.

use crate::bytes::ByteRange;
use crate::dtype::DType;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::fmt;
use core::ops::Deref;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Sizes of the axes, outermost first (safetensors order); the element count fits 64 bits.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Shape(Axes);

/// Axes in place where they are few, as all of a model's are: a million shapes are not a million allocations. Those that
/// are many are shared by all copies.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Axes {
    /// The first `len`; the others are 0.
    Few {
        len: u8,
        axes: [u64; FEW],
    },
    Many(Arc<[u64]>),
}

const FEW: usize = 4;

impl Shape {
    /// A shape, or `None` where the product of the axes does not fit 64 bits.
    ///
    /// The product is taken over the non-zero axes too, so that `[0, 2^40, 2^40]` is refused as well.
    pub fn new(axes: impl AsRef<[u64]>) -> Option<Shape> {
        let axes = axes.as_ref();
        axes.iter().filter(|&&a| a != 0).try_fold(1_u64, |n, &a| n.checked_mul(a))?;
        if axes.len() > FEW {
            return Some(Shape(Axes::Many(axes.into())));
        }
        let mut few = [0; FEW];
        few.iter_mut().zip(axes).for_each(|(to, from)| *to = *from);
        Some(Shape(Axes::Few { len: axes.len() as u8, axes: few }))
    }

    /// The axes, outermost first.
    pub fn axes(&self) -> &[u64] {
        match &self.0 {
            Axes::Few { len, axes } => axes.get(..usize::from(*len)).unwrap_or(axes),
            Axes::Many(axes) => axes,
        }
    }

    /// Number of elements; 1 for `[]`.
    pub fn numel(&self) -> u64 {
        self.axes().iter().product()
    }

    /// Length of a row: the innermost axis; 1 for `[]`.
    pub fn cols(&self) -> u64 {
        self.axes().last().copied().unwrap_or(1)
    }

    /// Number of rows: the product of all but the innermost axis.
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

/// The name of a tensor. Copies share the text: checkpoint, plan and report hold each name once.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// The text of the name.
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

/// One tensor of a checkpoint and where its bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorInfo {
    /// The name in the file.
    pub name: Name,
    /// How the elements are stored.
    pub dtype: DType,
    /// Outermost axis first.
    pub shape: Shape,
    /// Which file holds the bytes.
    pub file: FileId,
    /// The bytes, absolute in that file; exactly as many as dtype and shape make.
    pub bytes: ByteRange,
}

/// Key-value metadata in file order; keys are unique.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata(pub Vec<(String, MetaValue)>);

impl Metadata {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&MetaValue> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// The text of `key`, where it is text.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            MetaValue::String(s) => Some(s),
            _ => None,
        }
    }

    /// The value of `key` as an unsigned number, where it is a non-negative integer.
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

/// A metadata value, with GGUF's types. Safetensors metadata is text only.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum MetaValue {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(String),
    Array(MetaArray),
}

/// A metadata array, kept as the checked bytes of the file: vocabularies are large and rarely looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct MetaArray {
    /// GGUF type number of the elements.
    pub element: u32,
    /// Number of elements.
    pub len: u64,
    /// The elements, little-endian, as GGUF writes them.
    pub raw: Vec<u8>,
}
