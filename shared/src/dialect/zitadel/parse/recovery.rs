//! Requests for reset codes, and new passwords.

use super::{
    super::{
        HttpRequest, IDEMPOTENCY_KEY, incomplete,
        messages::JsonEnum,
        proto::user::{
            NotificationType, PasswordResetRequest, SendPasswordResetLink, SetPasswordRequest,
            password_reset_request::Medium as Wanted, set_password_request::Verification,
        },
        tenant_credential,
    },
    Faults,
};
use crate::{
    domain::{Code, Denial, Failure, Medium},
    usecase::{
        password_reset::{self, CodeCaller, CodeDelivery},
        set_password, update_credentials,
    },
};

/// Field name of the new password in errors.
const NEW_PASSWORD: &str = "newPassword.password";

/// Name of the call on both of its routes.
const PASSWORD_RESET: &str = "zitadel.user.v2.UserService/PasswordReset";

pub(in crate::dialect::zitadel) fn password_reset(
    request: &HttpRequest,
    message: PasswordResetRequest,
) -> Result<password_reset::Command, Failure> {
    let mut faults = Faults::default();
    let user = faults.user(request, &message.user_id);
    let delivery = match message.medium {
        None => Some(CodeDelivery::Send { medium: Medium::Mail, link: None }),
        Some(Wanted::ReturnCode(_)) => Some(CodeDelivery::Return),
        Some(Wanted::SendLink(link)) => delivery(&mut faults, link),
    };
    let credentials = tenant_credentials(&mut faults, request);
    // Both routes share their idempotency keys, so that a client may switch its wire format.
    let idempotency = faults.check(IDEMPOTENCY_KEY, request.repeatable(PASSWORD_RESET)).flatten();
    faults.finish()?;
    let (Some(user), Some(delivery)) = (user, delivery) else {
        return Err(incomplete());
    };
    let caller = match credentials {
        // A tenant may start a recovery, but not receive the code.
        Some(_) if matches!(delivery, CodeDelivery::Return) => {
            return Err(Failure::Forbidden(Denial::TenantCredentials));
        }
        Some((key, secret)) => CodeCaller::Tenant { tenant: request.tenant(), key, secret },
        None => {
            let (tenant, token) = request.bearer_and_tenant()?;
            CodeCaller::Bearer { tenant, token: Box::new(token) }
        }
    };
    Ok(password_reset::Command { caller, user, delivery, ip: request.ip.clone(), idempotency })
}

/// Use case of a SetPassword call.
pub(in crate::dialect::zitadel) enum SetPassword {
    /// A code authorizes the change. A bearer that is sent names the tenant.
    WithCode(Box<set_password::Command>),
    /// The bearer authorizes the change: the user itself with the current password, or an administrator.
    AsCaller(Box<update_credentials::Command>),
}

pub(in crate::dialect::zitadel) fn set_password(
    request: &HttpRequest,
    message: SetPasswordRequest,
) -> Result<SetPassword, Failure> {
    let mut faults = Faults::default();
    let user = faults.user(request, &message.user_id);
    let (password, change_required) = if let Some(new) = message.new_password {
        (faults.password(NEW_PASSWORD, &new.password), new.change_required)
    } else {
        faults.add("newPassword", "is required");
        (None, false)
    };
    let (code, current_password) = match message.verification {
        Some(Verification::VerificationCode(code)) => {
            if request.header("X-Tenant-ID").is_none() && request.bearer().is_err() {
                faults
                    .add("X-Tenant-ID", "this header or an access token is required with a verificationCode");
            }
            (Some(faults.check("verificationCode", Code::parse(&code))), None)
        }
        Some(Verification::CurrentPassword(current)) => (None, faults.password("currentPassword", &current)),
        None => (None, None),
    };
    faults.finish()?;
    let (Some(user), Some(password)) = (user, password) else {
        return Err(incomplete());
    };
    let password = (password, NEW_PASSWORD);
    if let Some(code) = code {
        // Only an administrator may require a password change.
        if change_required {
            return Err(Failure::Forbidden(Denial::NoAdministrator));
        }
        let (tenant, bearer) = (request.tenant(), request.bearer().ok());
        if bearer.is_some() && tenant.is_none() && request.header("X-Tenant-ID").is_some() {
            return Err(Failure::TenantMismatch);
        }
        return Ok(SetPassword::WithCode(Box::new(set_password::Command {
            tenant,
            bearer,
            user,
            code: code.ok_or_else(incomplete)?,
            password,
            submission: None,
            ip: request.ip.clone(),
        })));
    }
    let without_proof = current_password.is_none();
    let (tenant, bearer) = request.bearer_and_tenant()?;
    Ok(SetPassword::AsCaller(Box::new(update_credentials::Command {
        tenant,
        bearer,
        user,
        changes: update_credentials::Changes {
            password: Some(password),
            current_password,
            username: None,
            // Protobuf does not tell `false` from absent: then the tenant's policy decides.
            change_required: change_required.then_some(true),
        },
        // Without a proof, only an administrator may set it, and only for another user.
        others_only: without_proof,
        ip: request.ip.clone(),
    })))
}

fn delivery(faults: &mut Faults, link: SendPasswordResetLink) -> Option<CodeDelivery> {
    let medium = match NotificationType::try_from(link.notification_type) {
        Ok(NotificationType::Unspecified | NotificationType::Email) => Some(Medium::Mail),
        Ok(NotificationType::Sms) => Some(Medium::Text),
        Err(_) => {
            faults.add("sendLink.notificationType", NotificationType::ALLOWED);
            None
        }
    };
    faults.template("sendLink.urlTemplate", link.url_template.as_deref());
    Some(CodeDelivery::Send { medium: medium?, link: link.url_template })
}

/// Credentials of the tenant, if the tenant is the caller.
fn tenant_credentials(
    faults: &mut Faults,
    request: &HttpRequest,
) -> Option<(secrecy::SecretString, secrecy::SecretString)> {
    let sent = ["X-Tenant-Key", "X-Tenant-Secret"].map(|name| (name, request.header(name)));
    if sent.iter().all(|(_, value)| value.is_none()) {
        return None;
    }
    if request.header("Authorization").is_some() {
        faults.add("Authorization", "must not be sent together with X-Tenant-Key and X-Tenant-Secret");
    }
    if request.header("X-Tenant-ID").is_none() {
        faults.add("X-Tenant-ID", "this header is required with X-Tenant-Key and X-Tenant-Secret");
    }
    let [key, secret] = sent.map(|(name, value)| {
        let Some(value) = value else {
            faults.add(name, "this header is required; send X-Tenant-Key and X-Tenant-Secret together");
            return None;
        };
        faults.check(name, tenant_credential(&value))
    });
    key.zip(secret)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::{
        dialect::{
            tests::{at, request},
            zitadel::proto::user,
        },
        domain::{Policy, TokenFault},
        route,
        token::{
            Claims,
            tests::{self as fixture, keys, session},
        },
    };

    const RESET: &str = "/v2/users/u/password_reset";
    const RESET_RPC: &str = "/zitadel.user.v2.UserService/PasswordReset";
    const SET: &str = "/v2/users/u/password";
    const TENANT: [(&str, &str); 3] = [("x-tenant-id", "t"), ("x-tenant-key", "k"), ("x-tenant-secret", "s")];

    fn fields<T>(result: Result<T, Failure>) -> Vec<String> {
        match result {
            Err(Failure::Validation(errors)) => {
                errors.into_iter().map(|error| error.field.into_owned()).collect()
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("accepted"),
        }
    }

    fn asked(
        path: &str,
        headers: &[(&str, &str)],
        user: &str,
        medium: Option<Wanted>,
    ) -> Result<password_reset::Command, Failure> {
        let message = PasswordResetRequest { user_id: user.to_owned(), medium };
        password_reset(&at(request(headers, b""), path, &route::RESET_LOGIN), message)
    }

    fn link(notification_type: i32, url_template: Option<&str>) -> Wanted {
        let url_template = url_template.map(str::to_owned);
        Wanted::SendLink(SendPasswordResetLink { notification_type, url_template })
    }

    #[test]
    fn the_user_is_the_paths_or_the_messages() {
        assert_eq!(asked(RESET, &TENANT, "", None).unwrap().user.as_str(), "u");
        assert_eq!(asked(RESET, &TENANT, "u", None).unwrap().user.as_str(), "u");
        assert_eq!(fields(asked(RESET, &TENANT, "other", None)), ["userId"]);
        assert_eq!(asked(RESET_RPC, &TENANT, "v", None).unwrap().user.as_str(), "v");
        assert_eq!(fields(asked(RESET_RPC, &TENANT, "", None)), ["userId"]);
        assert!(asked(RESET_RPC, &TENANT, &"\u{e9}".repeat(200), None).is_ok());
        assert_eq!(fields(asked(RESET_RPC, &TENANT, &"x".repeat(201), None)), ["userId"]);
    }

    #[test]
    fn what_becomes_of_a_code() {
        let delivery = |medium| asked(RESET, &TENANT, "", medium).unwrap().delivery;
        assert!(matches!(delivery(None), CodeDelivery::Send { medium: Medium::Mail, link: None }));
        for (number, medium) in [(0, Medium::Mail), (1, Medium::Mail), (2, Medium::Text)] {
            let sent = delivery(Some(link(number, Some("x"))));
            assert!(matches!(sent, CodeDelivery::Send { medium: it, link: Some(_) } if it == medium));
        }
        assert_eq!(fields(asked(RESET, &TENANT, "", Some(link(3, None)))), ["sendLink.notificationType"]);
        for template in ["", &"x".repeat(201)] {
            let refused = asked(RESET, &TENANT, "", Some(link(0, Some(template))));
            assert_eq!(fields(refused), ["sendLink.urlTemplate"]);
        }
    }

    #[test]
    fn who_asks() {
        let returned = || Some(Wanted::ReturnCode(user::ReturnPasswordResetCode {}));
        assert!(matches!(asked(RESET, &TENANT, "", None).unwrap().caller, CodeCaller::Tenant { .. }));
        assert!(matches!(asked(RESET, &TENANT, "", returned()), Err(Failure::Forbidden(_))));
        let nobody = asked(RESET, &TENANT[..1], "", returned());
        assert!(matches!(nobody, Err(Failure::InvalidToken(TokenFault::Missing))));
        assert_eq!(fields(asked(RESET, &TENANT[1..], "", None)), ["X-Tenant-ID"]);
        assert_eq!(fields(asked(RESET, &TENANT[..2], "", None)), ["X-Tenant-Secret"]);
        let both = [TENANT[0], TENANT[1], TENANT[2], ("authorization", "Bearer x")];
        assert_eq!(fields(asked(RESET, &both, "", None)), ["Authorization"]);
        // An id that no tenant can have is one that none has.
        let odd = [("x-tenant-id", "no tenant"), TENANT[1], TENANT[2]];
        assert!(matches!(
            asked(RESET, &odd, "", None).unwrap().caller,
            CodeCaller::Tenant { tenant: None, .. }
        ));
    }

    fn set(
        headers: &[(&str, &str)],
        password: Option<(&str, bool)>,
        verification: Option<Verification>,
    ) -> Result<SetPassword, Failure> {
        let new_password = password
            .map(|(text, change_required)| user::Password { password: text.to_owned(), change_required });
        let message = SetPasswordRequest { user_id: String::new(), new_password, verification };
        set_password(&at(request(headers, b""), SET, &route::UPDATE_CREDENTIALS), message)
    }

    #[test]
    fn a_code_needs_a_tenant_or_a_bearer() {
        let code = |text: &str| Some(Verification::VerificationCode(text.to_owned()));
        let new = Some(("p", false));
        let Ok(SetPassword::WithCode(command)) = set(&TENANT[..1], new, code("ABC")) else {
            panic!("refused")
        };
        assert_eq!(command.tenant.unwrap().as_str(), "t");
        let no_token = ("authorization", "Bearer no token");
        assert!(matches!(set(&[TENANT[0], no_token], new, code("ABC")), Ok(SetPassword::WithCode(_))));
        assert_eq!(fields(set(&[], new, code("ABC"))), ["X-Tenant-ID"]);
        assert_eq!(fields(set(&[no_token], new, code("ABC"))), ["X-Tenant-ID"]);
        let policy = Policy::default();
        let claims = Claims::new(&session(), &fixture::user(), &policy, fixture::at(0), &session().id);
        let token = claims.sign(&keys("t"), &policy).unwrap();
        let token = format!("Bearer {}", token.expose_secret());
        let bearer = ("authorization", token.as_str());
        let Ok(SetPassword::WithCode(command)) = set(&[bearer], new, code("ABC")) else { panic!("refused") };
        assert!(command.tenant.is_none() && command.bearer.is_some());
        let odd = set(&[bearer, ("x-tenant-id", "no tenant")], new, code("ABC"));
        assert!(matches!(odd, Err(Failure::TenantMismatch)));
        for text in ["", "ABCDEFGHJKLMNPQRSTUVW"] {
            assert_eq!(fields(set(&TENANT[..1], new, code(text))), ["verificationCode"]);
        }
        // Only an administrator says that a password must be changed.
        assert!(matches!(set(&TENANT[..1], Some(("p", true)), code("ABC")), Err(Failure::Forbidden(_))));
    }

    #[test]
    fn without_a_code_the_bearer_counts() {
        let current = |text: &str| Some(Verification::CurrentPassword(text.to_owned()));
        for verification in [None, current("old")] {
            let nobody = set(&TENANT, Some(("p", true)), verification);
            assert!(matches!(nobody, Err(Failure::InvalidToken(TokenFault::Missing))));
        }
        assert_eq!(fields(set(&TENANT, None, None)), ["newPassword"]);
        assert_eq!(fields(set(&TENANT, Some(("", false)), current(""))), [NEW_PASSWORD, "currentPassword"]);
        assert_eq!(fields(set(&TENANT, Some((&"x".repeat(257), false)), None)), [NEW_PASSWORD]);
    }
}
