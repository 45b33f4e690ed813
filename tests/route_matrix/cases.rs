//! The shared cases, and their expected results by wire format.

use Expected::{Is, NotApplicable};

use super::rows::Request;

/// A case that differs from the valid request in one property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    PayloadTooLarge,
    NoBearer,
    TenantMismatch,
    OtherTenantsUser,
    IpNotAllowed,
    /// The valid request, which succeeds because the cases above changed nothing.
    Valid,
    TenantSuspended,
    StorageDown,
}

impl Case {
    pub(super) const ALL: [Self; 8] = [
        Self::PayloadTooLarge,
        Self::NoBearer,
        Self::TenantMismatch,
        Self::OtherTenantsUser,
        Self::IpNotAllowed,
        Self::Valid,
        Self::TenantSuspended,
        Self::StorageDown,
    ];

    /// Outcome and reason in the audit log. `None` if the log has no event of the request, or if the route decides.
    pub(super) fn audited(self, request: &Request) -> Option<&'static str> {
        if matches!(request, Request::Public | Request::Preflight) {
            return None;
        }
        match self {
            Self::PayloadTooLarge => Some("PAYLOAD_TOO_LARGE"),
            Self::NoBearer => Some("INVALID_TOKEN MISSING"),
            Self::TenantMismatch => Some("TENANT_MISMATCH"),
            Self::IpNotAllowed => Some("IP_NOT_ALLOWED"),
            Self::TenantSuspended => Some("TENANT_SUSPENDED"),
            Self::OtherTenantsUser | Self::Valid | Self::StorageDown => None,
        }
    }
}

/// Expected result of a case.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expected {
    /// Status and the dialect's kind of error; the kind is empty for pages and successes.
    Is(u16, &'static str),
    /// The case does not exist for the route, with the reason.
    NotApplicable(&'static str),
}

/// Expected results of all cases.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Results {
    payload_too_large: Expected,
    no_bearer: Expected,
    tenant_mismatch: Expected,
    other_tenants_user: Expected,
    ip_not_allowed: Expected,
    tenant_suspended: Expected,
    valid: Expected,
    storage_down: Expected,
}

impl Results {
    pub(crate) fn of(&self, case: Case) -> Expected {
        match case {
            Case::PayloadTooLarge => self.payload_too_large,
            Case::NoBearer => self.no_bearer,
            Case::TenantMismatch => self.tenant_mismatch,
            Case::OtherTenantsUser => self.other_tenants_user,
            Case::IpNotAllowed => self.ip_not_allowed,
            Case::TenantSuspended => self.tenant_suspended,
            Case::Valid => self.valid,
            Case::StorageDown => self.storage_down,
        }
    }
}

const NO_BEARER_EXPECTED: Expected = NotApplicable("the route expects no access token");
const NO_USER: Expected = NotApplicable("the request names no user");
const NO_TENANT: Expected = NotApplicable("the request names no tenant");
const TENANT_IN_PATH: Expected = NotApplicable("the path alone names the tenant");

/// FinHub routes with an access token.
pub(super) const FINHUB: Results = Results {
    payload_too_large: Is(413, "PAYLOAD_TOO_LARGE"),
    no_bearer: Is(401, "INVALID_TOKEN"),
    tenant_mismatch: Is(403, "TENANT_MISMATCH"),
    other_tenants_user: Is(404, "USER_NOT_FOUND"),
    ip_not_allowed: Is(403, "IP_NOT_ALLOWED"),
    tenant_suspended: Is(403, "TENANT_SUSPENDED"),
    valid: Is(200, ""),
    storage_down: Is(503, "UNAVAILABLE"),
};

/// Logins, which the tenant's credentials and the user's password authenticate.
pub(super) const FINHUB_LOGIN: Results =
    Results { no_bearer: NO_BEARER_EXPECTED, other_tenants_user: Is(401, "AUTHENTICATION"), ..FINHUB };

pub(super) const FINHUB_REFRESH_ADMIN: Results = Results { other_tenants_user: NO_USER, ..FINHUB };
pub(super) const FINHUB_REFRESH_CUSTOMER: Results =
    Results { other_tenants_user: Is(401, "INVALID_REFRESH_TOKEN"), ..FINHUB };
pub(super) const FINHUB_ONE_SESSION: Results =
    Results { other_tenants_user: Is(404, "SESSION_NOT_FOUND"), ..FINHUB };

/// ZITADEL's JSON routes, whose errors have gRPC status codes.
pub(super) const ZITADEL: Results = Results {
    payload_too_large: Is(413, "8"),
    no_bearer: Is(401, "16"),
    tenant_mismatch: Is(403, "7"),
    other_tenants_user: Is(404, "5"),
    ip_not_allowed: Is(403, "7"),
    tenant_suspended: Is(403, "7"),
    valid: Is(200, ""),
    storage_down: Is(503, "14"),
};

/// ZITADEL's RPC routes in Connect's JSON form, whose errors have Connect's names.
pub(super) const CONNECT: Results = Results {
    payload_too_large: Is(413, "resource_exhausted"),
    no_bearer: Is(401, "unauthenticated"),
    tenant_mismatch: Is(403, "permission_denied"),
    other_tenants_user: Is(404, "not_found"),
    ip_not_allowed: Is(403, "permission_denied"),
    tenant_suspended: Is(403, "permission_denied"),
    valid: Is(200, ""),
    storage_down: Is(503, "unavailable"),
};

/// Routes of users whose request names none.
pub(super) const ZITADEL_CREATE: Results = Results { other_tenants_user: NO_USER, ..ZITADEL };
pub(super) const CONNECT_CREATE: Results = Results { other_tenants_user: NO_USER, ..CONNECT };

/// Routes that do not apply to the demo user: it is active, and its address is verified.
pub(super) const ZITADEL_STATUS: Results = Results { valid: Is(400, "9"), ..ZITADEL };
pub(super) const CONNECT_STATUS: Results = Results { valid: Is(400, "failed_precondition"), ..CONNECT };

/// Routes that need a code, which the demo user does not have.
pub(super) const ZITADEL_CODE: Results = Results { valid: Is(400, "3"), ..ZITADEL };
pub(super) const CONNECT_CODE: Results = Results { valid: Is(400, "invalid_argument"), ..CONNECT };

pub(super) const OCARIOT: Results = Results {
    payload_too_large: Is(413, "Payload Too Large"),
    no_bearer: Is(401, "UNAUTHORIZED"),
    tenant_mismatch: Is(403, "FORBIDDEN"),
    other_tenants_user: Is(404, "User not found!"),
    ip_not_allowed: Is(403, "FORBIDDEN"),
    tenant_suspended: Is(403, "FORBIDDEN"),
    valid: Is(204, ""),
    storage_down: Is(503, "Service Unavailable"),
};

pub(super) const FORM: Results = Results {
    payload_too_large: Is(413, ""),
    no_bearer: NO_BEARER_EXPECTED,
    tenant_mismatch: TENANT_IN_PATH,
    other_tenants_user: NotApplicable("the encrypted cookie and the form's token name the user"),
    ip_not_allowed: Is(403, ""),
    tenant_suspended: Is(403, ""),
    valid: Is(303, ""),
    storage_down: Is(503, ""),
};

pub(super) const PAGE: Results = Results {
    payload_too_large: NotApplicable("the route reads no body"),
    other_tenants_user: NotApplicable("the page does not read the user before the form is submitted"),
    ip_not_allowed: NotApplicable("the page checks the address when the form is submitted"),
    tenant_suspended: NotApplicable("the page checks the tenant's status when the form is submitted"),
    valid: Is(200, ""),
    ..FORM
};

/// Routes of API clients, whose errors have the names of RFC 6749.
pub(super) const OAUTH: Results = Results {
    payload_too_large: Is(413, "invalid_request"),
    no_bearer: NotApplicable("the credentials of a client authenticate the request"),
    tenant_mismatch: TENANT_IN_PATH,
    other_tenants_user: NO_USER,
    ip_not_allowed: Is(400, "unauthorized_client"),
    tenant_suspended: Is(400, "unauthorized_client"),
    valid: Is(200, ""),
    storage_down: Is(503, "temporarily_unavailable"),
};

pub(super) const PUBLIC: Results = Results {
    payload_too_large: NotApplicable("the route reads no body"),
    no_bearer: NO_BEARER_EXPECTED,
    tenant_mismatch: TENANT_IN_PATH,
    other_tenants_user: NO_USER,
    ip_not_allowed: NotApplicable("public documents are readable from every address"),
    tenant_suspended: Is(404, "NOT_FOUND"),
    valid: Is(200, ""),
    storage_down: Is(503, "UNAVAILABLE"),
};

pub(super) const HEALTH: Results =
    Results { tenant_mismatch: NO_TENANT, tenant_suspended: NO_TENANT, storage_down: Is(503, ""), ..PUBLIC };

/// Preflight requests of every path.
pub(super) const PREFLIGHT: Results = Results {
    payload_too_large: NotApplicable("the route reads no body"),
    no_bearer: NO_BEARER_EXPECTED,
    tenant_mismatch: NO_TENANT,
    other_tenants_user: NO_USER,
    ip_not_allowed: NO_TENANT,
    tenant_suspended: NO_TENANT,
    valid: Is(204, ""),
    // The response then allows no origin, so that the browser does not send the request.
    storage_down: Is(204, ""),
};
