//! `doorwardctl session …`

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use doorward::{
    domain::{Collection, SessionId, SessionPosition, User},
    function::SystemClock,
    port::Clock,
    store::Switched,
    store::{EndSession, ExtraItem, SessionPageQuery, SessionsOf},
};
use serde_json::{Value, json};

use crate::{
    Context,
    output::{plain, table},
    user::{UserArg, UserRef, described_session},
};

#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// List the live sessions of a user, newest first
    #[command(after_help = "Example:
  doorwardctl --table doorward session list TENANT USER --limit 20")]
    List {
        #[command(flatten)]
        user: UserArg,
        /// Maximum number of sessions to list
        #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        /// Continue after this session ID, the last one of the previous list
        #[arg(long, value_name = "SESSION", value_parser = SessionId::parse)]
        after: Option<SessionId>,
    },
    /// End one session of a user
    ///
    /// The session ends at once, as after a logout. Asks for confirmation unless --yes is given.
    Revoke {
        #[command(flatten)]
        user: UserArg,
        /// Session ID
        #[arg(value_parser = SessionId::parse)]
        session: SessionId,
        /// Skip the confirmation
        #[arg(long)]
        yes: bool,
    },
    /// End all sessions of a user
    ///
    /// The sessions end at once. This includes the session of a login that is in progress. The password stays
    /// valid. Asks for confirmation unless --yes is given.
    #[command(after_help = "Example:
  doorwardctl --table doorward session revoke-all TENANT USER")]
    RevokeAll {
        #[command(flatten)]
        user: UserArg,
        /// Skip the confirmation
        #[arg(long)]
        yes: bool,
    },
}

impl SessionCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        match self {
            Self::List { user, limit, after } => {
                let user_ref = user.find(context).await?;
                list(context, &user_ref, usize::from(limit), after).await
            }
            Self::Revoke { user, session, yes } => {
                let user_ref = user.find(context).await?;
                if !yes {
                    let question = format!("End session {session} of user {}?", user_ref.user);
                    context.output.confirm(&question, session.as_str())?;
                }
                revoke(context, &user_ref, &session).await
            }
            Self::RevokeAll { user, yes } => {
                let user_ref = user.find(context).await?;
                if !yes {
                    let question = format!("End all sessions of user {}?", user_ref.user);
                    context.output.confirm(&question, user_ref.user.as_str())?;
                }
                revoke_all(context, &user_ref).await
            }
        }
    }
}

async fn list(context: &Context, user_ref: &UserRef, limit: usize, after: Option<SessionId>) -> Result<()> {
    let (user, tenant_epoch) = read(context, user_ref).await?;
    let of = SessionsOf::user(&user, tenant_epoch, SystemClock.now());
    // All live sessions belong to the user's present organization, because a move to another one ends them.
    let path = (Collection::Admin, user.organization.as_str());
    let after = match after {
        Some(id) => Some(position(context, user_ref, &id).await?),
        None => None,
    };
    let query = SessionPageQuery { of, path, after: after.as_ref(), limit };
    let page = context.store.session_page(&query).await?;
    let after = page.after.map(|after| after.id().clone());
    let described: Vec<_> = page.sessions.iter().map(described_session).collect();
    let UserRef { tenant, user } = user_ref;
    let value = json!({ "tenant": tenant, "user": user, "sessions": described, "next": after });
    context.output.result(&value, || {
        let names = ["session", "createdAt", "refreshedAt", "endsAt", "ip", "platform", "userAgent"];
        let head = ["SESSION", "LOGIN", "REFRESHED", "ENDS", "ADDRESS", "PLATFORM", "USER AGENT"];
        let row = |session: &Value| {
            names.iter().map(|name| plain(session.get(*name).unwrap_or(&Value::Null))).collect()
        };
        let table = table(&head, described.iter().map(row));
        let more = after.map_or_else(String::new, |after| {
            format!("\nThere are more sessions. To continue, pass --after {after}")
        });
        format!("{table}{more}")
    })
}

/// Returns the position of a session in the list. The session may have ended since.
async fn position(context: &Context, user_ref: &UserRef, id: &SessionId) -> Result<SessionPosition> {
    let UserRef { tenant, user } = user_ref;
    let items = context.store.caller(tenant, (user, id), None, ExtraItem::None).await?;
    let session = items.session.with_context(|| {
        format!("user {user} of tenant {tenant} has no session {id}; omit --after to start over")
    })?;
    Ok(SessionPosition::of(&session))
}

async fn revoke(context: &Context, user_ref: &UserRef, session: &SessionId) -> Result<()> {
    let UserRef { tenant, user } = user_ref;
    let end = EndSession { tenant, user, session, path: None, reuse: false, now: SystemClock.now() };
    let ended = context.store.end_session(&end).await?;
    let ended = ended.with_context(|| {
        format!("user {user} of tenant {tenant} has no session {session}; see `session list`")
    })?;
    let value = json!({ "tenant": tenant, "user": user, "session": session, "endedAt": ended.to_string() });
    context.output.result(&value, || format!("Session {session} ended at {ended:.0}."))
}

async fn revoke_all(context: &Context, user_ref: &UserRef) -> Result<()> {
    let UserRef { tenant, user } = user_ref;
    let now = SystemClock.now();
    let (known, tenant_epoch) = read(context, user_ref).await?;
    // Sessions that start after this count end too, so the number is only approximate.
    let ended = context.store.count_sessions(&SessionsOf::user(&known, tenant_epoch, now), None).await;
    if context.store.revoke_sessions(tenant, user, now).await? != Switched::Done {
        bail!(user_ref.unknown());
    }
    let value = json!({ "tenant": tenant, "user": user, "ended": ended });
    context.output.result(&value, || match ended {
        Some(ended) => format!("Ended all {ended} live sessions of user {user}."),
        None => format!("Ended all live sessions of user {user}. They could not be counted."),
    })
}

/// Reads the user and the session epoch of its tenant.
async fn read(context: &Context, user_ref: &UserRef) -> Result<(User, u64)> {
    let UserRef { tenant, user } = user_ref;
    let record = context.store.tenant_record(tenant).await?;
    let record = record.with_context(|| format!("tenant {tenant} does not exist; see `tenant list`"))?;
    let user = context.store.user(tenant, user).await?.ok_or_else(|| user_ref.unknown())?;
    Ok((user, record.tenant.session_epoch))
}
