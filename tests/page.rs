//! The hosted password page in a browser without scripts.

use doorward::{domain::TenantId, port::Clock};
use e2e::{Actor, Answer, LINK_COOKIE, Visitor, World};
use serde_json::json;

use crate::{ADMIN, MARCUS, NEW_PASSWORD, NORDIC_ADMIN};

const SHORT: &str = "sh0rt&<pass>";

/// A user whose login was reset, and the code in the message.
pub(crate) async fn reset(world: &World) -> (Actor, String) {
    let admin = world.login(&world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
    let marcus = world.actor(MARCUS).unwrap();
    let answer = world.reset(&admin, &json!({ "userId": marcus.user.user_id })).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let code = world.newest_code(&marcus.tenant.tenant_id, &marcus.user.user_id).await.unwrap();
    (marcus, code)
}

pub(crate) fn form<'a>(token: &'a str, password: &'a str) -> [(&'a str, &'a str); 3] {
    [("token", token), ("password", password), ("repeated", password)]
}

pub(crate) fn says(answer: &Answer, status: i64, text: &str) {
    assert!(answer.status == status && answer.text.contains(text), "{answer:?}");
}

pub(crate) fn is_done(answer: &Answer) {
    assert_eq!((answer.status, answer.header("location")), (303, "change?done=1"), "{answer:?}");
}

// docs/design/security.md#rule-19
#[tokio::test(flavor = "multi_thread")]
async fn reset_link_leads_through_the_form_to_a_new_password() {
    let world = World::start().await.unwrap();
    let (marcus, code) = reset(&world).await;
    let mut visitor = Visitor::new(&marcus.tenant.tenant_id);
    // A mail scanner follows the link several times, which does not use the code.
    for _ in 0..3 {
        Visitor::new(&marcus.tenant.tenant_id)
            .follow(&world, &marcus.user.user_id, Some(&code))
            .await
            .unwrap();
    }
    let query = format!("userId={}&code={code}", marcus.user.user_id);
    let link = visitor.open(&world, &query).await.unwrap();
    assert_eq!((link.status, link.header("location"), link.text.as_str()), (303, "change", ""));
    let [cookie] = link.cookies.as_slice() else { panic!("{link:?}") };
    assert!(cookie.starts_with("__Host-doorward-reset="), "{cookie}");
    assert!(cookie.ends_with("; Path=/; Max-Age=900; Secure; HttpOnly; SameSite=Lax"), "{cookie}");
    assert!(!cookie.contains(&code), "{cookie}");

    let token = visitor.follow(&world, &marcus.user.user_id, Some(&code)).await.unwrap();
    is_done(&visitor.submit(&world, &form(&token, NEW_PASSWORD)).await.unwrap());
    let done = visitor.open(&world, "done=1").await.unwrap();
    says(&done, 200, "Your password was set");
    assert!(visitor.cookie(LINK_COOKIE).is_none(), "the cookie was not deleted");
    says(&visitor.open(&world, "").await.unwrap(), 200, "Open the link once more");
    assert_eq!(world.try_login(&marcus, NEW_PASSWORD).await.unwrap().status, 200);
    assert_eq!(world.try_login(&marcus, &marcus.user.password).await.unwrap().status, 401);
    // The code is used. The link leads to a page that reports it.
    visitor.open(&world, &query).await.unwrap();
    says(&visitor.open(&world, "").await.unwrap(), 400, "This link no longer works");
    assert!(visitor.cookie(LINK_COOKIE).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn form_submitted_twice_succeeds_once() {
    let world = World::start().await.unwrap();
    let (marcus, code) = reset(&world).await;
    let mut visitor = Visitor::new(&marcus.tenant.tenant_id);
    let token = visitor.follow(&world, &marcus.user.user_id, Some(&code)).await.unwrap();
    let fields = form(&token, NEW_PASSWORD);
    let mut again = visitor.clone();
    let (first, second) = tokio::join!(visitor.submit(&world, &fields), again.submit(&world, &fields));
    is_done(&first.unwrap());
    is_done(&second.unwrap());
    let mut later = visitor.clone();
    is_done(&visitor.submit(&world, &fields).await.unwrap());
    // The same form with another password is not a repetition, so the page does not report success.
    let other = later.submit(&world, &form(&token, "yet another passphrase")).await.unwrap();
    assert_eq!(other.status, 400, "{}", other.text);
    assert_eq!(world.try_login(&marcus, NEW_PASSWORD).await.unwrap().status, 200);
}

// docs/design/security.md#rule-1
#[tokio::test(flavor = "multi_thread")]
async fn form_shows_each_error_at_its_field() {
    let world = World::start().await.unwrap();
    let (marcus, code) = reset(&world).await;
    let mut visitor = Visitor::new(&marcus.tenant.tenant_id);
    let mut token = visitor.follow(&world, &marcus.user.user_id, Some(&code)).await.unwrap();
    let long = "x".repeat(257);
    for (password, repeated, field, text) in [
        (SHORT, SHORT, "password", "The new password must have at least 15 characters."),
        ("", "", "password", "Enter a new password."),
        (long.as_str(), long.as_str(), "password", "The new password is too long."),
        (NEW_PASSWORD, "a brand new passphrasE", "repeated", "The two passwords are not the same."),
    ] {
        let fields = [("token", token.as_str()), ("password", password), ("repeated", repeated)];
        let answer = visitor.submit(&world, &fields).await.unwrap();
        says(&answer, 400, text);
        assert!(answer.text.contains(&format!("<div id=\"{field}-error\">")), "{}", answer.text);
        let input = answer.text.split_once(&format!("<input id=\"{field}\"")).unwrap().1.split('>').next();
        let input = input.unwrap();
        assert!(input.contains("aria-invalid=\"true\"") && input.contains(" autofocus"), "{input}");
        assert!(input.contains(&format!("{field}-error\"")), "{input}");
        assert_eq!(answer.text.matches(" autofocus").count(), 1);
        for secret in [SHORT, "sh0rt", NEW_PASSWORD, &code] {
            assert!(!answer.text.contains(secret), "the page contains {secret}");
        }
        let rest = answer.text.split_once("name=\"token\" value=\"").unwrap().1;
        token = rest.split('"').next().unwrap().to_owned();
    }
    is_done(&visitor.submit(&world, &form(&token, NEW_PASSWORD)).await.unwrap());
}

// docs/design/security.md#rule-19
#[tokio::test(flavor = "multi_thread")]
async fn form_accepts_a_typed_code() {
    let world = World::start().await.unwrap();
    let (marcus, code) = reset(&world).await;
    let mut visitor = Visitor::new(&marcus.tenant.tenant_id);
    let token = visitor.follow(&world, &marcus.user.user_id, None).await.unwrap();
    for (typed, text) in [
        ("", "Enter the code."),
        ("ABCDEFGH", "The code is wrong or no longer valid."),
        ("much too long to be any code", "The code is wrong or no longer valid."),
    ] {
        let [a, b, c] = form(&token, NEW_PASSWORD);
        let answer = visitor.submit(&world, &[a, b, c, ("code", typed)]).await.unwrap();
        says(&answer, 400, text);
        assert!(answer.text.contains("<div id=\"code-error\">"), "{}", answer.text);
    }
    let typed = format!(" {}-{} ", &code[..4].to_lowercase(), &code[4..]);
    let [a, b, c] = form(&token, NEW_PASSWORD);
    is_done(&visitor.submit(&world, &[a, b, c, ("code", &typed)]).await.unwrap());
    assert_eq!(world.try_login(&marcus, NEW_PASSWORD).await.unwrap().status, 200);
}

// docs/design/security.md#rule-11, #rule-20
#[tokio::test(flavor = "multi_thread")]
async fn form_from_another_origin_changes_nothing() {
    let world = World::start().await.unwrap();
    let (marcus, code) = reset(&world).await;
    let (tenant, user) = (marcus.tenant.tenant_id.as_str(), marcus.user.user_id.as_str());
    let mut visitor = Visitor::new(tenant);
    let token = visitor.follow(&world, user, Some(&code)).await.unwrap();
    let stale = "This form is out of date";

    for headers in [
        vec![],
        vec![("origin", "https://evil.example")],
        vec![("origin", "null")],
        vec![("origin", "null"), ("sec-fetch-site", "cross-site")],
        vec![("origin", "http://login.example.com"), ("sec-fetch-site", "same-origin")],
    ] {
        let headers = headers.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        let mut elsewhere = Visitor { headers, ..visitor.clone() };
        says(&elsewhere.submit(&world, &form(&token, NEW_PASSWORD)).await.unwrap(), 403, stale);
    }
    // A form token of another tenant, opened in the same browser, and texts that are not tokens.
    let other = world.actor(ADMIN).unwrap().tenant.tenant_id;
    let mut elsewhere = Visitor { cookies: visitor.cookies.clone(), ..Visitor::new(&other) };
    let other_tenant = elsewhere.follow(&world, user, None).await.unwrap();
    for token in [other_tenant.as_str(), "", "x"] {
        says(&visitor.submit(&world, &form(token, NEW_PASSWORD)).await.unwrap(), 403, stale);
    }
    // The cookie of one tenant's link is not valid on another tenant's page.
    let mut moved = Visitor { cookies: visitor.cookies.clone(), ..Visitor::new(&other) };
    says(&moved.open(&world, "").await.unwrap(), 200, "Open the link once more");
    says(&moved.submit(&world, &form(&token, NEW_PASSWORD)).await.unwrap(), 403, stale);
    let mut no_cookie = Visitor::new(tenant);
    says(
        &no_cookie.submit(&world, &form(&token, NEW_PASSWORD)).await.unwrap(),
        400,
        "Open the link once more",
    );

    assert_eq!(world.try_login(&marcus, NEW_PASSWORD).await.unwrap().status, 401);
    // The page's own origin, as browsers send it without a referrer policy.
    visitor.headers = vec![("origin", e2e::PUBLIC_URL.to_owned())];
    is_done(&visitor.submit(&world, &form(&token, NEW_PASSWORD)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn page_reports_a_suspended_tenant_only_after_a_correct_code() {
    let world = World::start().await.unwrap();
    let (marcus, code) = reset(&world).await;
    let (tenant, user) = (marcus.tenant.tenant_id.as_str(), marcus.user.user_id.as_str());
    for unknown in ["nobody", "no.tenant", "a%2Fb"] {
        let mut visitor = Visitor::new(unknown);
        for query in ["", "userId=u&code=ABCDEFGHJKLMNPQRSTUV", "done=1"] {
            says(&visitor.open(&world, query).await.unwrap(), 404, "Page not found");
        }
        says(&visitor.submit(&world, &form("t", NEW_PASSWORD)).await.unwrap(), 404, "Page not found");
    }
    world.change_tenant(tenant, true, None).await.unwrap();
    for (code, status, text) in
        [("ABCDEFGHJKLMNPQRSTUV", 400, "This link no longer works"), (&code, 403, "Not available")]
    {
        let mut visitor = Visitor::new(tenant);
        visitor.open(&world, &format!("userId={user}&code={code}")).await.unwrap();
        says(&visitor.open(&world, "").await.unwrap(), status, text);
        // A typed code is checked when the form is submitted.
        let token = visitor.follow(&world, user, None).await.unwrap();
        let [a, b, c] = form(&token, NEW_PASSWORD);
        let text = if status == 400 { "The code is wrong or no longer valid." } else { text };
        says(&visitor.submit(&world, &[a, b, c, ("code", code)]).await.unwrap(), status, text);
    }
    world.change_tenant(tenant, false, Some("192.0.2.0/24")).await.unwrap();
    let mut visitor = Visitor::new(tenant);
    visitor.open(&world, &format!("userId={user}&code={code}")).await.unwrap();
    says(&visitor.open(&world, "").await.unwrap(), 403, "Not from here");
    let token = visitor.follow(&world, user, None).await.unwrap();
    let [a, b, c] = form(&token, NEW_PASSWORD);
    says(&visitor.submit(&world, &[a, b, c, ("code", &code)]).await.unwrap(), 403, "Not from here");
}

#[tokio::test(flavor = "multi_thread")]
async fn page_escapes_the_tenant_name_and_uses_the_readers_language() {
    let world = World::start().await.unwrap();
    let tenant = world.actor(ADMIN).unwrap().tenant.tenant_id;
    let known = world.store.tenant(&TenantId::parse(&tenant).unwrap()).await.unwrap().unwrap();
    let mut record = known.clone();
    record.name = "<script>alert('x')</script> & Söhne".to_owned();
    record.policy.locale = "de-AT".to_owned();
    world.store.replace_tenant(&known, &record, world.clock.now()).await.unwrap();
    let mut visitor = Visitor::new(&tenant);
    let page = visitor.open(&world, "").await.unwrap();
    says(&page, 200, "<html lang=\"de\">");
    says(&page, 200, "Bitte den Link noch einmal öffnen");
    assert!(page.text.contains("&lt;script&gt;") && !page.text.contains("<script"), "{}", page.text);
    visitor.headers.push(("accept-language", "en-GB,en;q=0.9".to_owned()));
    says(&visitor.open(&world, "").await.unwrap(), 200, "<html lang=\"en\">");
}

/// Without a code to check, showing the form reads only the tenant, which is cached.
#[tokio::test(flavor = "multi_thread")]
async fn page_without_storage_is_shown_for_a_cached_tenant_and_checks_no_code() {
    let world = World::start().await.unwrap();
    let (marcus, code) = reset(&world).await;
    let mut visitor = Visitor::new(&marcus.tenant.tenant_id);
    visitor.open(&world, "").await.unwrap();
    let token = visitor.follow(&world, &marcus.user.user_id, Some(&code)).await.unwrap();
    world.stop_dynamodb().await;
    for answer in [
        visitor.open(&world, "").await.unwrap(),
        visitor.submit(&world, &form(&token, NEW_PASSWORD)).await.unwrap(),
    ] {
        says(&answer, 503, "Not available just now");
        assert_eq!(answer.header("retry-after"), "2");
    }
    visitor.follow(&world, &marcus.user.user_id, None).await.unwrap();
    says(&Visitor::new("nobody").open(&world, "").await.unwrap(), 503, "Not available just now");
}
