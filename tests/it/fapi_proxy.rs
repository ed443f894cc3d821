//! authspike in front of Clerk's Frontend API: what goes through it, what is recorded of it, and what never stops it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use authspike::alias::{self, Aliases};
use authspike::clock::{Clock, Stopwatch};
use authspike::event::{Account, AuthEvent, Outcome, Source};
use authspike::log::memory::MemoryLog;
use authspike::log::{Log, Offset, Partition, Record};
use authspike::metrics::Metrics;
use authspike::normalize::identifier::IdentifierKey;
use authspike::secret::Secret;
use authspike::sources::fapi_proxy::{Config, FapiProxy, Parts};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::run::Mounted;
use crate::support::{Instance, until};

mod clerk;
mod torture;

use clerk::Clerk;

const SECRET_KEY: &str = "sk_live_sentinel_of_the_key";
const PASSWORD: &str = "sentinel-of-a-password-";
const INSTANCE: &str = "ins_1";
const EVERY_OUTCOME: [&str; 8] =
    ["success", "failure", "password_correct_stopped", "challenge", "locked", "code_sent", "rate_limited", "other"];

/// The binary as the proxy of `clerk`, told of clients by loopback.
fn proxied(data_dir: &Path, clerk: &Clerk, variables: &[(&str, &str)]) -> Instance {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "[ingest.fapi_proxy]\nenabled = true\nlisten = \"127.0.0.1:0\"\nproxy_url = \"https://app.example/__clerk\"\n\
         upstream = \"http://{}\"\ninstance_id = \"{INSTANCE}\"\ntrusted_proxies = [\"127.0.0.1\"]\n",
        clerk.address
    );
    std::fs::write(file.path(), text).unwrap();
    let variables = [&[("CLERK_SECRET_KEY", SECRET_KEY)], variables].concat();
    Instance::start_as(data_dir, &variables, &["--config", file.path().to_str().unwrap()])
}

/// A browser.
struct Browser {
    client: reqwest::blocking::Client,
    base: String,
}

impl Browser {
    fn new(proxy: SocketAddr) -> Self {
        let builder = reqwest::blocking::Client::builder().redirect(reqwest::redirect::Policy::none());
        Self { client: builder.build().unwrap(), base: format!("http://{proxy}/__clerk/v1") }
    }

    /// A form, as Clerk's SDK sends it, from `ip`; the status.
    fn post(&self, path: &str, ip: &str, fields: &[(&str, &str)]) -> u16 {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = self
            .client
            .post(format!("{}{path}?__clerk_api_version=2025-11-10&_clerk_js_version=5.99.0", self.base))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("x-forwarded-for", ip)
            .header("accept-encoding", "gzip, deflate, br, zstd")
            .header("origin", "https://app.example")
            .header("user-agent", "Mozilla/5.0 of a test");
        let response = request.body(form).send().unwrap();
        let status = response.status().as_u16();
        response.bytes().unwrap();
        status
    }

    fn password(&self, ip: &str, identifier: &str, kind: &str) -> u16 {
        let password = format!("{PASSWORD}{kind}");
        let fields = [("identifier", identifier), ("password", &password), ("strategy", "password")];
        self.post("/client/sign_ins", ip, &fields)
    }
}

fn recorded(instance: &Instance, outcome: &str) -> f64 {
    instance.metric(&format!("authspike_ingest_events_total{{outcome=\"{outcome}\",source=\"fapi_proxy\"}}"))
}

fn all_recorded(instance: &Instance) -> f64 {
    EVERY_OUTCOME.iter().map(|outcome| recorded(instance, outcome)).sum()
}

#[test]
fn each_ending_of_a_sign_in_is_recorded_and_its_password_is_nowhere() {
    let (directory, clerk) = (tempfile::tempdir().unwrap(), Clerk::start());
    let instance = proxied(directory.path(), &clerk, &[("RUST_LOG", "trace")]);
    let browser = Browser::new(instance.fapi_proxy.unwrap());
    let ip = "203.0.113.7";
    assert_eq!(browser.password(ip, "alice@example.com", "right"), 200);
    assert_eq!(browser.password(ip, "alice@example.com", "wrong"), 422);
    assert_eq!(browser.password(ip, "nobody@example.com", "wrong"), 422);
    assert_eq!(browser.password(ip, "alice@example.com", "pwned"), 422);
    assert_eq!(browser.password(ip, "alice@example.com", "second"), 200);
    assert_eq!(browser.password(ip, "alice@example.com", "trust"), 200);
    assert_eq!(browser.password(ip, "locked@example.com", "wrong"), 403);
    assert_eq!(browser.post("/client/sign_ins", ip, &[("identifier", "alice@example.com")]), 200);
    assert_eq!(
        browser.post("/client/sign_ins/sia_of_alice/prepare_first_factor", ip, &[("strategy", "email_code")]),
        200
    );
    let code = |code| [("strategy", "email_code"), ("code", code)];
    assert_eq!(browser.post("/client/sign_ins/sia_of_alice/attempt_first_factor", ip, &code("000000")), 422);
    assert_eq!(browser.post("/client/sign_ins/sia_of_alice/attempt_first_factor", ip, &code("424242")), 200);
    assert_eq!(browser.post("/client/sign_ins", ip, &[("strategy", "oauth_google")]), 200);
    // Back from the provider, on two pages: one error.
    for _ in 0..2 {
        let client = browser.client.get(format!("{}/client", browser.base)).header("cookie", "oauth=1");
        assert_eq!(client.send().unwrap().status().as_u16(), 200);
    }
    until("all of it to be recorded", || (all_recorded(&instance) >= 13.0).then_some(()));
    until("the second page to be seen", || {
        (instance.metric("authspike_ingest_duplicates_total{source=\"fapi_proxy\"}") == 1.0).then_some(())
    });
    let expected = [2.0, 3.0, 3.0, 1.0, 3.0, 1.0, 0.0, 0.0];
    assert_eq!(EVERY_OUTCOME.map(|outcome| recorded(&instance, outcome)), expected, "{EVERY_OUTCOME:?}");
    instance.settle();

    let clerks = clerk.take();
    assert_eq!(clerks.len(), 14);
    assert!(String::from_utf8_lossy(&clerks[0].body).contains(PASSWORD), "it did go to Clerk");
    let shown = [instance.admin("/metrics").1, instance.admin("/readyz").1, instance.admin("/v1/findings").1].concat();
    let data_dir = instance.data_dir.clone();
    std::thread::sleep(Duration::from_millis(300));
    let said = instance.said();
    assert!(said.contains("TRACE"), "it says all it ever says");
    for sentinel in [PASSWORD, SECRET_KEY, "alice@example.com", "alice%40example.com", "424242"] {
        assert!(!said.contains(sentinel), "{sentinel} was logged");
        assert!(!shown.contains(sentinel), "{sentinel} is shown");
        for _ in 0..2 {
            for entry in
                std::fs::read_dir(&data_dir).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file())
            {
                let bytes = std::fs::read(entry.path()).unwrap();
                let found = bytes.windows(sentinel.len()).any(|window| window == sentinel.as_bytes());
                assert!(!found, "{sentinel} is in {}", entry.path().display());
            }
        }
    }
    assert!(instance.terminate().success());
}

#[test]
fn a_stuffing_run_through_the_proxy_is_found_under_the_clients_address() {
    let (directory, clerk) = (tempfile::tempdir().unwrap(), Clerk::start());
    let instance = proxied(directory.path(), &clerk, &[]);
    let browser = Browser::new(instance.fapi_proxy.unwrap());
    for number in 0..90 {
        // What the attacker claims stands before what the proxy in front saw.
        let list = format!("8.8.8.{}, 203.0.113.66", number % 200);
        assert_eq!(browser.password(&list, &format!("person{number}@example.com"), "wrong"), 422);
    }
    assert_eq!(browser.password("203.0.113.66", "person90@example.com", "second"), 200);
    let finding = until("the finding", || {
        let findings = instance.findings();
        findings.into_values().find(|line| line.contains("203.0.113.66"))
    });
    assert!(finding.contains(INSTANCE), "{finding}");
    assert!(!finding.contains("8.8.8."), "{finding}");
    assert!(instance.terminate().success());
}

#[test]
fn with_a_full_disk_everybody_still_signs_in_and_the_gap_is_told() {
    const SIGN_INS: u32 = 12_000;
    let (mounted, clerk) = (Mounted::new(), Clerk::start());
    let instance = proxied(&mounted.0.path().join("data"), &clerk, &[]);
    let proxy = instance.fapi_proxy.unwrap();
    let filler = mounted.0.path().join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let failed = load(proxy, SIGN_INS as usize);
    assert_eq!(failed, 0, "of {SIGN_INS} sign-ins");
    let (status, body) = instance.admin("/readyz");
    assert_eq!(status, 503, "detection is not well: {body}");
    assert!(body.contains("sign-in attempts were forwarded and not recorded"), "{body}");
    assert_eq!(reqwest::blocking::get(format!("http://{proxy}/livez")).unwrap().status(), 200, "the proxy is");

    drop(file);
    std::fs::remove_file(&filler).unwrap();
    let unrecorded = || instance.metric("authspike_fapi_proxy_unrecorded_total{reason=\"queue_full\"}");
    until("what waited to be recorded", || {
        (all_recorded(&instance) + unrecorded() == f64::from(SIGN_INS)).then_some(())
    });
    assert!(unrecorded() > 0.0 && all_recorded(&instance) > 8000.0, "{} of {SIGN_INS} went by", unrecorded());
    assert!(instance.terminate().success());
}

#[test]
fn without_a_detector_everybody_still_signs_in_until_somebody_restarts_it() {
    let (directory, clerk) = (tempfile::tempdir().unwrap(), Clerk::start());
    let instance = proxied(directory.path(), &clerk, &[]);
    let proxy = instance.fapi_proxy.unwrap();
    assert_eq!(load(proxy, 10), 0);
    until("the log", || (all_recorded(&instance) == 10.0).then_some(()));
    // What is written from now on cannot be read again, and a detector does not skip events.
    let database = rusqlite::Connection::open(instance.data_dir.join("authspike.db")).unwrap();
    database.busy_timeout(Duration::from_secs(20)).unwrap();
    database
        .execute_batch(
            "CREATE TRIGGER damage AFTER INSERT ON block BEGIN
             UPDATE block SET body = x'ff' WHERE first_offset = NEW.first_offset; END",
        )
        .unwrap();
    assert_eq!(load(proxy, 10), 0);
    let body = until("readiness to say so", || {
        let (status, body) = instance.admin("/readyz");
        (status == 503).then_some(body)
    });
    assert!(body.contains("restart it"), "{body}");
    assert_eq!(load(proxy, 500), 0, "of 500 sign-ins");
    assert_eq!(reqwest::blocking::get(format!("http://{proxy}/livez")).unwrap().status(), 200);
    assert_eq!(instance.terminate().code(), Some(1), "it was not well");
}

/// Sign-ins from 16 browsers at once; how many failed on the way.
fn load(proxy: SocketAddr, sign_ins: usize) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let failed = Arc::new(AtomicUsize::new(0));
    runtime.block_on(async {
        let client = reqwest::Client::new();
        let mut browsers = tokio::task::JoinSet::new();
        for browser in 0..16 {
            let (client, failed) = (client.clone(), Arc::clone(&failed));
            browsers.spawn(async move {
                for number in (browser..sign_ins).step_by(16) {
                    let request = client
                        .post(format!("http://{proxy}/__clerk/v1/client/sign_ins"))
                        .header("content-type", "application/x-www-form-urlencoded")
                        .header("x-forwarded-for", "203.0.113.7")
                        .body(format!("identifier=person{number}&password=wrong&strategy=password"));
                    let whole = match request.send().await {
                        Ok(response) if response.status() == 422 => response.bytes().await.is_ok(),
                        Ok(_) | Err(_) => false,
                    };
                    failed.fetch_add(usize::from(!whole), Ordering::Relaxed);
                }
            });
        }
        browsers.join_all().await;
    });
    failed.load(Ordering::Relaxed)
}

/// The proxy in this process, over a log in memory.
struct Here {
    proxy: SocketAddr,
    log: Arc<MemoryLog>,
    metrics: Metrics,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Here {
    async fn before(clerk: &Clerk, change: impl FnOnce(&mut Config)) -> Self {
        let (log, metrics) = (Arc::new(MemoryLog::keeping()), Metrics::new().unwrap());
        let mut config = Config {
            enabled: true,
            proxy_url: "https://app.example/__clerk".into(),
            upstream: format!("http://{}", clerk.address),
            instance_id: INSTANCE.into(),
            ..Config::default()
        };
        change(&mut config);
        assert_eq!(config.validate(), [""; 0]);
        let parts = Parts {
            config,
            secret_key: Secret::new(SECRET_KEY),
            log: Arc::clone(&log) as Arc<dyn Log>,
            ingest: metrics.ingest.clone(),
            metrics: metrics.fapi_proxy.clone(),
            clock: Clock::system(),
            identifier_key: IdentifierKey::new(&[1; 32]),
            aliases: Aliases::in_memory(&alias::Config::default(), &metrics.alias),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (proxy, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let task = tokio::spawn(FapiProxy::new(parts).unwrap().run(listener, stop.clone()));
        Self { proxy, log, metrics, stop, task }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/__clerk{path}", self.proxy)
    }

    /// Stops it; what was recorded.
    async fn events(self) -> Vec<AuthEvent> {
        self.stop.cancel();
        self.task.await.unwrap();
        let polled = self.log.poll(Partition(0), Offset(0), Duration::ZERO).unwrap();
        let event = |record| match record {
            Record::Event(event) => Some(event),
            Record::Tick { .. } => None,
        };
        polled.records.into_iter().filter_map(event).collect()
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

async fn form(here: &Here, path: &str, body: &str) -> reqwest::Response {
    form_by(&client(), here, path, body).await
}

async fn form_by(client: &reqwest::Client, here: &Here, path: &str, body: &str) -> reqwest::Response {
    let request = client.post(here.url(path)).header("content-type", "application/x-www-form-urlencoded");
    let response = request.header("user-agent", "browser").body(body.to_owned()).send().await.unwrap();
    assert!(response.status().as_u16() < 500);
    response
}

#[tokio::test]
async fn an_attempt_is_who_where_when_and_how_it_ended() {
    let clerk = Clerk::start();
    let here = Here::before(&clerk, |_| ()).await;
    for (path, body) in [
        ("/v1/client/sign_ins", "identifier=Alice%40example.com"),
        ("/v1/client/sign_ins/sia_of_alice/attempt_first_factor", "strategy=password&password=x-right"),
        ("/v1/client/sign_ins/sia_other/attempt_first_factor", "strategy=password&password=wrong"),
        ("/v1/client/sign_ins?_method=DELETE", "identifier=bob"),
        ("/v1//client/sign%5Fins/", "identifier=carol&password=wrong"),
    ] {
        form(&here, path, body).await.bytes().await.unwrap();
    }
    let before = Clock::system().now();
    let events = here.events().await;
    let hash = |identifier: &str| IdentifierKey::new(&[1; 32]).hash(&INSTANCE.into(), identifier);
    let [created, complete, unknown, carol] = &events[..] else { panic!("{events:?}") };
    assert_eq!((created.outcome, created.identifier), (Outcome::Challenge, Some(hash("alice@example.com"))));
    assert_eq!(complete.outcome, Outcome::Success);
    assert_eq!(complete.identifier, Some(hash("alice@example.com")), "by the sign-in it belongs to");
    assert_eq!(complete.account, Some(Account::User("user_1".into())));
    assert_eq!(complete.session.as_deref(), Some("sess_1"));
    assert_eq!((unknown.outcome, &unknown.account), (Outcome::Failure, &None));
    assert_eq!(unknown.reason.as_deref(), Some("form_password_incorrect"));
    assert_eq!(carol.account, Some(Account::Identifier(hash("carol"))), "a spelling that Clerk may take");
    for event in &events {
        assert_eq!((event.source, &*event.tenant.0), (Source::FapiProxy, INSTANCE));
        assert_eq!((event.ip, event.user_agent.as_deref()), (Some([127, 0, 0, 1].into()), Some("browser")));
        assert!(before.millis_since(event.occurred_at) < 60_000 && event.occurred_at <= before);
    }
    let ids: std::collections::BTreeSet<_> = events.iter().map(|event| &event.id).collect();
    assert_eq!(ids.len(), 4);
}

#[tokio::test]
async fn clerk_gets_the_request_as_it_was_and_knows_whose_it_is() {
    let clerk = Clerk::start();
    let here = Here::before(&clerk, |_| ()).await;
    let request = client()
        .patch(here.url("/v1/me?a=b%20c&d"))
        .header("x-forwarded-for", "8.8.8.8")
        .header("clerk-secret-key", "sk_of_somebody")
        .header("cookie", "__session=1; __client=2")
        .header("authorization", "Bearer session")
        .header("accept-encoding", "br")
        .body("as it is");
    assert_eq!(request.send().await.unwrap().status(), 404, "Clerk's answer");
    let [seen] = &clerk.take()[..] else { panic!() };
    assert_eq!((&*seen.method, &*seen.target, &*seen.body), ("PATCH", "/v1/me?a=b%20c&d", &b"as it is"[..]));
    for (name, value) in [
        ("host", &*clerk.address.to_string()),
        ("clerk-proxy-url", "https://app.example/__clerk"),
        ("clerk-secret-key", SECRET_KEY),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "app.example"),
        ("x-forwarded-proto", "https"),
        ("cookie", "__session=1; __client=2"),
        ("authorization", "Bearer session"),
        ("accept-encoding", "br"),
        ("content-length", "8"),
    ] {
        let values: Vec<_> = seen.headers.get_all(name).iter().collect();
        assert_eq!(values, [value], "{name}");
    }
    let outside = client().get(format!("http://{}/other", here.proxy)).send().await.unwrap();
    assert_eq!(outside.status(), 404);
    assert!(outside.text().await.unwrap().contains("proxy_path_mismatch"));
    assert!(clerk.take().is_empty());
    assert!(here.events().await.is_empty());
}

/// A second opinion: the same request through the proxy that Clerk ships.
#[tokio::test]
async fn clerks_own_proxy_sends_the_same() {
    let clerk = Clerk::start();
    let here = Here::before(&clerk, |config| config.trusted_proxies = vec!["127.0.0.1".into()]).await;
    let theirs: serde_json::Value =
        serde_json::from_str(include_str!("../fixtures/clerk/fapi/proxied-by-clerk-backend.json")).unwrap();
    let request = client()
        .post(here.url("/v1/client/sign_ins?a=b%20c"))
        .header("content-type", "application/x-www-form-urlencoded")
        .header("x-forwarded-for", "203.0.113.7")
        .header("cookie", "__session=1")
        .header("origin", "https://app.example");
    request.body("identifier=a").send().await.unwrap();
    let [seen] = &clerk.take()[..] else { panic!() };
    let url = theirs["sent"]["url"].as_str().unwrap();
    assert_eq!(Some(&*seen.target), url.strip_prefix("https://frontend-api.clerk.dev"));
    let mut ours: std::collections::BTreeMap<_, _> =
        seen.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    // Theirs leaves these to `fetch`.
    assert_eq!((ours.remove("content-length"), ours.remove("accept")), (Some("12"), Some("*/*")));
    let replaced =
        [("clerk-secret-key", SECRET_KEY, "sk_live_x"), ("host", &clerk.address.to_string(), "frontend-api.clerk.dev")];
    for (name, before, after) in replaced {
        assert_eq!(ours.insert(name, after), Some(before));
    }
    assert_eq!(serde_json::json!(ours), theirs["sent"]["headers"]);
}

#[tokio::test]
async fn redirects_cookies_and_encodings_come_back_as_they_were() {
    let clerk = Clerk::start();
    let here = Here::before(&clerk, |_| ()).await;
    let redirect = client().get(here.url("/v1/redirect")).send().await.unwrap();
    assert_eq!(redirect.status(), 307);
    assert_eq!(redirect.headers()["location"], "https://accounts.example.com/sign-in?a=b%20c");
    let cookies: Vec<_> = redirect.headers().get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1; Path=/; Secure", "b=2; Path=/; SameSite=None"]);
    assert_eq!(redirect.headers()["x-clerk"], "kept");
    assert!(["x-hop", "alt-svc", "connection"].iter().all(|name| !redirect.headers().contains_key(*name)));
    let packed = client().get(here.url("/v1/client")).header("accept-encoding", "br, gzip").send().await.unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    assert_eq!(packed.bytes().await.unwrap()[..2], [0x1f, 0x8b]);
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let clerk = Clerk::start();
    let here = Here::before(&clerk, |_| ()).await;
    let mut answer = client().get(here.url("/v1/stream")).send().await.unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "part 0\n");
    let watch = Stopwatch::start();
    while answer.chunk().await.unwrap().is_some() {}
    assert!(watch.elapsed() >= Duration::from_millis(500), "the first part did not wait for the others");
    let large = vec![b'x'; 10 << 20];
    let echoed = client().post(here.url("/v1/echo")).body(large.clone()).send().await.unwrap();
    assert_eq!(echoed.bytes().await.unwrap(), large);
}

#[tokio::test]
async fn http_2_from_the_browser_is_http_1_to_clerk() {
    let clerk = Clerk::start();
    let here = Here::before(&clerk, |_| ()).await;
    let mut builder = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new());
    let client = builder.http2_only(true).build_http::<axum::body::Body>();
    for number in 0..20 {
        let request = hyper::Request::post(here.url("/v1/client/sign_ins"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("identifier=p{number}&password=wrong").into());
        let answer = client.request(request.unwrap()).await.unwrap();
        assert_eq!((answer.version(), answer.status().as_u16()), (hyper::Version::HTTP_2, 422));
        assert!(axum::body::to_bytes(axum::body::Body::new(answer.into_body()), 1 << 20).await.unwrap().len() > 100);
    }
    let hosts: Vec<_> = clerk.take().into_iter().map(|seen| seen.headers["host"].clone()).collect();
    assert_eq!(hosts, vec![clerk.address.to_string(); 20]);
    assert_eq!(here.events().await.len(), 20);
}

#[tokio::test]
async fn tls_to_clerk_is_verified() {
    let certificates = crate::stub::Certificates::make();
    let (chain, key) = (certificates.path("server.pem"), certificates.path("server.key"));
    let clerk = Clerk::start_with(Some((&chain, &key)));
    let with = |authority: &str| {
        let ca_file = certificates.path(authority).display().to_string();
        let upstream = format!("https://localhost:{}", clerk.address.port());
        move |config: &mut Config| (config.ca_file, config.upstream) = (ca_file, upstream)
    };
    let here = Here::before(&clerk, with("ca.pem")).await;
    assert_eq!(form(&here, "/v1/client/sign_ins", "identifier=a&password=right").await.status(), 200);
    assert_eq!(here.events().await[0].outcome, Outcome::Success);
    let here = Here::before(&clerk, with("stranger.pem")).await;
    let refused = client().get(here.url("/v1/client")).send().await.unwrap();
    assert_eq!(refused.status(), 502);
    assert!(refused.text().await.unwrap().contains("proxy_unreachable"));
    assert_eq!(here.metrics.fapi_proxy.failures.with_label_values(&["proxy_unreachable"]).get(), 1);
}

#[tokio::test]
async fn a_log_that_takes_nothing_delays_nobody_and_gets_what_waits_once_it_does() {
    let clerk = Clerk::start();
    let here = Here::before(&clerk, |_| ()).await;
    here.log.set_fault(Some("the disk is on fire"));
    let (client, watch) = (client(), Stopwatch::start());
    for number in 0..300 {
        let answer =
            form_by(&client, &here, "/v1/client/sign_ins", &format!("identifier=p{number}&password=wrong")).await;
        assert_eq!(answer.status(), 422);
    }
    assert!(watch.elapsed() < Duration::from_secs(20));
    here.log.set_fault(None);
    assert_eq!(here.metrics.fapi_proxy.gap(), None);
    assert_eq!(here.events().await.len(), 300);
}

#[tokio::test]
async fn what_the_log_never_took_is_counted_at_the_end() {
    let clerk = Clerk::start();
    let here = Here::before(&clerk, |_| ()).await;
    here.log.set_fault(Some("the disk is on fire"));
    for _ in 0..5 {
        form(&here, "/v1/client/sign_ins", "identifier=a&password=wrong").await;
    }
    let metrics = here.metrics.clone();
    assert!(here.events().await.is_empty());
    let gap = metrics.fapi_proxy.gap().unwrap();
    assert!(gap.starts_with("5 sign-in attempts were forwarded and not recorded"), "{gap}");
}

/// What comes back until the server closes the connection; a server that never does fails the test.
fn exchange(proxy: SocketAddr, sent: &[u8]) -> String {
    let mut stream = TcpStream::connect(proxy).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(sent).unwrap();
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(fault) if fault.kind() == std::io::ErrorKind::WouldBlock => {
            panic!("the connection was kept: {}", String::from_utf8_lossy(&answer))
        }
        // A reset is an end too.
        Ok(_) | Err(_) => String::from_utf8_lossy(&answer).into_owned(),
    }
}
