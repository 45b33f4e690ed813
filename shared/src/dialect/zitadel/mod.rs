//! ZITADEL v2: password reset and set password (contract, the section of that name). The JSON routes,
//! gRPC-Web and Connect carry the same messages: each form only reads and writes them.

mod form;
mod messages;
mod parse;
mod proto;
mod render;

use jiff::Timestamp;

use super::{HttpRequest, Reply, bounded, retry_after, tenant_credential, time};
use crate::{
    domain::Failure,
    route::{Endpoint, Framing, Matched},
    usecase::Service,
};
use form::Form;
use parse::SetPassword;

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
        Endpoint::PasswordReset(framing) => {
            let form = Form::of(framing, request).ok_or(Failure::UnsupportedMediaType)?;
            let command = parse::password_reset(request, matched, form.read(request)?)?;
            let outcome = service.password_reset(command, now).await?;
            Ok(form.reply(&render::code_asked_for(&outcome)))
        }
        Endpoint::SetPassword(framing) => {
            let form = Form::of(framing, request).ok_or(Failure::UnsupportedMediaType)?;
            let details = match parse::set_password(request, matched, form.read(request)?)? {
                SetPassword::WithCode(command) => service.set_password(command, now).await?,
                SetPassword::AsCaller(command) => service.update_credentials(*command, now).await?.details,
            };
            Ok(form.reply(&render::password_set(&details)))
        }
        Endpoint::CreateSession(_)
        | Endpoint::RefreshAdminSession
        | Endpoint::RefreshCustomerSession(_)
        | Endpoint::DeleteSession(_)
        | Endpoint::ResetLogin
        | Endpoint::UpdateCredentials
        | Endpoint::ResetPassword
        | Endpoint::ShowPasswordPage
        | Endpoint::SubmitPasswordPage => Err(Failure::RouteNotFound),
    }
}

/// A failure in the form that the request came in.
pub fn failure(failure: &Failure, matched: &Matched, request: &HttpRequest, now: Timestamp) -> Reply {
    let framing = match matched.route.endpoint {
        Endpoint::PasswordReset(framing) | Endpoint::SetPassword(framing) => framing,
        _ => Framing::Json,
    };
    render::failure(failure, framing, Form::of(framing, request), now)
}
