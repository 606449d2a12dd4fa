//! Parameters of an instance: what is checked, and what follows from them.

use crate::field::{PineField, modulus};

/// `alpha` of the draft: how far a dot product may lie from zero, in norm bounds. An honest vector is
/// outside with probability below 2^-53 in a row (Hoeffding's inequality).
pub const ALPHA: f64 = 8.7;
/// Wraparound checks: `r` of the draft.
pub const NUM_WR_CHECKS: usize = 100;
/// How many of them must hold.
pub const NUM_WR_SUCCESSES: usize = 100;
/// Shares of a measurement at most; an aggregator's id is one byte.
pub const MAX_SHARES: usize = 254;
/// Every field has roots of unity of order 2^20 at least.
const MAX_LOG_ROOTS: u32 = 20;
/// Coordinates at most: 2^26 elements of 16 bytes are 1 GiB.
pub const MAX_DIMENSION: usize = 1 << 26;

/// Parameters of an instance, in the draft's names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameters {
    /// Bound of the encoded vector's L2 norm, an integer in units of `2^-num_frac_bits`.
    pub l2_norm_bound: u64,
    /// Fractional bits of an encoded coordinate.
    pub num_frac_bits: u32,
    /// Coordinates, `d`.
    pub dimension: usize,
    /// Products in one gadget call of the main circuit.
    pub chunk_length: usize,
    /// Squares in one gadget call of the norm equality circuit.
    pub chunk_length_norm_equality: usize,
    /// Aggregators.
    pub num_shares: usize,
    /// Proofs for the main circuit.
    pub num_proofs: u8,
    /// Proofs for the norm equality circuit.
    pub num_proofs_norm_equality: u8,
    /// See [`ALPHA`].
    pub alpha: f64,
    /// See [`NUM_WR_CHECKS`].
    pub num_wr_checks: usize,
    /// See [`NUM_WR_SUCCESSES`].
    pub num_wr_successes: usize,
}

/// Most wraparound checks.
const MAX_WR_CHECKS: usize = 1 << 16;

/// Parameters are refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ParameterError {
    /// Outside what the type can do at all.
    #[error("{name} is {value}; it must be from {least} to {most}")]
    Range {
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: u128,
        /// The least that works.
        least: u128,
        /// The most that works.
        most: u128,
    },
    /// `q > 3 B^2 + 2` does not hold (draft, figure 1).
    #[error(
        "the norm bound {bound} is too large for {field}: the range check needs a modulus over 3 * bound^2 + 2; use fewer fractional bits or a larger field"
    )]
    RangeCheck {
        /// The field.
        field: &'static str,
        /// The encoded bound.
        bound: u64,
    },
    /// The wraparound check would let vectors pass that wrap around the field: see [`Parameters::check_soundness`].
    #[error(
        "the norm bound {bound} with alpha {alpha} is too large for {field}: the wraparound check would not be sound; use fewer fractional bits or a larger field"
    )]
    WraparoundCheck {
        /// The field.
        field: &'static str,
        /// The encoded bound.
        bound: u64,
        /// Alpha.
        alpha: f64,
    },
    /// More gadget calls than the field has roots of unity for.
    #[error("{field} has too few roots of unity for so many gadget calls; use longer chunks")]
    Roots {
        /// The field.
        field: &'static str,
    },
    /// Nothing to choose from.
    #[error("no instance is allowed")]
    NoVariant,
    /// Sums could wrap.
    #[error(
        "{clients} vectors of norm {bound} could add up to more than half of the modulus of {field}; at most {most} fit"
    )]
    SumWraps {
        /// The field.
        field: &'static str,
        /// Vectors in a batch.
        clients: u64,
        /// The encoded bound.
        bound: u64,
        /// How many vectors fit.
        most: u128,
    },
    /// A forged proof could pass too easily.
    #[error(
        "{proofs} proof(s) of the {circuit} circuit over {field} can be forged with probability 2^-{bits:.1}; at least 2^-{wanted} is asked for"
    )]
    Soundness {
        /// The circuit.
        circuit: &'static str,
        /// The field.
        field: &'static str,
        /// Proofs.
        proofs: u8,
        /// Security in bits, against one attempt.
        bits: f64,
        /// What is asked for.
        wanted: u32,
    },
}

/// What follows from valid [`Parameters`]; all lengths in field elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Derived {
    /// `B^2`.
    pub sq_norm_bound: u128,
    /// Bits of a squared norm.
    pub num_bits_for_sq_norm: usize,
    /// `W`.
    pub wr_check_bound: u128,
    /// Bits of a shifted dot product.
    pub num_bits_for_wr_check: usize,
    /// Gradient and the two bit-encoded squared norms.
    pub encoded_gradient_and_norm_len: usize,
    /// Everything that must be a bit.
    pub bit_checked_len: usize,
    /// What is shared: the gradient and the bits.
    pub meas_len: usize,
}

impl Parameters {
    /// Parameters with the draft's wraparound constants, and chunk lengths that make reports short.
    ///
    /// `l2_norm_bound` is in units of `2^-num_frac_bits`.
    pub fn new(l2_norm_bound: u64, num_frac_bits: u32, dimension: usize) -> Self {
        let mut new = Self {
            l2_norm_bound,
            num_frac_bits,
            dimension,
            chunk_length: 1,
            chunk_length_norm_equality: 1,
            num_shares: 2,
            num_proofs: 1,
            num_proofs_norm_equality: 1,
            alpha: ALPHA,
            num_wr_checks: NUM_WR_CHECKS,
            num_wr_successes: NUM_WR_SUCCESSES,
        };
        new.choose_chunks();
        new
    }

    /// Choose both chunk lengths so that a proof is as short as it can be.
    pub fn choose_chunks(&mut self) {
        // Such parameters are refused; there is nothing to choose for them.
        if self.dimension > MAX_DIMENSION || self.num_wr_checks > MAX_WR_CHECKS {
            return;
        }
        let bits = self.derive_unchecked().bit_checked_len;
        // A proof of n calls has 2 (m - 1) + 1 coefficients, m the power of two above n, and a seed
        // for every wire; so n = m - 1 is the only sensible choice for each m.
        let best = |wires_of: &dyn Fn(usize) -> usize, chunk_of: &dyn Fn(usize) -> usize| {
            (1..=20)
                .map(|log| {
                    let chunk = chunk_of((1usize << log) - 1);
                    (wires_of(chunk) + (2usize << log), chunk)
                })
                .min()
                .map_or(1, |(_, chunk)| chunk)
        };
        let dimension = self.dimension.max(1);
        self.chunk_length_norm_equality = best(&|chunk| chunk, &|calls| dimension.div_ceil(calls));
        let checks = self.num_wr_checks;
        self.chunk_length = best(&|chunk| 2 * chunk, &|calls| {
            // The two kinds of calls are rounded up each for itself.
            let all = bits.saturating_add(checks);
            (all.div_ceil(calls)..=all)
                .find(|&chunk| bits.div_ceil(chunk) + checks.div_ceil(chunk) <= calls)
                .unwrap_or(all)
        });
    }

    fn derive_unchecked(&self) -> Derived {
        let sq_norm_bound = u128::from(self.l2_norm_bound).pow(2);
        let bits = |value: u128| (u128::BITS - value.leading_zeros()) as usize;
        let least = (self.alpha * self.l2_norm_bound as f64).ceil() as u128;
        let wr_check_bound = least
            .saturating_add(1)
            .checked_next_power_of_two()
            .unwrap_or(u128::MAX);
        let num_bits_for_sq_norm = bits(sq_norm_bound);
        let num_bits_for_wr_check = bits(wr_check_bound.saturating_mul(2).saturating_sub(1));
        let bit_checked_len = (num_bits_for_wr_check + 1)
            .saturating_mul(self.num_wr_checks)
            .saturating_add(2 * num_bits_for_sq_norm);
        Derived {
            sq_norm_bound,
            num_bits_for_sq_norm,
            wr_check_bound,
            num_bits_for_wr_check,
            encoded_gradient_and_norm_len: self.dimension.saturating_add(2 * num_bits_for_sq_norm),
            bit_checked_len,
            meas_len: self.dimension.saturating_add(bit_checked_len),
        }
    }

    /// Check them for a field, as the draft does.
    pub(crate) fn derive<F: PineField>(&self) -> Result<Derived, ParameterError> {
        let range = |name, value: u128, least: u128, most: u128| match value < least || value > most
        {
            true => Err(ParameterError::Range {
                name,
                value,
                least,
                most,
            }),
            false => Ok(()),
        };
        range("l2_norm_bound", self.l2_norm_bound.into(), 1, 1 << 62)?;
        range("num_frac_bits", self.num_frac_bits.into(), 0, 127)?;
        range(
            "dimension",
            self.dimension as u128,
            1,
            MAX_DIMENSION as u128,
        )?;
        range("num_shares", self.num_shares as u128, 2, MAX_SHARES as u128)?;
        range("num_proofs", self.num_proofs.into(), 1, 255)?;
        let equality = self.num_proofs_norm_equality;
        range("num_proofs_norm_equality", equality.into(), 1, 255)?;
        range(
            "num_wr_checks",
            self.num_wr_checks as u128,
            1,
            MAX_WR_CHECKS as u128,
        )?;
        range(
            "num_wr_successes",
            self.num_wr_successes as u128,
            1,
            self.num_wr_checks as u128,
        )?;
        let q = modulus::<F>();
        let (field, bound, alpha) = (F::NAME, self.l2_norm_bound, self.alpha);
        let unsound = ParameterError::WraparoundCheck {
            field,
            bound,
            alpha,
        };
        // Compared the other way round, so that NaN is refused too.
        if !(1.0..=1e6).contains(&alpha) {
            return Err(unsound);
        }
        let derived = self.derive_unchecked();
        if (q - 2) / 3 <= derived.sq_norm_bound {
            return Err(ParameterError::RangeCheck { field, bound });
        }
        // What `self::wraparound` says; the draft's other conditions, q / r >= 2 and q / W >= 2600, follow.
        let w = derived.wr_check_bound;
        if w.checked_mul(w).is_none_or(|square| square > q / 8) {
            return Err(unsound);
        }
        if q / (self.num_wr_checks as u128) < 2 || q / w < 2600 {
            return Err(unsound);
        }
        let most = MAX_DIMENSION as u128;
        range("chunk_length", self.chunk_length as u128, 1, most)?;
        let equality = self.chunk_length_norm_equality;
        range("chunk_length_norm_equality", equality as u128, 1, most)?;
        // The gadget polynomial is interpolated over twice as many roots of unity as there are calls, with a plan
        // that has twice as many again.
        let orders = 1u128 << (MAX_LOG_ROOTS - 2);
        let calls = self.calls(&derived) as u128;
        range("gadget calls of the main circuit", calls, 1, orders - 1)?;
        let calls = self.calls_norm_equality() as u128;
        range(
            "gadget calls of the norm equality circuit",
            calls,
            1,
            orders - 1,
        )?;
        Ok(derived)
    }

    /// Check that the sum of the vectors of so many clients cannot wrap.
    pub(crate) fn check_clients<F: PineField>(&self, clients: u64) -> Result<(), ParameterError> {
        // Twice the largest sum, and one more for the sign, must be below the modulus.
        let most = (modulus::<F>() - 1) / 2 / u128::from(self.l2_norm_bound.max(1));
        match u128::from(clients) <= most {
            true => Ok(()),
            false => Err(ParameterError::SumWraps {
                field: F::NAME,
                clients,
                bound: self.l2_norm_bound,
                most,
            }),
        }
    }

    /// Gadget calls of the main circuit: bit checks, then wraparound checks.
    pub(crate) fn calls(&self, derived: &Derived) -> usize {
        derived.bit_checked_len.div_ceil(self.chunk_length)
            + self.num_wr_checks.div_ceil(self.chunk_length)
    }

    /// Gadget calls of the norm equality circuit.
    pub(crate) fn calls_norm_equality(&self) -> usize {
        self.dimension.div_ceil(self.chunk_length_norm_equality)
    }
}
