//! Introspection and revocation of users' tokens.

use std::{collections::BTreeSet, time::Duration};

use doorward::{
    domain::{ClientScope, OrganizationId, TenantId, UserId},
    port::Clock,
    route::Function,
};
use e2e::{Login, NORDIC, RegisteredClient, World, oauth_event};
use serde_json::{Value, json};
use strum::{EnumIter, IntoEnumIterator};

use super::world_with_client;
use crate::{ADMIN, MARCUS, NEW_PASSWORD, NORDIC_ADMIN};

/// A way in which a session ends.
#[derive(Debug, Clone, Copy, EnumIter)]
enum End {
    Logout,
    PasswordChange,
    PasswordSetByAdministrator,
    LoginReset,
    Disable,
    Delete,
    Suspend,
    Reuse,
    Revocation,
    RevocationOfRefreshToken,
    RevokeAll,
}

impl End {
    /// Ends the session of `login`.
    async fn end(self, world: &World, login: &Login, client: &RegisteredClient) {
        let user = &login.actor.user;
        let (tenant, id) = (TenantId::parse(NORDIC).unwrap(), UserId::parse(&user.user_id).unwrap());
        let now = world.clock.now();
        let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
        match self {
            Self::Logout => assert_eq!(world.logout(login).await.unwrap().status, 200),
            Self::PasswordChange => {
                // Another session of the user changes the password; the own session would stay live.
                let other = world.login(&login.actor).await.unwrap();
                let body = json!({ "password": NEW_PASSWORD, "currentPassword": user.password });
                assert_eq!(world.update(&other, &user.user_id, &body).await.unwrap().status, 200);
            }
            Self::PasswordSetByAdministrator => {
                let body = json!({ "password": NEW_PASSWORD });
                assert_eq!(world.update(&admin, &user.user_id, &body).await.unwrap().status, 200);
            }
            Self::LoginReset => {
                let body = json!({ "userId": user.user_id });
                assert_eq!(world.reset(&admin, &body).await.unwrap().status, 200);
            }
            Self::Disable => {
                world.store.disable_user(&tenant, &id, now).await.unwrap();
            }
            Self::Delete => {
                world.store.delete_user(&tenant, &id).await.unwrap();
            }
            Self::Suspend => {
                world.change_tenant(NORDIC, true, None).await.unwrap();
                world.change_tenant(NORDIC, false, None).await.unwrap();
            }
            Self::Reuse => {
                world.refreshed(login).await.unwrap();
                world.clock.advance(Duration::from_secs(31));
                assert_eq!(world.refresh(login).await.unwrap().verdict(), (401, "REFRESH_TOKEN_REUSED"));
            }
            Self::Revocation | Self::RevocationOfRefreshToken => {
                let token = if matches!(self, Self::Revocation) { &login.token } else { &login.refresh };
                let answer = world.oauth(client, "revoke", &[("token", token)]).await.unwrap();
                assert_eq!((answer.status, answer.text.as_str()), (200, ""));
            }
            Self::RevokeAll => {
                world.store.revoke_sessions(&tenant, &id, now).await.unwrap();
            }
        }
    }
}

async fn is_active(world: &World, client: &RegisteredClient, token: &str) -> bool {
    let found = world.introspect(client, token).await.unwrap();
    let is_active = found["active"] == true;
    assert!(
        is_active || found == json!({ "active": false }),
        "an inactive token has no other member: {found}"
    );
    is_active
}

// docs/design/security.md#rule-28; docs/design/security.md#rule-15
#[tokio::test(flavor = "multi_thread")]
async fn token_is_inactive_at_once_after_each_end_of_its_session() {
    for end in End::iter() {
        let (world, client) = world_with_client().await;
        let login = world.login(&world.actor(MARCUS).unwrap()).await.unwrap();
        for token in [&login.token, &login.refresh] {
            assert!(is_active(&world, &client, token).await, "{end:?}: before");
        }
        end.end(&world, &login, &client).await;
        for token in [&login.token, &login.refresh] {
            assert!(!is_active(&world, &client, token).await, "{end:?}");
        }
        assert!(!world.passes(&login).await.unwrap(), "{end:?}: the authorizer decides as the introspection");
    }
}

// docs/design/security.md#rule-28
#[tokio::test]
async fn tokens_that_the_authorizer_rejects_are_inactive() {
    let (world, client) = world_with_client().await;
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let body = json!({ "password": NEW_PASSWORD, "changeRequired": true });
    world.update(&admin, &marcus.user.user_id, &body).await.unwrap();
    let mut changed = marcus.clone();
    NEW_PASSWORD.clone_into(&mut changed.user.password);
    let restricted = world.login(&changed).await.unwrap();
    assert!(!is_active(&world, &client, &restricted.token).await, "a token of scope credentials:update");
    assert!(!is_active(&world, &client, &restricted.refresh).await);

    let foreign = world.login(&world.actor(ADMIN).unwrap()).await.unwrap();
    for token in [&foreign.token, &foreign.refresh] {
        assert!(!is_active(&world, &client, token).await, "a token of another tenant");
    }
    let (message, signature) = admin.token.rsplit_once('.').unwrap();
    let forged = format!("{message}.{}", signature.chars().rev().collect::<String>());
    for text in [forged.as_str(), "x", "dwr1_x", "a.b.c", &"x".repeat(20_000)] {
        assert!(!is_active(&world, &client, text).await, "{text:.20}");
    }
}

// docs/design/contract.md#refresh: the introspection changes nothing, also with a retired refresh token.
#[tokio::test]
async fn introspection_of_a_retired_refresh_token_does_not_end_the_session() {
    let (world, client) = world_with_client().await;
    let first = world.login(&world.actor(MARCUS).unwrap()).await.unwrap();
    let second = world.refreshed(&first).await.unwrap();
    assert!(is_active(&world, &client, &first.refresh).await, "within the grace period");
    world.clock.advance(Duration::from_secs(31));
    assert!(!is_active(&world, &client, &first.refresh).await, "after the grace period");
    assert!(is_active(&world, &client, &second.refresh).await);
    assert!(world.opens(&second).await.unwrap(), "the session is still live");
}

#[tokio::test]
async fn introspection_shows_the_stored_user() {
    let (world, client) = world_with_client().await;
    let login = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let found = world.introspect(&client, &login.token).await.unwrap();
    let expected = [
        ("sub", json!(login.actor.user.user_id)),
        ("username", json!(NORDIC_ADMIN)),
        ("sid", json!(login.session)),
        ("tenantId", json!(NORDIC)),
        ("roles", json!(["ADMIN"])),
        ("scope", json!("full")),
        ("token_type", json!("Bearer")),
    ];
    for (name, value) in expected {
        assert_eq!(found[name], value, "{name}");
    }
    let refresh = world.introspect(&client, &login.refresh).await.unwrap();
    assert_eq!((&refresh["token_type"], &refresh["sid"]), (&json!("refresh_token"), &json!(login.session)));
    let event = world.audit.last();
    assert_eq!(
        [&event["action"], &event["client"], &event["user"]],
        [&json!("token.introspect"), &json!(client.id), &json!(login.actor.user.user_id)]
    );
}

// docs/design/security.md#rule-28
#[tokio::test]
async fn client_introspects_only_with_its_scope_and_in_its_organization() {
    let world = World::start().await.unwrap();
    let login = world.login(&world.actor(MARCUS).unwrap()).await.unwrap();
    let without = world.register_client(NORDIC, &[ClientScope::UsersRead], |_| ()).await.unwrap();
    let answer = world.oauth(&without, "introspect", &[("token", &login.token)]).await.unwrap();
    assert_eq!((answer.status, answer.body["error"].as_str()), (400, Some("unauthorized_client")));

    let of = |organization: &str| {
        let organization = OrganizationId::parse(organization).unwrap();
        world.register_client(NORDIC, &[ClientScope::Introspect], |client| {
            client.organization = Some(organization);
        })
    };
    let own = of(&login.actor.user.organization_id).await.unwrap();
    let other = of("another").await.unwrap();
    for token in [&login.token, &login.refresh] {
        assert!(is_active(&world, &own, token).await);
        assert!(!is_active(&world, &other, token).await, "a user of another organization");
    }
    let token = world.client_token(&without).await.unwrap();
    assert!(!is_active(&world, &own, &token).await, "a restricted client sees only users");
}

// docs/design/security.md#rule-28: a leaked tenant secret only introspects and revokes.
#[tokio::test]
async fn tenant_itself_may_introspect_and_revoke_and_gets_no_token() {
    let world = World::start().await.unwrap();
    let login = world.login(&world.actor(MARCUS).unwrap()).await.unwrap();
    let tenant = RegisteredClient {
        tenant: NORDIC.to_owned(),
        id: login.actor.tenant.tenant_key.clone(),
        secret: login.actor.tenant.tenant_secret.clone(),
    };
    assert!(is_active(&world, &tenant, &login.token).await);
    let answer = world.oauth(&tenant, "token", &[super::GRANT]).await.unwrap();
    assert_eq!((answer.status, answer.body["error"].as_str()), (400, Some("unauthorized_client")));
    let answer = world.oauth(&tenant, "token", &[super::GRANT, ("scope", "introspect")]).await.unwrap();
    assert_eq!((answer.status, answer.body["error"].as_str()), (400, Some("unauthorized_client")));
    assert_eq!(world.oauth(&tenant, "revoke", &[("token", &login.token)]).await.unwrap().status, 200);
    assert!(!world.passes(&login).await.unwrap());
    let text = world.audit.lines().concat();
    assert!(!text.contains(&tenant.id) && !text.contains(&tenant.secret), "the log has no tenant key");
}

#[tokio::test]
async fn revocation_ignores_unknown_and_foreign_tokens() {
    let (world, client) = world_with_client().await;
    let foreign = world.login(&world.actor(ADMIN).unwrap()).await.unwrap();
    let own = world.login(&world.actor(MARCUS).unwrap()).await.unwrap();
    let mut bodies = BTreeSet::new();
    for token in [foreign.token.as_str(), &foreign.refresh, "x", "dwr1_x", &own.token] {
        let event = oauth_event(NORDIC, "revoke", Some(&client.basic()), &[("token", token)]);
        let answer = world.send(Function::Oauth, &event.to_string()).await.unwrap();
        bodies.insert((answer.status, answer.text));
    }
    assert_eq!(bodies, BTreeSet::from([(200, String::new())]));
    assert!(world.passes(&foreign).await.unwrap(), "the session of another tenant stays live");
    assert!(!world.passes(&own).await.unwrap());
}

#[tokio::test]
async fn revocation_ignores_expired_tokens() {
    let (world, client) = world_with_client().await;
    let login = world.login(&world.actor(MARCUS).unwrap()).await.unwrap();
    let client_token = world.client_token(&client).await.unwrap();
    world.clock.advance(Duration::from_secs(3_601));
    for token in [&login.token, &client_token] {
        assert_eq!(world.oauth(&client, "revoke", &[("token", token)]).await.unwrap().status, 200);
        assert_eq!(world.audit.last()["reason"], "EXPIRED");
    }
    assert!(world.session(&login).await.unwrap().ended.is_none());
}

// docs/design/storage.md#calls-per-request
#[tokio::test]
async fn introspection_makes_two_calls_and_a_revocation_two() {
    let (world, client) = world_with_client().await;
    let login = world.login(&world.actor(MARCUS).unwrap()).await.unwrap();
    // Loads the tenant, and records the use of the client.
    world.introspect(&client, &login.token).await.unwrap();
    let found: Value = {
        world.calls.take();
        world.introspect(&client, &login.token).await.unwrap()
    };
    assert_eq!(found["active"], true);
    assert_eq!(world.calls.take(), ["BatchGetItem", "BatchGetItem"]);
    world.oauth(&client, "revoke", &[("token", &login.token)]).await.unwrap();
    assert_eq!(world.calls.take(), ["BatchGetItem", "UpdateItem"]);
}
