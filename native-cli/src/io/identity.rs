//! Identity of a file: equal only if the file was not modified or replaced in between.

use std::fs::Metadata;

/// The state of a file when it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileIdentity {
    device: u64,
    number: u64,
    len: u64,
    /// Nanoseconds since the epoch.
    modified: i128,
    /// Nanoseconds of the last change of content, names or permissions. Programs cannot set it.
    changed: i128,
}

impl FileIdentity {
    #[cfg(unix)]
    pub(crate) fn of(meta: &Metadata) -> FileIdentity {
        use std::os::unix::fs::MetadataExt;
        let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        FileIdentity {
            device: meta.dev(),
            number: meta.ino(),
            len: meta.len(),
            modified: nanos(meta.mtime(), meta.mtime_nsec()),
            changed: nanos(meta.ctime(), meta.ctime_nsec()),
        }
    }

    #[cfg(not(unix))]
    pub fn of(meta: &Metadata) -> FileIdentity {
        let nanos = |time: std::io::Result<std::time::SystemTime>| {
            let since = time.ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
            since.map_or(0, |d| d.as_nanos() as i128)
        };
        FileIdentity {
            device: 0,
            number: 0,
            len: meta.len(),
            modified: nanos(meta.modified()),
            changed: nanos(meta.created()),
        }
    }

    /// Appends everything but the device number, which may change with a restart.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.len.to_le_bytes());
        out.extend_from_slice(&self.modified.to_le_bytes());
        out.extend_from_slice(&self.changed.to_le_bytes());
    }
}
