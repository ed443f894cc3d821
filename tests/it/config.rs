//! What the user sets, and what is said when it is wrong.

use std::path::PathBuf;

use authspike::config::{self, Environment, Flags, Need};

const EXAMPLE: &str = include_str!("../../deploy/authspike.toml");

/// `text` as a file in a directory of its own.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("authspike.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn faults(file: Option<PathBuf>, variables: &[(&str, &str)]) -> Vec<String> {
    let flags = Flags { config: file, ..Flags::default() };
    let environment = Environment::of(variables.iter().copied());
    match config::load(&flags, &environment, Need::Sinks) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.to_string().lines().map(str::to_owned).collect(),
    }
}

#[test]
fn every_fault_of_every_layer_is_reported_at_once() {
    let (_dir, path) = file(
        "colour = \"blue\"\n\
         shutdown_seconds = \"soon\"\n\
         [ingest]\nlisten = \"localhost\"\n\
         [log]\nretention_days = 0\n\
         [shipping]\nto = \"nowhere\"\n\
         [logging]\nformat = \"loud\"\n",
    );
    let name = path.display().to_string();
    let found = faults(
        Some(path),
        &[
            ("AUTHSPIKE_INGEST__LISTN", "127.0.0.1:1"),
            ("AUTHSPIKE_ADMIN__LISTEN", "127.0.0.1"),
            ("AUTHSPIKE_LOGGING__LEVEL", "a=b=c"),
            ("AUTHSPIKE_ATTEMPTS_TOKEN", ""),
            ("OTHER_PROGRAM", "whatever"),
        ],
    );
    let expected = [
        format!("{name}: colour: unknown key"),
        format!("{name}: shutdown_seconds: expected a whole number from 0, found a string"),
        format!("{name}: ingest.listen: invalid socket address"),
        format!("{name}: log.retention_days: must be from 2 to 3650"),
        format!("{name}: shipping: unknown key"),
        format!("{name}: logging.format: must be one of text, json"),
        "AUTHSPIKE_INGEST__LISTN: ingest.listn: unknown key".to_owned(),
        "AUTHSPIKE_ADMIN__LISTEN: admin.listen: invalid socket address".to_owned(),
        "AUTHSPIKE_LOGGING__LEVEL: logging.level: is not a level".to_owned(),
        "AUTHSPIKE_ATTEMPTS_TOKEN: is empty".to_owned(),
    ];
    for start in &expected {
        assert!(found.iter().any(|fault| fault.starts_with(start)), "{start} is not among\n{}", found.join("\n"));
    }
    assert_eq!(found.len(), expected.len(), "{}", found.join("\n"));
}

#[test]
fn no_fault_quotes_a_value() {
    let (_dir, path) =
        file("ingest = \"whsec_c2VjcmV0\"\nshutdown_seconds = \"whsec_c2VjcmV0\"\nwhat = \"whsec_c2VjcmV0\"\n");
    let found =
        faults(Some(path), &[("AUTHSPIKE_ATTEMPTS_SECRETT", "whsec_c2VjcmV0"), ("AUTHSPIKE_ADMIN", "whsec_c2VjcmV0")]);
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(!found.join("\n").contains("whsec_"), "{found:?}");

    let (_dir, path) = file("token = \"whsec_c2VjcmV0\nlisten = 4");
    let found = faults(Some(path), &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("line 1"), "{found:?}");
    assert!(!found[0].contains("whsec_"), "{found:?}");
}

#[test]
fn later_layers_win() {
    let (_dir, path) = file("data_dir = \"from-file\"\nshutdown_seconds = 3\n[ingest]\nlisten = \"127.0.0.1:1\"\n");
    let flags = Flags {
        config: Some(path.clone()),
        listen: Some("127.0.0.1:3".into()),
        data_dir: None,
        admin_listen: Some("[::1]:9".into()),
        ..Flags::default()
    };
    // A directory may be called 42.
    let environment = Environment::of([("AUTHSPIKE_INGEST__LISTEN", "127.0.0.1:2"), ("AUTHSPIKE_DATA_DIR", "42")]);
    let loaded = config::load(&flags, &environment, Need::Nothing).unwrap();
    assert_eq!(loaded.config.ingest.listen.to_string(), "127.0.0.1:3");
    assert_eq!(loaded.config.admin.listen.to_string(), "[::1]:9");
    assert_eq!(loaded.config.data_dir, PathBuf::from("42"));
    assert_eq!(loaded.config.shutdown_seconds, 3);
    assert_eq!(loaded.file, Some(path));
}

#[test]
fn a_fault_that_a_later_layer_hides_is_still_a_fault() {
    let (_dir, path) = file("[ingest]\nlisten = \"8080\"\n");
    let found = faults(Some(path), &[("AUTHSPIKE_INGEST__LISTEN", "127.0.0.1:2")]);
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn a_file_that_is_named_must_exist() {
    let missing = PathBuf::from("/nonexistent/authspike.toml");
    for (flag, variables) in
        [(Some(missing), vec![]), (None, vec![("AUTHSPIKE_CONFIG", "/nonexistent/authspike.toml")])]
    {
        let found = faults(flag, &variables);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("/nonexistent/authspike.toml: cannot be read"), "{found:?}");
    }
}

#[test]
fn what_kubernetes_adds_for_a_service_is_no_typo() {
    let links = [
        ("AUTHSPIKE_SERVICE_HOST", "10.0.0.1"),
        ("AUTHSPIKE_SERVICE_PORT", "8080"),
        ("AUTHSPIKE_INGEST_SERVICE_PORT_HTTP", "8080"),
        ("AUTHSPIKE_PORT", "tcp://10.0.0.1:8080"),
        ("AUTHSPIKE_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("AUTHSPIKE_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("AUTHSPIKE_INGEST_PORT_53_UDP_PROTO", "udp"),
    ];
    let in_pod: Vec<_> = links.into_iter().chain([("KUBERNETES_SERVICE_HOST", "10.0.0.1")]).collect();
    assert!(faults(None, &in_pod).is_empty(), "{:?}", faults(None, &in_pod));
    // Elsewhere they are somebody's mistake, and in a pod a typo is still one.
    assert_eq!(faults(None, &links).len(), links.len());
    let typo =
        [("KUBERNETES_SERVICE_HOST", "10.0.0.1"), ("AUTHSPIKE_INGEST__PORT", "1"), ("AUTHSPIKE_PORT_X_TCP", "1")];
    assert_eq!(faults(None, &typo).len(), 2);
}

#[test]
fn text_with_commas_in_a_variable_is_still_text() {
    for level in ["info,authspike::sinks=debug", "warn"] {
        let environment = Environment::of([("AUTHSPIKE_LOGGING__LEVEL", level)]);
        let loaded = config::load(&Flags::default(), &environment, Need::Nothing).unwrap();
        assert_eq!(loaded.config.logging.level, level);
    }
}

#[test]
fn both_listeners_on_one_address_is_a_fault() {
    let same = [("AUTHSPIKE_INGEST__LISTEN", "127.0.0.1:80"), ("AUTHSPIKE_ADMIN__LISTEN", "127.0.0.1:80")];
    assert_eq!(faults(None, &same), ["AUTHSPIKE_ADMIN__LISTEN: admin.listen: must differ from ingest.listen"]);
    // Port 0 is a different port each time.
    let any = [("AUTHSPIKE_INGEST__LISTEN", "127.0.0.1:0"), ("AUTHSPIKE_ADMIN__LISTEN", "127.0.0.1:0")];
    assert!(faults(None, &any).is_empty());
}

#[test]
fn secrets_come_from_variables_and_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secrets");
    let [a, b, c, one, two, three] =
        ["a", "b", "c", "1", "2", "3"].map(|letter| format!("whsec_{}", letter.repeat(32)));
    std::fs::write(&path, format!("{one}\n{two} , {three}\n\n")).unwrap();
    let environment = Environment::of([
        ("CLERK_WEBHOOK_SIGNING_SECRET", format!("{a},{b}").as_str()),
        ("CLERK_WEBHOOK_SECRET", &format!("{b},{c}")),
        ("AUTHSPIKE_ATTEMPTS_SECRET_FILE", path.to_str().unwrap()),
        ("AUTHSPIKE_ADMIN_TOKEN", " t "),
    ]);
    let secrets = config::load(&Flags::default(), &environment, Need::Source).unwrap().secrets;
    let shown = |secrets: &[authspike::secret::Secret]| {
        secrets.iter().map(|secret| secret.expose().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(shown(&secrets.clerk_webhook), [a, b, c]);
    assert_eq!(shown(&secrets.attempts), [one, two, three.clone()]);
    assert_eq!(shown(&secrets.admin_tokens), ["t"]);
    assert!(secrets.attempts_tokens.is_empty());
    assert!(secrets.any_source());
    // The alternate form too: `{:#?}` must show no more than `{:?}`.
    assert!(!format!("{secrets:#?}{environment:?}").contains(&three));
}

#[test]
fn empty_and_contradictory_secrets_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty");
    std::fs::write(&empty, "\n\n").unwrap();
    let empty = empty.to_str().unwrap();
    for (variables, expected) in [
        (vec![("CLERK_WEBHOOK_SECRET", "")], "CLERK_WEBHOOK_SECRET: is empty"),
        (vec![("AUTHSPIKE_ATTEMPTS_SECRET", "a,,b")], "AUTHSPIKE_ATTEMPTS_SECRET: holds an empty secret"),
        (vec![("AUTHSPIKE_ATTEMPTS_TOKEN_FILE", empty)], "AUTHSPIKE_ATTEMPTS_TOKEN_FILE: is empty"),
        (vec![("AUTHSPIKE_ADMIN_TOKEN_FILE", "/nonexistent")], "AUTHSPIKE_ADMIN_TOKEN_FILE: the file cannot be read"),
        (vec![("AUTHSPIKE_ADMIN_TOKEN", "a b")], "AUTHSPIKE_ADMIN_TOKEN: holds a secret with a space"),
        (
            vec![("AUTHSPIKE_ADMIN_TOKEN", "a"), ("AUTHSPIKE_ADMIN_TOKEN_FILE", empty)],
            "AUTHSPIKE_ADMIN_TOKEN: is set, and so is AUTHSPIKE_ADMIN_TOKEN_FILE",
        ),
        (vec![("AUTHSPIKE_ADMIN_TOKEN", "1,2,3,4,5,6,7,8,9,10,11")], "AUTHSPIKE_ADMIN_TOKEN: holds more than 10"),
    ] {
        let found = faults(None, &variables);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(expected), "{found:?}");
    }
}

#[test]
fn without_any_secret_it_says_which_to_set() {
    let none = Environment::of([("AUTHSPIKE_ADMIN_TOKEN", "t")]);
    assert!(config::load(&Flags::default(), &none, Need::Nothing).is_ok());
    let fault = config::load(&Flags::default(), &none, Need::Source).unwrap_err().to_string();
    for name in ["CLERK_WEBHOOK_SIGNING_SECRET", "AUTHSPIKE_ATTEMPTS_SECRET", "AUTHSPIKE_ATTEMPTS_TOKEN", "_FILE"] {
        assert!(fault.contains(name), "{fault}");
    }
    assert_eq!(fault.lines().count(), 1, "{fault}");
    // An empty one is a fault of its own, and not also a missing one.
    let empty = Environment::of([("AUTHSPIKE_ATTEMPTS_TOKEN", "")]);
    let fault = config::load(&Flags::default(), &empty, Need::Source).unwrap_err().to_string();
    assert_eq!(fault, "AUTHSPIKE_ATTEMPTS_TOKEN: is empty");
}

/// The example with every commented-out key set.
fn uncommented() -> String {
    let is_key = |line: &str| {
        line.strip_prefix("# ")
            .and_then(|rest| rest.split_once(" = "))
            .is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    };
    EXAMPLE.lines().map(|line| if is_key(line) { &line[2..] } else { line }).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_shows_the_defaults() {
    let default = format!("{:#?}", config::Config::default());
    assert_eq!(format!("{:#?}", config::parse("example", EXAMPLE).unwrap()), default);
    assert_eq!(format!("{:#?}", config::parse("example", &uncommented()).unwrap()), default);
}

#[test]
fn the_example_shows_every_key() {
    let known_in = |section: &str| -> Vec<String> {
        let text = if section.is_empty() { "zzz = 1".into() } else { format!("[{section}]\nzzz = 1") };
        let fault = config::parse("x", &text).unwrap_err().to_string();
        fault.split_once("known here: ").map_or_else(Vec::new, |(_, keys)| {
            keys.split(", ")
                .map(|key| if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") })
                .collect()
        })
    };
    // A number is wrong for a section and for many a key; which of them it is, the message says.
    let is_section = |key: &str| {
        let text = match key.rsplit_once('.') {
            Some((section, key)) => format!("[{section}]\n{key} = true"),
            None => format!("{key} = true"),
        };
        config::parse("x", &text).is_err_and(|fault| fault.to_string().contains("expected struct"))
    };
    let mut waiting = known_in("");
    assert!(waiting.len() >= 8, "{waiting:?}");
    let example = uncommented();
    let mut section_of_line = String::new();
    let mut shown = Vec::new();
    for line in example.lines() {
        if let Some(section) = line.strip_prefix('[') {
            section_of_line = section.trim_end_matches(']').to_owned();
            shown.push(section_of_line.clone());
        } else if let Some((key, _)) = line.split_once(" = ")
            && !line.starts_with('#')
        {
            shown.push(if section_of_line.is_empty() { key.into() } else { format!("{section_of_line}.{key}") });
        }
    }
    while let Some(key) = waiting.pop() {
        assert!(shown.contains(&key), "{key} is not in deploy/authspike.toml, which shows {shown:?}");
        if is_section(&key) {
            waiting.extend(known_in(&key));
        }
    }
}

#[test]
fn the_example_shows_every_key_of_every_kind_of_sink() {
    let known_in = |section: &str| -> Vec<String> {
        let fault = config::parse("x", &format!("{section}\nzzz = 1")).unwrap_err().to_string();
        let known = fault.lines().find_map(|line| line.split_once("known here: ")).unwrap().1;
        known.split(", ").map(str::to_owned).collect()
    };
    let of_sinks = EXAMPLE.split_once("[sinks]\n").unwrap().1;
    let (of_all, lists) = of_sinks.split_once("# Secrets stand in").unwrap();
    for kind in known_in("[sinks]").into_iter().filter(|kind| !["stdout", "jsonl", "outbox"].contains(&&**kind)) {
        let header = format!("#   [[sinks.{kind}]]\n");
        let section = lists.split_once(&header).unwrap_or_else(|| panic!("{header} is not shown")).1;
        let section = section.split("\n\n").next().unwrap();
        let shown = |text: &str, key: &str| text.lines().any(|line| line.starts_with(&format!("#   {key} = ")));
        for key in known_in(&format!("[[sinks.{kind}]]")) {
            assert!(shown(section, &key) || shown(of_all, &key), "sinks.{kind}.{key} is not in deploy/authspike.toml");
        }
    }
}

#[test]
fn faults_of_sinks_stand_under_their_own_keys_and_their_secrets_are_found() {
    let (_dir, path) = file(
        "[[sinks.splunk_hec]]\nname = \"a\"\nurl = \"https://h\"\ntoken_env = \"SPLUNK\"\n\
         [[sinks.splunk_hec]]\nname = \"a\"\nurl = \"http://h\"\ntoken_env = \"4f1c-geheim\"\ntimeout = 3\n\
         [sinks.outbox]\nmax_pending = 1\n",
    );
    let name = path.display().to_string();
    let found = faults(Some(path), &[("SPLUNKK", "token")]);
    for start in [
        "sinks.splunk_hec.0.token_env: the variable SPLUNK is not set",
        "sinks.splunk_hec.1.timeout: unknown key; known here: name, ",
        "sinks.splunk_hec.1.name: is the name of two sinks",
        "sinks.splunk_hec.1.url: must be https://",
        "sinks.splunk_hec.1.token_env: must be the name of a variable",
        "sinks.outbox.max_pending: must be from",
    ] {
        assert!(found.iter().any(|fault| fault.starts_with(&format!("{name}: {start}"))), "{start}: {found:?}");
    }
    assert!(!found.join("\n").contains("geheim"), "{found:?}");

    let (_dir, path) =
        file("[[sinks.splunk_hec]]\nname = \"a\"\nurl = \"https://h\"\ntoken_env = \"AUTHSPIKE_SECRET_A\"\n");
    let flags = Flags { config: Some(path), ..Flags::default() };
    let loaded = config::load(&flags, &Environment::of([("AUTHSPIKE_SECRET_A", "geheim\n")]), Need::Sinks).unwrap();
    assert_eq!(loaded.secrets.sinks["AUTHSPIKE_SECRET_A"].expose(), "geheim");
    assert!(!format!("{loaded:?}").contains("geheim"));
}

#[test]
fn faults_of_the_allow_list_and_of_other_thresholds_stand_under_their_own_keys() {
    let (_dir, path) = file(
        "[detect]\nfactor = 30.0\n\
         [[detect.allow]]\ncidr = \"198.51.100.0/24\"\nuntil = 2027-01-31T00:00:00Z\nreason = \"right\"\n\
         [[detect.allow]]\ncidr = \"whsec_c2VjcmV0\"\nreason = \"r\"\n\
         [[detect.allow]]\naccount = \"user_1\"\nuntil = 2027-01-31\nreason = \"r\"\n\
         [[detect.allow]]\naccount = \"user_1\"\nuntil = \"soon\"\nreason = \"r\"\n\
         [[detect.allow]]\naccount = \"user_1\"\n\
         [[detect.allow]]\nip = \"198.51.100.1\"\nreason = \"r\"\n\
         [detect.tenants.ins_1]\nfacor = 1\nmax_state_bytes = 5\naddress_minimum = \"8\"\nfalse_findings_per_day = 0.5\n\
         [detect.tenants.ins_2]\naddress_minimum = 2.5\nnetwork_ceiling = -1\n\
         [detect.shadow]\nname = 3\nquiet_minutes = 5\nfactor = nan\n",
    );
    let name = path.display().to_string();
    let expected = [
        "detect.allow.1.cidr: is neither a network nor an address",
        "detect.allow.2.until: must be a date and time with its offset",
        "detect.allow.3.until: must be a date and time with its offset",
        "detect.allow.4.reason: must say why",
        "detect.allow.5.ip: unknown key; known here: cidr, account, tenant, until, reason",
        // Without its wrong key it lacks the right one.
        "detect.allow.5: one of cidr and account must be set, and not both",
        "detect.tenants.ins_1.facor: unknown key; known here: ",
        "detect.tenants.ins_1.max_state_bytes: unknown key; known here: ",
        "detect.tenants.ins_1.address_minimum: expected a number, found a string",
        "detect.tenants.ins_2.address_minimum: expected a whole number from 0, found a number with a fraction",
        "detect.tenants.ins_2.network_ceiling: out of range for ",
        "detect.shadow.name: expected a string, found a",
        "detect.shadow.quiet_minutes: unknown key; known here: name, ",
        "detect.shadow.factor: must be a finite number",
    ];
    let found = faults(Some(path), &[]);
    for start in expected.map(|start| format!("{name}: {start}")) {
        assert!(found.iter().any(|fault| fault.starts_with(&start)), "{start} is not among\n{}", found.join("\n"));
    }
    assert_eq!(found.len(), expected.len(), "{}", found.join("\n"));
    assert!(!found.join("\n").contains("whsec_"), "{found:?}");
}

#[test]
fn other_thresholds_are_held_to_the_same_bounds() {
    let (_dir, path) = file(
        "[[detect.allow]]\nreason = \"r\"\n\
         [[detect.allow]]\naccount = \"alice@example.com\"\nreason = \"r\"\n\
         [detect.tenants.ins_1]\nfactor = 1\n\
         [detect.tenants.ins_2]\naddress_minimum = 61\n",
    );
    let name = path.display().to_string();
    let found = faults(Some(path), &[("AUTHSPIKE_DETECT__SHADOW__ACCOUNT_NETWORKS", "1")]);
    let expected = [
        format!("{name}: detect.allow.0: one of cidr and account must be set"),
        format!("{name}: detect.allow.1.account: must be a Clerk user id"),
        format!("{name}: detect.tenants.ins_1.factor: must be at least 2"),
        format!("{name}: detect.tenants.ins_2: address_ceiling: must be from address_minimum to"),
        "AUTHSPIKE_DETECT__SHADOW__ACCOUNT_NETWORKS: detect.shadow.account_networks: must be from 2".to_owned(),
    ];
    for start in &expected {
        assert!(found.iter().any(|fault| fault.starts_with(start)), "{start} is not among\n{}", found.join("\n"));
    }
    assert_eq!(found.len(), expected.len(), "{}", found.join("\n"));
}

#[test]
fn allow_list_tenants_and_shadow_are_read_as_they_are_shown() {
    let (_, from_detect) = EXAMPLE.split_once("\n[detect]\n").unwrap();
    let (from_detect, _) = from_detect.split_once("\n[sinks]\n").unwrap();
    let shown = from_detect.replace("# allow = []\n", "").replace("\n#   ", "\n");
    let shown = format!("[detect]\n{}", shown.replace("ins_…", "ins_1"));
    let detect = config::parse("example", &shown).unwrap().detect;
    assert_eq!(detect.allow.len(), 1);
    assert_eq!(detect.allow[0].until.unwrap().0.to_string(), "2027-01-31T00:00:00.000Z");
    assert_eq!(detect.tenants.len(), 1);
    let shadow = detect.shadowed().unwrap();
    assert_eq!((detect.factor, shadow.factor, shadow.allow.len()), (50.0, 25.0, 1));
}
