//! Users by page, ID, mail address and name, and the items that find them
//! (docs/design/storage.md#users-of-a-tenant).

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use doorward::{
    domain::{
        AttemptId, CodeKind, CodeProof, CodePurpose, OrganizationId, ResetCode, TenantId, User, UserId,
        UserStatus, Username,
    },
    port::Clock,
    store::{
        CodeTry, Committed, DynamoStore, Guard, GuardedChange, MAX_OFFSET, MAX_USERS, NewCode, SpentCode,
        Switched, UserExtras, UserPage, UsersOf,
    },
};
use e2e::{
    Actor, Login, NORDIC, World,
    fault_proxy::{Effect, Fault, Operation},
};
use local::{
    TABLE,
    dynamodb::{EmbeddedValue, Item},
};
use tokio::task::JoinSet;

use crate::{ADMIN, MARCUS, NORDIC_ADMIN};

fn nordic() -> TenantId {
    TenantId::parse(NORDIC).unwrap()
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

/// Returns a user like Marcus with another ID and name, without addresses.
async fn member(world: &World, id: &str) -> User {
    let marcus = world.user(&world.actor(MARCUS).unwrap()).await.unwrap();
    User {
        id: UserId::parse(id).unwrap(),
        username: Username::parse(&format!("{id}@members.example")).unwrap(),
        email: None,
        phone: None,
        ..marcus
    }
}

async fn add(world: &World, user: &User) -> Committed {
    world.store.add_user(user, &UserExtras::default(), world.clock.now()).await.unwrap()
}

fn ids<'a>(users: impl IntoIterator<Item = &'a User>) -> Vec<&'a str> {
    users.into_iter().map(|user| user.id.as_str()).collect()
}

/// Returns the sort and partition keys of all items with `user_id`, except those in the partition of the user.
async fn finders(world: &World, user: &str) -> BTreeSet<String> {
    let scan = world.dynamodb.scan().table_name(TABLE).consistent_read(true).send().await.unwrap();
    let items = scan.items().iter().filter(|item| item.get("user_id") == Some(&text(user)));
    let keys = items.map(|item| (item["pk"].as_s().unwrap(), item["sk"].as_s().unwrap()));
    keys.filter(|(_, sk)| *sk == "USERNAME" || sk.starts_with("U#")).map(|(pk, _)| pk.clone()).collect()
}

async fn all_pages(world: &World, of: UsersOf<'_>, limit: usize) -> Vec<User> {
    let (mut users, mut after) = (Vec::new(), None);
    loop {
        let page: UserPage = world.store.users_after(&of, after.as_ref(), limit).await.unwrap();
        assert!(page.users.len() <= limit && page.unreadable.is_empty());
        users.extend(page.users);
        after = page.next;
        if after.is_none() {
            return users;
        }
    }
}

#[tokio::test]
async fn pages_and_offsets_list_each_user_once_by_organization_and_id() {
    let world = World::start().await.unwrap();
    let organization = OrganizationId::parse("a#U#b").unwrap();
    for number in 0..7 {
        let user = User { organization: organization.clone(), ..member(&world, &format!("m{number}")).await };
        assert_eq!(add(&world, &user).await, Committed::Done);
    }
    let similar = OrganizationId::parse("a").unwrap();
    add(&world, &User { organization: similar.clone(), ..member(&world, "b").await }).await;
    let tenant = nordic();
    let everyone = UsersOf { tenant: &tenant, organization: None };
    let all = all_pages(&world, everyone, MAX_USERS).await;
    let demo = world.actor(NORDIC_ADMIN).unwrap().tenant.users.len();
    assert_eq!(ids(&all).into_iter().collect::<BTreeSet<_>>().len(), demo + 8);
    assert_eq!(ids(&all_pages(&world, everyone, 3).await), ids(&all));
    let of = UsersOf { tenant: &tenant, organization: Some(&organization) };
    let members = ["m0", "m1", "m2", "m3", "m4", "m5", "m6"];
    assert_eq!(ids(&all_pages(&world, of, 2).await), members);
    assert_eq!(ids(&all_pages(&world, UsersOf { organization: Some(&similar), ..of }, 9).await), ["b"]);
    for (offset, limit, expected) in [
        (0, 2, &members[..2]),
        (5, 9, &members[5..]),
        (6, 1, &members[6..]),
        (7, 9, &[]),
        (MAX_OFFSET, 9, &[]),
    ] {
        let page = world.store.users_from(&of, offset, limit).await.unwrap();
        assert_eq!(ids(&page.users), expected, "{offset} {limit}");
    }
    let elsewhere = TenantId::parse("cloudvault_prod_001").unwrap();
    let page = world.store.users_after(&UsersOf { tenant: &elsewhere, ..of }, None, 9).await.unwrap();
    assert!(page.users.is_empty(), "docs/design/security.md#rule-20");
}

// docs/design/security.md#rule-20: no look-up returns a user of another tenant.
#[tokio::test]
async fn users_are_found_by_id_name_and_address_within_their_tenant() {
    let world = World::start().await.unwrap();
    let tenant = nordic();
    let [first, second] = [member(&world, "first").await, member(&world, "second").await];
    let first = User { email: Some("Shared@example.com".to_owned()), ..first };
    let second = User { unverified_email: Some("shared@example.com".to_owned()), ..second };
    for user in [&first, &second] {
        assert_eq!(add(&world, user).await, Committed::Done);
    }
    let shared = world.store.users_by_email(&tenant, "SHARED@example.com").await.unwrap();
    assert_eq!((ids(&shared.users), shared.are_more), (vec!["first", "second"], false));
    let id = |id: &str| UserId::parse(id).unwrap();
    let wanted = [id("second"), id("nobody"), id("first"), id("second")];
    assert_eq!(ids(&world.store.users_by_id(&tenant, &wanted).await.unwrap()), ["second", "first"]);
    let name = Username::parse("FIRST@members.example").unwrap();
    assert_eq!(world.store.user_by_name(&tenant, &name).await.unwrap().unwrap().id, first.id);
    let unknown = Username::parse("nobody@members.example").unwrap();
    assert!(world.store.user_by_name(&tenant, &unknown).await.unwrap().is_none());
    assert!(world.store.users_by_id(&tenant, &[]).await.unwrap().is_empty());
    let elsewhere = TenantId::parse(&world.actor(ADMIN).unwrap().tenant.tenant_id).unwrap();
    assert!(world.store.users_by_email(&elsewhere, "shared@example.com").await.unwrap().users.is_empty());
    assert!(world.store.users_by_id(&elsewhere, std::slice::from_ref(&first.id)).await.unwrap().is_empty());
    assert!(world.store.user_by_name(&elsewhere, &name).await.unwrap().is_none());
}

// The user item decides, not the items that find it.
#[tokio::test]
async fn outdated_items_find_no_user() {
    let world = World::start().await.unwrap();
    let tenant = nordic();
    let user = User { email: Some("old@example.com".to_owned()), ..member(&world, "moved").await };
    add(&world, &user).await;
    let organization = user.organization.clone();
    let set = async |name: &str, value: &str| {
        let update = world.dynamodb.update_item().table_name(TABLE);
        let update = update.key("pk", text(&format!("T#{NORDIC}#U#moved"))).key("sk", text("USER"));
        let update = update.update_expression("SET #name = :value").expression_attribute_names("#name", name);
        update.expression_attribute_values(":value", text(value)).send().await.unwrap();
    };
    set("organization_id", "elsewhere").await;
    set("email", "new@example.com").await;
    set("username", "new@members.example").await;
    let of = UsersOf { tenant: &tenant, organization: Some(&organization) };
    assert!(!ids(&all_pages(&world, of, MAX_USERS).await).contains(&"moved"));
    assert!(world.store.users_by_email(&tenant, "old@example.com").await.unwrap().users.is_empty());
    assert!(world.store.user_by_name(&tenant, &user.username).await.unwrap().is_none());
}

// docs/design/contract.md#ids: a username belongs to one user.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_concurrent_creations_of_one_name_create_one_user() {
    let world = Arc::new(World::start().await.unwrap());
    let name = Username::parse("wanted@members.example").unwrap();
    let mut creations = JoinSet::new();
    for number in 0..50 {
        let user = User {
            username: name.clone(),
            email: Some("wanted@example.com".to_owned()),
            ..member(&world, &format!("m{number}")).await
        };
        let world = Arc::clone(&world);
        creations.spawn(async move { (add(&world, &user).await, user.id) });
    }
    let done = creations.join_all().await;
    let (won, lost): (Vec<_>, Vec<_>) = done.into_iter().partition(|(done, _)| *done == Committed::Done);
    assert_eq!((won.len(), lost.len()), (1, 49));
    assert!(lost.iter().all(|(done, _)| *done == Committed::Refused(Guard::Username)), "{lost:?}");
    let owner = world.store.user_by_name(&nordic(), &name).await.unwrap().unwrap();
    let found = world.store.users_by_email(&nordic(), "wanted@example.com").await.unwrap().users;
    assert_eq!((owner.id.as_str(), ids(&found)), (won[0].1.as_str(), vec![won[0].1.as_str()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_creations_with_one_mail_address_are_all_found() {
    let world = Arc::new(World::start().await.unwrap());
    let mut creations = JoinSet::new();
    for number in 0..50 {
        let email = Some(format!("{}@example.com", if number % 2 == 0 { "family" } else { "Family" }));
        let user = User { email, ..member(&world, &format!("m{number}")).await };
        let world = Arc::clone(&world);
        creations.spawn(async move { add(&world, &user).await });
    }
    assert!(creations.join_all().await.iter().all(|done| *done == Committed::Done));
    let found = world.store.users_by_email(&nordic(), "family@example.com").await.unwrap();
    assert_eq!((found.users.len(), found.are_more), (50, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_address_changes_leave_one_mail_item() {
    let world = Arc::new(World::start().await.unwrap());
    let user = User { email: Some("a0@example.com".to_owned()), ..member(&world, "mover").await };
    add(&world, &user).await;
    for round in 0..3 {
        let mut changes = JoinSet::new();
        for number in 0..6 {
            let (world, id) = (Arc::clone(&world), user.id.clone());
            changes.spawn(async move {
                let address = format!("a{}@example.com", round * 6 + number);
                let change = |old: &User| {
                    let (email, unverified_email) = match number % 3 {
                        0 => (Some(address.clone()), None),
                        1 => (None, Some(address.clone())),
                        _ => (None, None),
                    };
                    Ok(User { email, unverified_email, ..old.clone() })
                };
                world.store.update_user(&nordic(), &id, change).await
            });
        }
        assert!(changes.join_all().await.iter().any(Result::is_ok));
        let now = world.store.user(&nordic(), &user.id).await.unwrap().unwrap();
        let mut expected = BTreeSet::from([format!("T#{NORDIC}#N#mover@members.example")]);
        expected.extend(now.any_email().map(|address| format!("T#{NORDIC}#M#{address}")));
        assert_eq!(finders(&world, "mover").await, expected, "round {round}");
    }
}

// docs/design/security.md#rule-15
#[tokio::test(flavor = "multi_thread")]
async fn nothing_survives_a_deletion_during_logins_and_refreshes() {
    let world = Arc::new(World::start().await.unwrap());
    let marcus = world.actor(MARCUS).unwrap();
    let (tenant, id) = (nordic(), UserId::parse(&marcus.user.user_id).unwrap());
    let first = world.login(&marcus).await.unwrap();
    let mut requests = JoinSet::new();
    for number in 0..20 {
        let (world, marcus, login) = (Arc::clone(&world), marcus.clone(), first.clone());
        requests.spawn(async move {
            if number % 2 == 0 {
                world.try_login(&marcus, &marcus.user.password).await.unwrap()
            } else {
                world.refresh(&login).await.unwrap()
            }
        });
    }
    let deleted = {
        let (world, tenant, id) = (Arc::clone(&world), tenant.clone(), id.clone());
        tokio::spawn(async move { world.store.delete_user(&tenant, &id).await })
    };
    let answers = requests.join_all().await;
    assert_eq!(deleted.await.unwrap().unwrap(), Switched::Done);
    let granted = answers.iter().filter_map(|answer| Login::from_answer(&marcus, answer).ok());
    for login in granted.chain([first]) {
        assert!(!world.opens(&login).await.unwrap());
        assert_eq!(world.refresh(&login).await.unwrap().verdict(), (401, "SESSION_TERMINATED"));
    }
    assert!(world.store.user(&tenant, &id).await.unwrap().is_none());
    assert_eq!(finders(&world, id.as_str()).await, BTreeSet::new());
    let of = UsersOf { tenant: &tenant, organization: None };
    assert!(!ids(&all_pages(&world, of, MAX_USERS).await).contains(&id.as_str()));
}

/// Returns a new code for an address of `user`, and its stored hash.
fn code(
    world: &World,
    user: &User,
    purpose: CodePurpose,
    replaces: Option<AttemptId>,
) -> (NewCode, CodeProof) {
    let now = world.clock.now();
    let proof = CodeProof { kind: CodeKind::Typed, digest: format!("{now:?}"), key_version: 1 };
    let id = AttemptId::new(now, [u8::from(replaces.is_some()); 16]);
    let code = ResetCode {
        id,
        proof: Some(proof.clone()),
        ends_at: now + Duration::from_secs(600),
        sent: Vec::new(),
        spent: None,
    };
    let new = NewCode {
        tenant: user.tenant.clone(),
        user: user.id.clone(),
        purpose,
        replaces,
        code,
        message: None,
        result: None,
    };
    (new, proof)
}

fn spending(purpose: CodePurpose, proof: &CodeProof) -> UserExtras {
    let spent = Some(SpentCode { purpose, proof: proof.clone(), submission: "form".to_owned() });
    UserExtras { spent, ..UserExtras::default() }
}

fn verified(user: &User) -> User {
    User {
        email: user.email.clone().or(user.unverified_email.clone()),
        unverified_email: None,
        phone: user.phone.clone().or(user.unverified_phone.clone()),
        unverified_phone: None,
        sequence: user.sequence,
        ..user.clone()
    }
}

// docs/design/security.md#rule-19: a code verifies only the address that it was sent to, and only once.
#[tokio::test]
async fn code_verifies_its_address_once_and_dies_with_the_address() {
    let world = World::start().await.unwrap();
    let tenant = nordic();
    for purpose in [CodePurpose::Email, CodePurpose::Phone] {
        let id = format!("owner-of-{}", purpose.name());
        let with = |address: &str, user: User| match purpose {
            CodePurpose::Email => User { unverified_email: Some(format!("{address}@example.com")), ..user },
            _ => User { unverified_phone: Some(format!("+45{address}")), ..user },
        };
        let first = with("11111111", member(&world, &id).await);
        assert_eq!(add(&world, &first).await, Committed::Done);
        let read = async || world.store.user(&tenant, &first.id).await.unwrap().unwrap();
        let user = read().await;
        let now = world.clock.now();
        let change = GuardedChange { own_session: None, target: &user, now };
        let (new, proof) = code(&world, &user, purpose, None);
        assert_eq!(world.store.issue_code(Some(&change), &new).await.unwrap(), Committed::Done);
        let attempt =
            CodeTry { tenant: &tenant, user: &user.id, purpose, id: AttemptId::new(now, [9; 16]), now };
        assert_eq!(
            world.store.reserve_code_try(&attempt).await.unwrap().unwrap().proof.as_ref(),
            Some(&proof)
        );
        let other = if purpose == CodePurpose::Email { CodePurpose::Phone } else { CodePurpose::Email };
        let wrong = CodeTry { purpose: other, ..attempt };
        assert!(world.store.reserve_code_try(&wrong).await.unwrap().is_none(), "{purpose:?}");

        // The new address kills the code, and a code for the old address cannot be issued any more.
        let moved = with("22222222", user.clone());
        let done = world.store.change_user(&change, &moved, &UserExtras::default()).await.unwrap();
        assert_eq!(done, Committed::Done);
        assert!(world.store.reserve_code_try(&attempt).await.unwrap().is_none(), "{purpose:?}");
        let user = read().await;
        let again = GuardedChange { own_session: None, target: &user, now };
        let (new, dead) = (verified(&user), spending(purpose, &proof));
        let refused = world.store.change_user(&again, &new, &dead).await.unwrap();
        assert_eq!(refused, Committed::Refused(Guard::Code));
        let known = world.store.code(&tenant, &user.id, purpose).await.unwrap().unwrap();
        world.clock.advance(Duration::from_secs(1));
        let (next, proof) = code(&world, &user, purpose, Some(known.id));
        let late = world.store.issue_code(Some(&change), &next).await.unwrap();
        assert_eq!(late, Committed::Refused(Guard::Target), "the address was read before its change");
        assert_eq!(world.store.issue_code(Some(&again), &next).await.unwrap(), Committed::Done);

        let spent = spending(purpose, &proof);
        let done = world.store.change_user(&again, &verified(&user), &spent).await.unwrap();
        assert_eq!(done, Committed::Done);
        let user = read().await;
        assert_eq!((&user.unverified_email, &user.unverified_phone), (&None, &None));
        assert!(user.any_email().or(user.any_phone()).unwrap().contains("22222222"));
        let twice = GuardedChange { own_session: None, target: &user, now };
        let twice = world.store.change_user(&twice, &user, &spent).await.unwrap();
        assert_eq!(twice, Committed::Refused(Guard::Code), "a code works once");
    }
}

// docs/design/security.md#rule-15
#[tokio::test]
async fn change_of_the_own_user_needs_the_live_session_and_an_unchanged_user() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let login = world.login(&marcus).await.unwrap();
    let (session, user) = (world.session(&login).await.unwrap(), world.user(&marcus).await.unwrap());
    let now = world.clock.now();
    let change = GuardedChange { own_session: Some(&session), target: &user, now };
    let new = User { locale: Some("de".to_owned()), ..user.clone() };
    let none = UserExtras::default();
    assert_eq!(world.store.change_user(&change, &new, &none).await.unwrap(), Committed::Done);
    let outdated = world.store.change_user(&change, &new, &none).await.unwrap();
    assert_eq!(outdated, Committed::Refused(Guard::Caller), "the user changed");
    let user = world.user(&marcus).await.unwrap();
    let other_epoch = User { session_epoch: user.session_epoch + 1, ..user.clone() };
    let change = GuardedChange { own_session: Some(&session), target: &other_epoch, now };
    let refused = world.store.change_user(&change, &other_epoch, &none).await.unwrap();
    assert_eq!(refused, Committed::Refused(Guard::Caller), "the sessions ended");
    world.logout(&login).await.unwrap();
    let change = GuardedChange { own_session: Some(&session), target: &user, now };
    for done in [
        world.store.change_user(&change, &user, &none).await.unwrap(),
        world.store.remove_user(&change, None).await.unwrap(),
    ] {
        assert_eq!(done, Committed::Refused(Guard::Caller), "the session ended");
    }
    let change = GuardedChange { own_session: None, target: &user, now };
    assert_eq!(world.store.remove_user(&change, None).await.unwrap(), Committed::Done);
    let gone = world.store.change_user(&change, &user, &none).await.unwrap();
    assert_eq!(gone, Committed::Refused(Guard::Target));
    assert_eq!(finders(&world, user.id.as_str()).await, BTreeSet::new());
}

// docs/design/security.md#rule-9, #rule-15: a locked user is refused like a disabled one, until it is unlocked.
#[tokio::test]
async fn locking_ends_sessions_and_unlocking_lifts_the_lockout() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let login = world.login(&marcus).await.unwrap();
    let set = async |status| {
        let user = world.user(&marcus).await.unwrap();
        let change = GuardedChange { own_session: None, target: &user, now: world.clock.now() };
        let new = User { status, ..user.clone() };
        world.store.change_user(&change, &new, &UserExtras::default()).await.unwrap()
    };
    assert_eq!(set(UserStatus::Locked).await, Committed::Done);
    assert!(!world.opens(&login).await.unwrap());
    assert_eq!(world.refresh(&login).await.unwrap().verdict(), (401, "SESSION_TERMINATED"));
    for _ in 0..5 {
        let refused = world.try_login(&marcus, &marcus.user.password).await.unwrap();
        assert_eq!(refused.verdict(), (401, "AUTHENTICATION"));
    }
    assert_eq!(world.try_login(&marcus, "wrong").await.unwrap().verdict(), (401, "ACCOUNT_LOCKED"));
    assert_eq!(set(UserStatus::Active).await, Committed::Done);
    assert!(!world.opens(&login).await.unwrap(), "earlier sessions stay ended");
    assert!(world.login(&marcus).await.is_ok());
}

// A repair must not delete the item of an address that the user gets meanwhile, and must not index an outdated user.
#[tokio::test(flavor = "multi_thread")]
async fn repair_keeps_the_items_of_a_user_that_changes_meanwhile() {
    let world = Arc::new(World::start().await.unwrap());
    let direct = DynamoStore::new(world.dynamodb.clone(), TABLE.to_owned());
    let (tenant, organization) = (nordic(), OrganizationId::parse("elsewhere").unwrap());
    // The first transaction repairs the index, the second one deletes the mail item.
    for number in [1, 2] {
        let id = format!("changing-{number}");
        let [before, after] = ["old", "new"].map(|name| Some(format!("{name}-{number}@example.com")));
        let user = User { email: before, ..member(&world, &id).await };
        add(&world, &user).await;
        let new = after.clone().unwrap();
        let put = world.dynamodb.put_item().table_name(TABLE).item("user_id", text(&id));
        let put = put.item("pk", text(&format!("T#{NORDIC}#M#{new}"))).item("sk", text(&format!("U#{id}")));
        put.send().await.unwrap();
        let update = world.dynamodb.update_item().table_name(TABLE).update_expression("REMOVE users_of");
        let update = update.key("pk", text(&format!("T#{NORDIC}#U#{id}"))).key("sk", text("USER"));
        update.send().await.unwrap();
        let fault = Fault::on(Operation::TransactWriteItems, Effect::HoldBefore).nth(number);
        let held = world.faults.inject(fault);
        let repair = {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.store.check_table(true).await })
        };
        held.reached().await;
        let change =
            |old: &User| Ok(User { email: after.clone(), organization: organization.clone(), ..old.clone() });
        direct.update_user(&tenant, &user.id, change).await.unwrap();
        held.release();
        repair.await.unwrap().unwrap();
        let found = world.store.users_by_email(&tenant, &new).await.unwrap();
        assert_eq!(ids(&found.users), [id.as_str()]);
        let of = UsersOf { tenant: &tenant, organization: Some(&organization) };
        assert_eq!(all_pages(&world, of, MAX_USERS).await.len(), number);
        let check = world.store.check_table(false).await.unwrap();
        assert!(check.faults.is_empty(), "{check:?}");
    }
}

/// Number of users in the large tenant.
const MANY: usize = 100_000;

/// The users that the test looks up. Only they have items that find them, because these items have other partitions.
const KNOWN: [usize; 3] = [3, MANY / 2, MANY - 3];

/// Returns the items of a user with the index `number`.
fn items(model: &Item, number: usize) -> Vec<Item> {
    let id = format!("bulk-{number:06}");
    let address = format!("{id}@bulk.example");
    let position = format!("{}{id}", position_prefix(model));
    let mut user = model.clone();
    user.extend(attributes([
        ("pk", format!("T#{NORDIC}#U#{id}")),
        ("user_id", id.clone()),
        ("username", address.clone()),
        ("email", address.clone()),
        ("users_position", position),
    ]));
    let finder =
        |pk: String, sk: String| attributes([("pk", pk), ("sk", sk), ("user_id", id.clone())]).collect();
    let mut items = vec![user];
    if KNOWN.contains(&number) {
        items.push(finder(format!("T#{NORDIC}#N#{address}"), "USERNAME".to_owned()));
        items.push(finder(format!("T#{NORDIC}#M#{address}"), format!("U#{id}")));
    }
    items
}

/// Returns the sort key of the index of a user, without the ID.
fn position_prefix(model: &Item) -> String {
    match &model["organization_id"] {
        EmbeddedValue::S(organization) => format!("O#{organization}#U#"),
        other => unreachable!("{other:?}"),
    }
}

fn attributes<const N: usize>(texts: [(&str, String); N]) -> impl Iterator<Item = (String, EmbeddedValue)> {
    texts.map(|(name, value)| (name.to_owned(), EmbeddedValue::S(value))).into_iter()
}

/// Returns the DynamoDB calls of each operation on the user with the index `number`.
async fn calls(
    world: &World,
    marcus: &Actor,
    number: usize,
    offset: usize,
) -> Vec<(&'static str, Vec<String>)> {
    let tenant = nordic();
    let of = UsersOf { tenant: &tenant, organization: None };
    let id = UserId::parse(&format!("bulk-{number:06}")).unwrap();
    let address = format!("{id}@bulk.example");
    let name = Username::parse(&address).unwrap();
    let mut actor = marcus.clone();
    actor.user.user_id = id.to_string();
    actor.user.username.clone_from(&address);
    let mut seen = Vec::new();
    // Loads the tenant.
    world.login(marcus).await.unwrap();
    world.calls.take();
    let mut note = |what| seen.push((what, world.calls.take()));
    let page = world.store.users_from(&of, offset, 5).await.unwrap();
    assert_eq!(page.users.len(), 5);
    note("list");
    assert_eq!(world.store.users_by_id(&tenant, std::slice::from_ref(&id)).await.unwrap().len(), 1);
    note("by id");
    assert_eq!(world.store.users_by_email(&tenant, &address).await.unwrap().users.len(), 1);
    note("by address");
    assert!(world.store.user_by_name(&tenant, &name).await.unwrap().is_some());
    note("by name");
    let login = world.login(&actor).await.unwrap();
    note("login");
    assert_eq!(world.try_login_by_name(&actor, &actor.user.password).await.unwrap().status, 200);
    note("login by name");
    world.refreshed(&login).await.unwrap();
    note("refresh");
    let new = User {
        id: UserId::parse(&format!("new-{number}")).unwrap(),
        username: Username::parse(&format!("new-{number}@bulk.example")).unwrap(),
        email: Some(address.clone()),
        ..world.store.user(&tenant, &id).await.unwrap().unwrap()
    };
    world.calls.take();
    assert_eq!(add(world, &new).await, Committed::Done);
    seen.push(("create", world.calls.take()));
    assert_eq!(world.store.delete_user(&tenant, &new.id).await.unwrap(), Switched::Done);
    seen.push(("delete", world.calls.take()));
    seen
}

#[tokio::test]
async fn operations_make_the_same_calls_with_100000_users_as_with_10() {
    let world = World::start().await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let key = world.dynamodb.get_item().table_name(TABLE);
    let key = key.key("pk", text(&format!("T#{NORDIC}#U#{}", marcus.user.user_id))).key("sk", text("USER"));
    let stored = key.send().await.unwrap().item.unwrap();
    let embedded = |value| match value {
        AttributeValue::S(text) => EmbeddedValue::S(text),
        AttributeValue::N(number) => EmbeddedValue::N(number),
        AttributeValue::Bool(flag) => EmbeddedValue::BOOL(flag),
        AttributeValue::L(texts) => EmbeddedValue::L(
            texts.into_iter().map(|text| EmbeddedValue::S(text.as_s().unwrap().clone())).collect(),
        ),
        other => panic!("{other:?}"),
    };
    let model: Item = stored.into_iter().map(|(name, value)| (name, embedded(value))).collect();
    world.import_items((0..10).flat_map(|number| items(&model, number)).collect()).unwrap();
    let few = calls(&world, &marcus, KNOWN[0], 4).await;
    world.import_items((10..MANY).flat_map(|number| items(&model, number)).collect()).unwrap();
    let many = calls(&world, &marcus, KNOWN[2], 4).await;
    assert_eq!(few, many);
    let last = calls(&world, &marcus, KNOWN[1], MAX_OFFSET).await;
    let queries = last[0].1.iter().filter(|call| *call == "Query").count();
    assert!((2..=5).contains(&queries), "{last:?}");
    assert_eq!(last[1..], few[1..]);
}
