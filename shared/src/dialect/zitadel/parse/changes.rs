//! Changes of users: name, profile, addresses and status.

#![allow(
    clippy::needless_pass_by_value,
    reason = "each call passes its message and its outcome in the same way"
)]

use super::{
    super::{
        HttpRequest, incomplete,
        proto::user::{
            DeactivateUserRequest, DeleteUserRequest, GetUserByIdRequest, LockUserRequest,
            ReactivateUserRequest, RemovePhoneRequest, ResendEmailCodeRequest, SendEmailCodeRequest,
            SendEmailVerificationCode, SetEmailRequest, SetHumanEmail, SetHumanPhone, SetHumanProfile,
            SetPhoneRequest, UnlockUserRequest, UpdateHumanUserRequest, UpdateUserRequest,
            VerifyEmailRequest, VerifyPhoneRequest, resend_email_code_request, send_email_code_request,
            set_email_request, set_human_email, set_human_phone, set_phone_request, update_user_request,
        },
    },
    Faults, sent_token,
};
use crate::{
    domain::{Code, CodePurpose, Failure, UserId, Username, language, profile_text},
    usecase::{
        UserRequest,
        support::address::AddressProof,
        update_user::{self, ProfileChanges, UserChanges},
        user_contact::{CodeRequest, Proof},
        user_status::StatusChange,
    },
};

/// Parses a request that names a user and contains nothing else.
fn of_user(request: &HttpRequest, user_id: &str) -> Result<UserRequest, Failure> {
    let mut faults = Faults::default();
    let user = faults.user(request, user_id);
    faults.finish()?;
    let user = user.ok_or_else(incomplete)?;
    Ok(UserRequest { by: sent_token(request)?, user })
}

pub(in crate::dialect::zitadel) fn read_user(
    request: &HttpRequest,
    message: GetUserByIdRequest,
) -> Result<UserRequest, Failure> {
    of_user(request, &message.user_id)
}

/// Parsers of changes of the status.
macro_rules! status_changes {
    ($($parse:ident($message:ident): $change:ident;)*) => {$(
        pub(in crate::dialect::zitadel) fn $parse(
            request: &HttpRequest,
            message: $message,
        ) -> Result<(UserRequest, StatusChange), Failure> {
            Ok((of_user(request, &message.user_id)?, StatusChange::$change))
        }
    )*};
}

status_changes! {
    deactivate_user(DeactivateUserRequest): Deactivate;
    reactivate_user(ReactivateUserRequest): Reactivate;
    lock_user(LockUserRequest): Lock;
    unlock_user(UnlockUserRequest): Unlock;
    delete_user(DeleteUserRequest): Delete;
}

fn change(
    request: &HttpRequest,
    user_id: &str,
    read: impl FnOnce(&mut Faults) -> UserChanges,
) -> Result<update_user::Command, Failure> {
    let mut faults = Faults::default();
    let user = faults.user(request, user_id);
    let changes = read(&mut faults);
    faults.finish()?;
    let user: UserId = user.ok_or_else(incomplete)?;
    Ok(update_user::Command { by: sent_token(request)?, user, changes })
}

pub(in crate::dialect::zitadel) fn update_user(
    request: &HttpRequest,
    message: UpdateUserRequest,
) -> Result<update_user::Command, Failure> {
    use update_user_request::UserType;
    let UpdateUserRequest { user_id, username, user_type } = message;
    change(request, &user_id, |faults| {
        let username = username.and_then(|name| faults.check("username", Username::parse_new(&name)));
        let human = match user_type {
            Some(UserType::Human(human)) => human,
            None => update_user_request::Human::default(),
            Some(UserType::Machine(_)) => {
                faults.add("machine", "is not supported; Doorward has human users only");
                update_user_request::Human::default()
            }
        };
        let update_user_request::Human { profile, email, phone, password } = human;
        if password.is_some() {
            faults.add("human.password", SET_PASSWORD);
        }
        let profile = profile.unwrap_or_default();
        let update_user_request::human::Profile {
            given_name,
            family_name,
            nick_name,
            display_name,
            preferred_language,
            gender,
        } = profile;
        let texts = [
            ("givenName", given_name),
            ("familyName", family_name),
            ("nickName", nick_name),
            ("displayName", display_name),
        ];
        let [given_name, family_name, nick_name, display_name] = texts.map(|(name, text)| {
            text.map(|text| faults.optional_text(format!("human.profile.{name}"), &text, profile_text))
        });
        UserChanges {
            username,
            profile: ProfileChanges {
                given_name,
                family_name,
                nick_name,
                display_name,
                gender: gender.map(|gender| faults.gender("human.profile.gender", Some(gender))),
                locale: preferred_language.map(|text| {
                    faults.optional_text("human.profile.preferredLanguage".to_owned(), &text, language)
                }),
            },
            email: email.and_then(|email| faults.email("human.email.", email)),
            phone: phone.and_then(|phone| faults.phone("human.phone.", phone)),
            removes_phone: false,
        }
    })
}

/// Description of the error for a password in another call.
const SET_PASSWORD: &str = "is not supported here; call SetPassword";

pub(in crate::dialect::zitadel) fn update_human_user(
    request: &HttpRequest,
    message: UpdateHumanUserRequest,
) -> Result<update_user::Command, Failure> {
    let UpdateHumanUserRequest { user_id, username, profile, email, phone, password } = message;
    change(request, &user_id, |faults| {
        if password.is_some() {
            faults.add("password", SET_PASSWORD);
        }
        UserChanges {
            username: username.and_then(|name| faults.check("username", Username::parse_new(&name))),
            profile: profile.map(|profile| faults.whole_profile(profile)).unwrap_or_default(),
            email: email.and_then(|email| faults.email("email.", email)),
            phone: phone.and_then(|phone| faults.phone("phone.", phone)),
            removes_phone: false,
        }
    })
}

pub(in crate::dialect::zitadel) fn set_email(
    request: &HttpRequest,
    message: SetEmailRequest,
) -> Result<update_user::Command, Failure> {
    use set_email_request::Verification;
    let SetEmailRequest { user_id, email, verification } = message;
    let verification = verification.map(|verification| match verification {
        Verification::SendCode(link) => set_human_email::Verification::SendCode(link),
        Verification::ReturnCode(empty) => set_human_email::Verification::ReturnCode(empty),
        Verification::IsVerified(is_verified) => set_human_email::Verification::IsVerified(is_verified),
    });
    let email = SetHumanEmail { email, verification };
    change(request, &user_id, |faults| UserChanges {
        email: faults.email("", email),
        ..UserChanges::default()
    })
}

pub(in crate::dialect::zitadel) fn set_phone(
    request: &HttpRequest,
    message: SetPhoneRequest,
) -> Result<update_user::Command, Failure> {
    use set_phone_request::Verification;
    let SetPhoneRequest { user_id, phone, verification } = message;
    let verification = verification.map(|verification| match verification {
        Verification::SendCode(empty) => set_human_phone::Verification::SendCode(empty),
        Verification::ReturnCode(empty) => set_human_phone::Verification::ReturnCode(empty),
        Verification::IsVerified(is_verified) => set_human_phone::Verification::IsVerified(is_verified),
    });
    let phone = SetHumanPhone { phone, verification };
    change(request, &user_id, |faults| UserChanges {
        phone: faults.phone("", phone),
        ..UserChanges::default()
    })
}

pub(in crate::dialect::zitadel) fn remove_phone(
    request: &HttpRequest,
    message: RemovePhoneRequest,
) -> Result<update_user::Command, Failure> {
    change(request, &message.user_id, |_| UserChanges { removes_phone: true, ..UserChanges::default() })
}

fn code_request(
    request: &HttpRequest,
    user_id: &str,
    sent: Option<SendEmailVerificationCode>,
    is_returned: bool,
) -> Result<CodeRequest, Failure> {
    let mut faults = Faults::default();
    let user = faults.user(request, user_id);
    let link = sent.and_then(|sent| sent.url_template);
    faults.template("sendCode.urlTemplate", link.as_deref());
    faults.finish()?;
    let user = user.ok_or_else(incomplete)?;
    let proof = if is_returned { AddressProof::ReturnCode } else { AddressProof::SendCode { link } };
    Ok(CodeRequest { by: sent_token(request)?, user, proof })
}

pub(in crate::dialect::zitadel) fn send_email_code(
    request: &HttpRequest,
    message: SendEmailCodeRequest,
) -> Result<CodeRequest, Failure> {
    use send_email_code_request::Verification;
    let (sent, is_returned) = match message.verification {
        Some(Verification::SendCode(sent)) => (Some(sent), false),
        Some(Verification::ReturnCode(_)) => (None, true),
        None => (None, false),
    };
    code_request(request, &message.user_id, sent, is_returned)
}

pub(in crate::dialect::zitadel) fn resend_email_code(
    request: &HttpRequest,
    message: ResendEmailCodeRequest,
) -> Result<CodeRequest, Failure> {
    use resend_email_code_request::Verification;
    let (sent, is_returned) = match message.verification {
        Some(Verification::SendCode(sent)) => (Some(sent), false),
        Some(Verification::ReturnCode(_)) => (None, true),
        None => (None, false),
    };
    code_request(request, &message.user_id, sent, is_returned)
}

fn proof(request: &HttpRequest, user_id: &str, code: &str, purpose: CodePurpose) -> Result<Proof, Failure> {
    let mut faults = Faults::default();
    let user = faults.user(request, user_id);
    let code = faults.check("verificationCode", Code::parse(code));
    faults.finish()?;
    let (Some(user), Some(code)) = (user, code) else {
        return Err(incomplete());
    };
    Ok(Proof { by: sent_token(request)?, user, purpose, code })
}

pub(in crate::dialect::zitadel) fn verify_email(
    request: &HttpRequest,
    message: VerifyEmailRequest,
) -> Result<Proof, Failure> {
    proof(request, &message.user_id, &message.verification_code, CodePurpose::Email)
}

pub(in crate::dialect::zitadel) fn verify_phone(
    request: &HttpRequest,
    message: VerifyPhoneRequest,
) -> Result<Proof, Failure> {
    proof(request, &message.user_id, &message.verification_code, CodePurpose::Phone)
}

impl Faults {
    /// Reads a profile that replaces the present one.
    fn whole_profile(&mut self, sent: SetHumanProfile) -> ProfileChanges {
        let (profile, locale) = self.profile("profile.", sent);
        ProfileChanges {
            given_name: Some(profile.given_name),
            family_name: Some(profile.family_name),
            nick_name: Some(profile.nick_name),
            display_name: Some(profile.display_name),
            gender: Some(profile.gender),
            locale: Some(locale),
        }
    }
}
