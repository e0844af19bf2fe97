//! The browser's private storage, for a download afterwards. A folder becomes one tar file.

use crate::driver::browser::{private_storage, property, random_uuid, thrown};
use crate::driver::sink::{CALL_MS, OutFiles, Written, done, removed, unanswered};
use crate::driver::tar::TarLayout;
use crate::driver::watch::{Unanswered, Watch};
use js_sys::{Array, AsyncIterator, Date};
use quantoscope_core::error::{Code, Error, Result};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{
    File, FileSystemDirectoryHandle, FileSystemFileHandle, FileSystemGetDirectoryOptions,
    FileSystemGetFileOptions, FileSystemHandle, FileSystemReadWriteOptions, FileSystemSyncAccessHandle,
};

const FOLDER: &str = "quantoscope";
const DAY_MS: f64 = 86_400_000.0;
/// What the browser does where it does not answer.
const OPEN: &str = "open its private storage";

/// A file of the private storage.
pub struct PrivateSink {
    /// What a download is called.
    name: String,
    files: OutFiles,
    /// Keys of results that the page needs no more; their downloads had until now to begin.
    released: Vec<String>,
    /// The layout of a folder as an archive.
    archive: Option<TarLayout>,
    key: String,
    root: Option<FileSystemDirectoryHandle>,
    handle: Option<FileSystemFileHandle>,
    open: Option<FileSystemSyncAccessHandle>,
}

impl PrivateSink {
    /// Nothing is made yet.
    pub fn new(name: String, files: OutFiles, released: Vec<String>) -> PrivateSink {
        let archive = files.are_folder().then(|| {
            let parts = (0..files.count()).map(|i| (files.name(i), files.len(i)));
            TarLayout::new(stem(&name), parts)
        });
        let key = format!("{}-{name}", random_uuid());
        PrivateSink { name, files, released, archive, key, root: None, handle: None, open: None }
    }

    /// See [`crate::driver::sink::OutputSink::open`].
    ///
    /// # Errors
    /// `no_space` or `io`; `interrupted`.
    pub async fn open(&mut self, watch: &Watch) -> Result<()> {
        let top = done(private_storage().get_directory(), &self.name, OPEN, watch).await?;
        let options = FileSystemGetDirectoryOptions::new();
        options.set_create(true);
        let top: FileSystemDirectoryHandle = top.unchecked_into();
        let folder =
            done(top.get_directory_handle_with_options(FOLDER, &options), &self.name, OPEN, watch).await?;
        let root: FileSystemDirectoryHandle = folder.unchecked_into();
        self.tidy(&root, watch).await?;
        self.root = Some(root.clone());
        let options = FileSystemGetFileOptions::new();
        options.set_create(true);
        let handle =
            done(root.get_file_handle_with_options(&self.key, &options), &self.name, OPEN, watch).await?;
        let handle: FileSystemFileHandle = handle.unchecked_into();
        self.handle = Some(handle.clone());
        let mut opening = JsFuture::from(handle.create_sync_access_handle());
        let file: FileSystemSyncAccessHandle = match watch.answer(&mut opening, Some(CALL_MS)).await {
            Ok(file) => file.unchecked_into(),
            Err(reason) => {
                if !matches!(reason, Unanswered::Threw(_)) {
                    spawn_local(let_go(opening, root, self.key.clone()));
                }
                return Err(unanswered(reason, &self.name, OPEN, CALL_MS));
            }
        };
        let len = self.archive.as_ref().map_or_else(|| self.files.len(0), |archive| archive.len);
        let truncated = file.truncate_with_f64(len as f64);
        self.open = Some(file);
        truncated.map_err(|e| self.threw(&e))?;
        for (at, bytes) in self.archive.iter().flat_map(|archive| &archive.headers) {
            self.write_at(*at, bytes)?;
        }
        for file in 0..self.files.count() {
            let mut at = 0;
            while let Some(piece) = self.files.start(file, at, watch).await? {
                self.write(file, at, &piece)?;
                at += piece.len() as u64;
            }
        }
        Ok(())
    }

    /// Removes results that are needed no more: those of this page that were released, and any that are a day old.
    async fn tidy(&self, root: &FileSystemDirectoryHandle, watch: &Watch) -> Result<()> {
        let entries: AsyncIterator = root.values();
        loop {
            let next = entries.next().map_err(|e| self.threw(&e))?;
            let entry = property(&done(next, &self.name, OPEN, watch).await?, "value");
            if entry.is_undefined() {
                return Ok(());
            }
            if property(&entry, "kind").as_string().as_deref() != Some("file") {
                continue;
            }
            let name = entry.unchecked_ref::<FileSystemHandle>().name();
            let file = entry.unchecked_into::<FileSystemFileHandle>().get_file();
            let file: File = done(file, &self.name, OPEN, watch).await?.unchecked_into();
            if self.released.contains(&name) || Date::now() - file.last_modified() > DAY_MS {
                // One that stays is tried again next time.
                let _ = JsFuture::from(root.remove_entry(&name)).await;
            }
        }
    }

    /// See [`crate::driver::sink::OutputSink::write`].
    ///
    /// # Errors
    /// `no_space` or `io`.
    pub fn write(&self, file: usize, at: u64, bytes: &[u8]) -> Result<()> {
        self.write_at(self.offset(file) + at, bytes)
    }

    /// Where the data of file number `file` begins.
    fn offset(&self, file: usize) -> u64 {
        self.archive.as_ref().and_then(|archive| archive.offsets.get(file)).copied().unwrap_or(0)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> Result<()> {
        let closed = || Error::new(Code::Usage, "the result is not open");
        let options = FileSystemReadWriteOptions::new();
        options.set_at(at as f64);
        let open = self.open.as_ref().ok_or_else(closed)?;
        let written = open.write_with_u8_array_and_options(bytes, &options).map_err(|e| self.threw(&e))?;
        // Some browsers report a full disk only by writing less than they were given.
        if written == bytes.len() as f64 {
            return Ok(());
        }
        Err(Error::new(Code::NoSpace, "the browser has no room for the result").in_file(&self.name))
    }

    fn threw(&self, reason: &JsValue) -> Error {
        thrown(reason).in_file(&self.name)
    }

    /// See [`crate::driver::sink::OutputSink::finish`].
    ///
    /// # Errors
    /// `no_space` or `io`; `interrupted`.
    pub async fn finish(&mut self, watch: &Watch) -> Result<Written> {
        let closed = || Error::new(Code::Usage, "the result is not open");
        let (Some(open), Some(handle)) = (&self.open, &self.handle) else { return Err(closed()) };
        open.flush().map_err(|e| self.threw(&e))?;
        open.close();
        let whole: File = done(handle.get_file(), &self.name, OPEN, watch).await?.unchecked_into();
        let file = named(&whole, &self.name).map_err(|e| self.threw(&e))?;
        let files = match &self.archive {
            None => vec![(self.name.clone(), file.clone())],
            Some(_) => (0..self.files.count()).map(|i| self.part(&whole, i)).collect::<Result<_>>()?,
        };
        Ok(Written { stored: Some((file, self.key.clone())), files })
    }

    /// A file of the archive, and its path.
    fn part(&self, whole: &File, index: usize) -> Result<(String, File)> {
        let (start, name) = (self.offset(index), self.files.name(index));
        let end = start + self.files.len(index);
        let slice = whole.slice_with_f64_and_f64(start as f64, end as f64);
        let file = slice.and_then(|slice| named(&slice, name)).map_err(|e| self.threw(&e))?;
        Ok((format!("{}/{name}", stem(&self.name)), file))
    }

    /// Removes what was made.
    ///
    /// # Errors
    /// What the browser threw.
    pub async fn remove(self) -> std::result::Result<(), JsValue> {
        if let Some(open) = self.open {
            open.close();
        }
        match self.root {
            Some(root) => removed(root.remove_entry(&self.key)).await,
            None => Ok(()),
        }
    }
}

fn stem(name: &str) -> &str {
    name.strip_suffix(".tar").unwrap_or(name)
}

fn named(bytes: &JsValue, name: &str) -> std::result::Result<File, JsValue> {
    File::new_with_blob_sequence(&Array::of1(bytes), name)
}

/// A handle that comes after an abort would keep the file from being removed.
async fn let_go(opening: JsFuture, root: FileSystemDirectoryHandle, key: String) {
    if let Ok(late) = opening.await {
        late.unchecked_into::<FileSystemSyncAccessHandle>().close();
    }
    let _ = removed(root.remove_entry(&key)).await;
}
