//! Doorward: sessions, credentials and tenants for backends on AWS.
//!
//! The way of one request: an entry point in [`function`] turns the event into a request and finds its route in
//! [`route`]. A [`dialect`] parses a command. A [`usecase`] verifies the caller with the tenant's keys
//! ([`secrets`], [`token`]) and decides with one conditional write ([`store`]). The dialect renders the outcome
//! or the [`domain::Failure`]. ARCHITECTURE.md has the details.

#![warn(missing_docs)]

pub mod audit;
pub mod aws;
pub mod cache;
pub mod context;
pub mod courier;
pub mod dialect;
pub mod domain;
pub mod function;
pub mod json;
pub mod message;
pub mod password;
pub mod port;
pub mod route;
pub mod secrets;
pub mod store;
pub mod token;
pub mod usecase;
