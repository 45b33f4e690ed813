// docs/design/security.md#rule-26: each function has only the actions and keys that it needs.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { AwsSolutionsChecks } from "cdk-nag";
import { WILDCARDS } from "../src/permissions";
import { EVERYTHING, type Json, type Resource, Synthesized } from "./synth";

const plain = new Synthesized();
const every = new Synthesized(EVERYTHING);

/** Returns all statements of the role of a function. */
function statements(stack: Synthesized, made: Resource): Json[] {
  const role = stack.resource(made.Properties.Role["Fn::GetAtt"][0]).Properties;
  return role.Policies.flatMap(({ PolicyDocument }: Json) => PolicyDocument.Statement);
}

const listed = (value: Json): Json[] => (Array.isArray(value) ? value : [value]);

/** Returns a short name of a resource: its type if the stack creates it, otherwise its ARN from the service on. */
function named(stack: Synthesized, resource: Json): string {
  if (typeof resource === "string") return resource.replace(/^arn:aws:/, "");
  const join = resource["Fn::Join"];
  if (join !== undefined) {
    const name = (part: Json) =>
      typeof part === "string" ? part : part.Ref === undefined ? named(stack, part) : `{${part.Ref}}`;
    const text = join[1].map(name).join("");
    return text.replace(/^arn:(\{AWS::Partition\}|aws):/, "");
  }
  const [id, attribute] = resource["Fn::GetAtt"];
  const { Type, Properties } = stack.resource(id);
  if (Type === "AWS::Logs::LogGroup") return `log ${Properties.LogGroupName}`;
  if (Type === "AWS::DynamoDB::GlobalTable") return attribute === "StreamArn" ? "stream" : "table";
  return id.replace(/[0-9A-F]{8}$/, "");
}

/** Returns the statements of a function's role, one line each. */
function allowed(stack: Synthesized, name: string): string[] {
  const made = stack.functions().get(name);
  assert.ok(made);
  return statements(stack, made).map(({ Effect, Action, Resource, NotResource, Condition }) => {
    const on = listed(Resource ?? NotResource).map((one) => named(stack, one));
    const keys = Object.entries<Json>(Condition ?? {}).flatMap(([operator, tests]) =>
      Object.entries<Json>(tests).map(
        ([key, values]) => ` if ${operator} ${key} ${listed(values).join(",")}`,
      ),
    );
    return `${Effect} ${listed(Action).join(",")} on ${NotResource ? "all but " : ""}${on.join(",")}${keys.join("")}`;
  });
}

const keys = (...keys: string[]) => ` if ForAllValues:StringLike dynamodb:LeadingKeys ${keys.join(",")}`;
const writesLog = (name: string) =>
  `Allow logs:CreateLogStream,logs:PutLogEvents on log /aws/lambda/doorward-${name}`;
const finds = `Allow dynamodb:GetItem on table${keys("T#*", "O#*")}`;
const reads = `Allow dynamodb:BatchGetItem on table${keys("T#*")}`;
const readsAndQueries = `Allow dynamodb:BatchGetItem,dynamodb:Query on table${keys("T#*")}`;
const leavesAnchors =
  "Deny dynamodb:DeleteItem,dynamodb:PutItem,dynamodb:UpdateItem on table" +
  " if ForAnyValue:StringLike dynamodb:LeadingKeys T#*#A#*,A#*";
const secrets = "secretsmanager:eu-central-1:{AWS::AccountId}:secret:doorward/tenants/*";
const readsSecrets = `Allow secretsmanager:GetSecretValue on ${secrets}`;
const decrypts = (...services: string[]) =>
  `Allow kms:Decrypt on Key if StringEquals kms:ViaService ${services.map((service) => `${service}.eu-central-1.amazonaws.com`).join(",")}`;
const common = [leavesAnchors, readsSecrets, decrypts("dynamodb", "secretsmanager")];
const returns = " if StringEqualsIfExists dynamodb:ReturnValues NONE,UPDATED_NEW";
const notesUse =
  `Allow dynamodb:UpdateItem on table${keys("T#*")}` +
  ` if ForAllValues:StringEquals dynamodb:Attributes pk,sk,version_id,last_used_at,expires_at${returns}`;

const notesClients =
  `Allow dynamodb:UpdateItem on table${keys("T#*#C#*")}` +
  ` if ForAllValues:StringEquals dynamodb:Attributes pk,sk,last_used_at,credentials,revision,attempt_id,expires_at${returns}`;

const requeues =
  `Allow dynamodb:UpdateItem on table${keys("T#*#U#*")}` +
  ` if ForAllValues:StringEquals dynamodb:Attributes pk,sk,requeued${returns}`;

const activatesSecrets =
  `Allow dynamodb:UpdateItem on table${keys("T#*")}` +
  ` if ForAllValues:StringEquals dynamodb:Attributes pk,sk,secret_version${returns}`;

// Written by hand, not derived from src/functions.ts, so that a new permission must be added in both places.
const WANTED: Record<string, string[]> = {
  "create-session": [
    finds,
    readsAndQueries,
    `Allow dynamodb:PutItem on table${keys("T#*#U#*", "T#*#K#*")}`,
    `Allow dynamodb:UpdateItem on table${keys("T#*#U#*", "T#*#IP#*", "T#*#F#*")}`,
    notesUse,
    ...common,
  ],
  "refresh-session": [finds, reads, `Allow dynamodb:UpdateItem on table${keys("T#*#U#*")}`, ...common],
  "delete-session": [
    finds,
    readsAndQueries,
    `Allow dynamodb:ConditionCheckItem,dynamodb:UpdateItem on table${keys("T#*#U#*")}`,
    ...common,
  ],
  "list-sessions": [finds, readsAndQueries, ...common],
  "reset-login": [
    finds,
    reads,
    `Allow dynamodb:PutItem on table${keys("T#*#U#*", "T#*#K#*")}`,
    `Allow dynamodb:ConditionCheckItem,dynamodb:UpdateItem on table${keys("T#*#U#*")}`,
    notesUse,
    ...common,
  ],
  "update-credentials": [
    finds,
    readsAndQueries,
    `Allow dynamodb:PutItem on table${keys("T#*#U#*", "T#*#N#*")}`,
    `Allow dynamodb:UpdateItem on table${keys("T#*#U#*", "T#*#IP#*", "T#*#F#*")}`,
    `Allow dynamodb:DeleteItem on table${keys("T#*#N#*")}`,
    `Allow dynamodb:ConditionCheckItem on table${keys("T#*#U#*")}`,
    ...common,
  ],
  "find-users": [
    finds,
    reads,
    `Allow dynamodb:Query on table${keys("T#*#M#*")}`,
    `Allow dynamodb:Query on table/index/users${keys("T#*")}`,
    ...common,
  ],
  "manage-users": [
    finds,
    reads,
    `Allow dynamodb:Query on table${keys("T#*#U#*")}`,
    `Allow dynamodb:PutItem on table${keys("T#*#U#*", "T#*#N#*", "T#*#M#*", "T#*#K#*")}`,
    `Allow dynamodb:UpdateItem on table${keys("T#*#U#*")}`,
    `Allow dynamodb:DeleteItem on table${keys("T#*#U#*", "T#*#N#*", "T#*#M#*")}`,
    `Allow dynamodb:ConditionCheckItem on table${keys("T#*#U#*")}`,
    ...common,
  ],
  "password-page": [
    `Allow dynamodb:GetItem on table${keys("T#*")}`,
    reads,
    `Allow dynamodb:PutItem on table${keys("T#*#U#*")}`,
    `Allow dynamodb:UpdateItem on table${keys("T#*#U#*", "T#*#IP#*")}`,
    ...common,
  ],
  preflight: [`Allow dynamodb:GetItem on table${keys("O#*")}`, leavesAnchors, decrypts("dynamodb")],
  "deliver-notification": [
    `Allow dynamodb:GetItem on table${keys("T#*")}`,
    reads,
    `Allow dynamodb:DeleteItem on table${keys("T#*#U#*")}`,
    requeues,
    leavesAnchors,
    "Allow dynamodb:DescribeStream,dynamodb:GetRecords,dynamodb:GetShardIterator,dynamodb:ListStreams on stream",
    "Allow sqs:SendMessage on Undelivered",
    readsSecrets,
    decrypts("dynamodb", "secretsmanager"),
    "Allow ses:SendEmail on ses:eu-central-1:{AWS::AccountId}:identity/example.com,ses:eu-central-1:{AWS::AccountId}:identity/login@example.com",
  ],
  "anchor-audit": [
    `Allow dynamodb:UpdateItem on table${keys("T#*#A#*", "A#*")}`,
    "Allow sqs:SendMessage on Unanchored",
    decrypts("dynamodb"),
  ],
  discovery: [`Allow dynamodb:GetItem on table${keys("T#*", "HEALTH")}`, leavesAnchors, decrypts("dynamodb")],
  oauth: [
    `Allow dynamodb:GetItem on table${keys("T#*")}`,
    reads,
    notesClients,
    `Allow dynamodb:UpdateItem on table${keys("T#*#R#*", "T#*#U#*", "T#*#IP#*", "T#*#F#*")}`,
    notesUse,
    ...common,
  ],
  authorize: [`Allow dynamodb:GetItem on table${keys("T#*")}`, reads, ...common],
  "rotate-secret": [
    activatesSecrets,
    `Allow dynamodb:GetItem,dynamodb:PutItem on table${keys("T#*#P#*")}`,
    leavesAnchors,
    `Allow secretsmanager:DescribeSecret,secretsmanager:GetSecretValue,secretsmanager:PutSecretValue,secretsmanager:UpdateSecretVersionStage on ${secrets}`,
    decrypts("dynamodb", "secretsmanager").replace("kms:Decrypt", "kms:Decrypt,kms:GenerateDataKey"),
  ],
};

describe("permissions", () => {
  it("match the expected list of each function", () => {
    assert.deepEqual([...plain.functions().keys()].sort(), Object.keys(WANTED).sort());
    for (const [name, wanted] of Object.entries(WANTED)) {
      assert.deepEqual(allowed(plain, name), [writesLog(name), ...wanted], name);
    }
  });

  it("are extended only by settings", () => {
    const more = allowed(every, "deliver-notification").slice(-5);
    assert.deepEqual(more, [
      "Allow secretsmanager:GetSecretValue on secretsmanager:eu-central-1:{AWS::AccountId}:secret:login/tenants/*",
      "Allow ses:SendEmail on ses:eu-central-1:{AWS::AccountId}:identity/acme.example,ses:eu-central-1:{AWS::AccountId}:identity/example.com,ses:eu-central-1:{AWS::AccountId}:identity/login@example.com",
      "Allow events:PutEvents on events:eu-central-1:123456789012:event-bus/acme",
      "Allow sns:Publish on all but sns:*:*:*",
      "Allow xray:PutTelemetryRecords,xray:PutTraceSegments on *",
    ]);
    for (const name of Object.keys(WANTED)) {
      const without = new Set(["xray", "sns", "events"]);
      const actions = allowed(every, name).flatMap((line) => line.split(" ")[1]?.split(",") ?? []);
      const usual = allowed(plain, name).flatMap((line) => line.split(" ")[1]?.split(",") ?? []);
      const extra = actions.filter(
        (action) => !usual.includes(action) && !without.has(action.split(":")[0] ?? ""),
      );
      assert.deepEqual(extra, [], name);
    }
  });

  it("have wildcards only with a reason", () => {
    for (const stack of [plain, every]) {
      for (const made of stack.functions().values()) {
        for (const { Sid, Effect, Action, Resource, NotResource } of statements(stack, made)) {
          if (Effect !== "Allow") continue;
          for (const action of listed(Action)) assert.ok(!action.includes("*"), action);
          const open = JSON.stringify(Resource ?? NotResource).includes("*");
          assert.ok(!open || WILDCARDS[Sid] !== undefined, `${Sid} of ${made.id} has a wildcard`);
        }
      }
    }
    for (const reason of Object.values(WILDCARDS)) assert.ok(reason.length > 20);
  });

  it("are inline policies of one role per function", () => {
    for (const stack of [plain, every]) {
      assert.deepEqual(stack.all("AWS::IAM::Policy"), []);
      assert.deepEqual(stack.all("AWS::IAM::ManagedPolicy"), []);
      const roles = [...stack.functions().values()].map(({ Properties }) => Properties.Role["Fn::GetAtt"][0]);
      assert.equal(new Set(roles).size, stack.functions().size);
      assert.deepEqual(
        stack
          .all("AWS::IAM::Role")
          .map(({ id }) => id)
          .sort(),
        roles.sort(),
      );
      for (const { Properties } of stack.all("AWS::IAM::Role")) {
        assert.equal(Properties.ManagedPolicyArns, undefined);
        const [trust, ...others] = Properties.AssumeRolePolicyDocument.Statement;
        assert.deepEqual([trust.Principal, others], [{ Service: "lambda.amazonaws.com" }, []]);
      }
    }
  });

  it("allow only anchor-audit to write anchors", () => {
    for (const stack of [plain, every]) {
      for (const name of stack.functions().keys()) {
        const denied = allowed(stack, name).includes(leavesAnchors);
        const writes = allowed(stack, name).some((line) =>
          /^Allow .*dynamodb:(Put|Update|Delete)Item/.test(line),
        );
        assert.ok(denied || !writes || name === "anchor-audit", name);
        assert.ok(name !== "anchor-audit" || !denied);
      }
    }
  });
});

describe("cdk-nag", () => {
  for (const [what, settings] of [
    ["with defaults", {}],
    ["with all settings", EVERYTHING],
    ["with removal destroy", { removal: "destroy", encryption: "aws-managed", concurrency: 10 }],
  ] as const) {
    it(`reports no unacknowledged finding ${what}`, () => {
      const { app } = new Synthesized(settings);
      const { violations } = new AwsSolutionsChecks(app).validateScope(app);
      const found = violations.map(({ ruleName, violatingResources }) => [
        ruleName,
        violatingResources.map(({ resourceLogicalId }) => resourceLogicalId),
      ]);
      assert.deepEqual(found, []);
    });
  }

  it("has a reason for each acknowledged finding", () => {
    const acknowledged = every.app.node
      .findAll()
      .flatMap(({ node }) =>
        node.metadata.flatMap(({ type, data }) =>
          /acknowledged/i.test(type) ? Object.entries<string>(data) : [],
        ),
      );
    const rules = new Set(acknowledged.map(([id]) => id.replace(/^\w+::/, "").replace(/\[.*/, "")));
    assert.deepEqual([...rules].sort(), ["AwsSolutions-APIG4", "AwsSolutions-IAM5", "AwsSolutions-SQS3"]);
    for (const [id, reason] of acknowledged) assert.ok(String(reason).length > 20, id);
  });
});
