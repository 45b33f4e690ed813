//! Steps that several use cases share.

pub mod address;
pub(super) mod authenticate;
pub(super) mod budgets;
pub(super) mod caller;
pub mod client_authentication;
pub(super) mod code;
pub(super) mod cross_origin;
pub(super) mod idempotency;
pub mod new_password;
pub(super) mod password_attempt;
pub(super) mod session_limit;
pub(super) mod tenant_request;
