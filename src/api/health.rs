//! Whether everything is as it is wanted: the one rule behind `/readyz` and `nought health`.

use super::{ServiceState, ServiceStatus};

/// A service that keeps the whole from being ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unready {
    /// Its name.
    pub service: String,
    /// Its state, and why where there is a why: `starting: its test runs`.
    pub why: String,
}

/// The services that are wanted up and neither up nor done, nor listening for somebody who wants
/// them. Empty: ready.
pub fn unready(services: &[ServiceStatus]) -> Vec<Unready> {
    let waits = |service: &&ServiceStatus| {
        let ready = matches!(
            service.state,
            ServiceState::Up | ServiceState::Done | ServiceState::Listening
        );
        service.target == "up" && !ready
    };
    let named = services.iter().filter(waits).map(|service| {
        let state = service.state.as_str();
        let why = match service.detail.as_str() {
            "" => state.into(),
            detail => format!("{state}: {detail}"),
        };
        Unready {
            service: service.name.clone(),
            why,
        }
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, target: &str, state: ServiceState) -> ServiceStatus {
        ServiceStatus {
            name: name.into(),
            target: target.into(),
            state,
            ..ServiceStatus::default()
        }
    }

    #[test]
    fn what_is_wanted_has_to_be_up_or_done_and_nothing_else() {
        let services = [
            service("a", "up", ServiceState::Up),
            service("b", "up", ServiceState::Done),
            service("e", "up", ServiceState::Listening),
            service("c", "down", ServiceState::Down),
            service("d", "down", ServiceState::Lingering),
        ];
        assert_eq!(unready(&services), []);
        for state in [
            ServiceState::Blocked,
            ServiceState::Starting,
            ServiceState::Stopping,
            ServiceState::Backoff,
            ServiceState::Failed,
            ServiceState::Lingering,
        ] {
            let mut late = service("web", "up", state);
            late.detail = "why".into();
            let found = unready(&[late]);
            assert_eq!(found[0].why, format!("{}: why", state.as_str()));
        }
    }
}
