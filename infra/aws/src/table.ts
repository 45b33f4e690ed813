// The table, as infra/table.json has it.

import { RemovalPolicy, Stack } from "aws-cdk-lib";
import {
  AttributeType,
  Billing,
  type ITableV2,
  StreamViewType,
  TableEncryptionV2,
  TableV2,
} from "aws-cdk-lib/aws-dynamodb";
import { Key } from "aws-cdk-lib/aws-kms";
import type { Construct } from "constructs";
import { type Settings, SettingsError } from "./settings";
import { tableSpec } from "./source";

/**
 * What becomes of what holds data when the stack no longer has it: it is kept. What a first deployment made before
 * it failed goes, or its name would be in the way of the next try.
 */
export function removalPolicy(settings: Settings): RemovalPolicy {
  return settings.removal === "destroy" ? RemovalPolicy.DESTROY : RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE;
}

/**
 * The key that encrypts the table, where the team has its own. It stays in the stack beside a table that is not the
 * stack's: one that was restored is encrypted as the one before.
 */
export function tableKey(scope: Construct, settings: Settings): Key | undefined {
  if (settings.encryption === "aws-managed") return undefined;
  return new Key(scope, "Key", {
    alias: settings.stackName,
    description: "Encrypts Doorward's table, and tenants' secrets where they name it",
    enableKeyRotation: true,
    removalPolicy: removalPolicy(settings),
  });
}

/**
 * The table. Its stream has keys alone, so that no password's hash travels, with replicas, too: DynamoDB replicates by
 * whatever stream there is already (ScyllaDB found that on AWS: scylladb/scylladb, pull request 29928).
 */
export function table(scope: Construct, settings: Settings, key: Key | undefined): ITableV2 {
  const { existingTable } = settings;
  if (existingTable !== undefined) {
    return TableV2.fromTableAttributes(scope, "Table", {
      tableName: existingTable.name,
      tableStreamArn: existingTable.streamArn,
    });
  }
  const { partitionKey, sortKey } = tableSpec.keySchema;
  const { region } = Stack.of(scope);
  if (settings.replicas.includes(region)) {
    throw new SettingsError("the settings", [
      `replicas names ${region}, where the stack itself is: take it away`,
    ]);
  }
  if (settings.replicas.length > 0 && key !== undefined) {
    throw new SettingsError("the settings", [
      'replicas need encryption "aws-managed": a key of your own is in one Region, and each replica must have one',
    ]);
  }
  return new TableV2(scope, "Table", {
    partitionKey: { name: partitionKey.name, type: AttributeType.STRING },
    sortKey: { name: sortKey.name, type: AttributeType.STRING },
    billing: Billing.onDemand(),
    timeToLiveAttribute: tableSpec.ttlAttribute,
    dynamoStream: StreamViewType[tableSpec.stream],
    pointInTimeRecoverySpecification: { pointInTimeRecoveryEnabled: tableSpec.pointInTimeRecovery },
    deletionProtection: settings.removal === "retain" && tableSpec.deletionProtection,
    encryption:
      key === undefined ? TableEncryptionV2.awsManagedKey() : TableEncryptionV2.customerManagedKey(key),
    // Protected from deletion, it is kept even where the first deployment fails: to try to delete it fails that, too.
    removalPolicy: settings.removal === "destroy" ? RemovalPolicy.DESTROY : RemovalPolicy.RETAIN,
    replicas: settings.replicas.map((region) => ({ region })),
  });
}
