//! HTTP: JSON-RPC by POST and over WebSockets, who may do what, callers that mean ill, the servers
//! that come and go, and the page in a real browser.

mod browser;
mod callers;
mod client;
mod hostile;
mod page;
mod rpc;
mod servers;
mod shutdown;
mod sockets;
