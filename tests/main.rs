//! Everything that `cargo test` runs over the embedded services.

#![allow(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::unchecked_time_subtraction,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

mod audit;
mod authorizer;
mod citations;
mod conditions;
mod cors;
mod cost;
mod delivery;
mod ended_callers;
mod fault_proxy;
mod faults;
mod fields;
mod flows;
mod gateway;
mod histories;
mod idempotency;
mod isolation;
mod login_limits;
mod maxima;
mod named_logins;
mod oauth;
mod openapi;
mod operator;
mod page;
mod page_links;
mod policies;
mod policy_docs;
mod price;
mod proxies;
mod published;
mod races;
mod recovery;
mod replay;
mod retired_keys;
mod roles;
mod rotation;
mod route_matrix;
mod route_table;
mod rpc;
mod secrets;
mod sessions;
mod structure;
mod user_directory;
mod users;

pub(crate) const ADMIN: &str = "admin@cloudvault.example";
pub(crate) const SECOND_ADMIN: &str = "second.admin@cloudvault.example";
pub(crate) const CUSTOMER: &str = "erika.mustermann@example.com";
pub(crate) const NORDIC_ADMIN: &str = "admin@nordic.example";
pub(crate) const MARCUS: &str = "marcus.jensen@example.com";
pub(crate) const OTHER_ADMIN: &str = "admin@other.example";
pub(crate) const NEW_PASSWORD: &str = "a brand new passphrase";
