//! JSON-RPC over a WebSocket (RFC 6455): every message is a request or a batch, every answer and
//! every line of a subscription a message.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::body::Incoming;
use hyper::header::{
    self, CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use sha1_smol::Sha1;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

use super::answer::{self, Answer};
use super::guard::{self, PROTOCOL, Refused};
use super::rate::Bucket;
use super::rights::Caller;
use super::rpc;
use super::server::{Connection, LAST_ANSWERS, Place};
use crate::api::{self, ErrorCode, Id, MAX_FRAME_BYTES, Response, RpcError};
use crate::sys::clock;

/// How often a client is asked whether it is there.
const PING: Duration = Duration::from_secs(20);
/// Of whom nothing came for so long, it is not.
const SILENCE: Duration = Duration::from_secs(60);
/// How long the client may take to begin when it has been told that it may.
const BEGIN: Duration = Duration::from_secs(5);
/// How long a client has to answer the last frame.
const FAREWELL: Duration = Duration::from_millis(500);
/// Refusals that wait to be sent.
const REFUSALS: usize = 8;
const BUFFER: usize = 8 * 1024;
/// Bytes that wait for a client to read them: more than the longest answer has.
const MOST_UNREAD: usize = 64 << 20;
/// Pings and pongs of a client, which pass by the rate of its requests: at once, and a second. A
/// client has no use for more.
const CONTROLS: u32 = 32;
const CONTROLS_PER_SECOND: u32 = 1;
/// What RFC 6455 has the server add to the client's key (section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Whether a request asks for a WebSocket.
pub(super) fn is_asked_for(headers: &HeaderMap) -> bool {
    has_word(headers, &UPGRADE, "websocket")
}

/// Lets a client in, or says why not.
pub(super) fn begin(connection: Arc<Connection>, mut request: Request<Incoming>) -> Answer {
    match accepted(&connection, &request) {
        Err(refused) => answer::refusal(refused),
        Ok(accepted) => {
            let upgrade = hyper::upgrade::on(&mut request);
            let answer = switching(request.headers(), &accepted.key);
            tokio::spawn(serve(connection, upgrade, accepted));
            answer
        }
    }
}

/// What a WebSocket has before it begins.
struct Accepted {
    caller: Caller,
    key: String,
    supervisor: UnixStream,
    _place: Place,
}

fn accepted(connection: &Connection, request: &Request<Incoming>) -> Result<Accepted, Refused> {
    let headers = request.headers();
    let caller = Caller {
        stays: true,
        ..rpc::caller(connection, request.uri(), headers, "a WebSocket")?
    };
    let key = guard::only(headers, &SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24);
    let version = guard::only(headers, &SEC_WEBSOCKET_VERSION) == Some("13");
    let (Some(key), true, true) = (key, version, has_word(headers, &CONNECTION, "upgrade")) else {
        let error = RpcError::new(ErrorCode::InvalidRequest, "this begins no WebSocket");
        let error = error.hint("version 13 is spoken here (RFC 6455)");
        return Err(Refused::new(StatusCode::BAD_REQUEST, error));
    };
    let shared = &connection.shared;
    shared.rate(caller.token).take(1).map_err(rpc::too_many)?;
    let place = shared.sockets.take(caller.token);
    let place = place.ok_or_else(|| rpc::crowded("there are too many WebSockets"))?;
    let supervisor = shared.connect(caller.token);
    Ok(Accepted {
        caller,
        key: key.to_owned(),
        supervisor: supervisor.map_err(|error| rpc::unreachable_supervisor(&error))?,
        _place: place,
    })
}

fn switching(headers: &HeaderMap, key: &str) -> Answer {
    let mut answer = answer::text(StatusCode::SWITCHING_PROTOCOLS, "");
    let told = answer.headers_mut();
    told.remove(header::CONTENT_TYPE);
    told.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    told.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&accept(key)) {
        told.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if guard::protocols(headers).any(|protocol| protocol == PROTOCOL) {
        told.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    }
    answer
}

/// Whether a list of words in a header has this one.
fn has_word(headers: &HeaderMap, name: &header::HeaderName, word: &str) -> bool {
    let lists = headers.get_all(name).iter();
    let mut lists = lists.filter_map(|list| list.to_str().ok());
    lists.any(|list| list.split(',').any(|w| w.trim().eq_ignore_ascii_case(word)))
}

/// What proves to the client that it speaks with a WebSocket server.
fn accept(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(GUID.as_bytes());
    base64(&hash.digest().bytes())
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let of = |n: usize| three.get(n).copied().map_or(0, u32::from);
        let bits = of(0) << 16 | of(1) << 8 | of(2);
        for digit in 0..4 {
            let at = (bits >> (18 - 6 * digit)) as usize & 63;
            let digit = DIGITS
                .get(at)
                .copied()
                .filter(|_| digit <= three.len() as u32);
            out.push(digit.map_or('=', char::from));
        }
    }
    out
}

/// What both directions of one WebSocket share.
struct Talk<'a> {
    connection: &'a Connection,
    caller: Caller,
    /// When something last came of the client, on the boot clock (ns).
    heard: AtomicU64,
}

async fn serve(connection: Arc<Connection>, upgrade: OnUpgrade, accepted: Accepted) {
    let Ok(Ok(upgraded)) = tokio::time::timeout(BEGIN, upgrade).await else {
        return;
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_write_buffer_size(MOST_UNREAD)
        .max_message_size(Some(MAX_FRAME_BYTES))
        .max_frame_size(Some(MAX_FRAME_BYTES));
    let io = TokioIo::new(upgraded);
    let socket = Socket::from_raw_socket(io, Role::Server, Some(config)).await;
    let (sink, stream) = socket.split();
    let (answers, requests) = accepted.supervisor.into_split();
    let (refuse, refusals) = mpsc::channel(REFUSALS);
    let talk = Talk {
        connection: &connection,
        caller: accepted.caller,
        heard: AtomicU64::new(clock::boot_now()),
    };
    let mut stopped = connection.shared.stopped.clone();
    let end = async {
        ended(&mut stopped).await;
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    // Whoever is slow, gone or hostile needs no farewell.
    tokio::select! {
        () = talk.requests(stream, requests, refuse) => {}
        () = talk.answers(sink, answers, refusals) => {}
        () = end => {}
    }
}

/// Waits until the server ends.
async fn ended(stopped: &mut watch::Receiver<bool>) {
    // An error: it is gone.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

impl Talk<'_> {
    /// What the client asks, until it has nothing more to say.
    async fn requests(
        &self,
        mut stream: SplitStream<Socket>,
        mut requests: OwnedWriteHalf,
        refuse: mpsc::Sender<String>,
    ) {
        let mut stopped = self.connection.shared.stopped.clone();
        let mut controls = Bucket::new(CONTROLS, CONTROLS_PER_SECOND);
        loop {
            let message = tokio::select! {
                message = stream.next() => message,
                () = ended(&mut stopped) => {
                    // The answers that are on their way end with this stream; the client's last
                    // frames are read, so that it is not cut off.
                    drop(requests);
                    while let Some(Ok(_)) = stream.next().await {}
                    return;
                }
            };
            self.heard.store(clock::boot_now(), Ordering::Relaxed);
            let bytes = match message {
                Some(Ok(Message::Text(text))) => text.into(),
                Some(Ok(Message::Binary(bytes))) => bytes,
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                    // Each is answered, whether the answers are read or not.
                    if controls.take(1).is_err() {
                        return;
                    }
                    continue;
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
            };
            let asked = rpc::one_value(&bytes);
            let calls = asked.as_ref().map_or(1, rpc::calls);
            while let Err(wait) = self.connection.shared.rate(self.caller.token).take(calls) {
                tokio::time::sleep(wait).await;
            }
            if let Some(refusal) = self.refusal(asked) {
                if refuse.send(refusal).await.is_err() {
                    return;
                }
            } else if requests.write_all(&bytes).await.is_err() {
                return;
            }
        }
    }

    /// Why this is not carried on, as it is answered.
    fn refusal(&self, asked: Result<api::Incoming, Refused>) -> Option<String> {
        let (id, error) = match asked {
            Ok(asked) => self.caller.refusal(&asked)?,
            Err(refused) => (Some(refused.id), refused.error),
        };
        let response = Response::new(id.unwrap_or(Id::Null), Err(error));
        serde_json::to_string(&response).ok()
    }

    /// What the supervisor answers, a message each line.
    async fn answers(
        &self,
        mut sink: SplitSink<Socket, Message>,
        answers: OwnedReadHalf,
        mut refusals: mpsc::Receiver<String>,
    ) {
        let mut answers = BufReader::with_capacity(BUFFER, answers);
        let mut line = Vec::new();
        let mut pings = tokio::time::interval(PING);
        loop {
            let message = tokio::select! {
                // What was read of a line stays in it when something else comes first.
                read = answers.read_until(b'\n', &mut line) => match read {
                    Ok(0) | Err(_) => break,
                    Ok(_) => String::from_utf8(std::mem::take(&mut line)).map(Message::text),
                },
                Some(refusal) = refusals.recv() => Ok(Message::text(refusal)),
                _ = pings.tick() => {
                    if clock::since(self.heard.load(Ordering::Relaxed)) > SILENCE {
                        return;
                    }
                    Ok(Message::Ping(hyper::body::Bytes::new()))
                }
            };
            let Ok(message) = message else {
                break;
            };
            if sink.send(message).await.is_err() {
                return;
            }
        }
        let farewell = CloseFrame {
            code: CloseCode::Away,
            reason: "the server ends".into(),
        };
        if sink.send(Message::Close(Some(farewell))).await.is_ok() {
            tokio::time::sleep(FAREWELL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standards_own_example_is_accepted() {
        let accepted = accept("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accepted, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn base64_is_the_standards() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
