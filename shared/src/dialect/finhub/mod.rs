//! FinHub v2.1 (docs/design/contract.md#finhub-v21).

mod parse;
mod render;

use super::{Call, HttpRequest, IDEMPOTENCY_KEY, Reply, tenant_credential};
use crate::{domain::Failure, route::Finhub};

pub use render::failure;

/// Answers a call of one of this dialect's endpoints.
///
/// # Errors
/// What the use case ends with, or `Validation` and its kin for a request that is no command.
pub async fn answer(call: &Call<'_>, endpoint: Finhub) -> Result<Reply, Failure> {
    let Call { service, matched, request, now } = *call;
    match endpoint {
        Finhub::CreateSession(collection) => {
            let command = parse::create_session(request, matched, collection)?;
            service.create_session(command, now).await.map(|grant| render::created(&grant))
        }
        Finhub::RefreshAdminSession => {
            let command = parse::refresh_session(request, matched, None)?;
            service.refresh_session(command, now).await.map(|grant| render::refreshed(&grant))
        }
        Finhub::RefreshCustomerSession(collection) => {
            let command = parse::refresh_session(request, matched, Some(collection))?;
            service.refresh_session(command, now).await.map(|grant| render::refreshed(&grant))
        }
        Finhub::DeleteSession(collection) => {
            let command = parse::one_session(request, matched, collection)?;
            service.delete_session(command, now).await.map(|outcome| render::terminated(&outcome))
        }
        Finhub::EndSessions(collection) => {
            let command = parse::end_sessions(request, matched, collection)?;
            service.end_sessions(command, now).await.map(|outcome| render::all_terminated(&outcome))
        }
        Finhub::ListSessions(collection) => {
            let command = parse::list_sessions(request, matched, collection)?;
            service.list_sessions(command, now).await.map(|outcome| render::sessions(&outcome))
        }
        Finhub::ReadSession(collection) => {
            let command = parse::one_session(request, matched, collection)?;
            service.read_session(command, now).await.map(|outcome| render::session(&outcome))
        }
        Finhub::ResetLogin => {
            let command = parse::reset_login(request, matched)?;
            service.reset_login(command, now).await.map(|()| render::login_reset())
        }
        Finhub::UpdateCredentials => {
            let command = parse::update_credentials(request, matched)?;
            service.update_credentials(command, now).await.map(|outcome| render::credentials(&outcome))
        }
    }
}
