//! `journal`: the decision journal on the disk, a JSON object a line, as `events -j` shows it.
//!
//! News are appended; a transition that comes again (more of its timeline is known) is appended again, and the last
//! line of a number counts. When the file has grown to its bound it is written anew with the last transitions only.
//! It is not synced at each line: a crash of the daemon loses nothing, one of the machine perhaps the last lines.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::announcer::journal::CAPACITY;
use crate::status::EventStatus;

/// Bytes of the file before it is written anew; what is written then is at most half of it.
const LARGEST: u64 = 4 << 20;

/// The file, and what is worth keeping of it.
#[derive(Debug)]
pub(super) struct JournalFile {
    path: PathBuf,
    kept: BTreeMap<u64, EventStatus>,
    file: Option<(File, u64)>,
}

impl JournalFile {
    /// Reads what there is; also a word about what could not be read.
    pub(super) fn load(path: PathBuf) -> (Self, Option<String>) {
        let mut journal = JournalFile { path, kept: BTreeMap::new(), file: None };
        let text = match read_end(&journal.path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return (journal, None),
            Err(e) => {
                let note = format!("{}: {e}; events of earlier runs are not shown", journal.path.display());
                return (journal, Some(note));
            }
        };
        // A line may be torn: the end of a file whose writer died, the beginning of a part of it.
        for event in text.split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice(l).ok()) {
            journal.keep(event);
        }
        (journal, None)
    }

    /// Transitions of earlier runs, oldest first.
    pub(super) fn events(&self) -> Vec<EventStatus> {
        self.kept.values().cloned().collect()
    }

    /// Adds these. After an error they are kept in memory, and written when it next works.
    pub(super) fn append(&mut self, events: Vec<EventStatus>) -> io::Result<()> {
        let mut text = Vec::new();
        for event in events {
            line(&event, &mut text);
            self.keep(event);
        }
        match &mut self.file {
            Some((file, size)) if *size + (text.len() as u64) < LARGEST => {
                let written = file.write_all(&text);
                *size += text.len() as u64;
                if written.is_err() {
                    self.file = None; // what is there of it is unknown: anew the next time
                }
                written
            }
            _ => self.rewrite(),
        }
    }

    /// They cannot be written now: with the next that can.
    pub(super) fn keep_for_later(&mut self, events: Vec<EventStatus>) {
        self.file = None;
        events.into_iter().for_each(|event| self.keep(event));
    }

    fn keep(&mut self, event: EventStatus) {
        self.kept.insert(event.seq, event);
        while self.kept.len() > CAPACITY {
            self.kept.pop_first();
        }
    }

    /// Puts a file in place that holds what is kept, whole or not at all.
    fn rewrite(&mut self) -> io::Result<()> {
        self.file = None;
        let mut lines: Vec<Vec<u8>> = Vec::new();
        let mut size = 0;
        for event in self.kept.values().rev() {
            let mut text = Vec::new();
            line(event, &mut text);
            size += text.len() as u64;
            if size > LARGEST / 2 {
                break;
            }
            lines.push(text);
        }
        lines.reverse();
        let temporary = self.path.with_extension("new");
        let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).clone();
        let mut file = options.open(&temporary)?;
        file.write_all(&lines.concat())?;
        file.sync_all()?;
        std::fs::rename(&temporary, &self.path)?;
        self.file = Some((file, size));
        Ok(())
    }
}

fn line(event: &EventStatus, out: &mut Vec<u8>) {
    // These types hold nothing that JSON cannot: no map with other keys than texts.
    if serde_json::to_writer(&mut *out, event).is_ok() {
        out.push(b'\n');
    }
}

/// The file, or the last part of one that is larger than ours ever are.
fn read_end(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(LARGEST)))?;
    let mut text = Vec::new();
    file.take(LARGEST).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::announcer::journal::State;
    use crate::status::TimelineStatus;

    fn event(seq: u64, reason: &str) -> EventStatus {
        EventStatus {
            seq,
            time: "2026-11-22T04:00:00.000000Z".into(),
            instance: "a".into(),
            from: State::Backup,
            to: State::Master,
            reason: reason.into(),
            timeline_us: TimelineStatus::default(),
        }
    }

    fn open(dir: &tempfile::TempDir) -> JournalFile {
        let (journal, note) = JournalFile::load(dir.path().join("journal"));
        assert_eq!(note, None);
        journal
    }

    #[test]
    fn the_last_word_about_a_transition_counts() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(&dir);
        journal.append(vec![event(1, "one"), event(2, "two")]).unwrap();
        journal.append(vec![event(1, "one, and more")]).unwrap();
        assert_eq!(open(&dir).events(), [event(1, "one, and more"), event(2, "two")]);
    }

    #[test]
    fn a_torn_line_costs_itself_alone() {
        let dir = tempfile::tempdir().unwrap();
        open(&dir).append(vec![event(1, "one"), event(2, "two")]).unwrap();
        let path = dir.path().join("journal");
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 9]).unwrap();
        let mut journal = open(&dir);
        assert_eq!(journal.events(), [event(1, "one")]);
        journal.append(vec![event(2, "again")]).unwrap();
        assert_eq!(open(&dir).events(), [event(1, "one"), event(2, "again")]);
        std::fs::write(&path, b"\xff\x00nonsense\n\n{}\n").unwrap();
        assert!(open(&dir).events().is_empty());
    }

    #[test]
    fn it_is_bounded_in_events_and_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(&dir);
        let long = "x".repeat(8000);
        for seq in 1..=3 * CAPACITY as u64 {
            journal.append(vec![event(seq, &long)]).unwrap();
            let size = std::fs::metadata(dir.path().join("journal")).unwrap().len();
            assert!(size <= LARGEST, "{size}");
        }
        let events = open(&dir).events();
        assert!(events.len() > 200 && events.len() <= CAPACITY, "{}", events.len());
        assert_eq!(events.last().unwrap().seq, 3 * CAPACITY as u64);
    }
}
