//! The Lambda authorizer, which decides whether API Gateway forwards requests to another API.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use doorward::{
    domain::{Policy, Role, SigningAlgorithm, TenantId, User, UserId},
    function::authorizer::Undecided,
    port::Clock,
    store::Switched,
    token::Claims,
};
use e2e::{Actor, Login, NORDIC, World, authorizer_event};
use http::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use strum::IntoEnumIterator;
use tokio::task::JoinSet;

use crate::{ADMIN, CUSTOMER, MARCUS, NEW_PASSWORD, NORDIC_ADMIN};

/// One administrator for each algorithm: HS256, ES256, RS256 and EdDSA.
const OF_EACH_ALGORITHM: [&str; 4] =
    [ADMIN, NORDIC_ADMIN, "admin@harbour.example", "admin@lighthouse.example"];

async fn asked(world: &World, event: &Value) -> Result<Value> {
    Ok(world.authorize(event).await?)
}

/// A request with this access token from this address.
fn call(login: &Login, ip: &str) -> Value {
    let mut event = authorizer_event(Some(&login.token));
    event["requestContext"]["http"]["sourceIp"] = json!(ip);
    event
}

#[tokio::test]
async fn authorizer_accepts_a_live_session_and_returns_the_caller() -> Result<()> {
    let world = World::start().await?;
    for username in OF_EACH_ALGORITHM {
        let login = world.login(&world.actor(username)?).await?;
        let Actor { tenant, user, .. } = &login.actor;
        let answer = asked(&world, &authorizer_event(Some(&login.token))).await?;
        let expected = json!({
            "isAuthorized": true,
            "context": {
                "tenantId": tenant.tenant_id,
                "userId": user.user_id,
                "sub": user.user_id,
                "sid": login.session,
                "userType": "ADMIN",
                "orgId": user.organization_id,
                "roles": "ADMIN",
                "scope": "full",
                "exp": "1900003600",
            },
        });
        assert_eq!(answer, expected, "{username}");
    }
    let customer = world.login(&world.actor(MARCUS)?).await?;
    let context = &asked(&world, &authorizer_event(Some(&customer.token))).await?["context"];
    let told = |name: &str| context[name].as_str().map(str::to_owned);
    assert_eq!(told("userType").as_deref(), Some("CONSUMER"));
    assert_eq!(told("customerId"), customer.actor.user.customer_id);
    assert_eq!(told("orgId"), None);
    Ok(())
}

// docs/design/contract.md#authorization: roles come from the stored user, not from the token's claims.
#[tokio::test]
async fn authorizer_returns_the_roles_of_the_stored_user() -> Result<()> {
    let world = World::start().await?;
    let login = world.login(&world.actor(MARCUS)?).await?;
    let (session, user) = (world.session(&login).await?, world.user(&login.actor).await?);
    let roles = vec![Role::TenantAdmin];
    let claimed = User { roles, ..user };
    let (keys, policy) = (world.keys(NORDIC).await?, Policy::default());
    let claims = Claims::new(&session, &claimed, &policy, session.created_at, &session.id);
    assert_eq!(claims.roles, ["TENANT_ADMIN"]);
    let token = claims.sign(&keys, &policy)?;
    let answer = asked(&world, &authorizer_event(Some(token.expose_secret()))).await?;
    assert_eq!(answer["context"]["roles"], "USER");
    Ok(())
}

/// Events that end sessions, with the sessions that the authorizer must then reject.
async fn after(world: &World, what: &str, login: &Login) -> Result<()> {
    let Actor { tenant, user, .. } = &login.actor;
    let (tenant_id, user_id) = (TenantId::parse(&tenant.tenant_id)?, UserId::parse(&user.user_id)?);
    let done = |switched| if switched == Switched::Done { 200 } else { 404 };
    let admin = world.login(&world.actor(NORDIC_ADMIN)?).await?;
    let status = match what {
        "logout" => world.logout(login).await?.status,
        "logout everywhere" => {
            let path = login.actor.sessions();
            let bearer = Some(login.token.as_str());
            world.request(&Method::DELETE, &path, &tenant.tenant_id, bearer, None).await?.status
        }
        "password change" => {
            let other = world.login(&login.actor).await?;
            let body = json!({ "password": NEW_PASSWORD, "currentPassword": user.password });
            let status = world.update(&other, &user.user_id, &body).await?.status;
            assert!(world.passes(&other).await?, "the session that changed the password must stay live");
            status
        }
        "login reset" => world.reset(&admin, &json!({ "userId": user.user_id })).await?.status,
        "a password that must change" => {
            world.update(&admin, &user.user_id, &json!({ "changeRequired": true })).await?.status
        }
        "disabling" => done(world.store.disable_user(&tenant_id, &user_id, world.clock.now()).await?),
        "other roles" => {
            let old = world.user(&login.actor).await?;
            let roles = vec![Role::Admin];
            let new = User { roles, sequence: old.sequence + 1, ..old.clone() };
            world.store.replace_user(&old, &new).await?;
            200
        }
        "deletion" => done(world.store.delete_user(&tenant_id, &user_id).await?),
        "a session without an item" => {
            world.forget(login).await?;
            200
        }
        "suspension" => {
            world.change_tenant(&tenant.tenant_id, true, None).await?;
            200
        }
        "suspension and resumption" => {
            world.change_tenant(&tenant.tenant_id, true, None).await?;
            world.change_tenant(&tenant.tenant_id, false, None).await?;
            200
        }
        "the token's end" => {
            world.clock.advance(Duration::from_secs(3_600));
            200
        }
        other => anyhow::bail!("{other} ends nothing"),
    };
    ensure!(status == 200, "{what}: {status}");
    Ok(())
}

// docs/design/security.md#rule-13, #rule-15, #rule-16, #rule-21: the authorizer rejects an ended
// session from the next request on.
#[tokio::test]
async fn authorizer_rejects_ended_sessions() -> Result<()> {
    for (what, reason) in [
        ("logout", "SESSION_GONE"),
        ("logout everywhere", "SESSION_GONE"),
        ("password change", "SESSION_GONE"),
        ("login reset", "SESSION_GONE"),
        ("a password that must change", "PASSWORD_CHANGE_REQUIRED"),
        ("disabling", "SESSION_GONE"),
        ("other roles", "SESSION_GONE"),
        ("deletion", "SESSION_GONE"),
        ("a session without an item", "SESSION_GONE"),
        ("suspension", "TENANT_SUSPENDED"),
        ("suspension and resumption", "SESSION_GONE"),
        ("the token's end", "EXPIRED"),
    ] {
        let world = World::start().await?;
        let login = world.login(&world.actor(MARCUS)?).await?;
        assert!(world.passes(&login).await?, "before {what}");
        after(&world, what, &login).await?;
        let answer = asked(&world, &authorizer_event(Some(&login.token))).await?;
        assert_eq!(answer, json!({ "isAuthorized": false }), "after {what}");
        let told = world.audit.last();
        let why = told["reason"].as_str().or(told["outcome"].as_str());
        assert_eq!(why, Some(reason), "after {what}: {told}");
    }
    Ok(())
}

// docs/design/security.md#rule-15: a suspension takes effect within 5 s, the life of the cached tenant.
#[tokio::test]
async fn authorizer_applies_a_suspension_within_five_seconds() -> Result<()> {
    let world = World::start().await?;
    let login = world.login(&world.actor(MARCUS)?).await?;
    assert!(world.passes(&login).await?);
    let tenant = TenantId::parse(NORDIC)?;
    assert_eq!(world.store.suspend_tenant(&tenant).await?, Switched::Done);
    world.clock.advance(Duration::from_millis(4_999));
    assert!(world.passes(&login).await?, "the cached tenant must still be used");
    world.clock.advance(Duration::from_millis(1));
    assert!(!world.passes(&login).await?);
    Ok(())
}

// docs/design/security.md#rule-13: an idle session is rejected even if its access token has not expired.
#[tokio::test]
async fn authorizer_rejects_idle_sessions() -> Result<()> {
    let world = World::start().await?;
    world.change_policy(NORDIC, |policy| policy.token_life = policy.idle_life).await?;
    let login = world.login(&world.actor(MARCUS)?).await?;
    let session = world.session(&login).await?;
    let user = world.user(&login.actor).await?;
    // A token that was issued after the login expires after the session is idle.
    let keys = world.keys(NORDIC).await?;
    let policy = Policy { token_life: Policy::default().idle_life, ..Policy::default() };
    let issued_at = session.created_at + Duration::from_secs(60);
    let claims = Claims::new(&session, &user, &policy, issued_at, &session.id);
    let login = Login { token: claims.sign(&keys, &policy)?.expose_secret().to_owned(), ..login };
    world.clock.set(session.idle_expires_at.checked_sub(Duration::from_millis(1))?);
    assert!(world.passes(&login).await?);
    world.clock.advance(Duration::from_millis(1));
    assert!(!world.passes(&login).await?);
    Ok(())
}

// docs/design/security.md#rule-16, #rule-20: only tokens signed with the tenant's own keys are
// accepted, and only for the tenant that the request names.
#[tokio::test]
async fn authorizer_rejects_foreign_and_forged_tokens() -> Result<()> {
    let world = World::start().await?;
    let mut logins = Vec::new();
    for username in OF_EACH_ALGORITHM {
        logins.push(world.login(&world.actor(username)?).await?);
    }
    let denied = json!({ "isAuthorized": false });
    for login in &logins {
        let (message, signature) = login.token.rsplit_once('.').context("no token")?;
        for other in &logins {
            let (_, theirs) = other.token.rsplit_once('.').context("no token")?;
            if theirs != signature {
                let forged = authorizer_event(Some(&format!("{message}.{theirs}")));
                assert_eq!(asked(&world, &forged).await?, denied);
            }
            let mut named = authorizer_event(Some(&login.token));
            named["headers"]["x-tenant-id"] = json!(other.actor.tenant.tenant_id);
            let same = other.actor.tenant.tenant_id == login.actor.tenant.tenant_id;
            assert_eq!(asked(&world, &named).await?["isAuthorized"], same);
        }
        // Claims of one tenant with a signature of another.
        let (session, user) = (world.session(login).await?, world.user(&login.actor).await?);
        for other in logins.iter().filter(|other| other.actor.tenant != login.actor.tenant) {
            let keys = world.keys(&other.actor.tenant.tenant_id).await?;
            for algorithm in SigningAlgorithm::iter().filter(|algorithm| keys.can_sign(*algorithm)) {
                let policy = Policy { algorithm, ..Policy::default() };
                let claims = Claims::new(&session, &user, &policy, session.created_at, &session.id);
                let token = claims.sign(&keys, &policy)?;
                let forged = authorizer_event(Some(token.expose_secret()));
                assert_eq!(asked(&world, &forged).await?, denied);
            }
        }
    }
    let mut none = authorizer_event(None);
    assert_eq!(asked(&world, &none).await?, denied);
    for authorization in ["", "Bearer", "Bearer ", "Basic dTpw", "Bearer a.b.c", "Bearer x, Bearer y"] {
        none["headers"]["authorization"] = json!(authorization);
        assert_eq!(asked(&world, &none).await?, denied, "{authorization}");
    }
    // A refresh token is not an access token.
    assert_eq!(asked(&world, &authorizer_event(Some(&logins[0].refresh))).await?, denied);
    Ok(())
}

// docs/design/security.md#rule-22
#[tokio::test]
async fn authorizer_applies_the_tenants_allowed_networks() -> Result<()> {
    let world = World::start().await?;
    let login = world.login(&world.actor(CUSTOMER)?).await?;
    let tenant = login.actor.tenant.tenant_id.clone();
    world.change_tenant(&tenant, false, Some("192.0.2.0/24")).await?;
    for (ip, passes) in [("192.0.2.7", true), ("::ffff:192.0.2.7", true), ("198.51.100.1", false)] {
        assert_eq!(asked(&world, &call(&login, ip)).await?["isAuthorized"], passes, "{ip}");
    }
    let mut forwarded = call(&login, "198.51.100.1");
    forwarded["headers"]["x-forwarded-for"] = json!("192.0.2.7");
    assert_eq!(
        asked(&world, &forwarded).await?["isAuthorized"],
        false,
        "the tenant trusts no proxy, so the forwarded address must not count"
    );
    Ok(())
}

// A storage failure never rejects a valid token: the authorizer fails, and API Gateway returns 500.
#[tokio::test]
async fn authorizer_fails_instead_of_rejecting_if_it_cannot_decide() -> Result<()> {
    let world = World::start().await?;
    let login = world.login(&world.actor(MARCUS)?).await?;
    assert!(world.passes(&login).await?);
    world.faults.set_down(true);
    assert_eq!(world.passes(&login).await, Err(Undecided));
    assert_eq!(world.audit.last()["outcome"], "UNAVAILABLE");
    // Requests that need no storage are decided.
    assert_eq!(asked(&world, &authorizer_event(None)).await?, json!({ "isAuthorized": false }));
    world.faults.set_down(false);
    assert!(world.passes(&login).await?);
    // An unknown event format is a configuration error, not the caller's.
    let mut first_format = authorizer_event(Some(&login.token));
    first_format["version"] = json!("1.0");
    for odd in [first_format, json!({}), json!(null), json!([])] {
        assert_eq!(world.authorize(&odd).await, Err(Undecided), "{odd}");
        assert_eq!(world.audit.last()["outcome"], "INTERNAL");
    }
    Ok(())
}

// docs/design/security.md#rule-24: each request writes one audit event, with a digest instead of the
// session ID, and nothing to the table.
#[tokio::test]
async fn authorizer_logs_each_decision_once_and_writes_nothing() -> Result<()> {
    let world = World::start().await?;
    let login = world.login(&world.actor(MARCUS)?).await?;
    let before = world.audit.lines().len();
    world.calls.take();
    assert!(world.passes(&login).await?);
    assert_eq!(world.calls.take(), ["BatchGetItem"]);
    assert!(!asked(&world, &authorizer_event(None)).await?["isAuthorized"].as_bool().unwrap_or(true));
    assert_eq!(world.calls.take(), [""; 0]);
    let told = world.audit.events().split_off(before);
    let outcomes: Vec<_> =
        told.iter().map(|event| (event["action"].as_str(), event["outcome"].as_str())).collect();
    let action = Some("session.authorize");
    assert_eq!(outcomes, [(action, Some("SUCCESS")), (action, Some("INVALID_TOKEN"))]);
    assert_eq!(told[0]["tenant"], NORDIC);
    assert_eq!(told[0]["caller"].as_str(), Some(login.actor.user.user_id.as_str()));
    assert_eq!(told[0]["status"], Value::Null);
    let lines = world.audit.lines();
    assert!(lines.iter().all(|line| !line.contains(&login.session) && !line.contains(&login.token)));
    let members: BTreeSet<_> = told[0].as_object().context("no object")?.keys().cloned().collect();
    assert!(members.contains("caller_session"));
    Ok(())
}

// docs/design/contract.md#logout: after the response 200 to a logout, no token of the session is accepted.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn authorizer_rejects_every_request_sent_after_a_logout() -> Result<()> {
    const ASKING: usize = 6;
    let world = Arc::new(World::start().await?);
    let count = Arc::new(AtomicUsize::new(0));
    for _ in 0..15 {
        let login = world.login(&world.actor(MARCUS)?).await?;
        // Even while the session is live, odd after the response to the logout.
        let answered = Arc::new(AtomicUsize::new(0));
        let mut asking = JoinSet::new();
        for _ in 0..ASKING {
            let (world, login) = (Arc::clone(&world), login.clone());
            let (answered, count) = (Arc::clone(&answered), Arc::clone(&count));
            asking.spawn(async move {
                loop {
                    let over = answered.load(Ordering::SeqCst) > 0;
                    let passes = world.passes(&login).await.unwrap();
                    assert!(!(over && passes), "a request after the logout was accepted");
                    if passes {
                        count.fetch_add(1, Ordering::SeqCst);
                    } else if over {
                        break;
                    }
                }
            });
        }
        let before = count.load(Ordering::SeqCst);
        while count.load(Ordering::SeqCst) < before + ASKING {
            tokio::task::yield_now().await;
        }
        assert_eq!(world.logout(&login).await?.status, 200);
        answered.fetch_add(1, Ordering::SeqCst);
        while let Some(done) = asking.join_next().await {
            done?;
        }
    }
    Ok(())
}
