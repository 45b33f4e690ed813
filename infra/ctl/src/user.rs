//! `doorwardctl user …`

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{ArgGroup, Args, Subcommand};
use doorward::{
    domain::{
        Collection, CustomerId, Failure, OrganizationId, Password, Role, Tenant, TenantId, User, UserId,
        UserStatus, Username, language, mail_address, phone_number,
    },
    password::{Argon2id, nobodys_hash},
    port::{Clock, Passwords, Store, random},
    runtime::{SystemClock, SystemEntropy},
    store::{Switched, UserPosition},
    usecase::new_password::Candidate,
};
use serde_json::{Value, json};

use crate::{
    Context,
    export::Export,
    import::Import,
    output::{Output, Usage, plain, table},
    prompt::PasswordFrom,
    record::customer_type,
};

/// Memory to hash one password with, in MiB: the most that a tenant may ask for, and what a function
/// keeps for itself.
const HASHING_MIB: usize = 256;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a user; without a password it sets one by a reset code before its first login
    Create(Box<Create>),
    /// List a tenant's users. It reads the whole table, or as much of it as it takes to find them: one
    /// read unit for each 4 KB
    List(List),
    /// Show a user: never its password's hash
    Show(Which),
    /// Change a user: everything at once, or nothing. A change of its roles, its organization, its
    /// customer or its password ends all its sessions at once
    Update(Box<Update>),
    /// Create users from lines of JSON, with the hashes of the passwords that they have: docs/users.md
    ///
    /// A line that cannot be imported is told with its number and the reason, and the others go in: it
    /// ends with 1 then. A user that is there is never changed. After a stop, run it again: users that
    /// were imported from the same line before are passed over.
    Import(Import),
    /// Write a tenant's users as lines of JSON, by id, WITH THE HASHES OF THEIR PASSWORDS
    ///
    /// Imported into an empty tenant and exported there again, they are the same to the byte. It reads
    /// the whole table, one read unit for each 4 KB, and keeps what it finds in memory. It is no
    /// snapshot: a user that is changed meanwhile is as before or as after.
    Export(Export),
    /// Keep a user from logging in, and end all its sessions at once
    Disable(Which),
    /// Let a disabled user log in again; its earlier sessions stay ended
    Enable(Which),
    /// Let a user try its password again: its lockout ends, and so does a row of wrong passwords that
    /// disabled it. What its address and its tenant have left of the hour stays
    Unlock(Which),
    /// Delete a user, its name and what waits to be sent to it; all its sessions end at once
    Delete {
        #[command(flatten)]
        which: Which,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The tenant's id
    #[arg(value_parser = TenantId::parse)]
    tenant: TenantId,
    /// The user's id
    #[arg(value_parser = UserId::parse)]
    user: UserId,
}

/// What to create.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The tenant's id
    #[arg(value_parser = TenantId::parse)]
    tenant: TenantId,
    /// Its id, which stays; OCARIoT's routes take 24 hexadecimal digits alone [default: a random UUID]
    #[arg(long, value_parser = UserId::parse)]
    id: Option<UserId>,
    /// What it logs in as
    #[arg(long, value_name = "NAME", value_parser = Username::parse)]
    username: Username,
    /// The organization that owns it
    #[arg(long, value_name = "ID", value_parser = OrganizationId::parse)]
    organization: OrganizationId,
    /// What it may do: USER, ADMIN (its organization) or TENANT_ADMIN. For each role once more
    #[arg(long = "role", value_name = "ROLE", value_parser = role, default_value = "USER")]
    roles: Vec<Role>,
    /// The customer that it belongs to
    #[arg(long, value_name = "ID", value_parser = CustomerId::parse)]
    customer: Option<CustomerId>,
    /// Which customers' routes it logs in through: CONSUMER or BUSINESS [default: both]
    #[arg(long, value_name = "TYPE", value_parser = customer_type, requires = "customer")]
    customer_type: Option<Collection>,
    /// Its verified mail address: codes and news go there
    #[arg(long, value_name = "ADDRESS", value_parser = mail_address)]
    email: Option<String>,
    /// Its verified telephone number, in E.164
    #[arg(long, value_name = "NUMBER", value_parser = phone_number)]
    phone: Option<String>,
    /// The language that it reads: en, pt-BR [default: its tenant's]
    #[arg(long, value_name = "TAG", value_parser = language)]
    locale: Option<String>,
    #[command(flatten)]
    password: PasswordFrom,
    /// Whether its first login may only change its password [default: as the tenant's policy says,
    /// admin_set_password_expires]
    #[arg(long, value_name = "TRUE_OR_FALSE")]
    change_required: Option<bool>,
}

/// Which users to list.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// The tenant's id
    #[arg(value_parser = TenantId::parse)]
    tenant: TenantId,
    /// No more than this
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Every one
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Go on behind this user, the last one of an earlier list: they have an order, though no useful one
    #[arg(long, value_name = "USER", value_parser = UserId::parse)]
    after: Option<UserId>,
}

/// What to change.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").multiple(true).required(true).args([
    "username", "organization", "roles", "customer", "customer_type", "email", "phone", "locale", "unset",
    "change_required", "password", "password_stdin",
]))]
pub(crate) struct Update {
    #[command(flatten)]
    which: Which,
    /// What it logs in as from now on
    #[arg(long, value_name = "NAME", value_parser = Username::parse)]
    username: Option<Username>,
    /// The organization that owns it
    #[arg(long, value_name = "ID", value_parser = OrganizationId::parse)]
    organization: Option<OrganizationId>,
    /// All that it may do from now on: USER, ADMIN or TENANT_ADMIN. For each role once more
    #[arg(long = "role", value_name = "ROLE", value_parser = role)]
    roles: Vec<Role>,
    /// The customer that it belongs to
    #[arg(long, value_name = "ID", value_parser = CustomerId::parse)]
    customer: Option<CustomerId>,
    /// Which customers' routes it logs in through: CONSUMER or BUSINESS
    #[arg(long, value_name = "TYPE", value_parser = customer_type)]
    customer_type: Option<Collection>,
    /// Its verified mail address: a code that was sent elsewhere opens nothing any more
    #[arg(long, value_name = "ADDRESS", value_parser = mail_address)]
    email: Option<String>,
    /// Its verified telephone number, in E.164; as with the mail address
    #[arg(long, value_name = "NUMBER", value_parser = phone_number)]
    phone: Option<String>,
    /// The language that it reads
    #[arg(long, value_name = "TAG", value_parser = language)]
    locale: Option<String>,
    /// What it has no longer. For each once more
    #[arg(long, value_name = "FIELD")]
    unset: Vec<Unset>,
    /// Whether its next login may only change its password [default: with a new password as the tenant's
    /// policy says, admin_set_password_expires]
    #[arg(long, value_name = "TRUE_OR_FALSE")]
    change_required: Option<bool>,
    #[command(flatten)]
    password: PasswordFrom,
}

/// What a user may do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Unset {
    Customer,
    CustomerType,
    Email,
    Phone,
    Locale,
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let store = &context.store;
        let now = SystemClock.now();
        match self {
            Self::Create(create) => create.run(context).await,
            Self::List(list) => list.run(context).await,
            Self::Update(update) => update.run(context).await,
            Self::Import(import) => import.run(context).await,
            Self::Export(export) => export.run(context).await,
            Self::Show(which) => show(context, &which).await,
            Self::Disable(which) => {
                let done = store.disable_user(&which.tenant, &which.user, now).await?;
                tell(context, &which, done, "disabled", "All its sessions ended.")
            }
            Self::Enable(which) => {
                let done = store.enable_user(&which.tenant, &which.user, now).await?;
                tell(context, &which, done, "enabled", "Its earlier sessions stay ended.")
            }
            Self::Unlock(which) => {
                let done = store.unlock_user(&which.tenant, &which.user).await?;
                tell(context, &which, done, "unlocked", "Its wrong passwords are forgotten.")
            }
            Self::Delete { which, yes } => {
                if !yes {
                    let question = format!("Delete user {} of tenant {} for good?", which.user, which.tenant);
                    context.output.confirm(&question, which.user.as_str())?;
                }
                let done = store.delete_user(&which.tenant, &which.user).await?;
                tell(context, &which, done, "deleted", "All its sessions ended.")
            }
        }
    }
}

fn tell(context: &Context, which: &Which, done: Switched, state: &str, effect: &str) -> Result<()> {
    let Which { tenant, user } = which;
    let changed = match done {
        Switched::Done => true,
        Switched::Already => false,
        Switched::Missing => bail!("there is no user {user} of a tenant {tenant}: ids are wanted, not names"),
    };
    let value = json!({ "tenant": tenant, "user": user, "state": state, "changed": changed });
    context.output.result(&value, || {
        if changed {
            format!("User {user} is {state}. {effect}")
        } else {
            format!("User {user} was {state} before: nothing was done.")
        }
    })
}

async fn show(context: &Context, which: &Which) -> Result<()> {
    let Which { tenant, user } = which;
    let Some(known) = context.store.user(tenant, user).await? else {
        bail!("there is no user {user} of a tenant {tenant}: ids are wanted, not names");
    };
    let value = described(&known);
    context.output.result(&value, || {
        let rows = value.as_object().into_iter().flatten();
        table(&["FIELD", "VALUE"], rows.map(|(name, value)| vec![name.clone(), plain(value)]))
    })
}

/// What an operator may see of a user: everything but hashes.
fn described(user: &User) -> Value {
    let User {
        tenant,
        id,
        username,
        password: _,
        organization,
        customer,
        customer_kind,
        roles,
        password_history: _,
        email,
        phone,
        locale,
        status,
        session_epoch,
        sessions_revision: _,
        reset_required,
        change_required,
        sequence,
        created_at,
        changed_at,
    } = user;
    json!({
        "tenant": tenant,
        "user": id,
        "username": username.as_written(),
        "status": status.name(),
        "roles": roles.iter().copied().map(Role::name).collect::<Vec<_>>(),
        "organization": organization,
        "customer": customer,
        "customerType": customer_kind.map(Collection::user_type),
        "email": email,
        "phone": phone,
        "locale": locale,
        "resetRequired": reset_required,
        "changeRequired": change_required,
        "sessionEpoch": session_epoch,
        "changeSequence": sequence,
        "createdAt": created_at.to_string(),
        "changedAt": changed_at.to_string(),
    })
}

impl Create {
    async fn run(self, context: &Context) -> Result<()> {
        let record = tenant(context, &self.tenant).await?;
        let password = self.password.read(context.output)?;
        if password.is_none() && self.change_required == Some(true) {
            bail!(Usage("--change-required is for a user with a password".to_owned()));
        }
        let hash = match &password {
            Some(password) => hashed(&record, &self.username, password, None).await?,
            None => nobodys_hash(&SystemEntropy, record.policy.hash_cost)?,
        };
        let now = SystemClock.now();
        let id = match self.id {
            Some(id) => id,
            None => UserId::from_random(random(&SystemEntropy)?),
        };
        let user = User {
            tenant: self.tenant,
            id,
            username: self.username,
            password: hash,
            organization: self.organization,
            customer: self.customer,
            customer_kind: self.customer_type,
            roles: Role::ordered(&self.roles),
            password_history: Vec::new(),
            email: self.email,
            phone: self.phone,
            locale: self.locale,
            status: UserStatus::Active,
            session_epoch: 0,
            sessions_revision: 0,
            reset_required: password.is_none(),
            change_required: password.is_some()
                && self.change_required.unwrap_or(record.policy.admin_set_password_expires),
            sequence: 0,
            created_at: now,
            changed_at: now,
        };
        match context.store.create_user(&user, now).await {
            Err(Failure::UsernameTaken) => bail!(
                "tenant {} has a user {} or one named {} already: nothing was done",
                user.tenant,
                user.id,
                user.username.as_written()
            ),
            done => done?,
        }
        let known = context.store.user(&user.tenant, &user.id).await?.unwrap_or(user);
        context.output.result(&described(&known), || {
            let next = if known.reset_required {
                " It has no password yet: it sets one by a code that it is sent."
            } else {
                ""
            };
            format!("User {} of tenant {} is created.{next}", known.id, known.tenant)
        })
    }
}

impl List {
    async fn run(self, context: &Context) -> Result<()> {
        let Self { tenant: id, limit, all, after } = self;
        tenant(context, &id).await?;
        let most = if all { usize::MAX } else { usize::try_from(limit).unwrap_or(usize::MAX) };
        let mut from = after.map(|after| UserPosition::after(&id, &after));
        let (mut rows, mut listed, mut last, mut unreadable) = (Vec::new(), 0, None, Vec::new());
        let more = loop {
            let page = context.store.users(&id, from.as_ref()).await?;
            unreadable.extend(page.unreadable);
            for user in page.users.into_iter().take(most - listed) {
                listed += 1;
                if context.output.json {
                    Output::line(&described(&user))?;
                } else {
                    rows.push(row(&user));
                }
                last = Some(user.id);
            }
            from = page.next;
            if from.is_none() || listed == most {
                // Whoever asks for exactly as many as there are may be told to go on, and finds none.
                break listed == most;
            }
        };
        if !context.output.json {
            let next = match last.filter(|_| more) {
                Some(last) => format!("\n\nThere may be more: --after {last}"),
                None => String::new(),
            };
            let head = ["USER", "USERNAME", "STATUS", "ROLES", "ORGANIZATION", "CUSTOMER"];
            context.output.result(&Value::Null, || table(&head, rows) + &next)?;
        }
        if unreadable.is_empty() {
            Ok(())
        } else {
            bail!("these items of users cannot be read: {}", unreadable.join(", "))
        }
    }
}

fn row(user: &User) -> Vec<String> {
    let value = described(user);
    let names = ["user", "username", "status", "roles", "organization", "customer"];
    names.map(|name| plain(value.get(name).unwrap_or(&Value::Null))).into()
}

impl Update {
    async fn run(self, context: &Context) -> Result<()> {
        let Which { tenant: tenant_id, user } = &self.which;
        let record = tenant(context, tenant_id).await?;
        self.must_make_sense()?;
        let unknown =
            || anyhow!("there is no user {user} of a tenant {tenant_id}: ids are wanted, not names");
        let password = match self.password.read(context.output)? {
            None => None,
            Some(password) => {
                let known = context.store.user(tenant_id, user).await?.with_context(unknown)?;
                let username = self.username.as_ref().unwrap_or(&known.username);
                Some(hashed(&record, username, &password, Some(&known)).await?)
            }
        };
        let now = SystemClock.now();
        let change = |old: &User| {
            let mut new = User { changed_at: now, ..old.clone() };
            if let Some(hash) = &password {
                new.password_history = old.history_after_change(record.policy.password_history);
                new.password = hash.clone();
                new.reset_required = false;
                // Two people know it.
                new.change_required = record.policy.admin_set_password_expires;
            }
            self.apply(&mut new);
            new
        };
        match context.store.update_user(tenant_id, user, change).await {
            Ok(Some(known)) => {
                context.output.result(&described(&known), || format!("User {user} is changed."))?;
                if self.customer_type.is_some() && known.customer_kind.is_none() {
                    bail!("user {user} has no customer: --customer-type was left out, the rest is changed");
                }
                Ok(())
            }
            Ok(None) => Err(unknown()),
            Err(Failure::UsernameTaken) => bail!("another user has that name: nothing was done"),
            Err(failure) => Err(failure.into()),
        }
    }

    /// # Errors
    /// [`Usage`] when a field is set and unset.
    fn must_make_sense(&self) -> Result<()> {
        let set = [
            (Unset::Customer, self.customer.is_some()),
            (Unset::CustomerType, self.customer_type.is_some()),
            (Unset::Email, self.email.is_some()),
            (Unset::Phone, self.phone.is_some()),
            (Unset::Locale, self.locale.is_some()),
        ];
        if set.iter().any(|(field, is_set)| *is_set && self.unset.contains(field)) {
            bail!(Usage("a field is set and unset".to_owned()));
        }
        if self.customer_type.is_some() && self.unset.contains(&Unset::Customer) {
            bail!(Usage("--customer-type is for a user with a customer".to_owned()));
        }
        Ok(())
    }

    fn apply(&self, user: &mut User) {
        fn put<T: Clone>(wanted: Option<&T>, place: &mut T) {
            if let Some(wanted) = wanted {
                place.clone_from(wanted);
            }
        }
        let unset = |field| self.unset.contains(&field);
        put(self.username.as_ref(), &mut user.username);
        put(self.organization.as_ref(), &mut user.organization);
        put(self.change_required.as_ref(), &mut user.change_required);
        if !self.roles.is_empty() {
            user.roles = Role::ordered(&self.roles);
        }
        let kept = |kept: &Option<String>, wanted: &Option<String>, field| {
            wanted.clone().or_else(|| kept.clone().filter(|_| !unset(field)))
        };
        user.email = kept(&user.email, &self.email, Unset::Email);
        user.phone = kept(&user.phone, &self.phone, Unset::Phone);
        user.locale = kept(&user.locale, &self.locale, Unset::Locale);
        user.customer =
            self.customer.clone().or_else(|| user.customer.take().filter(|_| !unset(Unset::Customer)));
        // One without a customer has no kind of it.
        let kind = self.customer_type.or(user.customer_kind.filter(|_| !unset(Unset::CustomerType)));
        user.customer_kind = kind.filter(|_| user.customer.is_some());
    }
}

/// A password's hash, once it has passed what every new password has to (docs/design/security.md#rule-1 to #rule-3, #rule-6).
async fn hashed(
    tenant: &Tenant,
    username: &Username,
    password: &Password,
    user: Option<&User>,
) -> Result<doorward::domain::PasswordHash> {
    let candidate = Candidate { password, field: "password", username };
    candidate.judge(tenant)?;
    let hasher = Argon2id::new(Arc::new(SystemEntropy), HASHING_MIB, 1);
    if let Some(user) = user {
        candidate.judge_history(&hasher, &tenant.policy, user).await?;
    }
    Ok(hasher.hash(password.clone(), tenant.policy.hash_cost).await?)
}

async fn tenant(context: &Context, id: &TenantId) -> Result<Tenant> {
    context.store.tenant(id).await?.with_context(|| format!("there is no tenant {id}: see `tenant list`"))
}

fn role(text: &str) -> Result<Role, &'static str> {
    Role::from_name(text).ok_or("a role is USER, ADMIN or TENANT_ADMIN")
}
