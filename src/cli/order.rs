//! The order in which several names are asked to stop: whoever waits for another goes first.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::List;

/// `names`, dependents before what they wait for, directly or through others; otherwise as given.
pub(super) fn dependents_first(names: &[String], list: &List) -> Vec<String> {
    let below: BTreeMap<&str, Vec<&str>> = list
        .services
        .iter()
        .map(|service| {
            let names = service.after.keys().chain(service.requires.keys());
            (service.name.as_str(), names.map(String::as_str).collect())
        })
        .collect();
    let wanted: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    // Depth first gives dependencies before dependents.
    for name in names.iter().rev() {
        let mut stack = vec![(name.as_str(), false)];
        while let Some((at, leaving)) = stack.pop() {
            if leaving {
                if wanted.contains(at) {
                    order.push(at.to_owned());
                }
            } else if seen.insert(at) {
                stack.push((at, true));
                let next = below.get(at).into_iter().flatten();
                stack.extend(next.map(|name| (*name, false)));
            }
        }
    }
    order.reverse();
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ServiceStatus;

    #[test]
    fn whoever_waits_for_another_goes_first() {
        let service = |name: &str, after: &[&str], requires: &[&str]| {
            let states = |names: &[&str]| {
                let states = names.iter().map(|name| ((*name).into(), "up".into()));
                states.collect()
            };
            ServiceStatus {
                name: name.into(),
                after: states(after),
                requires: states(requires),
                ..ServiceStatus::default()
            }
        };
        let services = vec![
            service("db", &[], &[]),
            service("setup", &["db"], &[]),
            service("web", &[], &["setup"]),
            service("loop", &["loop"], &[]),
        ];
        let list = List { services };
        let order = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
            dependents_first(&names, &list).join(" ")
        };
        assert_eq!(order(&["db", "web"]), "web db");
        assert_eq!(order(&["web", "db"]), "web db");
        assert_eq!(order(&["loop", "nobody", "db", "db"]), "loop nobody db");
        assert_eq!(order(&["db", "setup", "web"]), "web setup db");
    }
}
