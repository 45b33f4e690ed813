//! Flows of a backend: sequences of requests and their expected responses.

use std::time::Duration;

use e2e::{Login, World};
use http::Method;
use serde_json::json;

use crate::{ADMIN, CUSTOMER, MARCUS, NEW_PASSWORD, NORDIC_ADMIN, OTHER_ADMIN, SECOND_ADMIN};

const HOUR: Duration = Duration::from_secs(3_600);

// docs/design/security.md#rule-14
#[tokio::test]
async fn session_from_login_to_revocation_by_token_reuse() {
    let world = World::start().await.unwrap();
    for name in [ADMIN, MARCUS] {
        let first = world.login(&world.actor(name).unwrap()).await.unwrap();
        assert!(world.opens(&first).await.unwrap());

        let second = world.refreshed(&first).await.unwrap();
        assert_eq!(second.session, first.session);
        assert_ne!((&second.token, &second.refresh), (&first.token, &first.refresh));

        // A retry after a lost response returns the same successor and extends nothing.
        world.clock.advance(Duration::from_secs(30));
        let before = world.session(&first).await.unwrap();
        let replay = world.refreshed(&first).await.unwrap();
        assert_eq!(replay.refresh, second.refresh);
        let after = world.session(&first).await.unwrap();
        assert_eq!(after.idle_expires_at, before.idle_expires_at);
        assert_eq!(after.generation, 1);
        assert!(world.opens(&replay).await.unwrap());

        // After the grace period it counts as reuse and ends the session immediately, with its newest
        // tokens.
        world.clock.advance(Duration::from_millis(1));
        assert_eq!(world.refresh(&first).await.unwrap().verdict(), (401, "REFRESH_TOKEN_REUSED"));
        assert!(!world.opens(&second).await.unwrap());
        assert_eq!(world.refresh(&second).await.unwrap().verdict(), (401, "SESSION_TERMINATED"));
        assert_eq!(world.refresh(&first).await.unwrap().verdict(), (401, "SESSION_TERMINATED"));
        assert!(world.session(&first).await.unwrap().ended.unwrap().reuse);
    }
}

// docs/design/security.md#rule-14: each retired token has its own grace period and returns the current
// token.
#[tokio::test]
async fn retired_refresh_token_within_grace_returns_the_current_one() {
    let world = World::start().await.unwrap();
    let mut chain = vec![world.login(&world.actor(ADMIN).unwrap()).await.unwrap()];
    for _ in 0..40 {
        chain.push(
            world
                .refreshed(chain.last().unwrap())
                .await
                .unwrap_or_else(|error| panic!("{}: {error}", chain.len())),
        );
        world.clock.advance(Duration::from_millis(1_000));
        if chain.len() % 10 == 0 {
            world.clock.advance(Duration::from_secs(5));
        }
    }
    let current = chain.last().unwrap().refresh.clone();
    for recent in chain.iter().rev().skip(1).take(20) {
        assert_eq!(world.refreshed(recent).await.unwrap().refresh, current);
    }
    assert_eq!(world.refresh(&chain[0]).await.unwrap().verdict(), (401, "REFRESH_TOKEN_REUSED"));
}

#[tokio::test]
async fn too_many_rotations_within_grace_are_delayed_without_loss() {
    let world = World::start().await.unwrap();
    let mut login = world.login(&world.actor(ADMIN).unwrap()).await.unwrap();
    for _ in 0..32 {
        login = world.refreshed(&login).await.unwrap();
    }
    let refused = world.refresh(&login).await.unwrap();
    assert_eq!(refused.verdict(), (429, "RATE_LIMITED"));
    assert_eq!(refused.header("retry-after"), "30");
    assert_eq!(world.audit.last()["reason"], "ROTATIONS");
    assert!(world.opens(&login).await.unwrap());
    world.clock.advance(Duration::from_secs(31));
    assert!(world.refreshed(&login).await.is_ok());
}

#[tokio::test]
async fn repeated_logout_succeeds() {
    let world = World::start().await.unwrap();
    let login = world.login(&world.actor(MARCUS).unwrap()).await.unwrap();
    let first = world.logout(&login).await.unwrap();
    assert_eq!((first.status, first.data("status")), (200, "TERMINATED"));
    assert_eq!(first.data("sessionId"), login.session);
    assert!(!world.opens(&login).await.unwrap());
    assert_eq!(world.refresh(&login).await.unwrap().verdict(), (401, "SESSION_TERMINATED"));

    world.clock.advance(Duration::from_secs(60));
    let again = world.logout(&login).await.unwrap();
    assert_eq!((again.status, &again.text), (200, &first.text));

    // Only the refresh route accepts an expired access token.
    world.clock.advance(HOUR);
    assert_eq!(world.logout(&login).await.unwrap().verdict(), (401, "INVALID_TOKEN"));
    assert_eq!(world.audit.verdict(), "INVALID_TOKEN EXPIRED");
}

#[tokio::test]
async fn other_session_of_the_user_and_an_administrator_can_end_a_session() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let tenant = marcus.tenant.tenant_id.clone();
    let sessions = [world.login(&marcus).await.unwrap(), world.login(&marcus).await.unwrap()];
    let delete = async |path: &str, token: &str| {
        world.request(&Method::DELETE, path, &tenant, Some(token), None).await.unwrap()
    };
    assert_eq!(delete(&sessions[0].path(), &sessions[1].token).await.status, 200);
    // The token of an ended session can repeat its own logout and nothing more.
    assert_eq!(delete(&sessions[0].path(), &sessions[0].token).await.status, 200);
    assert_eq!(delete(&sessions[1].path(), &sessions[0].token).await.verdict(), (401, "INVALID_TOKEN"));
    assert_eq!(world.audit.verdict(), "INVALID_TOKEN SESSION_GONE");

    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    assert_eq!(delete(&sessions[1].path(), &admin.token).await.status, 200);
    assert!(!world.opens(&sessions[1]).await.unwrap());

    // The admin path names the user's organization; a customer's token fails there.
    let last = world.login(&marcus).await.unwrap();
    let admin_path = format!(
        "/api/v2.1/admin/organization/{}/users/{}/sessions/{}",
        marcus.user.organization_id, marcus.user.user_id, last.session
    );
    assert_eq!(delete(&admin_path, &last.token).await.verdict(), (403, "FORBIDDEN"));
    assert_eq!(world.audit.verdict(), "FORBIDDEN CUSTOMER_TOKEN");
    assert_eq!(delete(&admin_path, &admin.token).await.status, 200);

    // Sessions that the caller may not access get the same response as unknown ones.
    let other = world.login(&world.actor(OTHER_ADMIN).unwrap()).await.unwrap();
    let hidden = delete(&world.login(&marcus).await.unwrap().path(), &other.token).await;
    let absent = delete(&format!("{}/no-such-session", marcus.sessions()), &admin.token).await;
    assert_eq!(hidden.verdict(), (404, "SESSION_NOT_FOUND"));
    assert_eq!(hidden.text, absent.text);
    // A path of another customer is rejected too.
    let wrong = last.path().replace("/individual/", "/individual/x");
    assert_eq!(delete(&wrong, &last.token).await.verdict(), (404, "SESSION_NOT_FOUND"));
}

// docs/design/security.md#rule-13
#[tokio::test]
async fn expired_items_that_still_exist_are_rejected() {
    let world = World::start().await.unwrap();
    let actor = world.actor(ADMIN).unwrap();
    let mut idle = world.login(&actor).await.unwrap();

    // The access token expires after an hour; the refresh accepts it nevertheless.
    world.clock.advance(HOUR - Duration::from_millis(975));
    assert!(world.opens(&idle).await.unwrap());
    world.clock.advance(Duration::from_millis(975));
    assert!(!world.opens(&idle).await.unwrap());
    idle = world.refreshed(&idle).await.unwrap();
    assert!(world.opens(&idle).await.unwrap());

    // Idle timeout: eight hours without a refresh, exact to the millisecond.
    world.clock.advance(8 * HOUR - Duration::from_millis(1));
    let saved = world.refreshed(&idle).await.unwrap();
    world.clock.advance(8 * HOUR);
    assert_eq!(world.refresh(&saved).await.unwrap().verdict(), (401, "SESSION_EXPIRED"));
    assert!(world.session(&idle).await.is_ok(), "the item must still exist");

    // Absolute timeout: 24 hours after the login, regardless of refreshes.
    let mut kept = world.login(&actor).await.unwrap();
    for _ in 0..3 {
        world.clock.advance(7 * HOUR);
        kept = world.refreshed(&kept).await.unwrap();
    }
    world.clock.advance(3 * HOUR - Duration::from_millis(1));
    kept = world.refreshed(&kept).await.unwrap();
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(world.refresh(&kept).await.unwrap().verdict(), (401, "SESSION_EXPIRED"));
    assert_eq!(world.logout(&kept).await.unwrap().status, 401);
    assert_eq!(world.audit.verdict(), "INVALID_TOKEN EXPIRED");
}

// docs/design/security.md#rule-15
#[tokio::test]
async fn login_reset_blocks_the_old_password_until_a_new_one_is_set() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let sessions = [world.login(&marcus).await.unwrap(), world.login(&marcus).await.unwrap()];
    for _ in 0..5 {
        world.try_login(&marcus, "wrong").await.unwrap();
    }
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let done = world
        .reset(&admin, &json!({ "userId": marcus.user.user_id, "reason": "Password reset request" }))
        .await;
    assert_eq!(
        done.unwrap().body,
        json!({ "success": true, "data": { "message": "Credentials reset successfully" } })
    );
    for session in &sessions {
        assert!(!world.opens(session).await.unwrap());
        assert_eq!(world.refresh(session).await.unwrap().verdict(), (401, "SESSION_TERMINATED"));
    }
    // The lockout is cleared, and the correct password gets the instruction to reset it.
    let old = world.try_login(&marcus, &marcus.user.password).await.unwrap();
    assert_eq!(old.verdict(), (401, "CREDENTIALS_RESET_REQUIRED"));
    assert_eq!(world.try_login(&marcus, "wrong").await.unwrap().verdict(), (401, "AUTHENTICATION"));

    let set =
        world.update(&admin, &marcus.user.user_id, &json!({ "newPassword": NEW_PASSWORD })).await.unwrap();
    assert_eq!((set.status, &set.body["data"]["updatedFields"]), (200, &json!(["password"])));
    assert_eq!(
        world.try_login(&marcus, &marcus.user.password).await.unwrap().verdict(),
        (401, "AUTHENTICATION")
    );
    assert_eq!(world.audit.verdict(), "AUTHENTICATION WRONG_PASSWORD");
    // A password set by an administrator permits only its own change.
    let restricted = world.try_login(&marcus, NEW_PASSWORD).await.unwrap();
    assert_eq!(restricted.body["data"]["passwordChangeRequired"], json!(true));
    let restricted = Login::from_answer(&marcus, &restricted).unwrap();
    let own = async |body| world.update(&restricted, &marcus.user.user_id, &body).await.unwrap();
    assert_eq!(
        own(json!({ "username": "m2", "currentPassword": NEW_PASSWORD })).await.verdict(),
        (403, "FORBIDDEN")
    );
    assert_eq!(world.audit.verdict(), "FORBIDDEN PASSWORD_CHANGE_REQUIRED");
    let chosen = json!({ "password": "one that only I know", "currentPassword": NEW_PASSWORD });
    assert_eq!(own(chosen).await.status, 200);
    let free = world.refreshed(&restricted).await.unwrap();
    assert!(world.opens(&free).await.unwrap());
    let again = world.try_login(&marcus, "one that only I know").await.unwrap();
    assert_eq!((again.status, again.body["data"].get("passwordChangeRequired")), (200, None));
}

#[tokio::test]
async fn login_reset_without_a_user_resets_the_caller() {
    let world = World::start().await.unwrap();
    let actor = world.actor(ADMIN).unwrap();
    let login = world.login(&actor).await.unwrap();
    assert_eq!(world.reset(&login, &json!({})).await.unwrap().status, 200);
    assert!(!world.opens(&login).await.unwrap());
    let refused = world.try_login(&actor, &actor.user.password).await.unwrap();
    assert_eq!(refused.verdict(), (401, "CREDENTIALS_RESET_REQUIRED"));
}

#[tokio::test]
async fn login_resets_are_authorized_by_role_and_organization() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let target = json!({ "userId": marcus.user.user_id });
    let customer = world.login(&marcus).await.unwrap();
    assert_eq!(world.reset(&customer, &json!({})).await.unwrap().verdict(), (403, "FORBIDDEN"));
    assert_eq!(world.audit.verdict(), "FORBIDDEN NO_ADMINISTRATOR");
    let stranger = world.login(&world.actor(OTHER_ADMIN).unwrap()).await.unwrap();
    let hidden = world.reset(&stranger, &target).await.unwrap();
    let absent = world.reset(&stranger, &json!({ "userId": "nobody" })).await.unwrap();
    assert_eq!(hidden.verdict(), (404, "USER_NOT_FOUND"));
    assert_eq!(hidden.text, absent.text);
    assert!(world.opens(&customer).await.unwrap());
}

// docs/design/security.md#rule-5, #rule-15
#[tokio::test]
async fn password_change_ends_the_users_other_sessions() {
    let world = World::start().await.unwrap();
    for name in [MARCUS, ADMIN] {
        let actor = world.actor(name).unwrap();
        let id = &actor.user.user_id;
        let own = world.login(&actor).await.unwrap();
        let others = [world.login(&actor).await.unwrap(), world.login(&actor).await.unwrap()];
        world.logout(&others[1]).await.unwrap();

        let missing = world.update(&own, id, &json!({ "password": NEW_PASSWORD })).await.unwrap();
        assert_eq!(missing.verdict(), (400, "VALIDATION"));
        assert_eq!(missing.body["data"]["errors"][0]["field"], "currentPassword");
        let wrong = world
            .update(&own, id, &json!({ "password": NEW_PASSWORD, "currentPassword": "no" }))
            .await
            .unwrap();
        assert_eq!(wrong.verdict(), (401, "AUTHENTICATION"));
        let short = json!({ "password": "short", "currentPassword": actor.user.password });
        assert_eq!(world.update(&own, id, &short).await.unwrap().verdict(), (400, "PASSWORD_POLICY"));
        assert!(world.opens(&others[0]).await.unwrap());

        let body = json!({ "password": NEW_PASSWORD, "currentPassword": actor.user.password });
        let done = world.update(&own, id, &body).await.unwrap();
        assert_eq!(done.body["data"]["sessionsRevoked"], json!(1));
        assert_eq!(done.data("message"), "Credentials updated successfully");
        assert!(world.opens(&own).await.unwrap(), "the session that changed the password must stay live");
        assert!(world.refreshed(&own).await.is_ok());
        assert!(!world.opens(&others[0]).await.unwrap());
        assert_eq!(world.refresh(&others[0]).await.unwrap().verdict(), (401, "SESSION_TERMINATED"));
        assert_eq!(world.try_login(&actor, &actor.user.password).await.unwrap().status, 401);
        assert_eq!(world.try_login(&actor, NEW_PASSWORD).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn renamed_user_logs_in_with_the_new_username_only() {
    let world = World::start().await.unwrap();
    let mut marcus = world.actor(MARCUS).unwrap();
    let login = world.login(&marcus).await.unwrap();
    let rename = async |name: &str| {
        let body = json!({ "username": name, "currentPassword": marcus.user.password });
        world.update(&login, &marcus.user.user_id, &body).await.unwrap()
    };
    let taken = rename("Ingrid.Larsen@Example.com").await;
    assert_eq!(taken.verdict(), (409, "USERNAME_TAKEN"));
    let moved = rename("marcus@example.org").await;
    assert_eq!((moved.status, &moved.body["data"]["updatedFields"]), (200, &json!(["username"])));
    assert_eq!(moved.body["data"]["sessionsRevoked"], json!(0));
    assert!(world.opens(&login).await.unwrap());
    assert_eq!(world.try_login(&marcus, &marcus.user.password).await.unwrap().status, 401);
    // The same username in another case is not a rename, and the old username is free again.
    assert_eq!(rename("Marcus@Example.Org").await.status, 200);
    let ingrid = world.login(&world.actor("ingrid.larsen@example.com").unwrap()).await.unwrap();
    let body = json!({ "username": MARCUS, "currentPassword": marcus.user.password });
    assert_eq!(world.update(&ingrid, &ingrid.actor.user.user_id, &body).await.unwrap().status, 200);
    marcus.user.username = "marcus@example.org".into();
    assert!(world.login(&marcus).await.is_ok());
}

#[tokio::test]
async fn credential_changes_are_authorized_by_role_and_organization() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let id = &marcus.user.user_id;
    let customer = world.login(&marcus).await.unwrap();
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let other = world.login(&world.actor(OTHER_ADMIN).unwrap()).await.unwrap();

    let empty = world.update(&admin, id, &json!({})).await.unwrap();
    assert_eq!(empty.body["data"]["updatedFields"], json!([]));
    assert_eq!(empty.data("message"), "Nothing to update: credentials unchanged");
    assert_eq!(
        world.update(&customer, "user_12345", &json!({})).await.unwrap().verdict(),
        (403, "FORBIDDEN")
    );
    assert_eq!(world.audit.verdict(), "FORBIDDEN CUSTOMER_TOKEN");
    assert_eq!(world.update(&customer, id, &json!({ "changeRequired": true })).await.unwrap().status, 403);
    assert_eq!(world.audit.verdict(), "FORBIDDEN NO_ADMINISTRATOR");
    let hidden = world.update(&other, id, &json!({ "password": NEW_PASSWORD })).await.unwrap();
    assert_eq!(hidden.verdict(), (404, "USER_NOT_FOUND"));
    assert_eq!(hidden.text, world.update(&other, "nobody", &json!({})).await.unwrap().text);

    // A flag set by an administrator restricts existing sessions from the next request on.
    assert_eq!(world.update(&admin, id, &json!({ "changeRequired": true })).await.unwrap().status, 200);
    let refreshed = world.refresh(&customer).await.unwrap();
    assert_eq!(refreshed.body["data"]["passwordChangeRequired"], json!(true));
}

// docs/design/security.md#rule-8, #rule-9
#[tokio::test]
async fn all_wrong_logins_get_the_same_response() {
    let world = World::start().await.unwrap();
    let admin = world.actor(ADMIN).unwrap();
    let right = admin.user.password.clone();
    let with = |change: &dyn Fn(&mut e2e::Actor)| {
        let mut changed = admin.clone();
        change(&mut changed);
        changed
    };
    let customer = world.actor(CUSTOMER).unwrap();
    let mut customer_as_admin = customer.clone();
    customer_as_admin.user.customer_id = None;
    let wrong = [
        (admin.clone(), "wrong password!"),
        (with(&|actor| actor.user.user_id = "nobody".into()), right.as_str()),
        (with(&|actor| actor.user.organization_id = "nowhere".into()), &right),
        (with(&|actor| actor.user.username = "someone@else.example".into()), &right),
        (customer_as_admin, &right),
        (with(&|actor| actor.user.customer_id = Some("nothing".into())), &right),
    ];
    world.login(&customer).await.unwrap();
    let mut answers = Vec::new();
    for (actor, password) in &wrong {
        let before = world.passwords.verified();
        world.calls.take();
        let answer = world.try_login(actor, password).await.unwrap();
        assert_eq!(world.passwords.verified() - before, 1, "each login must verify one hash");
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"doorward\"");
        answers.push((answer.status, answer.without_attempts(), answer.headers, world.calls.take()));
    }
    // The attempt slot is written twice, and the budgets of address and tenant once each.
    assert_eq!(answers[0].3, ["BatchGetItem", "UpdateItem", "UpdateItem", "UpdateItem", "UpdateItem"]);
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:#?}");
    assert_eq!(answers[0].0, 401);
}

// docs/design/security.md#rule-7: the lockout applies to users that do not exist too.
#[tokio::test]
async fn lockout_expires_and_applies_to_unknown_users_too() {
    let world = World::start().await.unwrap();
    let mut nobody = world.actor(SECOND_ADMIN).unwrap();
    nobody.user.user_id = "nobody".into();
    for actor in [world.actor(ADMIN).unwrap(), nobody] {
        for _ in 0..5 {
            assert_eq!(world.try_login(&actor, "wrong").await.unwrap().verdict(), (401, "AUTHENTICATION"));
        }
        world.clock.advance(Duration::from_millis(500));
        let before = world.passwords.verified();
        let locked = world.try_login(&actor, &actor.user.password).await.unwrap();
        assert_eq!(locked.verdict(), (401, "ACCOUNT_LOCKED"));
        assert_eq!(locked.header("retry-after"), "1800");
        assert!(locked.data("lockoutTime").ends_with('Z'));
        assert_eq!(world.passwords.verified(), before, "a password of a locked user was hashed");
        world.clock.advance(Duration::from_secs(1_800));
    }
    assert!(world.login(&world.actor(ADMIN).unwrap()).await.is_ok());
}

#[tokio::test]
async fn successful_login_clears_earlier_failures() {
    let world = World::start().await.unwrap();
    let actor = world.actor(ADMIN).unwrap();
    for _ in 0..3 {
        for _ in 0..4 {
            assert_eq!(world.try_login(&actor, "wrong").await.unwrap().verdict(), (401, "AUTHENTICATION"));
        }
        assert_eq!(world.try_login(&actor, &actor.user.password).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn suspension_and_ip_restriction_are_reported_only_with_the_tenant_secret() {
    let world = World::start().await.unwrap();
    let broken = world.actor("admin@unusable.example").unwrap();
    assert_eq!(world.try_login(&broken, "x").await.unwrap().verdict(), (503, "UNAVAILABLE"));
    for (name, error) in
        [("admin@suspended.example", "TENANT_SUSPENDED"), ("admin@restricted.example", "IP_NOT_ALLOWED")]
    {
        let mut actor = world.actor(name).unwrap();
        assert_eq!(world.try_login(&actor, "x").await.unwrap().verdict(), (403, error));
        actor.tenant.tenant_secret = "not the secret".into();
        assert_eq!(
            world.try_login(&actor, "x").await.unwrap().verdict(),
            (403, "INVALID_TENANT_CREDENTIALS")
        );
    }
    assert_eq!(world.passwords.verified(), 0, "docs/design/security.md#rule-11: a password was hashed");
}

// docs/design/security.md#rule-17, #rule-18: a refresh token is bound to its tenant, user and session.
#[tokio::test]
async fn refresh_rejects_path_bearer_and_token_of_different_sessions() {
    let world = World::start().await.unwrap();
    let actor = world.actor(MARCUS).unwrap();
    let [one, two] = [world.login(&actor).await.unwrap(), world.login(&actor).await.unwrap()];
    let mixed = |session: &Login, token: &Login, refresh: &Login| Login {
        actor: actor.clone(),
        session: session.session.clone(),
        token: token.token.clone(),
        refresh: refresh.refresh.clone(),
        device_proof: session.device_proof.clone(),
    };
    for wrong in [mixed(&two, &one, &one), mixed(&one, &two, &one), mixed(&one, &one, &two)] {
        assert_eq!(world.refresh(&wrong).await.unwrap().verdict(), (401, "INVALID_REFRESH_TOKEN"));
    }
    for garbage in ["x", "dwr1_AAAA", &one.refresh[..one.refresh.len() - 1]] {
        let forged = Login { refresh: garbage.to_owned(), ..one.clone() };
        assert_eq!(world.refresh(&forged).await.unwrap().verdict(), (401, "INVALID_REFRESH_TOKEN"));
    }
    // Rejected refreshes neither rotated nor revoked the session.
    assert!(world.refreshed(&one).await.is_ok() && world.refreshed(&two).await.is_ok());

    // A customer's session on the admin route, and an administrator's session on the customer route.
    let body = json!({ "refreshToken": one.refresh });
    let path = format!("/api/v2.1/admin/sessions/{}/refresh", one.session);
    let tenant = &actor.tenant.tenant_id;
    let refused = world.request(&Method::POST, &path, tenant, Some(&one.token), Some(&body)).await.unwrap();
    assert_eq!(refused.verdict(), (403, "FORBIDDEN"));
    assert_eq!(world.audit.verdict(), "FORBIDDEN CUSTOMER_TOKEN");
}

// docs/design/security.md#rule-15: a tenant's epoch ends every session within the life of the cached
// tenant.
#[tokio::test]
async fn tenant_epoch_ends_all_sessions_permanently_within_five_seconds() {
    use doorward::{
        domain::{Tenant, TenantId},
        port::Clock,
    };
    let world = World::start().await.unwrap();
    let login = world.login(&world.actor(ADMIN).unwrap()).await.unwrap();
    assert!(world.opens(&login).await.unwrap());
    let id = TenantId::parse(&login.actor.tenant.tenant_id).unwrap();
    let known = world.store.tenant(&id).await.unwrap().unwrap();
    let ended = Tenant { session_epoch: known.session_epoch + 1, ..known.clone() };
    world.store.replace_tenant(&known, &ended, world.clock.now()).await.unwrap();
    world.clock.advance(Duration::from_secs(5));
    assert!(!world.opens(&login).await.unwrap());
    assert_eq!(world.refresh(&login).await.unwrap().verdict(), (401, "SESSION_TERMINATED"));
}

// docs/design/contract.md#update-credentials: invisible characters are refused where a name is created.
#[tokio::test]
async fn new_username_with_invisible_characters_is_rejected() {
    let world = World::start().await.unwrap();
    let actor = world.actor(MARCUS).unwrap();
    let login = world.login(&actor).await.unwrap();
    for name in ["x\u{200b}@example.com", " x@example.com", "x@example.com\u{202e}"] {
        let body = json!({ "username": name, "currentPassword": actor.user.password });
        let answer = world.update(&login, &actor.user.user_id, &body).await.unwrap();
        assert_eq!(answer.verdict(), (400, "VALIDATION"), "{name:?}");
    }
    assert_eq!(world.user(&actor).await.unwrap().username.as_written(), actor.user.username);
}
