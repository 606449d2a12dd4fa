//! Numbers as people read them.

/// `1 row`, `75 rows`, `1,797 rows`.
pub fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(number))
}

/// `1,797`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `312 B`, `12.4 kB`, `3.1 MB`.
pub fn bytes(number: u64) -> String {
    let number = number as f64;
    if number < 1e3 {
        format!("{number} B")
    } else if number < 1e6 {
        format!("{:.1} kB", number / 1e3)
    } else {
        format!("{:.1} MB", number / 1e6)
    }
}

/// `under 1 ms`, `23 ms`, `1.2 s`.
pub fn millis(number: f64) -> String {
    if number < 1.0 {
        "under 1 ms".into()
    } else if number < 1000.0 {
        format!("{number:.0} ms")
    } else {
        format!("{:.1} s", number / 1e3)
    }
}

/// A score as it is usual for its kind: accuracy as a percentage, R2 as a number.
pub fn score(value: f64, is_accuracy: bool) -> String {
    if is_accuracy {
        format!("{:.1}%", value * 100.0)
    } else {
        format!("{value:.3}")
    }
}

/// How far a score moved: `+5.8 points`, or `+0.058`.
pub fn change(before: f64, after: f64, is_accuracy: bool) -> String {
    let moved = after - before;
    if is_accuracy {
        format!("{:+.1} points", moved * 100.0)
    } else {
        format!("{moved:+.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_naturally() {
        assert_eq!(count(1, "row"), "1 row");
        assert_eq!(count(1_234_567, "row"), "1,234,567 rows");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(12_400), "12.4 kB");
        assert_eq!(bytes(64_000_000), "64.0 MB");
        assert_eq!(millis(0.2), "under 1 ms");
        assert_eq!(millis(1234.0), "1.2 s");
    }

    #[test]
    fn a_loss_of_accuracy_is_not_hidden() {
        assert_eq!(score(0.934, true), "93.4%");
        assert_eq!(change(0.9, 0.85, true), "-5.0 points");
        assert_eq!(change(0.4, 0.458, false), "+0.058");
    }
}
