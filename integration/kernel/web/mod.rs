//! HTTP: JSON-RPC by POST, who may do what, callers that mean ill, and the servers that come and
//! go.

mod callers;
mod client;
mod hostile;
mod rpc;
mod servers;
