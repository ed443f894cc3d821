//! Receivers that are not ours, installed by their packages' names and started on loopback: OpenSearch (Maven) for
//! `_bulk` with its real per-item errors, VictoriaLogs (Go modules) for Splunk's HEC, and an OpenTelemetry Collector (`otelcol`)
//! for its acknowledgements. What was sent is read back out of them.
//!
//! Each runs for one test and ends with it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use authspike::finding::{Finding, revision_id};
use serde_json::{Value, json};

use crate::delivery::{Way, revision};
use crate::judges;
use crate::support::until;

mod otelcol;

const OPENSEARCH: &str = "org.opensearch.distribution.integ-test-zip:opensearch:2.19.1:zip";
const VICTORIA_LOGS: &str = "github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs";

/// A receiver that runs.
struct Receiver {
    child: Child,
    url: String,
    client: reqwest::blocking::Client,
    /// What it keeps; gone with it.
    files: tempfile::TempDir,
}

impl Receiver {
    fn new(command: &mut Command, port: u16, files: tempfile::TempDir) -> Self {
        let log = std::fs::File::create(files.path().join("said")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let client = reqwest::blocking::Client::new();
        let receiver = Self { child, url: format!("http://127.0.0.1:{port}"), client, files };
        let said = receiver.files.path().join("said");
        until(&format!("{command:?}, which says in {}", said.display()), || {
            receiver.client.get(&receiver.url).send().ok().filter(|answer| answer.status().is_success())
        });
        receiver
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", self.url);
        let request = self.client.request(method.parse().unwrap(), url).header("content-type", "application/json");
        let answer = request.body(body.to_string()).send().unwrap();
        let text = answer.text().unwrap();
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the tests install: kept below `target`.
fn installed(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("receivers").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    path
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} is needed: {error}"));
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said));
}

fn opensearch() -> Receiver {
    let distribution = installed("opensearch-2.19.1");
    if !distribution.join("bin").exists() {
        let parent = format!("-DoutputDirectory={}", distribution.parent().unwrap().display());
        // Where it unpacked before it would not again, and it notes that in the directory it runs in.
        let unpack = ["-q", "-B", "dependency:unpack", "-Dmdep.overWriteReleases=true", &parent];
        let folder = distribution.parent().unwrap();
        run(Command::new("mvn").args(unpack).arg(format!("-Dartifact={OPENSEARCH}")).current_dir(folder));
    }
    // It refuses to run as root: as nobody it needs files of its own.
    let files =
        tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    let home = files.path().join("home");
    run(Command::new("cp").args(["-r", "--"]).args([&distribution, &home]));
    run(Command::new("chmod").args(["-R", "a+rwX"]).arg(&home));
    let is_root = std::fs::metadata("/proc/self").unwrap();
    let is_root = std::os::unix::fs::MetadataExt::uid(&is_root) == 0;
    let mut command = if is_root {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "bash"]);
        command
    } else {
        Command::new("bash")
    };
    let java = std::fs::canonicalize(String::from_utf8(which("java")).unwrap().trim()).unwrap();
    let port = free_port();
    command
        .arg(home.join("bin/opensearch"))
        .args([
            "-Ediscovery.type=single-node",
            "-Enetwork.host=127.0.0.1",
            "-Ecluster.routing.allocation.disk.threshold_enabled=false",
        ])
        .args([format!("-Ehttp.port={port}"), format!("-Etransport.port={}", free_port())])
        .env("OPENSEARCH_JAVA_HOME", java.parent().unwrap().parent().unwrap())
        .env("OPENSEARCH_JAVA_OPTS", "-Xms512m -Xmx512m")
        .current_dir(&home);
    Receiver::new(&mut command, port, files)
}

fn which(program: &str) -> Vec<u8> {
    let output = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
    assert!(output.status.success(), "{program} is needed");
    output.stdout
}

/// Go as new as `tests/receivers/go.mod` asks for. Debian's own is older, and so old that it does not fetch a newer one by
/// itself; but as a module it can, checked against Go's public record of sums as every module is.
fn go() -> Command {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/receivers");
    let found = |program: &Path| {
        let mut go = Command::new(program);
        // A newer one must neither be fetched behind our back nor refused.
        go.env("GOTOOLCHAIN", "local").current_dir(&here);
        go
    };
    let numbers = |text: &str| -> Vec<u32> { text.split('.').map_while(|number| number.parse().ok()).collect() };
    let module = std::fs::read_to_string(here.join("go.mod")).unwrap();
    let wanted = module.lines().find_map(|line| line.strip_prefix("go ")).unwrap();
    let path = std::env::var("PATH").unwrap();
    let program = std::env::split_paths(&path).map(|folder| folder.join("go")).find(|program| program.exists());
    let program = program.unwrap_or_else(|| "/usr/local/go/bin/go".into());
    // Elsewhere than in the module, which an old one cannot read.
    let said = said(found(&program).args(["env", "GOVERSION", "GOOS", "GOARCH"]).current_dir("/"));
    let [version, system, machine] = said.lines().collect::<Vec<_>>()[..] else { panic!("go env: {said}") };
    if numbers(version.trim_start_matches("go")) >= numbers(wanted) {
        return found(&program);
    }
    let toolchain = format!("golang.org/toolchain@v0.0.1-go{wanted}.{system}-{machine}");
    let fetched = self::said(found(&program).args(["mod", "download", "-json", &toolchain]).current_dir("/"));
    let fetched: Value = serde_json::from_str(&fetched).unwrap();
    let folder = Path::new(fetched["Dir"].as_str().unwrap_or_else(|| panic!("{fetched}")));
    // Modules hold no programs: a newer go does the same when it fetches one.
    run(Command::new("chmod").args(["-R", "a+x"]).args([folder.join("bin"), folder.join("pkg/tool")]));
    let mut go = found(&folder.join("bin/go"));
    go.env_remove("GOROOT");
    go
}

/// What a command prints.
fn said(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} is needed: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn victoria_logs() -> Receiver {
    let binary = installed("victoria-logs");
    if !binary.exists() {
        run(go().args(["build", "-o"]).arg(&binary).arg(VICTORIA_LOGS));
    }
    let (files, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut command = Command::new(binary);
    command
        .args(["-retentionPeriod=100y".to_owned(), format!("-httpListenAddr=127.0.0.1:{port}")])
        .arg(format!("-storageDataPath={}", files.path().join("data").display()));
    Receiver::new(&mut command, port, files)
}

fn elastic(receiver: &Receiver, data_stream: &str) -> String {
    format!("[[sinks.elastic]]\nname = \"siem\"\nurl = \"{}\"\ndata_stream = \"{data_stream}\"\n", receiver.url)
}

#[test]
fn opensearch_takes_each_revision_once_refuses_the_bad_one_alone_and_shows_the_rest() {
    let opensearch = opensearch();
    let template: Value = serde_json::from_str(include_str!("../../deploy/elastic/index-template.json")).unwrap();
    let put = opensearch.ask("PUT", "/_index_template/authspike", &template);
    assert_eq!(put["acknowledged"], true, "{put}");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();

    // Twice, the second time by an instance that has forgotten the first: 409 is success.
    for _ in 0..2 {
        runtime.block_on(async {
            let way = Way::with(&elastic(&opensearch, "logs-authspike.findings-default"));
            way.put_all().await;
            way.until_delivered().await;
            assert_eq!(way.figures().await.dead, 0);
            way.stop().await;
        });
    }
    opensearch.ask("POST", "/logs-authspike.findings-default/_refresh", &json!({}));
    let latest = opensearch.ask(
        "POST",
        "/logs-authspike.findings-default/_search",
        &json!({ "size": 0, "track_total_hits": true, "aggs": { "findings": { "cardinality": { "field": "labels.finding_uid" } } } }),
    );
    assert_eq!(latest["hits"]["total"]["value"], 500, "{latest}");
    assert_eq!(latest["aggregations"]["findings"]["value"], 100, "{latest}");
    let id = revision(7, 3).revision_id;
    let found = opensearch.ask(
        "POST",
        "/logs-authspike.findings-default/_search",
        &json!({ "query": { "ids": { "values": [id] } } }),
    );
    let document = &found["hits"]["hits"][0]["_source"];
    assert_eq!(judges::ecs(document), [""; 0], "{document}");
    assert_eq!((&document["event"]["id"], &document["event"]["sequence"]), (&json!(id), &json!(3)), "{found}");
    assert_eq!(document["data_stream"]["dataset"], "authspike.findings");

    // A mapping that cannot hold the two hundredth revision: one of fifty is refused, with the receiver's own reason.
    let narrow = json!({
        "index_patterns": ["logs-narrow-*"], "data_stream": {}, "priority": 600,
        "template": { "mappings": { "properties": { "event": { "properties": { "sequence": { "type": "byte" } } } } } }
    });
    opensearch.ask("PUT", "/_index_template/narrow", &narrow);
    runtime.block_on(async {
        let way = Way::with(&elastic(&opensearch, "logs-narrow-default"));
        let mut findings: Vec<Finding> = (1..=50).map(|finding| revision(finding, 1)).collect();
        let id = findings[30].finding_id;
        findings[30] = Finding { revision: 200, revision_id: revision_id(id, 200), ..findings[30].clone() };
        way.put(findings).await;
        way.until_delivered().await;
        let dead = way.dead();
        assert_eq!((dead.len(), dead[0].finding_id), (1, id));
        assert!(dead[0].reason.as_ref().unwrap().contains("mapper_parsing_exception"), "{dead:?}");
        way.stop().await;
    });
    opensearch.ask("POST", "/logs-narrow-default/_refresh", &json!({}));
    assert_eq!(opensearch.ask("GET", "/logs-narrow-default/_count", &json!({}))["count"], 49);

    // No such stream, and none may be made: kept until somebody makes it.
    let auto_create = |allowed: bool| json!({ "persistent": { "action.auto_create_index": allowed.to_string() } });
    opensearch.ask("PUT", "/_cluster/settings", &auto_create(false));
    runtime.block_on(async {
        let way = Way::with(&elastic(&opensearch, "logs-missing-default"));
        way.put(vec![revision(1, 1)]).await;
        way.pass(std::time::Duration::ZERO, "it to be blocked", || way.standing().0 == "blocked").await;
        assert!(way.standing().1.unwrap().contains("index_not_found"), "{:?}", way.standing());
        tokio::task::block_in_place(|| opensearch.ask("PUT", "/_cluster/settings", &auto_create(true)));
        way.until_delivered().await;
        way.stop().await;
    });
}

#[test]
fn victorialogs_takes_what_hec_brings() {
    let receiver = victoria_logs();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let way = Way::with(&format!(
            "[[sinks.splunk_hec]]\nname = \"siem\"\nurl = \"{}\"\ntoken_env = \"T\"\n",
            receiver.url
        ));
        way.put_all().await;
        way.until_delivered().await;
        way.stop().await;
    });
    let ask = |query: &str| {
        let form = [("query", query)];
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = receiver.client.post(format!("{}/select/logsql/query", receiver.url));
        request.header("content-type", "application/x-www-form-urlencoded").body(body).send().unwrap().text().unwrap()
    };
    receiver.client.get(format!("{}/internal/force_flush", receiver.url)).send().unwrap();
    let counted = until("what arrived to be searchable", || {
        let said: Value = serde_json::from_str(ask("* | stats count() n").lines().next()?).ok()?;
        (said["n"] == "500").then_some(said)
    });
    assert_eq!(counted["n"], "500");
    let id = revision(7, 3).revision_id.to_string();
    let found: Value = serde_json::from_str(ask(&format!("event.metadata.uid:=\"{id}\"")).trim()).unwrap();
    assert_eq!(found["event.finding_info.uid"], revision(7, 3).finding_id.to_string());
    assert_eq!(
        (found["event.class_uid"].as_str(), found["fields.rule"].as_str()),
        (Some("2004"), Some(revision(7, 3).rule.as_str()))
    );
    assert_eq!(found["_time"], revision(7, 3).at.to_string().replace(".000Z", "Z"));
}
