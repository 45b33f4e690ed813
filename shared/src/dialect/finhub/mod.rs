//! FinHub v2.1 (contract, the finhub sections).

mod parse;
mod render;

use jiff::Timestamp;

use super::{HttpRequest, Reply, tenant_credential};
use crate::{
    domain::Failure,
    route::{Endpoint, Matched},
    usecase::Service,
};

pub use render::failure;

/// Answers a request that this dialect's `matched` route is for.
///
/// # Errors
/// What the use case ends with, or `Validation` and its kin for a request that is no command.
pub async fn answer(
    service: &Service,
    matched: &Matched,
    request: &HttpRequest,
    now: Timestamp,
) -> Result<Reply, Failure> {
    match matched.route.endpoint {
        Endpoint::CreateSession(collection) => {
            let command = parse::create_session(request, matched, collection)?;
            service.create_session(command, now).await.map(|grant| render::created(&grant))
        }
        Endpoint::RefreshAdminSession => {
            let command = parse::refresh_session(request, matched, None)?;
            service.refresh_session(command, now).await.map(|grant| render::refreshed(&grant))
        }
        Endpoint::RefreshCustomerSession(collection) => {
            let command = parse::refresh_session(request, matched, Some(collection))?;
            service.refresh_session(command, now).await.map(|grant| render::refreshed(&grant))
        }
        Endpoint::DeleteSession(collection) => {
            let command = parse::delete_session(request, matched, collection)?;
            service.delete_session(command, now).await.map(|outcome| render::terminated(&outcome))
        }
        Endpoint::ResetLogin => {
            let command = parse::reset_login(request)?;
            service.reset_login(command, now).await.map(|()| render::login_reset())
        }
        Endpoint::UpdateCredentials => {
            let command = parse::update_credentials(request, matched)?;
            service.update_credentials(command, now).await.map(|outcome| render::credentials(&outcome))
        }
        Endpoint::PasswordReset(_)
        | Endpoint::SetPassword(_)
        | Endpoint::ResetPassword
        | Endpoint::ShowPasswordPage
        | Endpoint::SubmitPasswordPage => Err(Failure::RouteNotFound),
    }
}
