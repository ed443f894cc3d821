//! Files as lines: opened, decompressed, split.
//!
//! Invariant: memory does not depend on a file: one buffer, one line of bounded length. Compression is seen by content,
//! so stdin and misnamed files work too.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use indicatif::ProgressBar;

use crate::clock::Clock;
use crate::event::Timestamp;

/// Bytes read at one time.
const BUFFER_BYTES: usize = 1 << 20;
/// Longest line: twice the largest body that is taken over HTTP, so what was taken there can be replayed.
pub(super) const MAX_LINE_BYTES: usize = 1 << 20;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// How a file is called in messages.
pub(super) fn name(path: &Path) -> String {
    if is_stdin(path) { "<stdin>".to_owned() } else { path.display().to_string() }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Sum of the files' sizes; `None` if one of them is a stream. Fails for a file that cannot be read, before the first
/// one is.
pub(in crate::cli) fn total_bytes(paths: &[PathBuf]) -> anyhow::Result<Option<u64>> {
    let mut total = Some(0);
    for path in paths {
        if is_stdin(path) {
            total = None;
            continue;
        }
        let described = || format!("{} cannot be read", path.display());
        let metadata = std::fs::metadata(path).with_context(described)?;
        anyhow::ensure!(!metadata.is_dir(), "{} is a directory", path.display());
        File::open(path).with_context(described)?;
        total = total.filter(|_| metadata.is_file()).map(|sum| sum + metadata.len());
    }
    Ok(total)
}

/// When the file was last written; of a stream, now.
pub(super) fn modified(path: &Path) -> Timestamp {
    let written = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let since_epoch = written.and_then(|written| written.duration_since(std::time::UNIX_EPOCH).ok());
    let millis = since_epoch.and_then(|since| i64::try_from(since.as_millis()).ok());
    millis.map_or_else(|| Clock::system().now(), Timestamp)
}

/// The lines of one file.
pub(super) struct Lines {
    reader: BufReader<Box<dyn Read>>,
    line: Vec<u8>,
}

/// What came next.
pub(super) enum Next<'a> {
    /// A line, without its end.
    Line(&'a [u8]),
    /// A line longer than [`MAX_LINE_BYTES`], which was skipped.
    TooLong,
    /// No more.
    End,
}

impl Lines {
    pub(super) fn open(path: &Path, bar: &ProgressBar) -> io::Result<Self> {
        let raw: Box<dyn Read> = if is_stdin(path) { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
        let mut raw = bar.wrap_read(raw);
        let mut start = Vec::with_capacity(ZSTD.len());
        (&mut raw).take(ZSTD.len() as u64).read_to_end(&mut start)?;
        let (gzip, zstd) = (start.starts_with(&GZIP), start.starts_with(&ZSTD));
        let whole = Cursor::new(start).chain(raw);
        let plain: Box<dyn Read> = if gzip {
            Box::new(flate2::read::MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES / 8, whole)))
        } else if zstd {
            Box::new(zstd::stream::read::Decoder::new(whole)?)
        } else {
            Box::new(whole)
        };
        Ok(Self { reader: BufReader::with_capacity(BUFFER_BYTES, plain), line: Vec::new() })
    }

    pub(super) fn next(&mut self) -> io::Result<Next<'_>> {
        self.line.clear();
        let most = MAX_LINE_BYTES as u64 + 1;
        let read = (&mut self.reader).take(most).read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(Next::End);
        }
        if self.line.last() != Some(&b'\n') && read > MAX_LINE_BYTES {
            // Another buffer's worth at a time: what is skipped is not kept.
            self.reader.skip_until(b'\n')?;
            self.line = Vec::new();
            return Ok(Next::TooLong);
        }
        Ok(Next::Line(self.line.trim_ascii()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn lines(bytes: &[u8]) -> io::Result<Vec<String>> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(bytes)?;
        let mut lines = Lines::open(file.path(), &ProgressBar::hidden())?;
        let mut all = Vec::new();
        loop {
            match lines.next()? {
                Next::Line(line) => all.push(String::from_utf8_lossy(line).into_owned()),
                Next::TooLong => all.push("(too long)".to_owned()),
                Next::End => return Ok(all),
            }
        }
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn plain_gzip_and_zstd_give_the_same_lines() {
        let text = b"one\r\ntwo\n\nthree";
        let expected = ["one", "two", "", "three"];
        assert_eq!(lines(text).unwrap(), expected);
        assert_eq!(lines(&gzip(text)).unwrap(), expected);
        assert_eq!(lines(&zstd::encode_all(text.as_slice(), 3).unwrap()).unwrap(), expected);
        // Archives put together with `cat`.
        let two = [gzip(b"one\n"), gzip(b"two\n")].concat();
        assert_eq!(lines(&two).unwrap(), ["one", "two"]);
        let two: Vec<u8> =
            [b"one\n", b"two\n"].iter().flat_map(|part| zstd::encode_all(part.as_slice(), 3).unwrap()).collect();
        assert_eq!(lines(&two).unwrap(), ["one", "two"]);
        for short in [b"".as_slice(), b"a", b"\x1f"] {
            assert_eq!(lines(short).unwrap().len(), short.len());
        }
    }

    #[test]
    fn a_line_without_end_is_skipped_and_not_kept() {
        let mut text = vec![b'x'; 5 * MAX_LINE_BYTES];
        text.extend_from_slice(b"\nnext\n");
        text.extend(vec![b'y'; MAX_LINE_BYTES]);
        text.push(b'\n');
        text.extend(vec![b'z'; MAX_LINE_BYTES + 1]);
        let found = lines(&text).unwrap();
        assert_eq!(found.iter().map(String::len).collect::<Vec<_>>(), [10, 4, MAX_LINE_BYTES, 10]);
    }

    #[test]
    fn an_archive_that_breaks_off_is_an_error() {
        let whole = gzip(&(0..10_000).flat_map(|n| format!("{n}\n").into_bytes()).collect::<Vec<_>>());
        assert!(lines(&whole[..whole.len() / 2]).is_err());
    }
}
