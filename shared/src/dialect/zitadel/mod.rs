//! ZITADEL v2: password reset and set password (contract, the section of that name).

use jiff::Timestamp;

use super::{HttpRequest, Reply, finhub};
use crate::{domain::Failure, route::Matched, usecase::Service};

/// Answers a request that this dialect's `matched` route is for.
///
/// # Errors
/// What the use case ends with, or `Validation` and its kin for a request that is no command.
#[expect(clippy::unused_async, reason = "not there yet")]
pub async fn answer(
    _service: &Service,
    _matched: &Matched,
    _request: &HttpRequest,
    _now: Timestamp,
) -> Result<Reply, Failure> {
    Err(Failure::RouteNotFound)
}

/// A failure in this dialect's words.
pub fn failure(failure: &Failure, _request: &HttpRequest, now: Timestamp) -> Reply {
    finhub::failure(failure, now)
}
