//! Patterns that name processes: of `survivors` in service files, of `--keep`.

/// Whether the whole of `name` matches a pattern in which `*` stands for anything and `?` for one
/// character.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on when what follows the last star did not match: the star takes one more.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || name.get(n) == Some(c) => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, taken)) = star else {
                    return false;
                };
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_name_with_wildcards() {
        for (pattern, name) in [
            ("sshd", "sshd"),
            ("sshd*", "sshd"),
            ("sshd*", "sshd-session"),
            ("*shim*", "containerd-shim"),
            ("ssh?", "sshd"),
            ("*a*b", "aab"),
            ("a**b", "ab"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("sshd", "sshd-session"),
            ("ssh?", "ssh"),
            ("*b", "abc"),
            ("", "a"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_match_whole_texts() {
        let like = matches;
        assert!(like("sccache", "sccache") && !like("sccache", "sccache-dist"));
        assert!(like("scc*", "sccache") && like("*", "") && like("*gradle*", "a gradle b"));
        assert!(like("a?c", "abc") && !like("a?c", "ac") && like("a*b*c", "a-b-b-c"));
        assert!(!like("a*b", "a-b-c") && like("a*c", "a-b-c") && !like("", "a"));
    }
}
