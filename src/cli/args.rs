//! What can be written on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::config;

/// Where service files are, unless `-c` says otherwise.
pub const DEFAULT_CONFIG_DIR: &str = "/etc/nought";

/// The socket when `-s` names none: `$NOUGHT_SOCKET`; else `/run/nought.sock` for root, and for
/// others `$XDG_RUNTIME_DIR/nought.sock` where that directory is set.
pub fn default_socket() -> PathBuf {
    if let Some(socket) = std::env::var_os("NOUGHT_SOCKET").filter(|path| !path.is_empty()) {
        return socket.into();
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty());
    match runtime {
        Some(dir) if !nix::unistd::geteuid().is_root() => PathBuf::from(dir).join("nought.sock"),
        _ => "/run/nought.sock".into(),
    }
}

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
    #[command(flatten)]
    Client(ClientCommand),
}

/// What asks a supervisor, or needs none.
#[derive(Debug, Subcommand)]
pub(super) enum ClientCommand {
    /// List every service
    List,
    /// Show a service, or the supervisor
    Status {
        /// The service; none: the supervisor and what it can promise
        service: Option<String>,
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
    },
    /// Stop services and start them again
    Restart {
        #[command(flatten)]
        names: Names,
    },
    /// Show what a service's last stop did, saw and proved
    Receipt {
        /// The service
        service: String,
        /// Show this many, the newest last
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        last: u32,
    },
    /// Show the log lines that are kept
    Log(Log),
    /// Exit with 0 when every wanted service is up or done (for exec probes), else with 1
    Health {
        /// Ask only whether the supervisor answers
        #[arg(long)]
        live: bool,
    },
    /// Stop everything, then power off (as PID 1 of a machine) or exit
    Shutdown,
    /// Stop everything, then reboot (as PID 1 of a machine) or exit
    Reboot,
    /// Read the service files and list every problem, without a supervisor
    Check {
        /// The directory of service files
        #[arg(short, long, value_name = "DIR", default_value = DEFAULT_CONFIG_DIR)]
        config: PathBuf,
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
}

#[derive(Debug, Args)]
pub(super) struct Log {
    /// The service; none: all of them
    pub(super) service: Option<String>,
    /// Show what is kept and end (what it always does, for zinit's callers)
    #[arg(short, long)]
    snapshot: bool,
    /// At most this many lines, the newest
    #[arg(short = 'n', long, value_name = "N")]
    pub(super) lines: Option<u32>,
    // The same id as the global one, so that `-s` is free here.
    /// The supervisor's socket
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Init {
    /// The directory of service files
    #[arg(short, long, value_name = "DIR", default_value = DEFAULT_CONFIG_DIR)]
    config: PathBuf,
    /// Exit after a shutdown, never reboot(2)
    #[arg(long)]
    container: bool,
    /// A shutdown ends within this [default: 25s with --container, else 90s]
    #[arg(long, value_name = "D", value_parser = duration, env = "NOUGHT_DEADLINE")]
    deadline: Option<Duration>,
    /// Where records and receipts are kept [default: a directory of its own below /run/nought,
    /// or below $XDG_RUNTIME_DIR]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Serve /livez, /readyz, /startupz and /metrics on this address
    #[arg(long, value_name = "ADDRESS:PORT", env = "NOUGHT_HTTP")]
    http: Option<SocketAddr>,
    /// Write the verdict on the whole, as JSON, into this file at the end, if it is there
    /// [default: /dev/termination-log with --container]
    #[arg(long, value_name = "FILE", env = "NOUGHT_TERMINATION_LOG")]
    termination_log: Option<PathBuf>,
    /// Lines kept in memory for each service
    #[arg(short, long, value_name = "LINES", default_value_t = 2000)]
    buffer: u32,
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
    /// Lines kept in memory for each service.
    pub ring_lines: usize,
    /// Where probes and metrics are served; none: nowhere.
    pub http: Option<SocketAddr>,
    /// Where the verdict on the whole is written at the end; none: nowhere, or with `container`
    /// where Kubernetes reads it.
    pub termination_log: Option<PathBuf>,
    /// Log more.
    pub debug: bool,
}

/// What every client command needs.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) socket: PathBuf,
    pub(super) debug: bool,
    pub(super) json: bool,
    pub(super) timeout: Option<Duration>,
}

pub(super) enum Task {
    Init(InitArgs),
    Client(Options, ClientCommand),
}

impl Cli {
    pub(super) fn split(self) -> Task {
        let socket = self.socket.unwrap_or_else(default_socket);
        match self.command.unwrap_or(Command::Client(ClientCommand::List)) {
            Command::Init(init) => Task::Init(InitArgs {
                config_dir: init.config,
                socket,
                container: init.container,
                deadline: init.deadline,
                state_dir: init.state_dir,
                ring_lines: usize::try_from(init.buffer).unwrap_or(usize::MAX),
                http: init.http,
                termination_log: init.termination_log,
                debug: self.debug,
            }),
            Command::Client(command) => {
                let options = Options {
                    socket,
                    debug: self.debug,
                    json: self.json,
                    timeout: self.timeout,
                };
                Task::Client(options, command)
            }
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    config::parse_duration(text).ok_or_else(|| {
        "write whole seconds (`10`) or a number with its unit: `250ms`, `1.5s`, `2m`".into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn parsed(words: &[&str]) -> Task {
        let argv = std::iter::once("nought").chain(words.iter().copied());
        Cli::try_parse_from(argv).unwrap().split()
    }

    fn client(words: &[&str]) -> (Options, ClientCommand) {
        match parsed(words) {
            Task::Client(options, command) => (options, command),
            Task::Init(args) => panic!("{args:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_socket_goes_before_and_after_the_command() {
        for words in [
            &["-s", "/x"][..],
            &["-s", "/x", "list"],
            &["list", "-s", "/x"],
            &["status", "web", "--socket", "/x"],
            &["--socket", "/x", "stop", "a", "b"],
            &["-s", "/x", "log", "-s", "web"],
            &["log", "web", "-s", "--socket", "/x"],
        ] {
            assert_eq!(client(words).0.socket, PathBuf::from("/x"), "{words:?}");
        }
    }

    #[test]
    fn after_log_it_is_snapshot() {
        let (options, command) = client(&["log", "-s", "web"]);
        assert_eq!(options.socket, default_socket());
        let ClientCommand::Log(log) = command else {
            panic!("{command:?}");
        };
        assert_eq!((log.service.as_deref(), log.snapshot), (Some("web"), true));
    }

    #[test]
    fn init_has_zinits_options_and_ours() {
        let words = "init -c /c -s /s --container --deadline 1m --state-dir /d -b 100 -d \
                     --http 127.0.0.1:9100 --termination-log /t";
        let words: Vec<&str> = words.split(' ').collect();
        let Task::Init(args) = parsed(&words) else {
            panic!("no init");
        };
        assert_eq!(
            args,
            InitArgs {
                config_dir: "/c".into(),
                socket: "/s".into(),
                container: true,
                deadline: Some(Duration::from_secs(60)),
                state_dir: Some("/d".into()),
                ring_lines: 100,
                http: Some(([127, 0, 0, 1], 9100).into()),
                termination_log: Some("/t".into()),
                debug: true,
            }
        );
    }
}
