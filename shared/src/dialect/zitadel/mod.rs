//! ZITADEL v2: users, password reset and set password (docs/design/contract.md#zitadel-v2).
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

    #[allow(clippy::all, clippy::pedantic, unreachable_pub, reason = "generated")]
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
use proto::user;

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

/// Defines handlers of calls. Each reads its message, parses it into a command, calls the use case and renders its
/// outcome.
macro_rules! calls {
    ($($(#[$doc:meta])* $call:ident($message:ident): $parse:path, $use_case:ident, $render:path;)*) => {$(
        $(#[$doc])*
        pub(crate) async fn $call(call: &Call<'_>, framing: Framing) -> Result<Reply, Failure> {
            let Call { service, context, request, .. } = *call;
            let form = WireFormat::of(framing, request).ok_or(Failure::UnsupportedMediaType)?;
            let message: user::$message = form.read(request)?;
            let command = $parse(request, message)?;
            let outcome = service.$use_case(command, context).await?;
            Ok(form.reply(&$render(outcome)))
        }
    )*};
}

calls! {
    /// Handles the call `PasswordReset`.
    password_reset(PasswordResetRequest): parse::password_reset, password_reset, render::code_asked_for;
    /// Handles the call `CreateUser`.
    create_user(CreateUserRequest): parse::create_user, create_user, render::user_created;
    /// Handles the call `AddHumanUser`.
    add_human_user(AddHumanUserRequest): parse::add_human_user, create_user, render::human_user_added;
    /// Handles the call `GetUserByID`.
    read_user(GetUserByIdRequest): parse::read_user, read_user, render::user_read;
    /// Handles the call `ListUsers`.
    list_users(ListUsersRequest): parse::list_users, find_users, render::users_listed;
    /// Handles the call `UpdateUser`.
    update_user(UpdateUserRequest): parse::update_user, update_user, render::user_updated;
    /// Handles the call `UpdateHumanUser`.
    update_human_user(UpdateHumanUserRequest):
        parse::update_human_user, update_user, render::human_user_updated;
    /// Handles the call `SetEmail`.
    set_email(SetEmailRequest): parse::set_email, update_user, render::email_set;
    /// Handles the call `SendEmailCode`.
    send_email_code(SendEmailCodeRequest): parse::send_email_code, send_email_code, render::email_code_sent;
    /// Handles the call `ResendEmailCode`.
    resend_email_code(ResendEmailCodeRequest):
        parse::resend_email_code, send_email_code, render::email_code_resent;
    /// Handles the call `VerifyEmail`.
    verify_email(VerifyEmailRequest): parse::verify_email, verify_address, render::email_verified;
    /// Handles the call `SetPhone`.
    set_phone(SetPhoneRequest): parse::set_phone, update_user, render::phone_set;
    /// Handles the call `RemovePhone`.
    remove_phone(RemovePhoneRequest): parse::remove_phone, update_user, render::phone_removed;
    /// Handles the call `VerifyPhone`.
    verify_phone(VerifyPhoneRequest): parse::verify_phone, verify_address, render::phone_verified;
    /// Handles the call `DeactivateUser`.
    deactivate_user(DeactivateUserRequest): parse::deactivate_user, change_status, render::user_deactivated;
    /// Handles the call `ReactivateUser`.
    reactivate_user(ReactivateUserRequest): parse::reactivate_user, change_status, render::user_reactivated;
    /// Handles the call `LockUser`.
    lock_user(LockUserRequest): parse::lock_user, change_status, render::user_locked;
    /// Handles the call `UnlockUser`.
    unlock_user(UnlockUserRequest): parse::unlock_user, change_status, render::user_unlocked;
    /// Handles the call `DeleteUser`.
    delete_user(DeleteUserRequest): parse::delete_user, change_status, render::user_deleted;
}

/// Handles the call `SetPassword`, which has two use cases.
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
