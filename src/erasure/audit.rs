//! `audit.jsonl`: that accounts were forgotten, when, and what that took.
//!
//! Invariant: a line holds no personal data: no id, and nothing made of one that could be tried out. Each has the number
//! of what was done, and stands there once.
//!
//! Not here: rotation. A line has 250 bytes; the file may be moved away at any time.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::event::{Account, Tenant, Timestamp};
use crate::log::embedded::erasure::Pending;

/// Its name in the data directory.
pub(super) const FILE: &str = "audit.jsonl";

/// An account that was forgotten, as the audit tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// `account_erased`
    pub what: String,
    /// Counts up over restarts.
    pub number: i64,
    /// When it was done, RFC 3339.
    pub at: String,
    /// When it was asked for.
    pub asked_at: String,
    /// `webhook`, `api`, `cli`, or `link`: an identifier that was seen with another that was asked for.
    pub asked_by: String,
    /// The id of the webhook's delivery or of the request: whoever asked knows it. Empty where it names the account.
    pub request: String,
    /// The Clerk instance; `*`: whichever had it.
    pub tenant: Tenant,
    /// `user` or `identifier`.
    pub kind: String,
    /// Records of the log that named it.
    pub log_records: u64,
    /// Revisions of stored findings that named it.
    pub finding_revisions: u64,
    /// Lines of files of findings that named it.
    pub file_lines: u64,
    /// Identifiers that were seen with it, and are forgotten in turn.
    pub identifiers: u64,
}

impl Done {
    pub(super) fn of(pending: &Pending, identifiers: u64, now: Timestamp) -> Self {
        let erasure = &pending.erasure;
        Self {
            what: "account_erased".to_owned(),
            number: pending.number,
            at: now.to_string(),
            asked_at: erasure.asked_at.to_string(),
            asked_by: erasure.asked_by.to_string(),
            request: erasure.request.to_string(),
            tenant: erasure.tenant.clone(),
            kind: if matches!(erasure.account, Account::User(_)) { "user" } else { "identifier" }.to_owned(),
            log_records: pending.records,
            finding_revisions: pending.revisions,
            file_lines: pending.lines,
            identifiers,
        }
    }
}

/// Appends `all`, but for what a run that ended right afterwards has appended; they are on the disk then.
pub(super) fn write(data_dir: &Path, all: &[Done]) -> std::io::Result<()> {
    let path = data_dir.join(FILE);
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(&path)?;
    let mut there = BTreeSet::new();
    for line in BufReader::new(&file).split(b'\n') {
        // A line that a crash has torn is none, and is written again.
        there.extend(serde_json::from_slice::<Done>(&line?).ok().map(|done| done.number));
    }
    let mut lines = Vec::new();
    if file.metadata()?.len() > 0 && !ends_in_newline(&mut file)? {
        lines.push(b'\n');
    }
    for done in all.iter().filter(|done| !there.contains(&done.number)) {
        serde_json::to_writer(&mut lines, done)?;
        lines.push(b'\n');
    }
    file.write_all(&lines)?;
    file.sync_all()?;
    File::open(data_dir)?.sync_all()
}

fn ends_in_newline(file: &mut File) -> std::io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(number: i64) -> Done {
        let pending = Pending {
            number,
            erasure: crate::event::Erasure {
                tenant: "ins_1".into(),
                account: Account::User("user_secret".into()),
                replacement: "erased_1_1".into(),
                request: "forget_1".into(),
                asked_by: "cli".into(),
                asked_at: Timestamp(1_767_600_000_000),
            },
            records: 3,
            revisions: 2,
            lines: 1,
        };
        Done::of(&pending, 0, Timestamp(1_767_600_001_000))
    }

    #[test]
    fn each_is_written_once_and_names_nobody() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &[done(1)]).unwrap();
        write(directory.path(), &[done(1), done(2)]).unwrap();
        let path = directory.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        write(directory.path(), &[done(2)]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let numbers: Vec<_> =
            text.lines().filter_map(|line| Some(serde_json::from_str::<Done>(line).ok()?.number)).collect();
        assert_eq!(numbers, [1, 2], "{text}");
        assert!(
            !text.contains("user_secret") && !text.contains("erased_") && text.contains(r#""log_records":3"#),
            "{text}"
        );
    }
}
