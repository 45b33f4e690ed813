//! The count of failed attempts in a refused login (docs/design/contract.md#failed-attempts).

use doorward::domain::UserStatus;
use serde_json::Value;

use super::*;

/// The count in a response, and whether it has a lockout time.
fn count(answer: &Answer) -> (u64, u64, bool) {
    let data = &answer.body["data"];
    let number = |name: &str| data[name].as_u64().unwrap();
    assert!(data.as_object().unwrap().contains_key("lockoutTime"), "{data}");
    (number("attempts"), number("maxAttempts"), data["lockoutTime"] != Value::Null)
}

async fn refused(world: &World, actor: &Actor, proof: Option<&str>) -> Answer {
    world.try_login_from(actor, WRONG, ELSEWHERE, proof).await.unwrap()
}

// docs/design/contract.md#failed-attempts
#[tokio::test]
async fn count_grows_to_the_maximum_and_starts_again_after_the_lockout_and_after_a_success() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    for failed in 1..=4 {
        assert_eq!(count(&refused(&world, &marcus, None).await), (failed, 5, false));
    }
    let proof = world.login(&marcus).await.unwrap().device_proof;
    for failed in 1..=5 {
        let answer = refused(&world, &marcus, None).await;
        assert_eq!(answer.verdict(), (401, "AUTHENTICATION"));
        assert_eq!(count(&answer), (failed, 5, failed == 5), "the last failed attempt locks the user");
        let end = world.clock.now().checked_add(LOCKOUT).unwrap();
        assert!(failed < 5 || answer.data("lockoutTime") == format!("{end:.3}"), "{}", answer.text);
    }
    // A trusted device has its own count.
    assert_eq!(count(&refused(&world, &marcus, Some(&proof)).await), (1, 5, false));
    let locked = login_from(&world, &marcus, None).await;
    assert_eq!((locked.verdict(), count(&locked)), ((401, "ACCOUNT_LOCKED"), (5, 5, true)));
    world.clock.advance(LOCKOUT);
    assert_eq!(count(&refused(&world, &marcus, None).await), (1, 5, false));
}

// docs/design/security.md#rule-9: the record of attempts exists for unknown users too.
#[tokio::test]
async fn equal_histories_give_equal_responses_whether_the_user_exists_or_not() {
    let world = World::start().await.unwrap();
    world.change_policy(NORDIC, |policy| policy.disable_after = 8).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let [known, other_name, other_path, disabled, locked] =
        <[Actor; 5]>::try_from(users(&world, &marcus, 5).await).unwrap();
    for (actor, status) in [(&disabled, UserStatus::Disabled), (&locked, UserStatus::Locked)] {
        let record = world.user(actor).await.unwrap();
        world.store.replace_user(&record, &User { status, ..record.clone() }).await.unwrap();
    }
    let mut unknown = known.clone();
    unknown.user.user_id = "nobody".to_owned();
    let mut other_name = other_name;
    other_name.user.username = "nobody@example.com".to_owned();
    let mut other_path = other_path;
    other_path.user.customer_id = Some("another-customer".to_owned());
    let mut seen: Vec<Vec<Answer>> = Vec::new();
    for step in 0..11 {
        let mut round = Vec::new();
        for (actor, password) in [
            (&known, WRONG),
            (&unknown, "your_secure_password"),
            (&other_name, "your_secure_password"),
            (&other_path, "your_secure_password"),
            (&disabled, "your_secure_password"),
            (&locked, "your_secure_password"),
        ] {
            round.push(world.try_login_from(actor, password, ELSEWHERE, None).await.unwrap());
        }
        seen.push(round);
        // The lockout after the fifth failure, and the end of the last one.
        world.clock.advance(if step == 5 { LOCKOUT } else { Duration::from_secs(1) });
    }
    let headers = |answer: &Answer| {
        let mut headers = answer.headers.clone();
        headers.remove("x-request-id");
        headers
    };
    for (step, round) in seen.iter().enumerate() {
        for answer in round {
            assert_eq!((answer.status, &answer.text), (round[0].status, &round[0].text), "step {step}");
            assert_eq!(headers(answer), headers(&round[0]), "step {step}");
        }
    }
    let counts: Vec<_> = seen.iter().map(|round| count(&round[0])).collect();
    let first = [(1, 5, false), (2, 5, false), (3, 5, false), (4, 5, false), (5, 5, true), (5, 5, true)];
    assert_eq!(counts[..6], first);
    // Three failures are left until the password is disabled. Then the count is that of consecutive failures.
    assert_eq!(counts[6..], [(1, 3, false), (2, 3, false), (8, 8, false), (8, 8, false), (8, 8, false)]);
    let kinds: Vec<_> = seen.iter().map(|round| round[0].verdict().1).collect();
    assert_eq!((kinds[5], kinds[8], kinds[9]), ("ACCOUNT_LOCKED", "AUTHENTICATION", "ACCOUNT_LOCKED"));
}

// docs/design/contract.md#failed-attempts
#[tokio::test]
async fn wrong_current_password_counts_like_a_login_of_the_same_device() {
    let world = World::start().await.unwrap();
    let login = world.login(&world.actor(MARCUS).unwrap()).await.unwrap();
    let change = json!({ "password": NEW_PASSWORD, "currentPassword": WRONG });
    let answer = world.update(&login, &login.actor.user.user_id, &change).await.unwrap();
    assert_eq!((answer.verdict(), count(&answer)), ((401, "AUTHENTICATION"), (1, 5, false)));
    let answer = refused(&world, &login.actor, Some(&login.device_proof)).await;
    assert_eq!(count(&answer), (2, 5, false));
}
