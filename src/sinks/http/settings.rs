//! What can be set about the connections of a sink: where to, whom to believe, who we are.
//!
//! Invariant: nothing here turns verification off. A `ca_file` narrows what is believed to what is in it; plain HTTP goes
//! to this machine alone, unless the section says that everybody on the way may read along.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Certificate, ClientBuilder, Identity, Proxy, Url};

/// A certificate bundle of every public authority is 250 KB.
const MAX_PEM_BYTES: u64 = 1 << 20;

/// One sink's connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// From the start of a request to the end of its answer.
    pub timeout: Duration,
    /// The authorities to believe, as PEM; the system's if there is none.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate and its chain, as PEM.
    pub client_cert_file: Option<PathBuf>,
    /// Its key, as PEM (PKCS #8).
    pub client_key_file: Option<PathBuf>,
    /// The proxy on the way, `http://host:port`.
    pub proxy: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            proxy: None,
        }
    }
}

impl Settings {
    /// Every fault, as `key: what is wrong`. Looks at no file.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        // The dispatcher gives up on a sink after a minute.
        if !(Duration::from_secs(1)..=Duration::from_secs(50)).contains(&self.timeout) {
            faults.push("timeout_seconds: must be from 1 to 50".to_owned());
        }
        match (&self.client_cert_file, &self.client_key_file) {
            (Some(_), None) => faults.push("client_key_file: is missing beside client_cert_file".to_owned()),
            (None, Some(_)) => faults.push("client_cert_file: is missing beside client_key_file".to_owned()),
            (Some(_), Some(_)) | (None, None) => {}
        }
        if let Some(what) = self.proxy.as_deref().and_then(|proxy| url_fault(proxy, true)) {
            faults.push(format!("proxy: {what}"));
        }
        faults
    }

    pub(super) fn apply(&self, mut builder: ClientBuilder) -> Result<ClientBuilder, String> {
        if let Some(path) = &self.ca_file {
            let authorities = Certificate::from_pem_bundle(&pem("ca_file", path)?)
                .map_err(|_| format!("ca_file: {} holds no certificates as PEM", path.display()))?;
            if authorities.is_empty() {
                return Err(format!("ca_file: {} holds no certificate as PEM", path.display()));
            }
            builder = builder.tls_certs_only(authorities);
        }
        if let (Some(certificate), Some(key)) = (&self.client_cert_file, &self.client_key_file) {
            let identity =
                Identity::from_pkcs8_pem(&pem("client_cert_file", certificate)?, &pem("client_key_file", key)?);
            // The cause may quote the key.
            builder = builder.identity(identity.map_err(|_| {
                "client_key_file: it and client_cert_file are no PEM certificate with its PKCS #8 key".to_owned()
            })?);
        }
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(Proxy::all(proxy.as_str()).map_err(|_| "proxy: is not a URL".to_owned())?);
        }
        Ok(builder)
    }
}

/// What is wrong with `text` as the address of a receiver, if anything. The text may hold a secret: it is not quoted.
#[must_use]
pub fn url_fault(text: &str, plaintext: bool) -> Option<&'static str> {
    let Ok(url) = Url::parse(text) else { return Some("must be a URL: https://host:port/path") };
    if !url.username().is_empty() || url.password().is_some() {
        return Some("must hold no user and no password: they have keys of their own");
    }
    match (url.scheme(), url.host_str()) {
        ("https", Some(_)) => None,
        ("http", Some(host)) if plaintext || is_loopback(host) => None,
        ("http", Some(_)) => Some(
            "must be https://, since everybody on the way could read findings and credentials; plaintext = true allows it",
        ),
        _ => Some("must begin with https://"),
    }
}

/// Whether `host` (a name, or an address with or without brackets) is this machine.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// What is in the PEM file that `key` names. Blocks on it.
///
/// # Errors
/// It cannot be read or is no PEM file's size, as `key: what is wrong`.
pub fn pem(key: &str, path: &Path) -> Result<Vec<u8>, String> {
    let fault = |error: std::io::Error| format!("{key}: {} cannot be read: {error}", path.display());
    let mut bytes = Vec::new();
    let mut file = std::io::Read::take(std::fs::File::open(path).map_err(fault)?, MAX_PEM_BYTES + 1);
    std::io::Read::read_to_end(&mut file, &mut bytes).map_err(fault)?;
    if bytes.len() as u64 > MAX_PEM_BYTES {
        return Err(format!("{key}: {} is longer than {MAX_PEM_BYTES} bytes", path.display()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_https_or_this_machine_and_hold_no_password() {
        for url in ["https://siem.example.com:8088/x", "http://127.0.0.1:1", "http://[::1]:1/", "http://localhost:9"] {
            assert_eq!(url_fault(url, false), None, "{url}");
        }
        assert_eq!(url_fault("http://collector:4318", true), None);
        for (url, fault) in [
            ("http://collector:4318", "plaintext"),
            ("http://127.0.0.1.example.com/", "plaintext"),
            ("ftp://h/", "https"),
            ("collector", "URL"),
            ("https://me:geheim@h/", "no user"),
        ] {
            assert!(
                url_fault(url, false).is_some_and(|said| said.contains(fault) && !said.contains("geheim")),
                "{url}"
            );
        }
    }

    #[test]
    fn a_certificate_without_its_key_and_a_file_without_certificates_are_faults() {
        let half = Settings { client_cert_file: Some("c".into()), timeout: Duration::ZERO, ..Settings::default() };
        assert_eq!(half.validate().len(), 2, "{:?}", half.validate());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        std::fs::write(&path, "nothing of the kind").unwrap();
        let applied = |path: PathBuf| {
            let settings = Settings { ca_file: Some(path), ..Settings::default() };
            settings.apply(reqwest::Client::builder()).map(|_| ()).unwrap_err()
        };
        assert!(applied(path).contains("no certificate"));
        assert!(applied("/nowhere".into()).starts_with("ca_file: /nowhere cannot be read"));
    }
}
