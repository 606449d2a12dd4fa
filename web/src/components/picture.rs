//! A picture of 8 by 8 pixels.

use leptos::prelude::*;

use crate::drawing::Pixels;
use crate::schema::{INK, SIDE};

pub fn picture(pixels: &Pixels, told: &str) -> impl IntoView + use<> {
    let squares: String = pixels
        .iter()
        .enumerate()
        .filter(|(_, ink)| **ink > 0)
        .map(|(at, ink)| {
            let (x, y, dark) = (at % SIDE, at / SIDE, f64::from(*ink) / f64::from(INK));
            format!("<rect x='{x}' y='{y}' width='1.02' height='1.02' fill-opacity='{dark:.2}'/>")
        })
        .collect();
    view! { <svg class="picture" viewBox="0 0 8 8" role="img" aria-label=told.to_owned() inner_html=squares></svg> }
}
