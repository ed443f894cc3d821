//! The built binary: exit codes, what is printed where, and the simulator against a receiver.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};

use authspike::clock::{Clock, Stopwatch};
use authspike::event::Timestamp;

/// The binary in a directory of its own, with no variable but those given.
fn authspike(dir: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_authspike"));
    command.env_clear().envs(variables.iter().copied()).args(arguments).current_dir(dir).stdin(Stdio::null());
    command
}

fn run(variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    authspike(dir.path(), variables, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn usage_and_version() {
    let version = run(&[], &["--version"]);
    assert_eq!(version.status.code(), Some(0));
    assert_eq!(text(&version.stdout), concat!("authspike ", env!("CARGO_PKG_VERSION"), "\n"));
    for wrong in [
        &["fly"][..],
        &["run", "--fly"],
        &["replay"],
        &["simulate", "--attack", "nothing"],
        &["simulate", "--rate", "5"],
        &["simulate", "--for", "soon"],
        &["simulate", "--users", "0"],
        &[],
    ] {
        let output = run(&[], wrong);
        assert_eq!(output.status.code(), Some(64), "{wrong:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{wrong:?}");
    }
}

#[test]
fn check_and_run_refuse_the_same() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("authspike.toml"), "colour = 1\n[ingest]\nlisten = 2\n").unwrap();
    let variables = [("AUTHSPIKE_NONSENSE", "1")];
    let [check, run] = ["check", "run"].map(|command| authspike(dir.path(), &variables, &[command]).output().unwrap());
    assert_eq!(check.status.code(), Some(64));
    assert_eq!(run.status.code(), Some(64));
    assert_eq!(text(&check.stderr), text(&run.stderr));
    let lines: Vec<_> = text(&check.stderr).lines().collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    for start in [
        "authspike: authspike.toml: colour:",
        "authspike: authspike.toml: ingest.listen:",
        "authspike: AUTHSPIKE_NONSENSE: nonsense:",
        "authspike: environment: no secret is set",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(start)), "{start} not in {lines:?}");
    }
    assert!(!dir.path().join("authspike-data").exists(), "a refused start leaves nothing behind");
}

#[test]
fn one_secret_in_the_environment_is_all_it_needs() {
    let output = run(&[("AUTHSPIKE_ATTEMPTS_TOKEN", "t")], &["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(shown.contains("POST /v1/attempts    on"), "{shown}");
    assert!(shown.contains("POST /webhooks/clerk off"), "{shown}");
    let output = run(&[("CLERK_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")], &["check"]);
    assert!(text(&output.stdout).contains("no source of failed sign-ins"), "{}", text(&output.stdout));
}

/// A running instance, killed when the test ends.
struct Running {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
}

impl Running {
    fn start(dir: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        let mut command = authspike(dir, variables, arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut running = Self { child, log };
        running.wait_for("listening");
        running
    }

    fn wait_for(&mut self, word: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.log.read_line(&mut line).unwrap() > 0, "ended before it said {word:?}");
            if line.contains(word) {
                return line;
            }
        }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn either_signal_stops_it_with_code_0() {
    for signal in ["TERM", "INT"] {
        let dir = tempfile::tempdir().unwrap();
        let arguments = ["run", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let mut running = Running::start(dir.path(), &[("AUTHSPIKE_ATTEMPTS_TOKEN", "secret-token")], &arguments);
        running.signal(signal);
        assert_eq!(running.child.wait().unwrap().code(), Some(0), "{signal}");
        let mut rest = String::new();
        running.log.read_to_string(&mut rest).unwrap();
        assert!(!rest.contains("secret-token"), "{rest}");
    }
}

fn simulate(dir: &Path, arguments: &[&str]) -> Output {
    let all: Vec<_> = ["simulate", "--users", "500", "--for", "1d"].iter().chain(arguments).copied().collect();
    authspike(dir, &[], &all).output().unwrap()
}

#[test]
fn simulate_writes_attempts_and_truth() {
    let dir = tempfile::tempdir().unwrap();
    let attack = "stuffing:attempts=300,hits=2";
    let first = simulate(dir.path(), &["--attack", attack, "--truth", "truth.ndjson"]);
    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
    let lines = text(&first.stdout).lines().count();
    // 500 x 0.25 x 1.23 and the attack.
    assert!((400..520).contains(&lines), "{lines}");
    assert!(text(&first.stderr).starts_with(&format!("authspike: {lines} attempts, 300 of them labelled")));
    let truth = std::fs::read_to_string(dir.path().join("truth.ndjson")).unwrap();
    assert_eq!(truth.lines().count(), 300);
    assert_eq!(truth.matches("\"hit\":true").count(), 2);

    let again = simulate(dir.path(), &["--attack", attack, "--out", "attempts.ndjson"]);
    assert!(again.stdout.is_empty());
    assert!(std::fs::read(dir.path().join("attempts.ndjson")).unwrap() == first.stdout, "not the same bytes");
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = authspike(dir.path(), &[], &["simulate", "--users", "100000", "--for", "7d"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("{\"id\""), "{line}");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn replay_reads_files_and_stdin_and_counts_what_it_cannot_read() {
    let dir = tempfile::tempdir().unwrap();
    let attempts = simulate(dir.path(), &[]).stdout;
    let count = text(&attempts).lines().count();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    write("plain.ndjson", &[&attempts, b"\n\nnot json\n{\"id\":1}\n".as_slice()].concat());
    write("packed.ndjson.zst", &zstd::encode_all(attempts.as_slice(), 1).unwrap());

    let replay = |arguments: &[&str], stdin: &[u8]| {
        let all: Vec<_> = ["replay"].iter().chain(arguments).copied().collect();
        let mut command = authspike(dir.path(), &[], &all);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = replay(&["plain.ndjson", "packed.ndjson.zst", "-"], &attempts);
    let (shown, faults) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{faults}");
    let figure = |name: &str| -> usize {
        let line = shown.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    assert_eq!((figure("events"), figure("refused"), figure("lines")), (3 * count, 2, 3 * count + 2));
    for line in [count + 3, count + 4] {
        assert!(faults.contains(&format!("authspike: plain.ndjson:{line}: ")), "{faults}");
    }
    assert!(!faults.contains("not json"), "no content of a refused line: {faults}");

    let json = replay(&["--json", "packed.ndjson.zst"], b"");
    assert_eq!(json.status.code(), Some(0));
    for line in text(&json.stdout).lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }

    // Nothing readable, a file that is not there, a file that breaks off.
    assert_eq!(replay(&["-"], b"[\n{}\n]\n").status.code(), Some(1));
    let missing = replay(&["packed.ndjson.zst", "missing.ndjson"], b"");
    assert_eq!(missing.status.code(), Some(1));
    assert!(missing.stdout.is_empty() && text(&missing.stderr).contains("missing.ndjson cannot be read"));
    let packed = zstd::encode_all(attempts.as_slice(), 1).unwrap();
    write("torn.zst", &packed[..packed.len() / 2]);
    let torn = replay(&["torn.zst", "plain.ndjson"], b"");
    assert_eq!(torn.status.code(), Some(1));
    assert!(text(&torn.stderr).contains("torn.zst"), "{}", text(&torn.stderr));
    let line = text(&torn.stdout).lines().find(|line| line.starts_with("events")).unwrap().to_owned();
    let events: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(events >= count, "the file after the torn one is read: {line}");
}

/// One request as the receiver saw it.
type Seen = (HeaderMap, Bytes);

/// A receiver that answers each request as `answer` says, and what it saw.
fn receiver(
    answer: impl Fn(usize) -> (StatusCode, u64) + Clone + Send + Sync + 'static,
) -> (String, Arc<Mutex<Vec<Seen>>>) {
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let kept = Arc::clone(&seen);
    let (send, receive) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            send.send(listener.local_addr().unwrap()).unwrap();
            let take = move |headers: HeaderMap, body: Bytes| async move {
                let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
                let number = {
                    let mut kept = kept.lock().unwrap();
                    kept.push((headers, body));
                    kept.len()
                };
                let (status, refused) = answer(number);
                let accepted = lines as u64 - refused;
                let body = format!("{{\"accepted\":{accepted},\"duplicates\":0,\"refused\":{refused},\"results\":[]}}");
                (status, [("retry-after", "1")], body)
            };
            let router = axum::Router::new().route("/v1/attempts", axum::routing::post(take));
            axum::serve(listener, router).await.unwrap();
        });
    });
    (format!("http://{}", receive.recv().unwrap()), seen)
}

fn post(to: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let all: Vec<_> =
        ["simulate", "--per-second", "2", "--for", "20m", "--to", to].iter().chain(arguments).copied().collect();
    run(variables, &all)
}

fn ids(body: &[u8]) -> Vec<String> {
    text(body)
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn posting_signs_every_request_and_sends_the_same_ids_again_after_503() {
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let (to, seen) = receiver(|number| (if number == 2 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }, 0));
    let watch = Stopwatch::start();
    let output = post(&to, &[("AUTHSPIKE_ATTEMPTS_SECRET", SECRET)], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(watch.elapsed().as_secs_f64() >= 1.0, "Retry-After was 1");
    let seen = seen.lock().unwrap();
    let verifier = standardwebhooks::Webhook::new(SECRET).unwrap();
    for (headers, body) in seen.iter() {
        let mut given = HeaderMap::new();
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            given.insert(name, headers[name].clone());
        }
        verifier.verify(body, &given).unwrap();
        assert!(headers.get("authorization").is_none());
    }
    assert_eq!(seen[1].1, seen[2].1, "sent again as it was");
    let mut taken = seen.iter().enumerate().filter(|(index, _)| *index != 1).flat_map(|(_, (_, body))| ids(body));
    let mut unique = HashSet::new();
    assert!(taken.all(|id| unique.insert(id)), "an id twice in what was taken");
    // 20 minutes at 2 a second.
    assert!((2200..2600).contains(&unique.len()), "{}", unique.len());
    let requests = seen.len() - 1;
    let expected = format!("accepted {}, duplicates 0, refused 0; {requests} requests, 1 retries", unique.len());
    assert!(text(&output.stderr).contains(&expected), "{} in {}", expected, text(&output.stderr));
}

#[test]
fn posting_with_a_token_at_a_rate_stamped_now() {
    let (to, seen) = receiver(|_| (StatusCode::OK, 0));
    let clock = Clock::system();
    let start = clock.now();
    let arguments = ["--rate", "100", "--now", "--for", "1m", "--per-second", "3", "--truth", "/dev/null"];
    let all: Vec<_> = ["simulate", "--to", &to].iter().chain(&arguments).copied().collect();
    let output = run(&[("AUTHSPIKE_ATTEMPTS_TOKEN", "first,second")], &all);
    let took = clock.now().millis_since(start);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let seen = seen.lock().unwrap();
    assert!(seen.iter().all(|(headers, _)| headers["authorization"] == "Bearer first"));
    let sent: usize = seen.iter().map(|(_, body)| ids(body).len()).sum();
    // A minute at 3 a second, sent at 100 a second.
    assert!((130..235).contains(&sent), "{sent}");
    assert!(took >= i64::try_from(sent).unwrap() * 10 - 300, "{sent} in {took} ms");
    for (_, body) in seen.iter() {
        let line: serde_json::Value = serde_json::from_str(text(body).lines().next().unwrap()).unwrap();
        let at: jiff::Timestamp = line["occurred_at"].as_str().unwrap().parse().unwrap();
        let after = Timestamp(at.as_millisecond()).millis_since(start);
        assert!((0..=took).contains(&after), "{after}");
    }
}

#[test]
fn posting_stops_at_what_trying_again_does_not_change() {
    let token = [("AUTHSPIKE_ATTEMPTS_TOKEN", "t")];
    let (to, seen) = receiver(|_| (StatusCode::UNAUTHORIZED, 0));
    let output = post(&to, &token, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("401"), "{}", text(&output.stderr));
    assert_eq!(seen.lock().unwrap().len(), 1);

    let (to, _) = receiver(|_| (StatusCode::OK, 1));
    assert_eq!(post(&to, &token, &[]).status.code(), Some(1), "a refused attempt is a failure");

    for target in
        ["https://127.0.0.1:1", "ftp://127.0.0.1", "127.0.0.1:1", "http://u:p@127.0.0.1:1", "http://127.0.0.1:1/x"]
    {
        let output = post(target, &token, &[]);
        assert_eq!(output.status.code(), Some(64), "{target}: {}", text(&output.stderr));
    }
    let output = post("http://127.0.0.1:1", &[], &[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("AUTHSPIKE_ATTEMPTS_TOKEN"), "{}", text(&output.stderr));
    let output = post("http://127.0.0.1:1", &[("AUTHSPIKE_ATTEMPTS_SECRET", "whsec_not/base64!")], &[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(!text(&output.stderr).contains("not/base64"), "{}", text(&output.stderr));
}
