//! Microsoft Sentinel, from its documented shapes against a stub: there is no server one can run.

use std::collections::BTreeSet;
use std::path::Path;

use authspike::sinks::Outlet;
use serde_json::Value;

use crate::ocsf::{FIXTURES, faults, fixture};
use crate::stub::{Received, Stub, reasons, sink};

const TOKEN: &str = "200 OK\r\nContent-Type: application/json\r\n\r\n\
                     {\"token_type\":\"Bearer\",\"expires_in\":3599,\"access_token\":\"t0ken\"}";
const TAKEN: &str = "204 No Content\r\n\r\n";

fn sentinel(stub: &Stub) -> Outlet {
    let (url, authority) = (stub.url(""), stub.url("/entra"));
    let section = format!(
        "[[sentinel]]\nname = \"sentinel\"\nurl = \"{url}\"\nauthority = \"{authority}\"\nrule_id = \"dcr-1\"\n\
         directory_id = \"d1\"\nclient_id = \"c1\"\nclient_secret_env = \"S\"\n"
    );
    sink(&section, &[("S", "cl13nt s&cret")]).unwrap()
}

async fn deliver(outlet: &mut Outlet) -> Vec<String> {
    let findings: Vec<_> = FIXTURES.iter().map(|name| fixture(name)).collect();
    reasons(&outlet.sink.deliver(&findings).await)
}

fn paths(received: &[Received]) -> Vec<&str> {
    received.iter().map(|request| request.path.as_str()).collect()
}

const ROWS: &str = "/dataCollectionRules/dcr-1/streams/Custom-AuthspikeFindings_CL?api-version=2023-01-01";
const TOKENS: &str = "/entra/d1/oauth2/v2.0/token";

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_posted_with_a_token_that_is_asked_for_once() {
    let stub = Stub::answering(&[TOKEN, TAKEN, TAKEN]);
    let mut outlet = sentinel(&stub);
    for _ in 0..2 {
        assert_eq!(deliver(&mut outlet).await, [""; 0]);
    }
    let received = stub.take();
    assert_eq!(paths(&received), [TOKENS, ROWS, ROWS]);
    assert_eq!(received[0].headers["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(
        received[0].body,
        "grant_type=client_credentials&client_id=c1&client_secret=cl13nt+s%26cret&\
         scope=https%3A%2F%2Fmonitor.azure.com%2F.default"
    );
    assert_eq!(received[1].headers["authorization"], "Bearer t0ken");
    let rows = received[1].json();
    assert_eq!(rows.as_array().unwrap().len(), 3);
    for (row, name) in rows.as_array().unwrap().iter().zip(FIXTURES) {
        let finding = fixture(name);
        assert_eq!(row["FindingId"], finding.finding_id.to_string());
        assert_eq!(row["RevisionId"], finding.revision_id.to_string());
        assert_eq!(row["TimeGenerated"], finding.at.to_string());
        assert_eq!(faults(&row["Finding"]), [""; 0]);
    }
    assert_eq!(rows[0]["Severity"], "Critical");
    assert_eq!(rows[0]["Techniques"], serde_json::json!(["T1110.004", "T1078.004"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_is_renewed_once() {
    let refused = "401 Unauthorized\r\n\r\n{\"error\":\"expired\"}";
    let stub = Stub::answering(&[TOKEN, refused, TOKEN, TAKEN, refused, TOKEN, refused]);
    let mut outlet = sentinel(&stub);
    assert_eq!(deliver(&mut outlet).await, [""; 0]);
    assert_eq!(paths(&stub.take()), [TOKENS, ROWS, TOKENS, ROWS]);
    let blocked = deliver(&mut outlet).await;
    assert!(
        blocked.iter().all(|reason| reason.starts_with("blocked: answered 401")) && blocked.len() == 3,
        "{blocked:?}"
    );
    assert_eq!(paths(&stub.take()), [ROWS, TOKENS, ROWS]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_blocks_is_not_quoted_and_other_faults_wait_as_asked() {
    let wrong =
        "400 Bad Request\r\n\r\n{\"error\":\"invalid_client\",\"error_description\":\"cl13nt s&cret is wrong\"}";
    let down = "503 Service Unavailable\r\nRetry-After: 9\r\n\r\n";
    let stub = Stub::answering(&[wrong, down, TOKEN, "403 Forbidden\r\n\r\n", "413 Content Too Large\r\n\r\n"]);
    let mut outlet = sentinel(&stub);
    let starts = [
        "blocked: no token: answered 400 Bad Request",
        "retry: no token: answered 503",
        "blocked: answered 403 Forbidden (the application needs the role",
        "split: answered 413",
    ];
    for start in starts {
        let told = deliver(&mut outlet).await;
        assert!(told.len() == 3 && told[0].starts_with(start) && !told[0].contains("cret"), "{start}: {told:?}");
    }
}

/// A column that the table or the rule does not declare is dropped without a word.
#[tokio::test(flavor = "multi_thread")]
async fn the_table_and_the_rule_declare_every_column_with_its_type() {
    let stub = Stub::answering(&[TOKEN, TAKEN]);
    assert_eq!(deliver(&mut sentinel(&stub)).await, [""; 0]);
    let row = stub.take()[1].json()[0].clone();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/sentinel");
    let read =
        |name: &str| -> Value { serde_json::from_str(&std::fs::read_to_string(folder.join(name)).unwrap()).unwrap() };
    let (table, rule) = (read("table.json"), read("rule.json"));
    assert_eq!(table["properties"]["schema"]["name"], "AuthspikeFindings_CL");
    let rule = &rule["resources"][0]["properties"];
    assert_eq!(rule["dataFlows"][0]["streams"][0], "Custom-AuthspikeFindings_CL");
    assert_eq!(rule["dataFlows"][0]["outputStream"], "Custom-AuthspikeFindings_CL");
    let sent: BTreeSet<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
    for columns in [
        &table["properties"]["schema"]["columns"],
        &rule["streamDeclarations"]["Custom-AuthspikeFindings_CL"]["columns"],
    ] {
        let columns = columns.as_array().unwrap();
        let declared: BTreeSet<&str> = columns.iter().map(|column| column["name"].as_str().unwrap()).collect();
        assert_eq!(declared, sent);
        for column in columns {
            let value = &row[column["name"].as_str().unwrap()];
            let right = match column["type"].as_str().unwrap() {
                "datetime" => value.as_str().unwrap().parse::<jiff::Timestamp>().is_ok(),
                "string" => value.is_string(),
                "int" => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
                "long" => value.is_i64() || value.is_u64(),
                "real" => value.is_number(),
                "dynamic" => value.is_object() || value.is_array(),
                other => panic!("a column of type {other}"),
            };
            assert!(right, "{column}: {value}");
        }
    }
}
