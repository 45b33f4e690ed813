//! Test support: Doorward in one process, and the tools of the benchmarks and of the deploy test.

#![allow(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::unchecked_time_subtraction,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

pub mod api;
pub mod audit;
pub mod calls;
pub mod delivery;
pub mod dev;
pub mod emulator;
pub mod fault_proxy;
pub mod permissions;
pub mod rotation;

mod actor;
mod answer;
mod browser;
mod clock;
mod dice;
mod event;
mod passwords;
mod world;

pub use actor::{Actor, Login, find_actor};
pub use answer::Answer;
pub use browser::{BROWSER_COOKIE, LINK_COOKIE, Visitor, token_of};
pub use clock::TestClock;
pub use dice::Dice;
pub use event::{as_tenant, authorizer_event, event};
pub use passwords::{CHEAP, CountedPasswords, divided};
pub use world::{Instance, RegisteredClient, World, oauth_event};

/// The demo tenant that most tests use.
pub const NORDIC: &str = "97e7ff29-15f3-49ef-9681-3bbfcce4f6cd";
/// Public address of the functions.
pub const PUBLIC_URL: &str = "https://login.example.com";
