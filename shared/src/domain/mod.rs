//! Types and rules of sessions, users, tenants and failures. This module has no I/O, no clock and no AWS type.

mod activation;
mod address;
mod api_client;
mod blocklist;
mod code;
mod contact;
mod credential;
mod failure;
mod id;
mod link;
mod lockout;
mod notification;
mod origin;
mod policy;
mod profile;
mod published;
mod session;
mod signing_end;
mod tenant;
mod user;
mod user_key;
mod visible;

pub use activation::Activation;
pub use address::ClientAddress;
pub use api_client::{
    ApiClient, ClientCredential, ClientKey, ClientName, ClientProof, ClientScope, ClientStatus, MAX_CLIENTS,
    SecretHash,
};
pub use blocklist::{ForbiddenNames, PasswordPolicy, fingerprint};
pub use code::{
    CODE_WINDOW, Code, CodeKind, CodeProof, CodePurpose, MAX_CODE_TRIES, ResetCode, ResetLink, recent,
};
pub use contact::{Mailbox, language, mail_address, phone_number};
pub use credential::{Password, PasswordHash, Username, folded, matches};
pub use failure::{AttemptCount, Cause, Denial, Failure, FieldError, Limit, TokenFault};
pub use id::{
    AttemptId, ClientId, CustomerId, IdempotencyKey, Invalid, OrganizationId, SessionId, TenantId,
    TrustedDeviceId, UserId,
};
pub use link::{LinkHost, LinkTemplate, tenant_url};
pub use lockout::{AttemptBudget, AttemptState, BudgetOf, GrantedSlot, HourBudget, NextStep, Reservation};
pub use notification::{CodeMessage, Medium, Notification};
pub use origin::WebOrigin;
pub use policy::{
    FIELDS, HashCost, MessageDelivery, Policy, PolicyDocument, PolicyFault, PolicyField, SessionLimit,
    Severity, SigningAlgorithm, WhenFull,
};
pub use profile::{Gender, Metadata, Profile, RESERVED_METADATA, profile_text};
pub use published::{PublicKey, PublishedKeys};
pub use session::{
    Collection, Device, Ended, LiveSession, Nonce, RefreshTokenState, Session, SessionFault, SessionPosition,
    TrustedDevice,
};
pub use signing_end::{MAX_CACHED, OVERLAP, SigningEnd, after};
pub use tenant::{ActiveSecret, MessageTemplate, PreviousAlgorithm, Templates, Tenant, TenantStatus};
pub use user::{Role, User, UserDetails, UserStatus, UserSummary};
pub use user_key::{NamedUsers, UserKey};

#[cfg(test)]
pub(crate) use {api_client::tests as client_tests, session::tests};
