//! Logs of others: as `map test` and `replay --preset` read them, and as a running instance follows them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use authspike::clock::Clock;

use crate::support::{Instance, until};

fn authspike(arguments: &[&str], dir: &Path) -> (String, String, Option<i32>) {
    let Output { stdout, stderr, status } =
        Command::new(env!("CARGO_BIN_EXE_authspike")).args(arguments).current_dir(dir).env_clear().output().unwrap();
    (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap(), status.code())
}

/// A line of nginx's combined format, now.
fn access(ip: &str, status: u16) -> String {
    let now = jiff::Timestamp::from_millisecond(Clock::system().now().0).unwrap();
    let time = now.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string();
    format!(
        "{ip} - - [{time}] \"POST /__clerk/v1/client/sign_ins/sia_1/attempt_first_factor HTTP/1.1\" {status} 9 \"-\" \"curl/8\"\n"
    )
}

#[test]
fn map_test_shows_what_each_record_became_and_never_an_identifier() {
    let dir = tempfile::tempdir().unwrap();
    let record = |kind: &str, trace: &str| {
        format!(
            r#"{{"event_type":"{kind}","timestamp":"2026-11-24T10:00:00Z","trace_id":"{trace}","ip_address":"203.0.113.7","identifier":"alice@example.com"}}"#
        )
    };
    let lines = [
        record("sign_in.password.failed", "t1"),
        record("sign_in.failed", "t1"),
        record("organization.created", "t2"),
        "not json".to_owned(),
    ];
    std::fs::write(dir.path().join("drain.ndjson"), lines.join("\n")).unwrap();
    let (out, err, code) = authspike(&["map", "test", "--preset", "clerk-logs", "drain.ndjson"], dir.path());
    assert_eq!(code, Some(0), "{err}");
    let shown: Vec<_> = out.lines().collect();
    assert!(shown[0].contains("failure  2026-11-24T10:00:00.000Z  ip=203.0.113.7  account=idh_"), "{out}");
    assert!(shown[2].ends_with("skipped  context: /event_type = organization.created"), "{out}");
    assert!(shown[3].contains("refused  not a JSON object"), "{out}");
    assert!(!out.contains("alice"), "{out}");
    // The two records of t1 are one attempt.
    let (out, err, code) = authspike(&["replay", "--preset", "clerk-logs", "drain.ndjson"], dir.path());
    assert_eq!(code, Some(0), "{err}");
    let of = |word: &str| out.lines().find(|line| line.starts_with(word)).unwrap().split_whitespace().nth(1).unwrap();
    assert_eq!((of("lines"), of("refused"), of("skipped"), of("events")), ("4", "1", "2", "1"), "{out}");
}

#[test]
fn every_preset_is_shown_and_can_be_a_mapping_of_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let (names, _, _) = authspike(&["map", "show"], dir.path());
    assert_eq!(names.lines().count(), 12);
    for name in names.lines() {
        let (text, _, _) = authspike(&["map", "show", "--preset", name], dir.path());
        let own = text.replace("[[rules]]", "[[ingest.mapping.mine.rules]]");
        std::fs::write(dir.path().join("authspike.toml"), format!("[ingest.mapping.mine]\n{own}")).unwrap();
        std::fs::write(dir.path().join("empty"), "").unwrap();
        let (_, err, code) = authspike(&["map", "test", "--mapping", "mine", "empty"], dir.path());
        assert_eq!((code, err.as_str()), (Some(0), ""), "{name}");
    }
}

#[test]
fn a_stuffing_run_in_an_ssh_log_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = String::new();
    for n in 0..60 {
        let (minute, second) = (n / 6, n % 6 * 10);
        let head = format!("Dec 10 06:{minute:02}:{second:02} LabSZ sshd[24200]:");
        writeln!(log, "{head} Invalid user u{n} from 173.234.31.186").unwrap();
        writeln!(log, "{head} Failed password for invalid user u{n} from 173.234.31.186 port 38926 ssh2").unwrap();
    }
    std::fs::write(dir.path().join("auth.log"), log).unwrap();
    let (out, err, code) = authspike(&["replay", "--preset", "sshd", "auth.log"], dir.path());
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("from 173.234.31.186 of default"), "{out}");
    assert!(out.lines().any(|line| line.starts_with("skipped ") && line.contains(" 60 ")), "{out}");
}

#[test]
fn a_followed_access_log_counts_every_line_once_through_rotation_and_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let config = dir.path().join("authspike.toml");
    std::fs::write(&path, access("203.0.113.9", 422)).unwrap();
    let section =
        format!("[[ingest.file]]\npath = \"{}\"\npreset = \"nginx-combined\"\ninstance = \"ins_x\"\n", path.display());
    std::fs::write(&config, section).unwrap();
    let write = |name: &str, text: &str| {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(dir.path().join(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    let data = dir.path().join("data");
    let arguments = ["--config", config.to_str().unwrap()];
    let stored = |instance: &Instance| {
        ["failure", "success"].map(|outcome| {
            instance.metric(&format!("authspike_ingest_events_total{{outcome=\"{outcome}\",source=\"log_record\"}}"))
        })
    };
    let instance = Instance::start_as(&data, &[], &arguments);
    // It begins with what is written from now on.
    until("the file to be open", || data.join("positions").read_dir().unwrap().next().map(|_| ()));
    write("access.log", &access("203.0.113.7", 422).repeat(5));
    write("access.log", &access("203.0.113.7", 200));
    until("the first lines", || (stored(&instance) == [5.0, 1.0]).then_some(()));
    std::fs::rename(&path, dir.path().join("access.log.1")).unwrap();
    write("access.log.1", &access("203.0.113.7", 422));
    write("access.log", &access("203.0.113.7", 422).repeat(2));
    until("the lines around the rotation", || (stored(&instance) == [8.0, 1.0]).then_some(()));
    instance.kill();
    write("access.log", &access("203.0.113.7", 422).repeat(3));
    let instance = Instance::start_as(&data, &[], &arguments);
    until("the lines written meanwhile", || (stored(&instance) == [3.0, 0.0]).then_some(()));
    write("access.log", "garbage\n");
    let skipped = "authspike_ingest_file_lines_total{result=\"skipped\"}";
    until("the line that is none", || (instance.metric(skipped) >= 1.0).then_some(()));
    assert_eq!(stored(&instance), [3.0, 0.0]);
}

#[test]
fn the_reporters_for_node_and_python_deliver_what_they_were_given() {
    let dir = tempfile::tempdir().unwrap();
    let instance = Instance::start(&dir.path().join("data"));
    let reporters = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/report");
    let node = format!(
        "import {{ reportAttempt }} from 'file://{}/authspike.mjs';
         for (let n = 0; n < 700; n++) reportAttempt({{ identifier: `n${{n}}@example.com`, ip: '203.0.113.7', error: {{ errors: [{{ code: 'form_password_incorrect' }}] }} }});
         reportAttempt({{ identifier: 'ok@example.com', ip: '203.0.113.7' }});
         setTimeout(() => process.exit(0), 4000);",
        reporters.display()
    );
    let python = "import time, authspike
for n in range(700): authspike.report_attempt(f'p{n}@example.com', '203.0.113.9', reason='form_password_incorrect')
authspike.report_attempt('ok@example.com', '203.0.113.9', success=True)
time.sleep(4)";
    let run = |program: &str, arguments: &[&str]| {
        let child = Command::new(program)
            .args(arguments)
            .env("PYTHONPATH", &reporters)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("ATTEMPTS_URL", format!("http://{}", instance.ingest))
            .env("AUTHSPIKE_ATTEMPTS_TOKEN", crate::support::TOKEN)
            .spawn();
        child.unwrap()
    };
    let mut running = [run("node", &["--input-type=module", "-e", &node]), run("python3", &["-c", python])];
    for reporter in &mut running {
        assert!(reporter.wait().unwrap().success());
    }
    let stored = |outcome: &str| {
        instance.metric(&format!("authspike_ingest_events_total{{outcome=\"{outcome}\",source=\"attempt_report\"}}"))
    };
    assert_eq!((stored("failure"), stored("success")), (1400.0, 2.0));
}
