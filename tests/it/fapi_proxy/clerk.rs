//! A stand-in for Clerk's Frontend API: it answers sign-ins as Clerk does and remembers what it was sent.

use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tower::ServiceExt as _;

/// One request.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The stand-in; it ends with the test's process.
#[derive(Clone)]
pub struct Clerk {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Clerk {
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// With a certificate's chain and key, as PEM files, it speaks TLS.
    pub fn start_with(certificate: Option<(&std::path::Path, &std::path::Path)>) -> Self {
        let acceptor = certificate.map(|(chain, key)| {
            let mut builder =
                openssl::ssl::SslAcceptor::mozilla_intermediate_v5(openssl::ssl::SslMethod::tls()).unwrap();
            builder.set_certificate_chain_file(chain).unwrap();
            builder.set_private_key_file(key, openssl::ssl::SslFiletype::PEM).unwrap();
            builder.build()
        });
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&seen));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    stream.set_nodelay(true).unwrap();
                    let (router, acceptor) = (router.clone(), acceptor.clone());
                    tokio::spawn(async move {
                        match acceptor {
                            None => serve(stream, router).await,
                            Some(acceptor) => {
                                let ssl = openssl::ssl::Ssl::new(acceptor.context()).unwrap();
                                let mut stream = tokio_openssl::SslStream::new(ssl, stream).unwrap();
                                if Pin::new(&mut stream).accept().await.is_ok() {
                                    serve(stream, router).await;
                                }
                            }
                        }
                    });
                }
            });
        });
        Self { address: told.recv().unwrap(), seen }
    }

    /// What came since this was last asked.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        router.clone().oneshot(request.map(Body::new))
    });
    // A client that breaks off is its own affair.
    let _ =
        auto::Builder::new(TokioExecutor::new()).serve_connection_with_upgrades(TokioIo::new(stream), service).await;
}

async fn answer(State(seen): State<Arc<Mutex<Vec<Seen>>>>, mut request: Request) -> Response {
    let upgrade = request.headers().contains_key(header::UPGRADE).then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    if path == "/v1/echo" {
        return Response::new(body);
    }
    if path == "/v1/early" {
        // Answers before the body is there, and does not wait for it.
        return (StatusCode::PAYLOAD_TOO_LARGE, "too large").into_response();
    }
    let Ok(body) = axum::body::to_bytes(body, 32 << 20).await else { return StatusCode::BAD_REQUEST.into_response() };
    let target = head.uri.path_and_query().unwrap().to_string();
    let gzip = head.headers.get(header::ACCEPT_ENCODING).is_some_and(|it| it.to_str().unwrap().contains("gzip"));
    seen.lock().unwrap().push(Seen {
        method: head.method.to_string(),
        target,
        headers: head.headers.clone(),
        body: body.clone(),
    });
    match path.as_str() {
        "/v1/ws" => return switch(upgrade.unwrap()),
        "/v1/redirect" => return redirect(),
        "/v1/stream" => return trickle(),
        "/v1/silent" => std::future::pending().await,
        "/v1/broken" => {
            let half = futures_body(vec![(0, Some(Bytes::from_static(b"half"))), (20, None)]);
            return Response::builder().header("content-length", 100).body(half).unwrap();
        }
        _ => {}
    }
    let form: Vec<_> = form_urlencoded::parse(&body).into_owned().collect();
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let cookie = head.headers.get(header::COOKIE).map_or("", |it| it.to_str().unwrap());
    let (status, body) = match path.trim_start_matches("/v1/client").trim_matches('/').split('/').collect::<Vec<_>>()[..]
    {
        [""] => client(cookie),
        ["sign_ins"] => sign_in("sia_new", field("identifier"), field("password"), field("strategy")),
        ["sign_ins", sia, "attempt_first_factor"] if field("code").is_some() => code(sia, field("code").unwrap()),
        ["sign_ins", sia, "attempt_first_factor"] => sign_in(sia, None, field("password"), field("strategy")),
        ["sign_ins", sia, "prepare_first_factor"] => (200, resource(sia, "needs_first_factor")),
        _ => (404, errors(&json!({"code": "resource_not_found", "message": "not found"}))),
    };
    let text = body.to_string();
    let mut response = Response::builder().status(status).header("content-type", "application/json");
    response = response.header("set-cookie", "__client=1; Path=/; HttpOnly").header("set-cookie", "__client_uat=2");
    if !gzip {
        return response.body(text.into()).unwrap();
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    response.header("content-encoding", "gzip").body(encoder.finish().unwrap().into()).unwrap()
}

fn fixture(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn errors(item: &Value) -> Value {
    let whole = fixture(include_str!("../../fixtures/clerk/fapi/error-body.with-trace-id.json"));
    json!({"errors": [item], "clerk_trace_id": whole["clerk_trace_id"]})
}

fn resource(sia: &str, status: &str) -> Value {
    json!({"response": {"object": "sign_in_attempt", "id": sia, "status": status, "created_session_id": null,
        "first_factor_verification": null, "second_factor_verification": null}, "client": null})
}

fn complete(sia: &str) -> Value {
    let mut body = resource(sia, "complete");
    body["response"]["created_session_id"] = "sess_1".into();
    body["response"]["identifier"] = "alice@example.com".into();
    body["response"]["first_factor_verification"] = json!({"status": "verified", "strategy": "password"});
    body["client"] = json!({"object": "client", "sessions": [{"id": "sess_1", "user": {"id": "user_1"}}]});
    body
}

fn sign_in(sia: &str, identifier: Option<&str>, password: Option<&str>, strategy: Option<&str>) -> (u16, Value) {
    let item = |text| errors(&fixture(text));
    match (identifier, password) {
        _ if strategy == Some("oauth_google") => {
            let mut oauth =
                fixture(include_str!("../../fixtures/clerk/fapi/sign_in.first_factor_verification.user_locked.json"));
            oauth["id"] = sia.into();
            (200, json!({"response": oauth, "client": null}))
        }
        (Some("nobody@example.com"), _) => {
            let dump =
                fixture(include_str!("../../fixtures/clerk/fapi/sdk-console.422.form_identifier_not_found.json"));
            (422, errors(&dump["errors"][0]))
        }
        (Some("locked@example.com"), _) => {
            (403, item(include_str!("../../fixtures/clerk/fapi/error-item.user_locked.json")))
        }
        (_, None) => (200, resource(&sia.replace("new", "of_alice"), "needs_first_factor")),
        (_, Some(password)) if password.ends_with("right") => (200, complete(sia)),
        (_, Some(password)) if password.ends_with("pwned") => {
            (422, item(include_str!("../../fixtures/clerk/fapi/error-item.form_password_pwned.json")))
        }
        (_, Some(password)) if password.ends_with("second") => (200, resource(sia, "needs_second_factor")),
        (_, Some(password)) if password.ends_with("trust") => (200, resource(sia, "needs_client_trust")),
        _ => (422, item(include_str!("../../fixtures/clerk/fapi/error-item.form_password_incorrect.json"))),
    }
}

fn code(sia: &str, code: &str) -> (u16, Value) {
    if code == "424242" {
        return (200, complete(sia));
    }
    (422, errors(&fixture(include_str!("../../fixtures/clerk/fapi/error-item.form_code_incorrect.json"))))
}

/// After a redirect back from a provider, if the cookie says that it ended badly.
fn client(cookie: &str) -> (u16, Value) {
    let mut oauth =
        fixture(include_str!("../../fixtures/clerk/fapi/sign_in.first_factor_verification.user_locked.json"));
    oauth["id"] = "sia_redirected".into();
    let sign_in = if cookie.contains("oauth") { oauth } else { Value::Null };
    (
        200,
        json!({"response": {"object": "client", "id": "client_1", "sessions": [], "sign_in": sign_in}, "client": null}),
    )
}

fn redirect() -> Response {
    Response::builder()
        .status(307)
        .header("location", "https://accounts.example.com/sign-in?a=b%20c")
        .header("set-cookie", "a=1; Path=/; Secure")
        .header("set-cookie", "b=2; Path=/; SameSite=None")
        .header("connection", "keep-alive, x-hop")
        .header("x-hop", "1")
        .header("x-clerk", "kept")
        .header("alt-svc", "h3=\":443\"")
        .body(Body::empty())
        .unwrap()
}

fn trickle() -> Response {
    let parts = (0..3).map(|number| (if number == 0 { 0 } else { 300 }, Some(Bytes::from(format!("part {number}\n")))));
    Response::new(futures_body(parts.collect()))
}

/// Parts, each after a pause in milliseconds; `None` breaks off.
fn futures_body(parts: Vec<(u64, Option<Bytes>)>) -> Body {
    type Part = Option<Bytes>;
    struct Parts(std::vec::IntoIter<(u64, Part)>, Option<(Pin<Box<tokio::time::Sleep>>, Part)>);
    impl axum::body::HttpBody for Parts {
        type Data = Bytes;
        type Error = std::io::Error;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, std::io::Error>>> {
            loop {
                if let Some((pause, _)) = &mut self.1 {
                    std::task::ready!(pause.as_mut().poll(context));
                    let (_, part) = self.1.take().unwrap();
                    let frame = part.map(hyper::body::Frame::data).ok_or_else(|| std::io::Error::other("broken off"));
                    return std::task::Poll::Ready(Some(frame));
                }
                let Some((pause, part)) = self.0.next() else { return std::task::Poll::Ready(None) };
                self.1 = Some((Box::pin(tokio::time::sleep(Duration::from_millis(pause))), part));
            }
        }
    }
    Body::new(Parts(parts.into_iter(), None))
}

/// Says everything back, in capitals.
fn switch(upgrade: hyper::upgrade::OnUpgrade) -> Response {
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgrade.await.unwrap());
        let mut bytes = [0; 1024];
        while let Ok(read @ 1..) = stream.read(&mut bytes).await {
            stream.write_all(&bytes[..read].to_ascii_uppercase()).await.unwrap();
        }
        Ok::<_, Infallible>(())
    });
    let switching = HeaderValue::from_static("websocket");
    (
        StatusCode::SWITCHING_PROTOCOLS,
        [(header::CONNECTION, HeaderValue::from_static("Upgrade")), (header::UPGRADE, switching)],
    )
        .into_response()
}
