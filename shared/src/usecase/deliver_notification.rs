//! Delivering one message of the outbox (docs/design/security.md#rule-19): at least once, and never a code that is not
//! its user's newest.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::json;

use crate::{
    cache::{Cache, Freshness},
    domain::{
        CodeMessage, Delivery, Failure, LinkTemplate, Medium, Notification, ResetCode, Templates, Tenant,
        TenantId, TenantStatus, User, UserStatus,
    },
    message::{self, CodeValues, MessageKind, Values},
    port::{BusEvent, Clock, Courier, CourierError, Mail, OutboxKey, Sealed, SecretSource, Store},
    secrets::{TenantContext, Tenants},
    telemetry,
};

/// A tenant's own words are believed for a minute.
const WORDS: Freshness = Freshness {
    fresh: Duration::from_secs(60),
    stale: Duration::from_secs(60 * 60),
    absent: Duration::from_secs(60),
};
/// Tenants whose words are kept at once.
const CAPACITY: usize = 256;

/// What sends messages; built once per process.
pub struct Notifier {
    store: Arc<dyn Store>,
    tenants: Tenants,
    courier: Arc<dyn Courier>,
    clock: Arc<dyn Clock>,
    words: Cache<TenantId, Templates>,
    place: Place,
}

/// Where the deployment is, as those see it who get its messages.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where people reach the hosted page: an http or https URL without a path of its own.
    pub public_url: String,
    /// Sender of the mails of tenants that name none.
    pub mail_from: String,
}

/// What became of a message that is done with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was sent.
    Sent,
    /// It was delivered before.
    Gone,
    /// It was past its end.
    Expired,
    /// Its code is not its user's newest, or was used.
    Superseded,
    /// It tells nobody anything.
    Nothing,
    /// Its tenant is unknown or suspended.
    TenantClosed,
    /// Its user is unknown or disabled.
    UserClosed,
    /// Its user has no verified address of that kind.
    NoAddress,
    /// Whoever should carry it never will, for that reason.
    Refused(String),
    /// It is a defect of ours that no other try cures: the message stays until its end.
    Broken(String),
}

impl Outcome {
    /// Its stable name in the audit log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sent => "SENT",
            Self::Gone => "GONE",
            Self::Expired => "EXPIRED",
            Self::Superseded => "SUPERSEDED",
            Self::Nothing => "NOTHING",
            Self::TenantClosed => "TENANT_CLOSED",
            Self::UserClosed => "USER_CLOSED",
            Self::NoAddress => "NO_ADDRESS",
            Self::Refused(_) => "REFUSED",
            Self::Broken(_) => "BROKEN",
        }
    }
}

impl Notifier {
    /// A notifier over these ports.
    pub fn new(
        store: Arc<dyn Store>,
        secrets: Arc<dyn SecretSource>,
        courier: Arc<dyn Courier>,
        clock: Arc<dyn Clock>,
        place: Place,
    ) -> Self {
        let tenants = Tenants::new(Arc::clone(&store), secrets);
        Self { store, tenants, courier, clock, words: Cache::new(CAPACITY, WORDS), place }
    }

    /// The time of a delivery.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// One read, one sending, one deletion, in that order: a process that dies in between sends again.
    ///
    /// # Errors
    /// Whatever another try may overcome; the message stays.
    pub async fn deliver(&self, key: &OutboxKey) -> Result<Outcome, Failure> {
        telemetry::tenant(&key.tenant);
        telemetry::user(&key.user);
        let now = self.clock.now();
        let items = self.store.outbox(key).await?;
        let Some(sealed) = &items.sealed else {
            return Ok(Outcome::Gone);
        };
        let outcome = match self.settle(sealed, items.user.as_ref(), items.code.as_ref(), now).await {
            // Tried again, it would only hold up the messages behind it.
            Err(failure @ Failure::Internal(_)) => return Ok(Outcome::Broken(failure.to_string())),
            outcome => outcome?,
        };
        self.store.forget_outbox(key).await?;
        Ok(outcome)
    }

    async fn settle(
        &self,
        sealed: &Sealed,
        user: Option<&User>,
        newest: Option<&ResetCode>,
        now: Timestamp,
    ) -> Result<Outcome, Failure> {
        if sealed.ends_at <= now {
            return Ok(Outcome::Expired);
        }
        let context = match self.tenants.find(&sealed.key.tenant, now).await? {
            Some(context) if context.tenant.status == TenantStatus::Active => context,
            _ => return Ok(Outcome::TenantClosed),
        };
        let notification = self.open(&context, sealed, now).await?;
        telemetry::kind(notification.name());
        let Some(kind) = MessageKind::of(&notification) else {
            return Ok(Outcome::Nothing);
        };
        let Some(user) = user.filter(|user| user.status == UserStatus::Active) else {
            return Ok(Outcome::UserClosed);
        };
        let code = match &notification {
            Notification::ResetCode(message) => Some(message),
            _ => None,
        };
        if code.is_some_and(|code| !is_live(code, newest)) {
            return Ok(Outcome::Superseded);
        }
        let known = match kind.medium() {
            Medium::Mail => user.email.as_deref(),
            Medium::Text => user.phone.as_deref(),
        };
        // A tenant that sends by itself may know an address that we do not.
        let address = match (known, &context.tenant.policy.delivery) {
            (Some(address), _) => address,
            (None, Delivery::EventBus(_)) => "",
            (None, Delivery::Direct) => return Ok(Outcome::NoAddress),
        };
        let link = code.map(|code| self.link(&context.tenant, user, code)).transpose()?;
        let letter = Letter { sealed, kind, user, address, code, link: link.as_deref() };
        let sent = match &context.tenant.policy.delivery {
            Delivery::Direct => self.send(&context.tenant, &letter, now).await?,
            Delivery::EventBus(bus) => self.announce(bus, &letter, notification.name()).await,
        };
        match sent {
            Ok(()) => Ok(Outcome::Sent),
            Err(CourierError::Refused(reason)) => Ok(Outcome::Refused(reason)),
            Err(CourierError::Failed(failure)) => Err(failure),
        }
    }

    /// What a message says. A root key that is not known may be a fresh one.
    async fn open(
        &self,
        context: &TenantContext,
        sealed: &Sealed,
        now: Timestamp,
    ) -> Result<Notification, Failure> {
        match context.keys.open_notification(sealed) {
            Err(Failure::Unavailable(_)) => {
                let (keys, _) = self.tenants.reload_keys(&context.tenant.id, now).await?;
                keys.open_notification(sealed)
            }
            opened => opened,
        }
    }

    /// Where the code is used: by the template that was asked for, if the tenant still allows it, by
    /// the tenant's own, or on the hosted page.
    fn link(&self, tenant: &Tenant, user: &User, message: &CodeMessage) -> Result<String, Failure> {
        let hosts = &tenant.policy.link_hosts;
        let asked = message.link.as_deref().and_then(|link| LinkTemplate::parse(link, hosts).ok());
        let fill = |template: &LinkTemplate, hosts| {
            template.fill(&user.id, &user.organization, &message.code, hosts)
        };
        let public_url = &self.place.public_url;
        [asked.as_ref(), tenant.policy.link_template.as_ref()]
            .into_iter()
            .flatten()
            .filter(|template| message.medium == Medium::Text || template.has_code())
            .find_map(|template| fill(template, Some(hosts)))
            .or_else(|| {
                let page = match message.medium {
                    Medium::Mail => LinkTemplate::hosted(public_url, &tenant.id),
                    Medium::Text => LinkTemplate::hosted_for_typing(public_url, &tenant.id),
                };
                fill(&page, None)
            })
            .ok_or_else(|| Failure::Internal("the hosted page has no link".into()))
    }

    async fn send(
        &self,
        tenant: &Tenant,
        letter: &Letter<'_>,
        now: Timestamp,
    ) -> Result<Result<(), CourierError>, Failure> {
        let own = match self.words.get(&tenant.id, now, || self.store.templates(&tenant.id)).await {
            // What operators stored wrongly keeps no mail back.
            Err(Failure::Internal(cause)) => {
                tracing::warn!(cause, "template.unreadable");
                None
            }
            own => own?,
        };
        let values = Values {
            tenant: &tenant.name,
            username: letter.user.username.as_written(),
            time: letter.sealed.key.id.made_at(),
            code: letter.code.zip(letter.link).map(|(message, link)| CodeValues {
                link,
                code: message.code.expose(),
                seconds: letter.sealed.ends_at.duration_since(now).as_secs(),
                ends_at: letter.sealed.ends_at,
            }),
        };
        let preferred: Vec<_> =
            letter.user.locale.as_deref().into_iter().chain([tenant.policy.locale.as_str()]).collect();
        let message = message::compose(letter.kind, own.as_deref(), &preferred, &values)?;
        Ok(match letter.kind.medium() {
            Medium::Text => self.courier.send_text(letter.address, &message.text).await,
            Medium::Mail => {
                let mail = Mail {
                    from: tenant.policy.mail_from.as_deref().unwrap_or(&self.place.mail_from),
                    to: letter.address,
                    subject: &message.subject,
                    text: &message.text,
                    html: message.html.as_deref(),
                };
                self.courier.send_mail(&mail).await
            }
        })
    }

    async fn announce(&self, bus: &str, letter: &Letter<'_>, name: &str) -> Result<(), CourierError> {
        let Letter { sealed, kind, user, code, link, .. } = letter;
        let detail = json!({
            "id": sealed.key.id.to_string(),
            "tenantId": sealed.key.tenant,
            "userId": sealed.key.user,
            "kind": name,
            "medium": match kind.medium() {
                Medium::Mail => "mail",
                Medium::Text => "text",
            },
            "email": user.email,
            "phone": user.phone,
            "locale": user.locale,
            "expiresAt": sealed.ends_at.to_string(),
            "code": code.map(|message| message.code.expose()),
            "link": link,
        });
        let event = BusEvent { bus, detail_type: &format!("doorward.{name}"), detail: &detail.to_string() };
        self.courier.send_event(&event).await
    }
}

/// One message and whom it is for.
struct Letter<'a> {
    sealed: &'a Sealed,
    kind: MessageKind,
    user: &'a User,
    address: &'a str,
    code: Option<&'a CodeMessage>,
    link: Option<&'a str>,
}

/// Whether a code is its user's newest and still of use: the newest wins, in whatever order messages
/// are delivered (docs/design/security.md#rule-19).
fn is_live(message: &CodeMessage, newest: Option<&ResetCode>) -> bool {
    newest.is_some_and(|newest| newest.id == message.id && newest.spent.is_none())
}
