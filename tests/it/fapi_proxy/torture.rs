//! HTTP as it should not be sent, and as it seldom is.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use authspike::event::Outcome;

use super::clerk::Clerk;
use super::{Here, client, exchange};
use crate::support::until;

const FORM: &str = "content-type: application/x-www-form-urlencoded\r\n";

/// The proxy beside threads that block on its sockets.
fn here(change: impl FnOnce(&mut super::Config)) -> (tokio::runtime::Runtime, Clerk, Here) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let clerk = Clerk::start();
    let here = runtime.block_on(Here::before(&clerk, change));
    (runtime, clerk, here)
}

#[test]
fn smuggled_requests_are_refused_or_taken_for_the_body_they_are_in() {
    let (_runtime, clerk, here) = here(|_| ());
    let smuggled = "GET /__clerk/v1/smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let post = "POST /__clerk/v1/outer HTTP/1.1\r\nhost: a\r\nconnection: close\r\n";
    let length = smuggled.len();
    for (case, head, body) in [
        ("two lengths", format!("content-length: 0\r\ncontent-length: {length}\r\n"), smuggled.to_owned()),
        ("a list of lengths", format!("content-length: 0, {length}\r\n"), smuggled.to_owned()),
        ("a length with a sign", format!("content-length: +{length}\r\n"), smuggled.to_owned()),
        ("a space before the colon", format!("content-length : {length}\r\n"), smuggled.to_owned()),
        (
            "another coding at the end",
            "transfer-encoding: chunked, identity\r\n".into(),
            format!("0\r\n\r\n{smuggled}"),
        ),
        ("an unknown coding", "transfer-encoding: xchunked\r\n".into(), format!("0\r\n\r\n{smuggled}")),
        (
            "a header folded",
            "transfer-encoding:\r\n chunked\r\nx-a: b\r\n c\r\n".into(),
            format!("0\r\n\r\n{smuggled}"),
        ),
        ("a control character", "transfer-encoding: \u{b}chunked\r\n".into(), format!("0\r\n\r\n{smuggled}")),
        ("a NUL", "x-a: b\0c\r\n".into(), smuggled.to_owned()),
        ("a size that overflows", "transfer-encoding: chunked\r\n".into(), format!("fffffffffffffffff\r\n{smuggled}")),
        ("a size that is none", "transfer-encoding: chunked\r\n".into(), format!("0x1\r\na\r\n0\r\n\r\n{smuggled}")),
    ] {
        let answer = exchange(here.proxy, format!("{post}{head}\r\n{body}").as_bytes());
        let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.1 502");
        assert!(refused, "{case}: {answer}");
        let targets: Vec<_> = clerk.take().into_iter().map(|seen| seen.target).collect();
        assert_eq!(targets, [""; 0], "{case}");
    }
    // A length beside chunks: the chunks count (RFC 9112, 6.3), the length goes no further, and the connection ends.
    for head in
        ["content-length: 4\r\ntransfer-encoding: chunked\r\n", "transfer-encoding: chunked\r\ncontent-length: 4\r\n"]
    {
        let answer = exchange(
            here.proxy,
            format!("{}{head}\r\n0\r\n\r\n{smuggled}", post.replace("connection: close\r\n", "")).as_bytes(),
        );
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        let seen = clerk.take();
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert!(seen[0].target == "/v1/outer" && !seen[0].headers.contains_key("content-length"), "{seen:?}");
    }
    // HTTP/1.0 knows no chunks.
    let old = format!("POST /__clerk/v1/outer HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}");
    exchange(here.proxy, old.as_bytes());
    assert_eq!(clerk.take().len(), 0);
}

#[test]
fn targets_stay_on_clerks_host() {
    let (_runtime, clerk, here) = here(|_| ());
    for (target, expected) in [
        ("http://evil.example/__clerk/v1/a", Some("/v1/a")),
        ("/__clerk//evil.example/v1/a", Some("//evil.example/v1/a")),
        ("/__clerk", Some("/")),
        ("/__clerk/v1/%2e%2e/a?b#c", Some("/v1/%2e%2e/a?b")),
        ("/__clerkevil.example/v1", None),
        ("/__CLERK/v1", None),
        ("*", None),
        ("evil.example:443", None),
    ] {
        let method = if target == "*" {
            "OPTIONS"
        } else if target == "evil.example:443" {
            "CONNECT"
        } else {
            "GET"
        };
        let sent = format!("{method} {target} HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n");
        let answer = exchange(here.proxy, sent.as_bytes());
        assert!(
            answer.starts_with("HTTP/1.1 4") || (answer.starts_with("HTTP/1.1 200") && target == "/__clerk"),
            "{target}: {answer}"
        );
        let seen = clerk.take();
        assert_eq!(seen.first().map(|seen| &*seen.target), expected, "{target}");
        assert!(seen.iter().all(|seen| seen.headers["host"] == *clerk.address.to_string()), "{target}");
    }
}

#[test]
fn a_form_in_chunks_and_pieces_is_read_and_the_client_is_told_to_go_on() {
    let (runtime, clerk, here) = here(|_| ());
    let mut stream = TcpStream::connect(here.proxy).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(
        stream,
        "POST /__clerk/v1/client/sign_ins HTTP/1.1\r\nhost: a\r\n{FORM}transfer-encoding: chunked\r\n\
         expect: 100-continue\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "HTTP/1.1 100 Continue\r\n");
    for piece in ["1\r\ni\r\n", "d\r\ndentifier=a&p\r\n", "e;ext=1\r\nassword=wrong&\r\n", "0\r\n\r\n"] {
        stream.write_all(piece.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(30));
    }
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("HTTP/1.1 422") && rest.contains("form_password_incorrect"), "{rest}");
    assert_eq!(clerk.take()[0].body, "identifier=a&password=wrong&");
    let events = runtime.block_on(here.events());
    assert!(events.len() == 1 && events[0].identifier.is_some(), "{events:?}");
}

#[test]
fn pipelined_sign_ins_are_answered_in_their_order_and_each_is_recorded() {
    let (runtime, clerk, here) = here(|_| ());
    let mut sent = Vec::new();
    for number in 0..20 {
        let body = format!("identifier=p{number}&password=wrong");
        let close = if number == 19 { "connection: close\r\n" } else { "" };
        let length = body.len();
        write!(
            sent,
            "POST /__clerk/v1/client/sign_ins HTTP/1.1\r\nhost: a\r\n{FORM}{close}content-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
    }
    assert_eq!(exchange(here.proxy, &sent).matches("HTTP/1.1 422").count(), 20);
    let bodies: Vec<_> = clerk.take().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies, (0..20).map(|number| format!("identifier=p{number}&password=wrong")).collect::<Vec<_>>());
    let events = runtime.block_on(here.events());
    assert_eq!(events.iter().filter(|event| event.outcome == Outcome::Failure).count(), 20);
}

#[test]
fn heads_without_end_are_refused() {
    let (_runtime, clerk, here) = here(|_| ());
    let get = "GET /__clerk/v1/a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n";
    let many = "x-many: a\r\n".repeat(200);
    let answer = exchange(here.proxy, format!("{get}{many}\r\n").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let huge = format!("{get}x: {}\r\n\r\n", "a".repeat(1 << 20));
    let answer = exchange(here.proxy, huge.as_bytes());
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert!(clerk.take().is_empty());
    let cookie = format!("{get}cookie: {}\r\n\r\n", "a".repeat(16_000));
    assert!(exchange(here.proxy, cookie.as_bytes()).starts_with("HTTP/1.1 404"), "what browsers send is taken");
    assert_eq!(clerk.take()[0].headers["cookie"].len(), 16_000);
}

#[test]
fn clients_that_leave_and_slow_ones_disturb_nobody() {
    let (runtime, clerk, here) = here(|config| config.timeout_seconds = 1);
    for _ in 0..50 {
        let mut stream = TcpStream::connect(here.proxy).unwrap();
        write!(
            stream,
            "POST /__clerk/v1/client/sign_ins HTTP/1.1\r\nhost: a\r\n{FORM}content-length: 1000\r\n\r\nidentifier=a"
        )
        .unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
    }
    // Longer than the time-out in all, and never silent for as long.
    let mut slow = TcpStream::connect(here.proxy).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let body = "identifier=slow&password=wrong";
    write!(
        slow,
        "POST /__clerk/v1/client/sign_ins HTTP/1.1\r\nhost: a\r\n{FORM}connection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    for byte in body.bytes() {
        slow.write_all(&[byte]).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 422"), "{answer}");
    let silent = runtime.block_on(client().get(here.url("/v1/silent")).send()).unwrap();
    assert_eq!(silent.status(), 504);
    let early = runtime.block_on(client().post(here.url("/v1/early")).body(vec![b'x'; 1000]).send()).unwrap();
    assert_eq!(early.status(), 413);
    let broken = runtime.block_on(async { client().get(here.url("/v1/broken")).send().await?.bytes().await });
    assert!(broken.is_err(), "half an answer is not passed off as a whole one");
    let open = here.metrics.fapi_proxy.connections.clone();
    until("the connections to be given back", || (open.get() <= 4).then_some(()));
    let whole = |seen: &super::clerk::Seen| seen.target.starts_with("/v1/client");
    assert_eq!(clerk.take().iter().filter(|seen| whole(seen)).count(), 1, "half a form is not a request");
    assert_eq!(runtime.block_on(here.events()).len(), 1);
}

#[test]
fn a_websocket_is_joined_to_clerks() {
    let (_runtime, clerk, here) = here(|_| ());
    let mut stream = TcpStream::connect(here.proxy).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let ask = "GET /__clerk/v1/ws HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
               sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";
    stream.write_all(ask.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("upgrade: websocket"), "{head}");
    for word in ["hello", "again"] {
        stream.write_all(word.as_bytes()).unwrap();
        let mut said = [0; 5];
        reader.read_exact(&mut said).unwrap();
        assert_eq!(said, *word.to_uppercase().as_bytes());
    }
    let seen = &clerk.take()[0].headers;
    assert_eq!(
        (&seen["upgrade"], &seen["sec-websocket-key"]),
        (&"websocket".parse().unwrap(), &"dGhlIHNhbXBsZSBub25jZQ==".parse().unwrap())
    );
    // To HTTP/2 without TLS nothing is upgraded.
    let h2c = "GET /__clerk/v1/a HTTP/1.1\r\nhost: a\r\nconnection: close, upgrade\r\nupgrade: h2c\r\n\r\n";
    assert!(exchange(here.proxy, h2c.as_bytes()).starts_with("HTTP/1.1 404"));
    assert!(!clerk.take()[0].headers.contains_key("upgrade"));
}
