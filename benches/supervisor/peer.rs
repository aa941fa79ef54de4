//! dinit, measured beside ours with services of the same kind.

use crate::Options;
use crate::report::Report;
pub(crate) fn stop(_: &Options, _: &mut Report) {}
pub(crate) fn many(_: &Options, _: &mut Report, _: u32) {}
pub(crate) fn memory(_: &Options, _: &mut Report) {}
pub(crate) fn idle(_: &mut Report) {}
pub(crate) fn restart(_: &Options, _: &mut Report) {}
