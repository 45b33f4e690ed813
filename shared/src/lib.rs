//! Doorward: sessions, credentials and tenants for backends on AWS.
//!
//! One request goes one way: API Gateway event ([`runtime`]) → [`route`] → a [`dialect`] parses a
//! command of proven types → the tenant's keys and policy ([`secrets`]) → a [`usecase`] decides with
//! one conditional write ([`store`]) → the dialect renders the outcome or [`domain::Failure`].
//! ARCHITECTURE.md has the map.

#![warn(missing_docs)]

pub mod audit;
pub mod authorizer;
pub mod aws;
pub mod cache;
pub mod courier;
pub mod dialect;
pub mod domain;
pub mod json;
pub mod message;
pub mod password;
pub mod port;
pub mod rotation;
pub mod route;
pub mod runtime;
pub mod secrets;
pub mod store;
pub mod stream;
pub mod subscription;
pub mod telemetry;
pub mod token;
pub mod usecase;
