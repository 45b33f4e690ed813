//! ZITADEL v2: password reset and set password (docs/design/contract.md#zitadel-v2).
//!
//! The JSON routes, gRPC-Web and Connect carry the same messages. Each framing only reads and writes them.

mod form;
mod messages;
mod parse;
mod render;

/// Generated from `shared/proto`; the head of `user_service.proto` says how. No `Debug`, because the messages hold
/// passwords and codes (docs/design/security.md#rule-25).
mod proto {
    #[allow(clippy::pedantic, unreachable_pub, reason = "generated")]
    #[path = "google.rpc.rs"]
    #[rustfmt::skip]
    pub(super) mod rpc;

    #[allow(clippy::pedantic, unreachable_pub, reason = "generated")]
    #[path = "zitadel.user.v2.rs"]
    #[rustfmt::skip]
    pub(super) mod user;
}

use jiff::Timestamp;

use super::{
    Call, CrossOrigin, Dialect, HttpRequest, IDEMPOTENCY_KEY, Reply, bounded, incomplete, tenant_credential,
    time,
};
use crate::domain::Failure;
use form::WireFormat;
use parse::SetPassword;

/// ZITADEL v2 as JSON over HTTP.
pub(crate) static ZITADEL_JSON: Dialect = Dialect {
    name: "zitadel",
    cross_origin: CrossOrigin::Listed,
    is_audited: true,
    failure: |failure, request, now| self::failure(failure, Framing::Json, request, now),
};

/// ZITADEL v2 as gRPC-Web or Connect.
pub(crate) static ZITADEL_RPC: Dialect = Dialect {
    failure: |failure, request, now| self::failure(failure, Framing::Rpc, request, now),
    name: "zitadel",
    cross_origin: CrossOrigin::Listed,
    is_audited: true,
};

/// How a route frames its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// JSON over HTTP, ids in the path.
    Json,
    /// gRPC-Web or Connect; the content type tells which.
    Rpc,
}

/// Handles the call `PasswordReset`.
pub(crate) async fn password_reset(call: &Call<'_>, framing: Framing) -> Result<Reply, Failure> {
    let Call { service, context, request, .. } = *call;
    let form = WireFormat::of(framing, request).ok_or(Failure::UnsupportedMediaType)?;
    let command = parse::password_reset(request, form.read(request)?)?;
    let outcome = service.password_reset(command, context).await?;
    Ok(form.reply(&render::code_asked_for(&outcome)))
}

/// Handles the call `SetPassword`.
pub(crate) async fn set_password(call: &Call<'_>, framing: Framing) -> Result<Reply, Failure> {
    let Call { service, context, request, .. } = *call;
    let form = WireFormat::of(framing, request).ok_or(Failure::UnsupportedMediaType)?;
    let details = match parse::set_password(request, form.read(request)?)? {
        SetPassword::WithCode(command) => service.set_password(*command, context).await?,
        SetPassword::AsCaller(command) => service.update_credentials(*command, context).await?.details,
    };
    Ok(form.reply(&render::password_set(&details)))
}

/// Renders a failure in the framing of its request.
fn failure(failure: &Failure, framing: Framing, request: &HttpRequest, now: Timestamp) -> Reply {
    render::failure(failure, framing, WireFormat::of(framing, request), now)
}
