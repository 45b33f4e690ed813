//! What a new password must be, and how hashes are kept up to date.

use std::sync::Arc;

use doorward::{
    domain::{HashCost, PasswordHash},
    port::Store,
};
use e2e::{Answer, Login, NORDIC, World};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{MARCUS, NEW_PASSWORD, NORDIC_ADMIN};

/// Dearer than what the demo users' passwords are hashed with.
const DEARER: HashCost = HashCost { memory_kib: 128, passes: 1, lanes: 1 };
const HISTORY: &str = "must not be one of the last 3 passwords";

fn faults(answer: &Answer) -> Vec<&str> {
    assert_eq!(answer.verdict(), (400, "PASSWORD_POLICY"), "{answer:?}");
    let errors = answer.body["data"]["errors"].as_array().unwrap();
    errors.iter().map(|error| error["message"].as_str().unwrap()).collect()
}

/// A change of one's own password, from `old`.
fn change(old: &str, new: &str) -> Value {
    json!({ "password": new, "currentPassword": old })
}

// docs/design/security.md#rule-1, #rule-2, #rule-3
#[tokio::test]
async fn every_broken_rule_is_named() {
    let world = World::start().await.unwrap();
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let (length, names, repeated, walk, common) = (
        "must have at least 15 characters",
        "must not be made of the username or the names of tenant and service",
        "must not be a shorter text repeated",
        "must not be a sequence or a keyboard run",
        "must not be one of the commonest passwords",
    );
    for (password, rules) in [
        ("short", vec![length, common]),
        ("Marcus.Jensen@example.com", vec![names]),
        ("nordic bank 2024", vec![names]),
        ("doorward", vec![length, names]),
        (NORDIC, vec![names]),
        ("cobalt lamp cobalt lamp", vec![repeated]),
        ("QWERTYUIOPasdfghjkl", vec![walk]),
        ("PassWord1234567890", vec![common]),
        ("12345678", vec![length, walk, common]),
    ] {
        let answer =
            world.update(&admin, &marcus.user.user_id, &json!({ "password": password })).await.unwrap();
        assert_eq!(faults(&answer), rules, "{password}");
    }
    // With a new name in the same change, that is the name.
    let both = json!({ "password": "somebody else 2024", "username": "somebody.else@example.com" });
    assert_eq!(faults(&world.update(&admin, &marcus.user.user_id, &both).await.unwrap()), [names]);
    assert!(world.login(&marcus).await.is_ok(), "and nothing was changed");
    // No composition rules, and nothing is folded or cut.
    for password in ["only small letters here", "Π ώρα του καφέ ήρθε", &"long and winding ".repeat(15)]
    {
        let body = json!({ "password": password });
        assert_eq!(world.update(&admin, &marcus.user.user_id, &body).await.unwrap().status, 200);
        let mut cut = password.to_owned();
        cut.pop();
        for (tried, status) in [(password, 200), (&*password.to_uppercase(), 401), (&*cut, 401)] {
            assert_eq!(world.try_login(&marcus, tried).await.unwrap().status, status, "{tried}");
        }
    }
}

// docs/design/security.md#rule-6
#[tokio::test]
async fn the_last_three_passwords_are_not_used_again() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let id = marcus.user.user_id.as_str();
    let login = world.login(&marcus).await.unwrap();
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let own = |old: &str, new: &str| {
        let body = change(old, new);
        async {
            let body = body;
            world.update(&login, id, &body).await.unwrap()
        }
    };
    let first = marcus.user.password.as_str();
    // Without the rule a password may be changed into itself, and nothing is kept.
    assert_eq!(own(first, first).await.status, 200);
    assert!(world.user(&marcus).await.unwrap().password_history.is_empty());

    world.change_policy(NORDIC, |policy| policy.password_history = 3).await.unwrap();
    let chosen = [first, "second of my passphrases", "third of my passphrases", "fourth of my passphrases"];
    for (index, new) in chosen.iter().enumerate().skip(1) {
        assert_eq!(own(chosen[index - 1], new).await.status, 200, "{new}");
        for old in &chosen[index.saturating_sub(2)..=index] {
            assert_eq!(faults(&own(new, old).await), [HISTORY], "{old} after {new}");
            let by_admin = world.update(&admin, id, &json!({ "password": old })).await.unwrap();
            assert_eq!(faults(&by_admin), [HISTORY], "{old} after {new}, by an administrator");
        }
    }
    assert_eq!(world.user(&marcus).await.unwrap().password_history.len(), 2);
    // The first is the fourth last now; who set the password does not matter.
    assert_eq!(world.update(&admin, id, &json!({ "password": first })).await.unwrap().status, 200);
    let again = world.login(&marcus).await.unwrap();
    let refused = world.update(&again, id, &change(first, chosen[3])).await.unwrap();
    assert_eq!(faults(&refused), [HISTORY]);

    // One looks back at the present password alone.
    world.change_policy(NORDIC, |policy| policy.password_history = 1).await.unwrap();
    assert_eq!(world.update(&again, id, &change(first, chosen[3])).await.unwrap().status, 200);
    let refused = world.update(&again, id, &change(chosen[3], chosen[3])).await.unwrap();
    assert_eq!(faults(&refused), ["must not be the present password"]);
    assert!(world.user(&marcus).await.unwrap().password_history.is_empty());
}

// docs/design/security.md#rule-6, #rule-11: nobody makes it verify the history before the change is authorised.
#[tokio::test]
async fn the_history_is_looked_at_only_once_the_present_password_was_right() {
    let world = World::start().await.unwrap();
    world.change_policy(NORDIC, |policy| policy.password_history = 3).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let id = marcus.user.user_id.as_str();
    let login = world.login(&marcus).await.unwrap();
    let first = marcus.user.password.as_str();
    assert_eq!(world.update(&login, id, &change(first, NEW_PASSWORD)).await.unwrap().status, 200);
    for (body, answer, verified) in [
        (change("a wrong passphrase", "yet another passphrase"), (401, "AUTHENTICATION"), 1),
        (change(NEW_PASSWORD, "too short"), (400, "PASSWORD_POLICY"), 0),
        (json!({ "password": "yet another passphrase" }), (400, "VALIDATION"), 0),
        (change(NEW_PASSWORD, first), (400, "PASSWORD_POLICY"), 3),
        (change(NEW_PASSWORD, "yet another passphrase"), (200, ""), 3),
    ] {
        let before = world.passwords.verified();
        assert_eq!(world.update(&login, id, &body).await.unwrap().verdict(), answer, "{body}");
        assert_eq!(world.passwords.verified() - before, verified, "{body}");
    }
}

// docs/design/security.md#rule-4
#[tokio::test(flavor = "multi_thread")]
async fn parallel_logins_renew_an_old_hash_once_and_end_no_session() {
    let world = Arc::new(World::start().await.unwrap());
    let marcus = world.actor(MARCUS).unwrap();
    let before = world.user(&marcus).await.unwrap();
    let earlier = world.login(&marcus).await.unwrap();
    assert_eq!(world.user(&marcus).await.unwrap().password.as_phc(), before.password.as_phc());

    world.change_policy(NORDIC, |policy| policy.hash_cost = DEARER).await.unwrap();
    assert_eq!(world.try_login(&marcus, "not the password").await.unwrap().status, 401);
    assert_eq!(world.user(&marcus).await.unwrap().password.as_phc(), before.password.as_phc());
    let mut logins = JoinSet::new();
    for _ in 0..10 {
        let (world, marcus) = (Arc::clone(&world), marcus.clone());
        logins.spawn(async move { world.login(&marcus).await.unwrap() });
    }
    for login in logins.join_all().await {
        assert!(world.opens(&login).await.unwrap());
    }
    let after = world.user(&marcus).await.unwrap();
    assert!(after.password.as_phc().starts_with("$argon2id$v=19$m=128,t=1,p=1$"));
    assert_eq!((after.session_epoch, after.sequence), (before.session_epoch, before.sequence));
    assert!(world.opens(&earlier).await.unwrap());
    // Written once: what was read before is not there any more, and the next login leaves it alone.
    world.store.rehash(&before, &PasswordHash::from_phc("late".to_owned())).await.unwrap();
    world.login(&marcus).await.unwrap();
    assert_eq!(world.user(&marcus).await.unwrap().password.as_phc(), after.password.as_phc());
}

// docs/design/security.md#rule-4
#[tokio::test]
async fn imported_hashes_open_and_are_upgraded_by_the_first_login() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    // Of the demo password, by Python's bcrypt and hashlib.
    for phc in [
        "$2b$04$rmjLU8RoKHQMBUvsaVZRtOJGKlLOim6jFT8Cu8qwK3sNYP.AlKGsq",
        "$scrypt$ln=10,r=8,p=1$AQIDBAUGBwgJCgsMDQ4PEA$+VqjBoCBfSgCNxutXrm3d/too+DmZoyf5699ujZG5ys",
        "$pbkdf2-sha256$i=1000$AQIDBAUGBwgJCgsMDQ4PEA$EUaHyWoaK4XZUJiFalh6K6OXbCgDpNVOgQwa55Pn/Z4",
    ] {
        world.import_hash(&marcus, phc).await.unwrap();
        let wrong = world.try_login(&marcus, "not the password").await.unwrap();
        assert_eq!(wrong.verdict(), (401, "AUTHENTICATION"));
        assert_eq!(world.user(&marcus).await.unwrap().password.as_phc(), phc);
        world.login(&marcus).await.unwrap();
        let upgraded = world.user(&marcus).await.unwrap();
        assert!(upgraded.password.as_phc().starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{phc}");
        world.login(&marcus).await.unwrap();
        let left_alone = world.user(&marcus).await.unwrap();
        assert_eq!(left_alone.password.as_phc(), upgraded.password.as_phc());
    }
    // What nobody understands is a defect, not a wrong password.
    world.import_hash(&marcus, "$1$saltsalt$hash").await.unwrap();
    assert_eq!(world.try_login(&marcus, &marcus.user.password).await.unwrap().verdict(), (500, "INTERNAL"));
}

// docs/design/security.md#rule-6: an imported password is one of the last too.
#[tokio::test]
async fn an_imported_password_counts_in_the_history() {
    let world = World::start().await.unwrap();
    world.change_policy(NORDIC, |policy| policy.password_history = 3).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let bcrypt = "$2b$04$rmjLU8RoKHQMBUvsaVZRtOJGKlLOim6jFT8Cu8qwK3sNYP.AlKGsq";
    world.import_hash(&marcus, bcrypt).await.unwrap();
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let set = async |password: &str| {
        world.update(&admin, &marcus.user.user_id, &json!({ "password": password })).await.unwrap()
    };
    assert_eq!(faults(&set(&marcus.user.password).await), [HISTORY]);
    assert_eq!(set(NEW_PASSWORD).await.status, 200);
    assert_eq!(world.user(&marcus).await.unwrap().password_history[0].as_phc(), bcrypt);
    assert_eq!(faults(&set(&marcus.user.password).await), [HISTORY]);
}

// docs/design/security.md#rule-4, storage "Epoch, not time": the renewal of a login that overlaps a change of password
// does not bring the old one back.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_hash_does_not_undo_a_change_of_password() {
    let world = Arc::new(World::start().await.unwrap());
    let marcus = world.actor(MARCUS).unwrap();
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    world.change_policy(NORDIC, |policy| policy.hash_cost = DEARER).await.unwrap();
    world.passwords.close();
    let before = world.passwords.verified();
    let overlapping = tokio::spawn({
        let (world, marcus) = (Arc::clone(&world), marcus.clone());
        async move { world.try_login(&marcus, &marcus.user.password).await.unwrap() }
    });
    world.passwords.until_more_than(before).await;
    let body = json!({ "password": NEW_PASSWORD });
    assert_eq!(world.update(&admin, &marcus.user.user_id, &body).await.unwrap().status, 200);
    let changed = world.user(&marcus).await.unwrap();
    world.passwords.open();
    if let Ok(login) = Login::from_answer(&marcus, &overlapping.await.unwrap()) {
        assert!(!world.opens(&login).await.unwrap());
    }
    assert_eq!(world.user(&marcus).await.unwrap().password.as_phc(), changed.password.as_phc());
    assert_eq!(world.try_login(&marcus, &marcus.user.password).await.unwrap().status, 401);
    assert_eq!(world.try_login(&marcus, NEW_PASSWORD).await.unwrap().status, 200);
}

// docs/design/security.md#rule-4: a login does not depend on the renewal of its hash.
#[tokio::test(flavor = "multi_thread")]
async fn a_hash_that_cannot_be_renewed_keeps_nobody_out() {
    let world = Arc::new(World::start().await.unwrap());
    let marcus = world.actor(MARCUS).unwrap();
    let kept = world.user(&marcus).await.unwrap();
    world.change_policy(NORDIC, |policy| policy.hash_cost = DEARER).await.unwrap();
    world.passwords.close();
    let before = world.passwords.verified();
    let login = tokio::spawn({
        let (world, marcus) = (Arc::clone(&world), marcus.clone());
        async move { world.login(&marcus).await.unwrap() }
    });
    world.passwords.until_more_than(before).await;
    world.passwords.set_broken(true);
    world.passwords.open();
    let login = login.await.unwrap();
    assert!(world.opens(&login).await.unwrap());
    assert_eq!(world.user(&marcus).await.unwrap().password.as_phc(), kept.password.as_phc());
    // The next one tries again.
    world.passwords.set_broken(false);
    world.login(&marcus).await.unwrap();
    assert!(world.user(&marcus).await.unwrap().password.as_phc().contains("m=128"));
}

// docs/design/security.md#rule-7: no request that changes nothing tells whether a password is another's present one.
#[tokio::test(flavor = "multi_thread")]
async fn a_taken_name_is_told_before_the_history_is_asked() {
    let world = World::start().await.unwrap();
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    world.change_policy(NORDIC, |policy| policy.password_history = 1).await.unwrap();
    for password in [marcus.user.password.as_str(), NEW_PASSWORD] {
        let body = json!({ "password": password, "username": NORDIC_ADMIN });
        let answer = world.update(&admin, &marcus.user.user_id, &body).await.unwrap();
        assert_eq!(answer.verdict(), (409, "USERNAME_TAKEN"), "{answer:?}");
    }
}
