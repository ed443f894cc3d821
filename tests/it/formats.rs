//! ECS, CEF, syslog and the plain form, read by programs that nobody of us wrote.

use authspike::event::Timestamp;
use authspike::finding::{Counted, Entity, EntityKind, Finding, Sample, Severity};
use authspike::sinks::format::ecs::{DataStream, Delivered};
use authspike::sinks::format::syslog::{self, Origin};
use authspike::sinks::format::{Body, cef, ecs, moment};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::judges::{self, Cef};
use crate::ocsf::{FIXTURES, assert_is, fixture};
use crate::{generated, ocsf};

fn parsed(line: &[u8]) -> Value {
    assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
    serde_json::from_slice(line).unwrap()
}

fn document(finding: &Finding) -> Value {
    let delivered = Delivered {
        at: Some(Timestamp(1_716_890_000_000)),
        data_stream: Some(DataStream { kind: "logs", dataset: "authspike.findings", namespace: "default" }),
    };
    parsed(&ecs::line(finding, delivered, None).unwrap())
}

/// The body judged by whoever knows its schema.
fn faults(body: Body, line: &[u8]) -> Vec<String> {
    match body {
        Body::Ocsf | Body::OcsfNewest => ocsf::faults(&parsed(line)),
        Body::Ecs => judges::ecs(&parsed(line)),
        Body::Json => Vec::new(),
    }
}

#[test]
fn records_stay_as_they_are_byte_for_byte() {
    let version = env!("CARGO_PKG_VERSION");
    for name in FIXTURES {
        let finding = fixture(name);
        for (body, ending) in [(Body::Ecs, "ecs.json"), (Body::Json, "json")] {
            let line = String::from_utf8(body.line(&finding).unwrap()).unwrap();
            assert_eq!(faults(body, line.as_bytes()), [""; 0], "{name}");
            assert_is(&format!("{name}.{ending}"), &(line.replace(&format!("\"{version}\""), "\"*\"") + "\n"));
        }
        let line = cef::line(&finding);
        judges::cef(&line).unwrap();
        assert_is(&format!("{name}.cef"), &(line.replace(&format!("|{version}|"), "|*|") + "\n"));
    }
}

#[test]
fn elastic_security_is_told_in_its_own_four_steps_and_when_it_was_sent() {
    let document = document(&fixture("stuffing"));
    assert_eq!(judges::ecs(&document), [""; 0]);
    assert_eq!(document["event"]["kind"], "alert");
    assert_eq!(document["event"]["severity"], 99);
    assert_eq!(document["event"]["ingested"], "2024-05-28T09:53:20.000Z");
    assert_eq!(document["event"]["duration"], 298_000_000_000_u64);
    assert_eq!(document["message"], "Credential stuffing from 203.0.113.7");
    assert_eq!(document["threat"]["technique"]["subtechnique"]["id"], json!(["T1110.004", "T1078.004"]));
    let severities = Severity::ALL.map(|severity| {
        let finding = Finding { severity, ..fixture("stuffing") };
        self::document(&finding)["event"]["severity"].as_u64().unwrap()
    });
    assert_eq!(severities, [21, 21, 47, 73, 99]);
    let kinds = FIXTURES.map(|name| self::document(&fixture(name))["event"]["kind"].clone());
    assert_eq!(kinds, ["alert", "event", "event"]);
}

/// A judge that accepts everything would make all of this worthless.
#[test]
fn the_ecs_judge_rejects_what_is_wrong() {
    let wrong = [
        ("/event", "severity", json!("99"), "event.severity"),
        ("/event", "kind", json!("alarm"), "event.kind"),
        ("/event", "category", json!("authentication"), "event.category"),
        ("/event", "type", json!(["allowed"]), "event.type"),
        ("/event", "unheard_of", json!(1), "event.unheard_of"),
        ("/source", "ip", json!("203.0.113.0/24"), "source.ip"),
        ("/labels", "finding_uid", json!({ "a": 1 }), "labels.finding_uid"),
        ("", "@timestamp", json!("1716883500000"), "@timestamp"),
        ("", "figures", json!({}), "figures"),
    ];
    for (pointer, field, value, place) in wrong {
        let mut bad = document(&fixture("stuffing"));
        bad.pointer_mut(pointer).unwrap()[field] = value;
        let faults = judges::ecs(&bad);
        assert!(faults.iter().any(|fault| fault.starts_with(place)), "{place}: {faults:?}");
    }
}

#[test]
fn the_cef_judges_reject_what_is_wrong() {
    let good = cef::line(&fixture("stuffing"));
    judges::cef(&good).unwrap();
    let wrong = [
        (" cnt=412", " cnt=many"),
        (" src=203.0.113.7", " src=2001:db8::1"),
        (" externalId=", " externalId=0123456789"),
        (" cs6=", " cs6=a=b"),
        (" cs6=", " cs6=a\\b"),
        (" cs6=", " nonsense=1 cs6="),
        ("CEF:0|", "CEF:0|one|"),
    ];
    for (right, bad) in wrong {
        assert!(good.contains(right), "{right}");
        let line = good.replacen(right, bad, 1);
        assert!(judges::cef(&line).is_err(), "accepted: {line}");
    }
}

/// What CEF's escapes are for, through two readers and back.
#[test]
fn hostile_values_come_back_as_they_were() {
    let hostile = "a|b=c\\d\\|e\\=f\\n\ng\r\nh cs1=x | CEF:0|é 日本 🦀\u{2028}\u{202e}";
    let mut finding = fixture("stuffing");
    finding.evidence.user_agents = vec![Counted { value: hostile.into(), count: 1 }];
    finding.evidence.reasons = vec![Counted { value: format!("  {hostile}\\"), count: 1 }];
    finding.tenant = hostile.into();
    finding.entity = Entity { kind: EntityKind::Account, value: "|=\\".into() };
    let Cef { header, extension } = judges::cef(&cef::line(&finding)).unwrap();
    assert_eq!(header[..2], ["authspike", "authspike"]);
    assert_eq!(header[4], "Credential stuffing against |=\\");
    assert_eq!(header[5], "10");
    for (key, value) in [("requestClientApplication", hostile), ("cs6", hostile), ("duid", "|=\\"), ("cs5", "|=\\")] {
        assert_eq!(extension[key], value, "{key}");
    }
    assert_eq!(extension["reason"], format!("{hostile}\\"));
    assert_eq!(extension["externalId"], finding.finding_id.to_string());
    assert_eq!(extension["cs4"], finding.revision_id.to_string());
}

#[test]
fn a_record_that_is_too_long_loses_lists_first_and_says_so() {
    let mut finding = fixture("stuffing");
    let names = |prefix: &str, count: u32| (0..count).map(|number| format!("{prefix}_{number:030}")).collect();
    finding.evidence.accounts = Sample { values: names("user", 2000), total: 2000, exact: true };
    finding.evidence.addresses = Sample { values: names("address", 2000), total: 2000, exact: true };
    for body in Body::ALL {
        let whole = body.line(&finding).unwrap();
        assert_eq!(body.line_within(&finding, whole.len()).unwrap().unwrap(), whole);
        for limit in [whole.len() - 1, 20_000, 8192, 6000] {
            let cut = body.line_within(&finding, limit).unwrap().unwrap();
            assert!(cut.len() <= limit, "{body:?}: {} > {limit}", cut.len());
            assert_eq!(faults(body, &cut), [""; 0]);
            let record = parsed(&cut);
            let figures = ["/unmapped/authspike", "/authspike", "/figures"].iter().find_map(|at| record.pointer(at));
            let figures = figures.unwrap();
            assert_eq!(figures["cut_from_bytes"], whole.len());
            assert_eq!(figures["accounts"]["total"], 2000);
            assert_eq!(figures["compromised_total"], 2);
            // Accounts broken into go last.
            assert_eq!(figures["compromised"].as_array().unwrap().len(), 2, "{body:?} {limit}");
        }
        assert_eq!(body.line_within(&finding, 1000).unwrap(), None);
    }
    let cut = parsed(&Body::OcsfNewest.line_within(&finding, 8192).unwrap().unwrap());
    assert_eq!(cut["metadata"]["is_truncated"], true);
    assert_eq!(cut["metadata"]["untruncated_size"], Body::OcsfNewest.line(&finding).unwrap().len().div_ceil(1000));
}

#[test]
fn moments_are_always_dates() {
    let moments = [i64::MIN, -1, 0, 1_716_890_000_000, i64::MAX].map(|at| moment(Timestamp(at)));
    assert_eq!(
        moments,
        [
            "0001-01-01T00:00:00.000Z",
            "1969-12-31T23:59:59.999Z",
            "1970-01-01T00:00:00.000Z",
            "2024-05-28T09:53:20.000Z",
            "9999-12-30T22:00:00.000Z"
        ]
    );
}

#[test]
fn a_syslog_message_has_the_header_of_rfc_5424_and_begins_with_its_payload() {
    let finding = fixture("stuffing");
    let message = |host| {
        let origin = Origin { facility: 10, host, process: 4711 };
        String::from_utf8(syslog::message(&finding, origin, b"CEF:0|")).unwrap().replace(env!("CARGO_PKG_VERSION"), "*")
    };
    assert_eq!(
        message("web-1"),
        "<82>1 2024-05-28T08:05:00.000Z web-1 authspike 4711 address_failure_spike \
         [origin software=\"authspike\" swVersion=\"*\"] CEF:0|"
    );
    assert!(message("a b\n\u{e9}").starts_with("<82>1 2024-05-28T08:05:00.000Z ab authspike "));
    assert!(message("\n").starts_with("<82>1 2024-05-28T08:05:00.000Z - authspike "));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_finding_makes_a_valid_record_in_every_format(finding in generated::finding()) {
        for body in Body::ALL {
            let line = body.line(&finding).unwrap();
            prop_assert_eq!(&line, &body.line(&finding.clone()).unwrap());
            prop_assert_eq!(faults(body, &line), Vec::<String>::new());
        }
        prop_assert_eq!(judges::ecs(&document(&finding)), Vec::<String>::new());
        let line = cef::line(&finding);
        prop_assert!(line.len() < 8192, "{} bytes", line.len());
        prop_assert!(!line.contains(char::is_control));
        let read = judges::cef(&line).map_err(TestCaseError::fail)?;
        prop_assert_eq!(&read.extension["externalId"], &finding.finding_id.to_string());
        prop_assert_eq!(&read.extension["cs4"], &finding.revision_id.to_string());
        prop_assert_eq!(&read.header[3], finding.rule.as_str());
        // Cut to what a small receiver takes, it still says which finding and revision it is.
        let short = cef::line_within(&finding, 1400);
        prop_assert!(short.len() <= 1400, "{} bytes", short.len());
        let read = judges::cef(&short).map_err(TestCaseError::fail)?;
        prop_assert_eq!(&read.extension["externalId"], &finding.finding_id.to_string());
        prop_assert_eq!(&read.extension["cs4"], &finding.revision_id.to_string());
    }
}
