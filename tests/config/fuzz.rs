//! Mutated files: nothing panics, and another reader sees the same values.

use std::path::Path;

use nought::config::{self, Dialect, parse, parse_as};

use crate::{FULL, Random};

fn mutated(random: &mut Random) -> String {
    const SAMPLES: [&str; 5] = [
        FULL,
        "exec: a\nafter: [b, c]\n",
        "exec: |\n  sh -c \"x\"\nenv:\n  A: &a 1\n  B: *a\n",
        "{exec: [a, 'b', \"c\\n\"], ? x-k : [v], log: ~}\n",
        "%YAML 1.2\n---\nexec: >-\n  a\n  b\n...\n# end\n",
    ];
    const PIECES: [&str; 28] = [
        "{", "}", "[", "]", ":", ": ", "- ", "\n", "\t", "\"", "'", "#", "&a ", "*a", "!!str ",
        "!x ", "---", "...", "? ", "|", ">", "%", "\\", "\0", "\u{feff}", "é", "\r", "  ",
    ];
    let mut text: Vec<char> = SAMPLES[random.below(SAMPLES.len())].chars().collect();
    for _ in 0..=random.below(6) {
        let at = random.below(text.len() + 1);
        match random.below(4) {
            0 => text.truncate(at),
            1 => drop(text.drain(at..(at + random.below(8)).min(text.len()))),
            2 => {
                let copy: Vec<char> = text[at..(at + random.below(40)).min(text.len())].to_vec();
                let to = random.below(text.len() + 1);
                text.splice(to..to, copy);
            }
            _ => drop(text.splice(at..at, PIECES[random.below(PIECES.len())].chars())),
        }
    }
    text.into_iter().collect()
}

fn fuzz(seed: u64, rounds: usize) -> usize {
    let mut random = Random(seed);
    let mut sound = 0;
    for _ in 0..rounds {
        let text = mutated(&mut random);
        let zinit = parse_as(Dialect::Zinit, "web", &text, Path::new("web.yaml"));
        match parse("web", &text, Path::new("web.yaml")) {
            Ok(spec) => {
                sound += 1;
                assert_eq!(zinit.as_ref().ok(), Some(&spec), "{text:?}");
                assert!(
                    !spec.exec.is_empty() && !spec.exec[0].is_empty(),
                    "{text:?}"
                );
            }
            Err(problems) => {
                assert!(problems.iter().any(config::Problem::is_error), "{text:?}");
                for problem in &problems {
                    assert!(problem.hint.is_some(), "{text:?}\n{problem}");
                    let counts = problem.message.starts_with("and ");
                    assert!(problem.position.is_some() || counts, "{text:?}\n{problem}");
                    let lines = text.split(['\n', '\r']).count();
                    let line = problem.position.as_ref().map_or(1, |at| at.line);
                    assert!(line <= lines + 1, "{text:?}\n{problem}");
                }
            }
        }
        let _ = config::parse_environment(&text);
        let _ = config::split_words(&text);
    }
    sound
}

/// `NOUGHT_FUZZ_ROUNDS=1000000 cargo test --release --test config` looks further.
#[test]
fn no_input_panics() {
    let rounds = std::env::var("NOUGHT_FUZZ_ROUNDS").ok();
    let rounds = rounds.and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let seed = 0x006e_6f75_6768_7400 ^ rounds as u64;
    let sound = fuzz(seed, rounds);
    assert!(
        sound > rounds / 50,
        "only {sound} of {rounds} were service files at all"
    );
}

/// libyaml, which zinit reads with, is the other opinion: where both take a text, the values
/// they see are the same.
#[test]
fn libyaml_sees_the_same_values() {
    let mut random = Random(0x5eed);
    let (mut both, mut compared) = (0, 0);
    for _ in 0..5_000 {
        let text = mutated(&mut random);
        let Ok(spec) = parse("web", &text, Path::new("web.yaml")) else {
            continue;
        };
        let Ok(value) = serde_yaml::from_str::<serde_yaml::Value>(&text) else {
            continue;
        };
        both += 1;
        if let Some(list) = value.get("exec").and_then(serde_yaml::Value::as_sequence) {
            let words: Option<Vec<&str>> = list.iter().map(serde_yaml::Value::as_str).collect();
            if let Some(words) = words {
                assert_eq!(spec.exec, words, "{text:?}");
                compared += 1;
            }
        } else if let Some(line) = value.get("exec").and_then(serde_yaml::Value::as_str) {
            assert_eq!(spec.exec, config::split_words(line).unwrap(), "{text:?}");
            compared += 1;
        }
        if let Some(dir) = value.get("dir").and_then(serde_yaml::Value::as_str) {
            assert_eq!(spec.dir, if dir.is_empty() { "/" } else { dir }, "{text:?}");
        }
        if let Some(env) = value.get("env").and_then(serde_yaml::Value::as_mapping) {
            for (key, value) in env {
                if let (Some(key), Some(value)) = (key.as_str(), value.as_str()) {
                    assert_eq!(
                        spec.env.get(key).map(String::as_str),
                        Some(value),
                        "{text:?}"
                    );
                }
            }
        }
    }
    assert!(both > 200 && compared > 200, "{both} {compared}");
}
