//! `doorwardctl session …`

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, Subcommand};
use doorward::{
    domain::{Collection, Session, SessionId, TenantId, User, UserId},
    port::{Clock, EndSession, SessionPageQuery, SessionsOf, Store},
    runtime::SystemClock,
    store::Switched,
};
use serde_json::{Value, json};

use crate::{
    Context,
    output::{plain, table},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List a user's live sessions, in the order of their ids
    List {
        #[command(flatten)]
        whose: Whose,
        /// Most of them
        #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        /// Go on behind this session
        #[arg(long, value_name = "SESSION", value_parser = SessionId::parse)]
        after: Option<SessionId>,
    },
    /// End a session at once, as its logout does
    Revoke {
        #[command(flatten)]
        whose: Whose,
        /// The session's id
        #[arg(value_parser = SessionId::parse)]
        session: SessionId,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// End all sessions of a user at once, those too whose login is under way. Its password stays
    RevokeAll {
        #[command(flatten)]
        whose: Whose,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Whose {
    /// The tenant's id
    #[arg(value_parser = TenantId::parse)]
    tenant: TenantId,
    /// The user's id
    #[arg(value_parser = UserId::parse)]
    user: UserId,
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        match self {
            Self::List { whose, limit, after } => list(context, &whose, usize::from(limit), after).await,
            Self::Revoke { whose, session, yes } => {
                if !yes {
                    let question = format!("End session {session} of user {}?", whose.user);
                    context.output.confirm(&question, session.as_str())?;
                }
                revoke(context, &whose, &session).await
            }
            Self::RevokeAll { whose, yes } => {
                if !yes {
                    let question = format!("End all sessions of user {}?", whose.user);
                    context.output.confirm(&question, whose.user.as_str())?;
                }
                revoke_all(context, &whose).await
            }
        }
    }
}

async fn list(context: &Context, whose: &Whose, limit: usize, mut after: Option<SessionId>) -> Result<()> {
    let (user, tenant_epoch) = read(context, whose).await?;
    let of = SessionsOf::user(&user, tenant_epoch, SystemClock.now());
    // A user's live sessions are all of its present organization: moving it ends those before.
    let path = (Collection::Admin, user.organization.as_str());
    let mut sessions = Vec::new();
    loop {
        let query = SessionPageQuery { of, path, after: after.as_ref(), limit: limit - sessions.len() };
        let page = context.store.session_page(&query).await?;
        sessions.extend(page.sessions);
        after = page.after;
        if after.is_none() || sessions.len() >= limit {
            break;
        }
    }
    let described: Vec<_> = sessions.iter().map(described).collect();
    let Whose { tenant, user } = whose;
    let value = json!({ "tenant": tenant, "user": user, "sessions": described, "next": after });
    context.output.result(&value, || {
        let names = ["session", "createdAt", "refreshedAt", "endsAt", "ip", "platform", "userAgent"];
        let head = ["SESSION", "LOGIN", "REFRESHED", "ENDS", "ADDRESS", "PLATFORM", "USER AGENT"];
        let row = |session: &Value| {
            names.iter().map(|name| plain(session.get(*name).unwrap_or(&Value::Null))).collect()
        };
        let table = table(&head, described.iter().map(row));
        let more = after.map_or_else(String::new, |after| format!("\nThere are more: --after {after}"));
        format!("{table}{more}")
    })
}

async fn revoke(context: &Context, whose: &Whose, session: &SessionId) -> Result<()> {
    let Whose { tenant, user } = whose;
    let end = EndSession { tenant, user, session, path: None, reuse: false, now: SystemClock.now() };
    let ended = context.store.end_session(&end).await?;
    let ended = ended.with_context(|| {
        format!("user {user} of tenant {tenant} has no session {session}: see `session list`")
    })?;
    let value = json!({ "tenant": tenant, "user": user, "session": session, "endedAt": ended.to_string() });
    context.output.result(&value, || format!("Session {session} is ended since {ended:.0}."))
}

async fn revoke_all(context: &Context, whose: &Whose) -> Result<()> {
    let Whose { tenant, user } = whose;
    let now = SystemClock.now();
    let (known, tenant_epoch) = read(context, whose).await?;
    // What is live meanwhile ends, too: the number is what was live just before.
    let ended = context.store.count_sessions(&SessionsOf::user(&known, tenant_epoch, now), None).await?;
    if context.store.revoke_sessions(tenant, user, now).await? != Switched::Done {
        bail!(unknown(whose));
    }
    let value = json!({ "tenant": tenant, "user": user, "ended": ended });
    context.output.result(&value, || format!("All sessions of user {user} are ended. Live before: {ended}."))
}

/// The user, and the epoch of its tenant's sessions.
async fn read(context: &Context, whose: &Whose) -> Result<(User, u64)> {
    let Whose { tenant, user } = whose;
    let record = context.store.tenant_record(tenant).await?;
    let record = record.with_context(|| format!("there is no tenant {tenant}: see `tenant list`"))?;
    let user = context.store.user(tenant, user).await?.ok_or_else(|| unknown(whose))?;
    Ok((user, record.tenant.session_epoch))
}

fn unknown(whose: &Whose) -> anyhow::Error {
    let Whose { tenant, user } = whose;
    anyhow!("there is no user {user} of a tenant {tenant}: ids are wanted, not names")
}

/// What an operator may see of a session: nothing that makes one of its tokens.
fn described(session: &Session) -> Value {
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
