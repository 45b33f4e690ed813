// Reads the descriptions that the CDK app shares with the Rust code: functions and routes (infra/routes.json), the
// table (infra/table.json) and the delivery of notifications from the stream (infra/delivery.json).

import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** The event source of a function. */
export type Trigger = "http" | "stream" | "log" | "authorizer" | "rotation";

/** The content of infra/routes.json, which the Rust code generates from its route table. */
export interface RouteTable {
  readonly functions: readonly { readonly name: string; readonly trigger: Trigger }[];
  readonly routes: readonly Route[];
}

/** One route: a method, a path with parameters in braces, and the function that handles it. */
export interface Route {
  readonly method: string;
  readonly path: string;
  readonly function: string;
  readonly dialect: string;
  readonly action: string;
}

/** The content of infra/table.json: the table in AWS and in the local stack. */
export interface TableSpec {
  readonly keySchema: {
    readonly partitionKey: { readonly name: string; readonly type: "S" };
    readonly sortKey: { readonly name: string; readonly type: "S" };
  };
  readonly indexes: readonly {
    readonly name: string;
    readonly partitionKey: { readonly name: string; readonly type: "S" };
    readonly sortKey: { readonly name: string; readonly type: "S" };
    readonly projection: "KEYS_ONLY";
  }[];
  readonly billingMode: "PAY_PER_REQUEST";
  readonly ttlAttribute: string;
  readonly stream: "KEYS_ONLY";
  readonly pointInTimeRecovery: boolean;
  readonly deletionProtection: boolean;
  readonly encryption: "KMS";
}

/** The content of infra/delivery.json: the event source mapping from the stream to `deliver-notification`. */
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

/** The root of the repository: the nearest parent folder that contains infra/table.json. */
export const repository = (() => {
  let folder = __dirname;
  while (!existsSync(join(folder, "infra", "table.json"))) {
    const above = dirname(folder);
    if (above === folder)
      throw new Error(
        `no folder above ${__dirname} contains infra/table.json; run the app inside the repository`,
      );
    folder = above;
  }
  return folder;
})();

const read = <T>(file: string) => JSON.parse(readFileSync(join(repository, "infra", file), "utf8")) as T;

export const routeTable = read<RouteTable>("routes.json");
export const tableSpec = read<TableSpec>("table.json");
export const deliverySpec = read<DeliverySpec>("delivery.json");
