//! A driver over files in memory that answers an `Opening` and asserts its promises.

use quantoscope_core::format::{Checkpoint, Opening, Root, Want, limits};
use quantoscope_core::{DType, Result};
use std::collections::BTreeMap;

/// Files by name. A file can be longer than its bytes; the rest reads as zeros.
#[derive(Clone, Debug, Default)]
pub struct Files(BTreeMap<String, (Vec<u8>, u64)>);

impl Files {
    /// One file.
    pub fn of(name: &str, bytes: impl Into<Vec<u8>>) -> Files {
        Files::default().with(name, bytes)
    }

    /// One more file.
    #[must_use]
    pub fn with(self, name: &str, bytes: impl Into<Vec<u8>>) -> Files {
        let bytes = bytes.into();
        let len = bytes.len() as u64;
        self.with_sparse(name, bytes, len)
    }

    /// One more file, which claims to be `len` bytes long.
    #[must_use]
    pub fn with_sparse(mut self, name: &str, bytes: impl Into<Vec<u8>>, len: u64) -> Files {
        self.0.insert(name.to_string(), (bytes.into(), len));
        self
    }

    /// The same files without one of them.
    #[must_use]
    pub fn without(mut self, name: &str) -> Files {
        self.0.remove(name);
        self
    }

    fn read(&self, name: &str, start: u64, n: usize) -> Vec<u8> {
        let bytes = &self.0[name].0;
        let from = (start as usize).min(bytes.len());
        let mut out = bytes[from..(from + n).min(bytes.len())].to_vec();
        out.resize(n, 0);
        out
    }
}

/// Opens with reads as large as they are asked for.
pub fn open(root: Root<'_>, files: &Files) -> Result<Checkpoint> {
    drive(root, files, usize::MAX)
}

/// Opens with at most `max_read` bytes a read.
pub fn drive(root: Root<'_>, files: &Files, max_read: usize) -> Result<Checkpoint> {
    drive_counted(root, files, max_read).0
}

/// Opens, and says how many bytes were read for it.
pub fn drive_counted(root: Root<'_>, files: &Files, max_read: usize) -> (Result<Checkpoint>, u64) {
    let mut opening = Opening::new(root);
    let (mut opened, mut total) = (Vec::new(), 0);
    loop {
        let want = opening.want();
        assert_eq!(want, opening.want(), "asking twice changes nothing");
        let answer = match want {
            Want::Ready => {
                let checkpoint = opening.finish();
                if let Ok(c) = &checkpoint {
                    check_result(c, &opened, files);
                }
                return (checkpoint, total);
            }
            Want::List => {
                opening.listed(files.0.iter().map(|(n, (_, len))| (n.clone(), *len)).rev().collect())
            }
            Want::Open(name) => {
                let len = files.0.get(&name).map(|f| f.1);
                opened.extend(len.map(|_| name));
                opening.opened(len)
            }
            Want::Read { file, range } => {
                let name = opening.file_name(file).expect("a file that was opened").to_string();
                assert_eq!(opened.last(), Some(&name));
                assert_eq!(file as usize + 1, opened.len(), "files count in the order of opening");
                assert!(range.start < range.end && range.end <= files.0[&name].1, "{range:?} of {name}");
                assert!(range.len() <= limits::MAX_READ);
                let n = (range.len() as usize).min(max_read);
                total += n as u64;
                opening.data(&files.read(&name, range.start, n))
            }
        };
        if let Err(error) = answer {
            assert_eq!(opening.want(), Want::Ready, "after an error nothing is wanted");
            assert_eq!(opening.finish().expect_err("the error stays"), error);
            return (Err(error), total);
        }
    }
}

/// What every checkpoint promises.
fn check_result(c: &Checkpoint, opened: &[String], files: &Files) {
    let names: Vec<&String> = c.files.iter().map(|f| &f.name).collect();
    assert!(opened.iter().filter(|n| *n != "config.json").eq(names), "files are those that were opened");
    for t in &c.tensors {
        let file = &c.files[t.file as usize];
        assert_eq!(file.len, files.0[&file.name].1);
        assert!(t.bytes.start >= file.header.end && t.bytes.end <= file.len, "{t:?} lies inside the data");
        let size = Some(t.bytes.len()).filter(|_| t.dtype != DType::UNKNOWN);
        assert_eq!(size.and(t.dtype.tensor_bytes(t.shape.numel())), size, "{t:?} has its bytes");
    }
    let key = |i: usize| (c.tensors[i].file, c.tensors[i].bytes.start, c.tensors[i].bytes.end);
    for i in 1..c.tensors.len() {
        let (before, here) = (key(i - 1), key(i));
        assert!(before <= here && (before.0 < here.0 || before.2 <= here.1), "in order, nothing shared");
    }
    let mut unique: Vec<&str> = c.tensors.iter().map(|t| t.name.as_str()).collect();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), c.tensors.len(), "names are unique");
}
