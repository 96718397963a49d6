//! Keeps web pages away from the local cloud's socket: a browser that was led here by a name of somebody else's (DNS
//! rebinding), or that sends a request on behalf of a page from elsewhere, is refused before anything is looked at.
//!
//! The token is checked in `api`; this stands in front of it because a page can make a browser send requests, and because
//! Workers, which have no token, are reached through the same kind of socket.

use axum::{
    extract::Request,
    http::{HeaderMap, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

/// Refuses what did not come to this machine under one of its own names, or comes from a page of another site.
pub(super) async fn only_this_machine(request: Request, next: Next) -> Response {
    match refusal(request.uri(), request.headers()) {
        None => next.run(request).await,
        Some(reason) => (StatusCode::FORBIDDEN, format!("{reason}\n")).into_response(),
    }
}

fn refusal(uri: &Uri, headers: &HeaderMap) -> Option<&'static str> {
    // Each name that is given must be right: which of two others go by is not known.
    let given = headers.get_all(header::HOST).iter();
    let mut hosts = given
        .map(|host| host.to_str().ok().map(without_port))
        .chain(uri.host().map(Some))
        .peekable();
    let here = hosts.peek().is_some() && hosts.all(|host| host.is_some_and(is_this_machine));
    if !here {
        return Some("this server answers to 127.0.0.1, localhost and names below localhost only");
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let from_here = origins.all(|origin| {
        let origin = origin.to_str().ok();
        origin
            .and_then(|origin| origin.split_once("://"))
            .is_some_and(|(_, host)| is_this_machine(without_port(host)))
    });
    (!from_here).then_some("requests of web pages from elsewhere are refused")
}

/// The host of `host:port`; an IPv6 address keeps its brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

fn is_this_machine(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    matches!(host.as_str(), "127.0.0.1" | "[::1]" | "localhost") || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(host: Option<&str>, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(host) = host {
            headers.insert(header::HOST, host.parse().unwrap());
        }
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        refusal(&Uri::from_static("/client/v4/user"), &headers).is_some()
    }

    #[test]
    fn only_names_of_this_machine_are_answered() {
        for host in [
            "127.0.0.1:8787",
            "localhost",
            "LOCALHOST:1",
            "api-dev.localhost:8787",
            "[::1]:8787",
        ] {
            assert!(!refused(Some(host), None), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8787",
            "localhost.evil.example",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "0.0.0.0:8787",
            "",
        ] {
            assert!(refused(Some(host), None), "{host}");
        }
        assert!(refused(None, None));
    }

    #[test]
    fn pages_from_elsewhere_are_refused() {
        let host = Some("127.0.0.1:8787");
        for origin in [
            "http://localhost:3000",
            "http://api.localhost:8787",
            "https://127.0.0.1",
        ] {
            assert!(!refused(host, Some(origin)), "{origin}");
        }
        for origin in [
            "https://evil.example",
            "http://localhost.evil.example",
            "null",
            "localhost",
        ] {
            assert!(refused(host, Some(origin)), "{origin}");
        }
    }
}
