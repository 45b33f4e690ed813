//! Doorward on one machine, without Docker and without AWS.
//!
//! Tests use [`dynamodb`], [`secrets`], [`table`] and [`clients`] to run the real SDK against
//! servers inside their own process. The binary `local` (`cargo dev`) also builds the functions,
//! runs them with `cargo lambda watch`, and ends every process that it started.
//!
//! Every listener binds to 127.0.0.1.

pub mod api_page;
pub mod audit;
pub mod cargo_lambda;
pub mod clients;
pub mod data_dir;
pub mod delivery;
pub mod demo;
pub mod dynamodb;
pub mod env;
pub mod functions;
pub mod invoke;
mod links;
pub mod mail;
pub mod mailbox;
pub mod mailbox_page;
pub mod pip;
pub mod port;
pub mod problem;
pub mod process;
pub mod project;
pub mod ready;
pub mod run;
pub mod secrets;
mod server;
pub mod services;
pub mod signals;
pub mod stack;
pub mod stream;
pub mod table;
pub mod ui;
pub mod watch;

/// Region of the local services.
pub const REGION: &str = "us-east-1";
/// Name of the table in the local stack.
pub const TABLE: &str = "doorward";
/// Prefix of the tenants' secrets in the local Secrets Manager.
pub const SECRET_PREFIX: &str = "doorward/tenants/";
