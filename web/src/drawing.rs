//! From strokes to the rows of a picture task.
//!
//! The digits' own data was made from bitmaps of 32 by 32 pixels that the digit fills from top to bottom;
//! each of the 64 values counts the ink of a block of 4 by 4. A drawing goes the same way, so that what
//! people draw looks like what the model knows.

use crate::schema::{INK, SIDE, Schema};

const FINE: usize = 32;
const BLOCK: usize = FINE / SIDE;
/// Half the width of the pen, in fine pixels.
const PEN: f64 = 1.7;
/// A short dash is not blown up to a bar through the whole picture.
const MOST_ZOOM: f64 = 200.0;

/// A point, from 0 to 1 from the left and from the top.
pub type Point = (f64, f64);

/// Strokes of a pen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Drawing {
    strokes: Vec<Vec<Point>>,
}

/// The 64 values of a picture, row by row.
pub type Pixels = [u8; SIDE * SIDE];

/// A picture with its class.
#[derive(Debug, Clone, PartialEq)]
pub struct Labelled {
    pub pixels: Pixels,
    pub class: String,
}

impl Drawing {
    /// The pen touches the paper.
    pub fn begin(&mut self, at: Point) {
        self.strokes.push(vec![at]);
    }

    /// The pen moves.
    pub fn go_on(&mut self, to: Point) {
        if let Some(stroke) = self.strokes.last_mut() {
            stroke.push(to);
        }
    }

    /// Whether nothing is drawn.
    pub fn is_empty(&self) -> bool {
        self.strokes.is_empty()
    }

    /// The lines of the strokes, one SVG path or canvas path each.
    pub fn strokes(&self) -> &[Vec<Point>] {
        &self.strokes
    }

    /// The picture: moved to the middle, zoomed to full height, counted in blocks.
    pub fn pixels(&self) -> Pixels {
        let mut out = [0; SIDE * SIDE];
        let points = self.strokes.iter().flatten();
        let (left, right) = span(points.clone().map(|p| p.0));
        let (top, bottom) = span(points.map(|p| p.1));
        let room = FINE as f64 - 2.0 * PEN;
        let zoom = (room / (bottom - top))
            .min(room / (right - left))
            .min(MOST_ZOOM);
        let middle = FINE as f64 / 2.0;
        let place = |(x, y): Point| {
            (
                middle + (x - (left + right) / 2.0) * zoom,
                middle + (y - (top + bottom) / 2.0) * zoom,
            )
        };
        let lines: Vec<(Point, Point)> = self
            .strokes
            .iter()
            .flat_map(|stroke| {
                let ends = stroke.iter().skip(1).chain(stroke.last());
                stroke.iter().zip(ends).map(|(a, b)| (place(*a), place(*b)))
            })
            .collect();
        for at in 0..FINE * FINE {
            let (column, row) = (at % FINE, at / FINE);
            let centre = (column as f64 + 0.5, row as f64 + 0.5);
            if lines.iter().any(|(a, b)| distance(centre, *a, *b) <= PEN)
                && let Some(block) = out.get_mut(row / BLOCK * SIDE + column / BLOCK)
            {
                *block += 1;
            }
        }
        out
    }
}

fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((1.0, 0.0), |(low, high): (f64, f64), v| {
        (low.min(v), high.max(v))
    })
}

fn distance(p: Point, a: Point, b: Point) -> f64 {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let length = dx * dx + dy * dy;
    let along = if length > 0.0 {
        (((p.0 - a.0) * dx + (p.1 - a.1) * dy) / length).clamp(0.0, 1.0)
    } else {
        0.0
    };
    (p.0 - a.0 - along * dx).hypot(p.1 - a.1 - along * dy)
}

/// The rows of drawn pictures, as the task's CSV.
pub fn csv(schema: &Schema, pictures: &[Labelled]) -> String {
    let mut out = schema.header();
    out.push('\n');
    for picture in pictures {
        for value in picture.pixels {
            out.push_str(&value.to_string());
            out.push(',');
        }
        out.push_str(&picture.class);
        out.push('\n');
    }
    out
}

/// Pictures that rows hold, for the preview; nothing if a cell is no pixel.
pub fn picture(cells: &[String]) -> Option<Labelled> {
    let (class, values) = cells.split_last()?;
    let mut pixels = [0; SIDE * SIDE];
    if values.len() != pixels.len() {
        return None;
    }
    for (pixel, cell) in pixels.iter_mut().zip(values) {
        *pixel = cell.parse().ok().filter(|value| *value <= INK)?;
    }
    Some(Labelled {
        pixels,
        class: class.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(points: &[Point]) -> Drawing {
        let mut drawing = Drawing::default();
        drawing.begin(points[0]);
        for point in &points[1..] {
            drawing.go_on(*point);
        }
        drawing
    }

    #[test]
    fn a_small_line_in_a_corner_fills_the_middle_columns() {
        let pixels = line(&[(0.1, 0.1), (0.1, 0.3)]).pixels();
        for row in 1..7 {
            let row = &pixels[row * 8..row * 8 + 8];
            assert!(row[3] > 4 && row[4] > 4, "{row:?}");
            assert_eq!(row[0] + row[1] + row[6] + row[7], 0, "{row:?}");
        }
        assert!(pixels[3] > 0 && pixels[59] > 0, "from top to bottom");
    }

    #[test]
    fn pixels_stay_in_range_and_nothing_drawn_is_white() {
        let scribble: Vec<_> = (0..400)
            .map(|i| (f64::from(i % 20) / 20.0, f64::from(i / 20) / 20.0))
            .collect();
        let pixels = line(&scribble).pixels();
        assert_eq!(pixels.iter().max(), Some(&INK));
        assert_eq!(Drawing::default().pixels(), [0; 64]);
        let dot: u32 = line(&[(0.5, 0.5)])
            .pixels()
            .iter()
            .map(|v| u32::from(*v))
            .sum();
        assert!((4..40).contains(&dot), "a dot stays a dot: {dot}");
    }

    #[test]
    fn drawings_become_rows_of_the_task() {
        let schema = crate::schema::tests::digits();
        let pixels = line(&[(0.5, 0.1), (0.5, 0.9)]).pixels();
        let one = Labelled {
            pixels,
            class: "1".into(),
        };
        let text = csv(&schema, &[one.clone(), one.clone()]);
        let preview = crate::rows::preview(&text, true);
        assert_eq!(preview.header.len(), 65);
        assert_eq!(preview.header.last().unwrap(), "label");
        assert_eq!(preview.rows.len(), 2);
        assert_eq!(picture(&preview.rows[0]), Some(one));
        assert_eq!(picture(&["17".into()]), None);
    }
}
