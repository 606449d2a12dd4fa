//! The code of an invite, as people write it.

use std::{fmt, str::FromStr};

use crate::{NodeKey, codec::labelled};

/// Crockford's Base32: no letter that is taken for a digit, and upper and lower case are the same.
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// How many of them 16 bytes are.
const LENGTH: u32 = 26;

/// The code of an invite: 16 random bytes, of which its key is made.
///
/// The key's public half is on the ledger, where everybody can try codes out: a shorter code would be found.
///
/// People write it with 26 letters and digits (`3K7QM-...`). What copying and typing do to these is put up with: spaces, line
/// ends and hyphens anywhere, small letters, O for 0, I and L for 1.
#[derive(Clone, PartialEq, Eq)]
pub struct InviteCode([u8; 16]);

/// Why a text is no invite's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InviteCodeError {
    /// A sign that no code has.
    #[error("no invite's code has \"{0}\" in it")]
    Sign(char),
    /// Too short or too long.
    #[error("it has {LENGTH} letters and digits, and here are {0}")]
    Length(u32),
    /// More than 16 bytes hold.
    #[error("its first letter is a digit from 0 to 7")]
    TooLarge,
}

impl InviteCode {
    /// The code that these random bytes are.
    pub const fn new(random: [u8; 16]) -> Self {
        Self(random)
    }

    /// The invite's key.
    pub fn key(&self) -> NodeKey {
        NodeKey::from_seed(labelled(b"defim v1 invite code\0", &self.0).0)
    }
}

impl fmt::Display for InviteCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = u128::from_be_bytes(self.0);
        for at in 0..LENGTH {
            if matches!(at, 5 | 10 | 15 | 20) {
                f.write_str("-")?;
            }
            let place = (value >> (5 * (LENGTH - 1 - at))) & 31;
            let letter = LETTERS.get(place as usize).copied().unwrap_or_default();
            write!(f, "{}", char::from(letter))?;
        }
        Ok(())
    }
}

/// A code is a secret: it is shown where it is asked for, and in no log.
impl fmt::Debug for InviteCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteCode(..)")
    }
}

impl FromStr for InviteCode {
    type Err = InviteCodeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_filling = |c: char| c.is_whitespace() || matches!(c, '-' | '\u{2010}'..='\u{2015}');
        let (mut value, mut length, mut fits) = (0_u128, 0_u32, true);
        for sign in text.chars().filter(|c| !is_filling(*c)) {
            let letter = match sign.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                other => other,
            };
            let place = LETTERS
                .iter()
                .position(|known| char::from(*known) == letter);
            let place = place.ok_or(InviteCodeError::Sign(sign))?;
            fits &= value >> 123 == 0;
            value = (value << 5) | place as u128;
            length += 1;
        }
        match (length, fits) {
            (LENGTH, true) => Ok(Self(value.to_be_bytes())),
            (LENGTH, false) => Err(InviteCodeError::TooLarge),
            _ => Err(InviteCodeError::Length(length)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_back_however_it_was_copied_or_typed() {
        for bytes in [
            [0; 16],
            [0xFF; 16],
            std::array::from_fn(|i| 37_u8.wrapping_mul(i as u8)),
        ] {
            let code = InviteCode::new(bytes);
            let text = code.to_string();
            assert_eq!(text.len(), 30, "{text}");
            for typed in [
                text.clone(),
                format!("  {}\r\n", text.to_lowercase()),
                text.replace('-', ""),
                text.replace('-', " – "),
                text.replace('0', "o").replace('1', "l"),
                text.replace('0', "O").replace('1', "I"),
            ] {
                assert_eq!(typed.parse(), Ok(code.clone()), "{typed}");
            }
        }
        assert_eq!(
            InviteCode::new([0; 16]).to_string(),
            "00000-00000-00000-00000-000000"
        );
        assert_eq!(
            InviteCode::new([0xFF; 16]).to_string(),
            "7ZZZZ-ZZZZZ-ZZZZZ-ZZZZZ-ZZZZZZ"
        );
    }

    #[test]
    fn what_is_no_code_is_refused_with_what_is_wrong() {
        let why = |text: &str| text.parse::<InviteCode>().unwrap_err();
        assert_eq!(why(""), InviteCodeError::Length(0));
        assert_eq!(why(&"0".repeat(25)), InviteCodeError::Length(25));
        assert_eq!(why(&"0".repeat(1000)), InviteCodeError::Length(1000));
        assert_eq!(why(&"Z".repeat(27)), InviteCodeError::Length(27));
        assert_eq!(why(&"8".repeat(26)), InviteCodeError::TooLarge);
        assert_eq!(why("U0000"), InviteCodeError::Sign('U'));
        assert_eq!(why("0_000"), InviteCodeError::Sign('_'));
        assert_eq!(why("0é"), InviteCodeError::Sign('é'));
        let code = InviteCode::new([7; 16]);
        assert_eq!(format!("{code:?}"), "InviteCode(..)");
    }

    #[test]
    fn each_code_has_a_key_of_its_own() {
        let key = |byte| InviteCode::new([byte; 16]).key().id();
        assert_eq!(key(1), key(1));
        assert_ne!(key(1), key(2));
    }
}
