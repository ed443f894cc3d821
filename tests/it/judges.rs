//! Programs and packages that nobody of us wrote, asked about every record that leaves.
//!
//! They are installed once into the build directory, by the exact versions that `tests/judges` names, and then answer as
//! child processes, one question a line, for as long as the tests run. A judge that cannot be had fails the test.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{LazyLock, Mutex};

use jsonschema::Validator;
use serde_json::{Value, json};

/// Longest that installing may take, in seconds, as `timeout` reads it. Alone it is about 15.
const INSTALL_SECONDS: &str = "300";

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judges")
}

/// A child process that answers each line with a line.
struct Judge {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Judge {
    fn start(command: &mut Command) -> Mutex<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let questions = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Mutex::new(Self { child, questions, answers })
    }

    fn ask(&mut self, question: &str) -> Value {
        assert!(!question.contains('\n'), "one question is one line");
        writeln!(self.questions, "{question}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert!(!answer.is_empty(), "the judge ended: {:?}; asked: {question}", self.child.try_wait());
        serde_json::from_str(&answer).unwrap()
    }
}

fn ask(judge: &Mutex<Judge>, question: &str) -> Value {
    // A test that failed while it asked has said so itself.
    judge.lock().unwrap_or_else(std::sync::PoisonError::into_inner).ask(question)
}

/// The directory that `install` has filled according to `list`, now or in an earlier run.
fn installed(name: &str, list: &str, install: impl FnOnce(&Path)) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("judges");
    std::fs::create_dir_all(&root).unwrap();
    let lock = std::fs::File::create(root.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let (directory, stamp) = (root.join(name), root.join(format!("{name}.installed")));
    let wanted = std::fs::read_to_string(scripts().join(list)).unwrap();
    if std::fs::read_to_string(&stamp).ok().as_ref() != Some(&wanted) {
        let _ = std::fs::remove_dir_all(&directory);
        install(&directory);
        std::fs::write(&stamp, wanted).unwrap();
    }
    directory
}

fn run(program: &Path, arguments: &[&str]) {
    let mut command = Command::new("timeout");
    command.arg(INSTALL_SECONDS).arg(program).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The Python that has the packages of `tests/judges/requirements.txt`.
pub(crate) fn python() -> PathBuf {
    let list = scripts().join("requirements.txt");
    let directory = installed("python", "requirements.txt", |directory| {
        run(Path::new("python3"), &["-m", "venv", directory.to_str().unwrap()]);
        let install = ["install", "--quiet", "--disable-pip-version-check", "-r", list.to_str().unwrap()];
        run(&directory.join("bin/pip"), &install);
    });
    directory.join("bin/python")
}

static PYTHON: LazyLock<Mutex<Judge>> =
    LazyLock::new(|| Judge::start(Command::new(python()).arg(scripts().join("judge.py"))));

static ECS: LazyLock<Mutex<Judge>> = LazyLock::new(|| {
    let directory = installed("node", "package.json", |directory| {
        std::fs::create_dir_all(directory).unwrap();
        std::fs::copy(scripts().join("package.json"), directory.join("package.json")).unwrap();
        let quietly = ["install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--prefix"];
        run(Path::new("npm"), &[&quietly[..], &[directory.to_str().unwrap()]].concat());
    });
    Judge::start(Command::new("node").arg(scripts().join("ecs.js")).env("NODE_PATH", directory.join("node_modules")))
});

static LOGNORM: LazyLock<Mutex<Judge>> = LazyLock::new(|| {
    // Its output is a pipe, which it would fill before it writes.
    let mut command = Command::new("stdbuf");
    Judge::start(command.args(["-oL", "lognormalizer", "-e", "json", "-r"]).arg(scripts().join("cef.rulebase")))
});

static OCSF: LazyLock<[(&str, Validator); 2]> = LazyLock::new(|| {
    let compiled = |schema: &str| jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    [
        ("1.5.0", compiled(include_str!("../schemas/ocsf-1.5.0-detection_finding.json"))),
        ("1.8.0", compiled(include_str!("../schemas/ocsf-1.8.0-detection_finding.json"))),
    ]
});

/// What is wrong with an OCSF record, according to the schema of the version it claims, to `pydantic-ocsf` and to what
/// neither looks at.
pub(crate) fn ocsf(record: &Value) -> Vec<String> {
    let version = record["metadata"]["version"].as_str().unwrap_or_default();
    let Some((_, schema)) = OCSF.iter().find(|(known, _)| *known == version) else {
        return vec![format!("metadata.version: {version:?} is not one of ours")];
    };
    let mut faults: Vec<String> =
        schema.iter_errors(record).map(|error| format!("{}: {error}", error.instance_path())).collect();
    // It knows versions up to 1.7; nothing of ours changed between that and 1.8.
    let (asked, mut copy) = (if version == "1.8.0" { "1.7.0" } else { version }, record.clone());
    copy["metadata"]["version"] = asked.into();
    let question = json!({ "judge": "ocsf", "version": asked, "record": copy });
    faults.extend(faults_in(&ask(&PYTHON, &question.to_string())["faults"]));
    faults.extend(captions(record));
    faults
}

/// Numbers and the captions beside them.
fn captions(record: &Value) -> Vec<String> {
    let captions = [("activity_id", "activity_name"), ("severity_id", "severity"), ("status_id", "status")];
    let right = [
        (json!(1), ["Create", "Informational", "New"]),
        (json!(2), ["Update", "Low", ""]),
        (json!(3), ["Close", "Medium", ""]),
        (json!(4), ["", "High", "Resolved"]),
        (json!(5), ["", "Critical", ""]),
    ];
    let mut faults = Vec::new();
    for (column, (id, caption)) in captions.iter().enumerate() {
        let named = right.iter().find(|(number, _)| *number == record[id]).map_or("", |(_, names)| names[column]);
        if record[caption] != named || named.is_empty() {
            faults.push(format!("{id} {} is not {}", record[id], record[caption]));
        }
    }
    let type_uid = record["class_uid"].as_u64().unwrap() * 100 + record["activity_id"].as_u64().unwrap();
    if record["type_uid"] != type_uid {
        faults.push(format!("type_uid {} is not {type_uid}", record["type_uid"]));
    }
    faults
}

/// What is wrong with an ECS document, according to Elastic's own list of fields.
pub(crate) fn ecs(document: &Value) -> Vec<String> {
    faults_in(&ask(&ECS, &document.to_string()))
}

/// A CEF line as others read it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cef {
    /// Vendor, product, version, class, name, severity.
    pub header: [String; 6],
    /// The extension, by key.
    pub extension: serde_json::Map<String, Value>,
}

/// The line as liblognorm and `cefp` read it, who must agree; else what they say against it. `cefevent` judges the keys,
/// types and lengths.
pub(crate) fn cef(line: &str) -> Result<Cef, String> {
    let answer = ask(&PYTHON, &json!({ "judge": "cef", "line": line }).to_string());
    let faults = faults_in(&answer["faults"]);
    if !faults.is_empty() {
        return Err(format!("{faults:?}"));
    }
    let read = &answer["read"];
    let cefp = Cef {
        header: [
            text(&read["device"]["vendor"]),
            text(&read["device"]["product"]),
            text(&read["device"]["version"]),
            text(&read["device"]["event_class_id"]),
            text(&read["name"]),
            text(&read["severity"]),
        ],
        extension: read["extension"].as_object().unwrap().clone(),
    };
    // It takes the first character of the first key for the separator: give it one.
    let start = line.char_indices().filter(|(at, character)| *character == '|' && !escaped(line, *at)).nth(6);
    let (header, extension) = line.split_at(start.ok_or("seven separators are missing")?.0 + 1);
    let answer = ask(&LOGNORM, &format!("{header} {extension}"));
    let Value::Object(read) = &answer["f"] else { return Err(format!("liblognorm: {answer}")) };
    let names = ["DeviceVendor", "DeviceProduct", "DeviceVersion", "SignatureID", "Name", "Severity"];
    let lognorm = Cef {
        header: names.map(|name| text(&read[name])),
        extension: read["Extensions"].as_object().cloned().unwrap_or_default(),
    };
    if cefp == lognorm { Ok(cefp) } else { Err(format!("two readers, two readings:\n{cefp:?}\n{lognorm:?}")) }
}

fn escaped(line: &str, at: usize) -> bool {
    line[..at].chars().rev().take_while(|character| *character == '\\').count() % 2 == 1
}

/// What Standard Webhooks' own verifier says against a request.
pub(crate) fn webhook(secret: &str, headers: &Value, body: &str) -> Vec<String> {
    let question = json!({ "judge": "webhook", "secret": secret, "headers": headers, "body": body });
    faults_in(&ask(&PYTHON, &question.to_string())["faults"])
}

fn faults_in(answer: &Value) -> Vec<String> {
    answer.as_array().unwrap().iter().map(text).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
