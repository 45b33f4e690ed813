// Memory, timeout and permissions of each function, with reasons. The permissions are the calls that the use cases
// (shared/src/usecase) make through the store (shared/src/store). A transaction needs the permission of each of its
// writes, and ConditionCheckItem for its checks. No function scans the table.

import type { Trigger } from "./source";

/** A DynamoDB action that a function may have. */
export type TableAction =
  "GetItem" | "BatchGetItem" | "Query" | "PutItem" | "UpdateItem" | "DeleteItem" | "ConditionCheckItem";

/** A Secrets Manager action that a function may have on tenants' secrets. */
export type SecretAction =
  "DescribeSecret" | "GetSecretValue" | "PutSecretValue" | "UpdateSecretVersionStage";

/** Patterns of partition keys, by their items (shared/src/store/keys.rs). */
export const KEYS = {
  /** All items of a tenant. The tenant record has no narrower pattern. */
  tenant: "T#*",
  /** A user with its sessions, attempts, codes and messages. */
  user: "T#*#U#*",
  /** The owner of a username. */
  username: "T#*#N#*",
  /** The users with a mail address. */
  mail: "T#*#M#*",
  /** Failures from a client address. */
  address: "T#*#IP#*",
  /** Failures of a tenant. */
  failures: "T#*#F#*",
  /** Public keys of a tenant. */
  publicKeys: "T#*#P#*",
  /** API clients, and the assertions that they used. */
  client: "T#*#C#*",
  /** Revoked tokens of API clients. */
  revoked: "T#*#R#*",
  /** Idempotency keys. */
  idempotency: "T#*#K#*",
  /** The tenants whose policy lists an origin. */
  origin: "O#*",
  /** Audit anchors of a tenant's chains, and of chains without a tenant. */
  tenantAnchor: "T#*#A#*",
  anchor: "A#*",
  /** The key that the health check reads. The item never exists. */
  health: "HEALTH",
} as const;

/** Keys of audit anchors. Only `anchor-audit` may write them, because they verify the audit log (docs/audit.md). */
export const ANCHORS = [KEYS.tenantAnchor, KEYS.anchor] as const;

/** Actions on the table or one of its indexes, limited to keys (`dynamodb:LeadingKeys`) and, if set, to attributes. */
export interface TableGrant {
  readonly actions: readonly TableAction[];
  readonly keys: readonly string[];
  /** The index that the actions read (infra/table.json). The keys are those of the index then. */
  readonly index?: "users";
  readonly attributes?: readonly string[];
}

/** Resources and permissions of one function. */
export interface FunctionSpec {
  /** Memory in MiB. Lambda assigns CPU in proportion: 1,769 MiB correspond to one core. */
  readonly memory: number;
  /** Reason for the memory size. */
  readonly because: string;
  readonly table: readonly TableGrant[];
  readonly secrets: readonly SecretAction[];
  /** True if the function sends email and, if the settings allow it, text messages and events. */
  readonly sends?: true;
  /** True if the function needs the public address. */
  readonly publicUrl?: true;
  /** True if the function hashes passwords. Its routes use `loginThrottle`. */
  readonly hashes?: true;
  /** Reserved share of the setting `concurrency`, in percent. */
  readonly reserved?: number;
}

/**
 * Timeouts in seconds. HTTP functions need more than 15 s and less than 60 s (docs/configuration.md). API Gateway waits
 * at most 30 s for a response, and at most 10 s for an authorizer. Other functions have 60 s.
 */
export const TIMEOUTS: Readonly<Record<Trigger, number>> = {
  http: 29,
  authorizer: 10,
  stream: 60,
  log: 60,
  rotation: 60,
};

const HASHES =
  "argon2id uses 19 MiB and 20 ms of one core; with less than one core, logins take proportionally longer";
const WAITS =
  "it mostly waits for DynamoDB; 0.29 of a core is enough for fast signatures and a fast first TLS handshake";

/** Reads tenant records. */
const FINDS_TENANTS: TableGrant = { actions: ["GetItem"], keys: [KEYS.tenant] };
/** Reads tenant records, and origins for routes with CORS. */
const FINDS: TableGrant = { actions: ["GetItem"], keys: [KEYS.tenant, KEYS.origin] };
/**
 * Records, at most once a minute, which version of its secret a tenant uses (shared/src/store/tenant.rs). The item
 * is in the partition of the tenant record, because IAM cannot restrict sort keys. The attribute list prevents changes
 * to other items in that partition, except to their expiry time.
 */
const NOTES_SECRET_USE: TableGrant = {
  actions: ["UpdateItem"],
  keys: [KEYS.tenant],
  attributes: ["pk", "sk", "version_id", "last_used_at", "expires_at"],
};
/**
 * Records the last use of an API client and the use of an assertion, and rewrites the hash of a secret
 * (shared/src/store/api_client.rs). The attribute list prevents changes to the scopes and the status of a client.
 */
const NOTES_CLIENTS: TableGrant = {
  actions: ["UpdateItem"],
  keys: [KEYS.client],
  attributes: ["pk", "sk", "last_used_at", "credentials", "revision", "attempt_id", "expires_at"],
};
/** Writes the version of a tenant's secret to the tenant record (shared/src/store/tenant.rs), and no other attribute. */
const ACTIVATES_SECRETS: TableGrant = {
  actions: ["UpdateItem"],
  keys: [KEYS.tenant],
  attributes: ["pk", "sk", "secret_version"],
};
/** Puts a throttled message at the end of the stream again (shared/src/store/outbox.rs), and writes no other attribute. */
const REQUEUES: TableGrant = {
  actions: ["UpdateItem"],
  keys: [KEYS.user],
  attributes: ["pk", "sk", "requeued"],
};
/** Publishes the public keys of tenants (shared/src/store/published.rs). */
const PUBLISHES_KEYS: TableGrant = { actions: ["GetItem", "PutItem"], keys: [KEYS.publicKeys] };
const READS: TableGrant = { actions: ["BatchGetItem"], keys: [KEYS.tenant] };
const READS_AND_QUERIES: TableGrant = { actions: ["BatchGetItem", "Query"], keys: [KEYS.tenant] };

/** The functions of the route table, by name. */
export const FUNCTIONS: Readonly<Record<string, FunctionSpec>> = {
  "create-session": {
    memory: 1769,
    because: HASHES,
    table: [
      FINDS,
      READS_AND_QUERIES,
      { actions: ["PutItem"], keys: [KEYS.user, KEYS.idempotency] },
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
      { actions: ["PutItem"], keys: [KEYS.user, KEYS.idempotency] },
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
  "find-users": {
    memory: 512,
    because: WAITS,
    table: [
      FINDS,
      READS,
      { actions: ["Query"], keys: [KEYS.mail] },
      { actions: ["Query"], index: "users", keys: [KEYS.tenant] },
    ],
    secrets: ["GetSecretValue"],
  },
  "manage-users": {
    memory: 1769,
    because: HASHES,
    table: [
      FINDS,
      READS,
      { actions: ["Query"], keys: [KEYS.user] },
      { actions: ["PutItem"], keys: [KEYS.user, KEYS.username, KEYS.mail, KEYS.idempotency] },
      { actions: ["UpdateItem"], keys: [KEYS.user] },
      { actions: ["DeleteItem"], keys: [KEYS.user, KEYS.username, KEYS.mail] },
      { actions: ["ConditionCheckItem"], keys: [KEYS.user] },
    ],
    secrets: ["GetSecretValue"],
    hashes: true,
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
    because: "one read, which is usually cached",
    table: [{ actions: ["GetItem"], keys: [KEYS.origin] }],
    secrets: [],
  },
  "deliver-notification": {
    memory: 512,
    because: WAITS,
    table: [FINDS_TENANTS, READS, { actions: ["DeleteItem"], keys: [KEYS.user] }, REQUEUES],
    secrets: ["GetSecretValue"],
    sends: true,
    publicUrl: true,
  },
  "anchor-audit": {
    memory: 512,
    because: "a batch can be 32 MiB after decompression, and each of its lines is hashed",
    table: [{ actions: ["UpdateItem"], keys: ANCHORS }],
    secrets: [],
  },
  discovery: {
    memory: 256,
    because: "two reads, which are usually cached",
    table: [{ actions: ["GetItem"], keys: [KEYS.tenant, KEYS.health] }],
    secrets: [],
    publicUrl: true,
  },
  oauth: {
    memory: 512,
    because: WAITS,
    table: [
      FINDS_TENANTS,
      READS,
      NOTES_CLIENTS,
      { actions: ["UpdateItem"], keys: [KEYS.revoked, KEYS.user, KEYS.address, KEYS.failures] },
      NOTES_SECRET_USE,
    ],
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
    because: "it generates keys; with 0.29 of a core, an RSA key takes a few seconds",
    table: [ACTIVATES_SECRETS, PUBLISHES_KEYS],
    secrets: ["DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage"],
  },
};
