//! Races: concurrent requests through the real SDK, ordered by the store's conditional writes.

use std::{collections::HashSet, sync::Arc};

use doorward::domain::{TenantId, UserId};
use e2e::{Answer, Login, World};
use serde_json::json;
use tokio::task::JoinSet;

use crate::{ADMIN, MARCUS, NEW_PASSWORD, NORDIC_ADMIN};

async fn all<F>(count: usize, make: impl Fn(usize) -> F) -> Vec<Answer>
where
    F: Future<Output = Answer> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for index in 0..count {
        tasks.spawn(make(index));
    }
    tasks.join_all().await
}

// docs/design/security.md#rule-14
#[tokio::test(flavor = "multi_thread")]
async fn fifty_concurrent_refreshes_return_one_successor() {
    let world = Arc::new(World::start().await.unwrap());
    let login = world.login(&world.actor(ADMIN).unwrap()).await.unwrap();
    let answers = all(50, |_| {
        let (world, login) = (Arc::clone(&world), login.clone());
        async move { world.refresh(&login).await.unwrap() }
    })
    .await;
    assert!(
        answers.iter().all(|answer| answer.status == 200),
        "{:?}",
        answers.iter().map(Answer::verdict).collect::<Vec<_>>()
    );
    let successors: HashSet<_> = answers.iter().map(|answer| answer.data("refreshToken")).collect();
    assert_eq!(successors.len(), 1);
    assert_eq!(world.session(&login).await.unwrap().generation, 1);
    let next = Login::from_answer(&login.actor, &answers[0]).unwrap();
    assert!(world.refreshed(&next).await.is_ok());
}

// docs/design/security.md#rule-7
#[tokio::test(flavor = "multi_thread")]
async fn fifty_concurrent_wrong_logins_verify_at_most_five_passwords() {
    let world = Arc::new(World::start().await.unwrap());
    let actor = world.actor(ADMIN).unwrap();
    let answers = all(50, |_| {
        let (world, actor) = (Arc::clone(&world), actor.clone());
        async move { world.try_login(&actor, "wrong password!").await.unwrap() }
    })
    .await;
    let refused = |error| answers.iter().filter(|answer| answer.verdict().1 == error).count();
    assert_eq!(world.passwords.verified(), 5);
    assert_eq!((refused("AUTHENTICATION"), refused("ACCOUNT_LOCKED")), (5, 45));
    assert_eq!(
        world.try_login(&actor, &actor.user.password).await.unwrap().verdict(),
        (401, "ACCOUNT_LOCKED")
    );
}

// docs/design/security.md#rule-7
#[tokio::test(flavor = "multi_thread")]
async fn twenty_concurrent_correct_logins_all_succeed() {
    let world = Arc::new(World::start().await.unwrap());
    let actor = world.actor(MARCUS).unwrap();
    for _ in 0..3 {
        assert_eq!(world.try_login(&actor, "wrong").await.unwrap().status, 401);
    }
    let answers = all(20, |_| {
        let (world, actor) = (Arc::clone(&world), actor.clone());
        async move { world.try_login(&actor, &actor.user.password).await.unwrap() }
    })
    .await;
    assert!(
        answers.iter().all(|answer| answer.status == 200),
        "{:?}",
        answers.iter().map(Answer::verdict).collect::<Vec<_>>()
    );
    let sessions: HashSet<_> = answers.iter().map(|answer| answer.data("sessionId")).collect();
    assert_eq!(sessions.len(), 20);
    // The correct logins left no failures: four wrong passwords do not lock the user.
    for _ in 0..4 {
        assert_eq!(world.try_login(&actor, "wrong").await.unwrap().verdict(), (401, "AUTHENTICATION"));
    }
    assert!(world.login(&actor).await.is_ok());
}

// docs/design/security.md#rule-15, docs/design/storage.md#epochs
#[tokio::test(flavor = "multi_thread")]
async fn login_that_overlaps_a_password_change_is_ended() {
    let world = Arc::new(World::start().await.unwrap());
    let actor = world.actor(MARCUS).unwrap();
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    // The login with the old password waits after its verification, while the password changes.
    world.passwords.close();
    let before = world.passwords.verified();
    let overlapping = tokio::spawn({
        let (world, actor) = (Arc::clone(&world), actor.clone());
        async move { world.try_login(&actor, &actor.user.password).await.unwrap() }
    });
    while world.passwords.verified() == before {
        tokio::task::yield_now().await;
    }
    let changed =
        world.update(&admin, &actor.user.user_id, &json!({ "password": NEW_PASSWORD })).await.unwrap();
    assert_eq!(changed.status, 200);
    world.passwords.open();
    let answer = overlapping.await.unwrap();
    if let Ok(login) = Login::from_answer(&actor, &answer) {
        assert!(!world.opens(&login).await.unwrap());
        assert_eq!(world.refresh(&login).await.unwrap().verdict(), (401, "SESSION_TERMINATED"));
    }
}

// docs/design/security.md#rule-14: a successful logout is final, regardless of concurrent requests.
#[tokio::test(flavor = "multi_thread")]
async fn logout_during_refreshes_is_final() {
    let world = Arc::new(World::start().await.unwrap());
    for _ in 0..5 {
        let login = world.login(&world.actor(ADMIN).unwrap()).await.unwrap();
        let answers = all(11, |index| {
            let (world, login) = (Arc::clone(&world), login.clone());
            async move {
                if index == 5 {
                    world.logout(&login).await.unwrap()
                } else {
                    world.refresh(&login).await.unwrap()
                }
            }
        })
        .await;
        for answer in &answers {
            assert!(
                matches!(answer.verdict(), (200, _) | (401, "SESSION_TERMINATED")),
                "{:?}",
                answer.verdict()
            );
            if let Ok(granted) = Login::from_answer(&login.actor, answer) {
                assert!(!world.opens(&granted).await.unwrap());
                assert_eq!(world.refresh(&granted).await.unwrap().verdict(), (401, "SESSION_TERMINATED"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_concurrent_requests_gets_a_username() {
    let world = Arc::new(World::start().await.unwrap());
    let names = [MARCUS, "ingrid.larsen@example.com", "oskar.berg@example.com", "freja.holm@example.com"];
    let mut logins = Vec::new();
    for name in names {
        logins.push(world.login(&world.actor(name).unwrap()).await.unwrap());
    }
    let answers = all(names.len(), |index| {
        let (world, login) = (Arc::clone(&world), logins[index].clone());
        async move {
            let body =
                json!({ "username": "wanted@example.com", "currentPassword": login.actor.user.password });
            world.update(&login, &login.actor.user.user_id, &body).await.unwrap()
        }
    })
    .await;
    let took = answers.iter().filter(|answer| answer.status == 200).count();
    let refused = answers.iter().filter(|answer| answer.verdict() == (409, "USERNAME_TAKEN")).count();
    assert_eq!((took, refused), (1, 3), "{:?}", answers.iter().map(Answer::verdict).collect::<Vec<_>>());
}

// docs/design/security.md#rule-15: one of two concurrent changes succeeds, and at most one session remains.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_concurrent_password_changes_succeeds() {
    let world = Arc::new(World::start().await.unwrap());
    let actor = world.actor(MARCUS).unwrap();
    let mut logins = Vec::new();
    for _ in 0..4 {
        logins.push(world.login(&actor).await.unwrap());
    }
    let answers = all(4, |index| {
        let (world, login) = (Arc::clone(&world), logins[index].clone());
        async move {
            let body = json!({
                "password": format!("passphrase of caller {index}"),
                "currentPassword": login.actor.user.password,
            });
            world.update(&login, &login.actor.user.user_id, &body).await.unwrap()
        }
    })
    .await;
    let verdicts: Vec<_> = answers.iter().map(Answer::verdict).collect();
    assert_eq!(verdicts.iter().filter(|verdict| verdict.0 == 200).count(), 1, "{verdicts:?}");
    assert!(verdicts.iter().all(|verdict| verdict.0 == 200 || verdict.0 == 401), "{verdicts:?}");
    let mut alive = 0;
    for login in &logins {
        alive += usize::from(world.opens(login).await.unwrap());
    }
    assert_eq!(alive, 1);
    let mut opening = 0;
    for index in 0..4 {
        let answer = world.try_login(&actor, &format!("passphrase of caller {index}")).await.unwrap();
        opening += usize::from(answer.status == 200);
    }
    assert_eq!(opening, 1);
}

// A password change does not end the session that requested it, and concurrent refreshes of this session succeed.
#[tokio::test(flavor = "multi_thread")]
async fn refreshes_during_a_change_of_the_own_password_all_succeed() {
    let world = Arc::new(World::start().await.unwrap());
    let actor = world.actor(MARCUS).unwrap();
    let mut login = world.login(&actor).await.unwrap();
    let mut password = actor.user.password.clone();
    for round in 0..6 {
        let next = format!("passphrase of round {round}");
        let change = json!({ "password": next, "currentPassword": password });
        let answers = all(9, |index| {
            let (world, login, change) = (Arc::clone(&world), login.clone(), change.clone());
            async move {
                if index == 4 {
                    world.update(&login, &login.actor.user.user_id, &change).await.unwrap()
                } else {
                    world.refresh(&login).await.unwrap()
                }
            }
        })
        .await;
        let verdicts: Vec<_> = answers.iter().map(Answer::verdict).collect();
        assert!(verdicts.iter().all(|verdict| verdict.0 == 200), "round {round}: {verdicts:?}");
        login = answers.iter().find_map(|answer| Login::from_answer(&actor, answer).ok()).unwrap();
        assert!(world.opens(&login).await.unwrap());
        password = next;
    }
}

// In every interleaving of renames, exactly the user's current username is reserved.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_renames_of_one_user_leave_one_username() {
    let world = Arc::new(World::start().await.unwrap());
    let actor = world.actor(MARCUS).unwrap();
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let names =
        ["Marcus.Jensen@Example.com", "a@example.org", "A@example.org", "b@example.org", "c@example.org"];
    for _ in 0..4 {
        all(names.len(), |index| {
            let (world, admin, user) = (Arc::clone(&world), admin.clone(), actor.user.user_id.clone());
            async move { world.update(&admin, &user, &json!({ "username": names[index] })).await.unwrap() }
        })
        .await;
        let scan = world.dynamodb.scan().table_name(local::TABLE).consistent_read(true).send().await.unwrap();
        let owned: Vec<_> = scan
            .items()
            .iter()
            .filter(|item| item["sk"].as_s().is_ok_and(|sk| sk == "USERNAME"))
            .filter(|item| item["user_id"].as_s().is_ok_and(|id| *id == actor.user.user_id))
            .map(|item| item["pk"].as_s().unwrap().clone())
            .collect();
        let (tenant, id) = (&actor.tenant.tenant_id, &actor.user.user_id);
        let user = world
            .store
            .user(&TenantId::parse(tenant).unwrap(), &UserId::parse(id).unwrap())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(owned, [format!("T#{tenant}#N#{}", user.username.folded())]);
    }
}
