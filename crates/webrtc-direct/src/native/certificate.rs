//! A listener's certificate, whose hash is part of its address.

use dtls::crypto::Certificate as DtlsCertificate;
use libp2p_webrtc_utils::Fingerprint;

/// A self-signed certificate with its key. Keep it: the address changes with it.
#[derive(Clone)]
pub struct Certificate(DtlsCertificate);

/// A certificate that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the certificate cannot be used: {0}")]
pub struct CertificateError(String);

impl Certificate {
    /// Makes a new one (ECDSA on P-256).
    ///
    /// # Errors
    ///
    /// [`CertificateError`] if the system gives no randomness.
    pub fn generate() -> Result<Self, CertificateError> {
        DtlsCertificate::generate_self_signed(["libp2p".to_owned()])
            .map(Self)
            .map_err(|e| CertificateError(e.to_string()))
    }

    /// Reads key and certificate from PEM, as [`Certificate::to_pem`] or `libp2p-webrtc` writes them.
    ///
    /// # Errors
    ///
    /// [`CertificateError`] for anything else.
    pub fn from_pem(pem: &str) -> Result<Self, CertificateError> {
        // `libp2p-webrtc` writes the time of expiry before the key; nobody checks it.
        let start = pem
            .find("-----BEGIN PRIVATE_KEY-----")
            .ok_or_else(|| CertificateError("there is no PRIVATE_KEY in it".to_owned()))?;
        let pem = pem.get(start..).unwrap_or_default();
        let certificate =
            DtlsCertificate::from_pem(pem).map_err(|e| CertificateError(e.to_string()))?;
        if certificate.certificate.is_empty() {
            return Err(CertificateError("there is no CERTIFICATE in it".to_owned()));
        }
        Ok(Self(certificate))
    }

    /// Key and certificate in PEM: a secret.
    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// The hash in the address.
    pub fn fingerprint(&self) -> Fingerprint {
        let der = self.0.certificate.first().map(AsRef::as_ref);
        Fingerprint::from_certificate(der.unwrap_or_default())
    }

    pub(crate) fn dtls(&self) -> DtlsCertificate {
        self.0.clone()
    }
}
