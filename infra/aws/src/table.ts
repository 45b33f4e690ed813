// The DynamoDB table, as described in infra/table.json, and its encryption key.

import { RemovalPolicy, Stack } from "aws-cdk-lib";
import {
  AttributeType,
  Billing,
  type ITableV2,
  ProjectionType,
  StreamViewType,
  TableEncryptionV2,
  TableV2,
} from "aws-cdk-lib/aws-dynamodb";
import { Key } from "aws-cdk-lib/aws-kms";
import type { Construct } from "constructs";
import { type Settings, SettingsError } from "./settings";
import { tableSpec } from "./source";

/**
 * Removal policy of resources that hold data. By default they are retained when the stack no longer contains them.
 * If the first deployment fails, they are deleted, because their names would block the next attempt.
 */
export function removalPolicy(settings: Settings): RemovalPolicy {
  return settings.removal === "destroy" ? RemovalPolicy.DESTROY : RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE;
}

/**
 * The KMS key that encrypts the table, if `encryption` is `own-key`. The stack keeps it when `existingTable` is set,
 * because a restored table is encrypted with the key of the original table.
 */
export function tableKey(scope: Construct, settings: Settings): Key | undefined {
  if (settings.encryption === "aws-managed") return undefined;
  return new Key(scope, "Key", {
    alias: settings.stackName,
    description: "Encrypts the Doorward table, and the secrets of tenants that use this key",
    enableKeyRotation: true,
    removalPolicy: removalPolicy(settings),
  });
}

/**
 * Creates the table, or refers to `existingTable`. Its stream contains only keys, so that no password hash leaves the
 * table. This also works with replicas, because DynamoDB replicates with the stream view type that already exists
 * (observed on AWS by ScyllaDB: scylladb/scylladb, pull request 29928).
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
      `replicas contains ${region}, the Region of the stack: remove it`,
    ]);
  }
  if (settings.replicas.length > 0 && key !== undefined) {
    throw new SettingsError("the settings", [
      'replicas require encryption "aws-managed", because the stack has its own key only in one Region: set encryption or remove replicas',
    ]);
  }
  return new TableV2(scope, "Table", {
    partitionKey: { name: partitionKey.name, type: AttributeType.STRING },
    sortKey: { name: sortKey.name, type: AttributeType.STRING },
    globalSecondaryIndexes: tableSpec.indexes.map(({ name, partitionKey, sortKey, projection }) => ({
      indexName: name,
      partitionKey: { name: partitionKey.name, type: AttributeType.STRING },
      sortKey: { name: sortKey.name, type: AttributeType.STRING },
      projectionType: ProjectionType[projection],
    })),
    billing: Billing.onDemand(),
    timeToLiveAttribute: tableSpec.ttlAttribute,
    dynamoStream: StreamViewType[tableSpec.stream],
    pointInTimeRecoverySpecification: { pointInTimeRecoveryEnabled: tableSpec.pointInTimeRecovery },
    deletionProtection: settings.removal === "retain" && tableSpec.deletionProtection,
    encryption:
      key === undefined ? TableEncryptionV2.awsManagedKey() : TableEncryptionV2.customerManagedKey(key),
    // A table with deletion protection is retained even if the first deployment fails, because its deletion would fail.
    removalPolicy: settings.removal === "destroy" ? RemovalPolicy.DESTROY : RemovalPolicy.RETAIN,
    replicas: settings.replicas.map((region) => ({ region })),
  });
}
