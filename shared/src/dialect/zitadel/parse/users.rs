//! Users to create.

use std::collections::BTreeMap;

use super::{
    super::{
        HttpRequest, IDEMPOTENCY_KEY, incomplete,
        messages::JsonEnum,
        proto::user::{
            AddHumanUserRequest, CreateUserRequest, Gender as SentGender, HashedPassword, IdpLink,
            Metadata as SentEntry, Organization, Password as SentPassword, SetHumanEmail, SetHumanPhone,
            SetHumanProfile, add_human_user_request, create_user_request, organization::Org, set_human_email,
            set_human_phone,
        },
    },
    Faults, sent_token,
};
use crate::{
    domain::{
        Collection, CustomerId, Failure, Gender, Invalid, Metadata, OrganizationId, PasswordHash, Profile,
        RESERVED_METADATA, Role, UserId, Username, language, mail_address, phone_number, profile_text,
    },
    password::check_hash,
    usecase::{
        create_user::{self, NewPassword, NewUserData},
        support::address::{AddressProof, NewAddress},
    },
};

/// Names of the calls on both of their routes, for idempotency keys.
const CREATE_USER: &str = "zitadel.user.v2.UserService/CreateUser";
const ADD_HUMAN_USER: &str = "zitadel.user.v2.UserService/AddHumanUser";

/// Maximum number of entries of metadata, with the reserved keys.
const MAX_ENTRIES: usize = 53;

/// A person to create, as both forms of the request contain it.
struct SentHuman {
    /// Path of the members in errors.
    path: &'static str,
    /// Path of the password in errors.
    password_field: &'static str,
    user_id: Option<String>,
    username: Option<String>,
    profile: Option<SetHumanProfile>,
    email: Option<SetHumanEmail>,
    phone: Option<SetHumanPhone>,
    password: Option<SentCredential>,
    idp_links: Vec<IdpLink>,
    totp_secret: Option<String>,
    metadata: Vec<SentEntry>,
}

enum SentCredential {
    Plain(SentPassword),
    Hashed(HashedPassword),
}

impl From<create_user_request::human::PasswordType> for SentCredential {
    fn from(sent: create_user_request::human::PasswordType) -> Self {
        use create_user_request::human::PasswordType;
        match sent {
            PasswordType::Password(password) => Self::Plain(password),
            PasswordType::HashedPassword(hashed) => Self::Hashed(hashed),
        }
    }
}

impl From<add_human_user_request::PasswordType> for SentCredential {
    fn from(sent: add_human_user_request::PasswordType) -> Self {
        use add_human_user_request::PasswordType;
        match sent {
            PasswordType::Password(password) => Self::Plain(password),
            PasswordType::HashedPassword(hashed) => Self::Hashed(hashed),
        }
    }
}

/// Parses `CreateUser`.
pub(in crate::dialect::zitadel) fn create_user(
    request: &HttpRequest,
    message: CreateUserRequest,
) -> Result<create_user::Command, Failure> {
    use create_user_request::UserType;
    let CreateUserRequest { organization_id, user_id, username, user_type } = message;
    let mut faults = Faults::default();
    let organization = faults.check("organizationId", OrganizationId::parse_new(&organization_id));
    let human = match user_type {
        Some(UserType::Human(human)) => human,
        Some(UserType::Machine(_)) => {
            faults.add("machine", "is not supported; Doorward has human users only");
            create_user_request::Human::default()
        }
        None => {
            faults.add("human", "is required");
            create_user_request::Human::default()
        }
    };
    let create_user_request::Human { profile, email, phone, idp_links, totp_secret, metadata, password_type } =
        human;
    let password = password_type.map(SentCredential::from);
    let human = SentHuman {
        path: "human.",
        password_field: "human.password.password",
        user_id,
        username,
        profile,
        email,
        phone,
        password,
        idp_links,
        totp_secret,
        metadata,
    };
    creation(request, faults, CREATE_USER, organization, human)
}

/// Parses `AddHumanUser`.
pub(in crate::dialect::zitadel) fn add_human_user(
    request: &HttpRequest,
    message: AddHumanUserRequest,
) -> Result<create_user::Command, Failure> {
    let AddHumanUserRequest {
        user_id,
        username,
        organization,
        profile,
        email,
        phone,
        metadata,
        idp_links,
        totp_secret,
        password_type,
    } = message;
    let mut faults = Faults::default();
    let organization = match organization.and_then(|Organization { org }| org) {
        Some(Org::OrgId(id)) => faults.check("organization.orgId", OrganizationId::parse_new(&id)),
        Some(Org::OrgDomain(_)) => {
            faults.add("organization.orgDomain", "is not supported; send organization.orgId");
            None
        }
        None => {
            faults.add("organization.orgId", "is required");
            None
        }
    };
    let password = password_type.map(SentCredential::from);
    let human = SentHuman {
        path: "",
        password_field: "password.password",
        user_id,
        username,
        profile,
        email,
        phone,
        password,
        idp_links,
        totp_secret,
        metadata,
    };
    creation(request, faults, ADD_HUMAN_USER, organization, human)
}

fn creation(
    request: &HttpRequest,
    mut faults: Faults,
    call: &'static str,
    organization: Option<OrganizationId>,
    human: SentHuman,
) -> Result<create_user::Command, Failure> {
    let at = |member: &str| format!("{}{member}", human.path);
    if !human.idp_links.is_empty() {
        faults.add(at("idpLinks"), "is not supported; omit it");
    }
    if human.totp_secret.is_some() {
        faults.add(at("totpSecret"), "is not supported; omit it");
    }
    let user = human.user_id.map(|id| faults.check("userId", UserId::parse_new(&id)));
    let email = human.email.and_then(|email| faults.email(&at("email."), email));
    let phone = human.phone.and_then(|phone| faults.phone(&at("phone."), phone));
    let username = match (&human.username, &email) {
        (Some(name), _) => faults.check("username", Username::parse_new(name)),
        (None, Some(email)) => faults.check("username", Username::parse_new(&email.address)),
        (None, None) => {
            faults.add("username", "is required if there is no email address");
            None
        }
    };
    let (profile, locale) = faults.profile(&at("profile."), human.profile.unwrap_or_default());
    let password =
        human.password.map(|sent| faults.credential(human.password_field, &at("hashedPassword"), &sent));
    let (metadata, reserved) = faults.metadata(&at("metadata"), human.metadata);
    let idempotency = faults.check(IDEMPOTENCY_KEY, request.repeatable(call)).flatten();
    faults.finish()?;
    let (Some(organization), Some(username)) = (organization, username) else {
        return Err(incomplete());
    };
    let Reserved { roles, customer, customer_kind } = reserved;
    Ok(create_user::Command {
        by: sent_token(request)?,
        user: NewUserData {
            id: user.flatten(),
            organization,
            username,
            profile,
            locale,
            email,
            phone,
            password: password.flatten(),
            roles: roles.unwrap_or_else(|| vec![Role::User]),
            customer,
            customer_kind,
            metadata,
        },
        idempotency,
    })
}

/// Roles and customer, which requests send as metadata with reserved keys.
#[derive(Default)]
struct Reserved {
    roles: Option<Vec<Role>>,
    customer: Option<CustomerId>,
    customer_kind: Option<Collection>,
}

impl Reserved {
    /// Reads the value of a reserved key, which is given without its prefix.
    fn read(&mut self, key: &str, value: &[u8]) -> Result<(), Invalid> {
        let text = std::str::from_utf8(value).map_err(|_| Invalid::new("must be UTF-8"))?;
        match key {
            "roles" => {
                let roles: Option<Vec<_>> = text.split(',').map(Role::from_name).collect();
                let wrong = Invalid::new(
                    "must be USER, ADMIN or TENANT_ADMIN, or several of them with commas between",
                );
                self.roles = Some(Role::ordered(&roles.ok_or(wrong)?));
            }
            "customer" => self.customer = Some(CustomerId::parse_new(text)?),
            "customerType" => {
                let kind = Collection::from_user_type(text).filter(|kind| *kind != Collection::Admin);
                self.customer_kind = Some(kind.ok_or(Invalid::new("must be CONSUMER or BUSINESS"))?);
            }
            _ => {
                return Err(Invalid::new(
                    "is reserved; use doorward:roles, doorward:customer or doorward:customerType",
                ));
            }
        }
        Ok(())
    }
}

impl Faults {
    pub(super) fn email(&mut self, at: &str, sent: SetHumanEmail) -> Option<NewAddress> {
        use set_human_email::Verification;
        let address = self.check(format!("{at}email"), mail_address(&sent.email));
        let proof = match sent.verification {
            Some(Verification::IsVerified(true)) => AddressProof::Verified,
            Some(Verification::ReturnCode(_)) => AddressProof::ReturnCode,
            Some(Verification::SendCode(link)) => {
                self.template(format!("{at}sendCode.urlTemplate"), link.url_template.as_deref());
                AddressProof::SendCode { link: link.url_template }
            }
            Some(Verification::IsVerified(false)) | None => AddressProof::SendCode { link: None },
        };
        Some(NewAddress { address: address?, proof })
    }

    pub(super) fn phone(&mut self, at: &str, sent: SetHumanPhone) -> Option<NewAddress> {
        use set_human_phone::Verification;
        let SetHumanPhone { phone, verification } = sent;
        let address = self.check(format!("{at}phone"), phone_number(&phone));
        let proof = match verification {
            Some(Verification::IsVerified(true)) => AddressProof::Verified,
            Some(Verification::ReturnCode(_)) => AddressProof::ReturnCode,
            Some(Verification::SendCode(_) | Verification::IsVerified(false)) | None => {
                AddressProof::SendCode { link: None }
            }
        };
        Some(NewAddress { address: address?, proof })
    }

    /// Reads a profile and the preferred language.
    pub(super) fn profile(&mut self, at: &str, sent: SetHumanProfile) -> (Profile, Option<String>) {
        let SetHumanProfile { given_name, family_name, nick_name, display_name, preferred_language, gender } =
            sent;
        let mut text = |name: &str, text: Option<String>, parse: fn(&str) -> Result<String, Invalid>| {
            self.optional_text(format!("{at}{name}"), &text?, parse)
        };
        let profile = Profile {
            given_name: text("givenName", Some(given_name), profile_text),
            family_name: text("familyName", Some(family_name), profile_text),
            nick_name: text("nickName", nick_name, profile_text),
            display_name: text("displayName", display_name, profile_text),
            gender: None,
        };
        let locale = text("preferredLanguage", preferred_language, language);
        let gender = self.gender(&format!("{at}gender"), gender);
        (Profile { gender, ..profile }, locale)
    }

    /// Parses a text. An empty one counts as absent.
    pub(super) fn optional_text(
        &mut self,
        field: String,
        text: &str,
        parse: fn(&str) -> Result<String, Invalid>,
    ) -> Option<String> {
        if text.is_empty() { None } else { self.check(field, parse(text)) }
    }

    pub(super) fn gender(&mut self, at: &str, sent: Option<i32>) -> Option<Gender> {
        match SentGender::try_from(sent?) {
            Ok(SentGender::Unspecified) => None,
            Ok(SentGender::Female) => Some(Gender::Female),
            Ok(SentGender::Male) => Some(Gender::Male),
            Ok(SentGender::Diverse) => Some(Gender::Diverse),
            Err(_) => {
                self.add(at.to_owned(), SentGender::ALLOWED);
                None
            }
        }
    }

    fn credential(
        &mut self,
        field: &'static str,
        hashed: &str,
        sent: &SentCredential,
    ) -> Option<NewPassword> {
        match sent {
            SentCredential::Plain(SentPassword { password, change_required }) => {
                let password = self.password(field, password)?;
                Some(NewPassword::Plain { password, field, change_required: *change_required })
            }
            SentCredential::Hashed(HashedPassword { hash, change_required }) => {
                let hash = PasswordHash::from_phc(hash.clone());
                self.check(format!("{hashed}.hash"), check_hash(&hash))?;
                Some(NewPassword::Hashed { hash, change_required: *change_required })
            }
        }
    }

    /// Reads metadata, and separates the reserved keys from the others.
    fn metadata(&mut self, at: &str, sent: Vec<SentEntry>) -> (Metadata, Reserved) {
        let (mut entries, mut reserved, mut known) = (BTreeMap::new(), Reserved::default(), Vec::new());
        if sent.len() > MAX_ENTRIES {
            self.add(at.to_owned(), "must have at most 50 keys");
            return (Metadata::default(), reserved);
        }
        for (index, SentEntry { key, value }) in sent.into_iter().enumerate() {
            let field = format!("{at}[{index}]");
            if known.contains(&key) {
                self.add(format!("{field}.key"), "must not be sent twice");
            }
            known.push(key.clone());
            match key.strip_prefix(RESERVED_METADATA) {
                Some(key) => {
                    let read = reserved.read(key, &value);
                    self.check(format!("{field}.value"), read);
                }
                None => {
                    entries.insert(key, value);
                }
            }
        }
        if reserved.customer_kind.is_some() && reserved.customer.is_none() {
            self.add(at.to_owned(), "must have doorward:customer if it has doorward:customerType");
        }
        (self.check(at.to_owned(), Metadata::parse(entries)).unwrap_or_default(), reserved)
    }
}
