//! The DeFim pages: contribute from a browser, watch the model improve, and check the ledger.

mod api;
mod chart;
mod components;
mod data;
mod drawing;
mod enrolment;
mod format;
mod ledger;
mod light;
mod live;
mod memory;
mod proof;
mod route;
mod rows;
mod runs;
mod schema;
mod session;
mod state;
mod tabs;

fn main() {
    console_error_panic_hook::set_once();
    leptos::mount::mount_to_body(components::app);
}
