//! Descriptors that a service hands over to have them back at its next start (FDSTORE=1,
//! sd_notify(3)): as many as its file says, dropped when it is down for good.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::stat::fstat;

use super::run::Driver;
use crate::core::ServiceId;

/// What a descriptor is called that came without a name.
const UNNAMED: &str = "stored";
/// A name is not longer than this (sd_pid_notify_with_fds(3)).
const NAME_MOST: usize = 255;

/// A descriptor that is kept.
#[derive(Debug)]
pub(super) struct Stored {
    name: String,
    descriptor: OwnedFd,
    /// What it is open on, by its device and inode, to know it again.
    file: Option<(u64, u64)>,
}

impl Stored {
    pub(super) fn named(&self) -> (&str, BorrowedFd<'_>) {
        (&self.name, self.descriptor.as_fd())
    }
}

/// What a message says of descriptors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Store {
    /// Those that came with it are to be kept under this name.
    Keep(String),
    /// All of this name are to be closed.
    Remove(String),
    /// It has no name that a descriptor may have, or none at all to remove.
    Misnamed,
}

impl Store {
    pub(super) fn read(text: &str) -> Option<Self> {
        let says = |wanted: &str| text.lines().any(|line| line == wanted);
        let name = text.lines().find_map(|line| line.strip_prefix("FDNAME="));
        let fits = |name: &str| {
            let plain = |b: u8| (b == b' ' || b.is_ascii_graphic()) && b != b':';
            name.len() <= NAME_MOST && !name.is_empty() && name.bytes().all(plain)
        };
        match (says("FDSTOREREMOVE=1"), says("FDSTORE=1"), name) {
            (false, false, _) => None,
            (_, _, Some(name)) if !fits(name) => Some(Store::Misnamed),
            (true, _, Some(name)) => Some(Store::Remove(name.into())),
            (true, _, None) => Some(Store::Misnamed),
            (false, true, name) => Some(Store::Keep(name.unwrap_or(UNNAMED).into())),
        }
    }
}

impl Driver {
    /// A process of the service asks for it.
    pub(super) fn store_descriptors(
        &mut self,
        service: ServiceId,
        store: Store,
        descriptors: Vec<OwnedFd>,
    ) {
        let Some(spec) = self.core.spec(service) else {
            return self.drop_descriptors(descriptors);
        };
        let name = spec.name.clone();
        let most = usize::try_from(spec.fd_store).unwrap_or(usize::MAX);
        if !self.core.holds(service) {
            tracing::warn!("{name}: it stores descriptors while it goes down for good: closed");
            return self.drop_descriptors(descriptors);
        }
        let kept = self.open.entry(service).or_default();
        let mut closed = Vec::new();
        match store {
            Store::Remove(of) => {
                let (gone, stay) = std::mem::take(&mut kept.stored)
                    .into_iter()
                    .partition(|stored: &Stored| stored.name == of);
                kept.stored = stay;
                self.drop_stored(gone);
                closed = descriptors;
            }
            Store::Misnamed => {
                tracing::warn!(
                    "{name}: ignored what it says of descriptors: FDNAME= is 1 to {NAME_MOST} \
                     printable characters without `:`"
                );
                closed = descriptors;
            }
            Store::Keep(of) => {
                let mut refused = 0;
                for descriptor in descriptors {
                    let found = fstat(&descriptor).ok();
                    let file = found.map(|found| (found.st_dev, found.st_ino));
                    let known = |stored: &Stored| file.is_some() && stored.file == file;
                    if kept.stored.iter().any(known) {
                        closed.push(descriptor);
                    } else if kept.stored.len() >= most {
                        refused += 1;
                        closed.push(descriptor);
                    } else {
                        let name = of.clone();
                        let stored = Stored {
                            name,
                            descriptor,
                            file,
                        };
                        kept.stored.push(stored);
                    }
                }
                if refused > 0 {
                    tracing::warn!(
                        "{name}: {refused} of the descriptors it stores were closed: its \
                         `fd_store` is {most}"
                    );
                }
            }
        }
        self.drop_descriptors(closed);
    }

    pub(super) fn drop_stored(&self, stored: Vec<Stored>) {
        self.drop_descriptors(stored.into_iter().map(|stored| stored.descriptor).collect());
    }

    /// Closes what others opened: that may take its time (SO_LINGER, a file system that does not
    /// answer), so not on the loop.
    pub(super) fn drop_descriptors(&self, descriptors: Vec<OwnedFd>) {
        if !descriptors.is_empty() {
            self.threads.run(move || drop(descriptors));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_message_says_of_descriptors() {
        let keep = |name: &str| Some(Store::Keep(name.into()));
        assert_eq!(Store::read("READY=1\nFDSTORE=1\nFDNAME=a b"), keep("a b"));
        assert_eq!(Store::read("FDSTORE=1"), keep("stored"));
        assert_eq!(Store::read("READY=1\nFDNAME=a"), None);
        let remove = Some(Store::Remove("a".into()));
        assert_eq!(Store::read("FDSTOREREMOVE=1\nFDNAME=a"), remove);
        for odd in [
            "FDSTOREREMOVE=1",
            "FDSTORE=1\nFDNAME=a:b",
            "FDSTORE=1\nFDNAME=",
        ] {
            assert_eq!(Store::read(odd), Some(Store::Misnamed), "{odd}");
        }
    }
}
