//! Passwords that nobody should choose (security 3).

use super::{TenantId, Username};

/// What a password must not be made of.
#[derive(Debug, Clone, Copy)]
pub struct ForbiddenNames<'a> {
    /// Its user's name.
    pub username: &'a Username,
    /// The tenant's id.
    pub tenant: &'a TenantId,
    /// What people know the tenant as.
    pub tenant_name: &'a str,
}
