//! What a session, a user, a tenant and a failure are. Pure: no I/O, no clock, no AWS type.

mod address;
mod blocklist;
mod code;
mod credential;
mod failure;
mod id;
mod link;
mod notification;
mod origin;
mod policy;
mod secret;
mod session;
mod template;
mod tenant;
mod user;

pub use address::ClientAddress;
pub use blocklist::{ForbiddenNames, fingerprint};
pub use code::{CODE_WINDOW, Code, CodeKind, CodeProof, MAX_CODE_TRIES, ResetCode, recent};
pub use credential::{Password, PasswordHash, PasswordPolicy, Username, folded};
pub use failure::{Cause, Failure, FieldError, Limit, TokenFault};
pub use id::{
    AttemptId, CustomerId, IdempotencyKey, Invalid, OrganizationId, ProvenDevice, SessionId, TenantId, UserId,
};
pub use link::{LinkHost, LinkTemplate, tenant_url};
pub use notification::{CodeMessage, Medium, Notification};
pub use origin::WebOrigin;
pub use policy::{
    Delivery, Document, FIELDS, Fault, Field, HashCost, Policy, SessionLimit, SigningAlgorithm, Weight,
    WhenFull,
};
pub use secret::matches;
pub use session::{
    Collection, Device, Ended, Judgement, KnownDevice, LiveSession, Nonce, Session, SessionFault, judge,
};
pub use template::{MessageTemplate, Templates};
pub use tenant::{Tenant, TenantStatus};
pub use user::{Role, User, UserDetails, UserStatus};

#[cfg(test)]
pub(crate) use session::tests;
