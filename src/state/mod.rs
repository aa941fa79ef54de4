//! The state directory: what a supervisor writes down so that its successor can end, with
//! proof, what it left behind when it was killed.
//!
//! ```text
//!   lock               flock(2), held for life, with our pid: one supervisor for one socket
//!   boot               the boot id all of this belongs to
//!   instance           the supervisor: pid, start time, its place in the cgroup tree
//!   trees              JSON lines: the cgroup of each supervisor before it was made, until a
//!                      later one has removed it
//!   number             the last generation's number: none is given twice, whatever was removed
//!   generations/<gen>  JSON lines: the record before the spawn, its completion after it, then
//!                      the members known so far (the last such line counts)
//!   receipts/<service> JSON lines, the newest last
//! ```
//!
//! A line is written with one write(2): the supervisor's death tears nothing. What is torn or
//! foreign all the same is passed over and said as a [`Remark`]. Nothing here waits or panics:
//! with a full disk each call returns its error and the caller goes on.

mod directory;
mod error;
mod file;
mod location;
mod number;
mod receipts;
mod record;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::core::GenId;

pub use error::{Remark, StateError};
pub use location::default_path;
pub use receipts::{RECEIPT_MAX, RECEIPTS_BYTES, RECEIPTS_KEPT, newest_receipts};
pub use record::{Completion, Instance, Leftover, Member, Record};

use file::Expect;
use number::Number;
use receipts::History;
use record::Line;

/// A generation's file smaller than this is not rewritten without its superseded lines.
const GENERATION_BYTES: u64 = 64 * 1024;

/// An open state directory, locked until this is dropped or the process dies.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    boot_id: String,
    previous: Option<Instance>,
    earlier_trees: Vec<PathBuf>,
    remarks: Vec<Remark>,
    /// The highest generation number that was on record when it was opened.
    opened_at: u64,
    highest: AtomicU64,
    histories: Mutex<BTreeMap<String, History>>,
    receipts_kept: usize,
    number: Number,
    _lock: File,
}

impl StateDir {
    /// Opens the directory, making it (0700) where there is none; takes its lock; drops
    /// what another boot left.
    ///
    /// # Errors
    /// [`StateError::Unsafe`] when it is a symlink, someone else's, or writable by others;
    /// [`StateError::Busy`] when another supervisor holds it; [`StateError::Io`] otherwise.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        directory::prepare(path)?;
        let lock = directory::lock(&path.join("lock"))?;
        for sub in ["generations", "receipts"] {
            directory::prepare(&path.join(sub))?;
        }
        let boot_id = directory::boot_id()?;
        let mut remarks = Vec::new();
        directory::drop_other_boot(path, &boot_id, &mut remarks)?;
        let previous = read_instance(&path.join("instance"), &boot_id, &mut remarks);
        let earlier_trees = read_trees(&path.join("trees"), &mut remarks);
        let number = Number::open(&path.join("number"), &mut remarks);
        let last = number.last;
        let mut state = Self {
            path: path.into(),
            boot_id,
            previous,
            earlier_trees,
            remarks,
            opened_at: 0,
            highest: AtomicU64::new(0),
            histories: Mutex::default(),
            receipts_kept: RECEIPTS_KEPT,
            number,
            _lock: lock,
        };
        state.opened_at = state.generations()?.last().copied().unwrap_or(0);
        let highest = state.opened_at.max(last);
        state.highest.store(highest, Ordering::Relaxed);
        Ok(state)
    }

    /// Keeps `count` receipts of each service instead of [`RECEIPTS_KEPT`]; at least one.
    #[must_use]
    pub fn with_receipts_kept(mut self, count: usize) -> Self {
        self.receipts_kept = count.max(1);
        self
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// This boot's id.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// What opening found and did not use.
    pub fn remarks(&self) -> &[Remark] {
        &self.remarks
    }

    /// The supervisor before this one, in this boot: its cgroup tree may still stand, also
    /// where no generation is on record.
    pub fn previous_instance(&self) -> Option<&Instance> {
        self.previous.as_ref()
    }

    /// The cgroups that supervisors before this one made or meant to make, in this boot, and
    /// nobody has removed since as far as is known.
    pub fn earlier_trees(&self) -> &[PathBuf] {
        &self.earlier_trees
    }

    /// Writes down the cgroup that we are about to make: a supervisor killed after that leaves
    /// it for the next to find.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin_tree(&self, tree: &Path) -> Result<(), StateError> {
        let path = self.path.join("trees");
        let line = serde_json::to_string(tree).map_err(|error| StateError::Io {
            doing: "put into words",
            path: path.clone(),
            source: error.into(),
        })?;
        file::append(&path, &line, Expect::Either).map(drop)
    }

    /// Only these stand: every other one of [`StateDir::earlier_trees`] was removed.
    ///
    /// # Errors
    /// When it cannot be written; the old list then stays.
    pub fn keep_trees(&self, trees: &[PathBuf]) -> Result<(), StateError> {
        let path = self.path.join("trees");
        let mut text = Vec::new();
        for tree in trees {
            serde_json::to_writer(&mut text, tree).map_err(|error| StateError::Io {
                doing: "put into words",
                path: path.clone(),
                source: error.into(),
            })?;
            text.push(b'\n');
        }
        file::replace(&path, &self.path.join("trees.new"), &text)
    }

    /// Writes down who we are, in the place of the previous supervisor. Call it when what that
    /// one left has been dealt with.
    ///
    /// # Errors
    /// When it cannot be written; the old one then stays.
    pub fn record_instance(&self, instance: &Instance) -> Result<(), StateError> {
        let path = self.path.join("instance");
        let text = serde_json::to_vec(instance).map_err(|error| StateError::Io {
            doing: "put into words",
            path: path.clone(),
            source: error.into(),
        })?;
        file::replace(&path, &self.path.join("instance.new"), &text)
    }

    /// A generation number that no record here has had: above every one seen since the lock was
    /// taken, or left behind before.
    pub fn next_generation_hint(&self) -> GenId {
        GenId(self.highest.load(Ordering::Relaxed).saturating_add(1))
    }

    /// Writes a generation down. Call it before the spawn.
    ///
    /// # Errors
    /// When it cannot be written, or the number has a record already.
    pub fn begin(&self, record: &Record) -> Result<(), StateError> {
        check_name(&record.service)?;
        let before = self.highest.fetch_max(record.r#gen.0, Ordering::Relaxed);
        self.number.keep(before.max(record.r#gen.0));
        let line = Line::Begin(Box::new(record.clone()));
        self.append(record.r#gen, &line, Expect::New)
    }

    /// Adds what is known after the spawn.
    ///
    /// # Errors
    /// When it cannot be written, or the generation has no record.
    pub fn complete(&self, generation: GenId, completion: Completion) -> Result<(), StateError> {
        self.append(generation, &Line::Complete(completion), Expect::Present)
    }

    /// Writes down all members that are known now, in the place of those written before.
    ///
    /// # Errors
    /// When it cannot be written, or the generation has no record; then what was written before
    /// still stands.
    pub fn members(&self, generation: GenId, members: &[Member]) -> Result<(), StateError> {
        let line = Line::Members(members.to_vec());
        let text = in_words(generation, &line)?;
        let size = file::append(&self.generation(generation), &text, Expect::Present)?;
        // Twice what will be left of it: each rewriting is paid for by as many lines.
        let needed = text.len() as u64 + GENERATION_BYTES / 2;
        if size > 2 * needed {
            self.compact(generation)?;
        }
        Ok(())
    }

    /// Drops a generation's record: it has its last verdict.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove(&self, generation: GenId) -> Result<(), StateError> {
        file::remove(&self.generation(generation))
    }

    /// Every generation on record, by number, and what was found beside them. Called before
    /// the first [`StateDir::begin`], that is what the supervisor before left.
    ///
    /// A file without a readable record stays until [`StateDir::remove_unreadable`]: it tells
    /// that something was started, which then is found through
    /// [`StateDir::earlier_trees`] alone.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn leftovers(&self) -> Result<(Vec<Leftover>, Vec<Remark>), StateError> {
        let mut remarks = Vec::new();
        let mut leftovers = Vec::new();
        for number in self.list(&mut remarks)? {
            leftovers.extend(self.leftover(GenId(number), &mut remarks));
        }
        Ok((leftovers, remarks))
    }

    /// Drops the files without a readable record that earlier supervisors left. Call it when
    /// their cgroups have been removed.
    ///
    /// # Errors
    /// When the directory cannot be listed or one of them cannot be removed.
    pub fn remove_unreadable(&self) -> Result<(), StateError> {
        for number in self.generations()? {
            let generation = GenId(number);
            if number <= self.opened_at && self.leftover(generation, &mut Vec::new()).is_none() {
                self.remove(generation)?;
            }
        }
        Ok(())
    }

    fn leftover(&self, generation: GenId, remarks: &mut Vec<Remark>) -> Option<Leftover> {
        let path = self.generation(generation);
        let bytes = match file::read(&path) {
            Ok(bytes) => bytes?,
            Err(error) => {
                remarks.push(Remark::File {
                    path,
                    why: error.reason(),
                });
                return None;
            }
        };
        let parsed = parse(&path, &bytes, remarks);
        let (mut record, mut completion, mut members) = (None, None, Vec::new());
        for line in parsed {
            match line {
                Line::Begin(begun) => record = Some(*begun),
                Line::Complete(completed) => completion = Some(completed),
                Line::Members(seen) => members = seen,
            }
        }
        let Some(record) = record.filter(|record| record.r#gen == generation) else {
            remarks.push(Remark::File {
                path,
                why: "it holds no record of its generation".into(),
            });
            return None;
        };
        Some(Leftover {
            record,
            completion,
            members,
        })
    }

    /// Leaves the latest line of each kind.
    fn compact(&self, generation: GenId) -> Result<(), StateError> {
        let Some(leftover) = self.leftover(generation, &mut Vec::new()) else {
            return Ok(());
        };
        let lines = [
            Some(Line::Begin(Box::new(leftover.record))),
            leftover.completion.map(Line::Complete),
            Some(Line::Members(leftover.members)),
        ];
        let mut text = String::new();
        for line in lines.iter().flatten() {
            text.push_str(&in_words(generation, line)?);
            text.push('\n');
        }
        let spare = self.path.join("generation.new");
        file::replace(&self.generation(generation), &spare, text.as_bytes())
    }

    fn append(&self, generation: GenId, line: &Line, expect: Expect) -> Result<(), StateError> {
        let text = in_words(generation, line)?;
        file::append(&self.generation(generation), &text, expect).map(drop)
    }

    fn generation(&self, generation: GenId) -> PathBuf {
        self.path.join("generations").join(generation.0.to_string())
    }

    fn generations(&self) -> Result<Vec<u64>, StateError> {
        self.list(&mut Vec::new())
    }

    fn list(&self, remarks: &mut Vec<Remark>) -> Result<Vec<u64>, StateError> {
        let path = self.path.join("generations");
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&path).map_err(StateError::io("list", &path))? {
            let entry = entry.map_err(StateError::io("list", &path))?;
            let name = entry.file_name();
            let number = name
                .to_str()
                .and_then(|text| text.parse::<u64>().ok().filter(|n| n.to_string() == text));
            match number {
                Some(number) => numbers.push(number),
                None => remarks.push(Remark::File {
                    path: entry.path(),
                    why: "its name is not a generation's number".into(),
                }),
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

fn in_words(generation: GenId, line: &Line) -> Result<String, StateError> {
    serde_json::to_string(line).map_err(|source| StateError::BadRecord {
        generation: generation.0,
        source,
    })
}

fn parse(path: &Path, bytes: &[u8], remarks: &mut Vec<Remark>) -> Vec<Line> {
    let mut lines = Vec::new();
    for (index, text) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let parsed = match text.strip_suffix(b"\n") {
            Some(whole) => serde_json::from_slice(whole).map_err(|error| error.to_string()),
            None => Err("it is torn: no line end".into()),
        };
        match parsed {
            Ok(line) => lines.push(line),
            Err(why) => remarks.push(Remark::Line {
                path: path.into(),
                line: index + 1,
                why,
            }),
        }
    }
    lines
}

fn read_trees(path: &Path, remarks: &mut Vec<Remark>) -> Vec<PathBuf> {
    let bytes = match file::read(path) {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(error) => {
            remarks.push(Remark::File {
                path: path.into(),
                why: error.reason(),
            });
            return Vec::new();
        }
    };
    let mut trees = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        match serde_json::from_slice(line) {
            Ok(tree) => trees.push(tree),
            Err(_) if line.is_empty() => {}
            Err(error) => remarks.push(Remark::Line {
                path: path.into(),
                line: index + 1,
                why: error.to_string(),
            }),
        }
    }
    trees
}

fn read_instance(path: &Path, boot_id: &str, remarks: &mut Vec<Remark>) -> Option<Instance> {
    let why = match file::read(path) {
        Ok(None) => return None,
        Ok(Some(bytes)) => match serde_json::from_slice::<Instance>(&bytes) {
            Ok(instance) if instance.boot_id == boot_id => return Some(instance),
            Ok(_) => "it is of another boot".into(),
            Err(error) => error.to_string(),
        },
        Err(error) => error.reason(),
    };
    remarks.push(Remark::File {
        path: path.into(),
        why,
    });
    None
}

/// The rule for names, checked again where a name becomes a file.
fn check_name(service: &str) -> Result<(), StateError> {
    if crate::core::bad_name(service).is_some() {
        return Err(StateError::BadName {
            service: service.into(),
        });
    }
    Ok(())
}
