// One IAM role for each function. It has only the permissions of src/functions.ts: no managed policies, and no
// statements that CDK constructs add.

import { ArnFormat, Stack, Validations } from "aws-cdk-lib";
import type { ITableV2 } from "aws-cdk-lib/aws-dynamodb";
import { Effect, PolicyDocument, PolicyStatement, Role, ServicePrincipal } from "aws-cdk-lib/aws-iam";
import type { ILogGroup } from "aws-cdk-lib/aws-logs";
import type { IQueue } from "aws-cdk-lib/aws-sqs";
import type { Construct } from "constructs";
import { ANCHORS, type FunctionSpec } from "./functions";
import type { Settings } from "./settings";

type Conditions = Record<string, Record<string, unknown>>;

/** The resources in the statements of a role. */
export interface Resources {
  readonly table: ITableV2;
  /** ARNs of the customer-managed keys that encrypt the table and secrets. */
  readonly keyArns: readonly string[];
  readonly logGroup: ILogGroup;
  /** Dead-letter queue of the function, if it has one. */
  readonly deadLetters: IQueue | undefined;
  /** True if the function reads the stream of the table. */
  readonly readsStream: boolean;
}

/** Return values of an update that is limited to attributes: none, or the new values of these attributes. */
const RETURN_VALUES = ["NONE", "UPDATED_NEW"];

/** Reasons for wildcard resources, by statement ID. Other statements must not have wildcards. */
export const WILDCARDS: Readonly<Record<string, string>> = {
  WriteLogs: "Lambda generates the names of the streams in a log group",
  UseSecrets:
    "tenants' secrets are created after the stack, and Secrets Manager appends six random characters to their ARNs",
  SendTextMessages:
    "telephone numbers have no ARN, so that the statement allows everything except topics (NotResource)",
  Trace: "the two X-Ray actions do not support resources (Service Authorization Reference, AWS X-Ray)",
};

/** SES identities that may send: the address and domain of `mailFrom`, and `mailIdentities`. */
export function mailIdentities(settings: Settings): string[] {
  const domain = settings.mailFrom.slice(settings.mailFrom.lastIndexOf("@") + 1);
  return [...new Set([settings.mailFrom, domain, ...settings.mailIdentities])];
}

/** Returns the policy statements of one function. */
export function statements(
  stack: Stack,
  spec: FunctionSpec,
  { table, keyArns, logGroup, deadLetters, readsStream }: Resources,
  settings: Settings,
): PolicyStatement[] {
  const statements: PolicyStatement[] = [];
  const allow = (sid: string, actions: string[], resources: string[], conditions?: Conditions) =>
    statements.push(new PolicyStatement({ sid, actions, resources, ...(conditions && { conditions }) }));

  allow("WriteLogs", ["logs:CreateLogStream", "logs:PutLogEvents"], [logGroup.logGroupArn]);

  spec.table.forEach(({ actions, keys, index, attributes }, number) =>
    allow(
      `UseTable${number}`,
      actions.map((action) => `dynamodb:${action}`),
      [index === undefined ? table.tableArn : `${table.tableArn}/index/${index}`],
      {
        "ForAllValues:StringLike": { "dynamodb:LeadingKeys": keys },
        ...(attributes && {
          "ForAllValues:StringEquals": { "dynamodb:Attributes": attributes },
          // Otherwise an update could return the attributes that it does not name.
          StringEqualsIfExists: { "dynamodb:ReturnValues": RETURN_VALUES },
        }),
      },
    ),
  );
  const anchors: readonly string[] = ANCHORS;
  if (spec.table.length > 0 && !spec.table.some(({ keys }) => keys.some((keys) => anchors.includes(keys)))) {
    // The pattern of a tenant's partition, T#*, also matches its anchors. Only an explicit deny excludes them.
    statements.push(
      new PolicyStatement({
        sid: "LeaveAnchors",
        effect: Effect.DENY,
        actions: ["dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"],
        resources: [table.tableArn],
        conditions: { "ForAnyValue:StringLike": { "dynamodb:LeadingKeys": anchors } },
      }),
    );
  }
  if (readsStream && table.tableStreamArn !== undefined) {
    allow(
      "ReadStream",
      ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:ListStreams"],
      [table.tableStreamArn],
    );
  }
  if (deadLetters !== undefined) allow("PutAside", ["sqs:SendMessage"], [deadLetters.queueArn]);

  const secrets = stack.formatArn({
    service: "secretsmanager",
    resource: "secret",
    resourceName: `${settings.secretPrefix}*`,
    arnFormat: ArnFormat.COLON_RESOURCE_NAME,
  });
  if (spec.secrets.length > 0) {
    allow(
      "UseSecrets",
      spec.secrets.map((action) => `secretsmanager:${action}`),
      [secrets],
    );
  }
  if (keyArns.length > 0) {
    const writesSecrets = spec.secrets.includes("PutSecretValue");
    const services = [
      ...(spec.table.length > 0 ? ["dynamodb"] : []),
      ...(spec.secrets.length > 0 ? ["secretsmanager"] : []),
    ];
    // The key is usable only through the services that store the data. Tenants' secrets may use this key too.
    allow("UseKey", ["kms:Decrypt", ...(writesSecrets ? ["kms:GenerateDataKey"] : [])], [...keyArns], {
      StringEquals: {
        "kms:ViaService": services.map((service) => `${service}.${stack.region}.amazonaws.com`),
      },
    });
  }
  if (spec.sends) {
    const identity = (name: string) =>
      stack.formatArn({ service: "ses", resource: "identity", resourceName: name });
    allow("SendMail", ["ses:SendEmail"], mailIdentities(settings).map(identity));
    if (settings.eventBusArns.length > 0)
      allow("PutEvents", ["events:PutEvents"], [...settings.eventBusArns]);
    if (settings.textMessages) {
      statements.push(
        new PolicyStatement({
          sid: "SendTextMessages",
          actions: ["sns:Publish"],
          notResources: [
            stack.formatArn({
              service: "sns",
              resource: "*",
              region: "*",
              account: "*",
              arnFormat: ArnFormat.NO_RESOURCE_NAME,
            }),
          ],
        }),
      );
    }
  }
  if (settings.tracing === "xray")
    allow("Trace", ["xray:PutTraceSegments", "xray:PutTelemetryRecords"], ["*"]);
  return statements;
}

/** Creates the role of one function. */
export function role(scope: Construct, id: string, statements: PolicyStatement[]): Role {
  const made = new Role(scope, id, {
    assumedBy: new ServicePrincipal("lambda.amazonaws.com"),
    inlinePolicies: { Needs: new PolicyDocument({ statements }) },
  });
  for (const { sid, resources, notResources } of statements) {
    const reason = sid === undefined ? undefined : WILDCARDS[sid];
    if (reason === undefined) continue;
    for (const resource of [...resources, ...notResources]) {
      acknowledge(made, `AwsSolutions-IAM5[Resource::${flat(Stack.of(scope).resolve(resource))}]`, reason);
    }
  }
  return made;
}

/** Acknowledges a cdk-nag finding with a reason. */
export function acknowledge(scope: Construct, id: string, reason: string): void {
  Validations.of(scope).acknowledge({ id, reason });
}

/** Formats a resource as in cdk-nag finding IDs: references in angle brackets. */
function flat(resource: unknown): string {
  if (typeof resource === "string") return resource;
  if (typeof resource !== "object" || resource === null) return "";
  const [[name, value] = ["", ""]] = Object.entries(resource);
  if (name === "Ref") return `<${value}>`;
  if (name === "Fn::GetAtt") return `<${(value as string[]).join(".")}>`;
  if (name === "Fn::Join") return (value as [string, unknown[]])[1].map(flat).join((value as [string])[0]);
  return "";
}
