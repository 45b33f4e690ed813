//! The links and forms of the hosted page: to whom a form belongs, how long, and what a dead link shows.

use std::time::Duration;

use doorward::domain::Medium;
use e2e::{Answer, NORDIC, Visitor, World, token_of};
use serde_json::json;

use crate::{
    MARCUS, NEW_PASSWORD, NORDIC_ADMIN,
    page::{form, is_done, reset, says},
};

const INGRID: &str = "ingrid.larsen@example.com";
const DEAD: &str = "This link no longer works";

/// The page that a link leads to, in a new browser.
async fn opened(world: &World, user: &str, code: &str) -> Answer {
    let mut visitor = Visitor::new(NORDIC);
    let link = visitor.open(world, &format!("userId={user}&code={code}")).await.unwrap();
    assert_eq!((link.status, link.header("location")), (303, "change"), "{link:?}");
    visitor.open(world, "").await.unwrap()
}

// docs/design/security.md#rule-19: another link that the browser opens does not change a form in progress.
#[tokio::test(flavor = "multi_thread")]
async fn form_in_progress_keeps_its_user_after_another_link_is_opened() {
    let world = World::start().await.unwrap();
    let (marcus, code) = reset(&world).await;
    let ingrid = world.actor(INGRID).unwrap();
    let (own, other) = (marcus.user.user_id.as_str(), ingrid.user.user_id.as_str());
    let others = world.queue_code(NORDIC, other, Medium::Mail, None).await.unwrap().code;
    let mut visitor = Visitor::new(NORDIC);
    let token = visitor.follow(&world, own, Some(&code)).await.unwrap();
    visitor.follow(&world, other, Some(others.expose())).await.unwrap();
    let refused = visitor.submit(&world, &form(&token, "short")).await.unwrap();
    says(&refused, 400, "The new password must have at least 15 characters.");
    // Neither another link nor the page after a success takes the form away.
    let again = token_of(&refused).unwrap();
    visitor.open(&world, "done=1").await.unwrap();
    is_done(&visitor.submit(&world, &form(again, NEW_PASSWORD)).await.unwrap());
    assert_eq!(world.try_login(&marcus, NEW_PASSWORD).await.unwrap().status, 200);
    assert_eq!(world.try_login(&ingrid, NEW_PASSWORD).await.unwrap().status, 401);
}

// docs/design/security.md#rule-19
#[tokio::test(flavor = "multi_thread")]
async fn form_of_another_browser_is_rejected() {
    let world = World::start().await.unwrap();
    let (marcus, code) = reset(&world).await;
    let user = marcus.user.user_id.as_str();
    let mut attacker = Visitor::new(NORDIC);
    let token = attacker.follow(&world, user, Some(&code)).await.unwrap();
    let mut visitor = Visitor::new(NORDIC);
    visitor.follow(&world, user, Some(&code)).await.unwrap();
    says(
        &visitor.submit(&world, &form(&token, NEW_PASSWORD)).await.unwrap(),
        403,
        "This form is out of date",
    );
    assert_eq!(world.try_login(&marcus, NEW_PASSWORD).await.unwrap().status, 401);
    is_done(&attacker.submit(&world, &form(&token, NEW_PASSWORD)).await.unwrap());
}

// docs/design/security.md#rule-19
#[tokio::test(flavor = "multi_thread")]
async fn form_expires_after_15_minutes() {
    let world = World::start().await.unwrap();
    let (marcus, code) = reset(&world).await;
    let user = marcus.user.user_id.as_str();
    let mut visitor = Visitor::new(NORDIC);
    let token = visitor.follow(&world, user, Some(&code)).await.unwrap();
    let life = Duration::from_secs(15 * 60);
    world.clock.advance(life);
    says(
        &visitor.submit(&world, &form(&token, NEW_PASSWORD)).await.unwrap(),
        403,
        "This form is out of date",
    );
    assert_eq!(world.try_login(&marcus, NEW_PASSWORD).await.unwrap().status, 401);
    // The code is valid for an hour: a new form works until its own end.
    let token = visitor.follow(&world, user, Some(&code)).await.unwrap();
    world.clock.advance(life.checked_sub(Duration::from_millis(1)).unwrap());
    is_done(&visitor.submit(&world, &form(&token, NEW_PASSWORD)).await.unwrap());
}

// docs/design/security.md#rule-19
#[tokio::test(flavor = "multi_thread")]
async fn dead_link_is_reported_before_the_form_and_reveals_no_user() {
    let world = World::start().await.unwrap();
    let (marcus, code) = reset(&world).await;
    let user = marcus.user.user_id.as_str();
    let unknown = opened(&world, "nobody-at-all", &code).await;
    says(&unknown, 400, DEAD);
    assert!(!unknown.text.contains("<form"), "{}", unknown.text);
    assert_eq!(unknown.cookies.len(), 1, "{unknown:?}");
    let is_same = |why: &str, answer: &Answer| {
        assert_eq!((answer.status, &answer.text), (unknown.status, &unknown.text), "{why}");
        assert_eq!(answer.cookies, unknown.cookies, "{why}");
    };
    is_same("wrong code", &opened(&world, user, "ABCDEFGHJKLMNPQRSTUV").await);
    let ingrid = world.actor(INGRID).unwrap();
    is_same("no code was requested", &opened(&world, &ingrid.user.user_id, &code).await);

    // A newer code replaces the code.
    says(&opened(&world, user, &code).await, 200, "Set a new password");
    world.clock.advance(Duration::from_secs(1));
    let newer = world.queue_code(NORDIC, user, Medium::Mail, None).await.unwrap().code;
    is_same("replaced", &opened(&world, user, &code).await);
    // The code is used.
    let mut visitor = Visitor::new(NORDIC);
    let token = visitor.follow(&world, user, Some(newer.expose())).await.unwrap();
    is_done(&visitor.submit(&world, &form(&token, NEW_PASSWORD)).await.unwrap());
    is_same("used", &opened(&world, user, newer.expose()).await);
    // The code is invalidated by an administrator's change.
    let invalidated = world.queue_code(NORDIC, user, Medium::Mail, None).await.unwrap().code;
    says(&opened(&world, user, invalidated.expose()).await, 200, "Set a new password");
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let body = json!({ "password": "nine purple lanterns" });
    assert_eq!(world.update(&admin, user, &body).await.unwrap().status, 200);
    is_same("invalidated", &opened(&world, user, invalidated.expose()).await);
    // The code has expired.
    let expired = world.queue_code(NORDIC, user, Medium::Mail, None).await.unwrap().code;
    says(&opened(&world, user, expired.expose()).await, 200, "Set a new password");
    world.clock.advance(e2e::delivery::LIFE);
    is_same("expired", &opened(&world, user, expired.expose()).await);
}

// docs/design/security.md#rule-19: otherwise opening links would allow unlimited tries of a short code.
#[tokio::test(flavor = "multi_thread")]
async fn opening_a_link_tries_no_short_code() {
    let world = World::start().await.unwrap();
    let user = world.actor(MARCUS).unwrap().user.user_id;
    let right = world.queue_code(NORDIC, &user, Medium::Text, None).await.unwrap().code;
    for code in [right.expose(), "ABCDEFGH"] {
        let page = opened(&world, &user, code).await;
        says(&page, 200, "Set a new password");
        assert!(!page.text.contains("@example.com"), "{}", page.text);
    }
    let mut visitor = Visitor::new(NORDIC);
    let token = visitor.follow(&world, &user, Some(right.expose())).await.unwrap();
    is_done(&visitor.submit(&world, &form(&token, NEW_PASSWORD)).await.unwrap());
}

// docs/design/security.md#rule-19
#[tokio::test(flavor = "multi_thread")]
async fn form_shows_the_masked_username_after_the_code_is_checked() {
    let world = World::start().await.unwrap();
    let (marcus, code) = reset(&world).await;
    let user = marcus.user.user_id.as_str();
    let masked = "m…n@example.com";
    let page = opened(&world, user, &code).await;
    says(&page, 200, masked);
    assert!(!page.text.contains(MARCUS), "{}", page.text);
    let mut visitor = Visitor::new(NORDIC);
    let token = visitor.follow(&world, user, Some(&code)).await.unwrap();
    says(&visitor.submit(&world, &form(&token, "")).await.unwrap(), 400, masked);

    // A code that a person types is checked when the form is submitted.
    let typed = world.queue_code(NORDIC, user, Medium::Text, None).await.unwrap().code;
    let mut visitor = Visitor::new(NORDIC);
    let token = visitor.follow(&world, user, None).await.unwrap();
    let page = visitor.open(&world, "").await.unwrap();
    assert!(!page.text.contains("example.com"), "{}", page.text);
    for (code, password, is_shown) in
        [("ABCDEFGH", NEW_PASSWORD, false), (typed.expose(), "", false), (typed.expose(), "short", true)]
    {
        let [a, b, c] = form(&token, password);
        let answer = visitor.submit(&world, &[a, b, c, ("code", code)]).await.unwrap();
        assert_eq!((answer.status, answer.text.contains(masked)), (400, is_shown), "{}", answer.text);
    }
}

/// A browser has one cookie for all of its forms, which scripts and other sites cannot read or set.
#[tokio::test(flavor = "multi_thread")]
async fn browser_cookie_is_set_once() {
    let world = World::start().await.unwrap();
    let (marcus, code) = reset(&world).await;
    let mut visitor = Visitor::new(NORDIC);
    visitor.open(&world, &format!("userId={}&code={code}", marcus.user.user_id)).await.unwrap();
    let form = visitor.open(&world, "").await.unwrap();
    let [cookie] = form.cookies.as_slice() else { panic!("{form:?}") };
    let value = cookie.strip_prefix("__Host-doorward-browser=").unwrap();
    assert_eq!(value.split_once(';').unwrap().1, " Path=/; Secure; HttpOnly; SameSite=Lax");
    assert_eq!(value.split_once(';').unwrap().0.len(), 22);
    assert_eq!(visitor.open(&world, "").await.unwrap().cookies, Vec::<String>::new());
    let mut other = Visitor::new(NORDIC);
    other.follow(&world, &marcus.user.user_id, Some(&code)).await.unwrap();
    assert_ne!(other.cookies, visitor.cookies);
}
