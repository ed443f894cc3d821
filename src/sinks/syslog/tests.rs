use super::*;

fn config(address: &str) -> Config {
    Config { name: "s".into(), address: address.into(), ..Config::default() }
}

#[test]
fn what_others_could_read_on_the_way_must_be_asked_for() {
    assert_eq!(config("siem.example.com:6514").validate(), [""; 0]);
    let plain = |address, transport| Config { transport, ..config(address) }.validate();
    assert_eq!(plain("127.0.0.1:514", Transport::Udp), [""; 0]);
    assert_eq!(plain("[::1]:514", Transport::Tcp), [""; 0]);
    for transport in [Transport::Tcp, Transport::Udp] {
        let faults = plain("siem.example.com:514", transport);
        assert!(
            faults.len() == 1 && faults[0].starts_with("transport: ") && faults[0].contains("plaintext"),
            "{faults:?}"
        );
        let asked_for = Config { transport, plaintext: true, ..config("siem.example.com:514") };
        assert_eq!(asked_for.validate(), [""; 0]);
    }
}

#[test]
fn faults_name_their_keys() {
    for address in ["", "host", "host:", ":514", "host:99999", "::1:514"] {
        assert_eq!(config(address).validate(), ["address: must be host:port"], "{address}");
    }
    let wrong = Config {
        facility: 24,
        max_bytes: 100,
        timeout_seconds: 0,
        client_cert_file: Some("c".into()),
        ..config("h:1")
    };
    let keys: Vec<_> = wrong.validate().iter().map(|fault| fault.split(':').next().unwrap().to_owned()).collect();
    assert_eq!(keys, ["facility", "max_bytes", "timeout_seconds", "client_cert_file"]);
    let unread = Config { ca_file: Some("/nowhere".into()), ..config("h:1") };
    let fault = Syslog::new(&unread).err().unwrap();
    assert!(fault.starts_with("ca_file: /nowhere"), "{fault}");
}

#[test]
fn payloads_have_the_names_of_the_configuration() {
    let named = ["cef", "ocsf", "ocsf-1.8.0", "ecs", "json"].map(|name| format!("payload = \"{name}\""));
    let read = named.map(|text| toml_config(&text).payload);
    assert_eq!(read, [Payload::Cef].into_iter().chain(Body::ALL.map(Payload::Json)).collect::<Vec<_>>()[..]);
}

/// There is nothing to turn verification off with, so nobody can do it by accident.
#[test]
fn no_key_turns_verification_off() {
    for key in ["insecure", "insecure_skip_verify", "verify", "tls_verify", "verify_hostname"] {
        let fault = read(&format!("{key} = true")).unwrap_err().to_string();
        assert!(fault.contains("unknown field"), "{fault}");
    }
}

fn toml_config(text: &str) -> Config {
    read(text).unwrap()
}

fn read(text: &str) -> Result<Config, Box<figment::Error>> {
    use figment::providers::{Format as _, Toml};
    figment::Figment::from(Toml::string(text)).extract().map_err(Box::new)
}
