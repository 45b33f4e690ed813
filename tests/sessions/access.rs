//! Who may see and end the sessions of a user.

use e2e::fault_proxy::{Effect, Fault, Operation};

use super::*;

// docs/design/security.md#rule-15, #rule-20, #rule-21: docs/design/contract.md#authorization.
#[tokio::test]
async fn sessions_are_accessible_only_to_their_user_and_responsible_administrators() {
    let world = World::start().await.unwrap();
    let (marcus, ingrid) = (world.actor(MARCUS).unwrap(), world.actor(INGRID).unwrap());
    let tenant_admin = world.actor("second.admin@nordic.example").unwrap();
    change_user(&world, &tenant_admin, |user| user.roles = vec![Role::TenantAdmin]).await;
    let customer = world.login(&marcus).await.unwrap();
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let other_admin = world.login(&world.actor(OTHER_ADMIN).unwrap()).await.unwrap();
    let above = world.login(&tenant_admin).await.unwrap();
    let foreign = world.login(&world.actor(ADMIN).unwrap()).await.unwrap();
    let theirs = world.login(&ingrid).await.unwrap();
    let [own, other_customer_path, by_organization] = paths(&marcus);
    let organization = |actor: &Actor| paths(actor)[2].clone();
    let nobody = marcus.sessions().replace(&marcus.user.user_id, "nobody");
    let elsewhere = marcus.sessions().replace("/individual/", "/individual/x");
    let wrong_organization = organization(&marcus).replace("/organization/", "/organization/x");

    let (hidden, forbidden) = ((404, "USER_NOT_FOUND"), (403, "FORBIDDEN"));
    let ok = (200, "");
    let rows = [
        ("a user, itself", &customer, own, ok),
        ("by the other customer path", &customer, other_customer_path, ok),
        ("a user, another", &customer, ingrid.sessions(), hidden),
        ("a user, nobody", &customer, nobody.clone(), hidden),
        ("a user, by another customer's path", &customer, elsewhere.clone(), hidden),
        ("a user on the admin route, itself", &customer, organization(&marcus), forbidden),
        ("a user on the admin route, another", &customer, organization(&admin.actor), forbidden),
        ("an administrator, its organization's customer", &admin, marcus.sessions(), ok),
        ("by the organization", &admin, by_organization, ok),
        ("by another organization", &admin, wrong_organization, hidden),
        ("by another customer", &admin, elsewhere, hidden),
        ("an administrator, itself", &admin, admin.actor.sessions(), ok),
        ("an administrator, nobody", &admin, nobody.clone(), hidden),
        ("an administrator, one above it", &admin, above.actor.sessions(), hidden),
        ("an administrator, another organization's", &admin, other_admin.actor.sessions(), hidden),
        ("another organization's administrator", &other_admin, marcus.sessions(), hidden),
        ("the same by the organization", &other_admin, organization(&marcus), hidden),
        ("a tenant's administrator, a customer", &above, marcus.sessions(), ok),
        ("a tenant's administrator, another organization's", &above, other_admin.actor.sessions(), ok),
        ("a tenant's administrator, itself", &above, above.actor.sessions(), ok),
        ("another tenant's administrator", &foreign, marcus.sessions(), hidden),
        ("the same, by its own organization", &foreign, organization(&marcus), hidden),
    ];
    let text = |answer: &Answer, hidden: &mut BTreeSet<String>| {
        if answer.status == 404 {
            hidden.insert(answer.text.clone());
        }
    };
    let (mut lists, mut sessions) = (BTreeSet::new(), BTreeSet::new());
    for (who, by, path, expected) in &rows {
        // The list contains the path user's one session.
        let of = |login: &&&Login| path.contains(&format!("/users/{}/", login.actor.user.user_id));
        let all = [&customer, &theirs, &admin, &other_admin, &above];
        let session = all.iter().find(of).map_or("none", |login| &login.session);
        let [list, one, end] = routes(path, session);
        let list = ask(&world, by, list.0, &list.1).await;
        assert_eq!(list.verdict(), *expected, "{who}: {}", list.text);
        text(&list, &mut lists);
        let one = ask(&world, by, one.0, &one.1).await;
        let seen = expected.0 != 200
            || ids(list.body["data"]["sessions"].as_array().unwrap()).contains(&session.to_owned());
        match expected.0 {
            404 => assert_eq!(one.verdict(), (404, "SESSION_NOT_FOUND"), "{who}"),
            200 if !seen => assert_eq!(one.verdict(), (404, "SESSION_NOT_FOUND"), "{who}"),
            _ => assert_eq!(one.verdict(), *expected, "{who}: {}", one.text),
        }
        text(&one, &mut sessions);
        let refused = expected.0 != 200;
        if refused {
            let end = ask(&world, by, end.0, &end.1).await;
            assert_eq!(end.verdict(), *expected, "{who}: {}", end.text);
            text(&end, &mut lists);
        }
    }
    assert_eq!(
        (lists.len(), sessions.len()),
        (1, 1),
        "inaccessible and unknown users must get the same response"
    );
    for login in [&customer, &theirs, &admin, &other_admin, &above] {
        assert!(world.opens(login).await.unwrap(), "a rejected request ended a session");
    }
    // A token of one tenant is rejected in another tenant.
    for method in [Method::GET, Method::DELETE] {
        let path = marcus.sessions();
        let answer = world.request(&method, &path, NORDIC, Some(&foreign.token), None).await.unwrap();
        assert_eq!(answer.verdict(), (403, "TENANT_MISMATCH"));
        let without = world.request(&method, &path, NORDIC, None, None).await.unwrap();
        assert_eq!(without.verdict(), (401, "INVALID_TOKEN"));
        assert_eq!(world.audit.verdict(), "INVALID_TOKEN MISSING");
    }
    // A role change ends an administrator's sessions; new sessions have the new roles.
    change_user(&world, &admin.actor, |user| user.roles = vec![Role::User]).await;
    assert_eq!(ask(&world, &admin, Method::GET, &marcus.sessions()).await.verdict(), (401, "INVALID_TOKEN"));
    assert_eq!(world.audit.verdict(), "INVALID_TOKEN SESSION_GONE");
    // Callers who may see the sessions may end them.
    for (by, of) in [(&above, &other_admin), (&customer, &customer), (&above, &above)] {
        assert_eq!(ask(&world, by, Method::DELETE, &of.actor.sessions()).await.status, 200);
        assert!(!world.opens(of).await.unwrap());
    }
}

// docs/design/security.md#rule-21
#[tokio::test]
async fn session_with_a_required_password_change_cannot_access_sessions() {
    let world = World::start().await.unwrap();
    let (marcus, admin) = (world.actor(MARCUS).unwrap(), world.actor(NORDIC_ADMIN).unwrap());
    for actor in [&marcus, &admin] {
        let login = world.login(actor).await.unwrap();
        change_user(&world, actor, |user| user.change_required = true).await;
        for (method, path) in [
            (Method::GET, actor.sessions()),
            (Method::GET, login.path()),
            (Method::GET, marcus.sessions()),
            (Method::DELETE, actor.sessions()),
            (Method::DELETE, format!("{}?except=current", actor.sessions())),
        ] {
            assert_eq!(ask(&world, &login, method, &path).await.verdict(), (403, "FORBIDDEN"), "{path}");
            assert_eq!(world.audit.verdict(), "FORBIDDEN PASSWORD_CHANGE_REQUIRED", "{path}");
        }
        assert_eq!(world.logout(&login).await.unwrap().status, 200);
    }
}

// docs/design/security.md#rule-21
#[tokio::test]
async fn session_with_a_required_password_change_ends_only_itself() {
    let world = World::start().await.unwrap();
    let (marcus, admin) = (world.actor(MARCUS).unwrap(), world.actor(NORDIC_ADMIN).unwrap());
    for actor in [&marcus, &admin] {
        let other_user = if actor.user.user_id == marcus.user.user_id { INGRID } else { MARCUS };
        let foreign = world.login(&world.actor(other_user).unwrap()).await.unwrap();
        let (login, other) = (world.login(actor).await.unwrap(), world.login(actor).await.unwrap());
        change_user(&world, actor, |user| user.change_required = true).await;
        for path in [other.path(), foreign.path(), format!("{}/none", actor.sessions())] {
            let refused = ask(&world, &login, Method::DELETE, &path).await;
            assert_eq!(refused.verdict(), (403, "FORBIDDEN"), "{path}");
            assert_eq!(world.audit.verdict(), "FORBIDDEN PASSWORD_CHANGE_REQUIRED", "{path}");
        }
        for kept in [&other, &foreign] {
            assert!(world.session(kept).await.unwrap().ended.is_none());
        }
        assert_eq!(world.logout(&login).await.unwrap().status, 200);
    }
}

// docs/design/security.md#rule-15: a batch read returns a session from before its user's password change and the user
// from after it. The change keeps the session.
#[tokio::test(flavor = "multi_thread")]
async fn session_kept_by_a_password_change_is_readable_during_a_torn_read() {
    for reader in [MARCUS, NORDIC_ADMIN] {
        let world = World::start().await.unwrap();
        let login = world.login(&world.actor(MARCUS).unwrap()).await.unwrap();
        let user = &login.actor.user;
        let by = if reader == MARCUS {
            login.clone()
        } else {
            world.login(&world.actor(reader).unwrap()).await.unwrap()
        };
        let torn = world.faults.inject(Fault::on(Operation::BatchGetItem, Effect::Tear).sk("USER"));
        let change = json!({ "password": NEW_PASSWORD, "currentPassword": user.password });
        let path = login.path();
        let (read, changed) = tokio::join!(ask(&world, &by, Method::GET, &path), async {
            torn.reached().await;
            let changed = world.update(&login, &user.user_id, &change).await.unwrap();
            torn.release();
            changed
        });
        assert_eq!((changed.status, read.status), (200, 200), "{reader}: {}", read.text);
    }
}
