// Checks the template against the shared descriptions in infra/ and against the rules. Emulators do not check these.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { mayReserve } from "../src/stack";
import { repository } from "../src/source";
import { EVERYTHING, type Json, Synthesized } from "./synth";

const read = (file: string) => JSON.parse(readFileSync(join(repository, "infra", file), "utf8"));
const routes: Json = read("routes.json");
const byName = (a: string, b: string) => (a < b ? -1 : 1);
const names = (routes.functions as Json[]).map(({ name }) => name as string).sort(byName);

/** The routes of the route table, and HEAD for each GET. */
const served = (routes.routes as Json[]).flatMap((route) =>
  route.method === "GET" ? [route, { ...route, method: "HEAD" }] : [route],
);

const plain = new Synthesized();
const every = new Synthesized(EVERYTHING);

describe("routes", () => {
  const target = (stack: Synthesized, integration: Json) => {
    const [, [, id]] = integration["Fn::Join"];
    const made = stack.resource(id.Ref);
    assert.equal(made.Properties.IntegrationType, "AWS_PROXY");
    assert.equal(made.Properties.PayloadFormatVersion, "2.0");
    return stack.functionOf(made.Properties.IntegrationUri);
  };

  it("match the route table", () => {
    const wanted = served.map((route: Json) => `${route.method} ${route.path} -> ${route.function}`);
    for (const stack of [plain, every]) {
      const made = stack
        .all("AWS::ApiGatewayV2::Route")
        .map(({ Properties: { RouteKey, Target } }) => `${RouteKey} -> ${target(stack, Target)}`);
      assert.deepEqual(made.sort(byName), wanted.sort(byName));
      assert.ok(!stack.text.includes('$default","Target'), "the API has a $default route");
    }
  });

  it("can be invoked only by this API, each for its own path", () => {
    const allowed = plain
      .all("AWS::Lambda::Permission")
      .map(({ Properties }) => Properties)
      .filter(({ Principal }) => Principal === "apigateway.amazonaws.com");
    assert.equal(allowed.length, served.length);
    const seen = allowed.map(({ FunctionName, SourceArn }) => {
      const source = SourceArn["Fn::Join"][1];
      assert.ok(source.some((part: Json) => part.Ref === plain.one("AWS::ApiGatewayV2::Api").id));
      return `${plain.functionOf(FunctionName)} ${source.at(-1)}`;
    });
    const wanted = served.map((route: Json) => `${route.function} /*/*${route.path}`);
    assert.deepEqual(seen.sort(byName), wanted.sort(byName));
  });
});

describe("the HTTP API", () => {
  const { Properties: stage, DependsOn } = plain.one("AWS::ApiGatewayV2::Stage");

  it("throttles all routes, and password routes separately", () => {
    assert.deepEqual(stage.DefaultRouteSettings, { ThrottlingRateLimit: 500, ThrottlingBurstLimit: 500 });
    const hashing = ["create-session", "update-credentials", "manage-users", "password-page"];
    const wanted = routes.routes
      .filter((route: Json) => hashing.includes(route.function) && route.method !== "GET")
      .map((route: Json) => `${route.method} ${route.path}`);
    assert.deepEqual(Object.keys(stage.RouteSettings).sort(byName), wanted.sort(byName));
    for (const settings of Object.values<Json>(stage.RouteSettings)) {
      assert.deepEqual(settings, { ThrottlingRateLimit: 100, ThrottlingBurstLimit: 100 });
    }
    const made = plain
      .all("AWS::ApiGatewayV2::Route")
      .filter(({ Properties }) => wanted.includes(Properties.RouteKey));
    for (const { id } of made) assert.ok(DependsOn?.includes(id), `the stage does not depend on ${id}`);
  });

  it("does not log credentials or user identifiers", () => {
    const format = JSON.parse(stage.AccessLogSettings.Format);
    const used = Object.values<string>(format).join(" ");
    assert.doesNotMatch(used, /header|querystring|authorizer|context\.path|claims|body/i);
    // $context.error.messageString contains quotes, which would make the line invalid JSON.
    assert.doesNotMatch(used, /messageString/);
    assert.ok(format.requestId && format.route && format.status && format.ip);
    const group = plain.resource(stage.AccessLogSettings.DestinationArn["Fn::GetAtt"][0]).Properties;
    assert.deepEqual([group.LogGroupName, group.RetentionInDays], ["/aws/vendedlogs/apis/doorward", 90]);
  });

  it("has exactly one public address", () => {
    assert.equal(plain.one("AWS::ApiGatewayV2::Api").Properties.DisableExecuteApiEndpoint, false);
    assert.equal(plain.all("AWS::ApiGatewayV2::DomainName").length, 0);
    assert.equal(every.one("AWS::ApiGatewayV2::Api").Properties.DisableExecuteApiEndpoint, true);
    const domain = every.one("AWS::ApiGatewayV2::DomainName").Properties;
    assert.equal(domain.DomainName, "login.example.com");
    assert.equal(domain.DomainNameConfigurations[0].SecurityPolicy, "TLS_1_2");
    every.one("AWS::ApiGatewayV2::ApiMapping");
    assert.equal(every.one("AWS::Route53::RecordSet").Properties.Name, "login.example.com.");
    const { hostedZone: _, ...domainAlone } = EVERYTHING.domain;
    const elsewhere = new Synthesized({ domain: domainAlone });
    assert.equal(elsewhere.all("AWS::Route53::RecordSet").length, 0);
    assert.ok(elsewhere.outputs["DomainTarget"]);
  });
});

describe("the table", () => {
  const spec = read("table.json");
  const settled = ({ Properties: table }: { Properties: Json }) => {
    assert.equal(table.BillingMode, "PAY_PER_REQUEST");
    assert.deepEqual(table.TimeToLiveSpecification, { AttributeName: "expires_at", Enabled: true });
    // Streams must not contain password hashes: docs/design/storage.md.
    assert.deepEqual(table.StreamSpecification, { StreamViewType: "KEYS_ONLY" });
    assert.deepEqual(table.KeySchema, [
      { AttributeName: "pk", KeyType: "HASH" },
      { AttributeName: "sk", KeyType: "RANGE" },
    ]);
    const [users, ...others] = table.GlobalSecondaryIndexes;
    assert.deepEqual(others, []);
    assert.equal(users.IndexName, "users");
    assert.deepEqual(users.KeySchema, [
      { AttributeName: "users_of", KeyType: "HASH" },
      { AttributeName: "users_position", KeyType: "RANGE" },
    ]);
    // The index must not contain password hashes.
    assert.deepEqual(users.Projection, { ProjectionType: "KEYS_ONLY" });
    for (const replica of table.Replicas) {
      assert.equal(replica.PointInTimeRecoverySpecification.PointInTimeRecoveryEnabled, true);
      assert.equal(replica.DeletionProtectionEnabled, true);
    }
    assert.equal(table.SSESpecification.SSEType, "KMS");
    return table.Replicas;
  };

  it("matches infra/table.json", () => {
    assert.deepEqual(spec, {
      keySchema: { partitionKey: { name: "pk", type: "S" }, sortKey: { name: "sk", type: "S" } },
      indexes: [
        {
          name: "users",
          partitionKey: { name: "users_of", type: "S" },
          sortKey: { name: "users_position", type: "S" },
          projection: "KEYS_ONLY",
        },
      ],
      billingMode: "PAY_PER_REQUEST",
      ttlAttribute: "expires_at",
      stream: "KEYS_ONLY",
      pointInTimeRecovery: true,
      deletionProtection: true,
      encryption: "KMS",
    });
    const table = plain.one("AWS::DynamoDB::GlobalTable");
    const [here, ...others] = settled(table);
    assert.deepEqual([here.Region, others], ["eu-central-1", []]);
    assert.deepEqual([table.DeletionPolicy], ["Retain"]);
    assert.equal(here.SSESpecification.KMSMasterKeyId["Fn::GetAtt"][0], plain.one("AWS::KMS::Key").id);
    assert.equal(plain.one("AWS::KMS::Key").Properties.EnableKeyRotation, true);
  });

  it("can have replicas with the same protection", () => {
    const replicas = settled(every.one("AWS::DynamoDB::GlobalTable"));
    assert.deepEqual(replicas.map(({ Region }: Json) => Region).sort(byName), ["eu-central-1", "eu-west-1"]);
    assert.throws(
      () => new Synthesized({ replicas: ["eu-central-1"], encryption: "aws-managed" }),
      /Region of the stack: remove it/,
    );
    assert.throws(() => new Synthesized({ replicas: ["eu-west-1"] }), /"aws-managed"/);
  });

  it("can be an existing table, which the stack does not manage", () => {
    const streamArn =
      "arn:aws:dynamodb:eu-central-1:123456789012:table/restored/stream/2026-11-21T00:00:00.000";
    const keyArn = "arn:aws:kms:eu-central-1:123456789012:key/1";
    const restored = new Synthesized({ existingTable: { name: "restored", streamArn, keyArn } });
    assert.deepEqual(restored.all("AWS::DynamoDB::GlobalTable"), []);
    // The key remains, because a restored table is encrypted with the key of the original table.
    const key = restored.one("AWS::KMS::Key").id;
    assert.equal(restored.one("AWS::Lambda::EventSourceMapping").Properties.EventSourceArn, streamArn);
    assert.deepEqual(restored.outputs["TableName"].Value, "restored");
    for (const [name, made] of restored.functions()) {
      assert.equal(made.Properties.Environment.Variables.DOORWARD_TABLE, "restored");
      const role = restored.resource(made.Properties.Role["Fn::GetAtt"][0]).Properties;
      for (const { Sid, Resource } of role.Policies[0].PolicyDocument.Statement) {
        if (/^UseTable|^LeaveAnchors/.test(Sid))
          assert.match(JSON.stringify(Resource), /:table\/restored(\/index\/users)?"/, name);
        if (Sid === "UseKey") assert.deepEqual(Resource, [keyArn, { "Fn::GetAtt": [key, "Arn"] }]);
      }
    }
  });

  it("is deleted with the stack only with removal destroy", () => {
    const gone = new Synthesized({ removal: "destroy" });
    const table = gone.one("AWS::DynamoDB::GlobalTable");
    assert.equal(table.DeletionPolicy, "Delete");
    assert.equal(table.Properties.Replicas[0].DeletionProtectionEnabled, false);
    for (const group of gone.all("AWS::Logs::LogGroup")) assert.equal(group.DeletionPolicy, "Delete");
    for (const type of ["AWS::Logs::LogGroup", "AWS::KMS::Key"]) {
      for (const kept of plain.all(type)) assert.equal(kept.DeletionPolicy, "RetainExceptOnCreate");
    }
  });
});

describe("functions", () => {
  it("match the route table", () => {
    assert.deepEqual([...plain.functions().keys()].sort(byName), names);
    assert.deepEqual([...every.functions().keys()].sort(byName), names);
  });

  it("have the expected timeout, memory and log group", () => {
    const triggers = new Map<string, string>(
      routes.functions.map(({ name, trigger }: Json) => [name, trigger]),
    );
    for (const [stack, architecture] of [
      [plain, "arm64"],
      [every, "x86_64"],
    ] as const) {
      for (const [name, { Properties: made }] of stack.functions()) {
        assert.deepEqual(
          [made.Runtime, made.Handler, made.Architectures],
          ["provided.al2023", "bootstrap", [architecture]],
        );
        const least = { http: 16, authorizer: 6, stream: 30, log: 30, rotation: 30 }[
          triggers.get(name) as string
        ] as number;
        const most = { http: 30, authorizer: 10, stream: 60, log: 60, rotation: 60 }[
          triggers.get(name) as string
        ] as number;
        assert.ok(made.Timeout >= least && made.Timeout <= most, `${name} has ${made.Timeout} s`);
        assert.ok(made.MemorySize >= 128 && made.MemorySize <= 1769, name);
        const group = stack.resource(made.LoggingConfig.LogGroup.Ref).Properties;
        assert.equal(group.LogGroupName, `/aws/lambda/${made.FunctionName}`);
        // Anchors live for 400 days. If logs expire earlier, verification reports them as missing.
        assert.ok(group.RetentionInDays >= 400, name);
        // Audit hashes cover the original text of the lines, so that Lambda must not rewrite them as JSON.
        assert.equal(made.LoggingConfig.LogFormat, "Text");
        assert.deepEqual(made.TracingConfig?.Mode, stack === every ? "Active" : undefined);
      }
    }
  });

  it("have only the variables that they need", () => {
    const table = ["DOORWARD_HOME_REGION", "DOORWARD_LOG", "DOORWARD_TABLE"];
    const both = [...table, "DOORWARD_SECRET_PREFIX"];
    const others: Record<string, string[]> = {
      "password-page": [...both, "DOORWARD_PUBLIC_URL"],
      "deliver-notification": [...both, "DOORWARD_MAIL_FROM", "DOORWARD_PUBLIC_URL"],
      discovery: [...table, "DOORWARD_PUBLIC_URL"],
      oauth: [...both, "DOORWARD_PUBLIC_URL"],
      preflight: table,
      "anchor-audit": table,
    };
    for (const [name, { Properties }] of plain.functions()) {
      const { Variables: variables } = Properties.Environment;
      assert.deepEqual(Object.keys(variables).sort(byName), [...(others[name] ?? both)].sort(byName), name);
      assert.equal(variables.DOORWARD_HOME_REGION, "eu-central-1");
      assert.equal(variables.DOORWARD_TABLE.Ref, plain.one("AWS::DynamoDB::GlobalTable").id);
    }
    const page = (stack: Synthesized) =>
      stack.functions().get("password-page")?.Properties.Environment.Variables;
    assert.equal(page(every).DOORWARD_PUBLIC_URL, "https://login.example.com");
    assert.deepEqual(page(plain).DOORWARD_PUBLIC_URL, {
      "Fn::GetAtt": [plain.one("AWS::ApiGatewayV2::Api").id, "ApiEndpoint"],
    });
    assert.equal(
      page(new Synthesized({ publicUrl: "https://a.example" })).DOORWARD_PUBLIC_URL,
      "https://a.example",
    );
  });

  it("reserve concurrency so that logins cannot block refreshes", () => {
    const reserved = (stack: Synthesized) =>
      [...stack.functions()].flatMap(([name, { Properties }]) =>
        Properties.ReservedConcurrentExecutions === undefined
          ? []
          : [[name, Properties.ReservedConcurrentExecutions]],
      );
    const wanted = {
      "create-session": 200,
      "refresh-session": 300,
      "update-credentials": 50,
      "password-page": 50,
    };
    assert.deepEqual(Object.fromEntries(reserved(plain)), wanted);
    assert.deepEqual([mayReserve(250), mayReserve(249)], [true, false]);
    // The quota of a new account.
    const small = new Synthesized({ concurrency: 10 });
    assert.deepEqual(reserved(small), []);
    const warnings = small.stack.node.metadata.map(({ data }) => JSON.stringify(data));
    assert.ok(warnings.some((warning) => warning?.includes("Service Quotas")));
  });
});

describe("event sources", () => {
  it("connect the stream as described in infra/delivery.json", () => {
    const wanted = read("delivery.json");
    const { Properties: made } = plain.one("AWS::Lambda::EventSourceMapping");
    assert.deepEqual(made.EventSourceArn["Fn::GetAtt"], [
      plain.one("AWS::DynamoDB::GlobalTable").id,
      "StreamArn",
    ]);
    const queue = plain.resource(made.DestinationConfig.OnFailure.Destination["Fn::GetAtt"][0]);
    assert.equal(queue.Type, "AWS::SQS::Queue");
    assert.deepEqual(
      {
        function: plain.functionOf(made.FunctionName),
        filter: JSON.parse(made.FilterCriteria.Filters[0].Pattern),
        startingPosition: made.StartingPosition,
        batchSize: made.BatchSize,
        maximumBatchingWindowSeconds: made.MaximumBatchingWindowInSeconds,
        parallelizationFactor: made.ParallelizationFactor,
        maximumRetryAttempts: made.MaximumRetryAttempts,
        maximumRecordAgeSeconds: made.MaximumRecordAgeInSeconds,
        bisectBatchOnFunctionError: made.BisectBatchOnFunctionError,
        reportBatchItemFailures: made.FunctionResponseTypes.includes("ReportBatchItemFailures"),
        onFailure: "SQS",
      },
      wanted,
    );
    assert.equal(made.FilterCriteria.Filters.length, 1);
  });

  it("subscribe anchor-audit to every log except its own", () => {
    const fed = plain
      .all("AWS::Logs::SubscriptionFilter")
      .map(({ Properties: { LogGroupName, FilterPattern, DestinationArn } }) => {
        assert.equal(FilterPattern, "{ $.audit = 1 }");
        assert.equal(plain.functionOf(DestinationArn), "anchor-audit");
        return plain.resource(LogGroupName.Ref).Properties.LogGroupName.replace("/aws/lambda/doorward-", "");
      });
    assert.deepEqual(
      fed.sort(byName),
      names.filter((name) => name !== "anchor-audit"),
    );
    const callers = plain
      .all("AWS::Lambda::Permission")
      .filter(({ Properties }) => Properties.Principal === "logs.amazonaws.com")
      .map(({ Properties }) => {
        assert.equal(plain.functionOf(Properties.FunctionName), "anchor-audit");
        return Properties.SourceArn["Fn::GetAtt"][0];
      });
    const groups = plain
      .all("AWS::Logs::SubscriptionFilter")
      .map(({ Properties }) => Properties.LogGroupName.Ref);
    assert.deepEqual(callers.sort(byName), groups.sort(byName));
    const { Properties: invoke } = plain.one("AWS::Lambda::EventInvokeConfig");
    assert.equal(plain.functionOf(invoke.FunctionName), "anchor-audit");
    assert.deepEqual([invoke.MaximumRetryAttempts, invoke.MaximumEventAgeInSeconds], [2, 21_600]);
    assert.ok(invoke.DestinationConfig.OnFailure.Destination);
  });

  it("allow only Secrets Manager of this account to invoke rotation", () => {
    const allowed = plain
      .all("AWS::Lambda::Permission")
      .filter(({ Properties }) => Properties.Principal === "secretsmanager.amazonaws.com");
    assert.equal(allowed.length, 1);
    assert.equal(plain.functionOf(allowed[0]?.Properties.FunctionName), "rotate-secret");
    assert.deepEqual(allowed[0]?.Properties.SourceAccount, { Ref: "AWS::AccountId" });
    const others = plain
      .all("AWS::Lambda::Permission")
      .filter(({ Properties }) => plain.functionOf(Properties.FunctionName) === "rotate-secret");
    assert.equal(others.length, 1);
  });

  it("have encrypted dead-letter queues", () => {
    const queues = plain.all("AWS::SQS::Queue");
    assert.equal(queues.length, 2);
    for (const { Properties } of queues) {
      assert.equal(Properties.SqsManagedSseEnabled, true);
      assert.equal(Properties.MessageRetentionPeriod, 1_209_600);
    }
    assert.equal(plain.all("AWS::SQS::QueuePolicy").length, 2);
  });
});

describe("the stack", () => {
  it("has the documented outputs", () => {
    assert.deepEqual(Object.keys(plain.outputs).sort(byName), [
      "ApiUrl",
      "AuthorizerArn",
      "KeyArn",
      "PublicUrl",
      "RotationFunctionArn",
      "SecretPrefix",
      "TableName",
    ]);
    assert.equal(plain.functionOf(plain.outputs["AuthorizerArn"].Value), "authorize");
    assert.equal(plain.functionOf(plain.outputs["RotationFunctionArn"].Value), "rotate-secret");
  });

  it("has no custom resource functions of CDK", () => {
    assert.deepEqual(
      plain.all("AWS::Lambda::Function").filter(({ Properties }) => Properties.Runtime !== "provided.al2023"),
      [],
    );
    assert.ok(!/Custom::/.test(every.text));
  });
});
