// What each function is given, and why: memory, time, and the only calls that it may make.

import type { Trigger } from "./source";

/** What a function may do with the table. */
export type TableAction =
  | "GetItem"
  | "BatchGetItem"
  | "Query"
  | "PutItem"
  | "UpdateItem"
  | "DeleteItem"
  | "ConditionCheckItem";

/** What a function may do with tenants' secrets. */
export type SecretAction = "DescribeSecret" | "GetSecretValue" | "PutSecretValue" | "UpdateSecretVersionStage";

/** One function's needs. */
export interface FunctionSpec {
  /** MiB; Lambda gives CPU in proportion: 1,769 MiB are one core. */
  readonly memory: number;
  /** Why it is given that much. */
  readonly because: string;
  /** Seconds; by {@link TIMEOUTS} of its trigger where it is not given. */
  readonly timeout?: number;
  readonly table: readonly TableAction[];
  /** The partition keys that `table` is for, where they can be told apart by how they begin (`dynamodb:LeadingKeys`). */
  readonly leadingKeys?: readonly string[];
  readonly secrets: readonly SecretAction[];
  /** Sends mail and, where the settings say so, text messages and events. */
  readonly sends?: true;
  /** Needs to know where people reach the routes. */
  readonly publicUrl?: true;
  /** Its share of the account's concurrency, reserved, in per cent. */
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

const HASHES = "argon2id takes 19 MiB and 20 ms of a whole core: one core, so that a login does not take longer than it must";
const WAITS = "it waits for DynamoDB; a third of a core keeps signing, verifying and TLS at the start short";

/** Every function of the route table. */
export const FUNCTIONS: Readonly<Record<string, FunctionSpec>> = {
  "create-session": {
    memory: 1769,
    because: HASHES,
    table: ["GetItem", "BatchGetItem", "Query", "PutItem", "UpdateItem"],
    secrets: ["GetSecretValue"],
    reserved: 20,
  },
  "refresh-session": {
    memory: 512,
    because: WAITS,
    table: ["GetItem", "BatchGetItem", "UpdateItem"],
    secrets: ["GetSecretValue"],
    reserved: 30,
  },
  "delete-session": {
    memory: 512,
    because: WAITS,
    table: ["GetItem", "BatchGetItem", "Query", "UpdateItem", "ConditionCheckItem"],
    secrets: ["GetSecretValue"],
  },
  "list-sessions": {
    memory: 512,
    because: WAITS,
    table: ["GetItem", "BatchGetItem", "Query"],
    secrets: ["GetSecretValue"],
  },
  "reset-login": {
    memory: 512,
    because: WAITS,
    table: ["GetItem", "BatchGetItem", "PutItem", "UpdateItem", "DeleteItem", "ConditionCheckItem"],
    secrets: ["GetSecretValue"],
  },
  "update-credentials": {
    memory: 1769,
    because: HASHES,
    table: ["GetItem", "BatchGetItem", "Query", "PutItem", "UpdateItem", "DeleteItem", "ConditionCheckItem"],
    secrets: ["GetSecretValue"],
    reserved: 5,
  },
  "password-page": {
    memory: 1769,
    because: HASHES,
    table: ["GetItem", "BatchGetItem", "PutItem", "UpdateItem", "DeleteItem"],
    secrets: ["GetSecretValue"],
    publicUrl: true,
    reserved: 5,
  },
  preflight: {
    memory: 256,
    because: "one read, mostly from memory",
    table: ["GetItem"],
    leadingKeys: ["O#*"],
    secrets: [],
  },
  "deliver-notification": {
    memory: 512,
    because: WAITS,
    table: ["GetItem", "BatchGetItem", "DeleteItem"],
    secrets: ["GetSecretValue"],
    sends: true,
    publicUrl: true,
  },
  "anchor-audit": {
    memory: 512,
    because: "a batch unpacks to up to 32 MiB, and each of its lines is hashed",
    table: ["UpdateItem"],
    leadingKeys: ["T#*#A#*", "A#*"],
    secrets: [],
  },
  discovery: {
    memory: 256,
    because: "one read, mostly from memory; verifiers keep its answers for minutes",
    table: ["GetItem"],
    secrets: ["GetSecretValue"],
    publicUrl: true,
  },
  authorize: {
    memory: 512,
    because: WAITS,
    table: ["GetItem", "BatchGetItem"],
    secrets: ["GetSecretValue"],
  },
  "rotate-secret": {
    memory: 512,
    because: "it makes keys: a third of a core makes an RSA key within seconds",
    table: ["GetItem"],
    secrets: ["DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage"],
  },
};
