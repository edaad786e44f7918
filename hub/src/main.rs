//! `hub`: parse, log, run.

use clap::Parser;
use hub::command::{self, Cli};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    service::log::start(cli.log_level());
    command::run(cli)
}
