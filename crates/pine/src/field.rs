//! The fields of PINE's five instances.

use prio::field::{FftFriendlyFieldElement, Field64, Field128, FieldPrio2};

pub use crate::field40::Field40;
use crate::residue::{Residue, Residue32, Residue64};

/// A field that PINE runs over: one of prio's, or [`Field40`], with this crate's own arithmetic for it.
pub trait PineField: FftFriendlyFieldElement + Send + Sync + sealed::Sealed {
    /// The same element, as the hot loops take it.
    #[doc(hidden)]
    type Residue: Residue;

    /// To a least residue.
    #[doc(hidden)]
    fn to_residue(self) -> Self::Residue;

    /// From a least residue.
    #[doc(hidden)]
    fn from_residue(residue: Self::Residue) -> Self;

    /// The name that test vectors use.
    const NAME: &'static str;
}

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// The modulus.
pub(crate) fn modulus<F: PineField>() -> u128 {
    <F::Residue as Residue>::MODULUS
}

impl sealed::Sealed for Field64 {}
impl PineField for Field64 {
    type Residue = Residue64;
    const NAME: &'static str = "Field64";

    #[inline]
    fn to_residue(self) -> Residue64 {
        Residue64::from_integer(u128::from(u64::from(self)))
    }

    #[inline]
    fn from_residue(residue: Residue64) -> Self {
        Self::from(residue.to_integer() as u64)
    }
}

impl sealed::Sealed for FieldPrio2 {}
impl PineField for FieldPrio2 {
    type Residue = Residue32;
    const NAME: &'static str = "Field32";

    #[inline]
    fn to_residue(self) -> Residue32 {
        Residue32::from_integer(u128::from(u32::from(self)))
    }

    #[inline]
    fn from_residue(residue: Residue32) -> Self {
        Self::from(residue.to_integer() as u32)
    }
}

impl sealed::Sealed for Field128 {}
impl PineField for Field128 {
    type Residue = Self;
    const NAME: &'static str = "Field128";

    #[inline]
    fn to_residue(self) -> Self {
        self
    }

    #[inline]
    fn from_residue(residue: Self) -> Self {
        residue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Residues do what the field does, at random values and at the edges.
    fn agrees<F: PineField>(a: u128, b: u128)
    where
        F::Integer: TryFrom<u128>,
    {
        let q = modulus::<F>();
        let edges = [0, 1, 2, q - 1, q - 2, q / 2, q >> 1 << 1, a % q, b % q];
        for &a in &edges {
            for &b in &edges {
                let [ra, rb] = [a, b].map(F::Residue::from_integer);
                let [fa, fb] = [ra, rb].map(F::from_residue);
                assert_eq!(ra.to_integer(), a);
                assert_eq!(F::from_residue(ra + rb), fa + fb, "{a} + {b}");
                assert_eq!(F::from_residue(ra - rb), fa - fb, "{a} - {b}");
                assert_eq!(F::from_residue(ra * rb), fa * fb, "{a} * {b}");
                assert_eq!((fa * fb).to_residue(), ra * rb);
                let mut bytes = vec![0; F::Residue::BYTES];
                ra.write(&mut bytes);
                assert_eq!(bytes, fa.get_encoded().unwrap());
                assert_eq!(F::Residue::read(&bytes), Some(ra));
            }
        }
        assert_eq!(F::Residue::ENCODED, F::ENCODED_SIZE);
        let one = F::Residue::from_integer(a % q);
        if one != F::Residue::default() {
            assert_eq!(one * one.inverse(), F::Residue::one());
        }
        assert_eq!(
            F::Residue::from_signed(-1),
            F::Residue::default() - F::Residue::one()
        );
        let mut over = vec![0; F::Residue::BYTES];
        over.copy_from_slice(&q.to_le_bytes()[..F::Residue::BYTES]);
        assert_eq!(
            F::Residue::read(&over),
            None,
            "the modulus itself is not canonical"
        );
        assert!(F::modulus() == F::Integer::try_from(q).ok().unwrap());
    }

    trait Encoded {
        const ENCODED: usize;
    }
    impl<R: Residue> Encoded for R {
        const ENCODED: usize = R::BYTES;
    }

    proptest! {
        #[test]
        fn residues_and_prio_agree(a: u128, b: u128) {
            agrees::<Field64>(a, b);
            agrees::<FieldPrio2>(a, b);
            agrees::<Field40>(a, b);
            agrees::<Field128>(a, b);
        }
    }

    #[test]
    fn roots_of_unity_have_their_order() {
        fn check<F: PineField>() {
            for log in 1..=20 {
                let root = F::root(log).unwrap();
                let half = F::Integer::try_from(1 << (log - 1)).ok().unwrap();
                assert_eq!(root.pow(half), -F::one(), "{} 2^{log}", F::NAME);
            }
            assert!(F::root(21).is_none() || F::NAME != "Field40");
        }
        check::<Field64>();
        check::<FieldPrio2>();
        check::<Field40>();
        check::<Field128>();
    }
}
