//! Lists of users (docs/design/contract.md#users).

use jiff::Timestamp;

use super::{SentToken, Service};
use crate::{
    context::RequestContext,
    domain::{
        ClientScope, Collection, Failure, OrganizationId, TenantId, User, UserId, UserStatus, Username,
        folded,
    },
    store::{ExtraItem, UsersOf},
};

/// Maximum number of users in one response.
pub const MAX_LIMIT: usize = 100;
/// Maximum number of users that a request skips.
pub const MAX_OFFSET: usize = 10_000;

/// Maximum number of pages of the index that a request reads.
const MAX_PAGES: usize = 110;

/// A request for a list of users.
#[derive(Debug)]
pub struct Command {
    /// Caller.
    pub by: SentToken,
    /// Conditions, all of which each user meets.
    pub conditions: Vec<Condition>,
    /// Number of users to skip: at most [`MAX_OFFSET`].
    pub offset: usize,
    /// Maximum number of users: 1 to [`MAX_LIMIT`].
    pub limit: usize,
}

/// A condition of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The username is equal, ignoring case.
    Username(Username),
    /// The mail address is equal, ignoring case, verified or not.
    Email(String),
    /// The ID is one of these: at most [`MAX_LIMIT`].
    Ids(Vec<UserId>),
    /// The owning organization.
    Organization(OrganizationId),
    /// The status.
    Status(UserStatus),
}

impl Condition {
    fn is_met_by(&self, user: &User) -> bool {
        match self {
            Self::Username(name) => user.username.accepts(name),
            Self::Email(address) => user.any_email().is_some_and(|own| folded(own) == folded(address)),
            Self::Ids(ids) => ids.contains(&user.id),
            Self::Organization(organization) => user.organization == *organization,
            Self::Status(status) => user.status == *status,
        }
    }

    /// Rank of a condition that selects few users: the lowest one selects the fewest.
    fn selectivity(&self) -> Option<u8> {
        match self {
            Self::Username(_) => Some(0),
            Self::Ids(_) => Some(1),
            Self::Email(_) => Some(2),
            Self::Organization(_) | Self::Status(_) => None,
        }
    }
}

/// A page of users, in the order of their organizations and IDs. Users with a given name, address or ID are in the order
/// of their IDs.
#[derive(Debug)]
pub struct Outcome {
    /// The users.
    pub users: Vec<User>,
    /// Number of users up to the end of the page, and one more if there are further users.
    pub total: usize,
    /// Time of the request.
    pub found_at: Timestamp,
}

impl Service {
    /// Lists users. A search by ID, name or address reads the items of these users. Another list reads the index of
    /// users, and then the users that it names, because the index never decides. A list by status reads the users that it
    /// skips too, because the index does not contain the status.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `Forbidden`, `TenantSuspended`, `IpNotAllowed`, `Validation` (of a list by status
    /// that is too long), `Unavailable`.
    pub async fn find_users(&self, command: Command, context: &RequestContext) -> Result<Outcome, Failure> {
        let Command { by, mut conditions, offset, limit } = command;
        let (request, token) = self.verify_token(context, &by.tenant, &by.token, &by.ip).await?;
        token.admit_to(Collection::Admin)?;
        let caller = self.authenticate(&request, &token, None, ExtraItem::None).await?;
        let own = caller.authority(ClientScope::UsersRead)?;
        if let Some(own) = own {
            let is_other =
                |condition: &Condition| matches!(condition, Condition::Organization(named) if named != own);
            if conditions.iter().any(is_other) {
                // Not even the number of its users is visible.
                return Ok(Outcome { users: Vec::new(), total: 0, found_at: context.now });
            }
            conditions.push(Condition::Organization(own.clone()));
        }
        let is_listed = |user: &User| {
            caller.may_administer(user) && conditions.iter().all(|condition| condition.is_met_by(user))
        };
        let (mut found, skip, are_more) = match self.few(&by.tenant, &conditions).await? {
            Some(mut users) => {
                users.sort_by(|one, other| one.id.cmp(&other.id));
                (users, offset, false)
            }
            None if conditions.iter().any(|condition| matches!(condition, Condition::Status(_))) => {
                let (users, are_more) =
                    self.listed(&by.tenant, &conditions, offset + limit, &is_listed).await?;
                (users, offset, are_more)
            }
            None => {
                let of = UsersOf { tenant: &by.tenant, organization: organization(&conditions) };
                let page = self.store.users_from(&of, offset, limit).await?;
                (page.users, 0, page.next.is_some())
            }
        };
        found.retain(is_listed);
        let is_longer = found.len() > skip + limit;
        let users: Vec<_> = found.into_iter().skip(skip).take(limit).collect();
        let total = offset + users.len() + usize::from(are_more || is_longer);
        Ok(Outcome { users, total, found_at: context.now })
    }

    /// Reads the users that a condition on ID, name or address selects. Returns `None` if there is no such condition.
    async fn few(&self, tenant: &TenantId, conditions: &[Condition]) -> Result<Option<Vec<User>>, Failure> {
        let mut selective: Vec<_> =
            conditions.iter().filter(|condition| condition.selectivity().is_some()).collect();
        selective.sort_by_key(|condition| condition.selectivity());
        Ok(match selective.first() {
            Some(Condition::Username(name)) => {
                Some(self.store.user_by_name(tenant, name).await?.into_iter().collect())
            }
            Some(Condition::Ids(ids)) => Some(self.store.users_by_id(tenant, ids).await?),
            Some(Condition::Email(address)) => Some(self.store.users_by_email(tenant, address).await?.users),
            _ => None,
        })
    }

    /// Reads the list in pages until more than `wanted` users are found. Returns whether the list may have more.
    ///
    /// # Errors
    /// `Validation` if too few of the first users of the list are found. `Unavailable`.
    async fn listed(
        &self,
        tenant: &TenantId,
        conditions: &[Condition],
        wanted: usize,
        is_listed: &(dyn Fn(&User) -> bool + Sync),
    ) -> Result<(Vec<User>, bool), Failure> {
        let of = UsersOf { tenant, organization: organization(conditions) };
        let (mut found, mut after) = (Vec::new(), None);
        for _ in 0..MAX_PAGES {
            let page = self.store.users_after(&of, after.as_ref(), MAX_LIMIT).await?;
            found.extend(page.users.into_iter().filter(|user| is_listed(user)));
            after = page.next;
            if after.is_none() || found.len() > wanted {
                return Ok((found, after.is_some()));
            }
        }
        Err(Failure::field("queries", "match too few of the first 11,000 users; add an organizationIdQuery"))
    }
}

fn organization(conditions: &[Condition]) -> Option<&OrganizationId> {
    conditions.iter().find_map(|condition| match condition {
        Condition::Organization(organization) => Some(organization),
        _ => None,
    })
}
