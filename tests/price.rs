//! What an operation costs in US dollars: list prices, and the arithmetic over what `cost` counts.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result};
use doorward::route::{Function, Trigger};

/// A list price of AWS in us-east-1, without free tiers, discounts and taxes.
struct Price {
    what: &'static str,
    /// US dollars.
    dollars: f64,
    per: &'static str,
    source: &'static str,
}

/// When the prices below were looked up.
const KNOWN_ON: &str = "2026-11-21";
const DYNAMODB: &str = "https://aws.amazon.com/dynamodb/pricing/on-demand/";
const LAMBDA: &str = "https://aws.amazon.com/lambda/pricing/";
const CLOUDWATCH: &str = "https://aws.amazon.com/cloudwatch/pricing/";

const WRITE_UNITS: Price =
    Price { what: "DynamoDB on demand, writes", dollars: 0.625, per: "million units", source: DYNAMODB };
const READ_UNITS: Price =
    Price { what: "DynamoDB on demand, reads", dollars: 0.125, per: "million units", source: DYNAMODB };
const TABLE_STORAGE: Price =
    Price { what: "DynamoDB, storage", dollars: 0.25, per: "GB and month", source: DYNAMODB };
const TABLE_BACKUP: Price =
    Price { what: "DynamoDB, point-in-time recovery", dollars: 0.20, per: "GB and month", source: DYNAMODB };
const INVOCATIONS: Price = Price { what: "Lambda, requests", dollars: 0.20, per: "million", source: LAMBDA };
const COMPUTE: Price =
    Price { what: "Lambda on arm64, time", dollars: 13.3334, per: "million GB-seconds", source: LAMBDA };
const GATEWAY: Price = Price {
    what: "API Gateway HTTP API, requests of up to 512 KB",
    dollars: 1.00,
    per: "million",
    source: "https://aws.amazon.com/api-gateway/pricing/",
};
const LOGS: Price =
    Price { what: "CloudWatch Logs, ingestion", dollars: 0.50, per: "GB", source: CLOUDWATCH };
const METRIC: Price =
    Price { what: "CloudWatch, a custom metric", dollars: 0.30, per: "month", source: CLOUDWATCH };
const ALARM: Price =
    Price { what: "CloudWatch, an alarm on one metric", dollars: 0.10, per: "month", source: CLOUDWATCH };
const DASHBOARD: Price =
    Price { what: "CloudWatch, a dashboard", dollars: 3.00, per: "month", source: CLOUDWATCH };
const SECRET: Price = Price {
    what: "Secrets Manager, a secret",
    dollars: 0.40,
    per: "month",
    source: "https://aws.amazon.com/secrets-manager/pricing/",
};
const SECRET_CALLS: Price = Price {
    what: "Secrets Manager, calls",
    dollars: 0.05,
    per: "10,000",
    source: "https://aws.amazon.com/secrets-manager/pricing/",
};
const KEY: Price =
    Price { what: "KMS, a key", dollars: 1.00, per: "month", source: "https://aws.amazon.com/kms/pricing/" };
const KEY_CALLS: Price =
    Price { what: "KMS, calls", dollars: 0.03, per: "10,000", source: "https://aws.amazon.com/kms/pricing/" };
const MAILS: Price = Price {
    what: "SES, mails",
    dollars: 100.00,
    per: "million",
    source: "https://aws.amazon.com/ses/pricing/",
};

const PRICES: [&Price; 16] = [
    &WRITE_UNITS,
    &READ_UNITS,
    &TABLE_STORAGE,
    &TABLE_BACKUP,
    &INVOCATIONS,
    &COMPUTE,
    &GATEWAY,
    &LOGS,
    &METRIC,
    &ALARM,
    &DASHBOARD,
    &SECRET,
    &SECRET_CALLS,
    &KEY,
    &KEY_CALLS,
    &MAILS,
];

/// MiB at which Lambda gives a whole core (Lambda's guide, "Configuring function memory").
const CORE_MIB: f64 = 1_769.0;
/// CPU milliseconds of a request that hashes once, with its hash (docs/performance.md, "login").
const LOGIN_CPU_MS: f64 = 22.0;
/// Of each hash more (docs/performance.md, "only argon2id, memory reused").
const HASH_CPU_MS: f64 = 19.8;
/// Of a request that hashes nothing (docs/performance.md, "refresh").
const OTHER_CPU_MS: f64 = 1.3;
/// What a call in sequence takes to come back: assumed, within the "single-digit milliseconds" that
/// DynamoDB promises.
const CALL_MS: f64 = 5.0;
/// What SES takes to accept a mail: assumed.
const MAIL_MS: f64 = 50.0;
/// START, END and REPORT of an invocation, by the length of their form.
const LAMBDA_LINES: Lines = Lines { count: 3, bytes: 270 };
/// A line of the access log with usual values (`ACCESS_LOG` in infra/aws/src/api.ts).
const ACCESS_LINE: Lines = Lines { count: 1, bytes: 400 };
/// What CloudWatch Logs counts for each event beside its text (PutLogEvents, in its API reference).
const EVENT_BYTES: usize = 26;
/// Alarms of the stack as `infra/aws` makes it.
const ALARMS: usize = 46;
const BYTES_PER_GB: f64 = 1e9;

#[derive(Clone, Copy)]
struct Lines {
    count: usize,
    bytes: usize,
}

/// What happens besides calls of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) function: Function,
    pub(crate) hashes: u32,
    pub(crate) mails: u32,
}

impl Work {
    /// The same with so many hashes.
    pub(crate) const fn hashing(self, hashes: u32) -> Self {
        Self { hashes, ..self }
    }
}

/// One operation, as it was counted.
pub(crate) struct Operation {
    pub(crate) name: String,
    pub(crate) work: Work,
    /// Calls that wait for one another.
    pub(crate) steps: usize,
    pub(crate) read: f64,
    pub(crate) written: f64,
    /// Of its lines in the audit log.
    pub(crate) audit: Vec<usize>,
}

/// The memory that the deployment gives each function, from the file that says why.
pub(crate) struct Memory(String);

impl Memory {
    pub(crate) fn load() -> Result<Self> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/aws/src/functions.ts");
        Ok(Self(fs::read_to_string(file)?))
    }

    /// In MiB.
    fn of(&self, function: Function) -> Result<f64> {
        let name = function.name();
        let (_, table) =
            self.0.split_once("export const FUNCTIONS").context("functions.ts has no FUNCTIONS")?;
        let spec = [format!("\n  \"{name}\": {{"), format!("\n  {name}: {{")];
        let spec = spec.iter().find_map(|head| table.split_once(head.as_str())).map(|(_, spec)| spec);
        let (_, rest) =
            spec.and_then(|spec| spec.split_once("memory: ")).with_context(|| format!("no {name}"))?;
        let digits = rest.split(',').next().unwrap_or_default();
        digits.parse().with_context(|| format!("{name} has no memory"))
    }
}

/// US dollars of a million of one operation.
struct Bill {
    memory: f64,
    milliseconds: f64,
    log_bytes: usize,
    table: f64,
    lambda: f64,
    gateway: f64,
    logs: f64,
    mails: f64,
}

impl Bill {
    #[expect(clippy::cast_precision_loss, reason = "a few thousand bytes, a few calls")]
    fn of(operation: &Operation, memory: &Memory) -> Result<Self> {
        let Operation { work, steps, read, written, audit, .. } = operation;
        let memory = memory.of(work.function)?;
        let hashes = f64::from(work.hashes);
        let cpu = if work.hashes == 0 { OTHER_CPU_MS } else { LOGIN_CPU_MS + (hashes - 1.0) * HASH_CPU_MS };
        let waits = *steps as f64 * CALL_MS + f64::from(work.mails) * MAIL_MS;
        let milliseconds = (cpu * (CORE_MIB / memory).max(1.0) + waits).ceil();
        let by_gateway = work.function.trigger() == Trigger::Http;
        let mut lines = vec![LAMBDA_LINES, Lines { count: audit.len(), bytes: audit.iter().sum() }];
        lines.extend(by_gateway.then_some(ACCESS_LINE));
        let log_bytes = lines.iter().map(|lines| lines.bytes + lines.count * EVENT_BYTES).sum();
        Ok(Self {
            memory,
            milliseconds,
            log_bytes,
            table: read * READ_UNITS.dollars + written * WRITE_UNITS.dollars,
            lambda: INVOCATIONS.dollars + memory / 1_024.0 * milliseconds / 1_000.0 * COMPUTE.dollars,
            gateway: if by_gateway { GATEWAY.dollars } else { 0.0 },
            logs: log_bytes as f64 * 1e6 / BYTES_PER_GB * LOGS.dollars,
            mails: f64::from(work.mails) * MAILS.dollars,
        })
    }

    fn total(&self) -> f64 {
        self.table + self.lambda + self.gateway + self.logs + self.mails
    }
}

/// The part of docs/cost.md that speaks of money.
#[expect(clippy::too_many_lines, reason = "it is a page of text, in its order")]
pub(crate) fn in_dollars(operations: &[Operation], memory: &Memory) -> Result<String> {
    let mut text = format!(
        "
## In US dollars

US dollars **per million** of each operation. The prices are AWS's list prices in us-east-1, without free tiers.
They are from third parties that had quoted AWS's pages by {KNOWN_ON}. Prices change and differ by Region: check AWS's
pages before you rely on a number. The test computes this table from the one above and from the constants in
`tests/price.rs`. Each row is one request. The mail with a code is a separate row. A verification mail or a notification
of a change costs as much as this mail.

- **DynamoDB**: units × price, without rejected conditional writes.
- **Lambda**: one request, and memory × milliseconds. The milliseconds are CPU time as measured in
  docs/performance.md ({LOGIN_CPU_MS} with one hash, {HASH_CPU_MS} for each further hash, {OTHER_CPU_MS} without a
  hash), scaled up if the memory is below the {CORE_MIB} MiB of a full core. To these, {CALL_MS} ms are added for each
  call in sequence (assumed) and {MAIL_MS} ms for SES (assumed). The CPU time is of an x86-64 machine: compare it with
  your own REPORT lines.
- **HTTP API**: one request. An authorizer's call is part of the request to your own API.
- **Logs**: the bytes of the audit event (measured), of Lambda's three lines ({}) and of one access log line ({}), plus
  {EVENT_BYTES} for each line. Storage is excluded, and so are the calls of `anchor-audit`, which processes batches.

| operation | MiB | ms | log bytes | DynamoDB | Lambda | HTTP API | logs | mail | total |
|---|---|---|---|---|---|---|---|---|---|
",
        LAMBDA_LINES.bytes, ACCESS_LINE.bytes,
    );
    for operation in operations {
        let bill = Bill::of(operation, memory)?;
        let Bill { memory, milliseconds, log_bytes, table, lambda, gateway, logs, mails } = &bill;
        let mails = if *mails > 0.0 { format!("{mails:.2}") } else { "0".to_owned() };
        writeln!(
            text,
            "| {} | {memory} | {milliseconds} | {log_bytes} | {table:.2} | {lambda:.2} | {gateway:.2} | {logs:.2} | {mails} \
             | **{:.2}** |",
            operation.name,
            bill.total()
        )?;
    }
    let first = operations.first().context("an attempt was counted")?;
    let bill = Bill::of(first, memory)?;
    write!(
        text,
        "
The first row is computed as follows:

- DynamoDB: {read} × {} + {written} × {} = {:.3}
- Lambda: {} + {}/1024 GB × {}/1000 s × {} = {:.3}
- HTTP API: {:.2}
- logs: {} bytes × 1,000,000 / 1,000,000,000 × {} = {:.3}

The price of a text message depends on country and carrier, so no row contains it.

### Fixed costs

A stack without any logins costs, per month:

| what | computation | US dollars |
|---|---|---|
",
        READ_UNITS.dollars,
        WRITE_UNITS.dollars,
        bill.table,
        INVOCATIONS.dollars,
        bill.memory,
        bill.milliseconds,
        COMPUTE.dollars,
        bill.lambda,
        bill.gateway,
        bill.log_bytes,
        LOGS.dollars,
        bill.logs,
        read = first.read,
        written = first.written,
    )?;
    #[expect(clippy::cast_precision_loss, reason = "some dozens")]
    let alarms = ALARMS as f64 * ALARM.dollars;
    for (what, how, dollars) in [
        ("secrets", format!("{:.2} for each tenant", SECRET.dollars), SECRET.dollars),
        ("key", "one".to_owned(), KEY.dollars),
        (
            "alarms",
            format!("{ALARMS} × {:.2}; AWS charges this price for each metric of an alarm", ALARM.dollars),
            alarms,
        ),
        ("dashboard", "one".to_owned(), DASHBOARD.dollars),
    ] {
        writeln!(text, "| {what} | {how} | {dollars:.2} |")?;
    }
    let floor = SECRET.dollars + KEY.dollars + alarms + DASHBOARD.dollars;
    let each = TABLE_STORAGE.dollars + TABLE_BACKUP.dollars;
    let reading = 12.0 * 24.0 * 30.0 / 10_000.0 * SECRET_CALLS.dollars;
    write!(
        text,
        "| **total, with one tenant** | | **{floor:.2}** |

- Each further tenant costs {:.2} per month.
- A GB of the table costs {:.2} + {:.2} = {each:.2} per month with point-in-time recovery. A session's item is below
  1 KB and is deleted after the session ends.
- A function in use has up to nine metrics at {:.2} per month, billed for the hours of use.
- A process in use reads a tenant's secret every five minutes. For one process that is always in use, these calls cost
  {reading:.3} per month ({} for 10,000 calls). Each of them also makes one KMS call ({} for 10,000 calls).

### Prices

| what | US dollars | per | source |
|---|---|---|---|
",
        SECRET.dollars,
        TABLE_STORAGE.dollars,
        TABLE_BACKUP.dollars,
        METRIC.dollars,
        SECRET_CALLS.dollars,
        KEY_CALLS.dollars,
    )?;
    for Price { what, dollars, per, source } in PRICES {
        writeln!(text, "| {what} | {} | {per} | <{source}> |", amount(*dollars))?;
    }
    Ok(text)
}

/// With cents, and more digits where a price has them.
fn amount(dollars: f64) -> String {
    let (cents, exact) = (format!("{dollars:.2}"), dollars.to_string());
    if cents.len() < exact.len() { exact } else { cents }
}
