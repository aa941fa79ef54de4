//! What we are asked for by the name we are called by: zinit's defaults, process 1 as `init`, and
//! `poweroff`, `reboot`, `halt`, `shutdown` as the links of those names have always been.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;

use super::args::Cli;
use crate::config;
use crate::sys::power::Machine;

/// Where service files are, unless `-c` says otherwise.
pub const DEFAULT_CONFIG_DIR: &str = "/etc/nought";
/// The same when called as `zinit`.
pub const ZINIT_CONFIG_DIR: &str = "/etc/zinit";
/// The socket when called as `zinit` and `-s` names none.
pub const ZINIT_SOCKET: &str = "/tmp/zinit.sock";

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

/// Under which name the program was called, and so whose defaults it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Called {
    Nought,
    /// By a link, or as a copy: zinit's directory, socket and `log`.
    Zinit,
}

impl Called {
    pub(super) fn of(program: Option<&OsStr>) -> Self {
        let name = program.map(Path::new).and_then(Path::file_name);
        if name.is_some_and(|name| name == "zinit") {
            Called::Zinit
        } else {
            Called::Nought
        }
    }

    pub(super) fn socket(self) -> PathBuf {
        match self {
            Called::Nought => default_socket(),
            Called::Zinit => ZINIT_SOCKET.into(),
        }
    }

    pub(super) fn config_dir(self) -> PathBuf {
        match self {
            Called::Nought => DEFAULT_CONFIG_DIR.into(),
            Called::Zinit => ZINIT_CONFIG_DIR.into(),
        }
    }

    /// What to do next, in a text of ours, by the name that we are called by: there may be no
    /// program of the other.
    pub(super) fn hints(self, text: String) -> String {
        match self {
            Called::Nought => text,
            // It heeds no variable of ours.
            Called::Zinit => text
                .replace("`nought ", "`zinit ")
                .replace(", or NOUGHT_SOCKET", "")
                .replace(" or NOUGHT_SOCKET", ""),
        }
    }

    pub(super) fn dialect(self) -> config::Dialect {
        match self {
            Called::Nought => config::Dialect::Nought,
            Called::Zinit => config::Dialect::Zinit,
        }
    }
}

/// Whose process 1 we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// Nobody's: an ordinary process.
    No,
    /// A pid namespace's, as in a container.
    Namespace,
    /// The kernel's: whatever the words are, they mean `init`, and nothing ends us but the
    /// machine's end.
    Machine,
}

impl First {
    /// By asking the kernel.
    pub(super) fn of_us() -> Self {
        match std::process::id() {
            1 if Machine::take().is_ok() => First::Machine,
            1 => First::Namespace,
            _ => First::No,
        }
    }
}

/// The command line as if we had been called `nought`.
///
/// # Errors
/// What cannot be meant, in words.
pub(super) fn by_name(argv: Vec<OsString>, first: First) -> Result<Vec<OsString>, String> {
    let mut argv = argv.into_iter();
    let program = argv.next().unwrap_or_else(|| "nought".into());
    let name = Path::new(&program)
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let rest: Vec<OsString> = argv.collect();
    let asks = rest.iter().any(|word| word == "--help");
    let command = match name.as_deref() {
        _ if first == First::Machine => return Ok(init(program, rest)),
        Some("init") if first == First::Namespace => return Ok(init(program, rest)),
        _ if first == First::Namespace && !is_ours(&rest) => return Ok(init(program, rest)),
        Some(end @ ("poweroff" | "reboot" | "halt" | "shutdown")) if asks => {
            let end = end.into();
            return Ok(vec![program, end, "--help".into()]);
        }
        Some("init") => as_telinit(&rest)?,
        Some("poweroff") => plain("poweroff", &rest)?,
        Some("reboot") => plain("reboot", &rest)?,
        Some("halt") => plain("halt", &rest)?,
        Some("shutdown") => as_shutdown(&rest)?,
        _ => return Ok(std::iter::once(program).chain(rest).collect()),
    };
    Ok(vec![program, command.into()])
}

/// A container's process 1 was given a command of ours, as a container's entry point is.
fn is_ours(rest: &[OsString]) -> bool {
    let Some(word) = rest.first().map(|word| word.to_string_lossy()) else {
        return false;
    };
    word.starts_with('-')
        || Cli::command()
            .get_subcommands()
            .any(|command| command.get_name() == word)
}

/// The kernel hands its process 1 every word of the command line that it does not know itself:
/// ours begin with the first that has a dash.
fn init(program: OsString, rest: Vec<OsString>) -> Vec<OsString> {
    let ours = rest
        .into_iter()
        .skip_while(|word| !word.to_string_lossy().starts_with('-'))
        .filter(|word| word != "--");
    [program, "init".into()].into_iter().chain(ours).collect()
}

/// telinit(8), as far as it means an end.
fn as_telinit(rest: &[OsString]) -> Result<&'static str, String> {
    match rest.first().map(|word| word.to_string_lossy()).as_deref() {
        Some("0") => Ok("poweroff"),
        Some("6") => Ok("reboot"),
        _ => Err(
            "called as `init` and not process 1: only `init 0` and `init 6` mean something; \
                  to run a supervisor: nought init"
                .into(),
        ),
    }
}

fn plain(command: &'static str, rest: &[OsString]) -> Result<&'static str, String> {
    let mut command = command;
    for word in rest {
        command = match &*word.to_string_lossy() {
            "-p" | "--poweroff" => "poweroff",
            "--reboot" => "reboot",
            "--halt" => "halt",
            // What they would leave out is not done here: no wtmp record, no message.
            "-d" | "-w" | "--no-wtmp" | "--no-wall" => command,
            other => {
                return Err(format!(
                    "`{other}` is not known here; everything is stopped and unmounted in bounded \
                     time, so that there is nothing to force"
                ));
            }
        };
    }
    Ok(command)
}

fn as_shutdown(rest: &[OsString]) -> Result<&'static str, String> {
    let mut command = "poweroff";
    for word in rest {
        match &*word.to_string_lossy() {
            "-h" | "-P" | "--poweroff" => command = "poweroff",
            "-r" | "--reboot" => command = "reboot",
            "-H" | "--halt" => command = "halt",
            "--no-wall" => {}
            // What follows the time is a message to users.
            "now" | "+0" => break,
            other => {
                return Err(format!(
                    "`{other}` is not known here; write: shutdown -r now"
                ));
            }
        }
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(words: &str, first: First) -> Result<String, String> {
        let argv = words.split(' ').map(OsString::from).collect();
        let words = by_name(argv, first)?;
        let words = words.iter().map(|word| word.to_string_lossy().into_owned());
        Ok(words.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn the_kernels_words_are_not_ours() {
        for (words, means) in [
            ("/sbin/init", "/sbin/init init"),
            ("/init splash single", "/init init"),
            ("/init splash -- -c /x", "/init init -c /x"),
            ("/nought", "/nought init"),
            ("/nought splash", "/nought init"),
            ("/nought init --watch", "/nought init --watch"),
        ] {
            for first in [First::Machine, First::Namespace] {
                assert_eq!(called(words, first).as_deref(), Ok(means), "{words}");
            }
        }
    }

    #[test]
    fn the_kernel_means_init_whatever_it_says_and_a_container_has_an_entry_point() {
        for (words, machine, namespace) in [
            (
                "/nought --watchdog 30s",
                "/nought init --watchdog 30s",
                "/nought --watchdog 30s",
            ),
            (
                "/nought splash --watchdog 30s",
                "/nought init --watchdog 30s",
                "/nought init --watchdog 30s",
            ),
            (
                "/nought --version",
                "/nought init --version",
                "/nought --version",
            ),
            ("/nought list", "/nought init", "/nought list"),
            (
                "/sbin/poweroff",
                "/sbin/poweroff init",
                "/sbin/poweroff init",
            ),
            (
                "/nought run -- true",
                "/nought init true",
                "/nought run -- true",
            ),
        ] {
            assert_eq!(
                called(words, First::Machine).as_deref(),
                Ok(machine),
                "{words}"
            );
            assert_eq!(
                called(words, First::Namespace).as_deref(),
                Ok(namespace),
                "{words}"
            );
        }
    }

    #[test]
    fn the_names_of_an_end_mean_it() {
        for (words, means) in [
            ("/sbin/poweroff", "/sbin/poweroff poweroff"),
            ("reboot", "reboot reboot"),
            ("halt", "halt halt"),
            ("halt -p", "halt poweroff"),
            ("shutdown -h now", "shutdown poweroff"),
            ("shutdown -r now for a new kernel", "shutdown reboot"),
            ("shutdown -H +0", "shutdown halt"),
            ("init 6", "init reboot"),
            ("shutdown --help", "shutdown shutdown --help"),
            ("reboot --help", "reboot reboot --help"),
            ("nought list", "nought list"),
        ] {
            assert_eq!(called(words, First::No).as_deref(), Ok(means), "{words}");
        }
        for words in ["shutdown -r 23:00", "reboot -f", "init 3", "init -c /x"] {
            assert!(called(words, First::No).is_err(), "{words}");
        }
    }
}
