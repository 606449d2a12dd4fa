//! The schemes, each behind the traits of [`prio::vdaf`].

use defim_pine::{Pine32Hmac, Pine64};
use fixed::{FixedI16, types::extra::U15};
use prio::{
    codec::Encode,
    vdaf::{
        Aggregator, Client,
        prio3::{Prio3, Prio3FixedPointBoundedL2VecSum, Prio3SumVec},
    },
};

use crate::{BenchError, Gauge};

/// Names of all schemes: PINE over 64 and 32 bits, libprio's sum of bounded 16-bit vectors, and its sum of
/// 16-bit vectors without a norm.
pub const SCHEMES: [&str; 4] = ["pine64", "pine32", "fpl2", "sumvec"];

/// One measurement of one step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub ms: f64,
    pub bytes: u64,
    pub peak: u64,
}

/// Split, prepare at the leader, prepare at the helper.
pub(crate) type Run = [Measured; 3];

/// A scheme that is ready to run.
pub(crate) trait Scheme {
    /// One report of the vector.
    fn measure(&self, vector: &[f64], run: usize, gauge: &dyn Gauge) -> Result<Run, String>;
}

/// A VDAF, and how it takes a vector of norm at most 1.
struct Of<V, M, const KEY: usize> {
    vdaf: V,
    measurement: fn(&[f64]) -> M,
}

impl<V, M, const KEY: usize> Scheme for Of<V, M, KEY>
where
    V: Client<16, Measurement = M> + Aggregator<KEY, 16, AggregationParam = ()>,
{
    fn measure(&self, vector: &[f64], run: usize, gauge: &dyn Gauge) -> Result<Run, String> {
        let mut nonce = [0; 16];
        if let Some(start) = nonce.first_chunk_mut() {
            *start = (run as u64).to_le_bytes();
        }
        let key = [7; KEY];
        let measurement = (self.measurement)(vector);
        let (mut split, report) = timed(gauge, || self.vdaf.shard(&measurement, &nonce));
        let (public, shares) = report.map_err(|e| e.to_string())?;
        split.bytes = shares
            .iter()
            .map(Encode::encoded_len)
            .chain([public.encoded_len()])
            .sum::<Option<usize>>()
            .unwrap_or_default() as u64;
        let prepare = |member: usize| {
            let share = shares.get(member).ok_or("a share is missing")?;
            let (mut measured, prepared) = timed(gauge, || {
                self.vdaf
                    .prepare_init(&key, member, &(), &nonce, &public, share)
            });
            let (_, message) = prepared.map_err(|e| e.to_string())?;
            measured.bytes = message.encoded_len().unwrap_or_default() as u64;
            Ok::<_, String>((measured, message))
        };
        let (leader, from_leader) = prepare(0)?;
        let (helper, from_helper) = prepare(1)?;
        // What is timed must also be right.
        self.vdaf
            .prepare_shares_to_prepare_message(&(), [from_leader, from_helper])
            .map_err(|e| e.to_string())?;
        Ok([split, leader, helper])
    }
}

fn timed<T>(gauge: &dyn Gauge, step: impl FnOnce() -> T) -> (Measured, T) {
    gauge.reset_peak();
    let start = gauge.now_ms();
    let result = step();
    let measured = Measured {
        ms: gauge.now_ms() - start,
        bytes: 0,
        peak: gauge.peak_bytes(),
    };
    (measured, result)
}

/// A scheme for vectors of so many coordinates.
pub(crate) fn by_name(name: &str, dim: usize) -> Result<Box<dyn Scheme>, BenchError> {
    let refused = |error: &dyn std::fmt::Display| BenchError::Refused {
        scheme: name.to_owned(),
        dim,
        error: error.to_string(),
    };
    match name {
        "pine64" => Pine64::new(Pine64::default_parameters(1 << 15, 15, dim))
            .map(|vdaf| boxed::<_, _, 16>(vdaf, <[f64]>::to_vec))
            .map_err(|e| refused(&e)),
        "pine32" => Pine32Hmac::new(Pine32Hmac::default_parameters(1 << 8, 8, dim))
            .map(|vdaf| boxed::<_, _, 32>(vdaf, <[f64]>::to_vec))
            .map_err(|e| refused(&e)),
        "fpl2" => Prio3::new_fixedpoint_boundedl2_vec_sum(2, dim)
            .map(|vdaf: FixedPoint| boxed::<_, _, 16>(vdaf, fixed_point))
            .map_err(|e| refused(&e)),
        "sumvec" => {
            // The chunk length that libprio advises.
            let chunk = ((16 * dim) as f64).sqrt().ceil() as usize;
            Prio3::new_sum_vec(2, 16, dim, chunk)
                .map(|vdaf: Prio3SumVec| boxed::<_, _, 16>(vdaf, unsigned))
                .map_err(|e| refused(&e))
        }
        _ => Err(BenchError::UnknownScheme(name.to_owned())),
    }
}

type FixedPoint = Prio3FixedPointBoundedL2VecSum<FixedI16<U15>>;

fn boxed<V, M: 'static, const KEY: usize>(vdaf: V, measurement: fn(&[f64]) -> M) -> Box<dyn Scheme>
where
    V: Client<16, Measurement = M> + Aggregator<KEY, 16, AggregationParam = ()> + 'static,
{
    Box::new(Of::<V, M, KEY> { vdaf, measurement })
}

/// In steps of 2^-15.
fn steps(vector: &[f64]) -> impl Iterator<Item = i16> + '_ {
    vector
        .iter()
        .map(|x| (x * 32768.0).round_ties_even() as i16)
}

fn fixed_point(vector: &[f64]) -> Vec<FixedI16<U15>> {
    steps(vector).map(FixedI16::from_bits).collect()
}

fn unsigned(vector: &[f64]) -> Vec<u128> {
    steps(vector)
        .map(|step| u128::from(step.cast_unsigned() ^ 0x8000))
        .collect()
}
