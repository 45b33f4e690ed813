//! Codes that a change of the user invalidates while a request uses them.

use e2e::fault_proxy::{Effect, Fault, Gate, Operation};

use super::*;

/// Change of a user that invalidates the user's reset code.
#[derive(Debug, Clone, Copy)]
enum Change {
    /// The user changes the own password.
    Own,
    /// An administrator sets the user's password.
    ByAdministrator,
    /// An operator replaces the mail address of the user.
    Address,
    /// An operator makes the user an administrator.
    Role,
}

const CHANGED_PASSWORD: &str = "the password of the change";

/// Logins that may make a change.
struct Changers {
    user: Login,
    admin: Login,
}

impl Changers {
    async fn log_in(world: &World, actor: &Actor) -> Result<Self> {
        Ok(Self { user: world.login(actor).await?, admin: world.login(&world.actor(NORDIC_ADMIN)?).await? })
    }

    async fn make(&self, world: &World, change: Change) -> Result<()> {
        let Actor { user, .. } = &self.user.actor;
        let own = json!({ "password": CHANGED_PASSWORD, "currentPassword": user.password });
        let set = json!({ "password": CHANGED_PASSWORD, "changeRequired": false });
        let answer = match change {
            Change::Own => world.update(&self.user, &user.user_id, &own).await?,
            Change::ByAdministrator => world.update(&self.admin, &user.user_id, &set).await?,
            Change::Address => {
                let known = world.user(&self.user.actor).await?;
                let email = Some("marcus@elsewhere.example".to_owned());
                let moved = |user: &User| Ok(User { email: email.clone(), ..user.clone() });
                let moved = world.store.update_user(&known.tenant, &known.id, moved).await?;
                assert_eq!(moved.unwrap().email, email);
                return Ok(());
            }
            Change::Role => {
                let known = world.user(&self.user.actor).await?;
                let promoted = |user: &User| {
                    Ok(User {
                        roles: vec![doorward::domain::Role::User, doorward::domain::Role::Admin],
                        ..user.clone()
                    })
                };
                assert!(world.store.update_user(&known.tenant, &known.id, promoted).await?.is_some());
                return Ok(());
            }
        };
        assert_eq!(answer.status, 200, "{change:?}: {answer:?}");
        Ok(())
    }

    /// Checks that the password is the one that the change left, and not [`NEW_PASSWORD`].
    async fn check_password(&self, world: &World, change: Change) -> Result<()> {
        let actor = &self.user.actor;
        assert!(!logs_in(world, actor, NEW_PASSWORD).await?, "{change:?}: the invalid code set a password");
        let expected = match change {
            Change::Own | Change::ByAdministrator => CHANGED_PASSWORD,
            Change::Address | Change::Role => &actor.user.password,
        };
        assert!(logs_in(world, actor, expected).await?, "{change:?}");
        Ok(())
    }
}

/// Makes each change while a request that uses the code is held. `hold` starts the hold.
async fn change_while_held(hold: impl Fn(&World) -> Gate) -> Result<()> {
    for change in [Change::Own, Change::ByAdministrator, Change::Address, Change::Role] {
        let world = World::start().await?;
        let actor = world.actor(MARCUS)?;
        let user = &actor.user.user_id;
        let changers = Changers::log_in(&world, &actor).await?;
        let code = mailed_code(&world, user).await?;
        let gate = hold(&world);
        let (answer, changed) = tokio::join!(set(&world, user, &code, NEW_PASSWORD), async {
            gate.reached().await;
            let changed = changers.make(&world, change).await;
            gate.release();
            changed
        });
        changed?;
        assert!(is_invalid_code(&answer?), "{change:?}");
        changers.check_password(&world, change).await?;
    }
    Ok(())
}

// docs/design/security.md#rule-19
#[tokio::test(flavor = "multi_thread")]
async fn code_that_becomes_invalid_during_hashing_sets_no_password() -> Result<()> {
    change_while_held(|world| world.passwords.hold_next_hash()).await
}

// docs/design/security.md#rule-19: the batch read returns the code from before the change and the user from
// after it.
#[tokio::test(flavor = "multi_thread")]
async fn code_that_becomes_invalid_during_a_torn_read_sets_no_password() -> Result<()> {
    let tear = || Fault::on(Operation::BatchGetItem, Effect::Tear).sk("USER");
    change_while_held(|world| world.faults.inject(tear())).await
}

// docs/design/security.md#rule-19
#[tokio::test(flavor = "multi_thread")]
async fn code_sets_the_password_if_a_change_during_hashing_leaves_it_valid() -> Result<()> {
    let world = World::start().await?;
    let actor = world.actor(MARCUS)?;
    let user = &actor.user.user_id;
    let code = mailed_code(&world, user).await?;
    let gate = world.passwords.hold_next_hash();
    let (answer, changed) = tokio::join!(set(&world, user, &code, NEW_PASSWORD), async {
        gate.reached().await;
        let known = world.user(&actor).await.unwrap();
        let changed = |user: &User| Ok(User { locale: Some("fr".to_owned()), ..user.clone() });
        let changed = world.store.update_user(&known.tenant, &known.id, changed).await;
        gate.release();
        changed
    });
    assert!(changed?.is_some());
    assert_eq!(answer?.status, 200);
    assert!(logs_in(&world, &actor, NEW_PASSWORD).await?);
    Ok(())
}
