//! `doorwardctl user export-data`

use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueHint};
use doorward::{
    domain::{AttemptId, AttemptState, CodePurpose, ResetCode, Session, TrustedDeviceId, User, folded},
    store::{Sealed, UserDatum},
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    args::{UserArg, UserRef},
    described,
    export::private,
};
use crate::{Context, output::unless_closed};

#[derive(Debug, Args)]
pub(crate) struct ExportUserData {
    #[command(flatten)]
    user: UserArg,
    /// New file to write to. Only its owner can read it [default: stdout]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    out: Option<PathBuf>,
}

/// Number of exported items, and the sort keys of those that are unreadable.
#[derive(Default)]
struct Written {
    items: u64,
    unreadable: Vec<String>,
}

impl ExportUserData {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        let Self { user, out } = self;
        let user_ref = user.find_or_deleted(context).await?;
        let Some(path) = out else {
            let mut stdout = io::stdout();
            return write_all(context, &user_ref, &mut stdout).await?.complete();
        };
        let mut file = BufWriter::new(private(&path)?);
        let written = match write_all(context, &user_ref, &mut file).await {
            Ok(written) => written,
            Err(error) => {
                // The file is new and incomplete.
                let _ = std::fs::remove_file(&path);
                return Err(error);
            }
        };
        let synced = file.flush().and_then(|()| file.get_ref().sync_all());
        synced.with_context(|| format!("cannot write {}", path.display()))?;
        let UserRef { tenant, user } = &user_ref;
        let items = written.items;
        let value = json!({ "tenant": tenant, "user": user, "items": items, "file": path });
        context.output.result(&value, || {
            format!(
                "Exported items of user {user} to {}: {items}. The file contains personal data; protect it.",
                path.display()
            )
        })?;
        written.complete()
    }
}

impl Written {
    fn complete(self) -> Result<()> {
        if self.unreadable.is_empty() {
            return Ok(());
        }
        bail!(
            "the export is incomplete: these stored items of the user are unreadable: {}; repair or delete them",
            self.unreadable.join(", ")
        )
    }
}

/// Writes one line for each item, page by page.
async fn write_all(context: &Context, user_ref: &UserRef, target: &mut impl Write) -> Result<Written> {
    let UserRef { tenant, user } = user_ref;
    let (mut written, mut after) = (Written::default(), None);
    loop {
        let page = context.store.user_data(tenant, user, after).await?;
        for datum in &page.items {
            let mut lines = vec![line(datum)];
            match datum {
                UserDatum::User { user, .. } => lines.extend(finders(context, user).await?),
                UserDatum::Unreadable { sort_key } => written.unreadable.push(sort_key.clone()),
                _ => {}
            }
            for line in lines {
                unless_closed(writeln!(target, "{line}"))?;
                written.items += 1;
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if written.items == 0 {
        bail!(
            "tenant {tenant} has no user with the ID or username {user}, and no items of a user with this ID; pass \
             the user ID or the username"
        );
    }
    Ok(written)
}

/// Returns the items that find a user.
async fn finders(context: &Context, user: &User) -> Result<Vec<Value>> {
    let found = context.store.user_finders(user).await?;
    let name = found.username.then(|| json!({ "item": "username", "username": user.username.folded() }));
    let mail = found.email.then(|| json!({ "item": "mail", "email": user.any_email().map(folded) }));
    Ok(name.into_iter().chain(mail).collect())
}

fn line(datum: &UserDatum) -> Value {
    match datum {
        UserDatum::User { user, is_imported } => of_user(user, *is_imported),
        UserDatum::Session(session) => of_session(session),
        UserDatum::Attempts(buckets) => json!({
            "item": "attempts",
            "expiresAt": buckets.first().and_then(|(_, state)| state.expires_at).and_then(second),
            "devices": buckets.iter().map(|(device, state)| of_bucket(*device, state)).collect::<Vec<_>>(),
        }),
        UserDatum::Code { purpose, code, tries } => of_code(*purpose, code, *tries),
        UserDatum::Message(Sealed { key, key_version, ends_at, bytes }) => json!({
            "item": "message",
            "message": key.id.to_string(),
            "createdAt": key.id.made_at().to_string(),
            "endsAt": ends_at.to_string(),
            "keyVersion": key_version,
            "bytes": bytes.len(),
            "notExported": ["message"],
        }),
        UserDatum::Unreadable { sort_key } => json!({ "item": "unreadable", "sortKey": sort_key }),
    }
}

fn of_user(user: &User, is_imported: bool) -> Value {
    let mut secrets = vec!["password"];
    secrets.extend((!user.password_history.is_empty()).then_some("passwordHistory"));
    secrets.extend(is_imported.then_some("importDigest"));
    let more = json!({
        "item": "user",
        "passwordHistoryLength": user.password_history.len(),
        "proofsEpoch": user.proofs_epoch,
        "sessionsRevision": user.sessions_revision,
        "notExported": secrets,
    });
    merged(described(user), more)
}

fn of_session(session: &Session) -> Value {
    let Session {
        organization, customer, user_epoch, tenant_epoch, key_version, ended, proven_device, ..
    } = session;
    let retired = session.retired.iter().map(|(number, at)| (number.to_string(), json!(at.to_string())));
    let more = json!({
        "item": "session",
        "organization": organization,
        "customer": customer,
        "userEpoch": user_epoch,
        "tenantEpoch": tenant_epoch,
        "keyVersion": key_version,
        "endedAt": ended.map(|ended| ended.at.to_string()),
        "endedByReuse": ended.is_some_and(|ended| ended.reuse),
        "retiredRefreshes": retired.collect::<serde_json::Map<_, _>>(),
        "lastRefresh": session.rotation.map(|id| id.to_string()),
        "trustedDevice": proven_device.map(|device| device.to_string()),
        "notExported": ["nonce"],
    });
    merged(described_session(session), more)
}

fn of_bucket(device: Option<TrustedDeviceId>, state: &AttemptState) -> Value {
    let AttemptState { slots, failed, recent, failures, reduced_slots, quiet_at, expires_at: _ } = state;
    let times = |ids: &std::collections::BTreeSet<AttemptId>| -> Vec<String> {
        ids.iter().map(|id| id.made_at().to_string()).collect()
    };
    json!({
        "trustedDevice": device.map(|device| device.to_string()),
        "attempts": times(slots),
        "failed": times(failed),
        "lastHour": times(recent),
        "consecutiveFailures": failures,
        "slots": reduced_slots,
        "forgottenAt": quiet_at.map(|at| at.to_string()),
    })
}

fn of_code(purpose: CodePurpose, code: &ResetCode, tries: usize) -> Value {
    let ResetCode { id, proof, ends_at, sent, spent } = code;
    let secrets = [proof.as_ref().map(|_| "digest"), spent.as_ref().map(|_| "submission")];
    json!({
        "item": "code",
        "purpose": purpose.name(),
        "code": id.to_string(),
        "createdAt": id.made_at().to_string(),
        "endsAt": ends_at.to_string(),
        "kind": proof.as_ref().map(|proof| proof.kind),
        "keyVersion": proof.as_ref().map(|proof| proof.key_version),
        "sentAt": sent.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "used": spent.is_some(),
        "wrongAttempts": tries,
        "notExported": secrets.into_iter().flatten().collect::<Vec<_>>(),
    })
}

fn second(second: i64) -> Option<String> {
    Timestamp::from_second(second).ok().map(|at| at.to_string())
}

/// Adds the members of `more` to an object.
fn merged(mut value: Value, more: Value) -> Value {
    if let (Value::Object(members), Value::Object(more)) = (&mut value, more) {
        members.extend(more);
    }
    value
}

/// Returns the session fields that an operator can see. They contain nothing that can create a token.
pub(crate) fn described_session(session: &Session) -> Value {
    let Session {
        id,
        collection,
        generation,
        created_at,
        refreshed_at,
        idle_expires_at,
        expires_at,
        device,
        ..
    } = session;
    json!({
        "session": id,
        "userType": collection.user_type(),
        "refreshes": generation,
        "createdAt": format!("{created_at:.0}"),
        "refreshedAt": format!("{refreshed_at:.0}"),
        "idleEndsAt": format!("{idle_expires_at:.0}"),
        "endsAt": format!("{expires_at:.0}"),
        "ip": device.ip.map(|ip| ip.to_string()),
        "platform": device.platform,
        "deviceId": device.device_id,
        "forwardedFrom": device.forwarded_from,
        "userAgent": device.user_agent,
    })
}
