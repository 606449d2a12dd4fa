//! Paper for drawing the pictures of a picture task.

use leptos::html::Canvas;
use leptos::prelude::*;
use wasm_bindgen::JsCast as _;
use web_sys::{CanvasRenderingContext2d, HtmlCanvasElement, PointerEvent};

use crate::data::Source;
use crate::drawing::{Drawing, Labelled};
use crate::schema::Schema;
use crate::session::Session;

/// Pixels of the canvas; its shown size is the style's.
const PAPER: u32 = 512;

pub fn draw(session: Session, schema: Schema) -> impl IntoView {
    let paper = NodeRef::<Canvas>::new();
    let drawing = RwSignal::new(Drawing::default());
    let drawn = RwSignal::new(false);
    let class = RwSignal::new(None::<String>);
    let classes = schema.picture_classes().unwrap_or_default().to_vec();
    Effect::new(move |_| {
        if let Some(canvas) = paper.get() {
            drawing.with(|drawing| paint(&canvas, drawing));
        }
    });
    let place = move |event: &PointerEvent| {
        let canvas = paper.get_untracked()?;
        let area = canvas.get_bounding_client_rect();
        let x = (f64::from(event.client_x()) - area.left()) / area.width();
        let y = (f64::from(event.client_y()) - area.top()) / area.height();
        Some((x.clamp(0.0, 1.0), y.clamp(0.0, 1.0)))
    };
    let down = move |event: PointerEvent| {
        if let (Some(at), Some(canvas)) = (place(&event), paper.get_untracked()) {
            // Without the capture a stroke ends at the paper's edge, and nothing else breaks.
            let _ = canvas.set_pointer_capture(event.pointer_id());
            event.prevent_default();
            drawn.set(true);
            drawing.update(|drawing| drawing.begin(at));
        }
    };
    let go_on = move |event: PointerEvent| {
        if let (true, Some(to)) = (drawn.get_untracked(), place(&event)) {
            drawing.update(|drawing| drawing.go_on(to));
        }
    };
    let up = move |_: PointerEvent| drawn.set(false);
    let missing = move || match (drawing.with(Drawing::is_empty), class.with(Option::is_none)) {
        (true, _) => Some(
            "Draw with a mouse, a pen or a finger. The small picture is what the model will see.",
        ),
        (_, true) => Some("Say which one it is."),
        _ => None,
    };
    let add = move |_| {
        if let (None, Some(chosen)) = (missing(), class.get_untracked()) {
            let mut pictures = match session.chosen().map(|chosen| chosen.source) {
                Some(Source::Drawn(pictures)) => pictures,
                _ => Vec::new(),
            };
            pictures.push(Labelled {
                pixels: drawing.with_untracked(Drawing::pixels),
                class: chosen,
            });
            session.choose_drawings(&schema, pictures);
            drawing.set(Drawing::default());
            class.set(None);
        }
    };
    let label = move |name: String| {
        let (mine, told) = (name.clone(), name.clone());
        view! {
            <button
                class="class"
                data-testid=format!("draw-label-{name}")
                aria-pressed=move || (class.get().as_ref() == Some(&mine)).to_string()
                on:click=move |_| class.set(Some(told.clone()))
            >
                {name.clone()}
            </button>
        }
    };
    view! {
        <div class="draw">
            <canvas
                node_ref=paper
                width=PAPER
                height=PAPER
                data-testid="draw-canvas"
                role="img"
                aria-label="Paper to draw on with a pointer. Sample data and CSV files need no pointer."
                on:pointerdown=down
                on:pointermove=go_on
                on:pointerup=up
                on:pointercancel=up
            ></canvas>
            <div class="beside">
                <div class="seen">{move || super::picture::picture(&drawing.with(Drawing::pixels), "what the model will see")}</div>
                <div class="classes" role="group" aria-label="What did you draw?">
                    {classes.into_iter().map(label).collect_view()}
                </div>
                <div class="row">
                    <button data-testid="draw-add" disabled=move || missing().is_some() on:click=add>"Add to my rows"</button>
                    <button class="quiet" on:click=move |_| drawing.set(Drawing::default())>"Clear"</button>
                </div>
                <p class="muted hint">{missing}</p>
            </div>
        </div>
    }
}

fn paint(canvas: &HtmlCanvasElement, drawing: &Drawing) {
    let context = canvas
        .get_context("2d")
        .ok()
        .flatten()
        .and_then(|c| c.dyn_into::<CanvasRenderingContext2d>().ok());
    let Some(context) = context else { return };
    let size = f64::from(PAPER);
    context.clear_rect(0.0, 0.0, size, size);
    let style = window().get_computed_style(canvas).ok().flatten();
    let ink = style
        .and_then(|style| style.get_property_value("color").ok())
        .unwrap_or_else(|| "black".into());
    context.set_stroke_style_str(&ink);
    context.set_line_width(size / 12.0);
    context.set_line_cap("round");
    context.set_line_join("round");
    for stroke in drawing.strokes() {
        context.begin_path();
        if let Some((x, y)) = stroke.first() {
            context.move_to(x * size, y * size);
        }
        for (x, y) in stroke {
            context.line_to(x * size, y * size);
        }
        context.stroke();
    }
}
