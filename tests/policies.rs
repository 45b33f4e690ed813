//! Rules for new passwords, and upgrades of password hashes.

use std::sync::Arc;

use doorward::{
    domain::{HashCost, Password, PasswordHash},
    function::SystemEntropy,
    password::Argon2id,
    port::Passwords,
};
use e2e::{Answer, Login, NORDIC, World};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{MARCUS, NEW_PASSWORD, NORDIC_ADMIN};

/// Twice the default memory, which the test hasher divides to 128 KiB.
const DEARER: HashCost = HashCost { memory_kib: 38_912, passes: 2, lanes: 1 };
const HISTORY: &str = "must not be one of the last 3 passwords";

fn faults(answer: &Answer) -> Vec<&str> {
    assert_eq!(answer.verdict(), (400, "PASSWORD_POLICY"), "{answer:?}");
    let errors = answer.body["data"]["errors"].as_array().unwrap();
    errors.iter().map(|error| error["message"].as_str().unwrap()).collect()
}

/// The body of a change of the own password from `old`.
fn change(old: &str, new: &str) -> Value {
    json!({ "password": new, "currentPassword": old })
}

// docs/design/security.md#rule-1, #rule-2, #rule-3
#[tokio::test]
async fn response_names_every_violated_password_rule() {
    let world = World::start().await.unwrap();
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let (length, names, repeated, walk, common) = (
        "must have at least 15 characters",
        "must not be made of the username or the names of tenant and service",
        "must not be a shorter text repeated",
        "must not be a sequence or a keyboard run",
        "must not be one of the most common passwords",
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
    // If the change contains a new username, the rule applies to the new one.
    let both = json!({ "password": "somebody else 2024", "username": "somebody.else@example.com" });
    assert_eq!(faults(&world.update(&admin, &marcus.user.user_id, &both).await.unwrap()), [names]);
    assert!(world.login(&marcus).await.is_ok(), "a rejected change took effect");
    // There are no composition rules, and passwords are neither normalised nor truncated.
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
async fn last_three_passwords_are_rejected() {
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
    // Without the rule, a password may be changed to itself and no history is stored.
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
    // The first password is now the fourth last. The rule is the same for users and administrators.
    assert_eq!(world.update(&admin, id, &json!({ "password": first })).await.unwrap().status, 200);
    let again = world.login(&marcus).await.unwrap();
    let refused = world.update(&again, id, &change(first, chosen[3])).await.unwrap();
    assert_eq!(faults(&refused), [HISTORY]);

    // A history of one contains only the current password.
    world.change_policy(NORDIC, |policy| policy.password_history = 1).await.unwrap();
    assert_eq!(world.update(&again, id, &change(first, chosen[3])).await.unwrap().status, 200);
    let refused = world.update(&again, id, &change(chosen[3], chosen[3])).await.unwrap();
    assert_eq!(faults(&refused), ["must not be the present password"]);
    assert!(world.user(&marcus).await.unwrap().password_history.is_empty());
}

// docs/design/security.md#rule-6, #rule-11: the history is verified only after the change is authorised.
#[tokio::test]
async fn password_history_is_checked_only_after_the_current_password() {
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
async fn concurrent_logins_upgrade_an_outdated_hash_once_and_end_no_session() {
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
    assert!(after.password.as_phc().starts_with("$argon2id$v=19$m=128,t=2,p=1$"));
    assert_eq!((after.session_epoch, after.sequence), (before.session_epoch, before.sequence));
    assert!(world.opens(&earlier).await.unwrap());
    // The hash is written once: the condition on the old hash fails for the others, and later logins do
    // not change it.
    world.store.rehash(&before, &PasswordHash::from_phc("late".to_owned())).await.unwrap();
    world.login(&marcus).await.unwrap();
    assert_eq!(world.user(&marcus).await.unwrap().password.as_phc(), after.password.as_phc());
}

// docs/design/security.md#rule-4
#[tokio::test]
async fn imported_hashes_are_accepted_and_upgraded_by_the_first_login() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    // Hashes of the demo password, created with Python's bcrypt and hashlib.
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
        assert!(upgraded.password.as_phc().starts_with("$argon2id$v=19$m=64,t=2,p=1$"), "{phc}");
        world.login(&marcus).await.unwrap();
        let left_alone = world.user(&marcus).await.unwrap();
        assert_eq!(left_alone.password.as_phc(), upgraded.password.as_phc());
    }
    // An unreadable hash is an internal error, not a wrong password.
    world.import_hash(&marcus, "$1$saltsalt$hash").await.unwrap();
    assert_eq!(world.try_login(&marcus, &marcus.user.password).await.unwrap().verdict(), (500, "INTERNAL"));
}

// docs/design/security.md#rule-4: bcrypt reads 72 bytes, so that a match does not prove the rest of the password.
#[tokio::test]
async fn bcrypt_hash_stays_if_the_password_has_72_bytes_or_more() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let phc = "$2b$04$LUh6sB8HM4OTMmBMUfYQY.Uwf9js8HgAiHfViAuTVBq1t0lf/4/aK";
    let right = "correct horse battery staple and a long tail that goes over seventy-two bytes -> HERE";
    let typo = right.replace("HERE", "HRRE");
    world.import_hash(&marcus, phc).await.unwrap();
    for password in [&*typo, &right[..72], right] {
        assert_eq!(world.try_login(&marcus, password).await.unwrap().status, 200, "{password}");
        assert_eq!(world.user(&marcus).await.unwrap().password.as_phc(), phc, "{password}");
    }
    assert_eq!(world.try_login(&marcus, &right[..71]).await.unwrap().status, 401);
}

// docs/design/security.md#rule-4: the other system hashed the form that the client sent, here NFD.
#[tokio::test]
async fn imported_hash_of_a_decomposed_password_is_accepted_and_replaced() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let phc =
        "$argon2id$v=19$m=1024,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$cHwBx0emXvDDDL/Vy1xuvwtcEyz6YVh4BXFibV0NDp0";
    let (composed, decomposed) =
        ("Fl\u{e4}che f\u{fc}r Gem\u{fc}se", "Fla\u{308}che fu\u{308}r Gemu\u{308}se");
    world.import_hash(&marcus, phc).await.unwrap();
    for password in [composed, "Fla\u{308}che fu\u{308}r Gemuse"] {
        assert_eq!(world.try_login(&marcus, password).await.unwrap().verdict(), (401, "AUTHENTICATION"));
    }
    assert_eq!(world.user(&marcus).await.unwrap().password.as_phc(), phc);
    assert_eq!(world.try_login(&marcus, decomposed).await.unwrap().status, 200);
    for password in [composed, decomposed] {
        assert_eq!(world.try_login(&marcus, password).await.unwrap().status, 200, "{password}");
    }
}

// docs/design/security.md#rule-4: the new hash has neither less memory nor fewer passes than the stored one.
#[tokio::test]
async fn stronger_imported_hash_is_not_weakened() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let hasher = Argon2id::new(Arc::new(SystemEntropy), 512, 2);
    for (memory_kib, passes) in [(65, 1), (65, 2), (65, 3), (32, 3)] {
        let cost = HashCost { memory_kib, passes, lanes: 1 };
        let password = Password::parse(&marcus.user.password).unwrap();
        let strong = hasher.hash(password, cost).await.unwrap();
        world.import_hash(&marcus, strong.as_phc()).await.unwrap();
        world.login(&marcus).await.unwrap();
        assert_eq!(world.user(&marcus).await.unwrap().password.as_phc(), strong.as_phc(), "{cost:?}");
    }
}

// docs/design/security.md#rule-6: an imported password is part of the history.
#[tokio::test]
async fn imported_password_is_part_of_the_history() {
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

// docs/design/security.md#rule-4, docs/design/storage.md#epochs: a hash upgrade that overlaps a
// password change does not restore the old password.
#[tokio::test(flavor = "multi_thread")]
async fn hash_upgrade_does_not_undo_a_password_change() {
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

// docs/design/security.md#rule-4: a login succeeds even if the hash upgrade fails.
#[tokio::test(flavor = "multi_thread")]
async fn failed_hash_upgrade_does_not_prevent_the_login() {
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
    // The next login tries the upgrade again.
    world.passwords.set_broken(false);
    world.login(&marcus).await.unwrap();
    assert!(world.user(&marcus).await.unwrap().password.as_phc().contains("m=128"));
}

// docs/design/security.md#rule-7: a request that changes nothing does not reveal whether a password is
// current.
#[tokio::test(flavor = "multi_thread")]
async fn taken_username_is_reported_before_the_password_history() {
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
