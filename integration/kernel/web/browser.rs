//! Chromium, driven over WebDriver (<https://www.w3.org/TR/webdriver2/>) as a person would.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::look::until;

/// What an element is called in an answer (WebDriver, section 12.1).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

pub(super) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    profile: PathBuf,
}

impl Browser {
    /// A window of this size, in CSS pixels.
    pub(super) fn open(width: u32, height: u32) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nought-browser-{}-{n}", std::process::id());
        let profile = std::env::temp_dir().join(name);
        std::fs::create_dir(&profile).unwrap();
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            // What it leaves there goes with the profile.
            .env("TMPDIR", &profile)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("integration/run installs chromium-driver");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.by_ref().find_map(|line| {
            let line = line.unwrap();
            let (_, port) = line.rsplit_once("successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        let mut browser = Browser {
            driver,
            port: port.expect("it says its port"),
            session: String::new(),
            profile,
        };
        let profile = format!("--user-data-dir={}", browser.profile.display());
        let size = format!("--window-size={width},{height}");
        let options = json!({
            "binary": "/usr/bin/chromium",
            "args": [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-dev-shm-usage", profile, size,
            ],
        });
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = browser.request("POST", "/session", &wanted);
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        browser.devtools("Emulation.setDeviceMetricsOverride", &metrics);
        browser
    }

    fn request(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let port = self.port;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let mut chunk = [0; 8192];
        // It may leave the connection open: the length says where the answer ends.
        loop {
            let text = String::from_utf8_lossy(&answer);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("content-length")
                        .then(|| value.trim())
                });
                if body.len() >= length.unwrap().parse().unwrap() {
                    let value: Value = serde_json::from_str(body).unwrap();
                    let value = value["value"].clone();
                    assert!(value["error"].is_null(), "{method} {path}: {value}");
                    return value;
                }
            }
            let count = stream.read(&mut chunk).unwrap();
            assert!(count > 0, "{method} {path}: {text}");
            answer.extend(&chunk[..count]);
        }
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        self.request(method, &format!("/session/{}{path}", self.session), body)
    }

    /// A command of the browser's own protocol.
    pub(super) fn devtools(&self, command: &str, params: &Value) {
        let body = json!({"cmd": command, "params": params});
        self.ask("POST", "/goog/cdp/execute", &body);
    }

    pub(super) fn go(&self, url: &str) {
        self.ask("POST", "/url", &json!({"url": url}));
    }

    /// What a script in the page returns.
    pub(super) fn script(&self, script: &str) -> Value {
        self.ask(
            "POST",
            "/execute/sync",
            &json!({"script": script, "args": []}),
        )
    }

    /// Waits until the text of what this selects contains these words.
    pub(super) fn says(&self, selector: &str, words: &str) -> String {
        until(&format!("{selector} says {words:?}"), || {
            let text = self.script(&format!(
                "const found = document.querySelector({selector:?}); return found && found.innerText;"
            ));
            let text = text.as_str()?.to_owned();
            text.contains(words).then_some(text)
        })
    }

    fn element(&self, selector: &str) -> String {
        let by = json!({"using": "css selector", "value": selector});
        let found = self.ask("POST", "/element", &by);
        found[ELEMENT].as_str().unwrap().to_owned()
    }

    /// With the mouse: what is covered or out of sight is not clicked.
    pub(super) fn click(&self, selector: &str) {
        let found = self.element(selector);
        self.ask("POST", &format!("/element/{found}/click"), &json!({}));
    }

    /// Types, one key after another; what WebDriver calls keys without a character included.
    pub(super) fn keys(&self, keys: &str) {
        let actions = keys.chars().flat_map(|key| {
            ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key.to_string()}))
        });
        let actions: Vec<Value> = actions.collect();
        let keyboard = json!([{"type": "key", "id": "keyboard", "actions": actions}]);
        self.ask("POST", "/actions", &json!({"actions": keyboard}));
    }

    /// What the browser complained of.
    pub(super) fn complaints(&self) -> Vec<String> {
        let log = self.ask("POST", "/se/log", &json!({"type": "browser"}));
        let severe = log
            .as_array()
            .unwrap()
            .iter()
            .filter(|entry| entry["level"] == "SEVERE");
        severe.map(|entry| entry["message"].to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.ask("DELETE", "", &Value::Null);
        }
        // With all that it started: nothing of a test is left.
        let group = i32::try_from(self.driver.id()).unwrap();
        let _ = nix::sys::signal::killpg(
            nix::unistd::Pid::from_raw(group),
            nix::sys::signal::Signal::SIGKILL,
        );
        let _ = self.driver.wait();
        for _ in 0..100 {
            if std::fs::remove_dir_all(&self.profile).is_ok() || !self.profile.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
