// One role for each function, with what src/functions.ts says and nothing else: no managed policy, and nothing that
// a construct would add by itself.

import { ArnFormat, Stack, Validations } from "aws-cdk-lib";
import type { ITableV2 } from "aws-cdk-lib/aws-dynamodb";
import { Effect, PolicyDocument, PolicyStatement, Role, ServicePrincipal } from "aws-cdk-lib/aws-iam";
import type { ILogGroup } from "aws-cdk-lib/aws-logs";
import type { IQueue } from "aws-cdk-lib/aws-sqs";
import type { Construct } from "constructs";
import { ANCHORS, type FunctionSpec } from "./functions";
import type { Settings } from "./settings";

type Conditions = Record<string, Record<string, unknown>>;

/** What a role's statements name. */
export interface Resources {
  readonly table: ITableV2;
  /** ARNs of the keys that encrypt table and secrets, where they are not AWS's own. */
  readonly keyArns: readonly string[];
  readonly logGroup: ILogGroup;
  /** Where what the function could not do is put aside. */
  readonly deadLetters: IQueue | undefined;
  /** Whether it is fed by the table's stream. */
  readonly readsStream: boolean;
}

/** Why a statement's resource ends in, or is, a wildcard; nothing else may. By the statement's id. */
export const WILDCARDS: Readonly<Record<string, string>> = {
  WriteLogs: "a log group's streams have names that Lambda makes up",
  UseSecrets: "a tenant's secret is made after the stack, and Secrets Manager ends its ARN with six characters of its own",
  SendTextMessages: "a telephone number is no resource with an ARN: everything but topics is (NotResource)",
  Trace: "X-Ray's two calls take no resource (Service Authorization Reference, AWS X-Ray)",
};

/** Identities of SES by which `mailFrom` may be sent from: its address and its domain, and whatever else is named. */
export function mailIdentities(settings: Settings): string[] {
  const domain = settings.mailFrom.slice(settings.mailFrom.lastIndexOf("@") + 1);
  return [...new Set([settings.mailFrom, domain, ...settings.mailIdentities])];
}

/** What one function may do. */
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

  spec.table.forEach(({ actions, keys, attributes }, index) =>
    allow(`UseTable${index}`, actions.map((action) => `dynamodb:${action}`), [table.tableArn], {
      "ForAllValues:StringLike": { "dynamodb:LeadingKeys": keys },
      ...(attributes && { "ForAllValues:StringEquals": { "dynamodb:Attributes": attributes } }),
    }),
  );
  const anchors: readonly string[] = ANCHORS;
  if (spec.table.length > 0 && !spec.table.some(({ keys }) => keys.some((keys) => anchors.includes(keys)))) {
    // A tenant's own partition, T#{tenant}, cannot be told from its anchors' by how it begins.
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
    allow("UseSecrets", spec.secrets.map((action) => `secretsmanager:${action}`), [secrets]);
  }
  if (keyArns.length > 0) {
    const writesSecrets = spec.secrets.includes("PutSecretValue");
    const services = [
      ...(spec.table.length > 0 ? ["dynamodb"] : []),
      ...(spec.secrets.length > 0 ? ["secretsmanager"] : []),
    ];
    // Only by way of the services that keep the data. Tenants' secrets may be encrypted with this key, too.
    allow("UseKey", ["kms:Decrypt", ...(writesSecrets ? ["kms:GenerateDataKey"] : [])], [...keyArns], {
      StringEquals: { "kms:ViaService": services.map((service) => `${service}.${stack.region}.amazonaws.com`) },
    });
  }
  if (spec.sends) {
    const identity = (name: string) => stack.formatArn({ service: "ses", resource: "identity", resourceName: name });
    allow("SendMail", ["ses:SendEmail"], mailIdentities(settings).map(identity));
    if (settings.eventBusArns.length > 0) allow("PutEvents", ["events:PutEvents"], [...settings.eventBusArns]);
    if (settings.textMessages) {
      statements.push(
        new PolicyStatement({
          sid: "SendTextMessages",
          actions: ["sns:Publish"],
          notResources: [stack.formatArn({ service: "sns", resource: "*", region: "*", account: "*", arnFormat: ArnFormat.NO_RESOURCE_NAME })],
        }),
      );
    }
  }
  if (settings.tracing === "xray") allow("Trace", ["xray:PutTraceSegments", "xray:PutTelemetryRecords"], ["*"]);
  return statements;
}

/** A function's own role. */
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

/** Says to cdk-nag why one of its findings is meant so. */
export function acknowledge(scope: Construct, id: string, reason: string): void {
  Validations.of(scope).acknowledge({ id, reason });
}

/** A resource as cdk-nag writes it in a finding's name: references in angle brackets. */
function flat(resource: unknown): string {
  if (typeof resource === "string") return resource;
  if (typeof resource !== "object" || resource === null) return "";
  const [[name, value] = ["", ""]] = Object.entries(resource);
  if (name === "Ref") return `<${value}>`;
  if (name === "Fn::GetAtt") return `<${(value as string[]).join(".")}>`;
  if (name === "Fn::Join") return (value as [string, unknown[]])[1].map(flat).join((value as [string])[0]);
  return "";
}
