//! What could not be unmounted: each file system of it made safe, all at a time, so that one that
//! hangs takes nothing from the others; then unmounted lazily.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use nix::errno::Errno;

use super::bounded;
use crate::sys::mount::MountEntry;
use crate::sys::power::Machine;
use crate::sys::{SysError, clock, end};

/// In memory: nothing is written anywhere.
const IN_MEMORY: &[&str] = &["tmpfs"];

/// A mount that was left, and what became of it.
pub(super) struct Rest {
    pub(super) mount: MountEntry,
    /// How its data is safe, or why it is not, in words.
    pub(super) safe: String,
    /// It did not answer.
    pub(super) hung: bool,
    /// What came of unmounting it lazily; `None`: no answer.
    pub(super) lazily: Option<Result<(), SysError>>,
}

/// Makes every file system of `mounts` safe within `bound`, but for those on the devices in
/// `later`, then unmounts them lazily within `lazily`. Several mounts of one file system are one.
pub(super) fn make_safe(
    machine: Machine,
    mounts: Vec<MountEntry>,
    later: &BTreeSet<(u32, u32)>,
    bound: Duration,
    lazily: Duration,
) -> Vec<Rest> {
    let mut seen = BTreeSet::new();
    let first_of_its: Vec<&MountEntry> = mounts
        .iter()
        .filter(|mount| needs_it(mount) && !later.contains(&mount.device))
        .filter(|mount| seen.insert(mount.device))
        .collect();
    let work = first_of_its.iter().map(|mount| {
        let path = mount.mount_point.clone();
        move || safe(machine, &path)
    });
    let made = all_within(bound, work.collect());
    let came = |mount: &MountEntry| {
        let at = first_of_its
            .iter()
            .position(|first| first.device == mount.device);
        at.map(|at| made.get(at).cloned().flatten())
    };
    let work = mounts.iter().map(|mount| {
        let path = mount.mount_point.clone();
        move || end::unmount(machine, &path, true)
    });
    // A mount that goes takes those below it along, so that the order does not matter.
    let gone = all_within(lazily, work.collect());
    let there = end::mounts().unwrap_or_default();
    let mut rests = Vec::new();
    for (mount, gone) in mounts.iter().zip(gone) {
        let (text, hung) = match came(mount) {
            _ if later.contains(&mount.device) => (
                "a mount of a file system whose turn is later".to_owned(),
                false,
            ),
            None if mount.read_only => ("read-only before".to_owned(), false),
            None => ("in memory".to_owned(), false),
            Some(Some(Ok(how))) => (how.to_owned(), false),
            Some(Some(Err(why))) => (format!("STILL WRITABLE: {why}"), false),
            Some(None) => (
                format!(
                    "STILL WRITABLE: it hung for {} s while it was made read-only",
                    bound.as_secs()
                ),
                true,
            ),
        };
        let gone = match gone {
            Some(Err(_)) if !there.iter().any(|one| one.id == mount.id) => Some(Ok(())),
            gone => gone,
        };
        rests.push(Rest {
            mount: mount.clone(),
            safe: text,
            hung: hung || gone.is_none(),
            lazily: gone,
        });
    }
    rests
}

fn needs_it(mount: &MountEntry) -> bool {
    let read_only = mount.super_options.split(',').any(|option| option == "ro");
    !read_only && !IN_MEMORY.contains(&mount.fstype.as_str())
}

/// Carries out all of `work` at a time; what each came to, or `None` where it did not within
/// `bound`.
fn all_within<T: Send + 'static>(
    bound: Duration,
    work: Vec<impl FnOnce() -> T + Send + 'static>,
) -> Vec<Option<T>> {
    let mut came: Vec<Option<T>> = work.iter().map(|_| None).collect();
    let (done, answers) = mpsc::channel();
    let mut begun = 0_usize;
    for (at, one) in work.into_iter().enumerate() {
        let done = done.clone();
        begun += usize::from(bounded::begin(move || {
            // Nobody waits for it any more past the bound.
            let _ = done.send((at, one()));
        }));
    }
    let began = clock::boot_now();
    while begun > 0 {
        let spent = clock::since(began);
        let Ok((at, what)) = answers.recv_timeout(bound.saturating_sub(spent)) else {
            break;
        };
        begun -= 1;
        if let Some(place) = came.get_mut(at) {
            *place = Some(what);
        }
    }
    came
}

/// Read-only, or frozen where a file is still open for writing or was removed while it was open
/// (our own program, after an upgrade): either way everything is written out. **May hang.**
///
/// # Errors
/// Why it is neither.
pub(super) fn safe(machine: Machine, path: &Path) -> Result<&'static str, String> {
    let refused = match end::make_read_only(machine, path) {
        Ok(()) => return Ok("read-only"),
        Err(error) => error,
    };
    match end::freeze(machine, path) {
        Ok(()) => Ok("frozen with everything written out (it could not be made read-only)"),
        // FIFREEZE's answer where that was done before.
        Err(error) if error.is(Errno::EBUSY) => Ok("frozen before, with everything written out"),
        Err(error) => Err(format!("failed to {refused}, and failed to {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_hangs_takes_nothing_from_the_others() {
        let (_keep, never) = mpsc::channel::<()>();
        let hung: Box<dyn FnOnce() -> u32 + Send> = Box::new(move || {
            let _ = never.recv();
            0
        });
        let work: Vec<Box<dyn FnOnce() -> u32 + Send>> = vec![Box::new(|| 1), hung, Box::new(|| 3)];
        assert_eq!(
            all_within(Duration::from_secs(2), work),
            [Some(1), None, Some(3)]
        );
    }
}
