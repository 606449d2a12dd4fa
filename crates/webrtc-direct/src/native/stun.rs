//! The four STUN messages of a lite ICE agent and of its client (RFC 8445).

use std::net::SocketAddr;

use stun::{
    attributes::{
        ATTR_ICE_CONTROLLED, ATTR_ICE_CONTROLLING, ATTR_MESSAGE_INTEGRITY, ATTR_PRIORITY,
        ATTR_USE_CANDIDATE, ATTR_USERNAME, RawAttribute,
    },
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter},
    textattrs::TextAttribute,
    xoraddr::XorMappedAddress,
};

use crate::credentials::{CredentialError, Credentials};

/// Priority of a peer-reflexive candidate (RFC 8445, section 5.1.2.1).
const PRIORITY: u32 = 110 << 24 | 0xFFFF << 8 | 0xFF;
const INTEGRITY_BYTES: usize = 20;

/// What came.
#[derive(Debug)]
pub(crate) enum Stun {
    /// A check of a connection with these credentials; `answer` goes back.
    Check {
        credentials: Credentials,
        answer: Vec<u8>,
    },
    /// An answer to a check of ours.
    Success,
    /// Nothing that counts here.
    Other,
}

/// A packet that is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StunError {
    #[error("not a STUN message: {0}")]
    Malformed(#[from] stun::Error),
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    #[error("the message's integrity does not verify")]
    Integrity,
}

fn integrity(password: &str) -> MessageIntegrity {
    MessageIntegrity::new_short_term_integrity(password.to_owned())
}

fn verify(message: &mut Message, password: &str) -> Result<(), StunError> {
    let given = message
        .get(ATTR_MESSAGE_INTEGRITY)
        .map_err(|_| StunError::Integrity)?;
    if given.len() != INTEGRITY_BYTES {
        return Err(StunError::Integrity);
    }
    integrity(password)
        .check(message)
        .map_err(|_| StunError::Integrity)
}

fn decode(packet: &[u8]) -> Result<Message, StunError> {
    let mut message = Message {
        raw: packet.to_vec(),
        ..Message::default()
    };
    message.decode()?;
    Ok(message)
}

/// What a server makes of a packet. It keeps nothing: the username tells which connection is meant,
/// and the sender must know the password that is in it.
pub(crate) fn at_server(packet: &[u8], from: SocketAddr) -> Result<Stun, StunError> {
    let mut message = decode(packet)?;
    if message.typ == BINDING_SUCCESS {
        return Ok(Stun::Success);
    }
    if message.typ != BINDING_REQUEST {
        return Ok(Stun::Other);
    }
    let credentials = Credentials::from_username(&message.get(ATTR_USERNAME)?)?;
    verify(&mut message, credentials.server())?;
    let answer = answer(&message, from, credentials.server())?;
    Ok(Stun::Check {
        credentials,
        answer,
    })
}

/// Whether a success answer to a probe comes from the client that has these credentials.
pub(crate) fn is_from_client(packet: &[u8], credentials: &Credentials) -> bool {
    decode(packet)
        .and_then(|mut message| verify(&mut message, credentials.client_password()))
        .is_ok()
}

/// What a client makes of a packet from its server.
pub(crate) fn at_client(
    packet: &[u8],
    from: SocketAddr,
    credentials: &Credentials,
) -> Result<Stun, StunError> {
    let mut message = decode(packet)?;
    if message.typ == BINDING_SUCCESS {
        verify(&mut message, credentials.server())?;
        return Ok(Stun::Success);
    }
    if message.typ != BINDING_REQUEST
        || message.get(ATTR_USERNAME)? != credentials.username_to_client().as_bytes()
    {
        return Ok(Stun::Other);
    }
    verify(&mut message, credentials.client_password())?;
    let answer = answer(&message, from, credentials.client_password())?;
    Ok(Stun::Check {
        credentials: credentials.clone(),
        answer,
    })
}

fn answer(request: &Message, to: SocketAddr, password: &str) -> Result<Vec<u8>, StunError> {
    let mut message = Message::new();
    message.build(&[
        Box::new(request.transaction_id) as Box<dyn Setter>,
        Box::new(BINDING_SUCCESS),
        Box::new(XorMappedAddress {
            ip: to.ip(),
            port: to.port(),
        }),
        Box::new(integrity(password)),
        Box::new(FINGERPRINT),
    ])?;
    Ok(message.raw)
}

fn request(
    username: String,
    password: &str,
    role: stun::attributes::AttrType,
    more: Option<RawAttribute>,
) -> Result<Vec<u8>, StunError> {
    let mut id = stun::agent::TransactionId::new();
    id.0 = rand::random();
    let raw = |typ, value: Vec<u8>| -> Box<dyn Setter> {
        Box::new(RawAttribute {
            typ,
            length: 0,
            value,
        })
    };
    let mut setters: Vec<Box<dyn Setter>> = vec![
        Box::new(id),
        Box::new(BINDING_REQUEST),
        Box::new(TextAttribute::new(ATTR_USERNAME, username)),
        raw(ATTR_PRIORITY, PRIORITY.to_be_bytes().to_vec()),
        raw(role, rand::random::<[u8; 8]>().to_vec()),
    ];
    if let Some(attribute) = more {
        setters.push(Box::new(attribute));
    }
    setters.push(Box::new(integrity(password)));
    setters.push(Box::new(FINGERPRINT));
    let mut message = Message::new();
    message.build(&setters)?;
    Ok(message.raw)
}

/// A server's question whether its client is still there.
pub(crate) fn probe(credentials: &Credentials) -> Result<Vec<u8>, StunError> {
    request(
        credentials.username_to_client(),
        credentials.client_password(),
        ATTR_ICE_CONTROLLED,
        None,
    )
}

/// A client's check, which at once nominates the only pair there is.
pub(crate) fn check(credentials: &Credentials) -> Result<Vec<u8>, StunError> {
    request(
        credentials.username_to_server(),
        credentials.server(),
        ATTR_ICE_CONTROLLING,
        Some(RawAttribute {
            typ: ATTR_USE_CANDIDATE,
            ..RawAttribute::default()
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> Credentials {
        Credentials::v2("abcd", "0123456789abcdefghij+/").unwrap()
    }

    fn here() -> SocketAddr {
        "127.0.0.1:4000".parse().unwrap()
    }

    #[test]
    fn a_check_is_answered_so_that_its_client_believes_it() {
        let Stun::Check {
            credentials: read,
            answer,
        } = at_server(&check(&credentials()).unwrap(), here()).unwrap()
        else {
            panic!("no check")
        };
        assert_eq!(read, credentials());
        assert!(matches!(
            at_client(&answer, here(), &credentials()).unwrap(),
            Stun::Success
        ));
        let other = Credentials::v2("abcd", "0123456789abcdefghijkl").unwrap();
        assert!(matches!(
            at_client(&answer, here(), &other),
            Err(StunError::Integrity)
        ));
    }

    #[test]
    fn a_probe_is_answered_by_its_client_alone() {
        let probe = probe(&credentials()).unwrap();
        let other = Credentials::v2("abce", "0123456789abcdefghij++").unwrap();
        assert!(matches!(
            at_client(&probe, here(), &other).unwrap(),
            Stun::Other
        ));
        let Stun::Check { answer, .. } = at_client(&probe, here(), &credentials()).unwrap() else {
            panic!("no answer")
        };
        assert!(matches!(at_server(&answer, here()), Ok(Stun::Success)));
        assert!(is_from_client(&answer, &credentials()));
        assert!(!is_from_client(&answer, &other));
    }

    #[test]
    fn a_check_without_the_password_is_not_answered() {
        let good = check(&credentials()).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            // The fingerprint is for demultiplexing only; all before it is under the password.
            if at < good.len() - 8 {
                assert!(
                    !matches!(at_server(&bad, here()), Ok(Stun::Check { .. })),
                    "byte {at}"
                );
            }
        }
        assert!(at_server(&good[..good.len() - 1], here()).is_err());
        assert!(at_server(&[], here()).is_err());
    }

    #[test]
    fn broken_packets_do_no_harm() {
        let v1 = Credentials::v1(&"a1B+".repeat(8)).unwrap();
        let good: Vec<_> = [&credentials(), &v1]
            .into_iter()
            .flat_map(|c| [check(c).unwrap(), probe(c).unwrap()])
            .collect();
        crate::fuzz::fuzz("STUN", &good, |_, packet| {
            if let Ok(Stun::Check {
                credentials,
                answer,
            }) = at_server(packet, here())
            {
                assert!(answer.len() <= 3 * packet.len());
                assert!(credentials.server().len() <= 512);
            }
            let _ = at_client(packet, here(), &credentials());
        });
    }
}
