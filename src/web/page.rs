//! The status page: one document that needs nothing from anywhere else and runs no script but its
//! own.

use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue};
use hyper::{Request, StatusCode};

use super::answer::{self, Answer};
use super::guard;
use super::server::Connection;
use crate::sys::random;

/// It is the same for everybody, and shows nothing by itself: what it shows it has to ask for.
const PAGE: &str = concat!(
    include_str!("page/head.html"),
    "<style nonce=\"NONCE\">\n",
    include_str!("page/style.css"),
    "</style>\n",
    include_str!("page/body.html"),
    "<script nonce=\"NONCE\">\n",
    include_str!("page/words.js"),
    include_str!("page/script.js"),
    "</script>\n</body>\n</html>\n"
);
const HTML: &str = "text/html; charset=utf-8";

/// Answers with the page.
pub(super) fn page<B>(connection: &Connection, request: &Request<B>) -> Answer {
    if let Err(refused) = guard::host(request.uri(), request.headers(), connection.local) {
        return answer::refusal(refused);
    }
    let nonce = random::hex().unwrap_or_else(|error| {
        tracing::warn!("failed to {error}");
        String::new()
    });
    let mut answer = answer::with(StatusCode::OK, HTML, PAGE.replace("NONCE", &nonce));
    if let Ok(policy) = HeaderValue::from_str(&policy(&nonce)) {
        let headers = answer.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    answer
}

/// Nothing but its own script and style, and this server to ask; text never becomes markup.
fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
         connect-src 'self'; img-src blob:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_makes_no_markup_of_text() {
        for elsewhere in [
            "src=\"",
            "href=\"http",
            "@import",
            "url(",
            "http://",
            "https://",
        ] {
            assert!(!PAGE.contains(elsewhere), "{elsewhere}");
        }
        for unsafe_way in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "DOMParser",
            "style=\"",
            "onclick=\"",
        ] {
            assert!(!PAGE.contains(unsafe_way), "{unsafe_way}");
        }
        assert_eq!(PAGE.matches("NONCE").count(), 2);
    }

    #[test]
    fn the_policy_allows_its_own_script_alone() {
        let policy = policy("n");
        assert!(policy.starts_with("default-src 'none'; script-src 'nonce-n';"));
        assert!(!policy.contains("unsafe") && !policy.contains('*'));
    }
}
