//! Options that `nought init` also takes from its environment, where an image or a manifest sets
//! them: the command line goes first, and an empty variable is one that is not set.

use std::ffi::{OsStr, OsString};

use super::args::{InitArgs, positive};

impl InitArgs {
    /// Takes what the command line left open from our environment; what is wrong with it, each
    /// with its variable. A wrong one is left open.
    pub(super) fn take_environment(&mut self) -> Vec<String> {
        self.take_variables(|name| std::env::var_os(name))
    }

    fn take_variables(&mut self, read: impl Fn(&str) -> Option<OsString>) -> Vec<String> {
        let value = |name: &str| read(name).filter(|value| !value.is_empty());
        let mut wrong = Vec::new();
        if self.deadline.is_none() {
            self.deadline = value("NOUGHT_DEADLINE").and_then(|text| {
                let read = positive(&text.to_string_lossy());
                noted("NOUGHT_DEADLINE", &text, read, &mut wrong)
            });
        }
        if self.http.is_none() {
            self.http = value("NOUGHT_HTTP").and_then(|text| {
                let read = text.to_string_lossy().parse();
                let read =
                    read.map_err(|_| "write an address with its port: `127.0.0.1:9100`".into());
                noted("NOUGHT_HTTP", &text, read, &mut wrong)
            });
        }
        if self.termination_log.is_none() {
            self.termination_log = value("NOUGHT_TERMINATION_LOG").map(Into::into);
        }
        wrong
    }
}

fn noted<T>(
    name: &str,
    text: &OsStr,
    read: Result<T, String>,
    wrong: &mut Vec<String>,
) -> Option<T> {
    read.map_err(|why| wrong.push(format!("{name}={}: {why}", text.to_string_lossy())))
        .ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser as _;

    use super::super::args::{Cli, Task};
    use super::super::called::Called;
    use super::*;

    fn taken(words: &[&str], variables: &[(&str, &str)]) -> (InitArgs, Vec<String>) {
        let argv = ["nought", "init"].iter().chain(words);
        let Task::Init(mut args) = Cli::try_parse_from(argv).unwrap().split(Called::Nought) else {
            panic!("no init");
        };
        let read = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let wrong = args.take_variables(read);
        (args, wrong)
    }

    #[test]
    fn an_empty_variable_is_unset_and_a_wrong_one_is_named() {
        let (args, wrong) = taken(
            &[],
            &[("NOUGHT_DEADLINE", "8s"), ("NOUGHT_HTTP", "[::1]:80")],
        );
        assert_eq!(args.deadline, Some(Duration::from_secs(8)));
        assert_eq!(args.http, Some("[::1]:80".parse().unwrap()));
        assert!(wrong.is_empty());
        let empty =
            ["NOUGHT_DEADLINE", "NOUGHT_HTTP", "NOUGHT_TERMINATION_LOG"].map(|name| (name, ""));
        let (args, wrong) = taken(&[], &empty);
        assert_eq!(
            (args.deadline, args.http, args.termination_log),
            (None, None, None)
        );
        assert!(wrong.is_empty());
        let (args, wrong) = taken(
            &[],
            &[("NOUGHT_DEADLINE", "90sec"), ("NOUGHT_HTTP", "9100")],
        );
        assert_eq!((args.deadline, args.http), (None, None));
        assert!(
            wrong[0].starts_with("NOUGHT_DEADLINE=90sec: write"),
            "{wrong:?}"
        );
        assert!(wrong[1].starts_with("NOUGHT_HTTP=9100: write"), "{wrong:?}");
    }

    #[test]
    fn the_command_line_goes_before_the_environment() {
        let variables = [("NOUGHT_DEADLINE", "90sec")];
        let (args, wrong) = taken(&["--deadline", "3s"], &variables);
        assert_eq!(args.deadline, Some(Duration::from_secs(3)));
        assert!(wrong.is_empty());
    }
}
