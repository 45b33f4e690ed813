//! `doorwardctl client …`

mod args;

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result, anyhow, bail};
use doorward::{
    domain::{
        ApiClient, ClientCredential, ClientId, ClientKey, ClientProof, ClientScope, ClientStatus, Invalid,
        MAX_CLIENTS, TenantId,
    },
    function::{SystemClock, SystemEntropy},
    port::{Clock, random},
    store::{ClientCreation, Switched},
    token::{TenantKeys, client_keys, new_client_secret},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

pub(crate) use self::args::ClientCommand;
use self::args::{ClientRef, CreateClient, RotateClient};
use crate::{
    Context,
    input::without_mark,
    output::{changed, plain, table},
    target::Target,
};

impl ClientCommand {
    pub(crate) async fn run(self, context: &Context, target: &Target) -> Result<()> {
        match self {
            Self::Create(create) => create.run(context, target).await,
            Self::List { tenant } => list(context, &tenant).await,
            Self::Show(client_ref) => {
                let value = described(&read(context, &client_ref).await?);
                context.output.result(&value, || {
                    let rows = value.as_object().into_iter().flatten();
                    let rows = rows.filter(|(name, _)| *name != "credentials");
                    let fields = table(
                        &["FIELD", "VALUE"],
                        rows.map(|(name, value)| vec![name.clone(), plain(value)]),
                    );
                    format!("{fields}\n\n{}", credentials_table(&value))
                })
            }
            Self::Rotate(rotate) => rotate.run(context, target).await,
            Self::Retire { client_ref, version, yes } => retire(context, &client_ref, version, yes).await,
            Self::Disable(client_ref) => {
                let effect = "Its tokens are rejected.";
                switch(context, &client_ref, ClientStatus::Disabled, ("disabled", effect)).await
            }
            Self::Enable(client_ref) => {
                let effect = "It can authenticate again.";
                switch(context, &client_ref, ClientStatus::Active, ("enabled", effect)).await
            }
            Self::Delete { client_ref, yes } => {
                let ClientRef { tenant, client } = &client_ref;
                if !yes {
                    let question = format!("Delete client {client} of tenant {tenant} permanently?");
                    context.output.confirm(&question, client.as_str())?;
                }
                let done = context.store.delete_client(tenant, client).await?;
                report_switch(context, &client_ref, done, ("deleted", "Its tokens are rejected."))
            }
        }
    }
}

impl CreateClient {
    async fn run(self, context: &Context, target: &Target) -> Result<()> {
        let now = SystemClock.now();
        let keys = self.jwks.as_deref().map(read_keys).transpose()?;
        let empty = ApiClient {
            tenant: self.tenant.clone(),
            id: ClientId::from_random(random(&SystemEntropy)?),
            name: self.name,
            scopes: ClientScope::ordered(&self.scopes),
            organization: self.organization,
            ip_allow: self.ip_allow,
            status: ClientStatus::Active,
            credentials: Vec::new(),
            revision: 1,
            created_at: now,
            last_used_at: None,
        };
        let (client, secret) = match keys {
            Some(keys) => {
                (empty.with_keys(keys, now).map_err(|invalid| anyhow!("the client {invalid}"))?, None)
            }
            None => with_new_secret(context, target, empty, false).await?,
        };
        match context.store.create_client(&client).await? {
            ClientCreation::Done => {}
            ClientCreation::Full => bail!(
                "tenant {} already has {MAX_CLIENTS} clients; delete one first with `client delete`",
                self.tenant
            ),
            ClientCreation::NoTenant => bail!("tenant {} does not exist; see `tenant list`", self.tenant),
        }
        show_secret(context, &client, secret.as_ref(), || {
            let next = match secret {
                Some(_) => " Save these credentials now; they are not shown again.",
                None => " It authenticates with its private key.",
            };
            format!("Created client {} of tenant {}.{next}", client.id, client.tenant)
        })
    }
}

impl RotateClient {
    async fn run(self, context: &Context, target: &Target) -> Result<()> {
        let ClientRef { tenant, client: id } = &self.client_ref;
        let before = read(context, &self.client_ref).await?;
        if self.leaked && !self.yes {
            let question = format!("Retire all earlier secrets of client {id} of tenant {tenant} at once?");
            context.output.confirm(&question, id.as_str())?;
        }
        let (after, secret) = match &self.jwks {
            Some(file) => {
                let changed = before.with_keys(read_keys(file)?, SystemClock.now());
                (changed.map_err(|invalid| refused(&self.client_ref, invalid))?, None)
            }
            None => with_new_secret(context, target, before, self.leaked).await?,
        };
        context.store.change_client(&after).await?;
        show_secret(context, &after, secret.as_ref(), || match secret {
            None => format!("Replaced the public keys of client {id}."),
            Some(_) if self.leaked => format!(
                "Rotated the secret of client {id}. Save these credentials now; they are not shown again. \
                 The earlier secrets are rejected."
            ),
            Some(_) => format!(
                "Rotated the secret of client {id}. Save these credentials now; they are not shown again. \
                 The old secret stays valid until `client retire {tenant} {id}`."
            ),
        })
    }
}

/// Adds a new secret to a client. Returns the client and the secret.
async fn with_new_secret(
    context: &Context,
    target: &Target,
    client: ApiClient,
    leaked: bool,
) -> Result<(ApiClient, Option<SecretString>)> {
    let keys = tenant_keys(context, target, &client.tenant).await?;
    let secret = new_client_secret(&SystemEntropy)?;
    let hash = keys.client_secret_hash(&client.id, &secret)?;
    let client_ref = ClientRef { tenant: client.tenant.clone(), client: client.id.clone() };
    let changed = client.with_secret(hash, leaked, SystemClock.now());
    Ok((changed.map_err(|invalid| refused(&client_ref, invalid))?, Some(secret)))
}

/// Returns the keys that the functions of the tenant use now.
async fn tenant_keys(context: &Context, target: &Target, tenant: &TenantId) -> Result<Arc<TenantKeys>> {
    let now = SystemClock.now();
    let record = context.store.tenant(tenant).await?;
    let record = record.with_context(|| format!("tenant {tenant} does not exist; see `tenant list`"))?;
    Ok(target.secrets().await?.tenants().keys(&record, now).await?)
}

async fn retire(context: &Context, client_ref: &ClientRef, version: Option<u32>, yes: bool) -> Result<()> {
    let ClientRef { tenant, client: id } = client_ref;
    let client = read(context, client_ref).await?;
    let version = version.or_else(|| client.oldest()).unwrap_or_default();
    let after = client.without(version, SystemClock.now());
    let after = after.map_err(|invalid| refused(client_ref, invalid))?;
    if !yes {
        let used = client_used(&after);
        let question = format!("Retire version {version} of client {id}? The client was last used: {used}.");
        context.output.confirm(&question, id.as_str())?;
    }
    context.store.change_client(&after).await?;
    let value = json!({ "tenant": tenant, "clientId": id, "retired": version });
    context.output.result(&value, || {
        format!("Retired version {version} of client {id}. It is rejected, and so are its tokens.")
    })
}

async fn switch(
    context: &Context,
    client_ref: &ClientRef,
    status: ClientStatus,
    outcome: (&str, &str),
) -> Result<()> {
    let before = read(context, client_ref).await?;
    let done = if before.status == status {
        Switched::Already
    } else {
        context.store.change_client(&ApiClient { status, ..before }).await?;
        Switched::Done
    };
    report_switch(context, client_ref, done, outcome)
}

fn report_switch(
    context: &Context,
    client_ref: &ClientRef,
    done: Switched,
    (state, effect): (&str, &str),
) -> Result<()> {
    let ClientRef { tenant, client } = client_ref;
    let changed = changed(done).ok_or_else(|| client_ref.unknown())?;
    let value = json!({ "tenant": tenant, "clientId": client, "state": state, "changed": changed });
    context.output.switched(&format!("Client {client}"), &value, (changed, state, effect))
}

async fn list(context: &Context, tenant: &TenantId) -> Result<()> {
    let clients = context.store.clients(tenant).await?;
    let described: Vec<_> = clients.iter().map(described).collect();
    context.output.result(&Value::Array(described), || {
        let rows = clients.iter().map(|client| {
            let (name, status) = (client.name.as_str().to_owned(), client.status.name().to_owned());
            vec![client.id.to_string(), name, status, client_used(client)]
        });
        table(&["CLIENT", "NAME", "STATUS", "LAST USED"], rows)
    })
}

/// Reads a client.
async fn read(context: &Context, client_ref: &ClientRef) -> Result<ApiClient> {
    let ClientRef { tenant, client } = client_ref;
    context.store.client(tenant, client).await?.ok_or_else(|| client_ref.unknown())
}

/// Reads the public keys in a file.
fn read_keys(file: &Path) -> Result<Vec<ClientKey>> {
    let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    client_keys(without_mark(&text)).map_err(|invalid| anyhow!("{} {invalid}", file.display()))
}

fn refused(client_ref: &ClientRef, invalid: Invalid) -> anyhow::Error {
    anyhow!("client {} {invalid}", client_ref.client)
}

/// Shows a client after a change of its credentials, with the new secret.
fn show_secret(
    context: &Context,
    client: &ApiClient,
    secret: Option<&SecretString>,
    sentence: impl FnOnce() -> String,
) -> Result<()> {
    let secret = secret.map(ExposeSecret::expose_secret);
    let version = client.live().map(|credential| credential.version).max();
    let members =
        [("tenant", json!(client.tenant)), ("clientId", json!(client.id)), ("version", json!(version))];
    let secret_member = secret.map(|secret| ("clientSecret", json!(secret)));
    let value: Value =
        members.into_iter().chain(secret_member).map(|(name, value)| (name.to_owned(), value)).collect();
    context.output.result(&value, || {
        let pair =
            [("clientId", client.id.as_str())].into_iter().chain(secret.map(|it| ("clientSecret", it)));
        let rows = pair.map(|(name, value)| vec![name.to_owned(), value.to_owned()]);
        format!("{}\n\n{}", sentence(), table(&["FIELD", "VALUE"], rows))
    })
}

fn client_used(client: &ApiClient) -> String {
    client.last_used_at.map_or_else(|| "never".to_owned(), |at| format!("{at:.0}"))
}

/// Returns the fields of a client. They include no hash of a secret.
fn described(client: &ApiClient) -> Value {
    let ApiClient {
        tenant,
        id,
        name,
        scopes,
        organization,
        ip_allow,
        status,
        credentials,
        revision: _,
        created_at,
        last_used_at,
    } = client;
    json!({
        "tenant": tenant,
        "clientId": id,
        "name": name.as_str(),
        "status": status.name(),
        "scopes": scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>(),
        "organization": organization,
        "ipAllow": ip_allow,
        "createdAt": format!("{created_at:.0}"),
        "lastUsedAt": last_used_at.map(|at| format!("{at:.0}")),
        "credentials": credentials.iter().map(described_credential).collect::<Vec<_>>(),
    })
}

fn described_credential(credential: &ClientCredential) -> Value {
    let ClientCredential { version, created_at, retired_at, proof } = credential;
    let (kind, key_id) = match proof {
        ClientProof::Secret(_) => ("secret", None),
        ClientProof::Key(key) => (key.algorithm.name(), key.id.as_deref()),
    };
    json!({
        "version": version,
        "type": kind,
        "keyId": key_id,
        "createdAt": format!("{created_at:.0}"),
        "retiredAt": retired_at.map(|at| format!("{at:.0}")),
    })
}

fn credentials_table(client: &Value) -> String {
    let names = ["version", "type", "keyId", "createdAt", "retiredAt"];
    let row = |credential: &Value| {
        names.iter().map(|name| plain(credential.get(*name).unwrap_or(&Value::Null))).collect()
    };
    let rows = client.get("credentials").and_then(Value::as_array).into_iter().flatten().map(row);
    table(&["VERSION", "TYPE", "KEY ID", "CREATED", "RETIRED"], rows)
}
