//! What can be written on the command line.

mod values;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use super::called::{Called, ZINIT_CONFIG_DIR, ZINIT_SOCKET};
use super::run::Demand;
use crate::config;
use crate::driver::{Guarantee, Resources, Surroundings};
use crate::web;

pub(super) use values::{duration, positive};
use values::{group, interval, lines, moment, receipts};

#[derive(Debug, Parser)]
#[command(
    name = "nought",
    version,
    about = "A service supervisor that proves nothing is left running",
    after_help = "Without a command: list. Exit codes: 0 verified or done, 1 refused or failed, \
                  2 wrong usage, 3 lingering, 4 unverified; of several, the first of 1, 3, 4."
)]
pub(super) struct Cli {
    /// The supervisor's socket [default: $NOUGHT_SOCKET; else /run/nought.sock, or
    /// $XDG_RUNTIME_DIR/nought.sock for ordinary users]
    #[arg(short, long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Show on stderr what is sent and received
    #[arg(short, long, global = true)]
    debug: bool,
    /// One JSON document per line on stdout
    #[arg(long, global = true)]
    json: bool,
    /// Wait no longer than this for an answer [default: 5s, or as long as a start or stop takes]
    #[arg(long, global = true, value_name = "D", value_parser = duration)]
    timeout: Option<Duration>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the supervisor
    Init(Init),
    /// Run one command and leave nothing of it behind
    Run(Box<super::run::Run>),
    #[command(flatten)]
    Client(ClientCommand),
}

/// What asks a supervisor, or needs none.
#[derive(Debug, Subcommand)]
pub(super) enum ClientCommand {
    /// List every service
    List,
    /// Show services: what they do, since when and why; without a name all, and the supervisor
    Status {
        /// The services; none: all of them
        #[arg(value_name = "SERVICE")]
        services: Vec<String>,
    },
    /// Start services and wait until they are ready
    Start {
        #[command(flatten)]
        names: Names,
        /// Start although an earlier generation lingers
        #[arg(long)]
        force: bool,
    },
    /// Stop services and say what is proven
    Stop {
        #[command(flatten)]
        names: Names,
        /// Go on although a dependent lingers
        #[arg(long)]
        force: bool,
        /// Stop everything that waits for them, too, and first
        #[arg(long)]
        with_dependents: bool,
    },
    /// Stop services and start them again
    Restart {
        #[command(flatten)]
        names: Names,
    },
    /// Read the service files again and bring about what changed; untouched services never notice.
    /// With names: have these services read their own configuration again
    Reload {
        /// Services that are to read their own configuration again, as the `reload` of their files
        /// says; none: the directory of service files is read again
        #[arg(value_name = "SERVICE", conflicts_with = "dry_run")]
        services: Vec<String>,
        /// Only show what would change
        #[arg(long)]
        dry_run: bool,
    },
    /// Take in services whose files are new
    Monitor {
        /// The services
        #[arg(required = true, value_name = "SERVICE")]
        services: Vec<String>,
    },
    /// Take out services that are down
    Forget {
        /// The services
        #[arg(required = true, value_name = "SERVICE")]
        services: Vec<String>,
    },
    /// Send a signal to a service's process group, and nothing more
    Kill {
        /// The service
        service: String,
        /// The signal: a name such as SIGHUP or hup, or a number
        signal: String,
    },
    /// Show what a service uses: memory, processor time, processes
    Stats {
        /// The service
        service: String,
    },
    /// Show services with their processes and what they depend on
    Tree {
        /// The services; none: all of them
        #[arg(value_name = "SERVICE")]
        services: Vec<String>,
    },
    /// Watch services on the terminal: what they do and use, their logs; start and stop them
    Top(Top),
    /// Explain why a service is in its state, down to whatever it waits for
    Why {
        /// The service
        service: String,
    },
    /// Show what a stop or a shutdown would do, without doing it
    Plan {
        #[command(subcommand)]
        what: PlanWhat,
    },
    /// Show who waited for whom, and how long, at the start or at the last shutdown
    Timeline {
        /// Of what
        #[arg(value_enum, default_value_t)]
        what: TimelineWhat,
        /// With shutdown: where the receipts are [default: the socket's, below /run/nought or
        /// $XDG_RUNTIME_DIR/nought]
        #[arg(long, value_name = "DIR")]
        state_dir: Option<PathBuf>,
        /// Draw it into this file instead
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// Show which services took longest to become ready
    Blame,
    /// Show what depends on what, and the states
    Graph {
        /// In Graphviz's language
        #[arg(long, conflicts_with = "svg")]
        dot: bool,
        /// Draw it into this file instead
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// Show what a service's last stop did, saw and proved
    Receipt {
        /// The service
        service: String,
        /// Show this many, the newest last
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = receipts)]
        last: u32,
    },
    /// Show the log lines that are kept, and with -f those to come
    Log(Log),
    /// Exit with 0 when every wanted service is up or done (for exec probes), else with 1
    Health {
        /// Ask only whether the supervisor answers
        #[arg(long)]
        live: bool,
    },
    /// Stop everything, then power off (as PID 1 of a machine) or exit
    #[command(
        after_help = "Called by this name (a link): shutdown [-h|-P|-r|-H] now: power off (-h, -P), \
                      reboot (-r) or halt (-H)."
    )]
    Shutdown,
    /// The same as shutdown
    Poweroff,
    /// Stop everything, then reboot (as PID 1 of a machine) or exit
    Reboot,
    /// Stop everything, then halt with the power on (as PID 1 of a machine) or exit
    Halt,
    /// Stop everything, then start the kernel that kexec(8) loaded (as PID 1 of a machine) or exit
    Kexec,
    /// Show what this place can promise, why not more, and what to change
    Doctor(Doctor),
    /// Read the service files and list every problem, without a supervisor
    Check {
        /// The directory of service files [default: /etc/nought]
        #[arg(short, long, value_name = "DIR")]
        config: Option<PathBuf>,
    },
    /// Serve HTTP in front of the supervisor's socket, until Ctrl-C
    Proxy(Proxy),
    /// Print the JSON schema of service files, for editors
    Schema,
    /// Print a shell's completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man {
        /// Write the pages of every command into this directory instead
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// What a timeline is of.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub(super) enum TimelineWhat {
    /// The starts of all that run
    #[default]
    Boot,
    /// The last shutdown
    Shutdown,
}

#[derive(Debug, Subcommand)]
pub(super) enum PlanWhat {
    /// Everything stops
    Shutdown {
        /// How it would go within this [default: the supervisor's own deadline]
        #[arg(long, value_name = "D", value_parser = duration)]
        deadline: Option<Duration>,
    },
    /// One service stops, and whatever requires it
    Stop {
        /// The service
        service: String,
        /// Everything else that waits for it stops, too
        #[arg(long)]
        with_dependents: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct Names {
    /// The services
    #[arg(required = true, value_name = "SERVICE")]
    pub(super) names: Vec<String>,
    /// Do not wait for what comes of it
    #[arg(long)]
    pub(super) no_wait: bool,
    /// Wait (as it does without; called as zinit, start and restart do so with this alone)
    #[arg(long, conflicts_with = "no_wait")]
    wait: bool,
}

impl Names {
    /// Whether a start waits until something has come of it: zinit's does not.
    pub(super) fn waits(&self, called: Called) -> bool {
        self.wait || (!self.no_wait && called == Called::Nought)
    }
}

#[derive(Debug, Args)]
pub(super) struct Log {
    /// The services (or NAME/test, NAME/health, NAME/stop, NAME/reload); none: all of them
    #[arg(value_name = "SERVICE")]
    pub(super) services: Vec<String>,
    /// Go on with the lines to come
    #[arg(short, long, conflicts_with = "snapshot")]
    pub(super) follow: bool,
    /// Show what is kept and end (what it does without -f; called as zinit, it follows without)
    #[arg(short, long)]
    pub(super) snapshot: bool,
    /// At most this many of the lines that are kept, the newest
    #[arg(short = 'n', long, value_name = "N", value_parser = lines)]
    pub(super) lines: Option<u32>,
    /// Only what was said since then: so long ago (5m), or a time in UTC (2026-11-23 05:00:00)
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub(super) since: Option<SystemTime>,
    /// Only lines that match this regular expression
    #[arg(long, value_name = "REGEX", value_parser = regex_lite::Regex::new)]
    pub(super) grep: Option<regex_lite::Regex>,
    /// Show when each line was read
    #[arg(short, long)]
    pub(super) times: bool,
    // The same id as the global one, so that `-s` is free here.
    /// The supervisor's socket
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Top {
    /// How often to look
    #[arg(short = 'n', long, value_name = "D", value_parser = interval, default_value = "1s")]
    pub(super) interval: Duration,
    /// Print one picture as text, after one interval, and end. With --json a document; without
    /// --once and with --json one for each interval
    #[arg(long)]
    pub(super) once: bool,
}

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// End, with proof, what supervisors that were killed left behind, and what killed `nought run`s
    /// left below the cgroup we are in
    #[arg(long)]
    pub(super) clean: bool,
    /// With --clean: look into this state directory [default: that of the socket if `-s` is
    /// given, else every one below /run/nought or $XDG_RUNTIME_DIR/nought]
    #[arg(long, value_name = "DIR", requires = "clean")]
    pub(super) state_dir: Option<PathBuf>,
    /// With --clean: end what is left within this
    #[arg(long, value_name = "D", value_parser = duration, default_value = "90s")]
    pub(super) deadline: Duration,
    /// Exit with 1 where less than this can be promised: `cgroup-kill`, `marked`, or both
    #[arg(long, value_name = "LEVEL", value_parser = Guarantee::asked_for)]
    pub(super) min_guarantee: Option<Guarantee>,
    /// Give the advice for a `host`, a `container` or a `pod` [default: what this place seems to be]
    #[arg(long, value_name = "PLACE", value_parser = Surroundings::named)]
    pub(super) place: Option<Surroundings>,
    /// Whether the socket was named: then only its supervisor is meant
    #[arg(skip)]
    pub(super) one_socket: bool,
}

#[derive(Debug, Args)]
pub(super) struct Proxy {
    /// Where: an address with its port, or a port of 127.0.0.1
    #[arg(short, long, value_name = "ADDRESS:PORT", value_parser = web::address,
          default_value = "127.0.0.1:8080")]
    pub(super) address: SocketAddr,
    /// Let nobody change anything
    #[arg(long)]
    pub(super) read_only: bool,
    /// Write the token into this file [default: proxy-PORT.token below /run/nought or
    /// $XDG_RUNTIME_DIR/nought]
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Init {
    /// The directory of service files [default: /etc/nought]
    #[arg(short, long, value_name = "DIR")]
    config: Option<PathBuf>,
    /// Exit after a shutdown, never reboot(2)
    #[arg(long)]
    container: bool,
    /// A shutdown ends within this [default: $NOUGHT_DEADLINE; else 25s with --container, 90s without]
    #[arg(long, value_name = "D", value_parser = positive)]
    deadline: Option<Duration>,
    /// Where records and receipts are kept [default: a directory of its own below /run/nought,
    /// or below $XDG_RUNTIME_DIR]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Refuse to start where less than this can be promised: `cgroup-kill`, `marked`, or both
    #[arg(long, value_name = "LEVEL", value_parser = Guarantee::asked_for)]
    min_guarantee: Option<Guarantee>,
    /// How much memory all services together may use (`512M`, `2G`); beyond that the kernel kills
    /// among them
    #[arg(long, value_name = "BYTES", value_parser = super::run::bytes)]
    memory: Option<u64>,
    /// How much processor time they may use together: a number of processors (`1.5`, `150%`)
    #[arg(long, value_name = "N", value_parser = super::run::processors)]
    cpus: Option<u64>,
    /// How many processes and threads they may be together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4_194_304))]
    pids: Option<u64>,
    /// What a limit means that cannot be enforced here
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = Demand::Required)]
    limits: Demand,
    /// As PID 1 of a machine: have /dev/watchdog reset it when we stand still for this long
    #[arg(long, value_name = "D", value_parser = duration)]
    watchdog: Option<Duration>,
    /// Lines kept in memory for each service [default: 2000 within 64 KiB]
    #[arg(short, long, value_name = "LINES", value_parser = lines)]
    buffer: Option<u32>,
    /// Bring about what changes in the service files when they change
    #[arg(long)]
    watch: bool,
    /// Let this group use the socket, too: its file gets mode 0660
    #[arg(long, value_name = "GROUP", value_parser = group)]
    socket_group: Option<u32>,
    /// Serve a status page, JSON-RPC, /livez, /readyz, /startupz and /metrics over HTTP on this
    /// address [default: $NOUGHT_HTTP]
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Option<SocketAddr>,
    /// Let nobody change anything over HTTP
    #[arg(long)]
    http_read_only: bool,
    /// Write the verdict on the whole, as JSON, into this file at the end, if it is there
    /// [default: $NOUGHT_TERMINATION_LOG; else /dev/termination-log with --container]
    #[arg(long, value_name = "FILE")]
    termination_log: Option<PathBuf>,
}

/// What `nought init` was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitArgs {
    /// The directory of service files.
    pub config_dir: PathBuf,
    /// The control socket.
    pub socket: PathBuf,
    /// Exit after a shutdown, never reboot(2).
    pub container: bool,
    /// A shutdown ends within this; none: 25 s in container mode, 90 s elsewhere.
    pub deadline: Option<Duration>,
    /// Where records and receipts are kept; none: derived from the socket's path.
    pub state_dir: Option<PathBuf>,
    /// How long a hardware watchdog waits for us, as PID 1 of a machine.
    pub watchdog: Option<Duration>,
    /// Lines kept in memory for each service; none: as many as usual.
    pub ring_lines: Option<usize>,
    /// A group whose members may use the socket.
    pub socket_group: Option<u32>,
    /// Bring about what changes in the service files when they change.
    pub watch: bool,
    /// Whose service files they are.
    pub dialect: config::Dialect,
    /// Where HTTP is served; none: nowhere.
    pub http: Option<SocketAddr>,
    /// Nobody may change anything over HTTP.
    pub http_read_only: bool,
    /// Where the verdict on the whole is written at the end; none: nowhere, or with `container`
    /// where Kubernetes reads it.
    pub termination_log: Option<PathBuf>,
    /// Log more.
    pub debug: bool,
    /// Refuse to start where less can be promised.
    pub min_guarantee: Option<Guarantee>,
    /// What all services may use together.
    pub together: Resources,
}

/// What every client command needs.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) socket: PathBuf,
    pub(super) debug: bool,
    pub(super) json: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) called: Called,
}

impl Options {
    /// The directory of service files when none is named.
    pub(super) fn config_dir(&self) -> PathBuf {
        self.called.config_dir()
    }
}

pub(super) enum Task {
    Init(InitArgs),
    Run(Box<super::run::RunArgs>),
    Client(Options, ClientCommand),
}

impl Cli {
    /// Reads a command line; the help names the defaults of whom we are called as.
    pub(super) fn parse_called(called: Called, argv: &[OsString]) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        if called == Called::Zinit {
            let files = format!("The directory of service files [default: {ZINIT_CONFIG_DIR}]");
            let socket = format!("The supervisor's socket [default: {ZINIT_SOCKET}]");
            command = command.mut_arg("socket", |arg| arg.help(socket));
            for name in ["init", "check"] {
                let files = files.clone();
                command = command.mut_subcommand(name, |command| {
                    command.mut_arg("config", |arg| arg.help(files))
                });
            }
        }
        Self::from_arg_matches(&command.try_get_matches_from(argv)?)
    }

    pub(super) fn split(self, called: Called) -> Task {
        let one_socket = self.socket.is_some();
        let socket = self.socket.unwrap_or_else(|| called.socket());
        match self.command.unwrap_or(Command::Client(ClientCommand::List)) {
            Command::Init(init) => Task::Init(InitArgs {
                config_dir: init.config.unwrap_or_else(|| called.config_dir()),
                socket,
                container: init.container,
                deadline: init.deadline,
                state_dir: init.state_dir,
                watchdog: init.watchdog,
                ring_lines: init
                    .buffer
                    .map(|lines| usize::try_from(lines).unwrap_or(usize::MAX)),
                socket_group: init.socket_group,
                watch: init.watch,
                dialect: called.dialect(),
                http: init.http,
                http_read_only: init.http_read_only,
                termination_log: init.termination_log,
                debug: self.debug,
                min_guarantee: init.min_guarantee,
                together: Resources {
                    memory_max: init.memory,
                    cpu_max: init.cpus,
                    pids_max: init.pids,
                    optional: init.limits == Demand::Optional,
                    ..Resources::default()
                },
            }),
            Command::Run(run) => Task::Run(Box::new(run.into_args())),
            Command::Client(mut command) => {
                if let ClientCommand::Doctor(doctor) = &mut command {
                    doctor.one_socket = one_socket;
                }
                let options = Options {
                    socket,
                    debug: self.debug,
                    json: self.json,
                    timeout: self.timeout,
                    called,
                };
                Task::Client(options, command)
            }
        }
    }
}

#[cfg(test)]
mod tests;
