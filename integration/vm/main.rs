//! Machines: our static binary as process 1 of a virtual machine with Debian's kernel, in QEMU
//! without KVM. Needs qemu-system-x86, busybox-static and apt; integration/run installs them.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so by failing"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "tests start programs and look at the clock"
)]

mod cpio;
mod debian;
mod host;
mod limits;
mod machine;
mod parts;
mod power;
mod suites;
mod surroundings;
mod tiny;
mod trouble;
