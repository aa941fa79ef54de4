//! Planted bugs: compiled into tests alone, so that the simulation can show that it bites.
//!
//! A hook is a statement under `#[cfg(test)]`; tests/planted compiles this very source with them.
//! The library and the binary hold neither the hooks nor this module.

use std::cell::Cell;

/// A mistake that somebody could make here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A stop does not wait for dependents.
    NoDependentsGuard,
    /// A stop waits for direct dependents alone, not for those behind what is inactive.
    DirectDependentsOnly,
    /// A start does not wait for its dependencies.
    NoDependencyGuard,
    /// A start looks at direct requirements alone, not at those behind what is done.
    DirectRequirementsOnly,
    /// What is required by what is done and was forgotten since counts as ready.
    ForgottenIsReady,
    /// A start does not wait for leftovers.
    StartBeforeLeftovers,
    /// The verdict falls after the scan; nobody removes the cgroup.
    VerifiedBeforeFence,
    /// An empty reading stands for the scan.
    HintIsProof,
    /// An escapee was killed, and nobody looks for the next.
    ScannedOnce,
    /// A pass that met somebody who ended in time counts as one that met nobody.
    MetIsNobody,
    /// Empty passes before a kill count after it.
    PassesAcrossKill,
    /// The proof does not wait for a start that is still under way.
    StartForgotten,
    /// The kill comes without the polite signal.
    KillUnasked,
    /// The grace is half as long as the file says.
    GraceCut,
    /// A stop that is taken back is not answered.
    LostReply,
    /// A lingering service starts again.
    TwoGenerations,
    /// What becomes ready keeps the timer of its start.
    StaleTimer,
    /// The shutdown's deadline is never set.
    DeadlineIgnored,
    /// The second release of a generation.
    ReleasedTwice,
    /// A hint after the verdict of lingering is not looked into.
    HintLost,
    /// In a shutdown each takes what it wishes, and those after it what is left.
    GreedyShares,
    /// The end of what a main process left running is not noticed.
    RemainsUnwatched,
    /// An essential service ends, and everything goes on.
    EndIgnored,
    /// Somebody connects to what starts on demand, and nothing starts.
    DemandIgnored,
    /// A service has stopped for good, and its sockets stay open.
    SocketsStayOpen,
    /// A reload that a stop overtakes is not answered.
    ReloadUnanswered,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 26] = [
        Bug::NoDependentsGuard,
        Bug::DirectDependentsOnly,
        Bug::NoDependencyGuard,
        Bug::DirectRequirementsOnly,
        Bug::ForgottenIsReady,
        Bug::StartBeforeLeftovers,
        Bug::VerifiedBeforeFence,
        Bug::HintIsProof,
        Bug::ScannedOnce,
        Bug::MetIsNobody,
        Bug::PassesAcrossKill,
        Bug::StartForgotten,
        Bug::KillUnasked,
        Bug::GraceCut,
        Bug::LostReply,
        Bug::TwoGenerations,
        Bug::StaleTimer,
        Bug::DeadlineIgnored,
        Bug::ReleasedTwice,
        Bug::HintLost,
        Bug::GreedyShares,
        Bug::RemainsUnwatched,
        Bug::EndIgnored,
        Bug::DemandIgnored,
        Bug::SocketsStayOpen,
        Bug::ReloadUnanswered,
    ];
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// From now on this thread's supervisors have this bug, or none.
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

pub(super) fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}
