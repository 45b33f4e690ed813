//! Times that `doorwardctl` stores while the clock of its machine is wrong.

use doorward::{domain::TenantId, function::SystemClock, port::Clock};
use e2e::NORDIC;
use jiff::SignedDuration;

use crate::{
    doctor::{Patient, Plant},
    run,
};

/// Seconds that the clock of AWS is ahead of this machine.
const AHEAD: i64 = 60;

// docs/design/security.md#rule-16, #rule-18: a time in the past of the functions makes them refuse valid tokens.
#[tokio::test]
async fn times_of_changes_follow_the_clock_of_aws() {
    let patient = Patient::healthy().await;
    let store = &patient.stack.world.store;
    patient.set(Plant::Behind(-AHEAD));
    // The header has no fractions of a second.
    let earliest = SystemClock.now() + SignedDuration::from_secs(AHEAD - 2);
    let environment = patient.environment();
    run(&["tenant", "root-key", "rotate", NORDIC], &environment, "").await.succeeded();
    let update = ["tenant", "update", NORDIC, "--set", "algorithm=HS256"];
    run(&update, &environment, "").await.succeeded();
    let tenant = store.tenant(&TenantId::parse(NORDIC).unwrap()).await.unwrap().unwrap();
    assert!(tenant.active_secret.unwrap().since > earliest);
    assert!(tenant.previous_algorithm.unwrap().replaced_at > earliest);
}
