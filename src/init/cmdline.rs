//! The kernel's command line (bootparam(7)): what of it is for us.

use std::path::PathBuf;

/// What the kernel's command line asks of us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// `nought.config=DIR`: the directory of service files.
    pub(super) config: Option<PathBuf>,
    /// `nought.rescue`: a shell on the console before anything is started, and when the
    /// supervisor cannot begin.
    pub(super) rescue: bool,
}

/// Reads /proc/cmdline; what cannot be read asks for nothing.
pub(super) fn read() -> Asked {
    parse(&std::fs::read_to_string("/proc/cmdline").unwrap_or_default())
}

fn parse(text: &str) -> Asked {
    let mut asked = Asked::default();
    for word in words(text) {
        if let Some(dir) = word.strip_prefix("nought.config=") {
            asked.config = Some(dir.into()).filter(|_| !dir.is_empty());
        } else if word == "nought.rescue" || word == "nought.rescue=1" {
            asked.rescue = true;
        }
    }
    asked
}

/// Split at spaces outside of double quotes, as the kernel does (next_arg, lib/cmdline.c).
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => words.push(String::new()),
            c => {
                if let Some(word) = words.last_mut() {
                    word.push(c);
                }
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_found_among_the_others() {
        let asked = parse("ro quiet nought.config=/etc/other nought.rescue root=/dev/vda\n");
        let other = Asked {
            config: Some("/etc/other".into()),
            rescue: true,
        };
        assert_eq!(asked, other);
        assert_eq!(
            parse("nought.rescued xnought.config=/x nought.config="),
            Asked::default()
        );
        assert_eq!(
            parse("nought.config=\"/a b\"  x").config,
            Some("/a b".into())
        );
    }
}
