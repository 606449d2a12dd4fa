//! Ed25519 as validators check it among each other: by [ZIP 215](https://zips.z.cash/zip-0215).
//!
//! A light node that were stricter than the validators could be stopped by one of them: it signs so that only
//! their rule accepts it, and the light node refuses a certificate that is final for everybody else.

use curve25519_dalek::{
    edwards::{CompressedEdwardsY, EdwardsPoint},
    scalar::Scalar,
    traits::IsIdentity as _,
};
use sha2::{Digest as _, Sha512};

use crate::NodeId;

/// Whether `signature` is the key's over `message`: `[8][s]B = [8]R + [8][k]A`, with `s` below the group's order.
pub(crate) fn verify(key: &NodeId, message: &[u8], signature: &[u8; 64]) -> bool {
    checked(key, message, signature).is_some()
}

fn checked(key: &NodeId, message: &[u8], signature: &[u8; 64]) -> Option<()> {
    let (r, s) = signature.split_first_chunk::<32>()?;
    let s = Scalar::from_canonical_bytes(*s.first_chunk::<32>()?).into_option()?;
    let point = |bytes: &[u8; 32]| CompressedEdwardsY(*bytes).decompress();
    let (a, r_point) = (point(&key.0)?, point(r)?);
    let mut hash = Sha512::new();
    hash.update(r);
    hash.update(key.0);
    hash.update(message);
    let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
    let expected = EdwardsPoint::vartime_double_scalar_mul_basepoint(&k, &-a, &s);
    (r_point - expected)
        .mul_by_cofactor()
        .is_identity()
        .then_some(())
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
    use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

    use super::*;

    #[test]
    fn honest_signatures_pass_and_changed_ones_do_not() {
        let key = SigningKey::from_bytes(&[5; 32]);
        let id = NodeId(key.verifying_key().to_bytes());
        let signature = key.sign(b"text").to_bytes();
        assert!(verify(&id, b"text", &signature));
        assert!(!verify(&id, b"texT", &signature));
        for place in [0, 31, 32, 63] {
            let mut changed = signature;
            changed[place] ^= 1;
            assert!(!verify(&id, b"text", &changed));
        }
        // s + l is the same number modulo the order, and refused: it would be a second signature.
        let order: [u8; 32] =
            hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
                .unwrap()
                .try_into()
                .unwrap();
        let (mut malleable, mut carry) = (signature, 0_u16);
        for (to, more) in malleable[32..].iter_mut().zip(order) {
            carry += u16::from(*to) + u16::from(more);
            *to = carry as u8;
            carry >>= 8;
        }
        assert!(!verify(&id, b"text", &malleable));
    }

    #[test]
    fn what_only_the_cofactored_rule_accepts_is_accepted() {
        // A validator that adds a point of small order to R. With k chosen after R, s = r + k * a still fits times 8.
        let secret = Scalar::from_bytes_mod_order([7; 32]);
        let a = (ED25519_BASEPOINT_POINT * secret).compress().to_bytes();
        let nonce = Scalar::from_bytes_mod_order([9; 32]);
        let r = (ED25519_BASEPOINT_POINT * nonce + EIGHT_TORSION[1])
            .compress()
            .to_bytes();
        let mut hash = Sha512::new();
        hash.update(r);
        hash.update(a);
        hash.update(b"text");
        let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&r);
        signature[32..].copy_from_slice((nonce + k * secret).as_bytes());
        assert!(verify(&NodeId(a), b"text", &signature));
        let strict = VerifyingKey::from_bytes(&a).unwrap();
        assert!(
            strict
                .verify_strict(b"text", &Signature::from_bytes(&signature))
                .is_err()
        );
    }
}
