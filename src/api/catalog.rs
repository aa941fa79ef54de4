//! Every method on the socket: its parameters and what it answers. The dispatcher, the OpenRPC
//! document and the docs are held against this list by tests.

use super::method;

/// A method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// Its parameters, in their positions.
    pub params: &'static [Param],
    /// What it answers: a JSON schema as text.
    pub result: &'static str,
    /// The names of the errors of its own that it may answer with, besides those that any may.
    pub errors: &'static [&'static str],
}

/// A parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// Whether it must be given.
    pub required: bool,
    /// Its JSON schema as text.
    pub schema: &'static str,
}

const fn must(name: &'static str, schema: &'static str) -> Param {
    Param {
        name,
        required: true,
        schema,
    }
}

const fn may(name: &'static str, schema: &'static str) -> Param {
    Param {
        name,
        required: false,
        schema,
    }
}

const STRING: &str = r#"{"type":"string"}"#;
const NULL: &str = r#"{"type":"null"}"#;
const FLAG: &str = r#"{"type":"boolean","default":false}"#;
const TRUE_FLAG: &str = r#"{"type":"boolean","default":true}"#;
const COUNT: &str = r#"{"type":"integer","minimum":0}"#;
const NAMES: &str = r#"{"type":"array","items":{"type":"string"}}"#;
const NUMBER: &str = r#"{"type":"integer"}"#;

const NAME: Param = must("name", STRING);
const FILTER: Param = may("name", STRING);
const NOT_FOUND: &str = "ServiceNotFound";
const GOING_DOWN: &str = "ShuttingDown";
const LINGERING: &str = "Lingering";
const FILE: &str = "ServiceFileError";

const STATUS: &str = r##"{"type":"object","required":["name","pid","state","target","after"],"properties":{"name":{"type":"string"},"pid":{"type":"integer"},"state":{"type":"string"},"target":{"enum":["Up","Down"]},"after":{"type":"object","additionalProperties":{"type":"string"}}}}"##;
const STATS: &str = r##"{"type":"object","required":["name","pid","memory_usage","cpu_usage","children"],"properties":{"name":{"type":"string"},"pid":{"type":"integer"},"memory_usage":{"type":"integer"},"cpu_usage":{"type":"number"},"children":{"type":"array","items":{"type":"object","required":["pid","memory_usage","cpu_usage"],"properties":{"pid":{"type":"integer"},"memory_usage":{"type":"integer"},"cpu_usage":{"type":"number"}}}}}}"##;
const STATES: &str = r#"{"type":"object","additionalProperties":{"type":"string"}}"#;
const OBJECT: &str = r#"{"type":"object"}"#;
const SERVICES: &str = r#"{"type":"object","required":["services"],"properties":{"services":{"type":"array","items":{"type":"object"}}}}"#;
const DONE: &str = r#"{"type":"object","required":["service","state"],"properties":{"service":{"type":"string"},"state":{"type":"string"},"already_down":{"type":"boolean"},"receipt":{"type":"object"}}}"#;
const LINES: &str = r#"{"type":"object","required":["lines","lost"],"properties":{"lines":{"type":"array","items":{"type":"string"}},"lost":{"type":"integer"}}}"#;
const CHANGES: &str = r#"{"type":"object","required":["dry_run","changes","untouched","warnings"],"properties":{"dry_run":{"type":"boolean"},"changes":{"type":"array","items":{"type":"object","required":["service","change","keys"],"properties":{"service":{"type":"string"},"change":{"enum":["add","remove","restart","start","amend"]},"keys":{"type":"array","items":{"type":"string"}},"failed":{"type":["string","null"]}}}},"untouched":{"type":"integer"},"warnings":{"type":"array","items":{"type":"string"}}}}"#;
const SUBSCRIPTION: &str = r#"{"type":"integer"}"#;

const fn method(
    name: &'static str,
    summary: &'static str,
    params: &'static [Param],
    result: &'static str,
    errors: &'static [&'static str],
) -> Method {
    Method {
        name,
        summary,
        params,
        result,
        errors,
    }
}

/// Every method, zinit's first.
pub const METHODS: &[Method] = &[
    method(
        "rpc.discover",
        "This document, as a string of JSON",
        &[],
        STRING,
        &[],
    ),
    method(
        "rpc_discover",
        "The same under zinit's name",
        &[],
        STRING,
        &[],
    ),
    method(
        "service_list",
        "Every service's state, in zinit's words",
        &[],
        STATES,
        &[],
    ),
    method(
        "service_status",
        "One service's state, in zinit's words",
        &[NAME],
        STATUS,
        &[NOT_FOUND],
    ),
    method(
        "service_start",
        "Start a service; answers at once",
        &[NAME],
        NULL,
        &[NOT_FOUND, GOING_DOWN, LINGERING, "Refused"],
    ),
    method(
        "service_stop",
        "Stop a service; answers when it is verified or unverified, with an error when it lingers",
        &[NAME],
        NULL,
        &[NOT_FOUND, LINGERING, "DependentLingers", "Superseded"],
    ),
    method(
        "service_monitor",
        "Take in a service from its file",
        &[NAME],
        NULL,
        &[
            "ServiceAlreadyMonitored",
            "ConfigError",
            FILE,
            NOT_FOUND,
            GOING_DOWN,
        ],
    ),
    method(
        "service_forget",
        "Take out a service that is down",
        &[NAME],
        NULL,
        &[NOT_FOUND, "ServiceIsUp", LINGERING, GOING_DOWN],
    ),
    method(
        "service_kill",
        "Send a signal to the process group of a service's main process",
        &[NAME, must("signal", STRING)],
        NULL,
        &[NOT_FOUND, "ServiceIsDown", "InvalidSignal"],
    ),
    method(
        "service_create",
        "Write a service file; nothing is started",
        &[NAME, must("content", OBJECT)],
        STRING,
        &["ServiceAlreadyExists", "ConfigError", FILE],
    ),
    method(
        "service_delete",
        "Remove a service file; nothing is stopped",
        &[NAME],
        STRING,
        &[NOT_FOUND, FILE],
    ),
    method(
        "service_get",
        "What a service file holds",
        &[NAME],
        OBJECT,
        &[NOT_FOUND, "ConfigError", FILE],
    ),
    method(
        "service_stats",
        "What a service uses",
        &[NAME],
        STATS,
        &[NOT_FOUND, "ServiceIsDown"],
    ),
    method(
        "system_shutdown",
        "Stop everything, then power off or exit",
        &[],
        NULL,
        &[],
    ),
    method(
        "system_reboot",
        "Stop everything, then reboot or exit",
        &[],
        NULL,
        &[],
    ),
    method(
        "system_start_http_server",
        "Serve HTTP at an address too, besides the one of --http: a page, JSON-RPC by POST and WebSockets",
        &[must("address", STRING)],
        STRING,
        &[],
    ),
    method(
        "system_stop_http_server",
        "End what system_start_http_server began",
        &[],
        NULL,
        &[],
    ),
    method(
        "stream_currentLogs",
        "The log lines that are kept",
        &[FILTER],
        NAMES,
        &[],
    ),
    method(
        "stream_subscribeLogs",
        "Log lines from now on: one a notification of this name, `params` {subscription, result}",
        &[FILTER],
        SUBSCRIPTION,
        &["Crowded"],
    ),
    method(
        "stream_unsubscribeLogs",
        "End a subscription; false when there was none",
        &[must("subscription", NUMBER)],
        r#"{"type":"boolean"}"#,
        &[],
    ),
    method(
        method::INFO,
        "What this supervisor is and can promise",
        &[],
        OBJECT,
        &[],
    ),
    method(
        method::LIST,
        "Every service's status",
        &[may("memory", FLAG)],
        SERVICES,
        &[],
    ),
    method(
        method::STATUS,
        "One service's status",
        &[NAME],
        OBJECT,
        &[NOT_FOUND],
    ),
    method(
        method::START,
        "Start a service",
        &[NAME, may("wait", TRUE_FLAG), may("force", FLAG)],
        DONE,
        &[
            NOT_FOUND,
            GOING_DOWN,
            LINGERING,
            "Refused",
            "Blocked",
            "Failed",
            "Superseded",
        ],
    ),
    method(
        method::STOP,
        "Stop a service; answers with its verdict",
        &[NAME, may("force", FLAG), may("with_dependents", FLAG)],
        DONE,
        &[NOT_FOUND, LINGERING, "DependentLingers", "Superseded"],
    ),
    method(
        method::RESTART,
        "Stop a service and start it again",
        &[NAME, may("wait", TRUE_FLAG)],
        DONE,
        &[
            NOT_FOUND,
            GOING_DOWN,
            LINGERING,
            "DependentLingers",
            "Refused",
            "Blocked",
            "Failed",
            "Superseded",
        ],
    ),
    method(
        method::RECEIPT,
        "A service's stored receipts, oldest first",
        &[NAME, may("last", COUNT)],
        OBJECT,
        &[NOT_FOUND],
    ),
    method(
        method::LAST_SHUTDOWN,
        "How each service went down in the last shutdown on record, an earlier supervisor's included",
        &[],
        r#"{"type":"object","required":["receipts"],"properties":{"receipts":{"type":"array","items":{"type":"object"}}}}"#,
        &[],
    ),
    method(
        method::SHUTDOWN,
        "Stop everything, then end; answers when everything has its verdict",
        &[may(
            "kind",
            r#"{"enum":["poweroff","reboot","halt","kexec"],"default":"poweroff"}"#,
        )],
        OBJECT,
        &[],
    ),
    method(
        method::LOG,
        "The log lines that are kept, the newest last",
        &[
            FILTER,
            may("lines", COUNT),
            may("names", NAMES),
            may("records", FLAG),
        ],
        LINES,
        &[NOT_FOUND],
    ),
    method(
        method::FOLLOW,
        "The log lines that are kept and those to come: several a notification of this name, `params` {subscription, result: {lines, lost}}",
        &[
            FILTER,
            may("lines", COUNT),
            may("names", NAMES),
            may("records", FLAG),
        ],
        SUBSCRIPTION,
        &[NOT_FOUND, "Crowded"],
    ),
    method(
        method::UNFOLLOW,
        "End a subscription; false when there was none",
        &[must("subscription", NUMBER)],
        r#"{"type":"boolean"}"#,
        &[],
    ),
    method(
        method::USAGE,
        "Memory, processor time and processes of services",
        &[FILTER],
        SERVICES,
        &[NOT_FOUND],
    ),
    method(
        method::PLAN,
        "What a shutdown, or a stop of one service, would do: nothing is done",
        &[
            FILTER,
            may("with_dependents", FLAG),
            may("deadline_ms", COUNT),
        ],
        SERVICES,
        &[NOT_FOUND],
    ),
    method(
        method::RELOAD_SERVICE,
        "Have a service read its own configuration again, as its `reload` says",
        &[NAME],
        r#"{"type":"object","required":["service","done"],"properties":{"service":{"type":"string"},"done":{"type":"boolean"}}}"#,
        &[NOT_FOUND, GOING_DOWN, "Refused"],
    ),
    method(
        method::RELOAD,
        "Read the service files again and bring about what changed; with `dry_run` only say it",
        &[may("dry_run", FLAG)],
        CHANGES,
        &["ConfigError", "Refused"],
    ),
];
