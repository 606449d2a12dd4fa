//! Ordinary least squares, the yardstick of regression tasks.

use crate::{Features, Targets};

/// R2 on `test` of ordinary least squares with intercept fitted on `train`; `None` without numbers
/// as labels, or if the normal equations are singular.
pub fn ols_r2(train: &Features, test: &Features) -> Option<f64> {
    let (Targets::Number(y), Targets::Number(wanted)) = (train.targets(), test.targets()) else {
        return None;
    };
    let inputs = train.inputs();
    let row = |x: &[f32]| -> Vec<f64> { x.iter().map(|v| f64::from(*v)).chain([1.0]).collect() };
    let width = inputs + 1;
    let mut system = vec![vec![0.0; width + 1]; width];
    for (x, y) in train.x().chunks_exact(inputs).zip(y) {
        let x = row(x);
        for (equation, a) in system.iter_mut().zip(&x) {
            for (cell, b) in equation.iter_mut().zip(x.iter().chain([&f64::from(*y)])) {
                *cell += a * b;
            }
        }
    }
    let weights = solve(system)?;
    let predict = |x: &[f32]| row(x).iter().zip(&weights).map(|(a, w)| a * w).sum::<f64>();
    let mean = wanted.iter().map(|v| f64::from(*v)).sum::<f64>() / wanted.len() as f64;
    let (mut residual, mut total) = (0.0, 0.0);
    for (x, wanted) in test.x().chunks_exact(inputs).zip(wanted) {
        residual += (predict(x) - f64::from(*wanted)).powi(2);
        total += (f64::from(*wanted) - mean).powi(2);
    }
    (total > 0.0).then(|| 1.0 - residual / total)
}

/// Gauss-Jordan elimination with pivoting on an augmented system.
fn solve(mut system: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    let n = system.len();
    for column in 0..n {
        let size = |row: &Vec<f64>| row.get(column).map_or(0.0, |v| v.abs());
        let pivot = (column..n).max_by(|a, b| {
            system
                .get(*a)
                .map_or(0.0, size)
                .total_cmp(&system.get(*b).map_or(0.0, size))
        })?;
        system.swap(column, pivot);
        let lead = *system.get(column)?.get(column)?;
        if lead.abs() < 1e-12 {
            return None;
        }
        let base: Vec<f64> = system.get(column)?.iter().map(|v| v / lead).collect();
        for (at, row) in system.iter_mut().enumerate() {
            let factor = *row.get(column)?;
            if at == column {
                row.clone_from(&base);
            } else {
                row.iter_mut()
                    .zip(&base)
                    .for_each(|(v, b)| *v -= factor * b);
            }
        }
    }
    system.iter().map(|row| row.last().copied()).collect()
}
