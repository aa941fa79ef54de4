//! What a pod asks of a supervisor: probes, metrics, last words, one budget, and the kubelet's
//! order of events; at every tier of what a container may do with cgroups.

mod budget;
pub(crate) mod http;
mod kubelet;
mod last_words;
mod probes;
mod tiers;
