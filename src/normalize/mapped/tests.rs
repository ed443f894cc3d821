use super::*;

fn key() -> IdentifierKey {
    IdentifierKey::new(&[7; 32])
}

fn mapping(preset: &str) -> Mapping {
    preset::config(preset).unwrap().compile().unwrap()
}

fn apply(preset: &str, line: &str) -> Result<Mapped, NormalizeError> {
    let near = Timestamp(1_796_000_000_000); // 2026-11-30
    mapping(preset).apply(line.as_bytes(), Arrival { received_at: None, near, place: "f:1" }, &key())
}

fn event(preset: &str, line: &str) -> AuthEvent {
    match apply(preset, line).unwrap() {
        Mapped::Attempt(attempt) => attempt.event,
        Mapped::Skipped(why) => panic!("{preset}: skipped, {why}: {line}"),
    }
}

#[test]
fn every_preset_compiles() {
    for name in preset::names() {
        let config = preset::config(name).unwrap_or_else(|| panic!("{name} is not a mapping"));
        assert!(config.compile().is_ok(), "{name}: {:?}", config.compile().err());
    }
}

#[test]
fn every_type_of_clerks_application_logs_is_classified() {
    let types = include_str!("../../../tests/fixtures/clerk/logs/application-log-event-types.json");
    let types: Vec<Value> = serde_json::from_str(types).unwrap();
    assert_eq!(types.len(), 181);
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for entry in &types {
        let kind = entry["event_type"].as_str().unwrap();
        let line = format!(r#"{{"event_type":"{kind}","timestamp":1790000000000,"trace_id":"t1"}}"#);
        let class = match apply("clerk-logs", &line).unwrap() {
            Mapped::Attempt(attempt) => attempt.event.outcome.as_str(),
            Mapped::Skipped(why) => {
                assert!(why.starts_with("context"), "{kind}: {why}");
                "context"
            }
        };
        *counts.entry(class).or_default() += 1;
    }
    let expected = [
        ("account_changed", 7),
        ("account_deleted", 1),
        ("blocked", 2),
        ("challenge", 1),
        ("code_sent", 3),
        ("context", 152),
        ("failure", 7),
        ("locked", 2),
        ("password_correct_stopped", 2),
        ("session_ended", 2),
        ("success", 2),
    ];
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), expected);
    let unknown = apply("clerk-logs", r#"{"event_type":"sign_in.brand_new","timestamp":1790000000000}"#).unwrap();
    assert_eq!(unknown, Mapped::Skipped("no rule for /event_type = sign_in.brand_new".to_owned()));
}

#[test]
fn the_records_of_one_trace_are_one_attempt_whatever_their_order() {
    let record = |kind: &str, trace: &str| {
        event("clerk-logs", &format!(r#"{{"event_type":"{kind}","timestamp":1790000000000,"trace_id":"{trace}"}}"#))
    };
    let outcomes = |events: Vec<AuthEvent>| -> Vec<Outcome> {
        collapse(events, |event| event).iter().map(|event| event.outcome).collect()
    };
    let failed = ["sign_in.password.failed", "sign_in.attempt_first_factor.failed", "sign_in.failed"];
    assert_eq!(outcomes(failed.map(|kind| record(kind, "a")).to_vec()), [Outcome::Failure]);
    for (kind, outcome) in
        [("sign_in.password.pwned", Outcome::PasswordCorrectStopped), ("sign_in.user_locked", Outcome::Locked)]
    {
        let both = [record(kind, "a"), record("sign_in.failed", "a")];
        assert_eq!(outcomes(both.to_vec()), [outcome]);
        assert_eq!(outcomes(both.into_iter().rev().collect()), [outcome]);
    }
    let two = vec![record("sign_in.failed", "a"), record("sign_in.completed", "b"), record("sign_in.failed", "a")];
    assert_eq!(outcomes(two), [Outcome::Failure, Outcome::Success]);
}

/// The lines are those of each format's own documentation, with the request, the status and the time replaced.
#[test]
fn access_logs_tell_of_attempts_without_an_account() {
    const ROUTE: &str = "/__clerk/v1/client/sign_ins/sia_2b/attempt_first_factor";
    for (preset, line) in [
        (
            "nginx-combined",
            r#"203.0.113.7 - - [28/May/2024:10:00:00 +0200] "POST ROUTE?_is_native=1 HTTP/2.0" 422 331 "https://app.example/\"x\"" "Mozilla/5.0 (X11; \"q\")""#,
        ),
        (
            "nginx-json",
            r#"{"request_id":"9a1c","time_iso8601":"2024-05-28T10:00:00+02:00","remote_addr":"203.0.113.7","request_method":"POST","request_uri":"ROUTE","status":422,"http_user_agent":"Mozilla/5.0"}"#,
        ),
        (
            "caddy",
            r#"{"level":"info","ts":1716883200.0,"logger":"http.log.access","msg":"handled request","request":{"remote_ip":"10.0.0.1","remote_port":"41342","client_ip":"203.0.113.7","proto":"HTTP/2.0","method":"POST","host":"localhost","uri":"ROUTE","headers":{"User-Agent":["Mozilla/5.0"]}},"bytes_read":0,"user_id":"","duration":0.0009,"size":10900,"status":422}"#,
        ),
        (
            "envoy",
            r#"[2024-05-28T08:00:00.000Z] "POST ROUTE HTTP/1.1" 422 - 0 2 5 1 "198.51.100.9, 203.0.113.7" "Mozilla/5.0" "cc21d9b0-cf5c-432b-8c7e-98aeb7988cd2" "locations" "tcp://192.0.2.1:80""#,
        ),
        (
            "cloudflare",
            r#"{"ClientIP":"203.0.113.7","ClientRequestHost":"app.example","ClientRequestMethod":"POST","ClientRequestURI":"ROUTE?a=b","ClientRequestUserAgent":"Mozilla/5.0","EdgeResponseStatus":422,"EdgeStartTimestamp":1716883200000000000,"RayID":"3a6050bcbe121a87"}"#,
        ),
        (
            "alb",
            r#"h2 2024-05-28T08:00:00.000000Z app/my-loadbalancer/50dc6c495c0c9188 203.0.113.7:2817 10.0.0.1:80 0.000 0.001 0.000 422 422 34 366 "POST https://www.example.com:443ROUTE HTTP/2.0" "Mozilla/5.0" ECDHE-RSA-AES128-GCM-SHA256 TLSv1.2 arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/my-targets/73e2d6bc24d8a067 "Root=1-58337262-36d228ad5d99923122bbe354" "-" "-" 0 2018-07-02T22:22:48.364000Z "forward" "-" "-" "10.0.0.1:80" "422" "-" "-""#,
        ),
    ] {
        let line = line.replace("ROUTE", ROUTE);
        let event = event(preset, &line);
        assert_eq!(event.outcome, Outcome::Failure, "{preset}");
        assert_eq!(event.occurred_at, Timestamp(1_716_883_200_000), "{preset}");
        assert_eq!(event.ip, Some("203.0.113.7".parse().unwrap()), "{preset}");
        assert!(event.user_agent.as_ref().unwrap().starts_with("Mozilla/5.0"), "{preset}");
        assert_eq!((event.account, event.reason.as_deref()), (None, Some("http_422")), "{preset}");
        let other = line.replace(ROUTE, "/assets/app.js");
        assert_eq!(apply(preset, &other).unwrap(), Mapped::Skipped("not a route of a sign-in".to_owned()), "{preset}");
    }
    let v6 = r#"https 2024-05-28T08:00:00.000000Z app/l/5 [2001:db8::7]:2817 - -1 -1 -1 429 - 34 366 "POST https://e:443/v1/client/sign_ins HTTP/1.1" "x" -"#;
    assert_eq!(event("alb", v6).ip, Some("2001:db8::7".parse().unwrap()));
}

#[test]
fn two_equal_lines_at_two_places_are_two_attempts_and_one_read_twice_is_one() {
    let line = br#"203.0.113.7 - - [28/May/2024:10:00:00 +0200] "POST /v1/client/sign_ins HTTP/2.0" 422 331 "-" "-""#;
    let id = |place| match mapping("nginx-combined").apply(
        line,
        Arrival { received_at: None, near: Timestamp(0), place },
        &key(),
    ) {
        Ok(Mapped::Attempt(attempt)) => attempt.event.id,
        other => panic!("{other:?}"),
    };
    assert_eq!(id("1:100"), id("1:100"));
    assert_ne!(id("1:100"), id("1:200"));
}

#[test]
fn other_identity_providers_are_read() {
    let okta = r#"{"uuid":"dc9fd3c0-598c-11ef-8478-2b7584bf8d5a","published":"2024-05-28T08:00:00.000Z","eventType":"user.session.start","version":"0","severity":"INFO","displayMessage":"User login to Okta","actor":{"id":"00uttidj01jqL21aM1d6","type":"User","alternateId":"john.doe@example.com"},"client":{"userAgent":{"rawUserAgent":"Mozilla/5.0"},"ipAddress":"203.0.113.7"},"outcome":{"result":"FAILURE","reason":"INVALID_CREDENTIALS"},"authenticationContext":{"externalSessionId":"unknown"}}"#;
    let found = event("okta", okta);
    assert_eq!((found.outcome, found.reason.as_deref()), (Outcome::Failure, Some("INVALID_CREDENTIALS")));
    assert_eq!(found.account, Some(Account::User("00uttidj01jqL21aM1d6".into())));
    assert_eq!(found.identifier, Some(key().hash(&"default".into(), "john.doe@example.com")));
    // Nobody by that name: Okta writes "unknown" for the id.
    let nobody = event("okta", &okta.replace("00uttidj01jqL21aM1d6", "unknown"));
    assert_eq!(nobody.account, nobody.identifier.map(Account::Identifier));
    assert_eq!(event("okta", &okta.replace("INVALID_CREDENTIALS", "LOCKED_OUT")).outcome, Outcome::Locked);
    assert_eq!(event("okta", &okta.replace("FAILURE", "SUCCESS")).outcome, Outcome::Success);

    let auth0 = r#"{"log_id":"9002","data":{"date":"2024-05-28T08:00:00.000Z","type":"fp","ip":"203.0.113.7","user_id":"auth0|5f7c8ec7c33c6c004bbafe82","user_name":"alice@example.com","user_agent":"Chrome 114.0.0","tenant_name":"dev-1","details":{"password":"never read"}}}"#;
    let found = event("auth0", auth0);
    assert_eq!((found.outcome, &*found.tenant.0, &*found.id), (Outcome::Failure, "dev-1", "9002"));
    assert_eq!(found.account, Some(Account::User("auth0|5f7c8ec7c33c6c004bbafe82".into())));
    assert_eq!(event("auth0", &auth0.replace("\"fp\"", "\"limit_wc\"")).outcome, Outcome::Locked);
    assert!(matches!(apply("auth0", &auth0.replace("\"fp\"", "\"sapi\"")), Ok(Mapped::Skipped(_))));

    let ocsf = r#"{"class_uid":3002,"activity_id":1,"status_id":2,"time":1716883200000,"metadata":{"uid":"m1","tenant_uid":"t1"},"src_endpoint":{"ip":"203.0.113.7"},"user":{"name":"alice"},"status_detail":"INVALID_CREDENTIALS"}"#;
    assert_eq!(event("ocsf", ocsf).outcome, Outcome::Failure);
    assert!(matches!(apply("ocsf", &ocsf.replace("3002", "3001")), Ok(Mapped::Skipped(_))));

    let nested = r#"{"@timestamp":"2024-05-28T08:00:00Z","event":{"category":["authentication","session"],"type":["start"],"outcome":"failure","id":"e1"},"source":{"ip":"203.0.113.7"},"user":{"name":"alice"}}"#;
    let dotted = r#"{"@timestamp":"2024-05-28T08:00:00Z","event.category":["authentication"],"event.type":["start"],"event.outcome":"failure","event.id":"e1","source.ip":"203.0.113.7","user.name":"Alice "}"#;
    assert_eq!(event("ecs", nested).account, event("ecs", dotted).account);
    assert_eq!(event("ecs", dotted).outcome, Outcome::Failure);
    assert!(matches!(apply("ecs", &nested.replace("\"start\"", "\"end\"")), Ok(Mapped::Skipped(_))));
}

#[test]
fn what_is_typed_is_only_ever_hashed_and_no_reason_quotes_it() {
    // A user id that is an address is treated as the address it is.
    let line = r#"{"class_uid":3002,"activity_id":1,"status_id":2,"time":1716883200000,"user":{"uid":"Alice@Example.com"},"status_detail":"wrong password hunter2 for alice"}"#;
    let found = event("ocsf", line);
    assert_eq!(found.account, Some(Account::Identifier(key().hash(&"default".into(), "alice@example.com"))));
    assert_eq!(found.reason, None);
    let shown = format!("{found:?}").to_lowercase();
    assert!(!shown.contains("alice") && !shown.contains("hunter2"), "{shown}");
    for kind in ["alice@example.com", "my secret", &"x".repeat(61)] {
        let line = format!(r#"{{"event_type":"{kind}","timestamp":1790000000000}}"#);
        let Mapped::Skipped(why) = apply("clerk-logs", &line).unwrap() else { panic!() };
        assert_eq!(why, "no rule for the value at /event_type");
    }
}

#[test]
fn sshd_lines_count_once_per_password() {
    let failed = event(
        "sshd",
        "Dec 10 06:55:48 LabSZ sshd[24200]: Failed password for invalid user webmaster from 173.234.31.186 port 38926 ssh2",
    );
    assert_eq!(failed.outcome, Outcome::Failure);
    assert_eq!(failed.occurred_at.to_string(), "2025-12-10T06:55:48.000Z");
    assert_eq!(failed.ip, Some("173.234.31.186".parse().unwrap()));
    assert_eq!(failed.identifier, Some(key().hash(&"default".into(), "webmaster")));
    let accepted = event(
        "sshd",
        "Dec  1 09:32:20 LabSZ sshd[24680]: Accepted password for fztu from 119.137.62.142 port 49116 ssh2",
    );
    assert_eq!(accepted.outcome, Outcome::Success);
    for (line, ip) in [
        // rsyslog's and OpenSSH's of today, RFC 5424, Solaris, a repetition, and a user name that would be an address.
        (
            "2025-12-10T07:55:48.123456+01:00 h sshd-session[1]: Failed password for root from 2001:db8::7 port 22 ssh2",
            "2001:db8::7",
        ),
        (
            "<38>1 2025-12-10T06:55:48.9Z h sshd 57915 - [q a=\"1\"] Failed unknown for invalid user x from 192.0.2.1 port 5 ssh2",
            "192.0.2.1",
        ),
        (
            "Dec 10 06:55:48 h sshd[1]: [ID 800047 auth.info] Failed keyboard-interactive for james from 192.0.2.1 port 5 ssh2",
            "192.0.2.1",
        ),
        (
            "Dec 10 06:55:48 h sshd[1]: message repeated 2 times: [ Failed password for root from 192.0.2.1 port 5 ssh2]",
            "192.0.2.1",
        ),
        (
            "Dec 10 06:55:48 h sshd[1]: Failed password for invalid user x from 198.51.100.9 port 22 ssh2 from 192.0.2.1 port 5 ssh2",
            "192.0.2.1",
        ),
    ] {
        let found = event("sshd", line);
        assert_eq!((found.outcome, found.ip), (Outcome::Failure, Some(ip.parse().unwrap())), "{line}");
        assert!(found.occurred_at.to_string().starts_with("2025-12-10T06:55:48"), "{line}");
    }
    for other in [
        "Dec 10 06:55:46 LabSZ sshd[24200]: Invalid user webmaster from 173.234.31.186",
        "Dec 10 06:55:46 LabSZ sshd[24200]: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=173.234.31.186 ",
        "Dec 10 06:55:46 LabSZ cron[1]: Failed password for x from 1.2.3.4 port 1",
        "Dec 10 06:55:46 LabSZ sshd[1]: Failed publickey for git from 192.0.2.1 port 57904 ssh2: RSA 04:bc:ff",
        "Dec 10 06:55:46 LabSZ sshd[1]: Failed none for x from 1.2.3.4 port 1 ssh2",
    ] {
        assert!(matches!(apply("sshd", other), Ok(Mapped::Skipped(_))), "{other}");
    }
}

#[test]
fn a_pattern_may_be_for_one_field_of_a_json_record() {
    let config = Config {
        patterns: vec![
            r"^(?P<what>Failed|Accepted) \S+ for (?:invalid user )?(?P<user>.*) from (?P<ip>\S+) port".into(),
        ],
        pattern_at: "/MESSAGE".into(),
        id: vec!["/__CURSOR".into()],
        time: vec!["auto".into()],
        occurred_at: vec!["/__REALTIME_TIMESTAMP".into()],
        ip: vec!["$ip".into()],
        identifier: vec!["$user".into()],
        rules: preset::config("sshd").unwrap().rules.split_off(1),
        ..Config::default()
    };
    let line = br#"{"__CURSOR":"s=1","__REALTIME_TIMESTAMP":"1716883200000000","MESSAGE":"Failed password for root from 203.0.113.7 port 22 ssh2"}"#;
    let arrival = Arrival { received_at: None, near: Timestamp(0), place: "" };
    let Mapped::Attempt(found) = config.compile().unwrap().apply(line, arrival, &key()).unwrap() else { panic!() };
    assert_eq!((found.event.occurred_at.0, &*found.event.id), (1_716_883_200_000, "s=1"));
    assert_eq!(found.event.outcome, Outcome::Failure);
}

#[test]
fn faults_name_their_key_and_no_value() {
    let config = Config {
        patterns: vec!["(?P<geheim".into()],
        time: vec!["geheim".into()],
        ip: vec!["geheim".into()],
        method: vec!["$m".into()],
        instance: "geheim@example.com".into(),
        ..Config::default()
    };
    let faults = config.compile().unwrap_err();
    for start in ["time: ", "method: ", "instance: ", "occurred_at: "] {
        assert!(faults.iter().any(|fault| fault.starts_with(start)), "{start}: {faults:?}");
    }
    let faults = Config { time: vec!["auto".into()], ..config }.compile().unwrap_err().into_iter().chain(faults);
    let faults: Vec<_> = faults.collect();
    assert!(faults.iter().any(|fault| fault.starts_with("patterns.0: ")), "{faults:?}");
    assert!(faults.iter().any(|fault| fault.starts_with("ip.0: ")), "{faults:?}");
    assert!(!faults.join("\n").contains("geheim"), "{faults:?}");
}

#[test]
fn globs_match_what_they_say() {
    for (pattern, text, expected) in [
        ("a.*", "a.b", true),
        ("a.*", "ab", false),
        ("a*", "a", true),
        ("*", "", true),
        ("a*b*c", "a-b-c", true),
        ("a*b*c", "a-c-b", false),
        ("ab*ba", "aba", false),
        ("abc", "abcd", false),
    ] {
        assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
    }
}

#[test]
fn a_providers_log_tells_whose_a_name_is_and_a_web_servers_does_not() {
    let read = |config: Config, line: &str| {
        let arrival = Arrival { received_at: None, near: Timestamp(0), place: "f:1" };
        match config.compile().unwrap().apply(line.as_bytes(), arrival, &IdentifierKey::new(&[1; 32])).unwrap() {
            Mapped::Attempt(attempt) => (attempt.event.outcome, attempt.names),
            Mapped::Skipped(why) => panic!("{why}"),
        }
    };
    let rule = |outcome, value: &str| config::RuleConfig {
        when: vec![config::ConditionConfig { at: vec!["/result".into()], is: vec![value.into()] }],
        outcome: Some(outcome),
        reason: String::new(),
    };
    let provider = Config {
        occurred_at: vec!["/time".into()],
        user_id: vec!["/user".into()],
        identifier: vec!["/name".into()],
        rules: vec![rule(Outcome::Success, "ok"), rule(Outcome::Failure, "bad")],
        ..Config::default()
    };
    let line = r#"{"time":1767600000000,"user":"user_1","name":"alice","result":"ok"}"#;
    assert_eq!(read(provider.clone(), line), (Outcome::Success, Names::Tried));
    assert_eq!(read(provider.clone(), &line.replace("ok", "bad")), (Outcome::Failure, Names::Unsaid));
    let nameless = Config { identifier: Vec::new(), ..provider.clone() };
    assert_eq!(read(nameless, line), (Outcome::Success, Names::Unsaid));
    // The same fields where a client's words stand in them.
    let access = Config {
        method: vec!["/method".into()],
        path: vec!["/path".into()],
        status: vec!["/status".into()],
        rules: Vec::new(),
        ..provider.clone()
    };
    let request = r#"{"time":1767600000000,"user":"user_1","name":"alice","method":"POST","path":"/v1/client/sign_ins/sia_1/attempt_first_factor","status":422}"#;
    assert_eq!(read(access, request), (Outcome::Failure, Names::Unsaid));
    let text = Config {
        patterns: vec![r"^(?P<time>\d+) (?P<user>\S+) (?P<name>\S+) (?P<result>\S+)$".into()],
        occurred_at: vec!["$time".into()],
        user_id: vec!["$user".into()],
        identifier: vec!["$name".into()],
        rules: vec![config::RuleConfig {
            when: vec![config::ConditionConfig { at: vec!["$result".into()], is: vec!["ok".into()] }],
            outcome: Some(Outcome::Success),
            reason: String::new(),
        }],
        ..Config::default()
    };
    assert_eq!(read(text, "1767600000000 user_1 alice ok"), (Outcome::Success, Names::Unsaid));
}
