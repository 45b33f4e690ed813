//! Generated from `shared/proto`; the head of `user_service.proto` says how. No `Debug`: passwords and
//! codes are in these messages (docs/design/security.md#rule-25).

#[allow(clippy::pedantic, unreachable_pub, reason = "generated")]
#[path = "google.rpc.rs"]
#[rustfmt::skip]
pub(super) mod rpc;

#[allow(clippy::pedantic, unreachable_pub, reason = "generated")]
#[path = "zitadel.user.v2.rs"]
#[rustfmt::skip]
pub(super) mod user;
