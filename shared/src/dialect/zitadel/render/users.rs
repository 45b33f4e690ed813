//! Renders users.

#![allow(
    clippy::needless_pass_by_value,
    reason = "each call passes its message and its outcome in the same way"
)]

use super::{
    super::{
        messages::to_proto_time,
        proto::user::{
            AddHumanUserResponse, CreateUserResponse, DeactivateUserResponse, DeleteUserResponse,
            Gender as SentGender, GetUserByIdResponse, HumanEmail, HumanPhone, HumanProfile, HumanUser,
            ListDetails, ListUsersResponse, LockUserResponse, ReactivateUserResponse, RemovePhoneResponse,
            ResendEmailCodeResponse, SendEmailCodeResponse, SetEmailResponse, SetPhoneResponse,
            UnlockUserResponse, UpdateHumanUserResponse, UpdateUserResponse, User as SentUser, UserState,
            VerifyEmailResponse, VerifyPhoneResponse, user,
        },
    },
    details,
};
use crate::{
    domain::{Code, Gender, User, UserDetails, UserStatus},
    usecase::{create_user, find_users, update_user, user_contact::IssuedCode},
};

fn exposed(code: Option<Code>) -> Option<String> {
    code.map(|code| code.expose().to_owned())
}

pub(in crate::dialect::zitadel) fn user_created(outcome: create_user::Outcome) -> CreateUserResponse {
    CreateUserResponse {
        id: outcome.user.to_string(),
        creation_date: Some(to_proto_time(outcome.details.created_at)),
        email_code: exposed(outcome.email_code),
        phone_code: exposed(outcome.phone_code),
    }
}

pub(in crate::dialect::zitadel) fn human_user_added(outcome: create_user::Outcome) -> AddHumanUserResponse {
    AddHumanUserResponse {
        user_id: outcome.user.to_string(),
        details: Some(details(&outcome.details)),
        email_code: exposed(outcome.email_code),
        phone_code: exposed(outcome.phone_code),
    }
}

pub(in crate::dialect::zitadel) fn user_read(found: User) -> GetUserByIdResponse {
    let found = sent_user(found);
    GetUserByIdResponse { details: found.details.clone(), user: Some(found) }
}

pub(in crate::dialect::zitadel) fn users_listed(outcome: find_users::Outcome) -> ListUsersResponse {
    let find_users::Outcome { users, total, found_at } = outcome;
    ListUsersResponse {
        details: Some(ListDetails {
            total_result: u64::try_from(total).unwrap_or(u64::MAX),
            timestamp: Some(to_proto_time(found_at)),
        }),
        sorting_column: 0,
        result: users.into_iter().map(sent_user).collect(),
    }
}

/// A user as clients see it. Users log in with their username.
fn sent_user(found: User) -> SentUser {
    let details = details(&UserDetails::of(&found));
    let (user_id, username) = (found.id.to_string(), found.username.as_written().to_owned());
    let state = UserState::from(found.status).into();
    let email = found
        .any_email()
        .map(|address| HumanEmail { email: address.to_owned(), is_verified: found.email.is_some() });
    let phone = found
        .any_phone()
        .map(|number| HumanPhone { phone: number.to_owned(), is_verified: found.phone.is_some() });
    let profile = found.profile;
    let human = HumanUser {
        user_id: user_id.clone(),
        state,
        username: username.clone(),
        login_names: vec![username.clone()],
        preferred_login_name: username.clone(),
        profile: Some(HumanProfile {
            given_name: profile.given_name.unwrap_or_default(),
            family_name: profile.family_name.unwrap_or_default(),
            nick_name: profile.nick_name,
            display_name: profile.display_name,
            preferred_language: found.locale,
            gender: profile.gender.map(|gender| SentGender::from(gender).into()),
        }),
        email,
        phone,
        password_change_required: found.change_required,
    };
    SentUser {
        user_id,
        details: Some(details),
        state,
        login_names: vec![username.clone()],
        preferred_login_name: username.clone(),
        username,
        kind: Some(user::Kind::Human(human)),
    }
}

impl From<UserStatus> for UserState {
    fn from(status: UserStatus) -> Self {
        match status {
            UserStatus::Active => Self::Active,
            UserStatus::Disabled => Self::Inactive,
            UserStatus::Locked => Self::Locked,
        }
    }
}

impl From<Gender> for SentGender {
    fn from(gender: Gender) -> Self {
        match gender {
            Gender::Female => Self::Female,
            Gender::Male => Self::Male,
            Gender::Diverse => Self::Diverse,
        }
    }
}

pub(in crate::dialect::zitadel) fn user_updated(outcome: update_user::Outcome) -> UpdateUserResponse {
    UpdateUserResponse {
        change_date: Some(to_proto_time(outcome.details.changed_at)),
        email_code: exposed(outcome.email_code),
        phone_code: exposed(outcome.phone_code),
    }
}

pub(in crate::dialect::zitadel) fn human_user_updated(
    outcome: update_user::Outcome,
) -> UpdateHumanUserResponse {
    UpdateHumanUserResponse {
        details: Some(details(&outcome.details)),
        email_code: exposed(outcome.email_code),
        phone_code: exposed(outcome.phone_code),
    }
}

pub(in crate::dialect::zitadel) fn email_set(outcome: update_user::Outcome) -> SetEmailResponse {
    SetEmailResponse {
        details: Some(details(&outcome.details)),
        verification_code: exposed(outcome.email_code),
    }
}

pub(in crate::dialect::zitadel) fn phone_set(outcome: update_user::Outcome) -> SetPhoneResponse {
    SetPhoneResponse {
        details: Some(details(&outcome.details)),
        verification_code: exposed(outcome.phone_code),
    }
}

pub(in crate::dialect::zitadel) fn phone_removed(outcome: update_user::Outcome) -> RemovePhoneResponse {
    RemovePhoneResponse { details: Some(details(&outcome.details)) }
}

pub(in crate::dialect::zitadel) fn email_code_sent(outcome: IssuedCode) -> SendEmailCodeResponse {
    SendEmailCodeResponse {
        details: Some(details(&outcome.details)),
        verification_code: exposed(outcome.code),
    }
}

pub(in crate::dialect::zitadel) fn email_code_resent(outcome: IssuedCode) -> ResendEmailCodeResponse {
    ResendEmailCodeResponse {
        details: Some(details(&outcome.details)),
        verification_code: exposed(outcome.code),
    }
}

/// Responses that consist of the details of the user.
macro_rules! only_details {
    ($($render:ident: $response:ident;)*) => {$(
        pub(in crate::dialect::zitadel) fn $render(user: UserDetails) -> $response {
            $response { details: Some(details(&user)) }
        }
    )*};
}

only_details! {
    email_verified: VerifyEmailResponse;
    phone_verified: VerifyPhoneResponse;
    user_deactivated: DeactivateUserResponse;
    user_reactivated: ReactivateUserResponse;
    user_locked: LockUserResponse;
    user_unlocked: UnlockUserResponse;
    user_deleted: DeleteUserResponse;
}
