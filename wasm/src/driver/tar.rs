//! A folder as one file: POSIX tar, whose layout is known before the first byte and which needs no checksum of data.
//!
//! <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html>

const BLOCK: u64 = 512;
/// The name field of a header, and the largest size that its octal field holds.
const NAME: usize = 100;
const LARGEST: u64 = 0o777_7777_7777;

/// Where the parts of an archive lie.
#[derive(Default)]
pub struct TarLayout {
    /// Where each file's data begins.
    pub offsets: Vec<u64>,
    /// What to write besides data, and where; all else is zero.
    pub headers: Vec<(u64, Vec<u8>)>,
    /// Bytes of the archive.
    pub len: u64,
}

impl TarLayout {
    /// The layout of a folder with these files, by name and length.
    pub fn new<'a>(folder: &str, files: impl Iterator<Item = (&'a str, u64)>) -> TarLayout {
        let mut layout = TarLayout::default();
        for (name, len) in files {
            let bytes = headers(&format!("{folder}/{name}"), len);
            let at = layout.len;
            layout.len += bytes.len() as u64;
            layout.headers.push((at, bytes));
            layout.offsets.push(layout.len);
            layout.len += len.next_multiple_of(BLOCK);
        }
        layout.len += 2 * BLOCK;
        layout
    }
}

/// The plain header, after an extended one where a field is too small for its value.
fn headers(path: &str, len: u64) -> Vec<u8> {
    let mut records = String::new();
    if path.len() > NAME {
        records += &record("path", path);
    }
    if len > LARGEST {
        records += &record("size", &len.to_string());
    }
    let plain = header(path.as_bytes(), len.min(LARGEST), b'0');
    if records.is_empty() {
        return plain;
    }
    let mut out = header(b"PaxHeader", records.len() as u64, b'x');
    out.extend(records.bytes());
    out.resize(out.len().next_multiple_of(BLOCK as usize), 0);
    out.extend(plain);
    out
}

/// `length key=value\n`, where the length counts its own digits.
fn record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let digits = |n: usize| n.to_string().len();
    let len = rest.len() + digits(rest.len());
    // One digit more may take the length over a power of ten.
    let len = rest.len() + digits(len);
    format!("{len}{rest}")
}

fn header(name: &[u8], len: u64, kind: u8) -> Vec<u8> {
    let mut block = vec![0; BLOCK as usize];
    let mut put = |at: usize, text: &[u8]| {
        for (to, from) in block.iter_mut().skip(at).zip(text) {
            *to = *from;
        }
    };
    put(0, name.get(..NAME).unwrap_or(name));
    put(100, b"0000644");
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{len:011o}").as_bytes());
    // No time: the same plan gives the same bytes.
    put(136, b"00000000000");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    let text = format!("{sum:06o}\0 ");
    for (to, from) in block.iter_mut().skip(148).zip(text.as_bytes()) {
        *to = *from;
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_short_names_and_small_files_are_one_block() {
        let block = headers("folder/model.bin", 600);
        assert_eq!(block.len(), 512);
        assert_eq!(&block[..17], b"folder/model.bin\0");
        assert_eq!(&block[124..136], b"00000001130\0");
        assert_eq!(&block[257..265], b"ustar\x0000");
        let sum: u64 = block
            .iter()
            .enumerate()
            .map(|(i, b)| if (148..156).contains(&i) { 32 } else { u64::from(*b) })
            .sum();
        assert_eq!(&block[148..156], format!("{sum:06o}\0 ").as_bytes());
    }

    #[test]
    fn headers_of_long_names_and_large_files_have_records() {
        let name = "n".repeat(140);
        let block = headers(&name, LARGEST + 1);
        assert_eq!(block.len(), 3 * 512);
        let records = String::from_utf8(block[512..1024].to_vec()).unwrap();
        assert!(records.starts_with(&format!("150 path={name}\n19 size=8589934592\n\0")), "{records}");
        assert_eq!(&block[1024 + 124..1024 + 136], b"77777777777\0");
    }

    #[test]
    fn record_length_counts_its_own_digits() {
        // 97 bytes beside the digits: two digits make 99, which is right; 98 need a third.
        for value in 0..120 {
            let record = record("path", &"v".repeat(value));
            let len: usize = record.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(len, record.len(), "{value}");
        }
    }

    #[test]
    fn layout_pads_files_and_ends_in_two_blocks() {
        let layout = TarLayout::new("f", [("a", 1), ("b", 512)].into_iter());
        assert_eq!(layout.offsets, [512, 1536]);
        assert_eq!(layout.len, 512 + 512 + 512 + 512 + 1024);
    }
}
