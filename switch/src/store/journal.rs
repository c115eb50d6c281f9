//! A file of records that are appended one by one, each telling by itself whether it is sound.
//!
//! ```text
//!   8ae3f015 {"head": {"format":2, ...}}   one line a record: CRC-32 of what follows the blank, in hexadecimal
//!   03b1c77e {"endpoint": ...}
//!   f00ba4d1 {"route": ...}
//! ```
//!
//! A record is appended by one write. Cut off in the middle by a crash it is the last line and fails its checksum; so
//! does one that was damaged. Every other record is still read: a changed byte costs the one record it stands in, also
//! if it was the end of a line that was changed, since a record is looked for inside a bad line too.
//!
//! A write that fails, on a full disk, is taken back by cutting the file to its former length. Nothing is synced: the
//! page cache survives the process, and what is kept here is worth nothing after a reboot.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
    /// Bytes of whole records.
    length: u64,
    records: usize,
    /// A failed write could not be taken back yet.
    ragged: bool,
}

/// A stretch of the file that is no sound record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damage {
    /// Line it stands in, from 1.
    pub line: usize,
    /// The end of the file: a record that was cut off.
    pub cut_off: bool,
}

/// The sound records of `text` in order, and what else stands there.
pub(crate) fn read<R: DeserializeOwned>(text: &[u8]) -> (Vec<R>, Vec<Damage>) {
    let (mut records, mut damages) = (Vec::new(), Vec::new());
    for (at, line) in text.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let (cut_off, line) = match line.strip_suffix(b"\n") {
            Some(whole) => (false, whole),
            None => (true, line),
        };
        let found = (0..line.len()).find_map(|from| Some((from, decode(&line[from..])?)));
        if found.as_ref().is_none_or(|(from, _)| *from > 0) || cut_off {
            damages.push(Damage { line: at + 1, cut_off });
        }
        records.extend(found.map(|(_, record)| record));
    }
    (records, damages)
}

/// The first record alone, if it is sound and an `R`.
pub(crate) fn first<R: DeserializeOwned>(text: &[u8]) -> Option<R> {
    decode(text.split(|&byte| byte == b'\n').next()?)
}

impl Journal {
    /// Puts a file of just these records in the place of whatever is at `path`: it is whole and old, or whole and new.
    pub(crate) fn replace<R: Serialize>(path: &Path, records: impl Iterator<Item = R>) -> io::Result<Journal> {
        let new = path.with_extension(NEW);
        let written = write(&new, records).and_then(|written| fs::rename(&new, path).map(|()| written));
        let (file, length, records) = written.inspect_err(|_| {
            // On a full disk it would be in the way of what is to come.
            let _ = fs::remove_file(&new);
        })?;
        Ok(Journal { file, path: path.to_owned(), length, records, ragged: false })
    }

    /// Adds records, all or none of them.
    pub(crate) fn append<R: Serialize>(&mut self, records: &[R]) -> io::Result<()> {
        if self.ragged {
            self.take_back()?;
        }
        let lines = records.iter().flat_map(encode).collect::<Vec<u8>>();
        if let Err(error) = self.file.write_all(&lines) {
            // The next append tries again, and before that a reader sees one record that is cut off.
            self.ragged = self.take_back().is_err();
            return Err(error);
        }
        self.length += lines.len() as u64;
        self.records += records.len();
        Ok(())
    }

    /// How many records it holds, those overtaken by later ones included.
    pub(crate) fn records(&self) -> usize {
        self.records
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn take_back(&mut self) -> io::Result<()> {
        self.file.set_len(self.length)?;
        io::Seek::seek(&mut self.file, io::SeekFrom::Start(self.length))?;
        self.ragged = false;
        Ok(())
    }
}

/// A new file of these records: it, its length and how many they are.
fn write<R: Serialize>(path: &Path, records: impl Iterator<Item = R>) -> io::Result<(File, u64, usize)> {
    let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    let mut writer = BufWriter::new(file);
    let (mut length, mut count) = (0, 0);
    for record in records {
        let line = encode(&record);
        writer.write_all(&line)?;
        length += line.len() as u64;
        count += 1;
    }
    let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok((file, length, count))
}

fn encode(record: &impl Serialize) -> Vec<u8> {
    let mut line = vec![0; CHECKSUM_LEN];
    serde_json::to_writer(&mut line, record).expect("every record has a JSON form: its maps have text keys");
    let checksum = format!("{:08x} ", crc32fast::hash(&line[CHECKSUM_LEN..]));
    line[..CHECKSUM_LEN].copy_from_slice(checksum.as_bytes());
    line.push(b'\n');
    line
}

fn decode<R: DeserializeOwned>(line: &[u8]) -> Option<R> {
    let (checksum, text) = line.split_at_checked(CHECKSUM_LEN)?;
    let digits = std::str::from_utf8(checksum).ok()?.strip_suffix(' ')?;
    let checksum = u32::from_str_radix(digits, 16).ok()?;
    if crc32fast::hash(text) != checksum { None } else { serde_json::from_slice(text).ok() }
}

/// Eight digits and a blank.
const CHECKSUM_LEN: usize = 9;
/// Extension of a file that is not whole yet.
const NEW: &str = "new";

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(dir: &tempfile::TempDir, records: &[&str]) -> Journal {
        Journal::replace(&dir.path().join("state.journal"), records.iter()).unwrap()
    }

    fn words(text: &[u8]) -> (Vec<String>, Vec<Damage>) {
        read(text)
    }

    #[test]
    fn what_is_appended_is_read_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = journal(&dir, &["a", "b"]);
        journal.append(&["c", "line\nbreak"]).unwrap();
        journal.append(&["e"]).unwrap();
        let (records, damages) = words(&fs::read(journal.path()).unwrap());
        assert_eq!(records, ["a", "b", "c", "line\nbreak", "e"]);
        assert_eq!((damages, journal.records()), (vec![], 5));
        assert!(!journal.path().with_extension(NEW).exists());
    }

    #[test]
    fn cut_off_anywhere_only_the_record_it_was_cut_in_is_lost() {
        let all = ["first", "second", "third"];
        let lines: Vec<Vec<u8>> = all.iter().map(encode).collect();
        let text = lines.concat();
        for length in 0..=text.len() {
            let (records, damages) = words(&text[..length]);
            let whole = (0..3).take_while(|&count| lines[..=count].concat().len() <= length).count();
            // All but its line's end is a sound record too.
            let sound = (0..3).take_while(|&count| lines[..=count].concat().len() <= length + 1).count();
            assert_eq!(records, all[..sound], "{length}");
            let between = lines[..whole].concat().len() == length;
            let expected = if between { vec![] } else { vec![Damage { line: whole + 1, cut_off: true }] };
            assert_eq!(damages, expected, "{length}");
        }
    }

    #[test]
    fn a_changed_byte_costs_the_record_it_stands_in_and_is_told() {
        let all = ["first", "second", "third"];
        let text: Vec<u8> = all.iter().flat_map(encode).collect();
        for at in 0..text.len() {
            for flip in [1, 0x80, b'\n' ^ text[at], b' ' ^ text[at]].into_iter().filter(|&flip| flip != 0) {
                let mut damaged = text.clone();
                damaged[at] ^= flip;
                let (records, damages) = words(&damaged);
                assert!(!damages.is_empty(), "{at} {flip}");
                assert!(
                    records.len() >= 2 && records.iter().all(|record| all.contains(&record.as_str())),
                    "{at} {flip}"
                );
            }
        }
    }

    #[test]
    fn a_write_that_fails_leaves_what_was_there_and_the_next_one_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = journal(&dir, &["a"]);
        // What a full disk leaves: part of a line.
        journal.file.write_all(b"03b1c77e \"par").unwrap();
        journal.ragged = true;
        journal.append(&["b"]).unwrap();
        assert_eq!(words(&fs::read(journal.path()).unwrap()), (vec!["a".to_owned(), "b".to_owned()], vec![]));
    }
}
