//! FinHub v2.1 (docs/design/contract.md#finhub-v21): one handler per endpoint.

mod parse;
mod render;

use super::{Call, CrossOrigin, Dialect, HttpRequest, IDEMPOTENCY_KEY, Reply, incomplete, tenant_credential};
use crate::domain::Failure;

pub(crate) use render::failure;

/// FinHub v2.1.
pub(crate) static FINHUB: Dialect = Dialect {
    name: "finhub",
    cross_origin: CrossOrigin::Listed,
    is_audited: true,
    failure: |failure, _, now| self::failure(failure, now),
};

const CREATED: &str = "Session created successfully";
const REFRESHED: &str = "Session refreshed successfully";

/// Handles `POST …/users/{userId}/sessions`.
pub(crate) async fn create_session(call: &Call<'_>) -> Result<Reply, Failure> {
    let command = parse::create_session(call.request)?;
    call.service.create_session(command, call.context).await.map(|grant| render::granted(&grant, CREATED))
}

/// Handles `POST /api/v2.1/admin/sessions` and `POST /api/v2.1/customer/sessions`.
pub(crate) async fn create_session_by_name(call: &Call<'_>) -> Result<Reply, Failure> {
    let command = parse::create_session_by_name(call.request)?;
    call.service.create_session(command, call.context).await.map(|grant| render::granted(&grant, CREATED))
}

/// Handles `POST …/sessions/{sessionId}/refresh` on the admin path, and `PUT …/sessions/{sessionId}` on the
/// paths of customers.
pub(crate) async fn refresh_session(call: &Call<'_>) -> Result<Reply, Failure> {
    let command = parse::refresh_session(call.request)?;
    call.service.refresh_session(command, call.context).await.map(|grant| render::granted(&grant, REFRESHED))
}

/// Handles `DELETE …/sessions/{sessionId}`.
pub(crate) async fn delete_session(call: &Call<'_>) -> Result<Reply, Failure> {
    let command = parse::one_session(call.request)?;
    call.service.delete_session(command, call.context).await.map(|outcome| render::terminated(&outcome))
}

/// Handles `DELETE …/users/{userId}/sessions`.
pub(crate) async fn end_sessions(call: &Call<'_>) -> Result<Reply, Failure> {
    let command = parse::end_sessions(call.request)?;
    call.service.end_sessions(command, call.context).await.map(|outcome| render::all_terminated(&outcome))
}

/// Handles `GET …/users/{userId}/sessions`.
pub(crate) async fn list_sessions(call: &Call<'_>) -> Result<Reply, Failure> {
    let command = parse::list_sessions(call.request)?;
    call.service.list_sessions(command, call.context).await.map(|outcome| render::sessions(&outcome))
}

/// Handles `GET …/sessions/{sessionId}`.
pub(crate) async fn read_session(call: &Call<'_>) -> Result<Reply, Failure> {
    let command = parse::one_session(call.request)?;
    call.service.read_session(command, call.context).await.map(|outcome| render::session(&outcome))
}

/// Handles `POST …/users/login/reset`.
pub(crate) async fn reset_login(call: &Call<'_>) -> Result<Reply, Failure> {
    let command = parse::reset_login(call.request)?;
    Box::pin(call.service.reset_login(command, call.context)).await?;
    Ok(render::login_reset())
}

/// Handles `PUT …/users/{userId}/credentials`.
pub(crate) async fn update_credentials(call: &Call<'_>) -> Result<Reply, Failure> {
    let command = parse::update_credentials(call.request)?;
    let outcome = Box::pin(call.service.update_credentials(command, call.context)).await?;
    Ok(render::credentials(&outcome))
}
