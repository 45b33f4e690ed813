//! A request together with its tenant's record and keys.

use std::{net::IpAddr, sync::Arc};

use jiff::Timestamp;
use secrecy::SecretString;

use crate::{
    context::RequestContext,
    domain::{ClientAddress, Failure, Policy, Tenant, TenantId, TenantStatus},
    secrets::{SecretUse, Tenants},
    token::{AccessToken, RefreshToken, TenantKeys, Unverified},
};

/// A request whose tenant exists. That does not mean that the caller proved to be of that tenant.
#[derive(Clone)]
pub(in crate::usecase) struct TenantRequest<'r> {
    /// The context of the request.
    pub(in crate::usecase) context: &'r RequestContext,
    /// The tenant's record.
    pub(in crate::usecase) tenant: Arc<Tenant>,
    /// The tenant's keys.
    pub(in crate::usecase) keys: Arc<TenantKeys>,
}

impl<'r> TenantRequest<'r> {
    /// Finds the tenant of a request; `None` if it does not exist.
    ///
    /// # Errors
    /// `Unavailable` if the tenant's record or secret cannot be read or used.
    pub(in crate::usecase) async fn find(
        tenants: &Tenants,
        context: &'r RequestContext,
        id: &TenantId,
    ) -> Result<Option<Self>, Failure> {
        let Some(tenant) = tenants.record(id, context.now).await? else {
            return Ok(None);
        };
        context.record_tenant(id);
        let keys = tenants.keys(&tenant, context.now).await?;
        Ok(Some(Self { context, tenant, keys }))
    }

    /// Finds the tenant and verifies that the caller has its key and secret.
    ///
    /// # Errors
    /// `InvalidTenantCredentials` for an unknown tenant, a wrong key and a wrong secret alike;
    /// `Unavailable`.
    pub(in crate::usecase) async fn open(
        tenants: &Tenants,
        context: &'r RequestContext,
        id: &TenantId,
        credentials: (&SecretString, &SecretString),
    ) -> Result<(Self, SecretUse), Failure> {
        let found = Self::find(tenants, context, id).await?.ok_or(Failure::InvalidTenantCredentials)?;
        let used = SecretUse::verify(&found.keys, credentials)?;
        Ok((found, used))
    }

    /// Verifies an access token of this tenant. The session or client behind it is not checked.
    ///
    /// # Errors
    /// `InvalidToken`; `TenantMismatch` for a token of another tenant.
    pub(in crate::usecase) fn verify(&self, token: &SecretString) -> Result<AccessToken, Failure> {
        let token = Unverified::parse(token)?;
        if *token.tenant() != self.tenant.id {
            return Err(Failure::TenantMismatch);
        }
        token.verify(&self.keys, &self.tenant, self.now())
    }

    /// Whether this tenant issued a refresh token whose session may still be live. The session is not checked.
    pub(in crate::usecase) fn has_issued(&self, token: &RefreshToken) -> bool {
        token.is_authentic(&self.tenant.id, &self.keys)
            && token.may_live(self.policy().session_life, &self.keys, self.now())
    }

    /// The time of the request.
    pub(in crate::usecase) fn now(&self) -> Timestamp {
        self.context.now
    }

    /// The tenant's policy.
    pub(in crate::usecase) fn policy(&self) -> &Policy {
        &self.tenant.policy
    }

    /// The client address that the tenant's trusted proxies forward.
    pub(in crate::usecase) fn client(&self, from: &ClientAddress) -> Option<IpAddr> {
        let ip = from.client(&self.policy().trusted_proxies);
        self.context.record_client(ip);
        ip
    }

    /// Admits a request whose tenant credentials, bearer or code were right; returns the client address.
    ///
    /// # Errors
    /// `TenantSuspended`; `IpNotAllowed`.
    pub(in crate::usecase) fn admit(&self, from: &ClientAddress) -> Result<Option<IpAddr>, Failure> {
        self.context.prove_tenant(&self.tenant);
        let ip = self.client(from);
        match self.tenant.status {
            TenantStatus::Suspended => Err(Failure::TenantSuspended),
            TenantStatus::Active if !self.policy().admits(ip) => Err(Failure::IpNotAllowed),
            TenantStatus::Active => Ok(ip),
        }
    }
}
