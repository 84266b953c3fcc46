//! Whom TLS believes: the certificate authorities of the system (`SSL_CERT_FILE` and `SSL_CERT_DIR` first, as OpenSSL
//! does; the container image brings a bundle), read when they are first needed.

use std::sync::Arc;

use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;

/// The system's authorities, and any that were added.
#[derive(Default)]
pub(super) struct Trust {
    added: Vec<CertificateDer<'static>>,
    connector: OnceCell<TlsConnector>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust").field("added", &self.added.len()).finish_non_exhaustive()
    }
}

impl Trust {
    /// Believes this authority too. DER.
    pub(super) fn add(&mut self, authority: Vec<u8>) {
        self.added.push(CertificateDer::from(authority));
    }

    /// What makes a TLS connection of a TCP connection. A failure is not kept: a bundle that appears later is found.
    ///
    /// # Errors
    /// When there is not one authority, in words.
    pub(super) async fn connector(&self) -> Result<&TlsConnector, String> {
        let make = || async {
            let added = self.added.clone();
            let made = tokio::task::spawn_blocking(move || connector(added)).await;
            made.map_err(|error| error.to_string())?
        };
        self.connector.get_or_try_init(make).await
    }
}

fn connector(added: Vec<CertificateDer<'static>>) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in found.errors {
        tracing::warn!(%error, "a certificate authority of the system cannot be read");
    }
    roots.add_parsable_certificates(found.certs);
    roots.add_parsable_certificates(added);
    if roots.is_empty() {
        return Err("this system has no certificate authorities: set SSL_CERT_FILE to a bundle".to_owned());
    }
    // Named, not the process's default: that is whichever library came first.
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
