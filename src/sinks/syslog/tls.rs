//! TLS of a syslog sink: whom to believe, and who we are.
//!
//! Invariant: the receiver's certificate is verified, its name included, by the system's authorities or by those of
//! `ca_file` alone. There is no switch for anything else.
//!
//! Not here: the connection itself (`transport`).

use std::pin::Pin;

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
pub(super) use openssl::ssl::SslConnector;
use openssl::ssl::{SslConnectorBuilder, SslMethod, SslVersion};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509VerifyResult};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use super::Config;
use crate::sinks::http::settings::pem;

/// By the keys of `config`. Blocks on the files they name.
pub(super) fn connector(config: &Config) -> Result<SslConnector, String> {
    let unusable = |error: ErrorStack| format!("TLS cannot be set up: {error}");
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(unusable)?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2)).map_err(unusable)?;
    if let Some(path) = &config.ca_file {
        let authorities = X509::stack_from_pem(&pem("ca_file", path)?).unwrap_or_default();
        if authorities.is_empty() {
            return Err(format!("ca_file: {} holds no certificate as PEM", path.display()));
        }
        // These alone, not these too.
        let mut store = X509StoreBuilder::new().map_err(unusable)?;
        for authority in authorities {
            store.add_cert(authority).map_err(unusable)?;
        }
        builder.set_cert_store(store.build());
    }
    if let (Some(certificate), Some(key)) = (&config.client_cert_file, &config.client_key_file) {
        let (certificate, key) = (pem("client_cert_file", certificate)?, pem("client_key_file", key)?);
        // The cause may quote the key.
        identify(&mut builder, &certificate, &key).map_err(|_| {
            "client_key_file: it and client_cert_file are no PEM certificate with its PKCS #8 key".to_owned()
        })?;
    }
    Ok(builder.build())
}

/// Our certificate, the chain that follows it in its file, and its key.
fn identify(builder: &mut SslConnectorBuilder, certificate: &[u8], key: &[u8]) -> Result<(), ErrorStack> {
    let mut chain = X509::stack_from_pem(certificate)?.into_iter();
    builder.set_certificate(&*chain.next().ok_or_else(ErrorStack::get)?)?;
    for authority in chain {
        builder.add_extra_chain_cert(authority)?;
    }
    // An encrypted key must not ask the terminal for its password.
    let key = PKey::private_key_from_pem_callback(key, |_| Ok(0))?;
    builder.set_private_key(&key)?;
    builder.check_private_key()
}

/// TLS over `stream` with the receiver that is called `host`.
pub(super) async fn connect(
    connector: &SslConnector,
    host: &str,
    stream: TcpStream,
) -> Result<SslStream<TcpStream>, String> {
    let unusable = |error: ErrorStack| format!("TLS cannot be set up: {error}");
    let ssl = connector.configure().and_then(|configured| configured.into_ssl(host)).map_err(unusable)?;
    let mut stream = SslStream::new(ssl, stream).map_err(unusable)?;
    if let Err(error) = Pin::new(&mut stream).connect().await {
        let verified = stream.ssl().verify_result();
        return Err(match verified {
            X509VerifyResult::OK => format!("no TLS connection: {error}"),
            fault => format!("no TLS connection: the certificate is not valid: {fault}"),
        });
    }
    Ok(stream)
}
