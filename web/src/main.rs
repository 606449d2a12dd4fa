//! The DeFim pages: contribute from a browser and watch the model improve.

mod api;
mod chart;
mod components;
mod data;
mod drawing;
mod format;
mod light;
mod live;
mod memory;
mod rows;
mod runs;
mod schema;
mod session;
mod state;
mod tabs;

fn main() {
    console_error_panic_hook::set_once();
    leptos::mount::mount_to_body(components::page);
}
