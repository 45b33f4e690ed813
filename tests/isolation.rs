//! Isolation of tenants: values of one tenant have the same effect in another as unknown values
//! (docs/design/security.md#rule-20).

use e2e::{Login, NORDIC, World};
use http::Method;
use serde_json::json;

use crate::{ADMIN, MARCUS, NEW_PASSWORD, NORDIC_ADMIN};

#[tokio::test]
async fn access_token_is_rejected_for_another_tenant() {
    let world = World::start().await.unwrap();
    let login = world.login(&world.actor(ADMIN).unwrap()).await.unwrap();
    let home = &login.actor.tenant.tenant_id;
    let user = format!("/api/v2.1/admin/users/{}/credentials", login.actor.user.user_id);
    for (method, path, body) in [
        (Method::PUT, user.clone(), Some(json!({}))),
        (Method::POST, "/api/v2.1/admin/users/login/reset".to_owned(), Some(json!({}))),
        (Method::DELETE, login.path(), None),
        (Method::POST, login.refresh_route().1, Some(json!({ "refreshToken": login.refresh }))),
    ] {
        let mut answers = Vec::new();
        for tenant in [NORDIC, "no_such_tenant", "not a tenant id"] {
            let answer =
                world.request(&method, &path, tenant, Some(&login.token), body.as_ref()).await.unwrap();
            assert_eq!(answer.verdict(), (403, "TENANT_MISMATCH"), "{method} {path} {tenant}");
            answers.push(answer.text);
        }
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    }
    assert!(world.opens(&login).await.unwrap(), "the rejected requests ended the session");
    assert_eq!(
        world.request(&Method::PUT, &user, home, Some(&login.token), Some(&json!({}))).await.unwrap().status,
        200
    );
}

#[tokio::test]
async fn refresh_token_of_another_tenant_is_rejected_like_an_unknown_one() {
    let world = World::start().await.unwrap();
    let here = world.login(&world.actor(ADMIN).unwrap()).await.unwrap();
    let there = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let mut answers = Vec::new();
    for refresh in [there.refresh.as_str(), "dwr1_unknown"] {
        let answer = world.refresh(&Login { refresh: refresh.to_owned(), ..here.clone() }).await.unwrap();
        assert_eq!(answer.verdict(), (401, "INVALID_REFRESH_TOKEN"));
        answers.push(answer.text);
    }
    assert_eq!(answers[0], answers[1]);
    assert!(world.refreshed(&there).await.is_ok() && world.refreshed(&here).await.is_ok());
}

#[tokio::test]
async fn ids_of_another_tenant_are_rejected_like_unknown_ids() {
    let world = World::start().await.unwrap();
    let admin = world.login(&world.actor(ADMIN).unwrap()).await.unwrap();
    let marcus = world.login(&world.actor(MARCUS).unwrap()).await.unwrap();
    let theirs = marcus.actor.user.user_id.as_str();

    let reset = async |user: &str| world.reset(&admin, &json!({ "userId": user })).await.unwrap();
    let (known, unknown) = (reset(theirs).await, reset("nobody").await);
    assert_eq!((known.verdict(), &known.text), ((404, "USER_NOT_FOUND"), &unknown.text));

    let change = json!({ "password": NEW_PASSWORD });
    let update = async |user: &str| world.update(&admin, user, &change).await.unwrap();
    let (known, unknown) = (update(theirs).await, update("nobody").await);
    assert_eq!((known.verdict(), &known.text), ((404, "USER_NOT_FOUND"), &unknown.text));

    let home = &admin.actor.tenant.tenant_id;
    let delete = async |path: &str| {
        world.request(&Method::DELETE, path, home, Some(&admin.token), None).await.unwrap()
    };
    let (known, unknown) = (delete(&marcus.path()).await, delete(&format!("{}x", marcus.path())).await);
    assert_eq!((known.verdict(), &known.text), ((404, "SESSION_NOT_FOUND"), &unknown.text));
    assert!(world.opens(&marcus).await.unwrap());
}

#[tokio::test]
async fn login_with_another_tenants_user_fails_like_a_wrong_password() {
    let world = World::start().await.unwrap();
    let mut marcus = world.actor(MARCUS).unwrap();
    marcus.tenant = world.actor(ADMIN).unwrap().tenant;
    let known = world.try_login(&marcus, &marcus.user.password).await.unwrap();
    marcus.user.user_id = "nobody".into();
    let unknown = world.try_login(&marcus, &marcus.user.password).await.unwrap();
    assert_eq!((known.verdict(), &known.text), ((401, "AUTHENTICATION"), &unknown.text));
}

// docs/design/security.md#rule-18: an unknown tenant, a wrong key and a wrong secret get the same response.
#[tokio::test]
async fn all_wrong_tenant_credentials_get_the_same_response() {
    let world = World::start().await.unwrap();
    let actor = world.actor(ADMIN).unwrap();
    let mut answers = Vec::new();
    for change in [
        |tenant: &mut local::stack::Tenant| tenant.tenant_id = "no_such_tenant".into(),
        |tenant: &mut local::stack::Tenant| tenant.tenant_id = "the tenant does not exist".into(),
        |tenant: &mut local::stack::Tenant| tenant.tenant_key.push('x'),
        |tenant: &mut local::stack::Tenant| tenant.tenant_secret.push('x'),
        |tenant: &mut local::stack::Tenant| tenant.tenant_secret = "x".into(),
    ] {
        let mut actor = actor.clone();
        change(&mut actor.tenant);
        let answer = world.try_login(&actor, &actor.user.password).await.unwrap();
        assert_eq!(answer.verdict(), (403, "INVALID_TENANT_CREDENTIALS"));
        answers.push(answer.text);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(world.passwords.verified(), 0);
}
