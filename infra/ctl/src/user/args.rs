//! Arguments of `doorwardctl user …`.

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{ArgGroup, Args, Subcommand};
use doorward::domain::{
    Collection, CustomerId, Gender, Invalid, OrganizationId, Profile, Role, TenantId, UserId, Username,
    language, mail_address, phone_number, profile_text,
};

use super::{
    erase::EraseUser,
    export::ExportUsers,
    export_data::ExportUserData,
    import::ImportUsers,
    metadata,
    user_record::{customer_type, gender},
};
use crate::{Context, prompt::PasswordFrom};

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Create a user
    ///
    /// Without --password or --password-stdin, the user has no password, and sets one with a reset code
    /// before its first login.
    #[command(after_help = "Example:
  doorwardctl --local user create TENANT --username ada@example.com \\
    --organization ORGANIZATION --role ADMIN --password")]
    Create(Box<CreateUser>),
    /// List the users of a tenant
    ///
    /// The users are sorted by organization, then by ID.
    #[command(after_help = "Example:
  doorwardctl --table doorward user list TENANT --limit 20")]
    List(ListUsers),
    /// Find users by mail address or username
    ///
    /// Several users can have one mail address; the first 100 are listed.
    #[command(after_help = "Example:
  doorwardctl --table doorward user find TENANT --email ada@example.com")]
    Find(FindUsers),
    /// Show a user, without its password hash
    #[command(after_help = "Example:
  doorwardctl --table doorward user show TENANT USER")]
    Show(UserArg),
    /// Change a user
    ///
    /// Applies all changes in one write, or none. A change of the roles, the organization, the customer or
    /// the password ends all sessions of the user at once.
    #[command(after_help = "Example:
  doorwardctl --table doorward user update TENANT USER \\
    --email ada@example.com --unset phone")]
    Update(Box<UpdateUser>),
    /// Import users from a file, with their password hashes
    ///
    /// Reads one JSON object per line. docs/users.md describes the format. If the command rejects lines, it
    /// reports their numbers and the reasons, imports the other lines, and ends with exit code 1. It never
    /// changes existing users. If it is interrupted, run it again: it skips each line that an earlier
    /// run imported with the same content.
    #[command(after_help = "Example:
  doorwardctl --table doorward user import TENANT users.ndjson --dry-run")]
    Import(ImportUsers),
    /// Export the users of a tenant, WITH THEIR PASSWORD HASHES
    ///
    /// Writes one JSON object per line, sorted by user ID. If you import the file into an empty tenant and
    /// export it again, the new file has the same bytes. Keeps the users in memory. The export is not a
    /// snapshot: if a user changes during the export, the file contains its old or its new values. It does
    /// not contain users that were created within the last seconds.
    #[command(after_help = "Example:
  doorwardctl --table doorward user export TENANT --out users.ndjson")]
    Export(ExportUsers),
    /// Disable a user: prevent its logins and end its sessions
    ///
    /// All sessions of the user end at once.
    #[command(after_help = "Example:
  doorwardctl --table doorward user disable TENANT USER")]
    Disable(UserArg),
    /// Enable a disabled or locked user
    ///
    /// The user can log in again. Sessions that `user disable` ended stay ended.
    Enable(UserArg),
    /// Unlock a user after too many wrong passwords
    ///
    /// Ends the lockout of the user, and enables a password that was disabled after too many consecutive
    /// failures. Does not reset the hourly budgets of client addresses and of the tenant.
    Unlock(UserArg),
    /// Delete a user
    ///
    /// Deletes the user, its username and the messages that wait to be sent to it. All its sessions end at
    /// once. Asks for confirmation unless --yes is given.
    Delete {
        #[command(flatten)]
        user: UserArg,
        /// Skip the confirmation
        #[arg(long)]
        yes: bool,
    },
    /// Export everything that is stored about one user, without secrets
    ///
    /// Writes one JSON object per line and item: the user, the username and the address that find it, its
    /// sessions, waiting messages, codes and attempts. The member notExported names stored values that the
    /// export leaves out: password hashes, digests, nonces and sealed messages. The export is not a snapshot. After
    /// a deletion, it shows the remaining items; pass the exact user ID.
    #[command(after_help = "Example:
  doorwardctl --table doorward user export-data TENANT USER --out ada.ndjson")]
    ExportData(ExportUserData),
    /// Delete a user and everything that is stored about it
    ///
    /// Deletes the user as `user delete` does, which ends all its sessions at once. Then deletes its
    /// remaining items: sessions, attempts, codes and messages. If it is interrupted, run it again. A login or
    /// another request in progress can leave a session, attempts or a code. They give no access, and expire;
    /// run the command again after a minute to delete them. docs/users.md says what other systems keep.
    /// Asks for confirmation unless --yes is given.
    #[command(after_help = "Example:
  doorwardctl --table doorward user erase TENANT USER")]
    Erase(EraseUser),
}

/// The argument that names a user.
#[derive(Debug, Args)]
pub(crate) struct UserArg {
    /// Tenant ID
    #[arg(value_parser = TenantId::parse)]
    pub(crate) tenant: TenantId,
    /// User ID or username. If a user has this ID, it is meant, also if another user has this name
    #[arg(value_name = "NAME_OR_ID", value_parser = name_or_id)]
    user: String,
}

/// A user. It exists unless [`UserArg::find_or_deleted`] returned it.
#[derive(Debug)]
pub(crate) struct UserRef {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
}

impl UserArg {
    /// Finds the user.
    ///
    /// # Errors
    /// If no user has this ID or username.
    pub(crate) async fn find(&self, context: &Context) -> Result<UserRef> {
        let Self { tenant, user } = self;
        let found = context.store.user_by_id_or_name(tenant, user).await?;
        let found = found.with_context(|| {
            format!("user {user} of tenant {tenant} does not exist; pass the user ID or the username")
        })?;
        Ok(UserRef { tenant: tenant.clone(), user: found.id })
    }

    /// Finds the user. If no user has this ID or username, returns the ID of a user that may have been deleted.
    ///
    /// # Errors
    /// If the tenant does not exist, or the argument is not an ID.
    pub(super) async fn find_or_deleted(&self, context: &Context) -> Result<UserRef> {
        let Self { tenant, user } = self;
        super::tenant(context, tenant).await?;
        match context.store.user_by_id_or_name(tenant, user).await? {
            Some(found) => Ok(UserRef { tenant: tenant.clone(), user: found.id }),
            None => match UserId::parse(user) {
                Ok(id) => Ok(UserRef { tenant: tenant.clone(), user: id }),
                Err(invalid) => {
                    bail!("no user of tenant {tenant} has this username, and a user ID {invalid}")
                }
            },
        }
    }
}

impl UserRef {
    /// Error for a user that was deleted since it was found.
    pub(crate) fn unknown(&self) -> anyhow::Error {
        let Self { tenant, user } = self;
        anyhow!("user {user} of tenant {tenant} does not exist any more")
    }
}

fn name_or_id(text: &str) -> Result<String, Invalid> {
    UserId::parse(text).map(|_| ()).or_else(|_| Username::parse(text).map(|_| ())).map(|()| text.to_owned())
}

/// Arguments of `user find`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("by").required(true).args(["email", "name"]))]
pub(crate) struct FindUsers {
    /// Tenant ID
    #[arg(value_parser = TenantId::parse)]
    pub(crate) tenant: TenantId,
    /// Mail address, verified or not, ignoring case
    #[arg(long, value_name = "ADDRESS", value_parser = mail_address)]
    pub(crate) email: Option<String>,
    /// Username, ignoring case
    #[arg(long, value_name = "NAME", value_parser = Username::parse)]
    pub(crate) name: Option<Username>,
}

#[derive(Debug, Args)]
pub(crate) struct CreateUser {
    /// Tenant ID
    #[arg(value_parser = TenantId::parse)]
    pub(crate) tenant: TenantId,
    /// User ID, which cannot be changed later. OCARIoT routes accept only 24 hexadecimal digits
    /// [default: a random UUID]
    #[arg(long, value_parser = UserId::parse_new)]
    pub(crate) id: Option<UserId>,
    /// Username for the login
    #[arg(long, value_name = "NAME", value_parser = Username::parse_new)]
    pub(crate) username: Username,
    /// ID of the organization that owns the user
    #[arg(long, value_name = "ID", value_parser = OrganizationId::parse_new)]
    pub(crate) organization: OrganizationId,
    /// Role: USER, ADMIN (of its organization) or TENANT_ADMIN. Can be repeated
    #[arg(long = "role", value_name = "ROLE", value_parser = role, default_value = "USER")]
    pub(crate) roles: Vec<Role>,
    /// ID of the customer that the user belongs to
    #[arg(long, value_name = "ID", value_parser = CustomerId::parse_new)]
    pub(crate) customer: Option<CustomerId>,
    /// Customer type: CONSUMER or BUSINESS. It limits the customer routes through which the user can log in
    /// [default: both]
    #[arg(long, value_name = "TYPE", value_parser = customer_type, requires = "customer")]
    pub(crate) customer_type: Option<Collection>,
    /// Verified mail address, which receives codes and notifications
    #[arg(long, value_name = "ADDRESS", value_parser = mail_address)]
    pub(crate) email: Option<String>,
    /// Verified phone number in E.164 format, such as +4512345678
    #[arg(long, value_name = "NUMBER", value_parser = phone_number)]
    pub(crate) phone: Option<String>,
    /// Mail address that is not verified. It receives no codes to set a password
    #[arg(long, value_name = "ADDRESS", value_parser = mail_address, conflicts_with = "email")]
    pub(crate) unverified_email: Option<String>,
    /// Phone number that is not verified. It receives no codes to set a password
    #[arg(long, value_name = "NUMBER", value_parser = phone_number, conflicts_with = "phone")]
    pub(crate) unverified_phone: Option<String>,
    /// Language of the user's messages, such as en or pt-BR [default: the tenant's language]
    #[arg(long, value_name = "TAG", value_parser = language)]
    pub(crate) locale: Option<String>,
    #[command(flatten)]
    pub(crate) profile: ProfileArgs,
    #[command(flatten)]
    pub(crate) password: PasswordFrom,
    /// Require a password change at the first login [default: the policy field
    /// admin_set_password_expires]
    #[arg(long, value_name = "TRUE_OR_FALSE")]
    pub(crate) change_required: Option<bool>,
}

/// Profile and metadata of a user.
#[derive(Debug, Args)]
pub(crate) struct ProfileArgs {
    /// Given name
    #[arg(long, value_name = "NAME", value_parser = profile_text)]
    pub(crate) given_name: Option<String>,
    /// Family name
    #[arg(long, value_name = "NAME", value_parser = profile_text)]
    pub(crate) family_name: Option<String>,
    /// Nick name
    #[arg(long, value_name = "NAME", value_parser = profile_text)]
    pub(crate) nick_name: Option<String>,
    /// Display name
    #[arg(long, value_name = "NAME", value_parser = profile_text)]
    pub(crate) display_name: Option<String>,
    /// Gender: FEMALE, MALE or DIVERSE
    #[arg(long, value_name = "GENDER", value_parser = gender)]
    pub(crate) gender: Option<Gender>,
    /// Metadata to set. Can be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = metadata::entry)]
    pub(crate) metadata: Vec<(String, String)>,
}

impl ProfileArgs {
    /// Returns the profile with the names and the gender of the arguments, where they are given.
    pub(crate) fn applied(&self, old: Profile) -> Profile {
        Profile {
            given_name: self.given_name.clone().or(old.given_name),
            family_name: self.family_name.clone().or(old.family_name),
            nick_name: self.nick_name.clone().or(old.nick_name),
            display_name: self.display_name.clone().or(old.display_name),
            gender: self.gender.or(old.gender),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ListUsers {
    /// Tenant ID
    #[arg(value_parser = TenantId::parse)]
    pub(crate) tenant: TenantId,
    /// Maximum number of users to list
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: u64,
    /// List all users
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
    /// Continue after this user ID, the last one of the previous list. The user must still exist
    #[arg(long, value_name = "USER", value_parser = UserId::parse)]
    pub(crate) after: Option<UserId>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").multiple(true).required(true).args([
    "username", "organization", "roles", "customer", "customer_type", "email", "phone", "unverified_email",
    "unverified_phone", "locale", "given_name", "family_name", "nick_name", "display_name", "gender", "metadata",
    "unset", "unset_metadata", "change_required", "password", "password_stdin",
]))]
pub(crate) struct UpdateUser {
    #[command(flatten)]
    pub(crate) user: UserArg,
    /// New username
    #[arg(long, value_name = "NAME", value_parser = Username::parse_new)]
    pub(crate) username: Option<Username>,
    /// ID of the new organization that owns the user
    #[arg(long, value_name = "ID", value_parser = OrganizationId::parse_new)]
    pub(crate) organization: Option<OrganizationId>,
    /// New role: USER, ADMIN or TENANT_ADMIN. Replaces all present roles. Can be repeated
    #[arg(long = "role", value_name = "ROLE", value_parser = role)]
    pub(crate) roles: Vec<Role>,
    /// ID of the new customer that the user belongs to
    #[arg(long, value_name = "ID", value_parser = CustomerId::parse_new)]
    pub(crate) customer: Option<CustomerId>,
    /// Customer type: CONSUMER or BUSINESS. It limits the customer routes through which the user can log in
    #[arg(long, value_name = "TYPE", value_parser = customer_type)]
    pub(crate) customer_type: Option<Collection>,
    /// New verified mail address. Codes sent to the previous address become invalid
    #[arg(long, value_name = "ADDRESS", value_parser = mail_address)]
    pub(crate) email: Option<String>,
    /// New verified phone number in E.164 format. Codes sent to the previous number become invalid
    #[arg(long, value_name = "NUMBER", value_parser = phone_number)]
    pub(crate) phone: Option<String>,
    /// New mail address that is not verified. Replaces the present address, verified or not
    #[arg(long, value_name = "ADDRESS", value_parser = mail_address, conflicts_with = "email")]
    pub(crate) unverified_email: Option<String>,
    /// New phone number that is not verified. Replaces the present number, verified or not
    #[arg(long, value_name = "NUMBER", value_parser = phone_number, conflicts_with = "phone")]
    pub(crate) unverified_phone: Option<String>,
    /// New language of the user's messages
    #[arg(long, value_name = "TAG", value_parser = language)]
    pub(crate) locale: Option<String>,
    #[command(flatten)]
    pub(crate) profile: ProfileArgs,
    /// Field to remove from the user. Can be repeated
    #[arg(long, value_name = "FIELD")]
    pub(crate) unset: Vec<UnsetField>,
    /// Metadata key to remove from the user. Can be repeated
    #[arg(long, value_name = "KEY")]
    pub(crate) unset_metadata: Vec<String>,
    /// Require a password change at the next login [default: the policy field admin_set_password_expires
    /// if the command sets a password, otherwise unchanged]
    #[arg(long, value_name = "TRUE_OR_FALSE")]
    pub(crate) change_required: Option<bool>,
    #[command(flatten)]
    pub(crate) password: PasswordFrom,
}

/// Optional user fields that `--unset` removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum UnsetField {
    Customer,
    CustomerType,
    Email,
    Phone,
    Locale,
    GivenName,
    FamilyName,
    NickName,
    DisplayName,
    Gender,
    Metadata,
}

fn role(text: &str) -> Result<Role, &'static str> {
    Role::from_name(text).ok_or("a role is USER, ADMIN or TENANT_ADMIN")
}
