//! ZITADEL v2: password reset and set password (docs/design/contract.md#zitadel-v2). The JSON routes,
//! gRPC-Web and Connect carry the same messages: each form only reads and writes them.

mod form;
mod messages;
mod parse;
mod proto;
mod render;

use jiff::Timestamp;

use super::{Call, HttpRequest, IDEMPOTENCY_KEY, Reply, bounded, retry_after, tenant_credential, time};
use crate::{
    domain::Failure,
    route::{Framing, Zitadel},
};
use form::Form;
use parse::SetPassword;

/// Answers a call of one of this dialect's endpoints.
///
/// # Errors
/// What the use case ends with, or `Validation` and its kin for a request that is no command.
pub async fn answer(call: &Call<'_>, endpoint: Zitadel, framing: Framing) -> Result<Reply, Failure> {
    let Call { service, matched, request, now } = *call;
    let form = Form::of(framing, request).ok_or(Failure::UnsupportedMediaType)?;
    match endpoint {
        Zitadel::PasswordReset => {
            let command = parse::password_reset(request, matched, form.read(request)?)?;
            let outcome = service.password_reset(command, now).await?;
            Ok(form.reply(&render::code_asked_for(&outcome)))
        }
        Zitadel::SetPassword => {
            let details = match parse::set_password(request, matched, form.read(request)?)? {
                SetPassword::WithCode(command) => service.set_password(command, now).await?,
                SetPassword::AsCaller(command) => service.update_credentials(*command, now).await?.details,
            };
            Ok(form.reply(&render::password_set(&details)))
        }
    }
}

/// A failure in the form that the request came in.
pub fn failure(failure: &Failure, framing: Framing, request: &HttpRequest, now: Timestamp) -> Reply {
    render::failure(failure, framing, Form::of(framing, request), now)
}
