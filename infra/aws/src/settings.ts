// The settings of a deployment: one JSON file, validated before the stack is built.

import { readFileSync } from "node:fs";

/** Throttling of API Gateway: requests per second, and the burst size. */
export interface Throttle {
  readonly rate: number;
  readonly burst: number;
}

/** The settings of a deployment. README.md describes each one. */
export interface Settings {
  readonly stackName: string;
  readonly mailFrom: string;
  readonly architecture: "arm64" | "x86_64";
  readonly publicUrl?: string;
  readonly domain?: {
    readonly name: string;
    readonly certificateArn: string;
    readonly hostedZone?: { readonly id: string; readonly name: string };
  };
  readonly secretPrefix: string;
  readonly mailIdentities: readonly string[];
  readonly textMessages: boolean;
  readonly eventBusArns: readonly string[];
  readonly logLevel: "error" | "warn" | "info" | "debug" | "trace";
  readonly auditRetentionDays: number;
  readonly logRetentionDays: number;
  readonly alarmEmail?: string;
  readonly alarmTopicArn?: string;
  readonly tracing: "off" | "xray";
  readonly encryption: "own-key" | "aws-managed";
  readonly replicas: readonly string[];
  readonly existingTable?: { readonly name: string; readonly streamArn: string; readonly keyArn?: string };
  readonly removal: "retain" | "destroy";
  readonly concurrency: number;
  readonly throttle: Throttle;
  readonly loginThrottle: Throttle;
  readonly loginsAMinute: number;
}

/** Retention times in days that CloudWatch Logs supports, up to two years (PutRetentionPolicy). */
const RETENTION = [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731];
/** Lifetime of audit anchors in days. If logs expire earlier, verification reports them as missing (docs/audit.md). */
const ANCHORED_DAYS = 400;

type Check = (value: unknown) => string | undefined;

const text =
  (form: RegExp, wanted: string): Check =>
  (value) =>
    typeof value === "string" && form.test(value) ? undefined : `must be ${wanted}`;
const oneOf =
  (...choices: readonly (string | number)[]): Check =>
  (value) =>
    choices.includes(value as string | number) ? undefined : `must be one of ${choices.join(", ")}`;
const whole =
  (least: number, most: number): Check =>
  (value) =>
    Number.isInteger(value) && (value as number) >= least && (value as number) <= most
      ? undefined
      : `must be a whole number from ${least} to ${most}`;
const list =
  (each: Check): Check =>
  (value) => {
    if (!Array.isArray(value)) return "must be a list";
    if (new Set(value).size !== value.length) return "contains a duplicate; list each value once";
    return value.map(each).find((problem) => problem !== undefined);
  };
const record =
  (members: Record<string, { check: Check; optional?: boolean }>): Check =>
  (value) => {
    if (typeof value !== "object" || value === null || Array.isArray(value)) return "must be an object";
    const given = value as Record<string, unknown>;
    for (const name of Object.keys(given)) {
      if (!Object.hasOwn(members, name)) {
        return `has the unknown member "${name}"; the members are ${Object.keys(members).join(", ")}`;
      }
    }
    for (const [name, { check, optional }] of Object.entries(members)) {
      const problem = given[name] === undefined ? (optional ? undefined : "is missing") : check(given[name]);
      if (problem !== undefined) return `${name} ${problem}`;
    }
    return undefined;
  };

const throttle = record({ rate: { check: whole(1, 10_000) }, burst: { check: whole(1, 5_000) } });
const region = text(/^[a-z]{2}(-[a-z]+)+-\d$/, 'a Region, such as "eu-west-1"');
const arn = (service: string, wanted: string) =>
  text(new RegExp(`^arn:[a-z-]+:${service}:[^:]+:\\d{12}:.+$`), wanted);
const host = /^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}$/;
const address = /^[^\s@<>]+@([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}$/i;

const CHECKS: Record<keyof Settings, Check> = {
  stackName: text(/^[A-Za-z][A-Za-z0-9-]{0,39}$/, "a letter, then up to 39 letters, digits and hyphens"),
  mailFrom: text(address, 'an email address that SES may send from, such as "login@example.com"'),
  architecture: oneOf("arm64", "x86_64"),
  publicUrl: text(/^https?:\/\/[^/?#\s]+$/, 'a URL without a path, such as "https://login.example.com"'),
  domain: record({
    name: { check: text(host, 'a host name, such as "login.example.com"') },
    certificateArn: { check: arn("acm", "the ARN of a certificate in the Region of the stack") },
    hostedZone: {
      optional: true,
      check: record({
        id: { check: text(/^[A-Z0-9]+$/, 'a Route 53 zone ID, such as "Z0123456789ABC"') },
        name: { check: text(host, 'the name of the zone, such as "example.com"') },
      }),
    },
  }),
  secretPrefix: text(
    /^[A-Za-z0-9/_+=.@-]{1,256}\/$/,
    'a prefix of secret names that ends with a slash, such as "doorward/tenants/"',
  ),
  mailIdentities: list(
    text(
      new RegExp(`${address.source}|${host.source}`, "i"),
      "email addresses or domains that SES has verified",
    ),
  ),
  textMessages: oneOf(),
  eventBusArns: list(arn("events", "ARNs of EventBridge buses")),
  logLevel: oneOf("error", "warn", "info", "debug", "trace"),
  auditRetentionDays: oneOf(...RETENTION.filter((days) => days >= ANCHORED_DAYS)),
  logRetentionDays: oneOf(...RETENTION),
  alarmEmail: text(address, "an email address"),
  alarmTopicArn: arn("sns", "the ARN of an SNS topic"),
  tracing: oneOf("off", "xray"),
  encryption: oneOf("own-key", "aws-managed"),
  replicas: list(region),
  existingTable: record({
    name: { check: text(/^[A-Za-z0-9_.-]{3,255}$/, "the name of the table") },
    streamArn: {
      check: text(
        /^arn:[a-z-]+:dynamodb:[^:]+:\d{12}:table\/[^/]+\/stream\/.+$/,
        "the ARN of the stream of the table: `LatestStreamArn` in the output of `aws dynamodb describe-table`",
      ),
    },
    keyArn: { optional: true, check: arn("kms", "the ARN of the KMS key that encrypts the table") },
  }),
  removal: oneOf("retain", "destroy"),
  concurrency: whole(1, 1_000_000),
  throttle,
  loginThrottle: throttle,
  loginsAMinute: whole(1, 1_000_000),
};
CHECKS.textMessages = (value) => (typeof value === "boolean" ? undefined : "must be true or false");

const DEFAULTS: Omit<Settings, "mailFrom" | "secretPrefix"> = {
  stackName: "doorward",
  architecture: "arm64",
  mailIdentities: [],
  textMessages: false,
  eventBusArns: [],
  logLevel: "info",
  auditRetentionDays: 400,
  logRetentionDays: 90,
  tracing: "off",
  encryption: "own-key",
  replicas: [],
  removal: "retain",
  concurrency: 1000,
  throttle: { rate: 500, burst: 500 },
  loginThrottle: { rate: 100, burst: 100 },
  loginsAMinute: 600,
};

/** Invalid settings. The message lists all problems. */
export class SettingsError extends Error {
  constructor(source: string, problems: readonly string[]) {
    super(`${source} is not valid:\n${problems.map((problem) => `  - ${problem}`).join("\n")}`);
    this.name = "SettingsError";
  }
}

/** Validates settings and adds the defaults. Throws a {@link SettingsError}. */
export function parseSettings(given: unknown, source = "the settings"): Settings {
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw new SettingsError(source, [
      'the content must be a JSON object, such as { "mailFrom": "login@example.com" }',
    ]);
  }
  const values = given as Partial<Settings>;
  const problems: string[] = [];
  for (const [name, value] of Object.entries(values)) {
    const check = Object.hasOwn(CHECKS, name) ? CHECKS[name as keyof Settings] : undefined;
    const problem =
      check === undefined
        ? `is not a setting; the settings are ${Object.keys(CHECKS).join(", ")}`
        : check(value);
    if (problem !== undefined) problems.push(`${name} ${problem}`);
  }
  if (values.mailFrom === undefined) {
    problems.push(
      "mailFrom is missing: set the sender address of emails; SES must have verified it or its domain",
    );
  }
  if (values.publicUrl !== undefined && values.domain !== undefined) {
    problems.push(
      "publicUrl and domain exclude each other: the domain is the public address; remove publicUrl",
    );
  }
  if (values.existingTable !== undefined && (values.replicas ?? []).length > 0) {
    problems.push(
      "existingTable and replicas exclude each other: this stack does not manage an existing table; remove replicas and add them to the table itself",
    );
  }
  if (values.alarmEmail !== undefined && values.alarmTopicArn !== undefined) {
    problems.push(
      "alarmEmail and alarmTopicArn exclude each other: remove alarmEmail and subscribe the address to your topic",
    );
  }
  if (problems.length > 0) throw new SettingsError(source, problems);
  const stackName = values.stackName ?? DEFAULTS.stackName;
  // The default prefix contains the stack name, so that two stacks share secrets only if the settings ask for it.
  return { ...DEFAULTS, secretPrefix: `${stackName}/tenants/`, ...values } as Settings;
}

/** Reads and validates a settings file. Throws a {@link SettingsError} that explains how to correct it. */
export function readSettings(file: string): Settings {
  let content: string;
  try {
    content = readFileSync(file, "utf8");
  } catch {
    throw new SettingsError(file, [
      "the file cannot be read: copy settings.example.json to settings.json and set mailFrom, or pass another file with `-c settings=FILE`",
    ]);
  }
  try {
    return parseSettings(JSON.parse(content), file);
  } catch (error) {
    if (error instanceof SyntaxError)
      throw new SettingsError(file, [`the file is not valid JSON: ${error.message}`]);
    throw error;
  }
}
