//! Attempts of trusted and of unknown devices.

use super::*;

// docs/design/security.md#rule-10: failures of unknown devices and of a trusted device count separately.
#[tokio::test]
async fn trusted_device_and_unknown_devices_do_not_lock_each_other_out() {
    let world = World::start().await.unwrap();
    for name in [ADMIN, MARCUS] {
        let actor = world.actor(name).unwrap();
        let login = world.login(&actor).await.unwrap();
        let proof = Some(login.device_proof.as_str());
        for verdict in fail(&world, &actor, None, 5).await {
            assert_eq!(verdict, (401, "AUTHENTICATION".to_owned()));
        }
        assert_eq!(login_from(&world, &actor, None).await.verdict(), (401, "ACCOUNT_LOCKED"));
        // The trusted device logs in, and again with its renewed proof.
        let again = Login::from_answer(&actor, &login_from(&world, &actor, proof).await).unwrap();
        let device = world.session(&login).await.unwrap().proven_device;
        assert!(device.is_some());
        assert_eq!(world.session(&again).await.unwrap().proven_device, device, "the device ID changed");
        world.clock.advance(Duration::from_secs(1));
        let renewed = Login::from_answer(&actor, &login_from(&world, &actor, proof).await).unwrap();
        assert_ne!(renewed.device_proof, login.device_proof, "the device proof was not renewed");
        assert_eq!(login_from(&world, &actor, Some(&renewed.device_proof)).await.status, 200);
        // The success did not clear the failures of unknown devices.
        assert_eq!(login_from(&world, &actor, None).await.verdict(), (401, "ACCOUNT_LOCKED"));
        // A trusted device locks itself after the same number of failures.
        world.clock.advance(LOCKOUT);
        fail(&world, &actor, proof, 5).await;
        assert_eq!(login_from(&world, &actor, proof).await.verdict(), (401, "ACCOUNT_LOCKED"));
        assert_eq!(login_from(&world, &actor, None).await.status, 200);
        // Another trusted device of the user is not affected.
        let other = world.login(&actor).await.unwrap();
        assert_eq!(login_from(&world, &actor, Some(&other.device_proof)).await.status, 200);
    }
}

// docs/design/security.md#rule-10, #rule-20: an invalid proof has the same effect as no proof.
#[tokio::test]
async fn invalid_device_proof_counts_as_an_absent_one() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let own = world.login(&marcus).await.unwrap().device_proof;
    let others = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap().device_proof;
    let tenants = world.login(&world.actor(ADMIN).unwrap()).await.unwrap().device_proof;
    fail(&world, &marcus, None, 5).await;
    let absent = login_from(&world, &marcus, None).await;
    assert_eq!(absent.verdict(), (401, "ACCOUNT_LOCKED"));
    let forged = format!("{}{}", &own[..91], if own.ends_with("AAAAA") { "BBBBB" } else { "AAAAA" });
    // The version of a root key that does not exist.
    let unknown_key = format!("dwd2_AAAAB{}", &own[10..]);
    for proof in ["", "dwd2_", "PLANTED", &others, &tenants, &forged, &unknown_key, &"x".repeat(96)] {
        let answer = login_from(&world, &marcus, Some(proof)).await;
        assert_eq!((answer.status, &answer.text), (401, &absent.text), "{proof:.90}");
    }
    assert_eq!(login_from(&world, &marcus, Some(&own)).await.status, 200);
    // Half a year after its last login, a device is unknown again.
    world.clock.advance(Duration::from_secs(180 * 24 * 3_600));
    fail(&world, &marcus, None, 5).await;
    assert_eq!(login_from(&world, &marcus, Some(&own)).await.verdict(), (401, "ACCOUNT_LOCKED"));
}

// docs/design/security.md#rule-10: unknown devices cannot prevent a logged-in user from changing the
// password.
#[tokio::test]
async fn current_password_check_counts_as_an_attempt_of_the_device() {
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
    // The access token is valid for another 30 minutes.
    assert_eq!(world.update(&login, id, &change(&marcus.user.password)).await.unwrap().status, 200);
    // A password change ends every lockout.
    assert_eq!(world.try_login(&marcus, NEW_PASSWORD).await.unwrap().status, 200);
    assert_eq!(number(&world, &marcus, "failures").await, None);
}

// docs/design/security.md#rule-7, #rule-10: of 50 concurrent attempts from each side, five are verified.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_devices_and_a_trusted_device_have_five_concurrent_attempts_each() {
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

// docs/design/security.md#rule-7, #rule-10: a concurrent attack prevents no login from a trusted device.
#[tokio::test(flavor = "multi_thread")]
async fn correct_passwords_from_a_trusted_device_succeed_during_an_attack() {
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
    // A successful login removes the device's attributes from the item.
    assert_eq!(login_from(&world, &marcus, Some(&proof)).await.status, 200);
    let kept = attempts(&world, &marcus).await;
    assert!(kept.keys().all(|name| !name.contains('#') && name != "devices"), "{kept:?}");
}

// docs/design/security.md#rule-10: attempts of a session without a device count as those of an unknown
// device.
#[tokio::test(flavor = "multi_thread")]
async fn session_without_a_device_counts_as_an_unknown_device() {
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

// The item stays small: a device beyond the limit replaces an inactive device or counts as unknown.
#[tokio::test]
async fn number_of_remembered_devices_is_limited() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let (tenant, user) = (TenantId::parse(NORDIC).unwrap(), UserId::parse(&marcus.user.user_id).unwrap());
    let budget = AttemptBudget { max: 5, per_hour: 20, disable_after: 100, lockout_millis: 1_800_000 };
    let attempt = async |n: u8| {
        let now = world.clock.now();
        let device = Some(TrustedDevice { id: TrustedDeviceId::from_random([n; 16]), user_epoch: u64::MAX });
        let key = AttemptKey { tenant: &tenant, user: &user, device, id: AttemptId::new(now, [n; 16]) };
        let reserved = world.store.reserve_attempt(&key, budget, now).await.unwrap();
        world.store.settle_attempt(&key, &Verdict::Failed { budget, now, is_expired: false }).await.unwrap();
        reserved
    };
    for n in 0..32 {
        assert!(matches!(attempt(n).await, Reservation::Granted(_)), "{n}");
    }
    assert_eq!(
        attempt(32).await,
        Reservation::UnknownDevice,
        "a device beyond the limit must count as unknown"
    );
    assert!(
        matches!(attempt(31).await, Reservation::Granted(_)),
        "remembered devices must keep their attempts"
    );
    // The end of a lockout removes no device, because its consecutive failures would be lost.
    world.clock.advance(LOCKOUT);
    assert_eq!(attempt(40).await, Reservation::UnknownDevice);
    assert!(matches!(attempt(1).await, Reservation::Granted(_)));
    let kept = attempts(&world, &marcus).await;
    assert_eq!(kept["devices"].as_ss().unwrap().len(), 32);
    assert_eq!(kept.keys().filter(|name| name.starts_with("failed#")).count(), 32);
    let size: usize = kept.iter().map(|(name, value)| name.len() + format!("{value:?}").len()).sum();
    assert!(size < 30_000, "{size}");
}

// docs/design/security.md#rule-8, #rule-10: a proof of an earlier password has the same effect as no
// proof, so that a former password owner has no separate attempts at the new password.
#[tokio::test]
async fn device_proof_becomes_invalid_when_the_password_changes() {
    let world = World::start().await.unwrap();
    let (marcus, admin) = (world.actor(MARCUS).unwrap(), world.actor(NORDIC_ADMIN).unwrap());
    let old = world.login(&marcus).await.unwrap().device_proof;
    world.clock.advance(Duration::from_secs(1));
    let admin = world.login(&admin).await.unwrap();
    let body = json!({ "password": NEW_PASSWORD, "changeRequired": false });
    assert_eq!(world.update(&admin, &marcus.user.user_id, &body).await.unwrap().status, 200);
    fail(&world, &marcus, Some(&old), 5).await;
    let locked = world.try_login(&marcus, NEW_PASSWORD).await.unwrap();
    assert_eq!(
        locked.verdict(),
        (401, "ACCOUNT_LOCKED"),
        "the attempts must count as those of unknown devices"
    );
    // Unlocking the user does not make the old proof valid.
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
    assert_eq!(login_from(&world, &marcus, Some(&new)).await.status, 200, "the renewed proof was rejected");
}

// docs/design/security.md#rule-10: devices with a proof of a new root key are trusted. Proofs of the old key are valid while the key is listed.
#[tokio::test]
async fn device_proof_of_a_new_root_key_is_accepted() {
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
    let user_epoch = world.user(&marcus).await.unwrap().session_epoch;
    let device = TrustedDevice { id: TrustedDeviceId::from_random([7; 16]), user_epoch };
    let proof =
        doorward::token::DeviceProof::issue(device, (&tenant, &user), &keys, world.clock.now()).unwrap();
    fail(&world, &marcus, None, 5).await;
    world.clock.advance(Duration::from_secs(5 * 60));
    let answer = login_from(&world, &marcus, Some(proof.expose_secret())).await;
    let login = Login::from_answer(&marcus, &answer).unwrap();
    assert_eq!(world.session(&login).await.unwrap().proven_device, Some(device.id));
    let old = login_from(&world, &marcus, Some(&made_with_old)).await;
    assert_eq!(old.status, 200);
    assert_ne!(
        old.data("deviceProof")[..10],
        made_with_old[..10],
        "the proof was not renewed with the new root key"
    );
}
