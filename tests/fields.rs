//! Every policy field changes the behaviour that a client can observe.

use std::{collections::BTreeMap, time::Duration};

use doorward::{
    domain::{FIELDS, Medium, TenantId, User, UserId, Username},
    port::Clock,
    route::Function,
    store::TenantChange,
};
use e2e::{
    Actor, Answer, Login, NORDIC, World, as_tenant,
    delivery::{MAIL_FROM, Sent},
    event,
};
use futures_util::future::{BoxFuture, FutureExt};
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{MARCUS, NEW_PASSWORD, NORDIC_ADMIN};

const WRONG: &str = "not the password";
const PROXY: &str = "10.1.2.3";
const CLIENT: &str = "192.0.2.7";
const APP: &str = "https://app.nordic.example";

/// An observation, made before and after a field is set.
type Look = for<'a> fn(&'a Trial<'a>) -> BoxFuture<'a, Value>;

/// A value of a field and its expected effect.
struct Effect {
    value: Value,
    look: Look,
    seen: [Value; 2],
    beside: Vec<(&'static str, Value)>,
}

impl Effect {
    fn new(value: Value, look: Look, before: impl Into<Value>, after: impl Into<Value>) -> Self {
        Self { value, look, seen: [before.into(), after.into()], beside: Vec::new() }
    }

    /// The same, while another field is set during both observations.
    fn beside(mut self, name: &'static str, value: Value) -> Self {
        self.beside.push((name, value));
        self
    }
}

/// One observation, with a user and an address of its own.
struct Trial<'a> {
    world: &'a World,
    actor: Actor,
    ip: String,
}

impl<'a> Trial<'a> {
    async fn new(world: &'a World, number: usize) -> Self {
        let model = world.actor(MARCUS).unwrap();
        let (id, name) = (format!("member-{number:03}"), format!("member-{number:03}@example.com"));
        let user = User {
            id: UserId::parse(&id).unwrap(),
            username: Username::parse(&name).unwrap(),
            ..world.user(&model).await.unwrap()
        };
        world.store.create_user(&user, world.clock.now()).await.unwrap();
        let mut actor = model;
        (actor.user.user_id, actor.user.username) = (id, name);
        Self { world, actor, ip: format!("2001:db8:{number:x}::1") }
    }

    fn wait(&self, seconds: u64) {
        self.world.clock.advance(Duration::from_secs(seconds));
    }

    async fn try_login(&self, password: &str) -> Answer {
        self.world.try_login_from(&self.actor, password, &self.ip, None).await.unwrap()
    }

    async fn try_own(&self) -> Answer {
        self.try_login(&self.actor.user.password).await
    }

    async fn login(&self) -> Login {
        Login::from_answer(&self.actor, &self.try_own().await).unwrap()
    }

    /// Response to a correct password after a number of wrong ones and a delay.
    async fn own_after(&self, wrong: usize, seconds: u64) -> Value {
        for _ in 0..wrong {
            self.try_login(WRONG).await;
        }
        self.wait(seconds);
        error(&self.try_own().await)
    }

    /// The same, with the wrong passwords sent for a user that does not exist.
    async fn own_after_a_strangers(&self) -> Value {
        let mut nobody = self.actor.clone();
        nobody.user.user_id.push_str("-nobody");
        self.world.try_login_from(&nobody, WRONG, &self.ip, None).await.unwrap();
        error(&self.try_own().await)
    }

    /// Response to a refresh at a time after the login.
    async fn refresh_after(&self, seconds: u64) -> Value {
        let login = self.login().await;
        self.wait(seconds);
        error(&self.world.refresh(&login).await.unwrap())
    }

    /// The header or the claims of a new access token.
    async fn token(&self, part: usize) -> Value {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        let login = self.login().await;
        let part = login.token.split('.').nth(part).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    /// The parameters of the stored hash after a login.
    async fn hash_cost(&self) -> Value {
        self.login().await;
        let user = self.world.user(&self.actor).await.unwrap();
        user.password.as_phc().split('$').nth(3).unwrap().into()
    }

    /// Changes the own password repeatedly in one session and returns the last response.
    async fn change_password(&self, passwords: &[&str]) -> Value {
        let login = self.login().await;
        let mut current = self.actor.user.password.as_str();
        let mut last = json!([200, ""]);
        for password in passwords {
            assert_eq!(last[0], 200, "{current}: {last}");
            let body = json!({ "password": password, "currentPassword": current });
            let answer = self.world.update(&login, &self.actor.user.user_id, &body).await.unwrap();
            last = json!(answer.verdict());
            current = password;
        }
        last
    }

    /// A login whose event `change` modifies.
    async fn login_with(&self, change: impl FnOnce(&mut Value) + Send) -> Answer {
        let body = self.actor.credentials(&self.actor.user.password);
        let mut event = event(&Method::POST, &self.actor.sessions(), NORDIC, None, Some(&body));
        change(&mut event);
        self.world.send(Function::CreateSession, &event.to_string()).await.unwrap()
    }

    /// Requests a reset mail with this link, as the tenant.
    async fn ask(&self, link: Value) -> Answer {
        let path = format!("/v2/users/{}/password_reset", self.actor.user.user_id);
        let event = as_tenant(event(&Method::POST, &path, NORDIC, None, Some(&json!({ "sendLink": link }))));
        self.world.send(Function::ResetLogin, &event.to_string()).await.unwrap()
    }

    /// Sets the password with a code.
    async fn set(&self, user: &str, code: &str) -> Answer {
        let path = format!("/v2/users/{user}/password");
        let body = json!({ "newPassword": { "password": NEW_PASSWORD }, "verificationCode": code });
        let mut event = event(&Method::POST, &path, NORDIC, None, Some(&body));
        event["requestContext"]["http"]["sourceIp"] = json!(self.ip);
        self.world.send(Function::UpdateCredentials, &event.to_string()).await.unwrap()
    }

    /// The message with a reset code.
    async fn message(&self) -> Sent {
        let user = &self.actor.user.user_id;
        let queued = self.world.queue_code(NORDIC, user, Medium::Mail, None).await.unwrap();
        assert_eq!(self.world.deliver_all(&[queued.key]).await, 0);
        self.world.courier.take().remove(0)
    }
}

fn error(answer: &Answer) -> Value {
    answer.verdict().1.into()
}

/// The observable effect of each field. The test fails if a field is missing.
#[expect(
    clippy::too_many_lines,
    clippy::panic,
    reason = "a line or two for each field, and a test may panic"
)]
fn effect(field: &str) -> Effect {
    const OK: &str = "NONE";
    match field {
        "algorithm" => Effect::new(
            json!("HS256"),
            |it| async { it.token(0).await["alg"].take() }.boxed(),
            "ES256",
            "HS256",
        ),
        "issuer" => Effect::new(
            json!("nordic"),
            |it| async { it.token(1).await["iss"].take() }.boxed(),
            "bff",
            "nordic",
        ),
        "audience" => Effect::new(
            json!("nordic-apps"),
            |it| async { it.token(1).await["aud"].take() }.boxed(),
            "bff-clients",
            "nordic-apps",
        ),
        "token_life_seconds" => {
            let look: Look = |it| {
                async {
                    let claims = it.token(1).await;
                    let told = it.try_own().await.body["data"]["expiresIn"].take();
                    json!([told, claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap()])
                }
                .boxed()
            };
            Effect::new(json!(60), look, json!([3_600, 3_600]), json!([60, 60]))
        }
        "session_life_seconds" => {
            let look: Look = |it| {
                async {
                    let end: Timestamp = it.try_own().await.data("sessionExpiresAt").parse().unwrap();
                    let life = end.as_second() - it.world.clock.now().as_second();
                    json!([life, it.refresh_after(7_200).await])
                }
                .boxed()
            };
            Effect::new(json!(7_200), look, json!([86_400, OK]), json!([7_200, "SESSION_EXPIRED"]))
        }
        "idle_life_seconds" => {
            Effect::new(json!(3_600), |it| it.refresh_after(3_600).boxed(), OK, "SESSION_EXPIRED")
        }
        "grace_seconds" => {
            let look: Look = |it| {
                async {
                    let login = it.login().await;
                    it.world.refreshed(&login).await.unwrap();
                    it.wait(60);
                    let within = error(&it.world.refresh(&login).await.unwrap());
                    it.wait(1);
                    json!([within, error(&it.world.refresh(&login).await.unwrap())])
                }
                .boxed()
            };
            let (reused, ended) = ("REFRESH_TOKEN_REUSED", "SESSION_TERMINATED");
            Effect::new(json!(60), look, json!([reused, ended]), json!([OK, reused]))
        }
        "refresh_after_expiry" => {
            Effect::new(json!(false), |it| it.refresh_after(3_601).boxed(), OK, "INVALID_TOKEN")
        }
        "max_attempts" => Effect::new(json!(2), |it| it.own_after(2, 0).boxed(), OK, "ACCOUNT_LOCKED"),
        "lockout_seconds" => {
            let look: Look = |it| {
                async {
                    let locked = it.own_after(5, 0).await;
                    let wait = it.try_own().await.header("retry-after").to_owned();
                    it.wait(60);
                    json!([locked, wait, error(&it.try_own().await)])
                }
                .boxed()
            };
            let locked = "ACCOUNT_LOCKED";
            Effect::new(json!(60), look, json!([locked, "1800", locked]), json!([locked, "60", OK]))
        }
        "disable_after" => Effect::new(json!(1), |it| it.own_after(1, 1_800).boxed(), OK, "ACCOUNT_LOCKED"),
        "failures_per_user" => Effect::new(json!(1), |it| it.own_after(1, 0).boxed(), OK, "RATE_LIMITED"),
        "failures_per_ip" | "failures_per_tenant" => {
            Effect::new(json!(1), |it| it.own_after_a_strangers().boxed(), OK, "RATE_LIMITED")
        }
        "session_limit" => {
            let look: Look = |it| {
                async {
                    it.login().await;
                    error(&it.try_own().await)
                }
                .boxed()
            };
            Effect::new(json!(1), look, OK, "SESSION_LIMIT")
        }
        "when_full" => {
            let look: Look = |it| {
                async {
                    let first = it.login().await;
                    json!([error(&it.try_own().await), it.world.opens(&first).await.unwrap()])
                }
                .boxed()
            };
            Effect::new(json!("oldest"), look, json!(["SESSION_LIMIT", true]), json!([OK, false]))
                .beside("session_limit", json!(1))
        }
        "ip_allow" => {
            Effect::new(json!(["192.0.2.0/24"]), |it| it.own_after(0, 0).boxed(), OK, "IP_NOT_ALLOWED")
        }
        "trusted_proxies" => {
            let look: Look = |it| {
                async {
                    let answer = it.login_with(|event| {
                        event["requestContext"]["http"]["sourceIp"] = json!(PROXY);
                        event["headers"]["x-forwarded-for"] = json!(CLIENT);
                    });
                    let login = Login::from_answer(&it.actor, &answer.await).unwrap();
                    json!(it.world.session(&login).await.unwrap().device.ip.unwrap().to_string())
                }
                .boxed()
            };
            Effect::new(json!(["10.0.0.0/8"]), look, PROXY, CLIENT)
        }
        "cors_origins" => {
            let look: Look = |it| {
                async {
                    let answer = it.login_with(|event| event["headers"]["origin"] = json!(APP)).await;
                    answer.header("access-control-allow-origin").into()
                }
                .boxed()
            };
            Effect::new(json!([APP]), look, "", APP)
        }
        "password_min_length" => {
            let look: Look = |it| it.change_password(&["quartz eel"]).boxed();
            Effect::new(json!(8), look, json!([400, "PASSWORD_POLICY"]), json!([200, ""]))
        }
        "hash_memory_kib" => {
            Effect::new(json!(38_912), |it| it.hash_cost().boxed(), "m=64,t=2,p=1", "m=128,t=2,p=1")
        }
        "hash_passes" => Effect::new(json!(3), |it| it.hash_cost().boxed(), "m=64,t=2,p=1", "m=64,t=3,p=1"),
        "hash_lanes" => Effect::new(json!(2), |it| it.hash_cost().boxed(), "m=64,t=2,p=1", "m=64,t=2,p=2"),
        "admin_set_password_expires" => {
            let look: Look = |it| {
                async {
                    let admin = it.world.login(&it.world.actor(NORDIC_ADMIN).unwrap()).await.unwrap();
                    let set = json!({ "password": NEW_PASSWORD });
                    let set = it.world.update(&admin, &it.actor.user.user_id, &set).await.unwrap();
                    assert_eq!(set.status, 200, "{set:?}");
                    let answer = it.try_login(NEW_PASSWORD).await;
                    json!([error(&answer), answer.body["data"]["passwordChangeRequired"]])
                }
                .boxed()
            };
            Effect::new(json!(false), look, json!([OK, true]), json!([OK, null]))
        }
        "password_history" => {
            let look: Look =
                |it| it.change_password(&[NEW_PASSWORD, "second of my passphrases", NEW_PASSWORD]).boxed();
            Effect::new(json!(2), look, json!([200, ""]), json!([400, "PASSWORD_POLICY"]))
        }
        "code_life_seconds" => {
            let look: Look = |it| {
                async {
                    let user = &it.actor.user.user_id;
                    assert_eq!(it.ask(json!({})).await.status, 200);
                    let code = it.world.newest_code(NORDIC, user).await.unwrap();
                    it.wait(60);
                    it.set(user, &code).await.status.into()
                }
                .boxed()
            };
            Effect::new(json!(60), look, 200, 400)
        }
        "codes_per_hour" => {
            let look: Look = |it| {
                async { json!([it.ask(json!({})).await.status, it.ask(json!({})).await.status]) }.boxed()
            };
            Effect::new(json!(1), look, json!([200, 200]), json!([200, 429]))
        }
        "wrong_codes_per_ip" => {
            let look: Look = |it| {
                async {
                    let wrong = "A".repeat(20);
                    json!([it.set("nobody", &wrong).await.status, it.set("nobody", &wrong).await.status])
                }
                .boxed()
            };
            Effect::new(json!(1), look, json!([400, 400]), json!([400, 429]))
        }
        "link_hosts" => {
            let look: Look = |it| {
                async {
                    let link = json!({ "urlTemplate": "https://reset.example.net/{{.Code}}" });
                    it.ask(link).await.status.into()
                }
                .boxed()
            };
            Effect::new(json!(["reset.example.net"]), look, 400, 200)
        }
        "link_template" => {
            let look: Look = |it| {
                async { it.message().await.text().contains("https://reset.example.net/own/").into() }.boxed()
            };
            Effect::new(json!("https://reset.example.net/own/{{.Code}}"), look, false, true)
                .beside("link_hosts", json!(["reset.example.net"]))
        }
        "event_bus" => {
            let look: Look = |it| {
                async {
                    match it.message().await {
                        Sent::Event { bus, .. } => bus.into(),
                        Sent::Mail { .. } | Sent::Text { .. } => Value::Null,
                    }
                }
                .boxed()
            };
            Effect::new(json!("their-bus"), look, Value::Null, "their-bus")
        }
        "mail_from" => {
            let look: Look = |it| {
                async {
                    match it.message().await {
                        Sent::Mail { from, .. } => from.into(),
                        Sent::Event { .. } | Sent::Text { .. } => Value::Null,
                    }
                }
                .boxed()
            };
            Effect::new(json!("hej@nordic.example"), look, MAIL_FROM, "hej@nordic.example")
        }
        "locale" => {
            let look: Look =
                |it| async { it.message().await.text().split_whitespace().next().unwrap().into() }.boxed();
            Effect::new(json!("de-AT"), look, "Hello", "Guten")
        }
        unknown => panic!("a field that no test shows: {unknown}"),
    }
}

async fn change(world: &World, fields: BTreeMap<String, Option<Value>>) {
    let change = TenantChange { name: None, policy: fields };
    world
        .store
        .update_tenant(&TenantId::parse(NORDIC).unwrap(), &change, world.clock.now())
        .await
        .unwrap()
        .unwrap();
    world.clock.advance(Duration::from_secs(5));
}

#[tokio::test]
async fn every_policy_field_changes_behaviour() {
    let world = World::start().await.unwrap();
    let tenant = TenantId::parse(NORDIC).unwrap();
    let original = world.store.tenant_record(&tenant).await.unwrap().unwrap().document;
    let mut failed = Vec::new();
    for (index, field) in FIELDS.iter().enumerate() {
        let Effect { value, look, seen, beside } = effect(field.name);
        assert_ne!(seen[0], seen[1], "{}", field.name);
        let mut fields: BTreeMap<_, _> =
            beside.into_iter().map(|(name, value)| (name.to_owned(), Some(value))).collect();
        change(&world, fields.clone()).await;
        let before = look(&Trial::new(&world, 2 * index).await).await;
        fields.insert(field.name.to_owned(), Some(value));
        change(&world, fields.clone()).await;
        let after = look(&Trial::new(&world, 2 * index + 1).await).await;
        if [&before, &after] != [&seen[0], &seen[1]] {
            failed.push(format!("{}: {before} and {after}, not {} and {}", field.name, seen[0], seen[1]));
        }
        // Restores the policy for the next field.
        for (name, value) in &mut fields {
            *value = original.get(name).cloned();
        }
        change(&world, fields).await;
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
