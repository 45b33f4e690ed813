//! The way in which a login finds its user (docs/design/contract.md#log-in-by-name).

use super::{Collection, User, UserId};

/// The way in which a login finds its user.
#[derive(Debug)]
pub enum UserKey {
    /// By the ID in the path.
    Id {
        /// Collection in the path.
        collection: Collection,
        /// Organization or customer in the path.
        owner: String,
        /// User in the path.
        user: UserId,
    },
    /// By the username, on a route for these users.
    Name(NamedUsers),
}

/// Users that a route for logins by name accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedUsers {
    /// Users with an administrator role.
    Administrators,
    /// Users that belong to a customer.
    Customers,
}

impl UserKey {
    /// Returns the collection of a session of `user`. `None` if the route does not accept the user.
    pub fn collection(&self, user: &User) -> Option<Collection> {
        let one_of = |collections: &[Collection], owner: &str| {
            collections.iter().copied().find(|collection| user.fits(*collection, owner))
        };
        match self {
            Self::Id { collection, owner, .. } => one_of(&[*collection], owner),
            Self::Name(NamedUsers::Administrators) => {
                one_of(&[Collection::Admin], user.organization.as_str())
            }
            Self::Name(NamedUsers::Customers) => {
                one_of(&[Collection::Individual, Collection::Organization], user.customer.as_ref()?.as_str())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{CustomerId, Role},
        token::tests::user,
    };

    fn collections(user: &User) -> [Option<Collection>; 2] {
        [NamedUsers::Administrators, NamedUsers::Customers].map(|users| UserKey::Name(users).collection(user))
    }

    #[test]
    fn login_by_name_accepts_administrators_or_customers() {
        let customer = CustomerId::parse("c").unwrap();
        let user = User { roles: vec![Role::User], customer: Some(customer), ..user() };
        for (kind, expected) in [
            (None, Some(Collection::Individual)),
            (Some(Collection::Individual), Some(Collection::Individual)),
            (Some(Collection::Organization), Some(Collection::Organization)),
            // No customer has this kind. It must not give the session an administrator's tokens.
            (Some(Collection::Admin), None),
        ] {
            assert_eq!(
                collections(&User { customer_kind: kind, ..user.clone() }),
                [None, expected],
                "{kind:?}"
            );
        }
        let admin = User { roles: vec![Role::Admin], customer: None, ..user };
        assert_eq!(collections(&admin), [Some(Collection::Admin), None]);
    }

    #[test]
    fn login_by_id_accepts_users_of_its_path() {
        let admin = User { roles: vec![Role::Admin], ..user() };
        let key = |owner: &str| UserKey::Id {
            collection: Collection::Admin,
            owner: owner.to_owned(),
            user: admin.id.clone(),
        };
        assert_eq!(key(admin.organization.as_str()).collection(&admin), Some(Collection::Admin));
        assert_eq!(key("other").collection(&admin), None);
    }
}
