//! The status page in Chromium: by mouse, by keyboard, light, dark and narrow.

use serde_json::json;

use super::browser::Browser;
use super::client::{Served, ask, served, served_at};
use crate::pods::http::serving;

const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
const DOWN: &str = "\u{e015}";

/// What a service may say and nobody may run.
const HOSTILE: &str = "<img src=x onerror=document.title=1><script>document.title=2</script>";

fn with_more() -> Served {
    let (mut world, address) = serving();
    let script = format!("exec: sh -c 'while :; do echo \"{HOSTILE}\"; sleep 0.2; done'\n");
    world.service("loud", &script);
    world.fixture("db", "polite 1", "");
    world.fixture("app", "polite 1", "requires: [db]");
    served_at(world, address, &[])
}

fn open(http: &Served, width: u32, height: u32) -> Browser {
    let browser = Browser::open(width, height);
    browser.go(&format!("http://{}/", http.address));
    browser.says("#link", "live");
    browser.says("tr[data-service=web] .state", "up");
    browser
}

fn with_token(http: &Served, width: u32, height: u32) -> Browser {
    let browser = open(http, width, height);
    browser.click("#token");
    browser.keys(&format!("{}{ENTER}", http.token));
    browser.says("#lines", "loud");
    browser
}

#[test]
fn a_service_is_stopped_by_a_click_and_its_verdict_is_said() {
    let http = with_more();
    let browser = open(&http, 1200, 900);
    browser.says("#lines", "needs the token");
    let first = http.world.status("web")["generation"].clone();
    browser.says("tr[data-service=db] td.why + td", "");
    // Asked for once, where it is needed; then what was asked for is done.
    browser.click("tr[data-service=web] button[aria-label='Stop web']");
    browser.says("#ask-why", "nought_stop needs the token");
    assert_eq!(http.world.status("web")["state"], "up");
    browser.keys(&format!("no token{ENTER}"));
    browser.says("#ask-why", "That is no token");
    browser.keys(&format!("{}{ENTER}", http.token));
    let verdict = browser.says("#verdict", "verified");
    assert!(
        verdict.starts_with("web: verified: stopped in ") && verdict.ends_with("nothing left"),
        "{verdict}"
    );
    assert_eq!(http.world.receipt("web")["verdict"], "verified");
    browser.says("tr[data-service=web] .state", "down");
    browser.says("#lines", "loud");
    browser.click("tr[data-service=web] button[aria-label='Start web']");
    browser.says("#verdict", "web: up");
    assert_ne!(http.world.status("web")["generation"], first);
    // Kept in this tab, over a reload.
    browser.go(&format!("http://{}/", http.address));
    browser.says("#lines", "loud");
    browser.says("tr[data-service=db] .state", "up");
    browser.click("tr[data-service=db] button[aria-label='Restart db']");
    browser.says("#verdict", "db: up");
    browser.click("tr[data-service=db] .name");
    browser.says("#whose", "of db");
    browser.says("#receipts", "verified");
    // At once: what came of the restart may draw them anew.
    let opened = "const d = document.querySelector('#receipts details'); if (!d) return false; \
                  if (!d.open) d.querySelector('summary').click(); \
                  return d.innerText.includes('scan')";
    crate::look::until("a receipt shows what it rests on", || {
        (browser.script(opened) == true).then_some(())
    });
    // What services say is text, and nothing of it runs.
    browser.click("tr[data-service=loud] .name");
    browser.says("#lines", HOSTILE);
    assert_eq!(browser.script("return document.title"), "nought");
    assert_eq!(
        browser.script("return document.querySelectorAll('#lines img, #lines script').length"),
        0
    );
    for picture in ["graph", "timeline"] {
        let wide = format!(
            "const i = document.querySelector('#{picture} img'); return i ? i.naturalWidth : 0"
        );
        crate::look::until(picture, || {
            (browser.script(&wide).as_u64()? > 100).then_some(())
        });
    }
    assert_eq!(browser.complaints(), [""; 0]);
    drop(browser);
    http.world.end();
}

#[test]
fn the_keyboard_is_enough() {
    let http = with_more();
    let browser = with_token(&http, 1200, 900);
    let focused = || {
        let script = "const e = document.activeElement; return e.getAttribute('aria-label') || e.innerText || e.id";
        browser.script(script).as_str().unwrap().to_owned()
    };
    browser.script("document.activeElement.blur(); window.getSelection().removeAllRanges()");
    browser.go(&format!("http://{}/", http.address));
    browser.says("tr[data-service=web] .state", "up");
    let mut ways = Vec::new();
    while focused() != "app" {
        browser.keys(TAB);
        ways.push(focused());
        assert!(ways.len() < 10, "{ways:?}");
        let seen = "const s = getComputedStyle(document.activeElement); return s.outlineStyle + ' ' + parseFloat(s.outlineWidth)";
        assert_eq!(
            browser.script(seen),
            "solid 3",
            "the focus is seen on {}",
            focused()
        );
    }
    assert_eq!(ways[0], "To the services");
    browser.keys(&DOWN.repeat(3));
    assert_eq!(focused(), "web");
    browser.keys(ENTER);
    browser.says("#whose", "of web");
    assert_eq!(
        browser.script("return document.activeElement.getAttribute('aria-pressed')"),
        "true"
    );
    // Start is disabled while it runs.
    browser.keys(TAB);
    assert_eq!(focused(), "Stop web");
    browser.keys(ENTER);
    let verdict = browser.says("#verdict", "verified");
    assert!(verdict.starts_with("web: verified"), "{verdict}");
    let live =
        browser.script("return document.getElementById('verdict').getAttribute('aria-live')");
    assert_eq!(live, "polite");
    crate::look::until("the focus is with the service again", || {
        (focused() == "Start web").then_some(())
    });
    browser.keys(ENTER);
    browser.says("#verdict", "web: up");
    let roles = "return [...document.querySelectorAll('[onclick], td, th, tr, span, div')].filter((e) => e.onclick).length";
    assert_eq!(browser.script(roles), 0, "what is pressed is a button");
    let unnamed = "return [...document.querySelectorAll('button, input, select')].filter((e) => !(e.innerText || e.getAttribute('aria-label') || (e.labels || []).length)).length";
    assert_eq!(browser.script(unnamed), 0);
    drop(browser);
    http.world.end();
}

/// Texts whose contrast is less than WCAG 2 asks for (4.5 to 1), with what it is.
const FAINT: &str = "
  const parse = (c) => (c.match(/[\\d.]+/g) || []).map(Number);
  const light = (c) => { const [r, g, b] = parse(c).map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; const p = parse(c); if (p.length < 4 || p[3] > 0) return c; } return 'rgb(255,255,255)'; };
  const faint = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.disabled || !e.getClientRects().length || ['SCRIPT', 'STYLE', 'OPTION'].includes(e.tagName)) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) faint.push(`${e.tagName} ${e.textContent.slice(0, 20)} ${ratio.toFixed(2)}`);
  }
  return faint;";

#[test]
fn it_is_light_dark_and_narrow_as_its_reader_wants() {
    let mut http = with_more();
    http.world
        .service("broken", "exec: sh -c 'exit 3'\nrestart: never\n");
    http.call("service_monitor", &json!(["broken"])).unwrap();
    let browser = with_token(&http, 400, 800);
    browser.says("tr[data-service=broken] .state", "failed");
    let ground = "return getComputedStyle(document.body).backgroundColor";
    let mut grounds = Vec::new();
    for scheme in ["light", "dark"] {
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        browser.devtools("Emulation.setEmulatedMedia", &media);
        grounds.push(browser.script(ground).as_str().unwrap().to_owned());
        assert_eq!(browser.script(FAINT), json!([]), "{scheme}");
    }
    assert_eq!(grounds, ["rgb(255, 255, 255)", "rgb(13, 17, 23)"]);
    let beyond =
        "return document.scrollingElement.scrollWidth - document.documentElement.clientWidth";
    assert_eq!(
        browser.script(beyond),
        0,
        "nothing stands beyond 400 pixels"
    );
    let small = "return [...document.querySelectorAll('td.act button')].filter((b) => b.getBoundingClientRect().right > innerWidth || b.getBoundingClientRect().height < 24).length";
    assert_eq!(browser.script(small), 0, "every button can be touched");
    browser.click("tr[data-service=web] button[aria-label='Stop web']");
    browser.says("#verdict", "web: verified");
    drop(browser);
    http.world.end();
}

#[test]
fn beyond_this_machine_the_page_asks_for_the_token_first() {
    let (mut world, address) = serving();
    world.flags = vec!["--http".into(), format!("0.0.0.0:{}", address.port())];
    world.service(
        "loud",
        "exec: sh -c 'while :; do echo loud; sleep 0.2; done'\n",
    );
    let http = served_at(world, address, &["--http-read-only"]);
    let browser = Browser::open(1000, 800);
    browser.go(&format!("http://{}/", http.address));
    browser.says("#ask-why", "a picture needs the token");
    assert_eq!(
        browser.script("return document.getElementById('rows').children.length"),
        0
    );
    browser.keys(&format!("{}{ENTER}", "0".repeat(64)));
    browser.says("#ask-why", "the token is not the right one");
    browser.keys(&format!("{}{ENTER}", http.token));
    browser.says("tr[data-service=web] .state", "up");
    let first = http.world.status("web")["generation"].clone();
    browser.click("tr[data-service=web] button[aria-label='Stop web']");
    browser.says("#verdict", "read-only");
    assert_eq!(http.world.status("web")["generation"], first);
    drop(browser);
    http.world.end();
}

#[test]
fn the_page_is_for_this_server_alone() {
    let http = served(&[]);
    let page = ask(http.address, "GET /", &[], "");
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    let again = ask(http.address, "GET /", &[], "");
    assert_ne!(
        again.header("content-security-policy"),
        Some(policy),
        "a nonce is used once"
    );
    for path in ["/", "/graph.svg", "/timeline.svg"] {
        let rebound = ask(
            http.address,
            &format!("GET {path}"),
            &[("Host", "evil.example")],
            "",
        );
        assert_eq!(rebound.refused(), (421, -32018), "{path}");
        let fine = ask(http.address, &format!("GET {path}"), &[], "");
        assert_eq!(fine.status, 200, "{path}");
    }
    let foreign = ask(
        http.address,
        "GET /graph.svg",
        &[("Origin", "http://evil.example")],
        "",
    );
    assert_eq!(foreign.refused(), (403, -32018));
    assert_eq!(ask(http.address, "GET /nothing", &[], "").status, 404);
    http.world.end();
}
