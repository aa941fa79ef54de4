//! The last shutdown on the status page: by mouse, by keyboard, light and dark; over HTTP it is
//! the command line's picture, however much there is of it.

use std::fs;
use std::time::Instant;

use serde_json::{Value, json};

use super::browser::Browser;
use super::client::{Served, ask, served_at, token};
use crate::look::until;
use crate::pods::http::{get, serving};

const TAB: &str = "\u{e004}";
const LEFT: &str = "\u{e012}";
const RIGHT: &str = "\u{e014}";
const END: &str = "\u{e010}";
const HOME: &str = "\u{e011}";

/// What would be markup where it is no text.
const HOSTILE: &str = "<b>&\"'<img src=x onerror=alert(1)>";

/// Four services whose shutdown takes so long that its deadline is in the picture.
fn chain(flags: &[&str]) -> Served {
    let (mut world, address) = serving();
    world.flags.extend(["--deadline".into(), "2500ms".into()]);
    world.fixture("db", "polite 300", "shutdown_timeout: 400ms");
    world.service(HOSTILE, "exec: sleep 1000\nrequires: [web]\n");
    world.fixture(
        "stubborn",
        "stubborn",
        "after: [db]\nshutdown_timeout: 600ms",
    );
    let http = served_at(world, address, flags);
    http.world.number("stubborn", "up");
    http.world.number("db", "up");
    for name in ["db", "stubborn", HOSTILE] {
        http.world.reach(name, "up");
    }
    http
}

/// The same supervisor once more, after a shutdown.
fn again(http: &mut Served) {
    http.world.signal(libc::SIGTERM);
    assert_eq!(http.world.wait().code(), Some(0));
    http.world.init();
    http.world.reach("web", "up");
    http.token = token(&http.world);
}

fn open(http: &Served) -> Browser {
    let browser = Browser::open(1200, 900);
    browser.go(&format!("http://{}/", http.address));
    browser.says("#link", "live");
    browser.says("tr[data-service=web] .state", "up");
    browser
}

/// Waits until the picture of the shutdown is there: what it is called for who cannot see it.
fn alternative(browser: &Browser) -> String {
    until("the shutdown is drawn", || {
        let script = "const i = document.querySelector('#shutdown img'); \
                      return i && i.naturalWidth === 960 && i.offsetWidth > 0 ? i.alt : null";
        browser.script(script).as_str().map(str::to_owned)
    })
}

/// The colours of the picture as it is shown: of its ground, and how many pixels of the column
/// where the deadline stands are red.
const SEEN: &str = "
  const image = document.querySelector('#shutdown img');
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const ground = [...data.slice(0, 3)].join(' ');
  let red = 0;
  for (let y = 0; y < canvas.height; y += 1) {
    const reds = [769, 770].some((x) => {
      const at = 4 * (y * canvas.width + x);
      return data[at] > data[at + 1] + 40 && data[at] > data[at + 2] + 40;
    });
    if (reds) red += 1;
  }
  return [ground, red];";

#[test]
fn the_last_shutdown_is_drawn_with_its_deadline_light_and_dark() {
    let mut http = chain(&[]);
    let browser = open(&http);
    browser.click("#tab-shutdown");
    browser.says("#shutdown", "no receipt of a shutdown is kept here yet");
    assert_eq!(get(http.address, "/shutdown.svg").0, 404);
    drop(browser);
    again(&mut http);
    // A stop by itself is newer than the shutdown, and hides nothing of it.
    http.world.stop_verified(HOSTILE);
    let browser = open(&http);
    let hidden = "return document.querySelector('#shutdown').hidden";
    assert_eq!(browser.script(hidden), true);
    browser.click("#tab-shutdown");
    let alternative = alternative(&browser);
    assert!(
        alternative.starts_with("shutdown: ")
            && alternative.contains(", 4 services, deadline 2.5 s, ended 2"),
        "{alternative}"
    );
    assert_eq!(browser.script(hidden), false);
    for (scheme, ground) in [("light", "255 255 255"), ("dark", "13 17 23")] {
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        browser.devtools("Emulation.setEmulatedMedia", &media);
        let seen = until(scheme, || {
            let seen = browser.script(SEEN);
            (seen[0] == ground).then_some(seen)
        });
        // Four rows of 26 pixels, dashed: four drawn, three not.
        assert!(seen[1].as_u64().unwrap() > 40, "{scheme}: {seen}");
    }
    browser.click("#tab-timeline");
    browser.says("#timeline", "");
    assert_eq!(browser.script(hidden), true);
    assert_eq!(browser.complaints(), [""; 0]);
    drop(browser);
    http.world.end();
}

#[test]
fn the_keyboard_goes_from_the_start_to_the_shutdown_and_back() {
    let mut http = chain(&[]);
    again(&mut http);
    let browser = open(&http);
    let chosen = || {
        let script = "return [...document.querySelectorAll('[role=tab]')].map((t) => \
            `${t.id} ${t.getAttribute('aria-selected')} ${t.tabIndex} \
            ${document.getElementById(t.getAttribute('aria-controls')).hidden}`).join('\\n')";
        let told = browser.script(script).as_str().unwrap().to_owned();
        told.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let focused = || browser.script("return document.activeElement.id");
    let start = "tab-timeline true 0 false tab-shutdown false -1 true";
    let shutdown = "tab-timeline false -1 true tab-shutdown true 0 false";
    let names = "return [...document.querySelectorAll('[role=tabpanel]')].map((p) => \
        document.getElementById(p.getAttribute('aria-labelledby')).innerText).join()";
    assert_eq!(
        browser.script(names),
        "At the start,In the last shutdown",
        "each is named by its tab"
    );
    browser.script("document.querySelector('#graph').focus()");
    browser.keys(TAB);
    assert_eq!((focused(), chosen()), (json!("tab-timeline"), start.into()));
    for (key, at, state) in [
        (RIGHT, "tab-shutdown", shutdown),
        (RIGHT, "tab-timeline", start),
        (LEFT, "tab-shutdown", shutdown),
        (HOME, "tab-timeline", start),
        (END, "tab-shutdown", shutdown),
    ] {
        browser.keys(key);
        assert_eq!((focused(), chosen()), (json!(at), state.into()));
        let seen = "const s = getComputedStyle(document.activeElement); return s.outlineStyle + ' ' + parseFloat(s.outlineWidth)";
        assert_eq!(browser.script(seen), "solid 3");
    }
    assert!(alternative(&browser).contains("4 services"));
    // On to the picture, which may be larger than what is seen of it.
    browser.keys(TAB);
    assert_eq!(focused(), "shutdown");
    assert_eq!(browser.complaints(), [""; 0]);
    drop(browser);
    http.world.end();
}

#[test]
fn the_picture_is_the_command_lines_and_nothing_of_a_name_is_markup() {
    let mut http = chain(&["--http-read-only"]);
    again(&mut http);
    let shown = get(http.address, "/shutdown.svg");
    assert_eq!(shown.0, 200);
    let file = http.world.dir.join("shutdown.svg").display().to_string();
    let state = http.world.dir.join("state").display().to_string();
    let line = [
        "timeline",
        "shutdown",
        "--state-dir",
        &state,
        "--svg",
        &file,
    ];
    assert_eq!(http.world.cli(&line).status.code(), Some(0));
    assert_eq!(fs::read_to_string(&file).unwrap(), shown.1);
    assert!(shown.1.contains("class=\"deadline\""), "{}", shown.1);
    assert!(shown.1.contains("&lt;b&gt;&amp;&quot;"), "{}", shown.1);
    assert!(!shown.1.contains("<b>") && !shown.1.contains("<img"));
    let last = http.call("nought_lastShutdown", &json!([])).unwrap();
    let names: Vec<&Value> = last["receipts"].as_array().unwrap().iter().collect();
    assert_eq!(names.len(), 4, "{last}");
    assert_eq!(names[3]["service"], "db", "in their order: {last}");
    assert!(names[3].get("killed").is_none(), "{last}");
    let address = http.address;
    let picture = |headers: &[(&str, &str)]| ask(address, "GET /shutdown.svg", headers, "");
    let answer = picture(&[]);
    let policy = answer.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let rebound = picture(&[("Host", "evil.example")]);
    assert_eq!(rebound.refused(), (421, -32018));
    let foreign = picture(&[("Origin", "http://evil.example")]);
    assert_eq!(foreign.refused(), (403, -32018));
    let wrong = picture(&[("Authorization", "Bearer 0")]);
    assert_eq!(wrong.refused(), (401, -32017));
    assert_eq!(ask(address, "DELETE /shutdown.svg", &[], "").status, 405);
    http.world.end();
}

#[test]
fn beyond_this_machine_a_shutdown_needs_the_token() {
    let (mut world, address) = serving();
    world.flags = vec!["--http".into(), format!("0.0.0.0:{}", address.port())];
    let http = served_at(world, address, &[]);
    let answer = ask(http.address, "GET /shutdown.svg", &[], "");
    assert_eq!(answer.refused(), (401, -32017));
    let bearer = format!("Bearer {}", http.token);
    let headers = [("Authorization", bearer.as_str())];
    let answer = ask(http.address, "GET /shutdown.svg", &headers, "");
    assert_eq!(answer.status, 404, "there was none");
    http.world.end();
}

#[test]
fn a_shutdown_of_a_thousand_services_is_drawn_and_keeps_no_probe_waiting() {
    let mut http = chain(&[]);
    http.world.signal(libc::SIGTERM);
    assert_eq!(http.world.wait().code(), Some(0));
    let receipts = http.world.dir.join("state/receipts");
    let own = fs::read_to_string(receipts.join("stubborn")).unwrap();
    let own: Value = serde_json::from_str(own.lines().last().unwrap()).unwrap();
    let mut later = own.clone();
    later.as_object_mut().unwrap().remove("budget");
    for n in 0..1000 {
        let name = format!("many-{n}");
        let mut lines = String::new();
        for receipt in std::iter::once(&own).chain(std::iter::repeat_n(&later, 15)) {
            let mut receipt = receipt.clone();
            receipt["service"] = json!(name);
            lines += &format!("{receipt}\n");
        }
        fs::write(receipts.join(name), lines).unwrap();
    }
    // And what is no receipt's file hides nothing.
    fs::create_dir(receipts.join("a-directory")).unwrap();
    http.world.init();
    http.world.reach("web", "up");
    let address = http.address;
    let (status, svg) = get(address, "/shutdown.svg");
    assert_eq!(status, 200);
    assert!(svg.contains(", 1004 services, deadline 2.5 s"), "{status}");
    std::thread::scope(|scope| {
        let askers = || {
            for _ in 0..4 {
                let (status, _) = get(address, "/shutdown.svg");
                assert!(matches!(status, 200 | 429 | 503), "{status}");
            }
        };
        let many: Vec<_> = (0..16).map(|_| scope.spawn(askers)).collect();
        let began = Instant::now();
        while !many.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            assert_eq!(get(address, "/livez").0, 200);
        }
        eprintln!("64 pictures in {:?}", began.elapsed());
    });
    let browser = open(&http);
    browser.click("#tab-shutdown");
    assert!(alternative(&browser).contains("1004 services"));
    let tall = "return document.querySelector('#shutdown').offsetHeight";
    assert!(browser.script(tall).as_u64().unwrap() <= 700, "it scrolls");
    drop(browser);
    http.world.end();
}
