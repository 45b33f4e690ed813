//! Who may guess how often: strangers, devices that prove an earlier login, addresses and tenants; and
//! that none of them keeps out whoever has the right password.

use std::{sync::Arc, time::Duration};

use doorward::{
    domain::{AttemptId, KnownDevice, ProvenDevice, TenantId, User, UserId, Username},
    port::{AttemptBudget, AttemptKey, Clock, Reservation, Store, Verdict},
};
use e2e::{Actor, Answer, Login, NORDIC, World};
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{ADMIN, MARCUS, NEW_PASSWORD, NORDIC_ADMIN};

const WRONG: &str = "not the password";
const LOCKOUT: Duration = Duration::from_secs(30 * 60);
/// Where strangers come from.
const ELSEWHERE: &str = "198.51.100.7";

/// Wrong guesses one after the other, as a stranger or as a device.
async fn fail(world: &World, actor: &Actor, proof: Option<&str>, times: usize) -> Vec<(i64, String)> {
    let mut verdicts = Vec::new();
    for _ in 0..times {
        let answer = world.try_login_from(actor, WRONG, ELSEWHERE, proof).await.unwrap();
        let (status, error) = answer.verdict();
        verdicts.push((status, error.to_owned()));
    }
    verdicts
}

async fn login_from(world: &World, actor: &Actor, proof: Option<&str>) -> Answer {
    world.try_login_from(actor, &actor.user.password, ELSEWHERE, proof).await.unwrap()
}

/// So many users of a tenant, each a copy of `model` under a name of its own.
async fn users(world: &World, model: &Actor, count: usize) -> Vec<Actor> {
    let record = world.user(model).await.unwrap();
    let mut actors = Vec::new();
    for n in 0..count {
        let (id, name) = (format!("guessed-{n:03}"), format!("guessed-{n:03}@example.com"));
        let user = User {
            id: UserId::parse(&id).unwrap(),
            username: Username::parse(&name).unwrap(),
            ..record.clone()
        };
        world.store.create_user(&user, world.clock.now()).await.unwrap();
        let mut actor = model.clone();
        (actor.user.user_id, actor.user.username) = (id, name);
        actors.push(actor);
    }
    actors
}

/// An attempts item, attribute by attribute; empty when there is none.
async fn attempts(
    world: &World,
    actor: &Actor,
) -> std::collections::HashMap<String, aws_sdk_dynamodb::types::AttributeValue> {
    use aws_sdk_dynamodb::types::AttributeValue;
    let pk = format!("T#{}#U#{}", actor.tenant.tenant_id, actor.user.user_id);
    let item = world
        .dynamodb
        .get_item()
        .table_name(local::TABLE)
        .key("pk", AttributeValue::S(pk))
        .key("sk", AttributeValue::S("ATTEMPTS".to_owned()))
        .consistent_read(true)
        .send()
        .await
        .unwrap();
    item.item.unwrap_or_default()
}

async fn number(world: &World, actor: &Actor, name: &str) -> Option<i64> {
    attempts(world, actor).await.get(name).map(|value| value.as_n().unwrap().parse().unwrap())
}

// docs/design/security.md#rule-10: what strangers do is not the owner's fault, nor the other way round.
#[tokio::test]
async fn a_device_and_strangers_do_not_lock_each_other() {
    let world = World::start().await.unwrap();
    for name in [ADMIN, MARCUS] {
        let actor = world.actor(name).unwrap();
        let login = world.login(&actor).await.unwrap();
        let proof = Some(login.device_proof.as_str());
        for verdict in fail(&world, &actor, None, 5).await {
            assert_eq!(verdict, (401, "AUTHENTICATION".to_owned()));
        }
        assert_eq!(login_from(&world, &actor, None).await.verdict(), (401, "ACCOUNT_LOCKED"));
        // The owner's device gets in, and goes on getting in with what that gives it.
        let again = Login::from_answer(&actor, &login_from(&world, &actor, proof).await).unwrap();
        let device = world.session(&login).await.unwrap().proven_device;
        assert!(device.is_some());
        assert_eq!(world.session(&again).await.unwrap().proven_device, device, "it stays the same device");
        world.clock.advance(Duration::from_secs(1));
        let renewed = Login::from_answer(&actor, &login_from(&world, &actor, proof).await).unwrap();
        assert_ne!(renewed.device_proof, login.device_proof, "with a fresh proof");
        assert_eq!(login_from(&world, &actor, Some(&renewed.device_proof)).await.status, 200);
        // Its success forgave the strangers nothing.
        assert_eq!(login_from(&world, &actor, None).await.verdict(), (401, "ACCOUNT_LOCKED"));
        // A device that guesses locks itself, at the same number.
        world.clock.advance(LOCKOUT);
        fail(&world, &actor, proof, 5).await;
        assert_eq!(login_from(&world, &actor, proof).await.verdict(), (401, "ACCOUNT_LOCKED"));
        assert_eq!(login_from(&world, &actor, None).await.status, 200);
        // Another device of the same user is no part of that.
        let other = world.login(&actor).await.unwrap();
        assert_eq!(login_from(&world, &actor, Some(&other.device_proof)).await.status, 200);
    }
}

// docs/design/security.md#rule-10, #rule-20: what is no proof of this user is as if it had not been sent.
#[tokio::test]
async fn anything_but_an_authentic_proof_counts_as_absent() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let own = world.login(&marcus).await.unwrap().device_proof;
    let others = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap().device_proof;
    let tenants = world.login(&world.actor(ADMIN).unwrap()).await.unwrap().device_proof;
    fail(&world, &marcus, None, 5).await;
    let absent = login_from(&world, &marcus, None).await;
    assert_eq!(absent.verdict(), (401, "ACCOUNT_LOCKED"));
    let forged = format!("{}{}", &own[..80], if own.ends_with("AAAAA") { "BBBBB" } else { "AAAAA" });
    // A root key that nobody knows.
    let unknown_key = format!("dwd1_AAAAB{}", &own[10..]);
    for proof in ["", "dwd1_", "PLANTED", &others, &tenants, &forged, &unknown_key, &"x".repeat(60_000)] {
        let answer = login_from(&world, &marcus, Some(proof)).await;
        assert_eq!((answer.status, &answer.text), (401, &absent.text), "{proof:.90}");
    }
    assert_eq!(login_from(&world, &marcus, Some(&own)).await.status, 200);
    // Half a year after its login a device is a stranger again.
    world.clock.advance(Duration::from_secs(180 * 24 * 3_600));
    fail(&world, &marcus, None, 5).await;
    assert_eq!(login_from(&world, &marcus, Some(&own)).await.verdict(), (401, "ACCOUNT_LOCKED"));
}

// docs/design/security.md#rule-10: strangers cannot keep an owner that is logged in from changing its password.
#[tokio::test]
async fn a_change_of_ones_own_password_counts_among_its_devices_attempts() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let id = marcus.user.user_id.as_str();
    let login = world.login(&marcus).await.unwrap();
    fail(&world, &marcus, None, 5).await;
    let change = |old: &str| json!({ "password": NEW_PASSWORD, "currentPassword": old });
    for _ in 0..5 {
        assert_eq!(
            world.update(&login, id, &change(WRONG)).await.unwrap().verdict(),
            (401, "AUTHENTICATION")
        );
    }
    let locked = world.update(&login, id, &change(&marcus.user.password)).await.unwrap();
    assert_eq!(locked.verdict(), (401, "ACCOUNT_LOCKED"));
    assert_eq!(
        login_from(&world, &marcus, Some(&login.device_proof)).await.verdict(),
        (401, "ACCOUNT_LOCKED")
    );
    world.clock.advance(LOCKOUT);
    fail(&world, &marcus, None, 5).await;
    // An access token lives for another half hour.
    assert_eq!(world.update(&login, id, &change(&marcus.user.password)).await.unwrap().status, 200);
    // A new password ends every lockout.
    assert_eq!(world.try_login(&marcus, NEW_PASSWORD).await.unwrap().status, 200);
    assert_eq!(number(&world, &marcus, "failures").await, None);
}

// docs/design/security.md#rule-8: exactly a hundred in a row, whatever the time between them; and then none is hashed.
#[tokio::test]
async fn a_hundred_failures_in_a_row_disable_the_password_until_it_is_set_anew() {
    let world = World::start().await.unwrap();
    world.change_policy(NORDIC, |policy| policy.failures_per_user = 500).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let nobody = {
        let mut nobody = marcus.clone();
        nobody.user.user_id = "nobody".to_owned();
        nobody
    };
    let proof = world.login(&marcus).await.unwrap().device_proof;
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let mut answers = Vec::new();
    for actor in [&marcus, &nobody] {
        let before = world.passwords.verified();
        for window in 0..20 {
            assert!(fail(&world, actor, None, 5).await.iter().all(|verdict| verdict.1 == "AUTHENTICATION"));
            assert_eq!(number(&world, actor, "failures").await, Some((window + 1) * 5));
            world.clock.advance(LOCKOUT);
        }
        assert_eq!(world.passwords.verified() - before, 100);
        let disabled = login_from(&world, actor, None).await;
        assert_eq!(disabled.verdict(), (401, "ACCOUNT_LOCKED"));
        assert!(
            disabled.body["data"].get("lockoutTime").is_none() && disabled.header("retry-after").is_empty()
        );
        assert_eq!(world.passwords.verified() - before, 100, "and nothing is hashed any more");
        answers.push(disabled.text);
    }
    assert_eq!(answers[0], answers[1], "docs/design/security.md#rule-9");
    // It is not forgotten, whatever goes on in other buckets.
    let forever = Some(253_402_300_799);
    assert_eq!(number(&world, &marcus, "expires_at").await, forever);
    fail(&world, &marcus, Some(&proof), 2).await;
    assert_eq!(login_from(&world, &marcus, Some(&proof)).await.status, 200, "the owner's device gets in");
    assert_eq!(number(&world, &marcus, "expires_at").await, forever);
    world.clock.advance(Duration::from_secs(100 * 24 * 3_600));
    assert_eq!(login_from(&world, &marcus, None).await.verdict(), (401, "ACCOUNT_LOCKED"));
    // A new password ends it.
    let admin = world.login(&admin.actor).await.unwrap();
    let set = json!({ "password": NEW_PASSWORD });
    assert_eq!(world.update(&admin, &marcus.user.user_id, &set).await.unwrap().status, 200);
    assert_eq!(world.try_login(&marcus, NEW_PASSWORD).await.unwrap().status, 200);
}

// docs/design/security.md#rule-8: a row is of failures without a success in between, and is kept half a year at least.
#[tokio::test]
async fn a_success_ends_the_row_and_time_does_not() {
    let world = World::start().await.unwrap();
    let policy = |policy: &mut doorward::domain::Policy| {
        policy.disable_after = 7;
        policy.failures_per_user = 500;
    };
    world.change_policy(NORDIC, policy).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    fail(&world, &marcus, None, 5).await;
    let kept = number(&world, &marcus, "expires_at").await.unwrap() - world.clock.now().as_second();
    assert!((180 * 86_400..180 * 86_400 + 2).contains(&kept), "{kept}");
    world.clock.advance(LOCKOUT);
    fail(&world, &marcus, None, 1).await;
    assert_eq!(number(&world, &marcus, "failures").await, Some(6));
    assert_eq!(login_from(&world, &marcus, None).await.status, 200);
    assert_eq!(number(&world, &marcus, "failures").await, None);
    // The row begins anew: six more do not disable, the seventh does, 29 days later.
    fail(&world, &marcus, None, 5).await;
    world.clock.advance(LOCKOUT);
    fail(&world, &marcus, None, 1).await;
    world.clock.advance(Duration::from_secs(29 * 86_400));
    assert_eq!(fail(&world, &marcus, None, 2).await[1].1, "ACCOUNT_LOCKED");
    assert_eq!(number(&world, &marcus, "failures").await, Some(7));
    let disabled = login_from(&world, &marcus, None).await;
    assert!(disabled.body["data"].get("lockoutTime").is_none(), "{disabled:?}");
}

// docs/design/security.md#rule-8: a policy of one.
#[tokio::test]
async fn one_failure_disables_where_the_tenant_says_so() {
    let world = World::start().await.unwrap();
    world.change_policy(NORDIC, |policy| policy.disable_after = 1).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    assert_eq!(login_from(&world, &marcus, None).await.status, 200);
    fail(&world, &marcus, None, 1).await;
    assert_eq!(number(&world, &marcus, "expires_at").await, Some(253_402_300_799));
    world.clock.advance(LOCKOUT);
    assert_eq!(login_from(&world, &marcus, None).await.verdict(), (401, "ACCOUNT_LOCKED"));
    assert_eq!(world.passwords.verified(), 2);
}

// docs/design/security.md#rule-8, with real parallel calls: a row never gets longer than it may.
#[tokio::test(flavor = "multi_thread")]
async fn parallel_guesses_at_the_end_of_a_row_verify_no_more_than_are_left() {
    let world = Arc::new(World::start().await.unwrap());
    let policy = |policy: &mut doorward::domain::Policy| {
        policy.disable_after = 7;
        policy.failures_per_user = 500;
    };
    world.change_policy(NORDIC, policy).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let mut nobody = marcus.clone();
    nobody.user.user_id = "nobody".to_owned();
    for actor in [marcus, nobody] {
        let before = world.passwords.verified();
        for round in 0..3 {
            let answers = together(&world, 50, |_| (actor.clone(), WRONG.to_owned(), None)).await;
            assert!(answers.iter().all(|answer| answer.status == 401), "{round}");
            world.clock.advance(LOCKOUT);
        }
        assert_eq!(world.passwords.verified() - before, 7);
        assert_eq!(number(&world, &actor, "failures").await, Some(7));
        assert_eq!(number(&world, &actor, "expires_at").await, Some(253_402_300_799));
    }
}

/// Logins at once: who, with what, and with which proof.
async fn together(
    world: &Arc<World>,
    count: usize,
    who: impl Fn(usize) -> (Actor, String, Option<String>),
) -> Vec<Answer> {
    let mut logins = JoinSet::new();
    for index in 0..count {
        let (world, (actor, password, proof)) = (Arc::clone(world), who(index));
        logins.spawn(async move {
            world.try_login_from(&actor, &password, ELSEWHERE, proof.as_deref()).await.unwrap()
        });
    }
    logins.join_all().await
}

// docs/design/security.md#rule-7, #rule-10: fifty at once from either side verify five each.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_a_device_at_once_have_five_guesses_each() {
    let world = Arc::new(World::start().await.unwrap());
    let marcus = world.actor(MARCUS).unwrap();
    let proof = world.login(&marcus).await.unwrap().device_proof;
    let before = world.passwords.verified();
    let proofs = [None, Some(proof.clone())];
    let answers =
        together(&world, 50, |index| (marcus.clone(), WRONG.to_owned(), proofs[index % 2].clone())).await;
    let refused = |error| answers.iter().filter(|answer| answer.verdict().1 == error).count();
    assert_eq!((refused("AUTHENTICATION"), refused("ACCOUNT_LOCKED")), (10, 40));
    assert_eq!(world.passwords.verified() - before, 10);
    let kept = attempts(&world, &marcus).await;
    let sets: Vec<_> = kept.iter().filter(|(name, _)| name.starts_with("failed")).collect();
    assert_eq!(sets.len(), 2, "{kept:?}");
    assert!(sets.iter().all(|(_, ids)| ids.as_ss().unwrap().len() == 5), "{sets:?}");
}

// docs/design/security.md#rule-7, #rule-10: an attack beside them keeps none of the owner's logins out.
#[tokio::test(flavor = "multi_thread")]
async fn right_passwords_with_a_proof_get_in_beside_an_attack() {
    let world = Arc::new(World::start().await.unwrap());
    let marcus = world.actor(MARCUS).unwrap();
    let proof = world.login(&marcus).await.unwrap().device_proof;
    for round in 0..3 {
        let answers = together(&world, 40, |index| match index % 2 {
            0 => (marcus.clone(), WRONG.to_owned(), None),
            _ => (marcus.clone(), marcus.user.password.clone(), Some(proof.clone())),
        })
        .await;
        let inside = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(inside, 20, "{round}: {:?}", answers.iter().map(Answer::verdict).collect::<Vec<_>>());
    }
    // And nothing of a device is left in the item once it got in alone.
    assert_eq!(login_from(&world, &marcus, Some(&proof)).await.status, 200);
    let kept = attempts(&world, &marcus).await;
    assert!(kept.keys().all(|name| !name.contains('#') && name != "devices"), "{kept:?}");
}

// docs/design/security.md#rule-10: a user's failures within an hour, over all lockouts and successes; the limit is exact.
#[tokio::test(flavor = "multi_thread")]
async fn a_users_failures_within_an_hour_are_limited() {
    let world = Arc::new(World::start().await.unwrap());
    world.change_policy(NORDIC, |policy| policy.failures_per_user = 12).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let mut nobody = marcus.clone();
    nobody.user.user_id = "nobody".to_owned();
    for actor in [&marcus, &nobody] {
        let before = world.passwords.verified();
        for _ in 0..2 {
            fail(&world, actor, None, 5).await;
            world.clock.advance(LOCKOUT - Duration::from_secs(300));
            // Locked still, and no guess.
            assert_eq!(fail(&world, actor, None, 1).await[0].1, "ACCOUNT_LOCKED");
            world.clock.advance(Duration::from_secs(300));
        }
        // The first five are an hour old now: seven of twelve are left, five of them at once.
        let answers = together(&world, 50, |_| (actor.clone(), WRONG.to_owned(), None)).await;
        assert_eq!(answers.iter().filter(|answer| answer.verdict().1 == "AUTHENTICATION").count(), 5);
        assert_eq!(world.passwords.verified() - before, 15);
    }
    // Successes in between free places, and no more of the hour.
    let marcus = world.actor(NORDIC_ADMIN).unwrap();
    let mut guesses = 0;
    for _ in 0..4 {
        guesses += fail(&world, &marcus, None, 4).await.iter().filter(|it| it.1 == "AUTHENTICATION").count();
        let answer = login_from(&world, &marcus, None).await;
        assert_eq!(answer.status, if guesses < 12 { 200 } else { 429 }, "{guesses}");
    }
    assert_eq!(guesses, 12);
    let limited = login_from(&world, &marcus, None).await;
    assert_eq!((limited.verdict(), limited.header("retry-after")), ((429, "RATE_LIMITED"), "3600"));
    assert_eq!(world.audit.last()["reason"], "USER");
    world.clock.advance(Duration::from_secs(3_599));
    assert_eq!(login_from(&world, &marcus, None).await.header("retry-after"), "1");
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(login_from(&world, &marcus, None).await.status, 200);
}

// docs/design/security.md#rule-10: the end of an hour's budget is exact under fifty parallel guesses over fifty users.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_gets_exactly_its_budget() {
    let world = Arc::new(World::start().await.unwrap());
    world.change_policy(NORDIC, |policy| policy.failures_per_ip = 20).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let guessed = users(&world, &marcus, 40).await;
    // Half of them exist (docs/design/security.md#rule-9).
    let whom = |index: usize| {
        let mut actor = guessed[index % 40].clone();
        if index >= 40 || index.is_multiple_of(2) {
            actor.user.user_id = format!("nobody-{index}");
        }
        actor
    };
    let proof = world.login(&marcus).await.unwrap().device_proof;
    for index in 0..10 {
        assert_eq!(fail(&world, &whom(index), None, 1).await[0].1, "AUTHENTICATION");
    }
    let before = world.passwords.verified();
    let answers = together(&world, 50, |index| (whom(index), WRONG.to_owned(), None)).await;
    let count = |error| answers.iter().filter(|answer| answer.verdict().1 == error).count();
    assert_eq!((count("AUTHENTICATION"), count("RATE_LIMITED")), (10, 40));
    assert_eq!(world.passwords.verified() - before, 10);
    // The end of the hour, 800 s after the clock's start and the policy's 5.
    let limited = login_from(&world, &marcus, None).await;
    assert_eq!((limited.verdict(), limited.header("retry-after")), ((429, "RATE_LIMITED"), "795"));
    assert_eq!(world.audit.last()["reason"], "ADDRESS");
    // Nobody was locked by that, neither here nor from elsewhere nor in another tenant nor with a proof.
    assert!(world.try_login(&marcus, &marcus.user.password).await.unwrap().status == 200);
    assert_eq!(login_from(&world, &world.actor(ADMIN).unwrap(), None).await.status, 200);
    assert_eq!(login_from(&world, &marcus, Some(&proof)).await.status, 200);
    // A device's failures are its own: they neither need the budget nor use it.
    assert_eq!(fail(&world, &marcus, Some(&proof), 1).await[0].1, "AUTHENTICATION");
    world.clock.advance(Duration::from_secs(795));
    assert_eq!(login_from(&world, &marcus, None).await.status, 200);
}

// docs/design/security.md#rule-10, #rule-22: an address of IPv6 is a network of 2^64, and one of IPv4 has one spelling.
#[tokio::test]
async fn addresses_of_one_network_share_a_budget() {
    let world = World::start().await.unwrap();
    world.change_policy(NORDIC, |policy| policy.failures_per_ip = 2).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    for [first, second, third, other] in [
        ["2001:db8:7:7::1", "2001:db8:7:7:ffff::2", "2001:db8:7:7::3", "2001:db8:7:8::1"],
        ["192.0.2.7", "::ffff:192.0.2.7", "192.0.2.7", "192.0.2.8"],
    ] {
        for (ip, status) in [(first, 401), (second, 401), (third, 429)] {
            assert_eq!(world.try_login_from(&marcus, WRONG, ip, None).await.unwrap().status, status, "{ip}");
        }
        let right = &marcus.user.password;
        assert_eq!(world.try_login_from(&marcus, right, third, None).await.unwrap().status, 429);
        assert_eq!(world.try_login_from(&marcus, right, other, None).await.unwrap().status, 200);
    }
}

// docs/design/security.md#rule-10: right passwords in parallel give back what they took, so an address full of people
// that log in is never limited.
#[tokio::test(flavor = "multi_thread")]
async fn right_logins_use_no_budget() {
    let world = Arc::new(World::start().await.unwrap());
    let policy = |policy: &mut doorward::domain::Policy| {
        policy.failures_per_ip = 30;
        policy.failures_per_tenant = 30;
    };
    world.change_policy(NORDIC, policy).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let guessed = users(&world, &marcus, 15).await;
    for actor in &guessed {
        fail(&world, actor, None, 1).await;
    }
    for _ in 0..4 {
        let right = together(&world, 15, |index| {
            (guessed[index].clone(), guessed[index].user.password.clone(), None)
        })
        .await;
        assert!(right.iter().all(|answer| answer.status == 200));
    }
    // Fifteen of thirty are left all the same.
    let answers = together(&world, 50, |index| {
        let mut nobody = marcus.clone();
        nobody.user.user_id = format!("nobody-{index}");
        (nobody, WRONG.to_owned(), None)
    })
    .await;
    assert_eq!(answers.iter().filter(|answer| answer.verdict().1 == "AUTHENTICATION").count(), 15);
}

// docs/design/security.md#rule-10: a tenant under attack; the one beside it, and owners with a proof, see nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_budget_is_its_own() {
    let world = Arc::new(World::start().await.unwrap());
    world.change_policy(NORDIC, |policy| policy.failures_per_tenant = 20).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let proof = world.login(&marcus).await.unwrap().device_proof;
    // From many addresses, at many users.
    let guess = |index: usize| {
        let (world, mut nobody) = (Arc::clone(&world), marcus.clone());
        nobody.user.user_id = format!("nobody-{index}");
        let ip = format!("192.0.2.{}", index % 200);
        async move { world.try_login_from(&nobody, WRONG, &ip, None).await.unwrap() }
    };
    for index in 0..10 {
        assert_eq!(guess(index).await.verdict(), (401, "AUTHENTICATION"));
    }
    let mut attack = JoinSet::new();
    for index in 10..60 {
        attack.spawn(guess(index));
    }
    let answers = attack.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.verdict().1 == "AUTHENTICATION").count(), 10);
    assert_eq!(answers.iter().filter(|answer| answer.verdict().1 == "RATE_LIMITED").count(), 40);
    let limited = login_from(&world, &marcus, None).await;
    assert_eq!((limited.verdict(), limited.header("retry-after")), ((429, "RATE_LIMITED"), "795"));
    assert_eq!(world.audit.last()["reason"], "TENANT");
    assert_eq!(login_from(&world, &marcus, Some(&proof)).await.status, 200);
    let other = world.actor(ADMIN).unwrap();
    assert_eq!(world.login(&other).await.unwrap().actor.user.user_id, other.user.user_id);
    let touched = world.dynamodb.scan().table_name(local::TABLE).send().await.unwrap();
    let budgets = touched.items().iter().map(|item| item["pk"].as_s().unwrap().as_str());
    let strange: Vec<_> =
        budgets.filter(|pk| pk.contains("#F#") && !pk.starts_with(&format!("T#{NORDIC}#"))).collect();
    assert!(strange.is_empty(), "{strange:?}");
}

// docs/design/security.md#rule-10: a session from before there were proofs guesses as a stranger.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_a_device_is_a_stranger() {
    use aws_sdk_dynamodb::types::AttributeValue;
    let world = Arc::new(World::start().await.unwrap());
    world.change_policy(NORDIC, |policy| policy.failures_per_ip = 3).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let login = world.login(&marcus).await.unwrap();
    let pk = format!("T#{NORDIC}#U#{}", marcus.user.user_id);
    world
        .dynamodb
        .update_item()
        .table_name(local::TABLE)
        .key("pk", AttributeValue::S(pk))
        .key("sk", AttributeValue::S(format!("S#{}", login.session)))
        .update_expression("REMOVE proven_device")
        .condition_expression("attribute_exists(proven_device)")
        .send()
        .await
        .unwrap();
    let mut changes = JoinSet::new();
    for _ in 0..5 {
        let (world, login) = (Arc::clone(&world), login.clone());
        changes.spawn(async move {
            let body = json!({ "password": NEW_PASSWORD, "currentPassword": WRONG });
            world.update(&login, &login.actor.user.user_id, &body).await.unwrap()
        });
    }
    let answers = changes.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.verdict().1 == "AUTHENTICATION").count(), 3);
    assert_eq!(answers.iter().filter(|answer| answer.verdict().1 == "RATE_LIMITED").count(), 2);
    assert_eq!(number(&world, &marcus, "failures").await, Some(3));
    assert_eq!(world.try_login(&marcus, &marcus.user.password).await.unwrap().status, 429);
}

// storage, "Cost of one request"
#[tokio::test]
async fn a_login_costs_what_storage_says() {
    let world = World::start().await.unwrap();
    world.change_policy(NORDIC, |policy| policy.failures_per_ip = 4).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let steady = ["BatchGetItem", "PutItem", "UpdateItem", "UpdateItem"];
    let first = world.login(&marcus).await.unwrap();
    world.calls.take();
    for proof in [None, Some(first.device_proof.as_str()), None] {
        assert_eq!(
            world.try_login_from(&marcus, &marcus.user.password, "127.0.0.1", proof).await.unwrap().status,
            200
        );
        assert_eq!(world.calls.take(), steady, "{proof:?}");
    }
    // Wrong, known or not: the place, its end and two budgets.
    let mut nobody = marcus.clone();
    nobody.user.user_id = "nobody".to_owned();
    for actor in [&marcus, &nobody] {
        assert_eq!(world.try_login(actor, WRONG).await.unwrap().status, 401);
        assert_eq!(
            world.calls.take(),
            ["BatchGetItem", "UpdateItem", "UpdateItem", "UpdateItem", "UpdateItem"]
        );
    }
    // Half of the address's budget is used: it is taken from before and given back to after.
    let admin = world.actor(NORDIC_ADMIN).unwrap();
    assert_eq!(world.try_login(&admin, &admin.user.password).await.unwrap().status, 200);
    assert_eq!(world.calls.take(), [steady.as_slice(), &["UpdateItem"; 2]].concat());
    let proof = Some(first.device_proof.as_str());
    assert_eq!(
        world.try_login_from(&marcus, &marcus.user.password, "127.0.0.1", proof).await.unwrap().status,
        200
    );
    assert_eq!(world.calls.take(), steady, "a device has none of that");
}

// docs/design/security.md#rule-8: every failure counts once, also where its write is sent twice; and what failed is not
// undone by a late success of something else.
#[tokio::test]
async fn a_failure_counts_once() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let (tenant, user) = (TenantId::parse(NORDIC).unwrap(), UserId::parse(&marcus.user.user_id).unwrap());
    let budget = AttemptBudget { max: 5, per_hour: 20, disable_after: 100, lockout_millis: 1_800_000 };
    let now = world.clock.now();
    let known = KnownDevice { id: ProvenDevice::from_random([3; 16]), proven_at: now };
    for device in [None, Some(known)] {
        let key = |n| AttemptKey { tenant: &tenant, user: &user, device, id: AttemptId::new(now, [n; 16]) };
        let failures = match device {
            None => "failures".to_owned(),
            Some(device) => format!("failures#{}", device.id),
        };
        for n in 1..=3 {
            let granted = world.store.reserve_attempt(&key(n), budget, now).await.unwrap();
            assert!(matches!(granted, Reservation::Granted(_)));
            for _ in 0..3 {
                world.store.settle_attempt(&key(n), &Verdict::Failed { disable_after: 100 }).await.unwrap();
            }
            assert_eq!(number(&world, &marcus, &failures).await, Some(n.into()));
        }
        // One that never had a place, or has it no more.
        for verdict in [Verdict::Failed { disable_after: 100 }, Verdict::Succeeded(&[]), Verdict::Unused] {
            world.store.settle_attempt(&key(9), &verdict).await.unwrap();
        }
        assert_eq!(number(&world, &marcus, &failures).await, Some(3));
        // One that was not judged takes nothing off; a right one ends the row.
        for (n, verdict, left) in [(4, Verdict::Unused, Some(3)), (5, Verdict::Succeeded(&[]), None)] {
            world.store.reserve_attempt(&key(n), budget, now).await.unwrap();
            world.store.settle_attempt(&key(n), &verdict).await.unwrap();
            assert_eq!(number(&world, &marcus, &failures).await, left, "{verdict:?}");
        }
    }
}

// docs/design/security.md#rule-8: an attempt whose process died counts in the row once its lockout is over.
#[tokio::test]
async fn attempts_that_died_count_in_the_row() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let (tenant, user) = (TenantId::parse(NORDIC).unwrap(), UserId::parse(&marcus.user.user_id).unwrap());
    let budget = AttemptBudget { max: 5, per_hour: 100, disable_after: 12, lockout_millis: 1_800_000 };
    let mut granted = 0;
    for lockout in 0..4 {
        for n in 0..5 {
            let now = world.clock.now();
            let id = AttemptId::new(now, [lockout * 5 + n; 16]);
            let key = AttemptKey { tenant: &tenant, user: &user, device: None, id };
            match world.store.reserve_attempt(&key, budget, now).await.unwrap() {
                Reservation::Granted(_) => granted += 1,
                Reservation::Busy | Reservation::Disabled => {}
                other => panic!("{other:?}"),
            }
        }
        world.clock.advance(LOCKOUT);
    }
    assert_eq!(granted, 12);
}

// The item stays small: one more device than there is room for takes the place of one that is quiet.
#[tokio::test]
async fn only_so_many_devices_are_kept() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let (tenant, user) = (TenantId::parse(NORDIC).unwrap(), UserId::parse(&marcus.user.user_id).unwrap());
    let budget = AttemptBudget { max: 5, per_hour: 20, disable_after: 100, lockout_millis: 1_800_000 };
    let attempt = async |n: u8| {
        let now = world.clock.now();
        let device = Some(KnownDevice { id: ProvenDevice::from_random([n; 16]), proven_at: now });
        let key = AttemptKey { tenant: &tenant, user: &user, device, id: AttemptId::new(now, [n; 16]) };
        let reserved = world.store.reserve_attempt(&key, budget, now).await.unwrap();
        world.store.settle_attempt(&key, &Verdict::Failed { disable_after: 100 }).await.unwrap();
        reserved
    };
    for n in 0..32 {
        assert_eq!(attempt(n).await, Reservation::Granted(Vec::new()), "{n}");
    }
    assert_eq!(attempt(32).await, Reservation::UnknownDevice, "one more is a stranger");
    assert!(matches!(attempt(31).await, Reservation::Granted(_)), "they themselves go on");
    // No lockout's end makes room: a row of failures would be forgotten with its device.
    world.clock.advance(LOCKOUT);
    assert_eq!(attempt(40).await, Reservation::UnknownDevice);
    assert!(matches!(attempt(1).await, Reservation::Granted(_)));
    let kept = attempts(&world, &marcus).await;
    assert_eq!(kept["devices"].as_ss().unwrap().len(), 32);
    assert_eq!(kept.keys().filter(|name| name.starts_with("failed#")).count(), 32);
    let size: usize = kept.iter().map(|(name, value)| name.len() + format!("{value:?}").len()).sum();
    assert!(size < 30_000, "{size}");
}

// docs/design/security.md#rule-8, #rule-10: whoever knew a password once has no guesses of its own at the next one. Its proof is as
// if it had not been sent, and the answers are those that strangers get.
#[tokio::test]
async fn a_proof_does_not_outlive_the_password() {
    let world = World::start().await.unwrap();
    let (marcus, admin) = (world.actor(MARCUS).unwrap(), world.actor(NORDIC_ADMIN).unwrap());
    let old = world.login(&marcus).await.unwrap().device_proof;
    world.clock.advance(Duration::from_secs(1));
    let admin = world.login(&admin).await.unwrap();
    let body = json!({ "password": NEW_PASSWORD, "changeRequired": false });
    assert_eq!(world.update(&admin, &marcus.user.user_id, &body).await.unwrap().status, 200);
    fail(&world, &marcus, Some(&old), 5).await;
    let locked = world.try_login(&marcus, NEW_PASSWORD).await.unwrap();
    assert_eq!(locked.verdict(), (401, "ACCOUNT_LOCKED"), "they were strangers' guesses");
    // Nor is it revived by an operator who unlocks the user.
    let user = world.user(&marcus).await.unwrap();
    world.store.unlock_user(&user.tenant, &user.id).await.unwrap();
    fail(&world, &marcus, Some(&old), 5).await;
    let locked = world.try_login(&marcus, NEW_PASSWORD).await.unwrap();
    assert_eq!(locked.verdict(), (401, "ACCOUNT_LOCKED"));
    world.clock.advance(LOCKOUT);
    let mut marcus = marcus;
    marcus.user.password = NEW_PASSWORD.to_owned();
    let back = login_from(&world, &marcus, Some(&old)).await;
    let new = back.data("deviceProof").to_owned();
    fail(&world, &marcus, None, 5).await;
    assert_eq!(login_from(&world, &marcus, Some(&new)).await.status, 200, "this one counts");
}

// docs/design/security.md#rule-8: guesses at an id before it is anybody's do not lock whoever gets it.
#[tokio::test]
async fn nobody_is_born_locked() {
    let world = World::start().await.unwrap();
    let mut actor = world.actor(MARCUS).unwrap();
    let record = world.user(&actor).await.unwrap();
    actor.user.user_id = "born-later".to_owned();
    actor.user.username = "born.later@example.com".to_owned();
    let last = fail(&world, &actor, None, 6).await.pop().unwrap();
    assert_eq!(last, (401, "ACCOUNT_LOCKED".to_owned()));
    let user = User {
        id: UserId::parse(&actor.user.user_id).unwrap(),
        username: Username::parse(&actor.user.username).unwrap(),
        ..record
    };
    world.store.create_user(&user, world.clock.now()).await.unwrap();
    assert!(world.login(&actor).await.is_ok());
}

// docs/design/security.md#rule-10: a fresh root key that this process has not heard of yet does not make strangers of its
// devices; nor does the old one while it is listed.
#[tokio::test]
async fn a_proof_of_a_fresh_root_key_is_known() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let made_with_old = world.login(&marcus).await.unwrap().device_proof;
    let name = format!("{}{NORDIC}", local::SECRET_PREFIX);
    let secret = world.secrets.get_secret_value().secret_id(&name).send().await.unwrap();
    let mut document: serde_json::Value = serde_json::from_str(secret.secret_string().unwrap()).unwrap();
    let new = json!({ "version": 9, "key": "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE" });
    document["rootKeys"].as_array_mut().unwrap().push(new);
    let put = world.secrets.put_secret_value().secret_id(&name).secret_string(document.to_string());
    put.send().await.unwrap();
    let keys = world.keys(NORDIC).await.unwrap();
    let (tenant, user) = (TenantId::parse(NORDIC).unwrap(), UserId::parse(&marcus.user.user_id).unwrap());
    let device = ProvenDevice::from_random([7; 16]);
    let proof =
        doorward::token::DeviceProof::issue(device, (&tenant, &user), &keys, world.clock.now()).unwrap();
    fail(&world, &marcus, None, 5).await;
    world.clock.advance(Duration::from_secs(61));
    let answer = login_from(&world, &marcus, Some(proof.expose_secret())).await;
    let login = Login::from_answer(&marcus, &answer).unwrap();
    assert_eq!(world.session(&login).await.unwrap().proven_device, Some(device));
    let old = login_from(&world, &marcus, Some(&made_with_old)).await;
    assert_eq!(old.status, 200);
    assert_ne!(old.data("deviceProof")[..10], made_with_old[..10], "renewed with the new one");
}
