//! Output for people, and with `--json` for programs.
//!
//! stdout contains the result: the address and the logins, or with `--json` one event per line.
//! Everything else goes to stderr: progress, warnings, and the output of cargo and of the functions.
//! Colors and spinners appear only in a terminal, unless `NO_COLOR` disables them.

use std::{fmt::Write as _, io::Write as _, time::Duration};

use console::style;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    mailbox::{Content, Message},
    problem::Problem,
    stack::{Stack, Tenant, User},
};

/// Interval of the spinner, suitable for a slow connection.
const SPIN_EVERY: Duration = Duration::from_millis(120);

/// Output of a command.
#[derive(Debug, Clone, Copy)]
pub struct Ui {
    json: bool,
    spinners: bool,
}

impl Ui {
    #[must_use]
    pub fn new(json: bool) -> Self {
        let spinners = !json && console::user_attended_stderr() && console::colors_enabled_stderr();
        Self { json, spinners }
    }

    /// Begins a step that prints nothing. A terminal shows a spinner.
    pub fn step(&self, name: &'static str, text: &str) -> Step {
        self.begin(name, text, self.spinners)
    }

    /// Begins a step that writes to stderr (cargo, pip, the functions). It has no spinner, because
    /// the other output would break it.
    pub fn loud_step(&self, name: &'static str, text: &str) -> Step {
        self.begin(name, text, false)
    }

    fn begin(self, name: &'static str, text: &str, spinner: bool) -> Step {
        self.event(&json!({ "event": "step", "name": name, "status": "started", "text": text }));
        let bar = spinner.then(|| {
            let bar = ProgressBar::new_spinner().with_message(format!("{text} …"));
            if let Ok(look) = ProgressStyle::with_template("{spinner:.cyan} {msg} {elapsed:.dim}") {
                bar.set_style(look);
            }
            bar.enable_steady_tick(SPIN_EVERY);
            bar
        });
        if bar.is_none() {
            self.say(&format!("{} {text} …", style("•").for_stderr().cyan()));
        }
        Step { ui: self, name, text: text.to_owned(), begun: Instant::now(), bar }
    }

    /// Prints a warning.
    pub fn warn(&self, text: &str) {
        self.event(&json!({ "event": "warning", "message": text }));
        // Also with --json, so that a log of stderr contains the warning.
        to_stderr(&format!("{} {text}", style("!").for_stderr().yellow()));
    }

    /// Prints the banner, or the event `ready`.
    pub fn ready(&self, stack: &Stack, notes: &[String]) {
        if self.json {
            let mut event = json!({ "event": "ready" });
            if let (Value::Object(event), Ok(Value::Object(stack))) =
                (&mut event, serde_json::to_value(stack))
            {
                event.extend(stack);
            }
            self.event(&event);
        } else {
            to_stdout(&banner(stack, notes));
        }
    }

    /// Prints one line for a message that was sent or could not be delivered.
    pub fn sent(&self, message: &Message) {
        if self.json {
            let mut event = json!({ "event": "message" });
            if let (Value::Object(event), Ok(Value::Object(message))) =
                (&mut event, serde_json::to_value(message))
            {
                event.extend(message);
            }
            self.event(&event);
        } else {
            to_stdout(&(sent_line(&message.content) + "\n"));
        }
    }

    /// Prints the result of a command: the event with `--json`, otherwise the text.
    pub fn result(&self, event: &Value, text: &str) {
        if self.json {
            self.event(event);
        } else {
            to_stdout(text);
        }
    }

    /// Reports that everything has ended.
    pub fn stopped(&self) {
        self.event(&json!({ "event": "stopped" }));
        self.say(&format!("{} Stopped.", style("•").for_stderr().cyan()));
    }

    /// Prints an error and its hint.
    pub fn error(&self, error: &anyhow::Error) {
        let hint = error.downcast_ref::<Problem>().map(Problem::hint);
        let message = format!("{error:#}");
        if self.json {
            self.event(&json!({ "event": "error", "message": message, "hint": hint }));
        }
        let mut text = format!("{} {message}", style("error:").for_stderr().red().bold());
        if let Some(hint) = hint {
            let _ = write!(text, "\n  {hint}");
        }
        to_stderr(&text);
    }

    fn event(self, event: &Value) {
        if self.json {
            to_stdout(&format!("{event}\n"));
        }
    }

    /// Prints a line unless `--json` is set.
    fn say(self, text: &str) {
        if !self.json {
            to_stderr(text);
        }
    }
}

/// A step in progress. If it is dropped without [`Step::done`], it has failed, and an error follows.
#[derive(Debug)]
#[must_use]
pub struct Step {
    ui: Ui,
    name: &'static str,
    text: String,
    begun: Instant,
    bar: Option<ProgressBar>,
}

impl Step {
    /// Reports success. `detail` is appended to the step's text and may be empty.
    pub fn done(self, detail: &str) {
        let seconds = self.begun.elapsed().as_secs_f64();
        self.ui.event(&json!({
            "event": "step", "name": self.name, "status": "done", "text": detail,
            "seconds": (seconds * 1000.0).round() / 1000.0,
        }));
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let separator = if detail.is_empty() { "" } else { ": " };
        self.ui.say(&format!(
            "{} {}{separator}{detail} {}",
            style("✓").for_stderr().green(),
            self.text,
            style(format!("({seconds:.1} s)")).for_stderr().dim()
        ));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Writes to stdout. Ignores errors, because a closed pipe must not stop the stack.
fn to_stdout(text: &str) {
    let mut out = std::io::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

pub(crate) fn to_stderr(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

/// Formats a message as one line: recipient, subject or text, and the first link.
fn sent_line(content: &Content) -> String {
    let (kind, text, link) = match content {
        Content::Mail(mail) => {
            ("mail", format!("to {}: {}", mail.to.join(", "), mail.subject), mail.links.first())
        }
        Content::TextMessage(message) => {
            ("text message", format!("to {}: {}", message.phone_number, message.text), None)
        }
        Content::Event(event) => ("event", format!("{} on the bus {}", event.detail_type, event.bus), None),
        Content::DeadLetter(letter) => {
            ("not delivered", format!("{} {}: {}", letter.pk, letter.sk, letter.reason), None)
        }
    };
    let mut shown = format!("{} {}", style(kind).cyan(), one_line(&text));
    if let Some(link) = link {
        let _ = write!(shown, "  {}", style(one_line(link)).bold());
    }
    shown
}

/// Replaces control characters, because message texts are untrusted and could control the terminal.
fn one_line(text: &str) -> String {
    text.split(char::is_control).collect::<Vec<_>>().join(" ")
}

fn banner(stack: &Stack, notes: &[String]) -> String {
    let mut text = format!("\nDoorward is ready.\nHTTP API:     {}\n", style(&stack.base_url).bold());
    let _ = writeln!(text, "API page:     {}", style(&stack.api_page_url).bold());
    let _ = writeln!(text, "Mailbox page: {}", style(&stack.mailbox_url).bold());
    text.push_str("\nDemo logins\n");
    text.push_str(&logins(stack));
    if let Some(curl) = example(stack) {
        let _ = write!(text, "\nExample: log in as the first administrator\n  {curl}\n");
    }
    text.push('\n');
    for note in notes {
        let _ = writeln!(text, "{note}");
    }
    text
}

/// Table with one line for each user.
fn logins(stack: &Stack) -> String {
    let mut rows = vec![["TENANT", "USERNAME", "PASSWORD", "ROLES", "USER ID"].map(String::from)];
    for tenant in &stack.tenants {
        for user in &tenant.users {
            rows.push([
                tenant.tenant_id.clone(),
                user.username.clone(),
                user.password.clone(),
                user.roles.join(","),
                user.user_id.clone(),
            ]);
        }
    }
    let mut widths = [0; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut table = String::new();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(table, "  {}", cells.join("  ").trim_end());
    }
    table
}

/// Command that logs in the first tenant's first administrator.
fn example(stack: &Stack) -> Option<String> {
    let tenant = stack.tenants.first()?;
    let user = tenant.users.iter().find(|user| user.is_admin())?;
    Some(login_command(&stack.base_url, tenant, user))
}

fn login_command(base_url: &str, tenant: &Tenant, user: &User) -> String {
    let url = format!(
        "{base_url}/api/v2.1/admin/organization/{}/users/{}/sessions",
        user.organization_id, user.user_id
    );
    // Not serialized, to keep the usual order of the fields.
    let fields = [
        ("username", &user.username),
        ("password", &user.password),
        ("tenantKey", &tenant.tenant_key),
        ("tenantSecret", &tenant.tenant_secret),
    ]
    .map(|(name, value)| format!("\"{name}\":{}", Value::from(value.as_str())));
    format!(
        "curl -sS -X POST {} -H {} -H {} -d {}",
        quote(&url),
        quote(&format!("X-Tenant-ID: {}", tenant.tenant_id)),
        quote("Content-Type: application/json"),
        quote(&format!("{{{}}}", fields.join(",")))
    )
}

/// Quotes a word for a POSIX shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::Mail;

    fn stack() -> Stack {
        let user = |role: &str| User {
            user_id: format!("id-{role}"),
            username: format!("{role}@x.example"),
            password: "it's".into(),
            email: String::new(),
            roles: vec![role.into()],
            organization_id: "org".into(),
            customer_id: None,
        };
        Stack {
            base_url: "http://127.0.0.1:9000".into(),
            dynamodb_url: String::new(),
            secrets_manager_url: String::new(),
            mailbox_url: String::new(),
            api_page_url: String::new(),
            audit_file: "/data/audit.ndjson".into(),
            region: String::new(),
            table: String::new(),
            tenants: vec![Tenant {
                tenant_id: "t".into(),
                tenant_key: "k".into(),
                tenant_secret: "s".into(),
                alg: "HS256".into(),
                users: vec![user("USER"), user("ADMIN")],
            }],
        }
    }

    #[test]
    fn curl_command_is_quoted_for_the_shell() {
        let line = example(&stack()).unwrap();
        let script = format!("curl() {{ for a in \"$@\"; do printf '%s\\n' \"$a\"; done; }}; {line}");
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let words: Vec<_> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
        assert_eq!(words[3], "http://127.0.0.1:9000/api/v2.1/admin/organization/org/users/id-ADMIN/sessions");
        assert_eq!(words[5], "X-Tenant-ID: t");
        let body: Value = serde_json::from_str(words[9]).unwrap();
        assert_eq!(body["password"], "it's");
        assert_eq!(body["username"], "ADMIN@x.example");
    }

    #[test]
    fn mail_is_one_line_that_ends_with_its_link() {
        let mail = Mail {
            from: "a@b.example".into(),
            to: vec!["c@d.example".into()],
            cc: Vec::new(),
            bcc: Vec::new(),
            reply_to: Vec::new(),
            subject: "Reset\n\u{1b}[2Jyour password".into(),
            headers: Vec::new(),
            text: None,
            html: None,
            links: vec!["http://127.0.0.1/x".into(), "http://other/".into()],
        };
        let line = sent_line(&Content::Mail(mail));
        let plain = console::strip_ansi_codes(&line);
        assert_eq!(plain, "mail to c@d.example: Reset  [2Jyour password  http://127.0.0.1/x");
    }

    #[test]
    fn login_table_has_one_line_for_each_user() {
        let table = logins(&stack());
        assert_eq!(table.lines().count(), 3);
        let columns: Vec<_> = table.lines().map(|line| line.find("it's").or(line.find("PASSWORD"))).collect();
        assert!(columns.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
