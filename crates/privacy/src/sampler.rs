//! The exact sampler: Algorithms 1 to 3 of CKS20, in integers of at most 128 bits.

use rand_core::CryptoRng;

use crate::Variance;

/// More whole scales than this and a Laplace proposal is drawn anew. One in `exp(4096)` is, which would itself be
/// accepted with probability below `exp(-8,000,000)`.
const MOST_SCALES: u64 = 4096;

/// The discrete Gaussian `N_Z(0, sigma^2)`: an integer `x` with probability proportional to
/// `exp(-x^2 / (2 sigma^2))` (CKS20, Definition 1).
///
/// Sampling decides by integers alone, and takes no logarithm, exponential or root of a floating-point number: the
/// samples have the distribution itself, and the same randomness gives the same samples on every machine. How long
/// a sample takes depends on the sample.
///
/// ```
/// use defim_privacy::{DiscreteGaussian, Variance};
/// use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng as _};
///
/// let noise = DiscreteGaussian::new(Variance::new(170_000 * 170_000, 1)?);
/// let mut rng = ChaCha20Rng::from_seed([7; 32]);
/// let samples = noise.samples(1000, &mut rng);
/// assert!(samples.iter().all(|x| x.abs() < 1_700_000));
/// # Ok::<(), defim_privacy::PrivacyError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiscreteGaussian {
    variance: Variance,
    /// Scale of the Laplace proposals, `floor(sigma) + 1`.
    scale: u64,
    /// Denominator times scale.
    step: u128,
    /// `s = root / 2^shift` is about `sigma`, and not above it.
    shift: u32,
    /// `step * root`: what a distance from `sigma^2 / scale` is divided by to count it in `s`.
    unit: u128,
    /// `s^2 / sigma^2`, from 1/4 to 1.
    ratio: Ratio,
}

/// A fraction of at most 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ratio {
    numerator: u128,
    denominator: u128,
}

impl Ratio {
    /// True with this probability.
    fn flip<R: CryptoRng + ?Sized>(self, rng: &mut R) -> bool {
        // The comparison first: most often it saves the drawing.
        self.numerator == self.denominator || below_wide(self.denominator, rng) < self.numerator
    }
}

/// Uniform below `bound`, without bias: multiplication, and rejection of the few values that would be drawn once
/// too often (Lemire, "Fast random integer generation in an interval", 2019).
fn below<R: CryptoRng + ?Sized>(bound: u64, rng: &mut R) -> u64 {
    let draw = |rng: &mut R| u128::from(rng.next_u64()) * u128::from(bound);
    let mut product = draw(rng);
    if (product as u64) < bound {
        let surplus = bound.wrapping_neg().checked_rem(bound).unwrap_or(0);
        while (product as u64) < surplus {
            product = draw(rng);
        }
    }
    (product >> 64) as u64
}

/// Uniform below `bound`, without bias: as many bits as it has, rejected if they are not below it.
fn below_wide<R: CryptoRng + ?Sized>(bound: u128, rng: &mut R) -> u128 {
    if let Ok(narrow) = u64::try_from(bound) {
        return below(narrow, rng).into();
    }
    let unused = ((bound - 1) >> 64).leading_zeros().saturating_sub(64);
    let mask = u64::MAX.checked_shr(unused).unwrap_or(0);
    loop {
        let high = u128::from(rng.next_u64() & mask) << 64;
        let value = high | u128::from(rng.next_u64());
        if value < bound {
            return value;
        }
    }
}

/// True with probability `exp(-g)`, for a coin that is true with probability `g` of at most 1: CKS20, Algorithm 1.
/// Its `Bernoulli(g / k)` is a coin that is true together with one in `k`.
fn flip_exp<R: CryptoRng + ?Sized>(rng: &mut R, coin: impl Fn(&mut R) -> bool) -> bool {
    let mut k = 1u64;
    while (k == 1 || below(k, rng) == 0) && coin(rng) {
        k += 1;
    }
    k % 2 == 1
}

/// The discrete Laplace distribution of a whole scale `t`: `x` with probability proportional to `exp(-|x| / t)`
/// (CKS20, Algorithm 2 with `s = 1`).
fn laplace<R: CryptoRng + ?Sized>(scale: u64, rng: &mut R) -> i64 {
    loop {
        let within = below(scale, rng);
        if !flip_exp(rng, |rng| below(scale, rng) < within) {
            continue;
        }
        let mut scales = 0u64;
        while scales < MOST_SCALES && flip_exp(rng, |_| true) {
            scales += 1;
        }
        let magnitude = scales
            .checked_mul(scale)
            .and_then(|whole| i64::try_from(whole.checked_add(within)?).ok());
        let negative = rng.next_u32() & 1 == 1;
        match magnitude {
            Some(_) if scales == MOST_SCALES => {}
            // Both signs of zero would make it twice as likely.
            Some(0) if negative => {}
            Some(x) => return if negative { -x } else { x },
            None => {}
        }
    }
}

impl DiscreteGaussian {
    /// With this variance.
    pub fn new(variance: Variance) -> Self {
        let (numerator, denominator) = (variance.numerator(), u128::from(variance.denominator()));
        // Safe: a variance is at least 2^-32 and its terms at most 2^112 and 2^64, so nothing here or in
        // `distance` goes over 128 bits.
        let floor = (numerator / denominator).isqrt();
        let scale = floor as u64 + 1;
        let mut shift = 0;
        while (numerator << (2 * shift)) < denominator {
            shift += 1;
        }
        let scaled = numerator << (2 * shift);
        let root = (scaled / denominator).isqrt();
        let step = denominator * u128::from(scale);
        Self {
            variance,
            scale,
            step,
            shift,
            unit: step * root,
            ratio: Ratio {
                numerator: root * root * denominator,
                denominator: scaled,
            },
        }
    }

    /// Its variance parameter.
    pub fn variance(&self) -> Variance {
        self.variance
    }

    /// `| |y| - sigma^2 / scale |` in units of `s`: the whole part and the rest.
    fn distance(&self, y: i64) -> (u128, Ratio) {
        let product = u128::from(y.unsigned_abs()) * self.step;
        let difference = product.abs_diff(self.variance.numerator()) << self.shift;
        let rest = Ratio {
            numerator: difference % self.unit,
            denominator: self.unit,
        };
        (difference / self.unit, rest)
    }

    /// True with probability `exp(-(|y| - sigma^2/t)^2 / (2 sigma^2))`: the acceptance of CKS20, Algorithm 3.
    ///
    /// With `x = whole + rest` the distance in units of `s`, and `c = s^2 / sigma^2`, the exponent is
    /// `c x^2 / 2 = whole^2 * c/2 + whole * c rest + c rest^2 / 2`: a sum of parts of at most 1, each a product of
    /// fractions, so that each is decided by coins over 128 bits where the whole exponent would need 400.
    fn accept<R: CryptoRng + ?Sized>(&self, y: i64, rng: &mut R) -> bool {
        let (whole, rest) = self.distance(y);
        let half = |rng: &mut R| rng.next_u32() & 1 == 0;
        let c = self.ratio;
        (0..whole * whole).all(|_| flip_exp(rng, |rng| half(rng) && c.flip(rng)))
            && (0..whole).all(|_| flip_exp(rng, |rng| rest.flip(rng) && c.flip(rng)))
            && flip_exp(rng, |rng| {
                half(rng) && rest.flip(rng) && rest.flip(rng) && c.flip(rng)
            })
    }

    /// One sample, in encoded units. Over `40 sigma` is possible and never seen.
    pub fn sample<R: CryptoRng + ?Sized>(&self, rng: &mut R) -> i64 {
        loop {
            let y = laplace(self.scale, rng);
            if self.accept(y, rng) {
                return y;
            }
        }
    }

    /// Independent samples, `[count]`.
    pub fn samples<R: CryptoRng + ?Sized>(&self, count: usize, rng: &mut R) -> Vec<i64> {
        (0..count).map(|_| self.sample(rng)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng as _;

    fn rng() -> ChaCha20Rng {
        ChaCha20Rng::from_seed([3; 32])
    }

    /// That the exponent in parts is the exponent of Algorithm 3.
    #[test]
    fn the_parts_add_up_to_the_papers_exponent() {
        for (numerator, denominator) in [
            (1, 1000),
            (1, 2),
            (1, 1),
            (7, 3),
            (10, 1),
            (123_456_789, 1000),
            (170_000 * 170_000, 1),
            (9_000_000_000_000_000_001, 7),
            (1 << 84, 1),
        ] {
            let noise = DiscreteGaussian::new(Variance::new(numerator, denominator).unwrap());
            let variance = noise.variance.as_f64();
            let (scale, fraction) = (noise.scale as f64, |r: Ratio| {
                r.numerator as f64 / r.denominator as f64
            });
            let c = fraction(noise.ratio);
            assert!((0.25..=1.0).contains(&c));
            let step = (noise.scale / 7).max(1) as i64;
            for y in (-30..30).map(|k| k * step) {
                let wanted = (y.abs() as f64 - variance / scale).powi(2) / (2.0 * variance);
                let (whole, rest) = noise.distance(y);
                let (whole, rest) = (whole as f64, fraction(rest));
                assert!((0.0..1.0).contains(&rest));
                let parts = whole * whole * c / 2.0 + whole * c * rest + c * rest * rest / 2.0;
                assert!(
                    (parts - wanted).abs() <= 1e-9 * (1.0 + wanted),
                    "{y}: {parts} {wanted}"
                );
            }
        }
    }

    #[test]
    fn uniform_numbers_are_below_every_bound_and_reach_all_of_it() {
        let mut rng = rng();
        for bound in [
            1,
            2,
            3,
            1 << 63,
            u128::from(u64::MAX),
            1 << 64,
            (1 << 64) + 1,
            3 << 80,
            1 << 127,
            u128::MAX,
        ] {
            let draws: Vec<u128> = (0..2000).map(|_| below_wide(bound, &mut rng)).collect();
            assert!(draws.iter().all(|value| *value < bound), "{bound}");
            let upper = draws.iter().filter(|value| **value >= bound / 2).count();
            assert!(
                bound == 1 || (800..1400).contains(&upper),
                "{bound}: {upper}"
            );
        }
    }

    #[test]
    fn a_flip_is_true_as_often_as_the_exponential_says() {
        let mut rng = rng();
        for (numerator, denominator) in [(0, 1), (1, 10), (1, 2), (9, 10), (1, 1)] {
            let g = Ratio {
                numerator,
                denominator,
            };
            let trues = (0..200_000)
                .filter(|_| flip_exp(&mut rng, |rng| g.flip(rng)))
                .count();
            let wanted = (-(numerator as f64) / denominator as f64).exp() * 200_000.0;
            // Five deviations of a coin.
            assert!(
                (trues as f64 - wanted).abs() <= 1120.0,
                "{numerator}/{denominator}: {trues}"
            );
        }
    }
}
