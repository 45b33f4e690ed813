//! What anybody may read: a tenant's public keys, and whether the service is well (contract, "Also
//! public").

use crate::{
    dialect::{Call, Reply},
    domain::Failure,
    route::Public,
};

/// Answers a request.
///
/// # Errors
/// Whatever keeps it from its answer.
pub(crate) async fn answer(_call: &Call<'_>, endpoint: Public) -> Result<Reply, Failure> {
    match endpoint {
        Public::Configuration | Public::Keys | Public::Health => Err(Failure::RouteNotFound),
    }
}
