use std::fs;
use std::process::Command;

use super::*;
use crate::sinks::sample::revision;

/// Tells the child process of `a_full_disk_leaves_no_half_line` which file to write.
const CHILD_FILE: &str = "AUTHSPIKE_TEST_JSONL";

fn findings(count: u128) -> Vec<Finding> {
    (1..=count).map(|finding| revision(finding, 1)).collect()
}

fn config(path: &Path) -> Config {
    Config { path: path.into(), ..Config::default() }
}

fn open(config: &Config) -> JsonLines {
    JsonLines::open(config, Path::new("unused")).unwrap()
}

/// The ids of the findings in a file, every line of which must be whole.
fn ids(path: &Path) -> Vec<String> {
    let content = fs::read_to_string(path).unwrap();
    assert!(content.is_empty() || content.ends_with('\n'), "torn");
    let id = |line| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["metadata"]["uid"].as_str().unwrap().to_owned()
    };
    content.lines().map(id).collect()
}

fn ids_of(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(|finding| finding.revision_id.to_string()).collect()
}

#[test]
fn one_record_a_line_in_order_over_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config::default();
    let path = directory.path().join("findings.jsonl");
    let findings = findings(5);
    for batch in [&findings[..2], &findings[2..]] {
        let mut sink = JsonLines::open(&config, directory.path()).unwrap();
        assert_eq!(sink.path(), path);
        assert_eq!(sink.deliver(batch), vec![Delivery::Accepted; batch.len()]);
    }
    assert_eq!(ids(&path), ids_of(&findings));
}

#[test]
fn a_line_torn_by_a_crash_is_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    // Torn within the first line, and after whole ones, further back than one block of the search.
    let torn = "x".repeat(200_000);
    for (content, kept) in [(torn.clone(), ""), (format!("{{\"a\":1}}\n{torn}"), "{\"a\":1}\n"), (String::new(), "")] {
        fs::write(&path, content).unwrap();
        drop(open(&config(&path)));
        assert_eq!(fs::read_to_string(&path).unwrap(), kept);
    }
}

#[test]
fn rotation_keeps_every_line_whole_and_the_newest_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    let findings = findings(9);
    let line = u64::try_from(Body::Ocsf.line(&findings[0]).unwrap().len()).unwrap() + 1;
    let mut sink = open(&Config { max_bytes: 2 * line, keep: 2, ..config(&path) });
    assert_eq!(sink.deliver(&findings), vec![Delivery::Accepted; 9]);
    let named = |name: &str| ids(&directory.path().join(name));
    let all = ids_of(&findings);
    assert_eq!((named("f"), named("f.1"), named("f.2")), (all[8..].to_vec(), all[6..8].to_vec(), all[4..6].to_vec()));
    assert!(!directory.path().join("f.3").exists());
}

#[cfg(unix)]
#[test]
fn a_file_that_was_moved_away_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    let findings = findings(2);
    let mut sink = open(&config(&path));
    assert_eq!(sink.deliver(&findings[..1]), [Delivery::Accepted]);
    fs::rename(&path, directory.path().join("moved")).unwrap();
    assert_eq!(sink.deliver(&findings[1..]), [Delivery::Accepted]);
    assert_eq!(ids(&path), ids_of(&findings[1..]));
    // With its directory gone nothing can be accepted, and with it back everything is as before.
    let aside = tempfile::tempdir().unwrap();
    fs::rename(directory.path(), aside.path().join("d")).unwrap();
    let answer = sink.deliver(&findings[1..]);
    assert!(matches!(&answer[..], [Delivery::Retry { reason, .. }] if reason.contains("No such file")), "{answer:?}");
    fs::rename(aside.path().join("d"), directory.path()).unwrap();
    assert_eq!(sink.deliver(&findings[..1]), [Delivery::Accepted]);
    assert_eq!(ids(&path).len(), 2);
}

#[cfg(unix)]
#[test]
fn something_else_than_a_file_is_refused_at_start() {
    let refused = JsonLines::open(&config(Path::new("/dev/null")), Path::new("unused")).unwrap_err();
    assert!(refused.to_string().contains("not a regular file"), "{refused}");
}

/// A limit on the size of files fails writes half way, as a full disk does, and needs no privileges.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_no_half_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    let script = "trap '' XFSZ; ulimit -f 32; exec \"$0\" --exact sinks::jsonl::tests::on_a_full_disk --ignored";
    let child = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .env(CHILD_FILE, &path)
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && output.contains("1 passed"), "{output}");

    let written = ids(&path).len();
    assert!((1..20).contains(&written), "{written}");
    let findings = findings(20);
    assert_eq!(open(&config(&path)).deliver(&findings[written..]), vec![Delivery::Accepted; 20 - written]);
    assert_eq!(ids(&path), ids_of(&findings));
}

#[test]
#[ignore = "run by a_full_disk_leaves_no_half_line, under a limit"]
fn on_a_full_disk() {
    let path = PathBuf::from(std::env::var_os(CHILD_FILE).unwrap());
    let mut sink = open(&config(&path));
    let findings = findings(20);
    let answers = sink.deliver(&findings);
    let accepted = answers.iter().take_while(|answer| **answer == Delivery::Accepted).count();
    assert!(accepted > 0 && accepted < 20, "{answers:?}");
    assert!(answers[accepted..].iter().all(|answer| matches!(answer, Delivery::Retry { .. })), "{answers:?}");
    assert_eq!(ids(&path), ids_of(&findings[..accepted]));
    // Still full: nothing is accepted and nothing is left behind.
    assert!(matches!(sink.deliver(&findings[accepted..])[0], Delivery::Retry { .. }));
    assert_eq!(ids(&path), ids_of(&findings[..accepted]));
}

#[test]
fn every_fault_of_the_configuration_is_reported() {
    let faults = Config { max_bytes: 1, keep: 0, path: "/".into(), ..Config::default() }.validate();
    let keys: Vec<&str> = faults.iter().filter_map(|fault| fault.split(':').next()).collect();
    assert_eq!(keys, ["max_bytes", "keep", "path"]);
    assert_eq!(Config::default().validate(), [""; 0]);
}
