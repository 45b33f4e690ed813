//! Conditions of the writes of clients that requests cannot break, because they read the client just before.

use std::time::Duration;

use doorward::{
    domain::{ApiClient, AttemptId, ClientStatus, TenantId},
    port::Clock,
    store::{AssertionUse, ClientCreation, Switched},
};
use e2e::{NORDIC, World};

use super::world_with_client;

// docs/design/storage.md#api-clients
#[tokio::test]
async fn late_write_of_a_use_does_not_create_a_deleted_client() {
    let (world, client) = world_with_client().await;
    let stale = world.stored_client(&client).await.unwrap();
    let deleted = world.store.delete_client(&stale.tenant, &stale.id).await.unwrap();
    assert_eq!(deleted, Switched::Done);
    world.store.note_client_use(&stale, world.clock.now()).await.unwrap();
    world.store.rewrite_client_hash(&stale).await.unwrap();
    assert!(world.store.change_client(&stale).await.is_err());
    assert!(world.store.client(&stale.tenant, &stale.id).await.unwrap().is_none());
}

// docs/design/security.md#rule-27: a late hash must not bring a retired secret back.
#[tokio::test]
async fn late_hash_does_not_replace_changed_credentials() {
    let (world, client) = world_with_client().await;
    let stale = world.stored_client(&client).await.unwrap();
    let disabled = |client| ApiClient { status: ClientStatus::Disabled, credentials: Vec::new(), ..client };
    world.change_client(&client, disabled).await.unwrap();
    world.store.rewrite_client_hash(&stale).await.unwrap();
    let stored = world.stored_client(&client).await.unwrap();
    assert_eq!((stored.credentials.len(), stored.revision), (0, 2));
    world.store.rewrite_client_hash(&stored).await.unwrap();
    assert_eq!(world.stored_client(&client).await.unwrap().revision, 3, "the write counts as a change");
}

// docs/design/storage.md#api-clients
#[tokio::test]
async fn parallel_uses_within_a_minute_are_recorded_once() {
    let (world, client) = world_with_client().await;
    let stale = world.stored_client(&client).await.unwrap();
    let now = world.clock.now();
    world.store.note_client_use(&stale, now).await.unwrap();
    let later = now.checked_add(Duration::from_secs(59)).unwrap();
    world.store.note_client_use(&stale, later).await.unwrap();
    let recorded = world.stored_client(&client).await.unwrap().last_used_at.unwrap();
    assert_eq!(recorded.as_millisecond(), now.as_millisecond());
}

// docs/design/security.md#rule-27
#[tokio::test]
async fn assertion_id_is_free_again_after_its_expiry() {
    let (world, client) = world_with_client().await;
    let stored = world.stored_client(&client).await.unwrap();
    let start = world.clock.now();
    let at = |seconds: u64| start.checked_add(Duration::from_secs(seconds)).unwrap();
    let mut first = Vec::new();
    for (number, seconds) in [(1, 0), (1, 0), (2, 0), (3, 60), (4, 62)] {
        let once = AssertionUse {
            tenant: &stored.tenant,
            client: &stored.id,
            digest: "digest",
            ends_at: at(60),
            id: AttemptId::new(start, [number; 16]),
            now: at(seconds),
        };
        first.push(world.store.use_assertion(&once).await.unwrap());
    }
    // The second write is a repetition of the first by the SDK.
    assert_eq!(first, [true, true, false, false, true]);
}

#[tokio::test]
async fn client_of_a_missing_tenant_is_not_created() {
    let (world, client) = world_with_client().await;
    let tenant = TenantId::parse("tenant_missing").unwrap();
    let stray = ApiClient { tenant: tenant.clone(), ..world.stored_client(&client).await.unwrap() };
    assert_eq!(world.store.create_client(&stray).await.unwrap(), ClientCreation::NoTenant);
    assert!(world.store.clients(&tenant).await.unwrap().is_empty());
    assert!(world.store.client(&tenant, &stray.id).await.unwrap().is_none());
}

// docs/design/security.md#rule-20
#[tokio::test]
async fn deletion_of_a_tenant_deletes_its_clients() {
    let world = World::start().await.unwrap();
    let client = world.register_client(NORDIC, &[], |_| ()).await.unwrap();
    let stored = world.stored_client(&client).await.unwrap();
    world.change_tenant(NORDIC, true, None).await.unwrap();
    world.store.delete_tenant(&stored.tenant).await.unwrap();
    world.store.clear_tenant(&stored.tenant).await.unwrap();
    assert!(world.store.client(&stored.tenant, &stored.id).await.unwrap().is_none());
    assert!(world.store.clients(&stored.tenant).await.unwrap().is_empty());
}
