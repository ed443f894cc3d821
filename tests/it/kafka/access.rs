//! Who may enter a secured cluster, and how does a client prove who it is?
//!
//! Everything here is made at run time in the cluster's own folder: a certificate authority, a server certificate,
//! certificates for clients and passwords. None of it outlives the cluster.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The users of a secured cluster: an administrator, one for a program in all its roles, one for each role alone, one that
/// never may write, and one without any rights. Each has a password (SCRAM-SHA-512) and a certificate (mTLS) for the same
/// `User:name`.
pub const USERS: [&str; 7] = ["admin", "authspike", "receive", "detect", "deliver", "reader", "stranger"];

/// A certificate, its key and the authority that signed it, as PEM files.
#[derive(Clone, Debug)]
pub struct Identity {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// How a client of a cluster enters.
#[derive(Clone, Copy, Debug)]
pub enum Login<'a> {
    /// The listener without any security: the one door of a plain cluster, the administrator's of a secured one.
    Plain,
    /// `SASL_SSL` as one of `USERS`, with its password.
    Scram(&'a str),
    /// `SASL_SSL` with a password of the caller's choice.
    Password(&'a str, &'a str),
    /// mTLS as one of `USERS`.
    Certificate(&'a str),
}

/// The authority, identities and passwords of one cluster.
pub struct Access {
    folder: PathBuf,
    passwords: BTreeMap<&'static str, String>,
}

impl Access {
    /// Makes all of them in `folder`.
    pub fn make(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let access = Self {
            folder: folder.to_owned(),
            passwords: USERS.iter().map(|user| (*user, random_password())).collect(),
        };
        access.openssl("authority", "authspike test authority", &["basicConstraints=critical,CA:TRUE"], false);
        access.openssl("server", "localhost", &["subjectAltName=IP:127.0.0.1,DNS:localhost"], true);
        // A broker takes key, certificate and chain in one file.
        let read = |name: &str| std::fs::read_to_string(access.folder.join(name)).unwrap();
        let store = read("server.key") + &read("server.pem") + &read("authority.pem");
        std::fs::write(access.server_store(), store).unwrap();
        for user in USERS {
            access.openssl(user, user, &["extendedKeyUsage=clientAuth"], true);
        }
        access
    }

    pub fn authority(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    pub fn server_store(&self) -> PathBuf {
        self.folder.join("server-store.pem")
    }

    pub fn password(&self, user: &str) -> &str {
        &self.passwords[user]
    }

    pub fn identity(&self, user: &str) -> Identity {
        Identity {
            authority: self.authority(),
            certificate: self.folder.join(format!("{user}.pem")),
            key: self.folder.join(format!("{user}.key")),
        }
    }

    /// A certificate of this name and its key (PKCS#8, as Java wants it), signed by the authority or by itself.
    fn openssl(&self, file: &str, name: &str, extensions: &[&str], signed: bool) {
        let mut command = Command::new("openssl");
        command.current_dir(&self.folder).args(["req", "-x509", "-days", "2", "-noenc"]);
        command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj"]).arg(format!("/CN={name}"));
        command.arg("-keyout").arg(format!("{file}.key")).arg("-out").arg(format!("{file}.pem"));
        if signed {
            command.args(["-CA", "authority.pem", "-CAkey", "authority.key"]);
            command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        }
        for extension in extensions {
            command.args(["-addext", extension]);
        }
        let output = command.output().unwrap_or_else(|error| panic!("openssl is needed for a secured Kafka: {error}"));
        assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn random_password() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
