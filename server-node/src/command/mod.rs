//! What each command does.

mod account;
mod admin;
mod audit;
mod bench;
mod confirm;
mod contribute;
mod history;
mod init;
mod leader;
mod ledger;
mod mesh;
mod model;
mod out;
mod receipt;
mod run;
mod score;
mod simulate;
mod tasks;
mod up;
mod vectors;

use defim_net::native::{Endpoint, EndpointConfig};
use rand::RngCore as _;

use crate::{
    cli::{AccountCommand, Cli, Command, LedgerCommand, NodeCommand, TaskCommand, VectorsCommand},
    failure::{Failure, Outcome},
};

/// The endpoint of a light node: a fresh identity, and nothing that listens.
async fn light_endpoint() -> Outcome<Endpoint> {
    let mut identity_seed = [0; 32];
    rand::rng().fill_bytes(&mut identity_seed);
    let config = EndpointConfig {
        identity_seed,
        ..EndpointConfig::default()
    };
    let started = Endpoint::start(config).await;
    started.map_err(|e| Failure::Other(e.to_string()))
}

/// Run a command.
///
/// # Errors
///
/// [`crate::failure::Failure`]: its exit code, and what to tell.
pub async fn run(cli: Cli) -> Outcome {
    let json = cli.json;
    match cli.command {
        Command::Up(args) => up::run(args, json).await,
        Command::Node { command } => match command {
            NodeCommand::Run { config } => run::run(&config, json).await,
            NodeCommand::Init(args) => init::run(&args, json),
            NodeCommand::List { mesh } => mesh::list(&mesh, json).await,
            NodeCommand::Enrol(args) => admin::enrol_node(args, json).await,
            NodeCommand::Remove(args) => admin::remove_node(args, json).await,
        },
        Command::Simulate(args) => simulate::run(args, json).await,
        Command::Bench(args) => match (args.network, args.history) {
            (Some(at), _) => bench::network(at, json).await,
            (None, Some(rounds)) => history::run(rounds, &args, json).await,
            (None, None) => bench::run(&args, json),
        },
        Command::Vectors {
            command: VectorsCommand::Check { path },
        } => vectors::check(&path, json),
        Command::Audit(args) => audit::run(args, json).await,
        Command::Ledger { command } => match command {
            LedgerCommand::Show(args) => ledger::show(args, json).await,
            LedgerCommand::Verify(args) => ledger::verify(args, json).await,
        },
        Command::Account { command } => match command {
            AccountCommand::Show(args) => account::show(args, json).await,
            AccountCommand::Transfer(args) => account::transfer(args, json).await,
            AccountCommand::Claim(args) => receipt::claim_all(args, json).await,
        },
        Command::Score(args) => score::run(args, json).await,
        Command::Contribute(args) => contribute::run(args, json).await,
        Command::Task { command } => match command {
            TaskCommand::Create {
                mesh,
                task,
                name,
                model,
                schedule,
                scheme,
                admin_token,
            } => {
                let model = model.map(crate::cli::ModelArg::name);
                let mut request = tasks::request(&task, name, model, &schedule)?;
                request.scheme = scheme;
                tasks::create(&mesh, &request, &admin_token, json).await
            }
            TaskCommand::List { mesh } => tasks::list(&mesh, json).await,
            TaskCommand::Show { task, mesh } => tasks::show(&mesh, &task, json).await,
            TaskCommand::Invite(args) => admin::invite(args, json).await,
            TaskCommand::Approve(args) => admin::approve(args, json).await,
            TaskCommand::Revoke(args) => admin::revoke(args, json).await,
            TaskCommand::Enrolled(args) => admin::enrolled(args, json).await,
            TaskCommand::VoidRound {
                task,
                mesh,
                round,
                reason,
                admin_token,
            } => tasks::void_round(&mesh, &task, round, &reason, &admin_token, json).await,
            TaskCommand::Pause {
                task,
                mesh,
                resume,
                admin_token,
            } => tasks::pause(&mesh, &task, !resume, &admin_token, json).await,
        },
        Command::Model { command } => model::run(command, json).await,
    }
}
