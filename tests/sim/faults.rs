//! What may go wrong in a run, and how often: each seed turns on a handful of these.

use crate::dice::Dice;

/// Likelihoods per mille.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    // The start.
    pub spawn_fails: u32,
    pub spawn_hangs: u32,
    pub exec_fails: u32,
    pub exec_hangs: u32,
    // The service.
    pub early_exit: u32,
    pub ignores_signal: u32,
    pub slow_to_obey: u32,
    pub children: u32,
    pub leaves_children: u32,
    pub forks_later: u32,
    pub unkillable: u32,
    pub slow_to_die: u32,
    pub escapes: u32,
    /// Of those that escape: so that nothing tells whose they are.
    pub disguises: u32,
    pub relays: u32,
    pub returns: u32,
    pub main_escapes: u32,
    /// It does not say that it is alive.
    pub mute: u32,
    // Auxiliary commands.
    pub test_fails: u32,
    pub test_hangs: u32,
    pub test_cannot_run: u32,
    pub stop_command_hangs: u32,
    pub stop_command_fails: u32,
    // What the driver is asked to do.
    pub op_hangs: u32,
    pub op_fails: u32,
    pub op_slow: u32,
    pub signal_fails: u32,
    // How events come.
    pub duplicated: u32,
    pub stale_hint: u32,
    pub slow_hint: u32,
    pub slow_event: u32,
    // Time.
    pub late_timer: u32,
    pub clock_jump: u32,
    pub stale_now: u32,
    pub spurious_timeout: u32,
    /// Something else on the machine forks: passes are inconclusive.
    pub busy_machine: u32,
    /// The scan can tell less than at start-up.
    pub weak_scan: u32,
    pub foreigners: u32,
    /// The kernel kills a process, soon or late, for want of memory.
    pub out_of_memory: u32,
}

impl Faults {
    /// Nothing goes wrong.
    pub fn none() -> Self {
        Self::default()
    }

    /// A handful of kinds of trouble, now and then with one theme on top.
    pub fn draw(dice: &mut Dice) -> Self {
        let mut faults = Self::handful(dice);
        match dice.below(24) {
            0 | 1 => {
                faults.children = 700;
                faults.leaves_children = 700;
                faults.escapes = 500;
                faults.forks_later = 300;
                faults.relays = 300;
                faults.returns = 500;
                faults.busy_machine = 800;
            }
            2 => {
                faults.op_hangs = 300;
                faults.op_slow = 400;
            }
            3 => {
                faults.early_exit = 700;
                faults.exec_fails = 300;
            }
            4 => {
                faults.unkillable = 400;
                faults.ignores_signal = 700;
            }
            _ => {}
        }
        faults
    }

    fn handful(dice: &mut Dice) -> Self {
        let level = dice.pick(&[0, 150, 300, 600]);
        let mut rate = |most: u32| {
            if dice.chance(level) {
                dice.pick(&[30, 120, 400]).min(most)
            } else {
                0
            }
        };
        Self {
            spawn_fails: rate(400),
            spawn_hangs: rate(120),
            exec_fails: rate(400),
            exec_hangs: rate(120),
            early_exit: rate(400),
            ignores_signal: rate(400),
            slow_to_obey: rate(400),
            children: rate(400),
            leaves_children: rate(400),
            forks_later: rate(400),
            unkillable: rate(120),
            slow_to_die: rate(400),
            escapes: rate(400),
            relays: rate(400),
            returns: rate(400),
            main_escapes: rate(120),
            mute: rate(200),
            test_fails: rate(400),
            test_hangs: rate(120),
            test_cannot_run: rate(120),
            stop_command_hangs: rate(400),
            stop_command_fails: rate(400),
            op_hangs: rate(120),
            op_fails: rate(400),
            op_slow: rate(400),
            signal_fails: rate(400),
            duplicated: rate(400),
            stale_hint: rate(400),
            slow_hint: rate(400),
            slow_event: rate(400),
            late_timer: rate(400),
            clock_jump: rate(30),
            stale_now: rate(400),
            spurious_timeout: rate(120),
            busy_machine: rate(400),
            weak_scan: rate(120),
            foreigners: rate(120),
            disguises: rate(400),
            out_of_memory: rate(400),
        }
    }
}
