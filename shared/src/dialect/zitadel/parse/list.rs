//! Lists of users.

use super::{
    super::{
        HttpRequest, incomplete,
        messages::JsonEnum,
        proto::user::{
            EmailQuery, InUserIdQuery, ListQuery, ListUsersRequest, LoginNameQuery, OrganizationIdQuery,
            SearchQuery, StateQuery, TextQueryMethod, UserFieldName, UserNameQuery, UserState,
            search_query::Query,
        },
    },
    Faults, sent_token,
};
use crate::{
    domain::{Failure, OrganizationId, UserId, UserStatus, Username, mail_address},
    usecase::find_users::{self, Condition, MAX_LIMIT, MAX_OFFSET},
};

/// Maximum number of conditions of one request.
const MAX_QUERIES: usize = 20;
/// Maximum number of IDs in one condition.
const MAX_IDS: usize = 100;

/// Parses `ListUsers`.
pub(in crate::dialect::zitadel) fn list_users(
    request: &HttpRequest,
    message: ListUsersRequest,
) -> Result<find_users::Command, Failure> {
    let ListUsersRequest { query, sorting_column, queries } = message;
    let mut faults = Faults::default();
    let ListQuery { offset, limit, .. } = query.unwrap_or_default();
    if UserFieldName::try_from(sorting_column) != Ok(UserFieldName::Unspecified) {
        faults.add("sortingColumn", "is not supported; omit it, and sort the users yourself");
    }
    let offset = usize::try_from(offset).ok().filter(|offset| *offset <= MAX_OFFSET);
    if offset.is_none() {
        faults.add("query.offset", "must be at most 10000");
    }
    let limit = match usize::try_from(limit) {
        Ok(0) => Some(MAX_LIMIT),
        Ok(limit @ ..=MAX_LIMIT) => Some(limit),
        _ => {
            faults.add("query.limit", "must be at most 100");
            None
        }
    };
    if queries.len() > MAX_QUERIES {
        faults.add("queries", "must have at most 20 members");
    }
    let conditions: Vec<_> = queries
        .into_iter()
        .take(MAX_QUERIES)
        .enumerate()
        .filter_map(|(index, query)| faults.condition(&format!("queries[{index}]"), query))
        .collect();
    faults.finish()?;
    let (Some(offset), Some(limit)) = (offset, limit) else {
        return Err(incomplete());
    };
    Ok(find_users::Command { by: sent_token(request)?, conditions, offset, limit })
}

impl Faults {
    fn condition(&mut self, at: &str, SearchQuery { query }: SearchQuery) -> Option<Condition> {
        let unsupported = |name: &str| format!("{at}.{name}");
        let unsupported = match query {
            None => {
                self.add(at.to_owned(), "must have one query");
                return None;
            }
            Some(Query::UserNameQuery(UserNameQuery { user_name, method })) => {
                return self.username(&format!("{at}.userNameQuery"), "userName", &user_name, method);
            }
            Some(Query::LoginNameQuery(LoginNameQuery { login_name, method })) => {
                return self.username(&format!("{at}.loginNameQuery"), "loginName", &login_name, method);
            }
            Some(Query::EmailQuery(EmailQuery { email_address, method })) => {
                let at = format!("{at}.emailQuery");
                self.method(&at, method);
                let address = self.check(format!("{at}.emailAddress"), mail_address(&email_address));
                return address.map(Condition::Email);
            }
            Some(Query::InUserIdsQuery(InUserIdQuery { user_ids })) => {
                return self.user_ids(format!("{at}.inUserIdsQuery.userIds"), &user_ids);
            }
            Some(Query::OrganizationIdQuery(OrganizationIdQuery { organization_id })) => {
                let field = format!("{at}.organizationIdQuery.organizationId");
                let organization = self.check(field, OrganizationId::parse(&organization_id));
                return organization.map(Condition::Organization);
            }
            Some(Query::StateQuery(StateQuery { state })) => {
                return self.state(format!("{at}.stateQuery.state"), state);
            }
            Some(Query::FirstNameQuery(_)) => unsupported("firstNameQuery"),
            Some(Query::LastNameQuery(_)) => unsupported("lastNameQuery"),
            Some(Query::NickNameQuery(_)) => unsupported("nickNameQuery"),
            Some(Query::DisplayNameQuery(_)) => unsupported("displayNameQuery"),
            Some(Query::TypeQuery(_)) => unsupported("typeQuery"),
            Some(Query::OrQuery(_)) => unsupported("orQuery"),
            Some(Query::AndQuery(_)) => unsupported("andQuery"),
            Some(Query::NotQuery(_)) => unsupported("notQuery"),
            Some(Query::InUserEmailsQuery(_)) => unsupported("inUserEmailsQuery"),
            Some(Query::PhoneQuery(_)) => unsupported("phoneQuery"),
        };
        self.add(
            unsupported,
            "is not supported; use userNameQuery, loginNameQuery, emailQuery, inUserIdsQuery, \
             organizationIdQuery or stateQuery",
        );
        None
    }

    fn username(&mut self, at: &str, member: &str, name: &str, method: i32) -> Option<Condition> {
        self.method(at, method);
        self.check(format!("{at}.{member}"), Username::parse(name)).map(Condition::Username)
    }

    /// Checks that a text is compared as a whole. Doorward ignores case in both comparisons.
    fn method(&mut self, at: &str, method: i32) {
        let method = TextQueryMethod::try_from(method);
        if !matches!(method, Ok(TextQueryMethod::Equals | TextQueryMethod::EqualsIgnoreCase)) {
            let allowed = "must be TEXT_QUERY_METHOD_EQUALS or TEXT_QUERY_METHOD_EQUALS_IGNORE_CASE";
            self.add(format!("{at}.method"), allowed);
        }
    }

    fn user_ids(&mut self, field: String, ids: &[String]) -> Option<Condition> {
        if !(1..=MAX_IDS).contains(&ids.len()) {
            self.add(field, "must have 1 to 100 members");
            return None;
        }
        let parsed: Result<_, _> = ids.iter().map(|id| UserId::parse(id)).collect();
        self.check(field, parsed).map(Condition::Ids)
    }

    fn state(&mut self, field: String, state: i32) -> Option<Condition> {
        let status = match UserState::try_from(state) {
            Ok(UserState::Active) => UserStatus::Active,
            Ok(UserState::Inactive) => UserStatus::Disabled,
            Ok(UserState::Locked) => UserStatus::Locked,
            Ok(UserState::Deleted | UserState::Initial | UserState::Unspecified) => {
                self.add(field, "must be USER_STATE_ACTIVE, USER_STATE_INACTIVE or USER_STATE_LOCKED");
                return None;
            }
            Err(_) => {
                self.add(field, UserState::ALLOWED);
                return None;
            }
        };
        Some(Condition::Status(status))
    }
}
