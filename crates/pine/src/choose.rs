//! Choosing an instance and its parameters from what a task needs.

use prio::field::{Field64, Field128, FieldPrio2};

use crate::field::{Field40, PineField, modulus};
use crate::params::{ParameterError, Parameters};
use crate::vdaf::{Instance, Pine, Pine32Hmac, Pine40Hmac, Pine64, Pine64Hmac, Pine128};

/// One of the five instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// [`Pine64`].
    Pine64,
    /// [`Pine128`].
    Pine128,
    /// [`Pine64Hmac`].
    Pine64Hmac,
    /// [`Pine32Hmac`].
    Pine32Hmac,
    /// [`Pine40Hmac`].
    Pine40Hmac,
}

impl Variant {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Pine64,
        Self::Pine128,
        Self::Pine64Hmac,
        Self::Pine32Hmac,
        Self::Pine40Hmac,
    ];
}

/// What a task needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Requirements {
    /// Coordinates.
    pub dimension: usize,
    /// Bound of a vector's L2 norm, in the vector's own units.
    pub l2_norm_bound: f64,
    /// Binary digits after the point that are kept of a coordinate.
    pub num_frac_bits: u32,
    /// Vectors in a sum at most.
    pub clients: u64,
    /// Aggregators.
    pub num_shares: usize,
    /// A forged report is accepted with probability at most `2^-online_bits`, for each that is sent.
    pub online_bits: u32,
    /// And at most `2^-offline_bits` for each that is tried at home, by hashing, before one is sent.
    pub offline_bits: u32,
}

impl Requirements {
    /// For two aggregators, 2^-40 for a report that is sent and 2^-100 for one that is tried at home.
    pub fn new(dimension: usize, l2_norm_bound: f64, num_frac_bits: u32, clients: u64) -> Self {
        Self {
            dimension,
            l2_norm_bound,
            num_frac_bits,
            clients,
            num_shares: 2,
            online_bits: 40,
            offline_bits: 100,
        }
    }
}

/// An instance with its parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Which instance.
    pub variant: Variant,
    /// Its parameters.
    pub parameters: Parameters,
    /// Length of all shares of a report together, in bytes.
    pub report_len: usize,
}

/// The instance with the shortest reports, out of those that are allowed.
///
/// # Errors
///
/// [`ParameterError`]: why the last of them does not do.
pub fn choose(needs: &Requirements, allowed: &[Variant]) -> Result<Choice, ParameterError> {
    let mut best: Option<Choice> = None;
    let mut refused = ParameterError::NoVariant;
    for &variant in allowed {
        let choice = match variant {
            Variant::Pine64 => with::<Field64, _, 16>(variant, needs, Pine64::new),
            Variant::Pine128 => with::<Field128, _, 16>(variant, needs, Pine128::new),
            Variant::Pine64Hmac => with::<Field64, _, 32>(variant, needs, Pine64Hmac::new),
            Variant::Pine32Hmac => with::<FieldPrio2, _, 32>(variant, needs, Pine32Hmac::new),
            Variant::Pine40Hmac => with::<Field40, _, 32>(variant, needs, Pine40Hmac::new),
        };
        match choice {
            Ok(choice) if best.is_none_or(|best| choice.report_len < best.report_len) => {
                best = Some(choice);
            }
            Ok(_) => {}
            Err(error) => refused = error,
        }
    }
    best.ok_or(refused)
}

fn with<F: PineField, X, const SEED: usize>(
    variant: Variant,
    needs: &Requirements,
    new: impl Fn(Parameters) -> Result<Pine<F, X, SEED>, ParameterError>,
) -> Result<Choice, ParameterError>
where
    Pine<F, X, SEED>: Instance,
{
    let bound = needs.l2_norm_bound * 2f64.powi(needs.num_frac_bits.min(200) as i32);
    // Also refuses NaN.
    if !(1.0..=(1u64 << 62) as f64).contains(&bound) {
        return Err(ParameterError::Range {
            name: "l2_norm_bound * 2^num_frac_bits",
            value: bound as u128,
            least: 1,
            most: 1 << 62,
        });
    }
    let mut parameters = Parameters {
        num_shares: needs.num_shares,
        ..Parameters::new(bound as u64, needs.num_frac_bits, needs.dimension)
    };
    // As few proofs as are sound enough.
    loop {
        match parameters.check_soundness::<F>(needs.online_bits, needs.offline_bits) {
            Ok(()) => break,
            Err(ParameterError::Soundness {
                circuit: NORM_EQUALITY,
                ..
            }) if parameters.num_proofs_norm_equality < MOST_PROOFS => {
                parameters.num_proofs_norm_equality += 1;
            }
            Err(ParameterError::Soundness { .. }) if parameters.num_proofs < MOST_PROOFS => {
                parameters.num_proofs += 1;
            }
            Err(error) => return Err(error),
        }
    }
    let pine = new(parameters)?;
    pine.check_clients(needs.clients)?;
    Ok(Choice {
        variant,
        parameters,
        report_len: pine.report_len(),
    })
}

/// More proofs than this cost more than a larger field.
const MOST_PROOFS: u8 = 16;
const NORM_EQUALITY: &str = "norm equality";

impl Parameters {
    /// Check that forging a report is as hard as asked for.
    ///
    /// A proof of a circuit with `n` gadget calls compares two polynomials of degree `2 (m - 1)` at a
    /// random point, `m` the power of two above `n`: they agree by chance with probability below
    /// `(2 m - 2) / (q - m)`. The point comes from the aggregators' key, so each try is a report that is
    /// sent. The main circuit besides reduces its checks by joint randomness, with polynomials of degree
    /// `bit_checked_len`, `num_wr_checks` and 3; that is hashed from the shares, so it can be tried at home.
    /// Repeated proofs multiply. Each of the two figures is for a cheat of its kind alone: one that wins `k` of `P`
    /// proofs at home has to win the others by sending.
    ///
    /// # Vectors that wrap
    ///
    /// A vector over the bound whose squares add up to an allowed norm modulo `q` has a true norm of at least
    /// `sqrt(q - B^2)`. Its dot product with a random row has a variance of half its squared norm, so about `q / 2` or
    /// more. The check is that the product is within `W`. The draft asks for `W^2 <= 4000 q`, under which such products
    /// are almost always within: with `q` of 32 bits and 15 fractional bits, 64 equal coordinates of norm `8 B` pass all
    /// 100 checks seven times out of ten, with an honest proof. Refused here is `8 W^2 > q`. A product then has a
    /// standard deviation of `2 W` or more, and passes with probability at most a half; that much is reached by a
    /// vector with one large coordinate, which half of all rows do not see, and by none with more of them, for which
    /// the tail of a normal distribution was computed and not bounded. The checks are drawn by hashing, so the number
    /// of successes that is asked for has to be out of reach at home.
    ///
    /// # Errors
    ///
    /// [`ParameterError::Soundness`] with the figure.
    pub fn check_soundness<F: PineField>(
        &self,
        online_bits: u32,
        offline_bits: u32,
    ) -> Result<(), ParameterError> {
        let derived = self.derive::<F>()?;
        let chance = at_least(self.num_wr_checks, self.num_wr_successes);
        if -chance < f64::from(offline_bits) {
            return Err(ParameterError::Soundness {
                circuit: "wraparound checks",
                field: F::NAME,
                proofs: 1,
                bits: -chance,
                wanted: offline_bits,
            });
        }
        let q = modulus::<F>() as f64;
        let query = |calls: usize| {
            let m = (calls + 1).next_power_of_two() as f64;
            (2.0 * m - 2.0) / (q - m)
        };
        let joint = (derived.bit_checked_len + self.num_wr_checks + 3) as f64 / q;
        let main = query(self.calls(&derived)) + joint;
        let equality = query(self.calls_norm_equality());
        for (circuit, chance, proofs, wanted) in [
            (
                NORM_EQUALITY,
                equality,
                self.num_proofs_norm_equality,
                online_bits,
            ),
            ("range and wraparound", main, self.num_proofs, online_bits),
            ("range and wraparound", joint, self.num_proofs, offline_bits),
        ] {
            let bits = -chance.log2() * f64::from(proofs);
            if bits < f64::from(wanted) {
                return Err(ParameterError::Soundness {
                    circuit,
                    field: F::NAME,
                    proofs,
                    bits,
                    wanted,
                });
            }
        }
        Ok(())
    }
}

/// Base-2 logarithm of the probability that a fair coin shows heads at least `least` times in `tosses`.
fn at_least(tosses: usize, least: usize) -> f64 {
    // Terms relative to 2^-tosses, from all heads down: C(n, n - k) = C(n, n - k + 1) (n - k + 1) / k.
    let (mut log_term, mut sum) = (0.0_f64, 0.0_f64);
    let mut most = f64::NEG_INFINITY;
    let mut terms = Vec::new();
    for tails in 0..=tosses.saturating_sub(least) {
        if tails > 0 {
            log_term += ((tosses - tails + 1) as f64).log2() - (tails as f64).log2();
        }
        most = most.max(log_term);
        terms.push(log_term);
    }
    for term in terms {
        sum += (term - most).exp2();
    }
    most + sum.log2() - tosses as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drafts_numbers_of_proofs_are_chosen_but_where_they_are_too_few() {
        for variant in Variant::ALL {
            let frac_bits = match variant {
                Variant::Pine32Hmac => 10,
                Variant::Pine40Hmac => 14,
                _ => 15,
            };
            let needs = Requirements::new(100_000, 1.0, frac_bits, 1000);
            let parameters = choose(&needs, &[variant]).unwrap().parameters;
            let proofs = (parameters.num_proofs, parameters.num_proofs_norm_equality);
            let expected = match variant {
                Variant::Pine64 | Variant::Pine64Hmac => (2, 1),
                Variant::Pine128 => (1, 1),
                Variant::Pine32Hmac => (5, 2),
                Variant::Pine40Hmac => (4, 2),
            };
            assert_eq!(proofs, expected, "{variant:?}");
        }
    }

    #[test]
    fn the_shortest_report_is_chosen_and_sums_cannot_wrap() {
        let few = Requirements::new(100_000, 1.0, 8, 1000);
        let choice = choose(&few, &Variant::ALL).unwrap();
        assert_eq!(choice.variant, Variant::Pine32Hmac);
        assert_eq!(choice.report_len, 416_548);
        // The draft's single proof of the norm equality is shorter, and forged once in 2^23 reports.
        let draft = Pine32Hmac::default_parameters(1 << 8, 8, 100_000);
        assert!(Pine32Hmac::new(draft).unwrap().report_len() <= 414_000);
        assert!(matches!(
            draft.check_soundness::<FieldPrio2>(40, 100),
            Err(ParameterError::Soundness {
                circuit: NORM_EQUALITY,
                ..
            })
        ));
        // 2^10 times 2^22 clients is over half of 2^32, not of 2^40.
        let many = Requirements::new(100_000, 1.0, 10, 1 << 22);
        assert!(matches!(
            choose(&many, &[Variant::Pine32Hmac]),
            Err(ParameterError::SumWraps {
                most: 2_096_640,
                ..
            })
        ));
        assert_eq!(
            choose(&many, &Variant::ALL).unwrap().variant,
            Variant::Pine40Hmac
        );
        let precise = Requirements::new(100_000, 1.0, 40, 1 << 20);
        assert_eq!(
            choose(&precise, &Variant::ALL).unwrap().variant,
            Variant::Pine128
        );
        for unsound in [
            Requirements::new(10, f64::NAN, 15, 10),
            Requirements::new(10, -1.0, 15, 10),
            Requirements::new(0, 1.0, 15, 10),
            Requirements::new(10, 1.0, 63, 10),
            Requirements::new(10, 1.0, 15, u64::MAX),
        ] {
            assert!(choose(&unsound, &[Variant::Pine64]).is_err(), "{unsound:?}");
        }
    }

    /// The attacks themselves are in `tests/cheats.rs`.
    #[test]
    fn wraparound_checks_that_vectors_pass_are_refused() {
        for (variant, most) in [
            (Variant::Pine32Hmac, 10),
            (Variant::Pine40Hmac, 14),
            (Variant::Pine64, 26),
            (Variant::Pine64Hmac, 26),
        ] {
            let with = |bits| choose(&Requirements::new(64, 1.0, bits, 100), &[variant]);
            assert!(with(most).is_ok(), "{variant:?}");
            assert!(
                matches!(with(most + 1), Err(ParameterError::WraparoundCheck { .. })),
                "{variant:?}: {:?}",
                with(most + 1)
            );
        }
        let sound = Pine64::default_parameters(1 << 15, 15, 64);
        for (checks, successes) in [(1, 1), (99, 99), (100, 99), (100, 1)] {
            let few = Parameters {
                num_wr_checks: checks,
                num_wr_successes: successes,
                ..sound
            };
            let error = few.check_soundness::<Field64>(40, 100).unwrap_err();
            assert!(error.to_string().contains("wraparound checks"), "{error}");
        }
        let many = Parameters {
            num_wr_checks: 150,
            num_wr_successes: 143,
            ..sound
        };
        assert!(many.check_soundness::<Field64>(40, 100).is_ok());
        assert!((at_least(4, 3) - (5.0_f64 / 16.0).log2()).abs() < 1e-12);
        assert!(at_least(100, 0).abs() < 1e-9);
    }

    #[test]
    fn numbers_out_of_all_range_are_refused_without_a_panic() {
        let huge = Requirements::new(usize::MAX, 1.0, 15, 10);
        assert!(choose(&huge, &Variant::ALL).is_err());
        for (alpha, checks) in [(f64::INFINITY, 100), (8.7, usize::MAX)] {
            let mut parameters = Parameters {
                alpha,
                num_wr_checks: checks,
                ..Pine64::default_parameters(1 << 15, 15, 64)
            };
            parameters.choose_chunks();
            assert!(Pine64::new(parameters).is_err());
        }
    }

    /// The table of sizes for 15 fractional bits and chunks of 40.
    #[test]
    fn reports_are_as_long_as_the_draft_says() {
        for (dimension, chunk, leader, total) in [
            (1_000, 33, 29_408, 29_536),
            (10_000, 159, 102_928, 103_056),
            (100_000, 393, 827_872, 828_000),
            (1_000_000, 1957, 8_044_480, 8_044_608),
        ] {
            let parameters = Parameters {
                chunk_length: 40,
                chunk_length_norm_equality: chunk,
                ..Pine64::default_parameters(1 << 15, 15, dimension)
            };
            let pine = Pine64::new(parameters).unwrap();
            assert_eq!(pine.share_lengths().1, leader);
            assert_eq!(pine.report_len(), total);
            let own = Pine64::new(Pine64::default_parameters(1 << 15, 15, dimension)).unwrap();
            assert!(own.report_len() <= total, "{} > {total}", own.report_len());
        }
    }
}
