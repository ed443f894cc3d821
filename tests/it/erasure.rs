//! Accounts are forgotten: by Clerk's webhook, by the operator's request and by the command, with the built binary; and
//! then every byte of the data directory is looked through for them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use authspike::clock::Clock;
use authspike::config::identifier_key;
use authspike::event::IdentifierHash;
use serde_json::Value;

use crate::support::{Instance, until};

const ADMIN_TOKEN: &str = "admin-token-of-no-account";
const TENANT: &str = "ins_erasure";
/// Of the attack, in the order in which they are tried; so long, so that none is part of anything else.
const ACCOUNTS: u32 = 30;

fn user(number: u32) -> String {
    format!("user_2fORGETtheQUICKbrown{number:04}")
}

fn mail(number: u32) -> String {
    format!("anna.{number}@example.com")
}

fn identifier(data_dir: &Path, number: u32) -> IdentifierHash {
    identifier_key::load(data_dir).unwrap().unwrap().hash(&TENANT.into(), &mail(number))
}

fn start(data_dir: &Path, more: &[(&str, &str)]) -> Instance {
    Instance::start_with(data_dir, &[&[("AUTHSPIKE_ADMIN_TOKEN", ADMIN_TOKEN)], more].concat())
}

/// An attack on all accounts from one address, by user id; on their identifiers, of which nobody knows whose they are, from
/// another; and a break-in to account 3.
fn attack(instance: &Instance) {
    let now = Clock::system().now().0;
    let line = |id: String, at: i64, address: &str, outcome: &str, who: &str| {
        format!(
            r#"{{"id":"{id}","occurred_at":{at},"outcome":"{outcome}","ip":"{address}","instance_id":"{TENANT}",{who}}}"#
        )
    };
    let (mut by_identifier, mut by_user) = (Vec::new(), Vec::new());
    for number in 0..ACCOUNTS {
        let at = now - 60_000 + i64::from(number) * 100;
        let (user, mail) = (user(number), mail(number));
        let (typed, known) =
            (format!(r#""identifier":"{mail}""#), format!(r#""user_id":"{user}","identifier":"{mail}""#));
        by_identifier.push(line(format!("mail-{number}-{at}"), at, "198.51.100.7", "failure", &typed));
        // Of those who name an event by what it is about.
        by_user.push(line(format!("of-{user}-{at}"), at, "203.0.113.7", "failure", &known));
        if number == ACCOUNTS - 1 {
            let known = format!(r#""user_id":"{}","identifier":"{}""#, self::user(3), self::mail(3));
            by_user.push(line(format!("in-{now}"), now, "203.0.113.7", "success", &known));
        }
    }
    // In this order: once they were seen together, an identifier is an alias of its user.
    for lines in [by_identifier, by_user] {
        assert_eq!(instance.attempts(&lines.join("\n")).unwrap().0, 200);
    }
    instance.settle();
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            files(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}

/// The files below `directory` that hold `needle`.
fn holding(directory: &Path, needle: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    files(directory, &mut all);
    assert!(all.iter().any(|path| path.ends_with("authspike.db")) && all.len() >= 4, "{all:?}");
    let holds = |path: &PathBuf| {
        // A temporary file may have gone since.
        std::fs::read(path).is_ok_and(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
    };
    all.iter().filter(|path| holds(path)).map(|path| path.display().to_string()).collect()
}

/// Nothing below `directory` names account `number`, by its id or by its identifier; everything still names its neighbour.
fn assert_forgotten(directory: &Path, number: u32) {
    let hash = identifier(directory, number);
    for needle in [user(number).as_bytes(), hash.to_string().as_bytes(), &hash.0] {
        assert_eq!(holding(directory, needle), [""; 0], "{number}: {:?}", String::from_utf8_lossy(needle));
    }
}

fn assert_named(directory: &Path, number: u32) {
    for needle in [user(number), identifier(directory, number).to_string()] {
        let held = holding(directory, needle.as_bytes());
        assert!(held.iter().any(|path| path.ends_with("findings.jsonl")), "{number}: {held:?}");
        assert!(held.iter().any(|path| path.contains("authspike.db")), "{number}: {held:?}");
    }
}

fn audit(directory: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(directory.join("audit.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn erased(instance: &Instance, asked_by: &str) -> f64 {
    instance.metric(&format!("authspike_erasures_total{{asked_by=\"{asked_by}\"}}"))
}

/// The open finding about the address that tries user ids.
fn finding(instance: &Instance) -> Value {
    let open: Value = serde_json::from_str(&instance.admin("/v1/findings").1).unwrap();
    let of_users = |finding: &&Value| finding["entity"]["value"] == "203.0.113.7";
    open.as_array().unwrap().iter().find(of_users).unwrap_or_else(|| panic!("{open}")).clone()
}

fn forget(admin: &str, account: &str, token: Option<&str>) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_authspike"))
        .args(["forget", account, "--tenant", TENANT, "--admin", admin])
        .env_clear()
        .envs(token.map(|token| ("AUTHSPIKE_ADMIN_TOKEN", token)))
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_forgets_the_account_that_was_broken_into_and_the_finding_goes_on_without_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path();
    let instance = start(data_dir, &[]);
    attack(&instance);
    let before = finding(&instance);
    assert_eq!(before["evidence"]["compromised"][0]["account"], user(3));
    assert!(
        holding(data_dir, user(3).as_bytes()).len() >= 2 && !holding(data_dir, &identifier(data_dir, 3).0).is_empty()
    );

    let admin = format!("http://{}", instance.admin);
    let (code, told, fault) = forget(&admin, &user(3), Some(ADMIN_TOKEN));
    assert_eq!((code, fault.as_str()), (0, ""), "{told}");
    assert!(told.contains("       2 records of the log") && told.contains("1 identifiers"), "{told}");
    assert!(!told.contains(&user(3)), "{told}");
    until("its identifier to be forgotten", || (erased(&instance, "link") == 1.0).then_some(()));
    instance.settle();
    assert_forgotten(data_dir, 3);
    assert_named(data_dir, 4);

    let after = finding(&instance);
    let (was, is) = (&before["evidence"], &after["evidence"]);
    assert_eq!(after["finding_id"], before["finding_id"]);
    for figure in ["compromised_total", "totals", "peak"] {
        assert_eq!(is[figure], was[figure], "{figure}");
    }
    assert_eq!((&after["severity"], &is["accounts"]["total"]), (&before["severity"], &was["accounts"]["total"]));
    let pseudonym = is["compromised"][0]["account"].as_str().unwrap();
    assert!(pseudonym.starts_with("erased_") && is["accounts"]["values"][3] == pseudonym, "{is}");
    let delivered = instance.findings();
    assert!(delivered.values().all(|line| !line.contains(&user(3))));
    assert!(delivered.values().any(|line| line.contains(pseudonym)), "what was in the file is still in it");

    // Again, and one that nobody has heard of: said, and audited.
    for account in [user(3), "user_whom_nobody_knows".to_owned()] {
        let (code, told, _) = forget(&admin, &account, Some(ADMIN_TOKEN));
        assert!(code == 0 && told.contains("nothing was kept of it"), "{told}");
        assert_eq!(holding(data_dir, account.as_bytes()), [""; 0]);
    }
    let audited = audit(data_dir);
    assert_eq!(
        audited.iter().map(|line| line["asked_by"].as_str().unwrap()).collect::<Vec<_>>(),
        ["cli", "link", "cli", "cli"]
    );
    assert_eq!(
        (&audited[0]["log_records"], &audited[0]["identifiers"], &audited[1]["kind"]),
        (&2.into(), &1.into(), &"identifier".into())
    );
    assert!(!instance.said().contains(&user(3)));

    // A restart goes on from a state that never heard of it; so does one that has to read the whole log again.
    let (failures, total) = (is["totals"]["failures"].clone(), is["accounts"]["total"].clone());
    assert!(instance.terminate().success());
    assert_forgotten(data_dir, 3);
    let connection = rusqlite::Connection::open(data_dir.join("authspike.db")).unwrap();
    connection.execute("UPDATE snapshot SET state = x'00'", []).unwrap();
    drop(connection);
    let instance = start(data_dir, &[]);
    instance.settle();
    let again = finding(&instance);
    assert_eq!(
        (&again["evidence"]["totals"]["failures"], &again["evidence"]["accounts"]["total"]),
        (&failures, &total)
    );
    assert_eq!(again["finding_id"], before["finding_id"]);
    assert_eq!(again["evidence"]["compromised"][0]["account"], pseudonym);
    assert!(instance.terminate().success());
    assert_forgotten(data_dir, 3);
}

#[test]
fn the_operators_request_needs_a_token_and_is_answered_when_it_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let instance = start(directory.path(), &[]);
    attack(&instance);
    let admin = format!("http://{}", instance.admin);
    let (code, _, fault) = forget(&admin, &user(3), Some("wrong"));
    assert!(code == 1 && fault.contains("401"), "{fault}");
    for (path, fault) in
        [("a%40b.example", "an account is"), ("user_1?tenant=a%20b", "an account is"), ("user_1?x=1", "no parameter")]
    {
        let (status, said) = instance.admin_as(reqwest::Method::DELETE, &format!("/v1/accounts/{path}"));
        assert!(status == 400 && said.contains(fault), "{path}: {status} {said}");
    }
    // Without a tenant: wherever it is.
    let (status, said) = instance.admin_as(reqwest::Method::DELETE, &format!("/v1/accounts/{}", user(5)));
    let mut answer: Value = serde_json::from_str(&said).unwrap();
    assert!(status == 200 || status == 202, "{status} {said}");
    let request = answer["request"].as_str().unwrap().to_owned();
    until("it to be done", || {
        let (_, said) = instance.admin(&format!("/v1/erasures/{request}"));
        answer = serde_json::from_str(&said).unwrap();
        (!answer["done"].is_null()).then_some(())
    });
    assert_eq!((&answer["done"]["log_records"], &answer["done"]["asked_by"]), (&1.into(), &"api".into()));
    until("its identifier to be forgotten", || (erased(&instance, "link") == 1.0).then_some(()));
    instance.settle();
    assert_forgotten(directory.path(), 5);
    assert_named(directory.path(), 3);
    assert!(instance.terminate().success());

    let open = Instance::start(directory.path());
    let (status, said) = open.admin_as(reqwest::Method::DELETE, "/v1/accounts/user_1");
    assert!(status == 403 && said.contains("AUTHSPIKE_ADMIN_TOKEN"), "{status} {said}");
    assert!(open.terminate().success());
}

fn deleted(user: &str) -> String {
    format!(
        r#"{{"object":"event","type":"user.deleted","instance_id":"{TENANT}","timestamp":{},"data":{{"id":"{user}","deleted":true,"object":"user"}}}}"#,
        Clock::system().now().0
    )
}

#[test]
fn clerks_webhook_has_an_account_forgotten_after_the_hours_set_for_it_also_in_files_moved_aside() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path();
    let small = ("AUTHSPIKE_SINKS__JSONL__MAX_BYTES", "65536");
    let instance = start(data_dir, &[small]);
    attack(&instance);
    std::fs::copy(data_dir.join("findings.jsonl"), data_dir.join("findings.jsonl.7")).unwrap();
    assert_eq!(instance.webhook("msg_deletion_1", deleted(&user(6)).as_bytes()), 204);
    instance.settle();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(erased(&instance, "webhook"), 0.0);
    assert_named(data_dir, 6);
    assert!(instance.terminate().success());
    assert_named(data_dir, 6);

    let instance = start(data_dir, &[small, ("AUTHSPIKE_DETECT__ERASE_AFTER_HOURS", "0")]);
    assert_eq!(instance.webhook("msg_deletion_2", deleted(&user(8)).as_bytes()), 204);
    until("it to be forgotten", || {
        (erased(&instance, "webhook") == 1.0 && erased(&instance, "link") == 1.0).then_some(())
    });
    instance.settle();
    assert_forgotten(data_dir, 8);
    assert_named(data_dir, 6);
    assert_eq!(audit(data_dir)[0]["request"], "msg_deletion_2");
    assert!(instance.terminate().success());
    assert_forgotten(data_dir, 8);
}

#[test]
fn what_a_crash_leaves_half_done_is_done_after_the_next_start_and_audited_once() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path();
    let mut instance = start(data_dir, &[("AUTHSPIKE_DETECT__ERASE_AFTER_HOURS", "0")]);
    attack(&instance);
    for (round, pause) in [0, 1500, 2000, 2150, 2400].into_iter().enumerate() {
        let number = 10 + u32::try_from(round).unwrap();
        assert_eq!(instance.webhook(&format!("msg_crash_{round}"), deleted(&user(number)).as_bytes()), 204);
        std::thread::sleep(Duration::from_millis(pause));
        instance.kill();
        instance = start(data_dir, &[("AUTHSPIKE_DETECT__ERASE_AFTER_HOURS", "0")]);
        let done = || {
            let mine = |line: &&Value| line["request"] == format!("msg_crash_{round}");
            audit(data_dir).iter().filter(mine).count()
        };
        until("the end of what was begun", || (done() == 1).then_some(()));
        until("its identifier", || {
            let waiting = instance.metric("authspike_erasures_waiting");
            let hash = identifier(data_dir, number);
            (waiting == 0.0 && holding(data_dir, &hash.0).is_empty()).then_some(())
        });
        instance.settle();
        assert_forgotten(data_dir, number);
        assert_eq!(done(), 1);
    }
    assert_named(data_dir, 9);
    let evidence = &finding(&instance)["evidence"];
    assert_eq!((&evidence["accounts"]["total"], &evidence["totals"]["failures"]), (&30.into(), &30.into()));
    assert!(instance.terminate().success());
}
