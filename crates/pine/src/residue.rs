//! Arithmetic on least residues: what the hot loops of this crate work on.
//!
//! [`prio`]'s field elements are in Montgomery form, so each one is multiplied once when it is read and
//! once when it is written. PINE hashes, cuts into limbs and sends far more elements than it
//! multiplies; and three of its four moduli have a form `2^b - c * 2^a + 1` that reduces with shifts
//! and additions. Public types still carry prio's elements; the two meet in [`crate::PineField`].
//!
//! All functions but `inverse` and `power` take the same time for all values.

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Mul, Sub};

use prio::field::{Field128, FieldElement as _, FieldElementWithInteger as _};

/// A least residue modulo the field's prime.
pub trait Residue:
    Copy
    + Debug
    + Default
    + PartialEq
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
{
    /// Length of an encoded element, in bytes.
    const BYTES: usize;
    /// How many 16-bit limbs hold every element.
    const LIMBS: usize;
    /// The prime.
    const MODULUS: u128;

    /// From an integer of any size.
    fn from_integer(value: u128) -> Self;
    /// The integer in `[0, MODULUS)`.
    fn to_integer(self) -> u128;
    /// One.
    fn one() -> Self {
        Self::from_integer(1)
    }
    /// From a signed integer.
    fn from_signed(value: i128) -> Self {
        // Moved up by 2^127 and down again, so that both signs take the same steps.
        let offset = 1 << 127;
        Self::from_integer(value.cast_unsigned() ^ offset) - Self::from_integer(offset)
    }
    /// From exactly [`Self::BYTES`] bytes, little-endian; none if that is not a least residue.
    fn read(bytes: &[u8]) -> Option<Self>;
    /// To exactly [`Self::BYTES`] bytes, little-endian.
    fn write(self, bytes: &mut [u8]);
    /// `self^exponent`; the time depends on the exponent, which is public wherever this is called.
    fn power(self, mut exponent: u128) -> Self {
        let mut base = self;
        let mut result = Self::one();
        while exponent > 0 {
            if exponent & 1 == 1 {
                result = result * base;
            }
            base = base * base;
            exponent >>= 1;
        }
        result
    }
    /// `1 / self`, and zero for zero.
    fn inverse(self) -> Self {
        self.power(Self::MODULUS - 2)
    }
}

/// All ones for true.
#[inline(always)]
fn mask(condition: bool) -> u64 {
    u64::from(condition).wrapping_neg()
}

/// The operators by `add`, `sub` and `mul`.
macro_rules! operators {
    ($name:ident) => {
        impl Add for $name {
            type Output = Self;
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                Self(add(self.0, other.0))
            }
        }
        impl AddAssign for $name {
            #[inline(always)]
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }
        impl Sub for $name {
            type Output = Self;
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                Self(sub(self.0, other.0))
            }
        }
        impl Mul for $name {
            type Output = Self;
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                Self(mul(self.0, other.0))
            }
        }
    };
}

pub(crate) use goldilocks::Residue64;
pub(crate) use solinas32::Residue32;
pub(crate) use solinas40::Residue40;

/// `q = 2^64 - 2^32 + 1`, so `2^64 = 2^32 - 1` and `2^96 = -1`.
mod goldilocks {
    use super::*;

    const Q: u64 = 0xffff_ffff_0000_0001;
    /// `2^64 mod q`.
    const EPSILON: u64 = 0xffff_ffff;

    /// An element of the field of Pine64.
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct Residue64(u64);

    #[inline(always)]
    fn add(a: u64, b: u64) -> u64 {
        let (sum, carry) = a.overflowing_add(b);
        let (less, borrow) = sum.overflowing_sub(Q);
        // The true sum is below 2q: q is put back exactly if taking it went below zero.
        less.wrapping_add(Q & mask(borrow & !carry))
    }

    #[inline(always)]
    fn sub(a: u64, b: u64) -> u64 {
        let (difference, borrow) = a.overflowing_sub(b);
        difference.wrapping_sub(EPSILON & mask(borrow))
    }

    /// The 128-bit product as (high, low).
    #[cfg(not(target_arch = "wasm32"))]
    #[inline(always)]
    fn wide(a: u64, b: u64) -> (u64, u64) {
        let product = u128::from(a) * u128::from(b);
        ((product >> 64) as u64, product as u64)
    }

    /// The 128-bit product as (high, low). WebAssembly has no wide multiplication, and the
    /// compiler's stand-in is a function call.
    #[cfg(target_arch = "wasm32")]
    #[inline(always)]
    fn wide(a: u64, b: u64) -> (u64, u64) {
        let (a1, a0, b1, b0) = (a >> 32, a & EPSILON, b >> 32, b & EPSILON);
        let low = a0.wrapping_mul(b0);
        let middle = a1.wrapping_mul(b0).wrapping_add(low >> 32);
        let middle_low = a0.wrapping_mul(b1).wrapping_add(middle & EPSILON);
        let high = a1
            .wrapping_mul(b1)
            .wrapping_add(middle >> 32)
            .wrapping_add(middle_low >> 32);
        (high, (middle_low << 32) | (low & EPSILON))
    }

    #[inline(always)]
    fn mul(a: u64, b: u64) -> u64 {
        let (high, low) = wide(a, b);
        // low + 2^64 (h1 2^32 + h0) = low - h1 + h0 (2^32 - 1).
        let (h1, h0) = (high >> 32, high & EPSILON);
        let (t, borrow) = low.overflowing_sub(h1);
        let t = t.wrapping_sub(EPSILON & mask(borrow));
        let u = (h0 << 32).wrapping_sub(h0);
        let (sum, carry) = t.overflowing_add(u);
        least(sum.wrapping_add(EPSILON & mask(carry)))
    }

    /// Any 64-bit integer is below 2q.
    #[inline(always)]
    fn least(value: u64) -> u64 {
        let (less, borrow) = value.overflowing_sub(Q);
        less.wrapping_add(Q & mask(borrow))
    }

    operators!(Residue64);

    impl Residue for Residue64 {
        const BYTES: usize = 8;
        const LIMBS: usize = 4;
        const MODULUS: u128 = Q as u128;

        #[inline]
        fn from_integer(value: u128) -> Self {
            let high = Self(least((value >> 64) as u64));
            high * Self(EPSILON) + Self(least(value as u64))
        }

        #[inline]
        fn to_integer(self) -> u128 {
            u128::from(self.0)
        }

        #[inline]
        fn read(bytes: &[u8]) -> Option<Self> {
            let value = u64::from_le_bytes(bytes.try_into().ok()?);
            (value < Q).then_some(Self(value))
        }

        #[inline]
        fn write(self, bytes: &mut [u8]) {
            bytes.copy_from_slice(&self.0.to_le_bytes());
        }
    }
}

/// `q = 2^32 - 2^20 + 1`, so `2^32 = 2^20 - 1`.
mod solinas32 {
    use super::*;

    const Q: u32 = 4_293_918_721;

    /// An element of the field of Pine32.
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct Residue32(u32);

    #[inline(always)]
    fn add(a: u32, b: u32) -> u32 {
        let (sum, carry) = a.overflowing_add(b);
        let (less, borrow) = sum.overflowing_sub(Q);
        less.wrapping_add(Q & mask(borrow & !carry) as u32)
    }

    #[inline(always)]
    fn sub(a: u32, b: u32) -> u32 {
        let (difference, borrow) = a.overflowing_sub(b);
        difference.wrapping_add(Q & mask(borrow) as u32)
    }

    #[inline(always)]
    fn mul(a: u32, b: u32) -> u32 {
        reduce(u64::from(a).wrapping_mul(u64::from(b)))
    }

    #[inline(always)]
    fn reduce(value: u64) -> u32 {
        // 64 bits, then 53, then 41, then below 2^32 + 2^29, which is below 2q.
        let fold = |v: u64| (v & 0xffff_ffff).wrapping_add((v >> 32).wrapping_mul((1 << 20) - 1));
        let value = fold(fold(fold(value)));
        let (less, borrow) = value.overflowing_sub(u64::from(Q));
        less.wrapping_add(u64::from(Q) & mask(borrow)) as u32
    }

    operators!(Residue32);

    impl Residue for Residue32 {
        const BYTES: usize = 4;
        const LIMBS: usize = 2;
        const MODULUS: u128 = Q as u128;

        #[inline]
        fn from_integer(value: u128) -> Self {
            match u64::try_from(value) {
                Ok(value) => Self(reduce(value)),
                Err(_) => Self((value % Self::MODULUS) as u32),
            }
        }

        #[inline]
        fn to_integer(self) -> u128 {
            u128::from(self.0)
        }

        #[inline]
        fn read(bytes: &[u8]) -> Option<Self> {
            let value = u32::from_le_bytes(bytes.try_into().ok()?);
            (value < Q).then_some(Self(value))
        }

        #[inline]
        fn write(self, bytes: &mut [u8]) {
            bytes.copy_from_slice(&self.0.to_le_bytes());
        }
    }
}

/// `q = 2^40 - 21 * 2^20 + 1`, so `2^40 = 21 * 2^20 - 1`.
mod solinas40 {
    use super::*;

    const Q: u64 = (1 << 20) * 1_048_555 + 1;
    const MASK: u64 = (1 << 40) - 1;
    /// `2^40 mod q`.
    const RESIDUE: u64 = (21 << 20) - 1;

    /// An element of the field of Pine40.
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct Residue40(u64);

    #[inline(always)]
    fn least(value: u64) -> u64 {
        let (less, borrow) = value.overflowing_sub(Q);
        less.wrapping_add(Q & mask(borrow))
    }

    #[inline(always)]
    fn add(a: u64, b: u64) -> u64 {
        least(a.wrapping_add(b))
    }

    #[inline(always)]
    fn sub(a: u64, b: u64) -> u64 {
        least(a.wrapping_add(Q).wrapping_sub(b))
    }

    #[inline(always)]
    fn mul(a: u64, b: u64) -> u64 {
        // a b = (a1 2^20 + a0) b; each half's product is below 2^60.
        let (a1, a0) = (a >> 20, a & 0xf_ffff);
        let high = fold(fold(a1.wrapping_mul(b))) << 20;
        let low = a0.wrapping_mul(b);
        least(fold(fold(fold(high).wrapping_add(fold(low)))))
    }

    /// One fold: below 2^61 becomes below 2^46, that below 2^40 + 2^31, that below 2^40.
    #[inline(always)]
    fn fold(value: u64) -> u64 {
        (value & MASK).wrapping_add((value >> 40).wrapping_mul(RESIDUE))
    }

    operators!(Residue40);

    impl Residue for Residue40 {
        const BYTES: usize = 5;
        const LIMBS: usize = 3;
        const MODULUS: u128 = Q as u128;

        #[inline]
        fn from_integer(value: u128) -> Self {
            match u64::try_from(value) {
                Ok(value) => Self(least(fold(fold(value)))),
                Err(_) => Self((value % Self::MODULUS) as u64),
            }
        }

        #[inline]
        fn to_integer(self) -> u128 {
            u128::from(self.0)
        }

        #[inline]
        fn read(bytes: &[u8]) -> Option<Self> {
            let bytes: [u8; 5] = bytes.try_into().ok()?;
            let [a, b, c, d, e] = bytes;
            let value = u64::from_le_bytes([a, b, c, d, e, 0, 0, 0]);
            (value < Q).then_some(Self(value))
        }

        #[inline]
        fn write(self, bytes: &mut [u8]) {
            let [a, b, c, d, e, ..] = self.0.to_le_bytes();
            bytes.copy_from_slice(&[a, b, c, d, e]);
        }
    }
}

/// No short form is known for this prime: prio's own arithmetic is used as it is.
impl Residue for Field128 {
    const BYTES: usize = 16;
    const LIMBS: usize = 8;
    const MODULUS: u128 = 340_282_366_920_938_462_946_865_773_367_900_766_209;

    fn from_integer(value: u128) -> Self {
        // Every 128-bit integer is below 2q.
        let (less, borrow) = value.overflowing_sub(<Self as Residue>::MODULUS);
        let back = u128::from(borrow).wrapping_neg() & <Self as Residue>::MODULUS;
        Self::from(less.wrapping_add(back))
    }

    fn to_integer(self) -> u128 {
        u128::from(self)
    }

    fn one() -> Self {
        prio::field::FieldElement::one()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let value = u128::from_le_bytes(bytes.try_into().ok()?);
        (value < <Self as Residue>::MODULUS).then(|| Self::from(value))
    }

    fn write(self, bytes: &mut [u8]) {
        bytes.copy_from_slice(&u128::from(self).to_le_bytes());
    }

    fn power(self, exponent: u128) -> Self {
        self.pow(exponent)
    }

    fn inverse(self) -> Self {
        self.inv()
    }
}
