//! Clauses of conditions that the requests of other tests cannot break, because a request reads the same items just
//! before it writes. `cargo clauses` expects a failing test for each clause.

use std::{sync::Arc, time::Duration};

use doorward::{
    domain::{
        AttemptId, CodePurpose, Ended, Nonce, OrganizationId, PasswordHash, ResetCode, Session, SessionId,
        TenantId, User,
    },
    port::Clock,
    store::{
        Committed, CredentialChange, Ending, ExtraItem, Guard, GuardedChange, NewCode, NewSession, Rotated,
        Rotation, Switched, UserExtras,
    },
};
use e2e::{
    NORDIC, World,
    fault_proxy::{Effect, Fault, Operation},
};

use crate::{MARCUS, NORDIC_ADMIN};

/// Change of a stored session that ends it.
type End = fn(&mut Session, jiff::Timestamp);

/// Each way in which a session has ended; the last one is none.
const ENDS: [(&str, End, bool); 4] = [
    ("ended", |session, now| session.ended = Some(Ended { at: now, reuse: false }), false),
    ("idle", |session, now| session.idle_expires_at = now, false),
    ("expired", |session, now| session.expires_at = now, false),
    ("live", |_, _| {}, true),
];

/// Stores a copy of a session with another ID and this change.
async fn store(world: &World, session: &Session, name: &str, change: End) -> Session {
    let mut copy = Session { id: SessionId::parse(name).unwrap(), ..session.clone() };
    change(&mut copy, world.clock.now());
    world.store.insert_session(&NewSession::alone(&copy)).await.unwrap();
    copy
}

/// Reads a user and one of its sessions.
async fn read(world: &World, name: &str) -> (User, Session) {
    let login = world.login(&world.actor(name).unwrap()).await.unwrap();
    (world.user(&login.actor).await.unwrap(), world.session(&login).await.unwrap())
}

/// The user as read before a move to another organization.
fn moved(user: &User) -> User {
    User { organization: OrganizationId::parse("another-organization").unwrap(), ..user.clone() }
}

// docs/design/security.md#rule-13, docs/design/security.md#rule-15
#[tokio::test]
async fn change_of_the_own_account_checks_each_end_of_the_session() {
    let world = World::start().await.unwrap();
    let now = world.clock.now();
    let (_, session) = read(&world, NORDIC_ADMIN).await;
    let actor = world.actor(NORDIC_ADMIN).unwrap();
    for ending in [Ending::All, Ending::AllButCurrent] {
        for (name, change, is_live) in ENDS {
            let stored = store(&world, &session, &format!("{name}-{ending:?}"), change).await;
            let user = world.user(&actor).await.unwrap();
            let of = GuardedChange { own_session: Some(&stored), target: &user, now };
            let expected = if is_live { Committed::Done } else { Committed::Refused(Guard::Caller) };
            assert_eq!(world.store.end_sessions(&of, ending).await.unwrap(), expected, "{name} {ending:?}");
        }
        let stored = store(&world, &session, &format!("epoch-{ending:?}"), |_, _| {}).await;
        let other_epoch = Session { user_epoch: stored.user_epoch + 1, ..stored };
        let user = world.user(&actor).await.unwrap();
        let of = GuardedChange { own_session: Some(&other_epoch), target: &user, now };
        let refused = Committed::Refused(Guard::Caller);
        assert_eq!(world.store.end_sessions(&of, ending).await.unwrap(), refused, "{ending:?}");
    }
}

// docs/design/security.md#rule-15
#[tokio::test]
async fn change_of_a_user_checks_its_organization_and_sequence() {
    let world = World::start().await.unwrap();
    let now = world.clock.now();
    let (target, _) = read(&world, MARCUS).await;
    let moved = moved(&target);
    let outdated = User { sequence: target.sequence + 1, ..target.clone() };
    let change = CredentialChange { change_required: Some(true), ..CredentialChange::default() };
    for (target, expected) in [
        (&moved, Committed::Refused(Guard::Target)),
        (&outdated, Committed::Refused(Guard::Target)),
        (&target, Committed::Done),
    ] {
        let of = GuardedChange { own_session: None, target, now };
        assert_eq!(world.store.update_credentials(&of, &change).await.unwrap(), expected);
    }
}

// docs/design/security.md#rule-13, docs/design/security.md#rule-14
#[tokio::test]
async fn rotation_checks_each_end_of_the_session_and_its_token() {
    let world = World::start().await.unwrap();
    let now = world.clock.now();
    let (_, session) = read(&world, MARCUS).await;
    let rotate = async |stored: &Session, generation: u64, nonce: Nonce| {
        let rotation = Rotation {
            tenant: &stored.tenant,
            user: &stored.user,
            session: &stored.id,
            nonce,
            generation,
            key_version: stored.key_version,
            id: AttemptId::new(now, [7; 16]),
            now,
            idle_expires_at: session.idle_expires_at,
            grace: Duration::from_secs(30),
        };
        matches!(world.store.rotate_session(&rotation).await.unwrap(), Rotated::Moved(_))
    };
    for (name, change, is_live) in ENDS {
        let stored = store(&world, &session, name, change).await;
        assert!(!rotate(&stored, stored.generation + 1, stored.nonce).await, "{name}: another generation");
        assert!(!rotate(&stored, stored.generation, Nonce([0; 32])).await, "{name}: another nonce");
        assert_eq!(rotate(&stored, stored.generation, stored.nonce).await, is_live, "{name}");
        let at = (&stored.user, &stored.id);
        let found = world.store.caller(&stored.tenant, at, None, ExtraItem::None).await.unwrap().session;
        assert_eq!(found.unwrap().generation, stored.generation + u64::from(is_live), "{name}");
    }
}

// docs/design/security.md#rule-15
#[tokio::test]
async fn code_request_checks_the_epoch_of_the_caller_and_that_another_user_is_unchanged() {
    let world = World::start().await.unwrap();
    let now = world.clock.now();
    let (caller, session) = read(&world, NORDIC_ADMIN).await;
    let (target, _) = read(&world, MARCUS).await;
    let changed = User { sequence: target.sequence + 1, ..target.clone() };
    let outdated = User { session_epoch: caller.session_epoch + 1, ..caller.clone() };
    for (own_session, target, expected) in [
        (None, &changed, Committed::Refused(Guard::Target)),
        (Some(&session), &outdated, Committed::Refused(Guard::Caller)),
        (None, &target, Committed::Done),
        (Some(&session), &caller, Committed::Done),
    ] {
        let code = ResetCode {
            id: AttemptId::new(now, [7; 16]),
            proof: None,
            ends_at: now + Duration::from_secs(900),
            sent: vec![now],
            spent: None,
        };
        let (tenant, user) = (target.tenant.clone(), target.id.clone());
        let code = NewCode {
            tenant,
            user,
            purpose: CodePurpose::Password,
            replaces: None,
            code,
            message: None,
            result: None,
        };
        let of = GuardedChange { own_session, target, now };
        assert_eq!(world.store.issue_code(Some(&of), &code).await.unwrap(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tenant_that_is_resumed_during_its_deletion_is_kept() {
    let world = Arc::new(World::start().await.unwrap());
    let id = TenantId::parse(NORDIC).unwrap();
    assert_eq!(world.store.suspend_tenant(&id).await.unwrap(), Switched::Done);
    // The deletion has read the suspended tenant and waits.
    let read = world.faults.inject(Fault::on(Operation::GetItem, Effect::HoldAfter).sk("TENANT"));
    let (deleting, deleted) = (Arc::clone(&world), id.clone());
    let deleting = tokio::spawn(async move { deleting.store.delete_tenant(&deleted).await });
    read.reached().await;
    assert_eq!(world.store.resume_tenant(&id).await.unwrap(), Switched::Done);
    read.release();
    assert!(deleting.await.unwrap().is_err());
    assert!(world.store.tenant_record(&id).await.unwrap().is_some());
}

#[tokio::test]
async fn change_of_a_user_keeps_a_hash_that_a_login_upgraded_since_the_read() {
    let world = World::start().await.unwrap();
    let (target, _) = read(&world, MARCUS).await;
    let upgraded = PasswordHash::from_phc("upgraded".into());
    world.store.rehash(&target, &upgraded).await.unwrap();
    let new = User { locale: Some("da".to_owned()), ..target.clone() };
    let change = GuardedChange { own_session: None, target: &target, now: world.clock.now() };
    let extras = UserExtras::default();
    assert_eq!(world.store.change_user(&change, &new, &extras).await.unwrap(), Committed::Done);
    let stored = world.store.user(&target.tenant, &target.id).await.unwrap().unwrap();
    assert_eq!((stored.locale, stored.password), (new.locale, upgraded));
}
