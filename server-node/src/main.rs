//! The DeFim server node: one binary that plays every server role, and the command line.

mod cli;
mod clock;
mod command;
mod config;
mod failure;
mod http;
mod ledger;
mod memory;
mod node;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::Cli::read() {
        Ok(cli) => cli,
        Err(code) => return ExitCode::from(code),
    };
    let json = cli.json;
    init_log(&cli);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime could not start: {error}");
            return ExitCode::from(1);
        }
    };
    let result = runtime.block_on(command::run(cli));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if json {
                println!(
                    "{}",
                    serde_json::json!({ "error": failure.kind(), "message": failure.to_string() })
                );
            }
            eprintln!("error: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

fn init_log(cli: &cli::Cli) {
    use tracing_subscriber::EnvFilter;
    let default = if cli.is_server() {
        // A proposer's empty block is given up whenever a transaction comes, and browsers offer extensions of DTLS that
        // nobody needs: both are warned of, and neither is a fault.
        "info,commonware=warn,commonware_consensus::simplex::actors::voter::actor=error,dtls=error,webrtc=error,webrtc_ice=error,webrtc_mdns=off,webrtc_sctp=error,libp2p_webrtc=error"
    } else {
        "off"
    };
    let filter = EnvFilter::try_from_env("DEFIM_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .try_init();
}
