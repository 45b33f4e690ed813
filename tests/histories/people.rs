//! Callers that choose operations at random.

use std::{sync::Arc, time::Duration};

use doorward::{port::Clock, route::Function, token::RefreshToken};
use e2e::{Actor, Answer, Dice, Instance, Login, NORDIC, as_tenant, authorizer_event, event};
use http::Method;
use serde_json::{Value, json};

use super::{
    operations::{Deed, Outcome, Refusal},
    runner::{PASSWORDS, Run},
};

/// Number of idempotency keys of logins and of login resets.
const KEYS: usize = 2;
/// Chance that a caller gives up before the answer, and the longest time that it waits then.
const GIVES_UP: f64 = 0.04;
const PATIENCE: Duration = Duration::from_millis(40);

/// A caller with its own random choices. Everything else is shared.
pub(super) struct Person {
    pub(super) number: usize,
    pub(super) run: Arc<Run>,
    pub(super) instances: Arc<Vec<Instance>>,
    pub(super) dice: Dice,
}

impl Person {
    /// Executes one random operation.
    pub(super) async fn act(&mut self) {
        let login = self.any_login();
        let session = login.session.clone();
        let other = self.dice.below(PASSWORDS.len());
        match self.dice.below(24) {
            0..=5 => {
                let password = self.likely_password();
                let key = (self.dice.below(4) == 0).then(|| self.dice.below(KEYS));
                self.log_in(Deed::LogIn { password, key }).await;
            }
            6..=9 => {
                let login = self.perhaps_older(login);
                self.refresh(&login).await;
            }
            10..=13 => {
                let is_authorizer = self.dice.below(2) == 0;
                self.use_token(&login, is_authorizer).await;
            }
            14 | 15 => {
                let request = as_bearer(&login, &Method::DELETE, &login.path(), None);
                self.call(Deed::LogOut { session }, Function::DeleteSession, request).await;
            }
            16 => {
                let from = self.likely_password();
                let body = json!({ "password": PASSWORDS[other], "currentPassword": PASSWORDS[from] });
                let request = as_bearer(&login, &Method::PUT, &self.credentials(), Some(&body));
                let deed = Deed::Change { by: session, from, to: other };
                self.change_password(deed, other, Function::UpdateCredentials, request).await;
            }
            17 => {
                let keeps_own = self.dice.below(2) == 0;
                let query = if keeps_own { "?except=current" } else { "" };
                let path = format!("{}{query}", self.run.actor.sessions());
                let request = as_bearer(&login, &Method::DELETE, &path, None);
                self.call(Deed::End { by: session, keeps_own }, Function::DeleteSession, request).await;
            }
            18 => self.request_code().await,
            19 | 20 => self.set_by_code(other).await,
            21 => {
                let body = json!({ "password": PASSWORDS[other], "changeRequired": false });
                let request = as_bearer(&self.run.admin(), &Method::PUT, &self.credentials(), Some(&body));
                let deed = Deed::SetByAdmin { to: other };
                self.change_password(deed, other, Function::UpdateCredentials, request).await;
            }
            22 if self.dice.below(2) == 0 => self.reset().await,
            _ => self.operate().await,
        }
    }

    /// The user's path for changes of credentials.
    fn credentials(&self) -> String {
        format!("/api/v2.1/admin/users/{}/credentials", self.run.actor.user.user_id)
    }

    /// Tokens of any session, of a recent one in most cases.
    fn any_login(&mut self) -> Login {
        let logins = self.run.logins();
        let from = if self.dice.below(4) == 0 { 0 } else { logins.len().saturating_sub(4) };
        logins[from + self.dice.below(logins.len() - from)].clone()
    }

    /// The tokens, or in some cases the oldest ones of their session. Those test the reuse of refresh tokens.
    fn perhaps_older(&mut self, login: Login) -> Login {
        if self.dice.below(3) > 0 {
            return login;
        }
        let of_session = |other: &Login| other.session == login.session;
        self.run.logins().into_iter().find(of_session).unwrap_or(login)
    }

    /// A password, in most cases the one that was set last.
    fn likely_password(&mut self) -> usize {
        if self.dice.below(4) == 0 { self.dice.below(PASSWORDS.len()) } else { self.run.last_password() }
    }

    /// Sends a request to any instance. Returns `None` if the caller gives up before the answer.
    async fn send(&mut self, function: Function, request: &Value) -> Option<Answer> {
        let at = self.dice.below(self.instances.len());
        let gives_up = self.dice.fraction() < GIVES_UP;
        let patience = if gives_up { PATIENCE.mul_f64(self.dice.fraction()) } else { Duration::MAX };
        let request = request.to_string();
        let sent = self.instances[at].send(function, &request);
        let answer = tokio::time::timeout(patience, sent).await.ok()?;
        Some(answer.unwrap())
    }

    /// Executes an operation whose response has no tokens.
    async fn call(&mut self, deed: Deed, function: Function, request: Value) -> Outcome {
        let number = self.run.begin(self.number, deed);
        let answer = self.send(function, &request).await;
        self.run.end(number, Outcome::of(answer.as_ref()))
    }

    /// Returns whether the change was made.
    async fn change_password(&mut self, deed: Deed, to: usize, function: Function, request: Value) -> bool {
        let is_done = self.call(deed, function, request).await == Outcome::Done;
        if is_done {
            self.run.note_password(to);
        }
        is_done
    }

    pub(super) async fn log_in(&mut self, deed: Deed) {
        let Deed::LogIn { password, key } = deed else {
            unreachable!("not a login");
        };
        let number = self.run.begin(self.number, deed);
        let actor = self.run.actor.clone();
        let body = actor.credentials(PASSWORDS[password]);
        let mut request = event(&Method::POST, &actor.sessions(), NORDIC, None, Some(&body));
        // The session stores which operation created it.
        request["headers"]["device-id"] = json!(number.to_string());
        if let Some(key) = key {
            request["headers"]["idempotency-key"] = json!(key.to_string());
        }
        let answer = self.send(Function::CreateSession, &request).await;
        self.granted(number, &actor, answer.as_ref());
    }

    async fn refresh(&mut self, login: &Login) {
        let deed = Deed::Refresh { session: login.session.clone(), presented: generation(login) };
        let number = self.run.begin(self.number, deed);
        let (method, path) = login.refresh_route();
        let body = json!({ "refreshToken": login.refresh });
        let request = as_bearer(login, &method, &path, Some(&body));
        let answer = self.send(Function::RefreshSession, &request).await;
        self.granted(number, &login.actor, answer.as_ref());
    }

    /// Ends an operation whose success has tokens.
    fn granted(&self, number: usize, actor: &Actor, answer: Option<&Answer>) {
        let login = answer.and_then(|answer| Login::from_answer(actor, answer).ok());
        let outcome = match &login {
            Some(login) => Outcome::Granted { session: login.session.clone(), generation: generation(login) },
            None => Outcome::of(answer),
        };
        self.run.end(number, outcome);
        self.run.note_tokens(login);
    }

    async fn use_token(&mut self, login: &Login, is_authorizer: bool) {
        let deed = Deed::Use { session: login.session.clone(), is_authorizer };
        if !is_authorizer {
            let request = as_bearer(login, &Method::PUT, &self.credentials(), Some(&json!({})));
            self.call(deed, Function::UpdateCredentials, request).await;
            return;
        }
        let number = self.run.begin(self.number, deed);
        let at = self.dice.below(self.instances.len());
        let decided = self.instances[at].authorize(&authorizer_event(Some(&login.token))).await;
        let outcome = match decided.map(|decision| decision["isAuthorized"] == true) {
            Ok(true) => Outcome::Done,
            Ok(false) => Outcome::Refused(Refusal::Ended),
            Err(_) => Outcome::Unknown { ended: false },
        };
        self.run.end(number, outcome);
    }

    async fn request_code(&mut self) {
        let number = self.run.begin(self.number, Deed::RequestCode);
        let user = self.run.actor.user.user_id.clone();
        let link = code_link(number);
        let body = json!({ "sendLink": { "urlTemplate": link } });
        let path = format!("/v2/users/{user}/password_reset");
        let request = as_tenant(event(&Method::POST, &path, NORDIC, None, Some(&body)));
        let answer = self.send(Function::ResetLogin, &request).await;
        if self.run.end(number, Outcome::of(answer.as_ref())) == Outcome::Done {
            let mailed = self.run.mailed_codes(&link).await;
            assert_eq!(mailed.len(), 1, "messages of operation {number}");
            self.run.note_code(number, mailed[0].clone());
        }
    }

    async fn set_by_code(&mut self, to: usize) {
        let codes = self.run.codes();
        let Some(newest) = codes.len().checked_sub(1) else {
            return self.request_code().await;
        };
        let at = if self.dice.below(3) == 0 { self.dice.below(codes.len()) } else { newest };
        let (issued_by, code) = codes[at].clone();
        let body = json!({ "newPassword": { "password": PASSWORDS[to] }, "verificationCode": code });
        let path = format!("/v2/users/{}/password", self.run.actor.user.user_id);
        let request = event(&Method::POST, &path, NORDIC, None, Some(&body));
        let deed = Deed::SetByCode { issued_by, to };
        let is_spent =
            self.change_password(deed.clone(), to, Function::UpdateCredentials, request.clone()).await;
        if is_spent && self.dice.below(2) == 0 {
            self.change_password(deed, to, Function::UpdateCredentials, request).await;
        }
    }

    async fn reset(&mut self) {
        let key = (self.dice.below(2) == 0).then(|| self.dice.below(KEYS));
        let body = json!({ "userId": self.run.actor.user.user_id });
        let path = "/api/v2.1/admin/users/login/reset";
        let mut request = as_bearer(&self.run.admin(), &Method::POST, path, Some(&body));
        if let Some(key) = key {
            request["headers"]["idempotency-key"] = json!(key.to_string());
        }
        self.call(Deed::Reset { key }, Function::ResetLogin, request).await;
    }

    /// Executes a change by the operator. Enabling and resuming are more likely, so that most requests are served.
    async fn operate(&mut self) {
        let (store, now) = (&self.run.world.store, self.run.world.clock.now());
        let (tenant, user) = self.run.ids();
        let is_on = self.dice.below(3) == 0;
        let deed = match self.dice.below(3) {
            0 => Deed::SetSuspended(is_on),
            _ => Deed::SetDisabled(is_on),
        };
        let number = self.run.begin(self.number, deed.clone());
        let switched = match deed {
            Deed::SetSuspended(true) => store.suspend_tenant(&tenant).await,
            Deed::SetSuspended(false) => store.resume_tenant(&tenant).await,
            Deed::SetDisabled(true) => store.disable_user(&tenant, &user, now).await,
            _ => store.enable_user(&tenant, &user, now).await,
        };
        let done = switched.map_or(Outcome::Unknown { ended: false }, |_| Outcome::Done);
        self.run.end(number, done);
    }
}

/// A link that shows which operation requested the code.
fn code_link(number: usize) -> String {
    format!("{}/new-password?request={number}&code={{{{.Code}}}}", e2e::PUBLIC_URL)
}

fn as_bearer(login: &Login, method: &Method, path: &str, body: Option<&Value>) -> Value {
    event(method, path, NORDIC, Some(&login.token), body)
}

fn generation(login: &Login) -> u64 {
    RefreshToken::parse(&login.refresh.clone().into()).unwrap().generation
}
