// What each function is given, and why: memory, time, and the only calls that it may make. The calls are those of
// the use cases (shared/src/usecase) in the store's words (shared/src/store): a transaction takes the permission of
// each write in it, and ConditionCheckItem for what it only checks. No function scans.

import type { Trigger } from "./source";

/** What a function may do with the table. */
export type TableAction =
  "GetItem" | "BatchGetItem" | "Query" | "PutItem" | "UpdateItem" | "DeleteItem" | "ConditionCheckItem";

/** What a function may do with tenants' secrets. */
export type SecretAction =
  "DescribeSecret" | "GetSecretValue" | "PutSecretValue" | "UpdateSecretVersionStage";

/** How partition keys begin, by what is kept in them (shared/src/store/keys.rs). */
export const KEYS = {
  /** Whatever belongs to a tenant: its record above all, which cannot be told from the rest by its beginning. */
  tenant: "T#*",
  /** A user, its sessions, attempts, codes and messages. */
  user: "T#*#U#*",
  /** Whose a username is. */
  username: "T#*#N#*",
  /** What went wrong from an address. */
  address: "T#*#IP#*",
  /** What went wrong for a tenant. */
  failures: "T#*#F#*",
  /** Requests that are not to be done twice. */
  once: "T#*#K#*",
  /** Which tenants name an origin. */
  origin: "O#*",
  /** How far a chain of the audit log got, of a tenant and of none. */
  tenantAnchor: "T#*#A#*",
  anchor: "A#*",
  /** The item that is never there, which a look at the table's health asks for. */
  health: "HEALTH",
} as const;

/** The keys that nobody but `anchor-audit` writes: the audit log is held against them (docs/audit.md). */
export const ANCHORS = [KEYS.tenantAnchor, KEYS.anchor] as const;

/** Calls on the table, the keys that they are for (`dynamodb:LeadingKeys`), and where it helps, the attributes. */
export interface TableGrant {
  readonly actions: readonly TableAction[];
  readonly keys: readonly string[];
  readonly attributes?: readonly string[];
}

/** One function's needs. */
export interface FunctionSpec {
  /** MiB; Lambda gives CPU in proportion: 1,769 MiB are one core. */
  readonly memory: number;
  /** Why it is given that much. */
  readonly because: string;
  readonly table: readonly TableGrant[];
  readonly secrets: readonly SecretAction[];
  /** Sends mail and, where the settings say so, text messages and events. */
  readonly sends?: true;
  /** Needs to know where people reach the routes. */
  readonly publicUrl?: true;
  /** Hashes passwords: its routes are throttled as logins are. */
  readonly hashes?: true;
  /** Its reserved share of the concurrency that the settings name, in per cent. */
  readonly reserved?: number;
}

/**
 * Seconds. What answers requests must have more than 15 and less than 60 (docs/configuration.md); HTTP APIs wait
 * 30 at most, and 10 for an authorizer. What runs by itself has a minute.
 */
export const TIMEOUTS: Readonly<Record<Trigger, number>> = {
  http: 29,
  authorizer: 10,
  stream: 60,
  log: 60,
  rotation: 60,
};

const HASHES = "argon2id takes 19 MiB and 20 ms of a core: one whole core, or a login takes as much longer";
const WAITS =
  "mostly it waits for DynamoDB: 0.29 of a core keeps signatures and the first TLS handshake short";

/** Tenants' records. */
const FINDS_TENANTS: TableGrant = { actions: ["GetItem"], keys: [KEYS.tenant] };
/** And for routes that pages of other origins may call, whether an origin is anybody's. */
const FINDS: TableGrant = { actions: ["GetItem"], keys: [KEYS.tenant, KEYS.origin] };
/**
 * Once a minute, which version of its secret a tenant uses: kept in the partition of its record, since IAM knows no
 * sort keys (shared/src/store/secret_use.rs). Of other items there it can change nothing but when they expire.
 */
const NOTES_SECRET_USE: TableGrant = {
  actions: ["UpdateItem"],
  keys: [KEYS.tenant],
  attributes: ["pk", "sk", "version_id", "last_used_at", "expires_at"],
};
const READS: TableGrant = { actions: ["BatchGetItem"], keys: [KEYS.tenant] };
const READS_AND_QUERIES: TableGrant = { actions: ["BatchGetItem", "Query"], keys: [KEYS.tenant] };

/** Every function of the route table. */
export const FUNCTIONS: Readonly<Record<string, FunctionSpec>> = {
  "create-session": {
    memory: 1769,
    because: HASHES,
    table: [
      FINDS,
      READS_AND_QUERIES,
      { actions: ["PutItem"], keys: [KEYS.user, KEYS.once] },
      { actions: ["UpdateItem"], keys: [KEYS.user, KEYS.address, KEYS.failures] },
      NOTES_SECRET_USE,
    ],
    secrets: ["GetSecretValue"],
    hashes: true,
    reserved: 20,
  },
  "refresh-session": {
    memory: 512,
    because: WAITS,
    table: [FINDS, READS, { actions: ["UpdateItem"], keys: [KEYS.user] }],
    secrets: ["GetSecretValue"],
    reserved: 30,
  },
  "delete-session": {
    memory: 512,
    because: WAITS,
    table: [FINDS, READS_AND_QUERIES, { actions: ["UpdateItem", "ConditionCheckItem"], keys: [KEYS.user] }],
    secrets: ["GetSecretValue"],
  },
  "list-sessions": {
    memory: 512,
    because: WAITS,
    table: [FINDS, READS_AND_QUERIES],
    secrets: ["GetSecretValue"],
  },
  "reset-login": {
    memory: 512,
    because: WAITS,
    table: [
      FINDS,
      READS,
      { actions: ["PutItem"], keys: [KEYS.user, KEYS.once] },
      { actions: ["UpdateItem", "ConditionCheckItem"], keys: [KEYS.user] },
      NOTES_SECRET_USE,
    ],
    secrets: ["GetSecretValue"],
  },
  "update-credentials": {
    memory: 1769,
    because: HASHES,
    table: [
      FINDS,
      READS_AND_QUERIES,
      { actions: ["PutItem"], keys: [KEYS.user, KEYS.username] },
      { actions: ["UpdateItem"], keys: [KEYS.user, KEYS.address, KEYS.failures] },
      { actions: ["DeleteItem"], keys: [KEYS.username] },
      { actions: ["ConditionCheckItem"], keys: [KEYS.user] },
    ],
    secrets: ["GetSecretValue"],
    hashes: true,
    reserved: 5,
  },
  "password-page": {
    memory: 1769,
    because: HASHES,
    table: [
      FINDS_TENANTS,
      READS,
      { actions: ["PutItem"], keys: [KEYS.user] },
      { actions: ["UpdateItem"], keys: [KEYS.user, KEYS.address] },
    ],
    secrets: ["GetSecretValue"],
    publicUrl: true,
    hashes: true,
    reserved: 5,
  },
  preflight: {
    memory: 256,
    because: "one read, mostly spared by what it remembers",
    table: [{ actions: ["GetItem"], keys: [KEYS.origin] }],
    secrets: [],
  },
  "deliver-notification": {
    memory: 512,
    because: WAITS,
    table: [FINDS_TENANTS, READS, { actions: ["DeleteItem"], keys: [KEYS.user] }],
    secrets: ["GetSecretValue"],
    sends: true,
    publicUrl: true,
  },
  "anchor-audit": {
    memory: 512,
    because: "a batch unpacks to up to 32 MiB, and each of its lines is hashed",
    table: [{ actions: ["UpdateItem"], keys: ANCHORS }],
    secrets: [],
  },
  discovery: {
    memory: 256,
    because: "one read, mostly spared by what it remembers",
    table: [{ actions: ["GetItem"], keys: [KEYS.tenant, KEYS.health] }],
    secrets: ["GetSecretValue"],
    publicUrl: true,
  },
  authorize: {
    memory: 512,
    because: WAITS,
    table: [FINDS_TENANTS, READS],
    secrets: ["GetSecretValue"],
  },
  "rotate-secret": {
    memory: 512,
    because: "it makes keys: with 0.29 of a core, one for RSA within seconds",
    table: [],
    secrets: ["DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage"],
  },
};
