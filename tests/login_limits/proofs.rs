//! Validity of device proofs after a password change. It depends on epochs, not on clocks.

use super::*;

/// Locks out unknown devices, and checks whether a login with this proof succeeds.
async fn is_trusted(world: &World, actor: &Actor, proof: &str) -> bool {
    fail(world, actor, None, 5).await;
    assert_eq!(login_from(world, actor, None).await.verdict(), (401, "ACCOUNT_LOCKED"));
    login_from(world, actor, Some(proof)).await.status == 200
}

/// Sets the user's password to [`NEW_PASSWORD`] and returns the user with it.
async fn set_password(world: &World, admin: &Login, actor: &Actor) -> Actor {
    let body = json!({ "password": NEW_PASSWORD, "changeRequired": false });
    assert_eq!(world.update(admin, &actor.user.user_id, &body).await.unwrap().status, 200);
    let mut changed = actor.clone();
    NEW_PASSWORD.clone_into(&mut changed.user.password);
    changed
}

// docs/design/security.md#rule-10: the login reads the old password, and succeeds before the change commits.
#[tokio::test(flavor = "multi_thread")]
async fn proof_of_a_login_during_a_password_change_is_invalid() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let hash = world.passwords.hold_next_hash();
    let (changed, login) = tokio::join!(set_password(&world, &admin, &marcus), async {
        hash.reached().await;
        world.clock.advance(Duration::from_secs(1));
        let login = world.login(&marcus).await;
        hash.release();
        login.unwrap()
    });
    assert!(!is_trusted(&world, &changed, &login.device_proof).await);
}

// docs/design/security.md#rule-10: the clock of the function that changes the password is one minute behind.
#[tokio::test(flavor = "multi_thread")]
async fn proof_of_the_old_password_is_invalid_after_a_change_by_a_slow_clock() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let now = world.clock.now();
    let old = world.login(&marcus).await.unwrap().device_proof;
    world.clock.set(now - Duration::from_secs(60));
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let marcus = set_password(&world, &admin, &marcus).await;
    world.clock.set(now + Duration::from_secs(1));
    assert!(!is_trusted(&world, &marcus, &old).await);
}

// docs/design/security.md#rule-10: the clock of the function that changes the password is one minute ahead.
#[tokio::test(flavor = "multi_thread")]
async fn proof_of_the_new_password_is_valid_after_a_change_by_a_fast_clock() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let now = world.clock.now();
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    world.clock.advance(Duration::from_secs(60));
    let marcus = set_password(&world, &admin, &marcus).await;
    world.clock.set(now);
    let new = world.login(&marcus).await.unwrap().device_proof;
    assert!(is_trusted(&world, &marcus, &new).await);
}

// docs/design/security.md#rule-10
#[tokio::test(flavor = "multi_thread")]
async fn session_that_changed_its_password_keeps_its_trusted_device() {
    let world = World::start().await.unwrap();
    let mut marcus = world.actor(MARCUS).unwrap();
    let login = world.login(&marcus).await.unwrap();
    for password in [NEW_PASSWORD, "yet another passphrase"] {
        world.clock.advance(Duration::from_secs(1));
        fail(&world, &marcus, None, 5).await;
        assert_eq!(login_from(&world, &marcus, None).await.verdict(), (401, "ACCOUNT_LOCKED"));
        let change = json!({ "password": password, "currentPassword": marcus.user.password });
        let answer = world.update(&login, &marcus.user.user_id, &change).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        marcus.user.password = password.to_owned();
    }
}

// docs/design/security.md#rule-10: failures with an outdated proof count as failures of an unknown device.
#[tokio::test]
async fn outdated_proof_does_not_avoid_the_budget_of_the_address() {
    let world = World::start().await.unwrap();
    world.change_policy(NORDIC, |policy| policy.failures_per_ip = 2).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let old = world.login(&marcus).await.unwrap().device_proof;
    let marcus = set_password(&world, &admin, &marcus).await;
    fail(&world, &marcus, Some(&old), 2).await;
    assert_eq!(login_from(&world, &marcus, Some(&old)).await.verdict(), (429, "RATE_LIMITED"));
    assert_eq!(world.audit.last()["reason"], "ADDRESS");
}
