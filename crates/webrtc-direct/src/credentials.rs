//! ICE credentials: what of them both sides know, and what a server reads from a STUN request.

use std::fmt;

/// The start of a server's username fragment in version 1: one random value is both sides' fragment
/// and password.
pub const PREFIX_V1: &str = "libp2p+webrtc+v1/";
/// The start of a server's username fragment in version 2: the client's own password follows.
pub const PREFIX_V2: &str = "libp2p+webrtc+v2/";

/// Bounds of a username fragment (RFC 8839, section 5.4).
const UFRAG: std::ops::RangeInclusive<usize> = 4..=256;
/// Bounds of a password (RFC 8839, section 5.4).
const PASSWORD: std::ops::RangeInclusive<usize> = 22..=256;

/// How the two sides agree on ICE credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Version {
    /// The client writes its credentials into its own offer, which browsers are about to refuse.
    V1,
    /// The client keeps the credentials that its browser made.
    #[default]
    V2,
}

/// A username that no connection can come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// No `server:client`.
    #[error("the STUN username is not of the form server:client")]
    Form,
    /// Not an ICE username fragment. What is one cannot end a line of an SDP.
    #[error("a username fragment is not 4 to 256 of A-Z a-z 0-9 + /")]
    Fragment,
    /// Not an ICE password.
    #[error("the client's password is not 22 to 256 of A-Z a-z 0-9 + /")]
    Password,
    /// Neither version 1 nor version 2. A version that is not known is never taken for another.
    #[error("the username fragment starts with no version of WebRTC-direct that is known here")]
    Version,
}

/// The credentials of one connection. The server's username fragment is also its password.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Credentials {
    version: Version,
    server: String,
    client: String,
    client_password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In both versions the fragments hold a password.
        f.debug_struct("Credentials")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Credentials of version 2 for a client that has these of its own.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] for what is no fragment or no password, or too long to be carried.
    pub fn v2(client: &str, client_password: &str) -> Result<Self, CredentialError> {
        let server = format!("{PREFIX_V2}{client_password}");
        Self::checked(Version::V2, server, client.to_owned())
    }

    /// Credentials of version 1 from this random value.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] if the value has a character that ICE does not allow, or a wrong length.
    pub fn v1(random: &str) -> Result<Self, CredentialError> {
        let server = format!("{PREFIX_V1}{random}");
        Self::checked(Version::V1, server.clone(), server)
    }

    /// What a server reads from the USERNAME of a client's binding request, `server:client`.
    ///
    /// # Errors
    ///
    /// [`CredentialError`]; nothing that is refused here reaches an SDP or takes memory.
    pub fn from_username(username: &[u8]) -> Result<Self, CredentialError> {
        let text = std::str::from_utf8(username).map_err(|_| CredentialError::Form)?;
        let (server, client) = text.split_once(':').ok_or(CredentialError::Form)?;
        let version = if server.starts_with(PREFIX_V1) {
            Version::V1
        } else if server.starts_with(PREFIX_V2) {
            Version::V2
        } else {
            return Err(CredentialError::Version);
        };
        Self::checked(version, server.to_owned(), client.to_owned())
    }

    fn checked(version: Version, server: String, client: String) -> Result<Self, CredentialError> {
        if !is_ice(&server, UFRAG) || !is_ice(&client, UFRAG) {
            return Err(CredentialError::Fragment);
        }
        let client_password = match version {
            // One value for all four; nothing else is a client of version 1.
            Version::V1 if server == client => client.clone(),
            Version::V1 => return Err(CredentialError::Form),
            Version::V2 => server
                .strip_prefix(PREFIX_V2)
                .ok_or(CredentialError::Version)?
                .to_owned(),
        };
        if !is_ice(&client_password, PASSWORD) || !is_ice(&server, PASSWORD) {
            return Err(CredentialError::Password);
        }
        Ok(Self {
            version,
            server,
            client,
            client_password,
        })
    }

    /// The version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The server's username fragment and password.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The client's username fragment.
    pub fn client(&self) -> &str {
        &self.client
    }

    /// The client's password.
    pub fn client_password(&self) -> &str {
        &self.client_password
    }

    /// USERNAME of a request to the server.
    pub fn username_to_server(&self) -> String {
        format!("{}:{}", self.server, self.client)
    }

    /// USERNAME of a request to the client.
    pub fn username_to_client(&self) -> String {
        format!("{}:{}", self.client, self.server)
    }
}

/// `ice-char`: letters, digits, `+` and `/`.
fn is_ice(text: &str, length: std::ops::RangeInclusive<usize>) -> bool {
    length.contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &str = "0123456789abcdefghij+/";

    #[test]
    fn a_server_recovers_what_a_client_of_either_version_has() {
        let two = Credentials::v2("abcd", PASSWORD).unwrap();
        assert_eq!(
            two.username_to_server(),
            "libp2p+webrtc+v2/0123456789abcdefghij+/:abcd"
        );
        let read = Credentials::from_username(two.username_to_server().as_bytes()).unwrap();
        assert_eq!(read, two);
        assert_eq!(
            (read.version(), read.client(), read.client_password()),
            (Version::V2, "abcd", PASSWORD)
        );
        let one = Credentials::v1("0123456789abcdefghijklmnopqrstuv").unwrap();
        let read = Credentials::from_username(one.username_to_server().as_bytes()).unwrap();
        assert_eq!(read, one);
        assert_eq!(read.client_password(), read.server());
    }

    #[test]
    fn what_is_no_username_is_refused_and_says_why() {
        use CredentialError::*;
        let long = "a".repeat(257);
        for (username, why) in [
            ("".into(), Form),
            (format!("libp2p+webrtc+v2/{PASSWORD}"), Form),
            (format!("libp2p+webrtc+v3/{PASSWORD}:abcd"), Version),
            (format!("{PASSWORD}:abcd"), Version),
            (format!("libp2p+webrtc+v2/{PASSWORD}:abc"), Fragment),
            (format!("libp2p+webrtc+v2/{PASSWORD}:{long}"), Fragment),
            (format!("libp2p+webrtc+v2/{long}:abcd"), Fragment),
            (format!("libp2p+webrtc+v2/{PASSWORD}\r\na=x:abcd"), Fragment),
            (format!("libp2p+webrtc+v2/{PASSWORD}:ab cd"), Fragment),
            (format!("libp2p+webrtc+v2/{PASSWORD}:ab:cd"), Fragment),
            ("libp2p+webrtc+v2/short:abcd".into(), Password),
            ("libp2p+webrtc+v2/:abcd".into(), Password),
            ("libp2p+webrtc+v1/abc:libp2p+webrtc+v1/abc".into(), Password),
            (format!("libp2p+webrtc+v1/{PASSWORD}:abcd"), Form),
        ] {
            assert_eq!(
                Credentials::from_username(username.as_bytes()),
                Err(why),
                "{username:?}"
            );
        }
        assert_eq!(Credentials::from_username(&[0xFF, b':', 0xFF]), Err(Form));
    }

    #[test]
    fn credentials_are_not_printed() {
        let credentials = Credentials::v2("abcd", PASSWORD).unwrap();
        assert!(!format!("{credentials:?}").contains(PASSWORD));
    }
}
