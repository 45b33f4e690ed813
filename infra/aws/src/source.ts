// What is written down once, elsewhere in the repository, and read here: which functions and routes there are
// (from the route table in Rust), what the table is, and how the stream feeds the sender.

import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** What calls a function. */
export type Trigger = "http" | "stream" | "log" | "authorizer" | "rotation";

/** infra/routes.json: the route table, as the Rust code writes it. */
export interface RouteTable {
  readonly functions: readonly { readonly name: string; readonly trigger: Trigger }[];
  readonly routes: readonly Route[];
}

/** One route: a method, a path with parameters in braces, and who answers. */
export interface Route {
  readonly method: string;
  readonly path: string;
  readonly function: string;
  readonly dialect: string;
  readonly action: string;
}

/** infra/table.json: what the table is, here as on a developer's machine. */
export interface TableSpec {
  readonly keySchema: {
    readonly partitionKey: { readonly name: string; readonly type: "S" };
    readonly sortKey: { readonly name: string; readonly type: "S" };
  };
  readonly billingMode: "PAY_PER_REQUEST";
  readonly ttlAttribute: string;
  readonly stream: "KEYS_ONLY";
  readonly pointInTimeRecovery: boolean;
  readonly deletionProtection: boolean;
  readonly encryption: "KMS";
}

/** infra/delivery.json: how the table's stream feeds the function that delivers. */
export interface DeliverySpec {
  readonly function: string;
  readonly filter: Readonly<Record<string, unknown>>;
  readonly startingPosition: "TRIM_HORIZON" | "LATEST";
  readonly batchSize: number;
  readonly maximumBatchingWindowSeconds: number;
  readonly parallelizationFactor: number;
  readonly maximumRetryAttempts: number;
  readonly maximumRecordAgeSeconds: number;
  readonly bisectBatchOnFunctionError: boolean;
  readonly reportBatchItemFailures: boolean;
  readonly onFailure: "SQS";
}

/** The repository's folder: the one above this file that has infra/table.json. */
export const repository = (() => {
  let folder = __dirname;
  while (!existsSync(join(folder, "infra", "table.json"))) {
    const above = dirname(folder);
    if (above === folder) throw new Error(`no folder above ${__dirname} has infra/table.json`);
    folder = above;
  }
  return folder;
})();

const read = <T>(file: string) => JSON.parse(readFileSync(join(repository, "infra", file), "utf8")) as T;

export const routeTable = read<RouteTable>("routes.json");
export const tableSpec = read<TableSpec>("table.json");
export const deliverySpec = read<DeliverySpec>("delivery.json");
