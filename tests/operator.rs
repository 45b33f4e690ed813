//! Operator actions on tenants and users. Changes of a user take effect at once, changes of a tenant within
//! 5 s, and ended sessions stay ended (docs/design/security.md#rule-15).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use doorward::{
    domain::{Failure, OrganizationId, Role, Tenant, TenantId, User, UserId, UserStatus, Username},
    port::Clock,
    route::Function,
    store::{Switched, TenantChange},
};
use e2e::{Actor, Answer, Login, NORDIC, World};
use http::Method;
use local::TABLE;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{ADMIN, CUSTOMER, MARCUS, NEW_PASSWORD, NORDIC_ADMIN};

const NORDIC_CUSTOMER: &str = "freja.holm@example.com";

fn ids(actor: &Actor) -> (TenantId, UserId) {
    (TenantId::parse(&actor.tenant.tenant_id).unwrap(), UserId::parse(&actor.user.user_id).unwrap())
}

impl Operator for World {}

/// Shorthands for operator actions.
trait Operator: std::borrow::Borrow<World> {
    async fn disable(&self, actor: &Actor) -> Switched {
        let (world, (tenant, user)) = (self.borrow(), ids(actor));
        world.store.disable_user(&tenant, &user, world.clock.now()).await.unwrap()
    }

    async fn enable(&self, actor: &Actor) -> Switched {
        let (world, (tenant, user)) = (self.borrow(), ids(actor));
        world.store.enable_user(&tenant, &user, world.clock.now()).await.unwrap()
    }

    async fn tenant(&self, id: &str) -> Tenant {
        self.borrow().store.tenant(&TenantId::parse(id).unwrap()).await.unwrap().unwrap()
    }
}

/// Returns a change of policy fields.
fn change(fields: &[(&str, Value)]) -> TenantChange {
    let policy = fields.iter().map(|(name, value)| ((*name).to_owned(), Some(value.clone()))).collect();
    TenantChange { name: None, policy }
}

/// The response to each call, with outcome and reason in the audit log.
type Answers = BTreeMap<&'static str, (Answer, String)>;

/// Calls every route of an administrator's session, with `other` as the target user.
async fn call_all_routes(world: &World, login: &Login, other: &Actor) -> Answers {
    let other = &other.user.user_id;
    let calls: [(_, Method, String, Option<Value>); 9] = [
        ("list", Method::GET, login.actor.sessions(), None),
        ("read", Method::GET, login.path(), None),
        (
            "update own",
            Method::PUT,
            format!("/api/v2.1/admin/users/{}/credentials", login.actor.user.user_id),
            Some(json!({})),
        ),
        (
            "update other",
            Method::PUT,
            format!("/api/v2.1/admin/users/{other}/credentials"),
            Some(json!({ "changeRequired": false })),
        ),
        (
            "reset",
            Method::POST,
            "/api/v2.1/admin/users/login/reset".to_owned(),
            Some(json!({ "userId": other })),
        ),
        ("ask", Method::POST, format!("/v2/users/{other}/password_reset"), Some(json!({ "returnCode": {} }))),
        (
            "set",
            Method::POST,
            format!("/v2/users/{other}/password"),
            Some(json!({ "newPassword": { "password": NEW_PASSWORD } })),
        ),
        (
            "ocariot",
            Method::POST,
            format!("/v1/users/{other}/reset-password"),
            Some(json!({ "new_password": "another new passphrase" })),
        ),
        ("logout other", Method::DELETE, format!("{}/missing", login.actor.sessions()), None),
    ];
    let mut answers = BTreeMap::new();
    for (name, method, path, body) in calls {
        let tenant = &login.actor.tenant.tenant_id;
        let answer = world.request(&method, &path, tenant, Some(&login.token), body.as_ref()).await.unwrap();
        answers.insert(name, (answer, world.audit.verdict()));
    }
    answers.insert("refresh", (world.refresh(login).await.unwrap(), world.audit.verdict()));
    answers
}

fn assert_all_rejected(answers: &Answers) {
    for (name, (answer, audited)) in answers {
        let expected = if *name == "refresh" { "SESSION_TERMINATED" } else { "INVALID_TOKEN SESSION_GONE" };
        assert_eq!((answer.status, audited.as_str()), (401, expected), "{name}: {}", answer.text);
    }
}

// docs/design/security.md#rule-15
#[tokio::test]
async fn disabling_a_user_ends_its_sessions_at_once_and_permanently() {
    let world = World::start().await.unwrap();
    let (admin, freja) = (world.actor(NORDIC_ADMIN).unwrap(), world.actor(NORDIC_CUSTOMER).unwrap());
    let before = world.login(&admin).await.unwrap();
    let alive = call_all_routes(&world, &before, &freja).await;
    for (name, (answer, _)) in &alive {
        assert!(answer.status < 300 || *name == "logout other", "{name}: {}", answer.text);
    }
    let before = Login::from_answer(&admin, &alive["refresh"].0).unwrap();

    assert_eq!(world.disable(&admin).await, Switched::Done);
    assert_all_rejected(&call_all_routes(&world, &before, &freja).await);
    let refused = world.try_login(&admin, &admin.user.password).await.unwrap();
    let wrong = world.try_login(&admin, "not the password").await.unwrap();
    assert_eq!(refused.verdict(), (401, "AUTHENTICATION"));
    assert_eq!(refused.without_attempts(), wrong.without_attempts());
    let disabled = world.user(&admin).await.unwrap();
    assert_eq!(world.disable(&admin).await, Switched::Already);
    assert_eq!(world.user(&admin).await.unwrap().session_epoch, disabled.session_epoch);

    assert_eq!(world.enable(&admin).await, Switched::Done);
    assert_eq!(world.enable(&admin).await, Switched::Already);
    assert_all_rejected(&call_all_routes(&world, &before, &freja).await);
    let again = world.login(&admin).await.unwrap();
    assert!(world.opens(&again).await.unwrap());
    assert_eq!(
        world.user(&admin).await.unwrap().sequence,
        disabled.sequence + 1,
        "each change increments the sequence"
    );
}

// docs/design/security.md#rule-8: an unlock ends a lockout, also one without an end time.
#[tokio::test]
async fn unlocked_user_logs_in_with_its_present_password() {
    let world = World::start().await.unwrap();
    let policy = world.change_policy(NORDIC, |policy| {
        (policy.max_attempts, policy.failures_per_user, policy.failures_per_ip) = (100, 500, 1_000);
    });
    policy.await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let before = world.login(&marcus).await.unwrap();
    let (tenant, user) = ids(&marcus);
    let unlock = async || world.store.unlock_user(&tenant, &user).await.unwrap();
    let mut locked = Vec::new();
    // The cases: a timed lockout, the permanent one of unknown devices, and that of a trusted device.
    for (failures, proof) in [(5, None), (100, None), (100, Some(before.device_proof.as_str()))] {
        let max = |policy: &mut doorward::domain::Policy| policy.max_attempts = failures;
        world.change_policy(NORDIC, max).await.unwrap();
        for _ in 0..failures {
            let wrong = world.try_login_from(&marcus, "wrong", "198.51.100.7", proof).await.unwrap();
            assert_eq!(wrong.verdict(), (401, "AUTHENTICATION"));
        }
        let right = async || {
            world.try_login_from(&marcus, &marcus.user.password, "198.51.100.7", proof).await.unwrap()
        };
        let refused = right().await;
        assert_eq!(refused.verdict(), (401, "ACCOUNT_LOCKED"));
        locked.push(!refused.header("retry-after").is_empty());
        assert_eq!(unlock().await, Switched::Done);
        assert_eq!(right().await.status, 200);
    }
    assert_eq!(locked, [true, false, false], "only the first lockout has an end time");
    // The first call deletes the attempt item that a login left, if any.
    unlock().await;
    assert_eq!(unlock().await, Switched::Already);
    assert!(world.opens(&before).await.unwrap(), "an unlock does not end sessions");
    // The disabled password had a TTL that is never reached.
    world.try_login(&marcus, "wrong").await.unwrap();
    let key = |name: &str| AttributeValue::S(name.to_owned());
    let get = world.dynamodb.get_item().table_name(TABLE).key("pk", key(&format!("T#{tenant}#U#{user}")));
    let attempts = get.key("sk", key("ATTEMPTS")).send().await.unwrap().item.unwrap();
    let ttl: i64 = attempts["expires_at"].as_n().unwrap().parse().unwrap();
    assert!(ttl < world.clock.now().as_second() + 2 * 365 * 24 * 60 * 60, "{ttl}");
    let missing = UserId::parse("missing").unwrap();
    assert_eq!(world.store.unlock_user(&tenant, &missing).await.unwrap(), Switched::Missing);
}

// docs/design/security.md#rule-15
#[tokio::test]
async fn recreated_user_does_not_revive_sessions_of_the_deleted_user() {
    let world = World::start().await.unwrap();
    let (admin, freja) = (world.actor(NORDIC_ADMIN).unwrap(), world.actor(NORDIC_CUSTOMER).unwrap());
    let before = world.login(&admin).await.unwrap();
    let record = world.user(&admin).await.unwrap();
    let (tenant, user) = ids(&admin);
    world.try_login(&admin, "not the password").await.unwrap();
    world.reset(&before, &json!({})).await.unwrap();
    assert!(!world.outbox(NORDIC, user.as_str()).await.unwrap().is_empty());

    assert_eq!(world.store.delete_user(&tenant, &user).await.unwrap(), Switched::Done);
    assert_all_rejected(&call_all_routes(&world, &before, &freja).await);
    assert_eq!(
        world.try_login(&admin, &admin.user.password).await.unwrap().verdict(),
        (401, "AUTHENTICATION")
    );
    assert_eq!(world.store.delete_user(&tenant, &user).await.unwrap(), Switched::Missing);
    assert_eq!(world.disable(&admin).await, Switched::Missing);
    // Only session items are left; they expire with their TTL.
    let left = world
        .dynamodb
        .query()
        .table_name(TABLE)
        .key_condition_expression("pk = :pk")
        .expression_attribute_values(":pk", AttributeValue::S(format!("T#{tenant}#U#{user}")))
        .send()
        .await
        .unwrap();
    let left: Vec<_> = left.items().iter().map(|item| item["sk"].as_s().unwrap().as_str()).collect();
    // The login after the deletion counted an attempt for a user that does not exist.
    assert!(left.iter().all(|sk| sk.starts_with("S#") || *sk == "ATTEMPTS"), "{left:?}");

    // The store ignores the session epoch and the creation date of a recreated user.
    let again = User { session_epoch: 0, created_at: "2001-01-01T00:00:00Z".parse().unwrap(), ..record };
    world.store.create_user(&again, world.clock.now()).await.unwrap();
    assert_all_rejected(&call_all_routes(&world, &before, &freja).await);
    let login = world.login(&admin).await.unwrap();
    assert!(world.opens(&login).await.unwrap());
    let taken = world.store.create_user(&again, world.clock.now()).await;
    assert!(matches!(taken, Err(Failure::UsernameTaken)));
}

// docs/design/security.md#rule-15
#[tokio::test]
async fn suspending_a_tenant_ends_its_sessions_within_five_seconds_and_permanently() {
    let world = World::start().await.unwrap();
    let (admin, freja) = (world.actor(NORDIC_ADMIN).unwrap(), world.actor(NORDIC_CUSTOMER).unwrap());
    let elsewhere = world.login(&world.actor(ADMIN).unwrap()).await.unwrap();
    let before = world.login(&admin).await.unwrap();
    let id = TenantId::parse(NORDIC).unwrap();

    assert_eq!(world.store.suspend_tenant(&id).await.unwrap(), Switched::Done);
    assert_eq!(world.store.suspend_tenant(&id).await.unwrap(), Switched::Already);
    world.clock.advance(Duration::from_secs(5));
    for (name, (answer, audited)) in call_all_routes(&world, &before, &freja).await {
        assert_eq!((answer.status, audited.as_str()), (403, "TENANT_SUSPENDED"), "{name}: {}", answer.text);
    }
    assert_eq!(world.logout(&before).await.unwrap().verdict(), (403, "TENANT_SUSPENDED"));
    assert_eq!(
        world.try_login(&admin, &admin.user.password).await.unwrap().verdict(),
        (403, "TENANT_SUSPENDED")
    );
    assert!(world.opens(&elsewhere).await.unwrap(), "sessions of another tenant stay live");

    assert_eq!(world.store.resume_tenant(&id).await.unwrap(), Switched::Done);
    assert_eq!(world.store.resume_tenant(&id).await.unwrap(), Switched::Already);
    world.clock.advance(Duration::from_secs(5));
    assert_all_rejected(&call_all_routes(&world, &before, &freja).await);
    let again = world.login(&admin).await.unwrap();
    assert!(world.opens(&again).await.unwrap());
    let missing = TenantId::parse("no_such_tenant").unwrap();
    assert_eq!(world.store.suspend_tenant(&missing).await.unwrap(), Switched::Missing);
}

// docs/design/security.md#rule-15: a recreated tenant does not revive sessions.
#[tokio::test]
async fn recreated_tenant_does_not_revive_sessions() {
    let world = World::start().await.unwrap();
    let before = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let known = world.tenant(NORDIC).await;
    assert!(world.store.create_tenant(&known, world.clock.now()).await.is_err(), "the tenant already exists");
    let key = |part: &str| AttributeValue::S(part.to_owned());
    let delete = world.dynamodb.delete_item().table_name(TABLE);
    delete.key("pk", key(&format!("T#{NORDIC}"))).key("sk", key("TENANT")).send().await.unwrap();
    let again = Tenant { session_epoch: 0, version: 0, ..known };
    let created = world.store.create_tenant(&again, world.clock.now()).await.unwrap();
    assert_eq!(created.tenant.version, 1);
    world.clock.advance(Duration::from_secs(5));
    assert!(!world.opens(&before).await.unwrap());
    assert_eq!(world.refresh(&before).await.unwrap().verdict(), (401, "SESSION_TERMINATED"));
    assert!(world.login(&before.actor).await.is_ok());
}

// docs/design/security.md#rule-15: a login that read the user before the change creates no live session.
#[tokio::test(flavor = "multi_thread")]
async fn login_in_progress_does_not_survive_a_suspension() {
    for whole_tenant in [false, true] {
        let world = Arc::new(World::start().await.unwrap());
        let marcus = world.actor(MARCUS).unwrap();
        let id = TenantId::parse(NORDIC).unwrap();
        world.passwords.close();
        let verified = world.passwords.verified();
        let login = tokio::spawn({
            let (world, marcus) = (Arc::clone(&world), marcus.clone());
            async move { world.try_login(&marcus, &marcus.user.password).await.unwrap() }
        });
        world.passwords.until_more_than(verified).await;
        if whole_tenant {
            assert_eq!(world.store.suspend_tenant(&id).await.unwrap(), Switched::Done);
            assert_eq!(world.store.resume_tenant(&id).await.unwrap(), Switched::Done);
        } else {
            assert_eq!(world.disable(&marcus).await, Switched::Done);
            assert_eq!(world.enable(&marcus).await, Switched::Done);
        }
        world.passwords.open();
        let answer = login.await.unwrap();
        world.clock.advance(Duration::from_secs(5));
        if let Ok(login) = Login::from_answer(&marcus, &answer) {
            assert!(!world.opens(&login).await.unwrap(), "whole tenant: {whole_tenant}");
            assert_eq!(world.refresh(&login).await.unwrap().verdict(), (401, "SESSION_TERMINATED"));
        }
    }
}

// docs/design/security.md#rule-15
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_refreshes_do_not_survive_a_disable() {
    let world = Arc::new(World::start().await.unwrap());
    let marcus = world.actor(MARCUS).unwrap();
    let mut logins = Vec::new();
    for _ in 0..20 {
        logins.push(world.login(&marcus).await.unwrap());
    }
    let mut refreshes = JoinSet::new();
    for login in logins.clone() {
        let world = Arc::clone(&world);
        refreshes.spawn(async move { world.refresh(&login).await.unwrap() });
    }
    let disabled = {
        let (world, marcus) = (Arc::clone(&world), marcus.clone());
        tokio::spawn(async move { world.disable(&marcus).await })
    };
    let answers = refreshes.join_all().await;
    assert_eq!(disabled.await.unwrap(), Switched::Done);
    let granted = answers.iter().filter_map(|answer| Login::from_answer(&marcus, answer).ok());
    for login in granted.chain(logins) {
        assert!(!world.opens(&login).await.unwrap());
        assert_eq!(world.refresh(&login).await.unwrap().verdict(), (401, "SESSION_TERMINATED"));
    }
    world.enable(&marcus).await;
    for login in answers.iter().filter_map(|answer| Login::from_answer(&marcus, answer).ok()) {
        assert!(!world.opens(&login).await.unwrap(), "sessions stay ended after the user is enabled");
    }
}

type Change = fn(&mut User);

// docs/design/security.md#rule-15: a session has the roles and the owner of its login.
#[tokio::test]
async fn role_and_owner_changes_end_sessions_and_address_changes_do_not() {
    let world = World::start().await.unwrap();
    let admin = world.actor(NORDIC_ADMIN).unwrap();
    let cases: [(&str, Change, bool); 9] = [
        ("address", |user| user.email = Some("new@nordic.example".to_owned()), true),
        ("no address", |user| user.email = None, true),
        ("name", |user| user.username = Username::parse(NORDIC_ADMIN).unwrap(), true),
        ("order of roles", |user| user.roles.push(Role::Admin), true),
        ("roles", |user| user.roles = vec![Role::TenantAdmin], false),
        ("organization", |user| user.organization = OrganizationId::parse("another").unwrap(), false),
        ("status", |user| user.status = UserStatus::Disabled, false),
        ("lock", |user| user.status = UserStatus::Locked, false),
        ("reset", |user| user.reset_required = true, false),
    ];
    for (what, change, survives) in cases {
        let original = world.user(&admin).await.unwrap();
        let login = world.login(&admin).await.unwrap();
        let mut changed = original.clone();
        change(&mut changed);
        world.store.replace_user(&original, &changed).await.unwrap();
        assert_eq!(world.opens(&login).await.unwrap(), survives, "{what}");
        let now = world.user(&admin).await.unwrap();
        assert_eq!(now.sequence, original.sequence + 1, "{what}");
        assert_eq!(now.session_epoch, original.session_epoch + u64::from(!survives), "{what}");
        assert_eq!((&now.roles, &now.email), (&changed.roles, &changed.email), "{what}");
        // Restores the user. A second write from the same snapshot fails, because the snapshot is outdated.
        world.store.replace_user(&now, &original).await.unwrap();
        assert!(world.store.replace_user(&now, &original).await.is_err(), "{what}");
        assert_eq!(world.opens(&login).await.unwrap(), survives, "{what}, after the restore");
    }
}

#[tokio::test]
async fn unknown_attributes_of_a_user_item_are_kept() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let key = |part: String| AttributeValue::S(part);
    let item = || {
        let (tenant, user) = ids(&marcus);
        (key(format!("T#{tenant}#U#{user}")), key("USER".to_owned()))
    };
    let (pk, sk) = item();
    let update = world.dynamodb.update_item().table_name(TABLE).key("pk", pk).key("sk", sk);
    let update = update.update_expression("SET of_a_later_version = :x");
    update.expression_attribute_values(":x", AttributeValue::N("7".to_owned())).send().await.unwrap();
    let known = world.user(&marcus).await.unwrap();
    world.store.replace_user(&known, &User { phone: None, ..known.clone() }).await.unwrap();
    let (pk, sk) = item();
    let kept = world.dynamodb.get_item().table_name(TABLE).key("pk", pk).key("sk", sk).send().await.unwrap();
    let kept = kept.item.unwrap();
    assert_eq!(kept["of_a_later_version"], AttributeValue::N("7".to_owned()));
    assert!(!kept.contains_key("phone"));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_tenant_changes_are_all_kept() {
    let world = Arc::new(World::start().await.unwrap());
    let id = TenantId::parse(NORDIC).unwrap();
    let before = world.tenant(NORDIC).await;
    let fields =
        [("grace_seconds", 7), ("max_attempts", 8), ("failures_per_ip", 9), ("password_history", 10)];
    let mut changes = JoinSet::new();
    for (name, value) in fields {
        let (world, id) = (Arc::clone(&world), id.clone());
        changes.spawn(async move {
            world.store.update_tenant(&id, &change(&[(name, value.into())]), world.clock.now()).await
        });
    }
    for changed in changes.join_all().await {
        changed.unwrap().unwrap();
    }
    let after = world.store.tenant_record(&id).await.unwrap().unwrap();
    assert_eq!(after.tenant.version, before.version + 4);
    for (name, value) in fields {
        assert_eq!(after.document[name], json!(value));
    }
    let stale = world
        .store
        .replace_tenant(&before, &Tenant { name: "Late".to_owned(), ..before.clone() }, world.clock.now())
        .await;
    assert!(matches!(stale, Err(Failure::Unavailable(_))), "{stale:?}");
}

#[tokio::test]
async fn invalid_change_reports_all_errors_and_writes_nothing() {
    let world = World::start().await.unwrap();
    let id = TenantId::parse(NORDIC).unwrap();
    let before = world.store.tenant_record(&id).await.unwrap().unwrap();
    let asked = change(&[
        ("grace_seconds", json!(9)),
        ("max_attempts", json!(0)),
        ("cors_origins", json!(["*"])),
        ("gracee", json!(1)),
    ]);
    let Err(Failure::Validation(errors)) = world.store.update_tenant(&id, &asked, world.clock.now()).await
    else {
        panic!("the change was accepted")
    };
    let fields: Vec<_> = errors.iter().map(|error| error.field.as_ref()).collect();
    assert_eq!(fields, ["gracee", "max_attempts", "cors_origins"]);
    let after = world.store.tenant_record(&id).await.unwrap().unwrap();
    assert_eq!((after.tenant.version, &after.document), (before.tenant.version, &before.document));
    let missing = TenantId::parse("no_such_tenant").unwrap();
    assert!(world.store.update_tenant(&missing, &change(&[]), world.clock.now()).await.unwrap().is_none());
}

// An unusable policy affects only its own tenant.
#[tokio::test]
async fn unusable_policy_makes_its_tenant_unavailable_until_it_is_corrected() {
    let world = World::start().await.unwrap();
    let (marcus, erika) = (world.actor(MARCUS).unwrap(), world.actor(CUSTOMER).unwrap());
    let update = world.dynamodb.update_item().table_name(TABLE);
    let key = |part: &str| AttributeValue::S(part.to_owned());
    let update = update.key("pk", key(&format!("T#{NORDIC}"))).key("sk", key("TENANT"));
    let update =
        update.update_expression("SET #policy.ip_allow = :x").expression_attribute_names("#policy", "policy");
    update.expression_attribute_values(":x", key("10.0.0.0/8")).send().await.unwrap();
    world.clock.advance(Duration::from_secs(5));
    assert_eq!(
        world.try_login(&marcus, &marcus.user.password).await.unwrap().verdict(),
        (503, "UNAVAILABLE")
    );
    assert!(world.login(&erika).await.is_ok());
    let id = TenantId::parse(NORDIC).unwrap();
    let record = world.store.tenant_record(&id).await.unwrap().unwrap();
    assert_eq!(record.faults[0].error.field, "ip_allow", "the fault is reported to the operator");
    world
        .store
        .update_tenant(&id, &change(&[("ip_allow", json!([]))]), world.clock.now())
        .await
        .unwrap()
        .unwrap();
    world.clock.advance(Duration::from_secs(5));
    assert!(world.login(&marcus).await.is_ok());
}

// docs/design/security.md#rule-15: each function applies a change when its cache entry expires.
#[tokio::test]
async fn policy_change_reaches_every_function_after_five_seconds() {
    let mut world = World::start().await.unwrap();
    world.start_another(Function::RefreshSession).unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let login = world.login(&marcus).await.unwrap();
    let refreshed = world.refreshed(&login).await.unwrap();
    let id = TenantId::parse(NORDIC).unwrap();
    let asked = change(&[("ip_allow", json!(["192.0.2.0/24"]))]);
    world.store.update_tenant(&id, &asked, world.clock.now()).await.unwrap().unwrap();
    world.clock.advance(Duration::from_millis(4_999));
    let login = world.login(&marcus).await.unwrap();
    assert_eq!(world.refresh(&refreshed).await.unwrap().status, 200);
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(world.try_login(&marcus, "x").await.unwrap().verdict(), (403, "IP_NOT_ALLOWED"));
    assert_eq!(world.refresh(&login).await.unwrap().verdict(), (403, "IP_NOT_ALLOWED"));
}

// docs/design/security.md#rule-15
#[tokio::test]
async fn revoking_sessions_ends_them_at_once_and_keeps_the_password() {
    let world = World::start().await.unwrap();
    let (admin, freja) = (world.actor(NORDIC_ADMIN).unwrap(), world.actor(NORDIC_CUSTOMER).unwrap());
    let (before, other) = (world.login(&admin).await.unwrap(), world.login(&freja).await.unwrap());
    let (tenant, user) = ids(&admin);
    let revoke =
        async |user: &UserId| world.store.revoke_sessions(&tenant, user, world.clock.now()).await.unwrap();
    assert_eq!(revoke(&user).await, Switched::Done);
    assert_all_rejected(&call_all_routes(&world, &before, &freja).await);
    assert!(world.opens(&other).await.unwrap(), "sessions of another user stay live");
    let again = world.login(&admin).await.unwrap();
    assert!(world.opens(&again).await.unwrap());
    assert_eq!(revoke(&UserId::parse("missing").unwrap()).await, Switched::Missing);
}

/// Returns all keys of the table.
async fn keys(world: &World) -> Vec<(String, String)> {
    let found = world.dynamodb.scan().table_name(TABLE).into_paginator().items().send();
    let found = found.try_collect().await.unwrap();
    let text = |value: &AttributeValue| value.as_s().unwrap().clone();
    found.iter().map(|item| (text(&item["pk"]), text(&item["sk"]))).collect()
}

// A deletion keeps the data of a tenant with a similar ID, and the anchors that verify the audit log.
#[tokio::test]
async fn deleted_tenant_leaves_only_its_audit_anchors() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let neighbour = format!("{NORDIC}0");
    let neighbours = world.tenant(NORDIC).await;
    let neighbours = Tenant { id: TenantId::parse(&neighbour).unwrap(), ..neighbours };
    world.store.create_tenant(&neighbours, world.clock.now()).await.unwrap();
    let erika = world.login(&world.actor(CUSTOMER).unwrap()).await.unwrap();
    world.login(&marcus).await.unwrap();
    world.try_login(&marcus, "wrong").await.unwrap();
    let id = TenantId::parse(NORDIC).unwrap();
    let origin = change(&[("cors_origins", json!(["https://app.nordic.example"]))]);
    world.store.update_tenant(&id, &origin, world.clock.now()).await.unwrap().unwrap();
    let anchor = AttributeValue::S(format!("T#{NORDIC}#A#2030-03-17"));
    let put = world.dynamodb.put_item().table_name(TABLE).item("pk", anchor);
    put.item("sk", AttributeValue::S("A#chain".to_owned())).send().await.unwrap();

    let Err(Failure::Validation(errors)) = world.store.delete_tenant(&id).await else { panic!("deleted") };
    assert_eq!(errors[0].field, "tenant_status", "it must be suspended first");
    assert!(
        matches!(world.store.clear_tenant(&id).await, Err(Failure::Validation(_))),
        "an existing tenant cannot be cleared"
    );
    assert_eq!(world.store.suspend_tenant(&id).await.unwrap(), Switched::Done);
    assert_eq!(world.store.delete_tenant(&id).await.unwrap(), Switched::Done);
    assert_eq!(world.store.delete_tenant(&id).await.unwrap(), Switched::Missing);
    // After an interruption here, the next call deletes the other items.
    let others: Vec<_> = keys(&world).await;
    let own = |pk: &str| pk == format!("T#{NORDIC}") || pk.starts_with(&format!("T#{NORDIC}#"));
    let count = others.iter().filter(|(pk, _)| own(pk)).count();
    assert!(count > 10);
    let budgets = others.iter().filter(|(pk, sk)| own(pk) && sk.starts_with("FAILED#")).count();
    assert!(budgets > 0);
    // The anchor stays. The published keys do not count, because their secret may belong to another stack.
    // Without a scan, the failures of the address stay until they expire.
    assert_eq!(usize::try_from(world.store.clear_tenant(&id).await.unwrap()).unwrap(), count - 2 - budgets);
    assert_eq!(world.store.clear_tenant(&id).await.unwrap(), 0);
    assert_eq!(keys(&world).await.iter().filter(|(pk, _)| own(pk)).count(), 1 + budgets);
    let rest = world.store.clear_whole_tenant(&id).await.unwrap();
    assert_eq!(usize::try_from(rest).unwrap(), budgets);
    assert_eq!(world.store.clear_whole_tenant(&id).await.unwrap(), 0);
    let left = keys(&world).await;
    let left_own: Vec<_> = left.iter().filter(|(pk, _)| own(pk)).collect();
    assert_eq!(left_own, [&(format!("T#{NORDIC}#A#2030-03-17"), "A#chain".to_owned())]);
    assert_eq!(left.len(), others.len() - count + 1, "no items of other tenants were deleted");
    let origin = world.dynamodb.get_item().table_name(TABLE);
    let origin = origin.key("pk", AttributeValue::S("O#https%3A%2F%2Fapp.nordic.example".to_owned()));
    let origin = origin.key("sk", AttributeValue::S("ORIGIN".to_owned())).send().await.unwrap().item.unwrap();
    assert!(!origin.contains_key("tenants"), "its origin is no longer allowed");

    world.clock.advance(Duration::from_secs(5));
    let unknown = world.try_login(&marcus, &marcus.user.password).await.unwrap();
    assert_eq!(unknown.verdict(), (403, "INVALID_TENANT_CREDENTIALS"));
    assert!(world.opens(&erika).await.unwrap());
    assert!(keys(&world).await.contains(&(format!("T#{neighbour}"), "TENANT".to_owned())));
}

// Of a concurrent deletion and resumption, exactly one succeeds.
#[tokio::test(flavor = "multi_thread")]
async fn resumed_tenant_is_not_deleted() {
    let world = Arc::new(World::start().await.unwrap());
    let known = world.tenant(NORDIC).await;
    for number in 0..30 {
        let id = TenantId::parse(&format!("tenant_{number}")).unwrap();
        world
            .store
            .create_tenant(&Tenant { id: id.clone(), ..known.clone() }, world.clock.now())
            .await
            .unwrap();
        world.store.suspend_tenant(&id).await.unwrap();
        let deleted = tokio::spawn({
            let (world, id) = (Arc::clone(&world), id.clone());
            async move { world.store.delete_tenant(&id).await.is_ok_and(|done| done == Switched::Done) }
        });
        let resumed = world.store.resume_tenant(&id).await.unwrap() == Switched::Done;
        assert_ne!(deleted.await.unwrap(), resumed, "tenant {number}");
    }
}
