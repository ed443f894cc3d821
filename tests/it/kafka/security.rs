//! A fleet on secured brokers: with the rights that `authspike topics` prints and no others, each role under a user of its
//! own; and what it says where something is missing or wrong.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use authspike::clock::Stopwatch;

use super::fleet::{ALL, Fleet, post, traffic};
use super::{Cluster, Login};
use crate::support::{Instance, SECRET, TOKEN, until};

const IDENTIFIER_KEY: (&str, &str) =
    ("AUTHSPIKE_IDENTIFIER_KEY", "5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f");
/// For a start that fails; one that cannot reach brokers gives up asking after 10 s, and goes on.
const PATIENCE: Duration = Duration::from_secs(30);
const SASL: &str = "AUTHSPIKE_KAFKA_SASL_PASSWORD";
const KEY: &str = "AUTHSPIKE_KAFKA_SSL_KEY_PASSWORD";

/// Writes a configuration for whoever enters by `login`, without its password, which is answered.
fn configure(fleet: &Fleet, name: &str, prefix: &str, login: Login<'_>, further: &[(&str, &str)]) -> (PathBuf, String) {
    let mut properties = Cluster::secured().properties(login);
    let brokers = properties.remove("bootstrap.servers").unwrap();
    let password = properties.remove("sasl.password").unwrap_or_default();
    properties.extend(further.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    let mut text = format!(
        "[kafka]\nbrokers = \"{brokers}\"\ntopic_prefix = \"{prefix}\"\ngroup = \"{prefix}\"\npartitions = 3\n\
         replication = 1\n[kafka.properties]\n"
    );
    for (key, value) in &properties {
        writeln!(text, "\"{key}\" = \"{value}\"").unwrap();
    }
    let path = fleet.folder.path().join(format!("{name}.toml"));
    std::fs::write(&path, text).unwrap();
    (path, password)
}

fn start(config: &Path, roles: &[&str], variables: &[(&str, &str)]) -> Instance {
    let data_dir = config.with_extension("data");
    let config = config.display().to_string();
    let mut arguments = vec!["--config", &config];
    for role in roles {
        arguments.extend(["--role", role]);
    }
    let variables: Vec<_> = variables.iter().copied().chain([IDENTIFIER_KEY]).collect();
    Instance::start_as(&data_dir, &variables, &arguments)
}

/// Starts a process that must end by itself with exit code 1; what it printed.
fn fails(config: &Path, roles: &[&str], variables: &[(&str, &str)]) -> String {
    let mut arguments = vec!["run", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    for role in roles {
        arguments.extend(["--role", role]);
    }
    fails_at(&arguments, config, variables)
}

/// As `fails`, for any command.
fn fails_at(arguments: &[&str], config: &Path, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_authspike"));
    command.args(arguments).arg("--config").arg(config).arg("--data-dir").arg(config.with_extension("refused"));
    let said = config.with_extension("said");
    let output = std::fs::File::create(&said).unwrap();
    let mut child = command
        .env_clear()
        .env("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)
        .env("AUTHSPIKE_ATTEMPTS_TOKEN", TOKEN)
        .env("RUST_LOG", "debug")
        .envs(variables.iter().copied().chain([IDENTIFIER_KEY]))
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap();
    let begun = Stopwatch::start();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if begun.elapsed() > PATIENCE => {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("it does not fail: {}", std::fs::read_to_string(&said).unwrap());
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let said = std::fs::read_to_string(&said).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    for (_, value) in variables {
        assert!(!said.contains(value), "a secret is told");
    }
    said
}

/// The last line, which is for whoever started it.
fn verdict(said: &str) -> &str {
    said.lines().rfind(|line| line.starts_with("authspike: ")).unwrap_or_else(|| panic!("no verdict: {said}"))
}

/// What is said of a topic whose rights are missing.
fn denied(fleet: &Fleet, suffix: &str, operations: &str) -> String {
    let topic = fleet.topic(suffix);
    format!(
        "topic {topic}: the brokers do not allow {operations} on it: `authspike topics` prints the rights that are needed"
    )
}

fn says(instance: &Instance, text: &str) {
    until("a process to say what it lacks", || {
        let (status, page) = instance.admin("/readyz");
        (status == 503 && page.contains(text) && instance.said().contains(text)).then_some(())
    });
}

fn becomes_ready(instance: &Instance) {
    until("a process to be ready", || (instance.admin("/readyz").0 == 200).then_some(()));
}

/// Each role names what it needs, and nothing that it does not. The password of the user that may see everything.
fn names_what_may_be_seen_and_not_used(fleet: &Fleet) -> String {
    let pattern = ["--resource-pattern-type", "prefixed"];
    let seeing = [&["--operation", "Describe", "--topic", &fleet.prefix], &pattern[..]].concat();
    Cluster::secured().allow("authspike", &seeing);
    let roles: [(&str, &[(&str, &str)]); 3] = [
        ("receive", &[("events.v1", "Write"), ("aliases.v1", "Read, Write")]),
        (
            "detect",
            &[
                ("events.v1", "Read, Write"),
                ("state.v1", "Read, Write"),
                ("findings.v1", "Write"),
                ("events.dlq.v1", "Write"),
            ],
        ),
        ("deliver", &[("findings.v1", "Read"), ("events.dlq.v1", "Write")]),
    ];
    let mut given = String::new();
    std::thread::scope(|scope| {
        for (role, lacking) in roles {
            let lacking: Vec<String> =
                lacking.iter().map(|(suffix, operations)| denied(fleet, suffix, operations)).collect();
            let name = format!("seeing-{role}");
            let (seeing, password) = configure(fleet, &name, &fleet.prefix, Login::Scram("authspike"), &[]);
            given.clone_from(&password);
            scope.spawn(move || {
                let said = fails(&seeing, &[role], &[(SASL, &password)]);
                assert_eq!(verdict(&said), format!("authspike: {}", lacking.join("; ")), "{role}");
            });
        }
    });
    given
}

#[test]
fn each_role_runs_with_the_rights_that_are_printed_for_it_and_names_each_that_is_missing() {
    let cluster = Cluster::secured();
    let fleet = Fleet::new(cluster, 3, 1, "classic");
    let prefix = fleet.prefix.clone();
    let (stranger, password) = configure(&fleet, "stranger", &prefix, Login::Scram("stranger"), &[]);
    let none = verdict(&fails(&stranger, &ALL, &[(SASL, &password)])).to_owned();
    let all = ["events.v1", "state.v1", "findings.v1"].map(|suffix| denied(&fleet, suffix, "Describe, Read, Write"));
    let dead_letters = denied(&fleet, "events.dlq.v1", "Describe, Write");
    let all = [&all[..], &[dead_letters, denied(&fleet, "aliases.v1", "Describe, Read, Write")]].concat();
    assert_eq!(none, format!("authspike: {}", all.join("; ")));

    let create = ["topics", "--create"];
    let wrong = fails_at(&create, &stranger, &[(SASL, "not-this-one")]);
    assert!(verdict(&wrong).starts_with("authspike: kafka: the brokers refuse our credentials"), "{wrong}");
    let (lost, password) = configure(&fleet, "lost", &format!("{prefix}-other"), Login::Scram("stranger"), &[]);
    let said = fails_at(&create, &lost, &[(SASL, &password)]);
    assert_eq!(verdict(&said).matches("the brokers do not allow Create on it").count(), 5, "{said}");

    let password = names_what_may_be_seen_and_not_used(&fleet);

    // What is printed, as it is printed; the groups' lines later.
    let printed = Command::new(env!("CARGO_BIN_EXE_authspike"))
        .args(["topics", "--config"])
        .arg(fleet.config())
        .env_clear()
        .output()
        .unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    let acls = printed.lines().filter(|line| line.starts_with("kafka-acls.sh "));
    let (groups, topics): (Vec<&str>, Vec<&str>) = acls.partition(|line| line.contains(" --group "));
    assert_eq!((groups.len(), topics.len()), (2, 6), "{printed}");
    cluster.shell(&topics.join("\n")).unwrap();
    let mut passwords = vec![password];
    let mut begin = |role: &str| {
        let (config, password) = configure(&fleet, role, &prefix, Login::Scram(role), &[]);
        let file = config.with_extension("password");
        std::fs::write(&file, &password).unwrap();
        passwords.push(password);
        start(&config, &[role], &[("AUTHSPIKE_KAFKA_SASL_PASSWORD_FILE", file.to_str().unwrap())])
    };
    let [receiver, detector, deliverer] = ["receive", "detect", "deliver"].map(&mut begin);
    becomes_ready(&receiver);
    for (instance, group) in [(&detector, "detect"), (&deliverer, "deliver")] {
        let group = format!("group {prefix}-{group}: the brokers do not allow Read on this consumer group");
        says(instance, &group);
    }
    cluster.shell(&groups.join("\n")).unwrap();
    becomes_ready(&detector);
    becomes_ready(&deliverer);
    let topics_of_ours = ["events.v1", "state.v1", "findings.v1", "events.dlq.v1", "aliases.v1"];
    let lying = topics_of_ours.map(|suffix| fleet.read(suffix).len());
    assert_eq!(lying, [0; 5], "what was tried out has left something");
    post(&receiver, &traffic("40m"));
    let revisions = fleet.settled();
    assert!(!revisions.is_empty());
    fleet.delivered(&revisions, &[deliverer.data_dir.join("findings.jsonl")]);

    // A right that is taken away while it runs, and comes back.
    let read = topics.iter().find(|line| line.contains("User:detect") && line.contains("--operation Read")).unwrap();
    let (taken, given) = (read.replace(" --add ", " --remove --force "), *read);
    cluster.shell(&taken).unwrap();
    let text = format!("topic {}, group {prefix}-detect: the brokers do not allow it", fleet.topic("events.v1"));
    says(&detector, &text);
    cluster.shell(given).unwrap();
    becomes_ready(&detector);

    for instance in [receiver, detector, deliverer] {
        let said = instance.said();
        assert!(passwords.iter().all(|password| !said.contains(password)), "a secret is told");
        assert!(instance.terminate().success());
    }
    assert!(fleet.settled().len() >= revisions.len());
}

/// Encrypts the key of a user under a password.
fn encrypted(fleet: &Fleet, user: &str, password: &str) -> PathBuf {
    let identity = Cluster::secured().identity(user);
    let path = fleet.folder.path().join("encrypted.key");
    let made = Command::new("openssl")
        .args(["pkcs8", "-topk8", "-v2", "aes256", "-passout", "env:PASS", "-in"])
        .arg(&identity.key)
        .arg("-out")
        .arg(&path)
        .env("PASS", password)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    path
}

/// A configuration, the variables beside it, and what has to be said.
type Case<'a> = (&'a Path, &'a [(&'a str, &'a str)], &'a str);

#[test]
fn certificates_open_the_brokers_and_what_is_wrong_with_a_proof_is_said_at_once() {
    let cluster = Cluster::secured();
    let fleet = Fleet::new(cluster, 3, 1, "classic");
    let prefix = fleet.prefix.clone();
    let both = ["--operation", "All", "--topic", &prefix, "--group", &prefix, "--resource-pattern-type", "prefixed"];
    cluster.allow("authspike", &both);

    let password = "of-the-key-and-nothing-else";
    let key = encrypted(&fleet, "authspike", password).display().to_string();
    let certificate = Login::Certificate("authspike");
    let (config, _) = configure(&fleet, "mtls", &prefix, certificate, &[("ssl.key.location", &key)]);
    let instance = start(&config, &ALL, &[(KEY, password)]);
    becomes_ready(&instance);
    post(&instance, &traffic("40m"));
    let revisions = fleet.settled();
    assert!(!revisions.is_empty());
    fleet.delivered(&revisions, &[instance.data_dir.join("findings.jsonl")]);
    assert!(!instance.said().contains(password));
    assert!(instance.terminate().success());

    let (without, _) = configure(&fleet, "without", &prefix, certificate, &[("ssl.key.location", &key)]);
    // Brokers that another authority vouches for: a certificate of its own is none of it.
    let other = cluster.identity("stranger").certificate.display().to_string();
    let (distrusting, _) = configure(&fleet, "distrusting", &prefix, certificate, &[("ssl.ca.location", &other)]);
    let (wrong, password) = configure(&fleet, "wrong", &prefix, Login::Scram("authspike"), &[]);
    let (open, _) = configure(&fleet, "open", &prefix, Login::Scram("authspike"), &[]);
    let (missing, _) = configure(&fleet, "missing", &format!("{prefix}-other"), Login::Scram("authspike"), &[]);
    let (nameless, _) = configure(&fleet, "nameless", &prefix, certificate, &[]);
    let absent = ["events.v1", "state.v1", "findings.v1", "events.dlq.v1", "aliases.v1"].map(|suffix| {
        format!("topic {prefix}-other.{suffix}: it does not exist: `authspike topics --create` creates it")
    });
    let key_fault = "kafka: ssl.key.location failed";
    let cases: [Case<'_>; 6] = [
        (&config, &[(KEY, "not-the-one-of-the-key")], key_fault),
        (&without, &[], key_fault),
        (&distrusting, &[], "kafka: TLS fails (ssl://127.0.0.1:"),
        (&wrong, &[(SASL, &password[1..])], "kafka: the brokers refuse our credentials (sasl_ssl://127.0.0.1:"),
        (&open, &[], "sasl.password"),
        // All that are not there, at once.
        (&missing, &[(SASL, &password)], &absent.join("; ")),
    ];
    // Most of their time is spent making sure that it does not pass.
    std::thread::scope(|scope| {
        for (config, variables, text) in cases {
            scope.spawn(move || {
                let said = fails(config, &ALL, variables);
                assert!(verdict(&said).contains(text), "{said}");
                assert!(text != key_fault || verdict(&said).contains(KEY), "{said}");
            });
        }
        scope.spawn(|| without_certificate(&nameless));
    });
}

/// With TLS 1.3 the client is through when the broker hangs up, and whether it still hears why is luck: it tells what it
/// knows, and does not take it for a fault that lasts.
fn without_certificate(config: &Path) {
    let text = std::fs::read_to_string(config).unwrap();
    let text: Vec<&str> = text.lines().filter(|line| !line.contains("ssl.key") && !line.contains("ssl.cert")).collect();
    std::fs::write(config, text.join("\n")).unwrap();
    let instance = start(config, &ALL, &[]);
    until("a process to say what it knows", || {
        let (status, page) = instance.admin("/readyz");
        let why = page.contains("SSL") || page.contains("Disconnected");
        (status == 503 && page.contains("Kafka: no broker can be reached (") && why).then_some(())
    });
    std::thread::sleep(Duration::from_secs(3));
    // Each of three clients says it once, not with every try.
    let lines = instance.said().lines().filter(|line| line.contains("WARN")).count();
    assert!(lines < 20, "{}", instance.said());
}
