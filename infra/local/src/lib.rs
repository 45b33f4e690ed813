//! Doorward on one machine, without Docker and without AWS.
//!
//! Tests use [`dynamodb`], [`secrets`], [`table`] and [`clients`] to run the real SDK against
//! servers inside their own process. The binary `local` (`cargo dev`) adds the functions under
//! `cargo lambda watch`, and everything that starting and ending processes needs.
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
pub mod signals;
pub mod stack;
pub mod stream;
pub mod table;
pub mod ui;
pub mod watch;

/// The Region that everything local pretends to be in.
pub const REGION: &str = "us-east-1";
/// The table's name in the local stack.
pub const TABLE: &str = "doorward";
/// Where the tenants' secrets lie in the local Secrets Manager.
pub const SECRET_PREFIX: &str = "doorward/tenants/";
