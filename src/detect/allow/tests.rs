use super::*;

const NOON: Timestamp = Timestamp(1_800_000_000_000);

fn entry(json: &str) -> Entry {
    serde_json::from_str(json).unwrap()
}

fn list(entries: &[&str]) -> AllowList {
    AllowList::new(&entries.iter().map(|json| entry(json)).collect::<Vec<_>>())
}

fn covers(list: &AllowList, tenant: &str, ip: &str, at: Timestamp) -> bool {
    list.covers_ip(&tenant.into(), ip.parse().unwrap(), at)
}

#[test]
fn networks_addresses_and_their_edges() {
    let list = list(&[
        r#"{"cidr":"198.51.100.7/24","reason":"r"}"#,
        r#"{"cidr":"203.0.113.9","reason":"r"}"#,
        r#"{"cidr":"2001:db8:5::/48","reason":"r"}"#,
    ]);
    for (ip, expected) in [
        ("198.51.100.0", true),
        ("198.51.100.255", true),
        ("198.51.101.0", false),
        ("198.51.99.255", false),
        ("203.0.113.9", true),
        ("203.0.113.8", false),
        ("2001:db8:5:ffff::1", true),
        ("2001:db8:6::1", false),
        ("::c633:6407", false),
    ] {
        assert_eq!(covers(&list, "ins_1", ip, NOON), expected, "{ip}");
    }
    assert!(!covers(&AllowList::default(), "ins_1", "198.51.100.0", NOON));
}

#[test]
fn everything_is_the_shortest_prefix() {
    let list = list(&[r#"{"cidr":"0.0.0.0/0","reason":"r"}"#]);
    assert!(covers(&list, "ins_1", "255.255.255.255", NOON));
    assert!(!covers(&list, "ins_1", "::1", NOON));
}

#[test]
fn an_entry_ends_at_its_moment_by_the_time_of_the_event() {
    let entries = |until| format!(r#"{{"cidr":"198.51.100.0/24","until":"{until}","reason":"r"}}"#);
    let until = Timestamp(1_800_000_000_000);
    let list = list(&[&entries("2027-01-15T08:00:00Z")]);
    assert!(covers(&list, "ins_1", "198.51.100.1", until.plus_millis(-1)));
    assert!(!covers(&list, "ins_1", "198.51.100.1", until));
    // Of two for the same network the longer one holds, in either order.
    let (short, long) = (entries("2027-01-15T08:00:00Z"), entries("2027-01-15T10:00:00+01:00"));
    for pair in [[&*short, &*long], [&*long, &*short]] {
        let list = super::tests::list(&pair);
        assert!(covers(&list, "ins_1", "198.51.100.1", until));
        assert!(!covers(&list, "ins_1", "198.51.100.1", until.plus_millis(3_600_000)));
    }
}

#[test]
fn a_tenants_entry_is_for_that_tenant() {
    let list = list(&[
        r#"{"cidr":"198.51.100.0/24","tenant":"ins_1","reason":"r"}"#,
        r#"{"account":"user_1","tenant":"ins_1","reason":"r"}"#,
        r#"{"account":"idh_000000000000000000000000000000ff","reason":"r"}"#,
    ]);
    assert!(covers(&list, "ins_1", "198.51.100.1", NOON));
    assert!(!covers(&list, "ins_2", "198.51.100.1", NOON));
    let user = Account::User("user_1".into());
    assert!(list.covers_account(&"ins_1".into(), &user, NOON));
    assert!(!list.covers_account(&"ins_2".into(), &user, NOON));
    let mut hash = [0; 16];
    hash[15] = 255;
    assert!(list.covers_account(&"ins_2".into(), &Account::Identifier(IdentifierHash(hash)), NOON));
}

#[test]
fn what_cannot_be_meant_is_a_fault() {
    let faults = |json: &str| validate(&[entry(r#"{"account":"user_1","reason":"r"}"#), entry(json)]);
    assert_eq!(faults(r#"{"cidr":"198.51.100.0/24","reason":"r"}"#), [""; 0]);
    assert_eq!(faults(r#"{"reason":"r"}"#), ["allow.1: one of cidr and account must be set, and not both"]);
    let both = faults(r#"{"cidr":"198.51.100.0/24","account":"user_1","reason":" "}"#);
    assert_eq!(both.len(), 2, "{both:?}");
    assert_eq!(
        faults(r#"{"cidr":"198.51.100.0/33","reason":"r"}"#),
        ["allow.1.cidr: is neither a network nor an address"]
    );
    assert_eq!(faults(r#"{"cidr":"198.51.100.0/24"}"#), ["allow.1.reason: must say why"]);
    for account in ["", "alice@example.com", "idh_12", "idh_zz0000000000000000000000000000ff"] {
        let fault = faults(&format!(r#"{{"account":"{account}","reason":"r"}}"#));
        assert!(fault.len() == 1 && fault[0].starts_with("allow.1.account: must be"), "{account}: {fault:?}");
    }
    let many = vec![entry(r#"{"account":"user_1","reason":"r"}"#); MAX_ENTRIES + 1];
    assert_eq!(validate(&many).len(), 1);
}
