//! Where is Kafka? Its jars come from Maven once and stay under the target directory; its tools run from there too.
//!
//! Kafka's programs are started by the names of their classes: there is no distribution with scripts. For scripts that
//! an operator would type, `scripts` writes the few of them that `authspike` prints commands for.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};

/// The first Java on which brokers of this Kafka run.
const JAVA: u32 = 17;
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";
/// Kafka's scripts and the classes behind them.
const SCRIPTS: [(&str, &str); 4] = [
    ("kafka-topics.sh", "org.apache.kafka.tools.TopicCommand"),
    ("kafka-acls.sh", "org.apache.kafka.tools.AclCommand"),
    ("kafka-configs.sh", "org.apache.kafka.tools.ConfigCommand"),
    ("kafka-consumer-groups.sh", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"),
];

/// The folder that holds everything of the brokers, the jars and the clusters' files.
pub fn home() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("kafka")
}

/// The folder with the jars, fetched if they are not there.
fn jars() -> &'static Path {
    static JARS: OnceLock<PathBuf> = OnceLock::new();
    JARS.get_or_init(|| {
        require_java();
        let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/kafka/pom.xml");
        let content = Sha256::digest(std::fs::read(&pom).unwrap());
        let folder =
            home().join(format!("jars-{:02x}{:02x}{:02x}{:02x}", content[0], content[1], content[2], content[3]));
        if !folder.exists() {
            fetch(&pom, &folder);
        }
        folder
    })
}

fn require_java() {
    let output = Command::new("java").arg("-version").output();
    let output = output.unwrap_or_else(|error| panic!("Java {JAVA} or newer is needed for Kafka's brokers: {error}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // openjdk version "17.0.15" 2025-04-15
    let version = said.split('"').nth(1).and_then(|version| version.split(['.', '-']).next()?.parse::<u32>().ok());
    assert!(
        version.is_some_and(|version| version >= JAVA),
        "Java {JAVA} or newer is needed for Kafka's brokers: {said}"
    );
}

/// Into a folder of its own first, so that a fetch that was cut off is never taken for a whole one.
fn fetch(pom: &Path, folder: &Path) {
    std::fs::create_dir_all(home()).unwrap();
    let partial = tempfile::tempdir_in(home()).unwrap();
    let output = Command::new("mvn")
        .args(["--quiet", "--batch-mode", "--file"])
        .arg(pom)
        .args([COPY, "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", partial.path().display()))
        .output()
        .unwrap_or_else(|error| panic!("Maven (mvn) is needed to fetch Kafka: {error}"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "Maven could not fetch Kafka: {said}");
    if std::fs::rename(partial.path(), folder).is_ok() {
        // It bears another name now: there is nothing left to remove.
        let _ = partial.keep();
    } else {
        assert!(folder.exists(), "the jars could not be put into {}", folder.display());
    }
}

/// The command line of a class of Kafka's.
pub fn java(class: &str) -> Vec<String> {
    // A broker of the tests holds a few MiB; the quick compiler alone starts it in half the time; and no shared file
    // of statistics in /tmp.
    let mut line: Vec<String> = ["java", "-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        .into_iter()
        .chain(["-XX:ActiveProcessorCount=2", "-XX:-UsePerfData"])
        .chain(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"])
        .map(str::to_owned)
        .collect();
    // Java, not a shell, expands the star.
    line.extend(["-cp".to_owned(), format!("{}/*", jars().display()), class.to_owned()]);
    line
}

/// Runs a class of Kafka's to its end; what it printed, or what it printed as the error.
pub fn run(class: &str, arguments: &[String]) -> Result<String, String> {
    let line = java(class);
    let output = Command::new(&line[0]).args(&line[1..]).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(said.into_owned()) } else { Err(said.into_owned()) }
}

/// Writes Kafka's scripts into `folder`, to be put on a PATH.
pub fn scripts(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    for (name, class) in SCRIPTS {
        let line: Vec<String> = java(class).iter().map(|part| format!("'{part}'")).collect();
        let path = folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\nexec {} \"$@\"\n", line.join(" "))).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }
}
