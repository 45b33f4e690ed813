//! Parses messages of all wire formats into commands. A rejected request lists all faults of its message and headers,
//! so that a client can fix them at once.

mod changes;
mod list;
mod recovery;
mod users;

pub(super) use changes::{
    deactivate_user, delete_user, lock_user, reactivate_user, read_user, remove_phone, resend_email_code,
    send_email_code, set_email, set_phone, unlock_user, update_human_user, update_user, verify_email,
    verify_phone,
};
pub(super) use list::list_users;
pub(super) use recovery::{SetPassword, password_reset, set_password};
pub(super) use users::{add_human_user, create_user};

use std::borrow::Cow;

use super::{HttpRequest, bounded};
use crate::{
    domain::{Failure, FieldError, Invalid, LinkTemplate, Password, UserId},
    usecase::SentToken,
};

/// The faults found so far.
#[derive(Default)]
struct Faults(Vec<FieldError>);

impl Faults {
    fn add(&mut self, field: impl Into<Cow<'static, str>>, message: &'static str) {
        self.0.push(FieldError::new(field, message));
    }

    fn check<T>(&mut self, field: impl Into<Cow<'static, str>>, parsed: Result<T, Invalid>) -> Option<T> {
        parsed.map_err(|why| self.0.push(FieldError::new(field, why.to_string()))).ok()
    }

    /// User in the path, or in the message if the path has none.
    fn user(&mut self, request: &HttpRequest, sent: &str) -> Option<UserId> {
        let path = request.matched.parameter("userId");
        if path.is_some_and(|path| !sent.is_empty() && sent != path) {
            self.add("userId", "must equal the user ID in the path");
        }
        self.check("userId", UserId::parse(path.unwrap_or(sent)))
    }

    fn password(&mut self, field: impl Into<Cow<'static, str>>, text: &str) -> Option<Password> {
        self.check(field, Password::parse(text))
    }

    /// Checks the length of a link template. Its hosts are checked when the tenant is known.
    fn template(&mut self, field: impl Into<Cow<'static, str>>, template: Option<&str>) {
        if let Some(template) = template {
            let template = bounded(template, LinkTemplate::MAX_CHARS, "must be 1 to 200 characters");
            self.check(field, template);
        }
    }

    fn finish(self) -> Result<(), Failure> {
        if self.0.is_empty() { Ok(()) } else { Err(Failure::Validation(self.0)) }
    }
}

/// The bearer of a request, with the tenant that the request names.
///
/// # Errors
/// `InvalidToken`; `TenantMismatch`.
fn sent_token(request: &HttpRequest) -> Result<SentToken, Failure> {
    let (tenant, token) = request.bearer_and_tenant()?;
    Ok(SentToken { tenant, token, ip: request.ip.clone() })
}
