//! Where the lines, ticks and dots of a chart go.

/// A value after a round; round 0 is the model before anybody contributed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub round: u64,
    pub value: f64,
}

/// Size of the drawing, and the room for labels left and below.
pub const WIDTH: f64 = 360.0;
pub const HEIGHT: f64 = 220.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;

/// The area inside the axes: left, top, right, bottom.
pub const AREA: (f64, f64, f64, f64) = (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM);

/// A chart, laid out.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// `x,y x,y` of the line.
    pub line: String,
    /// Each point with its place.
    pub dots: Vec<(f64, f64, Point)>,
    /// Place and round of each tick below.
    pub rounds: Vec<(f64, u64)>,
    /// Place and value of each tick at the left.
    pub values: Vec<(f64, f64)>,
}

/// Lays points out; `most` bounds the values, where there is a bound.
pub fn layout(points: &[Point], most: Option<f64>) -> Option<Chart> {
    let last = points.iter().map(|p| p.round).max()?.max(1);
    let low = points.iter().map(|p| p.value).fold(f64::INFINITY, f64::min);
    let high = points
        .iter()
        .map(|p| p.value)
        .fold(f64::NEG_INFINITY, f64::max);
    // One value says nothing about a span; it is shown on the whole scale.
    let (low, high) = if points.len() == 1 {
        (low.min(0.0), most.unwrap_or(high).max(high))
    } else {
        (low, high)
    };
    let mut ticks = ticks(low, high);
    let bottom = *ticks.first()?;
    let top = ticks.last()?.min(most.unwrap_or(f64::INFINITY).max(high));
    ticks.retain(|tick| *tick <= top + 1e-9);
    let (x0, y0, x1, y1) = AREA;
    let x = |round: u64| x0 + (x1 - x0) * round as f64 / last as f64;
    let y = |value: f64| y1 - (y1 - y0) * (value - bottom) / (top - bottom);
    let dots: Vec<_> = points
        .iter()
        .map(|p| (x(p.round), y(p.value), *p))
        .collect();
    let line: Vec<_> = dots
        .iter()
        .map(|(x, y, _)| format!("{x:.1},{y:.1}"))
        .collect();
    let every = [1, 2, 5, 10, 20, 50, 100, 200, 500]
        .into_iter()
        .find(|step| last / step <= 6)
        .unwrap_or(1000);
    Some(Chart {
        line: line.join(" "),
        dots,
        rounds: (0..=last)
            .step_by(every as usize)
            .map(|round| (x(round), round))
            .collect(),
        values: ticks.into_iter().map(|value| (y(value), value)).collect(),
    })
}

/// Round numbers around the values, so that the line uses the room there is.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let span = (high - low).max(high.abs() * 0.02).max(1e-6);
    let rough = span / 4.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|m| m * power)
        .find(|s| *s >= rough)
        .unwrap_or(10.0 * power);
    let first = (low.min(high - span) / step + 1e-9).floor();
    let last = (high / step - 1e-9).ceil().max(first + 1.0);
    let number = (last - first) as u32;
    (0..=number)
        .map(|i| (first + f64::from(i)) * step)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: &[f64]) -> Vec<Point> {
        values
            .iter()
            .enumerate()
            .map(|(i, value)| Point {
                round: i as u64,
                value: *value,
            })
            .collect()
    }

    #[test]
    fn better_is_higher_and_later_is_further_right() {
        let chart = layout(&points(&[0.1, 0.8, 0.93]), Some(1.0)).unwrap();
        let (x0, y0, x1, y1) = AREA;
        for pair in chart.dots.windows(2) {
            assert!(pair[0].0 < pair[1].0 && pair[0].1 > pair[1].1);
        }
        for (x, y, _) in &chart.dots {
            assert!(
                (x0..=x1).contains(x) && (y0..=y1).contains(y),
                "inside the axes"
            );
        }
        assert!(
            chart.values.iter().all(|(_, value)| *value <= 1.0),
            "no accuracy over 100%"
        );
        assert_eq!(
            chart.rounds.iter().map(|r| r.1).collect::<Vec<_>>(),
            [0, 1, 2]
        );
    }

    #[test]
    fn one_value_and_equal_values_still_have_axes() {
        assert_eq!(layout(&[], None), None);
        let (x0, y0, x1, y1) = AREA;
        for values in [
            &[0.0][..],
            &[1.0, 1.0],
            &[0.93, 0.931, 0.9305],
            &[-3.0, 0.4],
        ] {
            let chart = layout(&points(values), Some(1.0)).unwrap();
            assert!(
                (1..=7).contains(&chart.values.len()),
                "{values:?}: {:?}",
                chart.values
            );
            for (x, y, _) in &chart.dots {
                assert!(
                    (x0..=x1).contains(x) && (y0..=y1).contains(y),
                    "{values:?}: {x},{y}"
                );
            }
        }
    }

    #[test]
    fn many_rounds_do_not_crowd_the_axis() {
        let many: Vec<_> = (0..=300).map(|i| f64::from(i) / 300.0).collect();
        let chart = layout(&points(&many), Some(1.0)).unwrap();
        assert!(chart.rounds.len() <= 8);
    }
}
