//! Delivery of one message of the outbox (docs/design/security.md#rule-19). Each message is delivered at least
//! once, except a code that is no longer valid.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use backon::{BackoffBuilder, ExponentialBuilder};
use jiff::Timestamp;
use serde_json::json;
use strum::IntoStaticStr;

use super::support::tenant_request::TenantRequest;
use crate::{
    cache::{Cache, Freshness},
    context::RequestContext,
    domain::{
        CodeMessage, CodePurpose, Failure, LinkTemplate, Medium, MessageDelivery, ResetCode, Templates,
        Tenant, TenantId, TenantStatus, User,
    },
    message::{self, CodeValues, MessageKind, Values},
    port::{BusEvent, Clock, Courier, CourierError, Mail},
    secrets::{SecretsManager, Tenants},
    store::{DynamoStore, OutboxKey, Sealed},
};

/// Cache times of a tenant's own message templates.
const TEMPLATES: Freshness = Freshness {
    fresh: Duration::from_secs(60),
    stale: Duration::from_secs(60 * 60),
    absent: Duration::from_secs(60),
};
/// Maximum number of tenants with cached templates.
const CAPACITY: usize = 256;

/// First and longest pause before a throttled send is repeated.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// Delivers messages; built once per process.
pub struct Notifier {
    store: Arc<DynamoStore>,
    tenants: Tenants,
    courier: Arc<dyn Courier>,
    clock: Arc<dyn Clock>,
    templates: Cache<TenantId, Templates>,
    settings: SenderSettings,
}

/// Addresses of the deployment that appear in messages.
#[derive(Debug, Clone)]
pub struct SenderSettings {
    /// Address of the hosted page: an http or https URL without a path.
    pub public_url: String,
    /// Sender of mails for tenants that set no sender.
    pub mail_from: String,
}

/// Result of a message. [`Self::name`] is its stable name in the audit log.
#[derive(Debug, Clone, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcome {
    /// The message was sent.
    Sent,
    /// The message was delivered before.
    Gone,
    /// The message expired.
    Expired,
    /// The code in the message was used or invalidated, or is not its user's newest.
    Superseded,
    /// The message is empty: it was queued for a user that does not exist.
    Nothing,
    /// The tenant is unknown or suspended.
    TenantClosed,
    /// The user is unknown or disabled.
    UserClosed,
    /// The user has no verified address of the required kind.
    NoAddress,
    /// The carrier refuses the message permanently, for this reason.
    Refused(String),
    /// A service limits the rate of sends, for this reason. The message was put at the end of the stream again.
    Throttled(String),
    /// The time of the invocation was over. The message was put at the end of the stream again.
    Postponed,
    /// The code of the message cannot be read yet. The stream repeats the message.
    CodeNotReadable,
    /// A server error that a retry cannot fix, with its cause. The message stays until it expires.
    Broken(String),
}

impl Outcome {
    /// The name in the audit log.
    pub fn name(&self) -> &'static str {
        self.into()
    }
}

impl Notifier {
    /// A notifier with these clients.
    pub fn new(
        store: Arc<DynamoStore>,
        secrets: Arc<SecretsManager>,
        courier: Arc<dyn Courier>,
        clock: Arc<dyn Clock>,
        settings: SenderSettings,
    ) -> Self {
        let tenants = Tenants::new(Arc::clone(&store), secrets);
        Self { store, tenants, courier, clock, templates: Cache::new(CAPACITY, TEMPLATES), settings }
    }

    /// The current time. The entry point reads it once per message.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Reads, sends and deletes a message, in this order. If the process ends in between, the message is sent
    /// again.
    ///
    /// Repeats a throttled send with growing pauses until `deadline`, and reads the message again before each try,
    /// because its code may have been used or replaced. After that, it puts the message at the end of the stream again.
    /// A throttled send is therefore no failed attempt of the stream's record, however long the throttling lasts. The
    /// message ends when it expires.
    ///
    /// # Errors
    /// Failures that a retry may overcome. The message stays in the outbox.
    pub async fn deliver(
        &self,
        key: &OutboxKey,
        context: &RequestContext,
        deadline: Instant,
    ) -> Result<Outcome, Failure> {
        context.record_claimed_tenant(&key.tenant);
        context.record_user(&key.user);
        let (first, longest) = PAUSES;
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(first)
            .with_max_delay(longest)
            .without_max_times()
            .with_jitter()
            .build();
        loop {
            let outcome = self.try_to_deliver(key, context).await?;
            if !matches!(outcome, Outcome::Throttled(_)) {
                return Ok(outcome);
            }
            let remaining = deadline.saturating_duration_since(Instant::now());
            let Some(pause) = pauses.next().filter(|pause| *pause <= remaining) else {
                self.store.requeue_outbox(key).await?;
                return Ok(outcome);
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Puts a message at the end of the stream again without an attempt to deliver it.
    ///
    /// # Errors
    /// `Unavailable` if the message cannot be written.
    pub async fn postpone(&self, key: &OutboxKey, context: &RequestContext) -> Result<Outcome, Failure> {
        context.record_claimed_tenant(&key.tenant);
        context.record_user(&key.user);
        self.store.requeue_outbox(key).await?;
        Ok(Outcome::Postponed)
    }

    async fn try_to_deliver(&self, key: &OutboxKey, context: &RequestContext) -> Result<Outcome, Failure> {
        let items = self.store.outbox(key).await?;
        let Some(sealed) = &items.sealed else {
            return Ok(Outcome::Gone);
        };
        // An earlier try may have waited since the time of the context.
        let now = self.clock.now();
        let (user, code) = (items.user.as_ref(), items.code.as_ref());
        let outcome = match self.process(context, now, sealed, user, code).await {
            // A retry would only delay the messages behind this one.
            Err(failure @ Failure::Internal(_)) => return Ok(Outcome::Broken(failure.to_string())),
            Ok(waiting @ (Outcome::Throttled(_) | Outcome::CodeNotReadable)) => return Ok(waiting),
            outcome => outcome?,
        };
        self.store.delete_outbox(key).await?;
        Ok(outcome)
    }

    async fn process(
        &self,
        context: &RequestContext,
        now: Timestamp,
        sealed: &Sealed,
        user: Option<&User>,
        newest: Option<&ResetCode>,
    ) -> Result<Outcome, Failure> {
        if sealed.ends_at <= now {
            return Ok(Outcome::Expired);
        }
        let request = match TenantRequest::find(&self.tenants, context, &sealed.key.tenant).await? {
            Some(request) if request.tenant.status == TenantStatus::Active => request,
            _ => return Ok(Outcome::TenantClosed),
        };
        let notification = request.keys.open_notification(sealed)?;
        context.record_kind(notification.name());
        let Some(kind) = MessageKind::of(&notification) else {
            return Ok(Outcome::Nothing);
        };
        let code = notification.code();
        let verifies = code.and_then(|(message, _)| message.verifies.as_deref());
        let user = match user {
            // The transaction of the message may have created the user, which cannot be read yet.
            None if verifies.is_some() => return Ok(Outcome::CodeNotReadable),
            Some(user) if user.is_active() => user,
            _ => return Ok(Outcome::UserClosed),
        };
        if let Some((code, purpose)) = code {
            let other = match purpose {
                CodePurpose::Password => None,
                _ => self.store.code(&user.tenant, &user.id, purpose).await?,
            };
            let newest = if purpose == CodePurpose::Password { newest } else { other.as_ref() };
            // The stream may report the message before a read returns the code that the same transaction stored. The
            // newest code is then missing, or has a lower ID ([`ResetCode::id_time`]).
            let Some(newest) = newest.filter(|newest| newest.id >= code.id) else {
                return Ok(Outcome::CodeNotReadable);
            };
            if !is_live(code, newest) {
                return Ok(Outcome::Superseded);
            }
        }
        let stored = match kind {
            MessageKind::EmailCodeMail => user.unverified_email.as_deref(),
            MessageKind::PhoneCodeText => user.unverified_phone.as_deref(),
            _ => match kind.medium() {
                Medium::Mail => user.email.as_deref(),
                Medium::Text => user.phone.as_deref(),
            },
        };
        // The code is live, so the address was read before the transaction that stored both.
        if verifies.is_some() && stored != verifies {
            return Ok(Outcome::CodeNotReadable);
        }
        let delivery = &request.policy().delivery;
        // A tenant that sends its messages itself may have an address that is not stored here.
        let address = match (stored, delivery) {
            (Some(address), _) => address,
            (None, MessageDelivery::EventBus(_)) => "",
            (None, MessageDelivery::Direct) => return Ok(Outcome::NoAddress),
        };
        let link = match code {
            Some((code, CodePurpose::Password)) => Some(self.link(&request.tenant, user, code)?),
            // Without a template of the request, the user types the code.
            Some((code, _)) => verification_link(&request.tenant, user, code),
            None => None,
        };
        let code = code.map(|(message, _)| message);
        let letter = Letter { sealed, now, kind, user, address, code, link: link.as_deref() };
        let sent = match delivery {
            MessageDelivery::Direct => self.send(&request, &letter).await?,
            MessageDelivery::EventBus(bus) => self.announce(bus, &letter, notification.name()).await,
        };
        match sent {
            Ok(()) => Ok(Outcome::Sent),
            Err(CourierError::Throttled(reason)) => Ok(Outcome::Throttled(reason)),
            Err(CourierError::Refused(reason)) => Ok(Outcome::Refused(reason)),
            Err(CourierError::Failed(failure)) => Err(failure),
        }
    }

    /// The link of a code: from the template that the request named, if the tenant still allows it; from the
    /// tenant's own template; or to the hosted page.
    fn link(&self, tenant: &Tenant, user: &User, message: &CodeMessage) -> Result<String, Failure> {
        let hosts = &tenant.policy.link_hosts;
        let asked = message.link.as_deref().and_then(|link| LinkTemplate::parse(link, hosts).ok());
        let fill = |template: &LinkTemplate, hosts| {
            template.fill(&user.id, &user.organization, &message.code, hosts)
        };
        let public_url = &self.settings.public_url;
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
        request: &TenantRequest<'_>,
        letter: &Letter<'_>,
    ) -> Result<Result<(), CourierError>, Failure> {
        let (tenant, now) = (&request.tenant, letter.now);
        let own = match self.templates.get(&tenant.id, now, || self.store.templates(&tenant.id)).await {
            // An invalid template must not keep mails back: the default template is used instead.
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
            code: letter.code.map(|message| CodeValues {
                link: letter.link.unwrap_or_default(),
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
                    from: tenant.policy.mail_from.as_deref().unwrap_or(&self.settings.mail_from),
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
            "medium": kind.medium(),
            "email": if *kind == MessageKind::EmailCodeMail { &user.unverified_email } else { &user.email },
            "phone": if *kind == MessageKind::PhoneCodeText { &user.unverified_phone } else { &user.phone },
            "locale": user.locale,
            "expiresAt": sealed.ends_at.to_string(),
            "code": code.map(|message| message.code.expose()),
            "link": link,
        });
        let event = BusEvent { bus, detail_type: &format!("doorward.{name}"), detail: &detail.to_string() };
        self.courier.send_event(&event).await
    }
}

/// A message with its recipient.
struct Letter<'a> {
    sealed: &'a Sealed,
    /// Time of the try to send it.
    now: Timestamp,
    kind: MessageKind,
    user: &'a User,
    address: &'a str,
    code: Option<&'a CodeMessage>,
    link: Option<&'a str>,
}

/// The link of a verification code, from the template that the request named, if the tenant still allows it.
fn verification_link(tenant: &Tenant, user: &User, message: &CodeMessage) -> Option<String> {
    let hosts = &tenant.policy.link_hosts;
    let template = LinkTemplate::parse(message.link.as_deref()?, hosts).ok()?;
    template.fill(&user.id, &user.organization, &message.code, Some(hosts))
}

/// Whether a code is its user's newest, not spent and not invalidated. Messages may be
/// delivered in any order (docs/design/security.md#rule-19).
fn is_live(message: &CodeMessage, newest: &ResetCode) -> bool {
    newest.id == message.id && newest.proof.is_some() && newest.spent.is_none()
}
