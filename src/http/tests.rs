//! The limits against clients that misbehave.

use axum::routing::{get, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// Short enough to be waited out, long enough for a busy machine's loopback.
const SHORT: Patience = Patience {
    headers: Duration::from_millis(500),
    idle: Duration::from_millis(500),
    drain: Duration::from_millis(100),
};

struct Served {
    addr: SocketAddr,
    connections: IntGauge,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

async fn served(router: Router, max_connections: usize) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let connections = IntGauge::new("connections", "of the test").unwrap();
    let stop = CancellationToken::new();
    let limits = Limits { max_connections, request_timeout: Duration::from_secs(1) };
    let task = tokio::spawn(serve_with(SHORT, listener, router, limits, connections.clone(), stop.clone()));
    Served { addr, connections, stop, task }
}

fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "here" }))
        .route("/body", post(|body: bytes::Bytes| async move { body.len().to_string() }))
        .route("/never", get(std::future::pending::<&str>))
        .route("/large", get(|| async { vec![b'x'; 64 << 20] }))
}

/// What comes back until the server closes the connection; a server that never does fails the test.
async fn exchange(addr: SocketAddr, sent: &[u8]) -> String {
    tokio::time::timeout(Duration::from_secs(20), exchanged(addr, sent)).await.expect("the connection was kept")
}

async fn exchanged(addr: SocketAddr, sent: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(sent).await.unwrap();
    let mut answer = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_silent_client_and_one_with_half_a_preface_lose_their_place() {
    let served = served(router(), 2).await;
    for sent in ["", "PRI * HTTP/2", "GET / HTTP/1.1\r\nhost: a\r\nx-slow: "] {
        assert_eq!(exchange(served.addr, sent.as_bytes()).await, "", "{sent:?}");
    }
    let answer = exchange(served.addr, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("here"), "{answer}");
}

#[tokio::test]
async fn a_slow_body_and_a_handler_without_end_are_answered_503() {
    let served = served(router(), 2).await;
    for sent in
        ["POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc", "GET /never HTTP/1.1\r\nhost: a\r\n\r\n"]
    {
        let answer = exchange(served.addr, sent.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1\r\n"), "{sent:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_loses_its_place() {
    let served = served(router(), 1).await;
    let mut stream = TcpStream::connect(served.addr).await.unwrap();
    stream.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    // The only place is taken, so this is answered once the other is gone.
    let answer = exchange(served.addr, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.ends_with("here"), "{answer}");
    drop(stream);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let served = served(router(), 1).await;
    let mut first = TcpStream::connect(served.addr).await.unwrap();
    first.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut start = [0; 12];
    first.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    let second = exchange(served.addr, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    tokio::pin!(second);
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut second).await.is_err(), "it was let in");
    assert_eq!(served.connections.get(), 1);
    drop(first);
    assert!(second.await.ends_with("here"));
}

#[tokio::test]
async fn when_asked_to_stop_it_finishes_what_runs_and_takes_nothing_new() {
    let (begun, release) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let handler = {
        let (begun, release) = (Arc::clone(&begun), Arc::clone(&release));
        move || async move {
            begun.notify_one();
            release.notified().await;
            "finished"
        }
    };
    let served = served(Router::new().route("/", get(handler)), 8).await;
    let running = tokio::spawn(exchange(served.addr, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
    begun.notified().await;
    served.stop.cancel();
    // The listener is gone at once, the request is not.
    while TcpStream::connect(served.addr).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!served.task.is_finished());
    release.notify_one();
    assert!(running.await.unwrap().ends_with("finished"));
    served.task.await.unwrap();
    assert_eq!(served.connections.get(), 0);
}

#[tokio::test]
async fn the_handler_learns_the_peer() {
    let handler = |axum::Extension(Peer(ip)): axum::Extension<Peer>| async move { ip.to_string() };
    let served = served(Router::new().route("/", get(handler)), 8).await;
    let answer = exchange(served.addr, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.ends_with("127.0.0.1"), "{answer}");
}
