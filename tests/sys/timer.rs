//! The clock and its timer.

use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nought::sys::clock::{BootTimer, boot_now, wall_now_ms};

fn fires_within(timer: &BootTimer, bound_ms: u16) -> bool {
    let mut fds = [PollFd::new(timer.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(bound_ms)).unwrap() > 0
}

#[test]
fn it_fires_at_its_moment_and_not_when_unset() {
    let timer = BootTimer::new().unwrap();
    assert!(!fires_within(&timer, 0));
    let at = boot_now() + 3_000_000;
    timer.set(Some(at)).unwrap();
    assert!(fires_within(&timer, 10_000));
    assert!(boot_now() >= at);
    assert!(timer.clear().unwrap());
    assert!(!timer.clear().unwrap());
    assert!(!fires_within(&timer, 0));

    for past in [0, 1, boot_now() - 1] {
        timer.set(Some(past)).unwrap();
        assert!(fires_within(&timer, 10_000), "{past}");
        timer.clear().unwrap();
    }
    timer.set(Some(u64::MAX)).unwrap();
    assert!(!fires_within(&timer, 0));
    timer.set(Some(boot_now() + 1_000_000)).unwrap();
    timer.set(None).unwrap();
    assert!(!fires_within(&timer, 5));
    // Any year but one in which this was not written yet.
    assert!(wall_now_ms() > 1_600_000_000_000);
}
