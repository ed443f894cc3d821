use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use flate2::read::GzDecoder;

use super::*;

const SECRET: &str = "4f1c-not-a-real-token";

/// Answers one request with `answer` and gives back what was sent.
fn server(answer: &'static [u8]) -> (Url, std::thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/in", listener.local_addr().unwrap())).unwrap();
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut sent = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let read = stream.read(&mut buffer).unwrap();
            sent.extend_from_slice(&buffer[..read]);
            let text = String::from_utf8_lossy(&sent).to_lowercase();
            let Some(head) = text.find("\r\n\r\n") else { continue };
            let length = text.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            if sent.len() >= head + 4 + length.map_or(0, |length| length.parse().unwrap()) || read == 0 {
                break;
            }
        }
        stream.write_all(answer).unwrap();
        sent
    });
    (url, serving)
}

fn client() -> Client {
    let settings = Settings { timeout: Duration::from_secs(2), ..Settings::default() };
    Client::new(&settings, Clock::held(crate::event::Timestamp(784_111_777_000))).unwrap()
}

fn request(url: &Url) -> Request<'_> {
    let request = Request::post(url, "application/json", b"{\"a\":1}".repeat(100));
    request.secret_header("Authorization", "Splunk ", &Secret::new(SECRET)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_read_whole_and_told_without_the_secret() {
    let (url, serving) = server(
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: Sun, 06 Nov 1994 08:50:07 GMT\r\nSet-Cookie: node=7; Path=/\r\n\
          Content-Length: 43\r\n\r\nbusy: Splunk 4f1c-not-a-real-token\r\n\x1b[2J...",
    );
    let answer = client().post(request(&url).gzip()).await.unwrap();
    let sent = serving.join().unwrap();
    let head = String::from_utf8_lossy(&sent).to_lowercase();
    assert!(head.contains("authorization: splunk 4f1c") && head.contains("content-encoding: gzip"), "{head}");
    let body = sent.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let mut unpacked = Vec::new();
    GzDecoder::new(&sent[body..]).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, b"{\"a\":1}".repeat(100));
    let reason = "answered 503 Service Unavailable: busy: Splunk *** \\u{1b}[2J...".to_owned();
    assert_eq!(answer.verdict(), Delivery::Retry { reason, after: Some(Duration::from_secs(30)) });
    assert_eq!(answer.cookies(), ["node=7; Path=/"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_redirect_is_followed() {
    let (elsewhere, _waiting) = server(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let answer: &'static str =
        format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\n\r\n").leak();
    let (url, _serving) = server(answer.as_bytes());
    let answer = client().post(request(&url)).await.unwrap();
    assert_eq!((answer.status(), answer.verdict().as_str()), (307, "blocked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_half_an_answer_and_an_endless_one_are_tried_again() {
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Url::parse(&format!("http://{}/hidden-path", listener.local_addr().unwrap())).unwrap()
    };
    let refused = client().post(request(&nobody)).await.unwrap_err();
    let Delivery::Retry { reason, after: None } = refused else { panic!("{refused:?}") };
    assert!(reason.contains("refused") && !reason.contains("hidden-path"), "{reason}");

    let (url, _serving) = server(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"text\":\"Succ");
    assert_eq!(client().post(request(&url)).await.unwrap_err().as_str(), "retry");

    let endless: &'static str =
        format!("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n{}", "x".repeat(3 << 20)).leak();
    let (url, _serving) = server(endless.as_bytes());
    let Delivery::Retry { reason, .. } = client().post(request(&url)).await.unwrap_err() else { panic!() };
    assert!(reason.contains("more than 2097152 bytes"), "{reason}");
}

#[test]
fn a_secret_that_no_header_can_hold_blocks_and_is_not_told() {
    let url = Url::parse("https://h/").unwrap();
    let request = Request::post(&url, "text/plain", Vec::new());
    let fault = request.secret_header("Authorization", "Bearer ", &Secret::new("geheim\nX: y")).unwrap_err();
    assert!(matches!(&fault, Delivery::Blocked(reason) if reason.contains("Authorization")), "{fault:?}");
    assert!(!format!("{fault:?}").contains("geheim"));
}
