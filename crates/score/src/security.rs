//! What is hidden from whom, under what assumptions, and how hard breaking it is.
//!
//! # The features, from the server
//!
//! A request is two samples of ring-LWE under one binary key: `a * s + e + DELTA * x` and `p * s + e'`, with `a` and `p`
//! expanded from a public seed. Without the key both are indistinguishable from uniform, so the server sees the
//! shape of the model, and nothing of the features or the scores. A key serves one request: a server that makes up
//! an answer and watches what the client does learns at most something about a key that is gone.
//!
//! # The weights, from the client
//!
//! The client knows `a`. Of a bare `a * w` one division in the ring gives all weights. Hence the answer:
//!
//! 1. **The mask** is `a * w + p * u + e''`, without its eight low bits. `p` is expanded from the seed, which the client
//!    can draw again but not steer, and `u` and `e''` are the server's: `p * u + e''` is a sample of ring-LWE with a
//!    binary secret, and the mask is indistinguishable from uniform. It says nothing of `w`.
//! 2. **The body** is one coefficient a class. Each has flooding added that is uniform over 2^18 of 2^40 values, so that it
//!    holds at most 22 bits about everything else, whatever the request was; rounding takes away, and adds none. An
//!    honest score alone has 21.
//! 3. **Both together.** For an honest public key the body follows from the mask, the key, the scores and the noise, and
//!    says nothing more of `u`. A client that sends something else for its public key can learn 22 bits a class of `u`
//!    instead of `w`. There are at most 16 classes to a polynomial, and each polynomial has its own `u`, so that at least
//!    2048 - 352 bits of `u` remain. The estimate takes this as a shorter secret.
//!
//! That is all that can be promised: scores of a linear model are linear equations in its weights. With `d` features,
//! `d + 1` honest requests give the model away, and with requests made up for the purpose about `d / 3` can. A server that
//! wants to keep its weights must limit the requests of a client, over all sessions.
//!
//! The difference to the score alone, at most one bit a class and answer, is not zero, and not made negligible by the
//! flooding: a client that asks often with the same features sees past it, and learns `e * w` at the classes'
//! coefficients, another linear equation each.
//!
//! # What it does not do
//!
//! - Nothing shows that a server used its model, or the same for all. An answer can be made up.
//! - A request and its answer are not authenticated here; transports are encrypted and authenticated, and both belong
//!   to one stream.
//! - The features are clamped and quantised by the client; a client can ask with any number up to `q`.
//!
//! # How hard
//!
//! The primal attack with a secret that is shorter than the error (Bai, Galbraith: *Lattice decoding attacks on binary
//! LWE*, 2014), which scales the secret's part of the lattice by `sigma / sigma_s`, under the estimate of Alkim, Ducas,
//! Pöppelmann, Schwabe: *Post-quantum key exchange*, 2016, section 6.3. With block size `b` and `m` samples it succeeds in
//! dimension `D = n + m + 1` when
//!
//! ```text
//! sigma * sqrt(b) <= delta(b)^(2b - D - 1) * (q^m * (sigma / sigma_s)^n)^(1 / D)
//! ```
//!
//! and one call of the shortest vector oracle costs `2^(0.292 b)` (core-SVP, classical) or `2^(0.265 b)` (quantum), with
//! `delta(b)` as there, `n = 2048`, `q = 2^40` and `sigma_s = 1/2`:
//!
//! | what | error | block size | core-SVP | quantum |
//! |---|---|---|---|---|
//! | features, and the answer's mask by `e''` alone | 2.83 | 497 | 145.1 bits | 131.7 bits |
//! | the answer's mask, its rounding counted as error | 74 | 585 | 170.8 bits | 155.0 bits |
//! | the same, with 352 bits of `u` known | 74 | 456 | 133.2 bits | 120.8 bits |
//! | the design's first parameters: `q = 2^64`, deviation 2^-47.8 | 2^16.2 | 374 | 109.2 bits | 99.1 bits |
//!
//! The test below computes the table. The second and the third row are estimates without a reduction behind them.

#[cfg(test)]
mod tests {
    use std::f64::consts::{E, PI};

    use crate::params::{ANSWER_DROPPED, DELTA, FLOODING, LOG_Q, MAX_ROWS, MAX_SCORE, N, VARIANCE};

    /// Root Hermite factor of a block size, as a logarithm to base 2.
    fn log_delta(b: f64) -> f64 {
        ((PI * b).powf(1.0 / b) * b / (2.0 * PI * E)).log2() / (2.0 * (b - 1.0))
    }

    /// The least block size with which the primal attack succeeds, over all numbers of samples.
    fn block_size(n: usize, log_q: u32, width: f64) -> u32 {
        let (n, log_q) = (n as f64, f64::from(log_q));
        let scaling = n * (width / 0.5).log2();
        let reaches = |b: f64| {
            let log_delta = log_delta(b);
            (100..6000).step_by(20).any(|m| {
                let m = f64::from(m);
                let dimension = n + m + 1.0;
                let short = width.log2() + b.log2() / 2.0;
                short <= (2.0 * b - dimension - 1.0) * log_delta + (log_q * m + scaling) / dimension
            })
        };
        (60..2000).find(|b| reaches(f64::from(*b))).unwrap()
    }

    /// Bits about the weights that one coefficient of a body can hold.
    fn leak() -> u32 {
        LOG_Q - (2 * FLOODING).trailing_zeros()
    }

    #[test]
    fn breaking_a_request_costs_145_bits_and_an_answer_133() {
        let error = f64::from(VARIANCE).sqrt();
        assert_eq!(block_size(N, LOG_Q, error), 497);
        // An interval's deviation, with the error's.
        let rounding = f64::from(1 << ANSWER_DROPPED).powi(2) / 12.0;
        let answer = (rounding + error * error).sqrt();
        assert!((73.0..75.0).contains(&answer));
        assert_eq!(block_size(N, LOG_Q, answer), 585);
        let left = N - MAX_ROWS * leak() as usize;
        assert_eq!(left, 1696);
        assert_eq!(block_size(left, LOG_Q, answer), 456);
        assert_eq!(block_size(N, 64, 2f64.powf(16.2)), 374);
    }

    #[test]
    fn an_answer_holds_at_most_one_bit_a_class_more_than_the_score() {
        let score = (2 * MAX_SCORE + 1) as f64;
        assert_eq!(leak(), 22);
        assert!(f64::from(leak()) - score.log2() < 1.001);
        assert_eq!(DELTA, 4 * FLOODING);
    }
}
