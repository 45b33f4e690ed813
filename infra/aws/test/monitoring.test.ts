// Checks that alarms and the dashboard use existing metrics, and that alarm descriptions refer to the runbook.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { repository, routeTable } from "../src/source";
import { METRICS, NAMESPACE } from "../src/monitoring";
import { EVERYTHING, type Json, Synthesized } from "./synth";

const source = (file: string) => readFileSync(join(repository, file), "utf8");
const plain = new Synthesized();
const every = new Synthesized(EVERYTHING);
const names = routeTable.functions.map(({ name }) => name);

/** Metrics that AWS services publish, as far as this stack uses them, with their dimensions. */
const PUBLISHED: Record<string, [string[], string[]]> = {
  "AWS/ApiGateway": [["Count", "4xx", "5xx"], ["ApiId"]],
  "AWS/DynamoDB": [
    ["ReadThrottleEvents", "WriteThrottleEvents", "ConsumedReadCapacityUnits", "ConsumedWriteCapacityUnits"],
    ["TableName"],
  ],
  "AWS/Lambda": [
    ["Errors", "Throttles", "Invocations", "Duration", "IteratorAge", "ConcurrentExecutions"],
    ["FunctionName"],
  ],
  "AWS/Logs": [["IncomingBytes"], ["LogGroupName"]],
  "AWS/SQS": [["ApproximateNumberOfMessagesVisible"], ["QueueName"]],
};

function exists(stack: Synthesized, namespace: string, name: string, dimensions: [string, Json][]): void {
  if (namespace === NAMESPACE) {
    if (name === "AuditAltered") {
      const [filter] = stack.one("AWS::Logs::MetricFilter").Properties.MetricTransformations;
      assert.deepEqual([filter.MetricNamespace, filter.MetricName, dimensions], [NAMESPACE, name, []]);
      return;
    }
    assert.ok((METRICS as readonly string[]).includes(name), `${name} is not a metric of Doorward`);
    assert.equal(dimensions.length, 1);
    const [[dimension, value]] = dimensions as [[string, Json]];
    assert.equal(dimension, "function");
    assert.ok(names.includes(value), `${value} is not a function`);
    return;
  }
  const published = PUBLISHED[namespace];
  assert.ok(published?.[0].includes(name), `${namespace} does not publish ${name}`);
  assert.deepEqual(
    dimensions.map(([dimension]) => dimension),
    published?.[1],
    `${namespace} ${name}`,
  );
}

describe("the metrics of Doorward", () => {
  it("match the metrics in audit events", () => {
    const rust = source("shared/src/audit/event.rs");
    assert.ok(rust.includes(`const NAMESPACE: &str = "${NAMESPACE}";`));
    assert.ok(rust.includes('"Dimensions": [["function"]]'));
    const emitted = [...rust.matchAll(/\("([A-Z]\w+)", /g)].map(([, name]) => name);
    assert.deepEqual([...METRICS].sort(), [...new Set(emitted)].sort());
  });

  it("count log lines by messages that anchor-audit logs", () => {
    const { FilterPattern, LogGroupName } = plain.one("AWS::Logs::MetricFilter").Properties;
    const logged = source("shared/src/audit/anchor.rs") + source("shared/src/usecase/anchor_audit.rs");
    const looked = [...FilterPattern.matchAll(/\$\.message = "([^"]+)"/g)].map(([, name]) => name as string);
    assert.deepEqual(looked.sort(), ["audit.altered", "audit.forked"]);
    for (const name of looked) assert.ok(logged.includes(`"${name}");`), name);
    // Log lines have the message at the top level, not in "fields".
    assert.match(source("shared/src/function/mod.rs"), /\.json\(\)\s*\.flatten_event\(true\)/);
    assert.equal(
      plain.resource(LogGroupName.Ref).Properties.LogGroupName,
      "/aws/lambda/doorward-anchor-audit",
    );
  });
});

describe("alarms", () => {
  const alarms = plain.all("AWS::CloudWatch::Alarm").map(({ Properties }) => Properties);

  it("use existing metrics", () => {
    for (const alarm of alarms) {
      const dimensions = (alarm.Dimensions ?? []).map(({ Name, Value }: Json) => [Name, Value]);
      exists(plain, alarm.Namespace, alarm.MetricName, dimensions);
    }
  });

  it("describe what to do and refer to existing runbook sections", () => {
    const anchors = [...source("docs/runbook.md").matchAll(/^#+ (.+)$/gm)].map(([, title]) =>
      (title as string)
        .toLowerCase()
        .replace(/[^\w -]/g, "")
        .replaceAll(" ", "-"),
    );
    const named = new Set<string>();
    for (const { AlarmName, AlarmDescription } of alarms) {
      assert.ok(AlarmDescription.length > 60, AlarmName);
      assert.ok(AlarmDescription.length <= 1024, AlarmName);
      for (const [, anchor] of AlarmDescription.matchAll(/docs\/runbook\.md#([\w-]+)/g)) named.add(anchor);
      for (const [document] of AlarmDescription.matchAll(/docs\/\w+\.md/g)) {
        if (document !== "docs/runbook.md") assert.ok(existsSync(join(repository, document)), document);
      }
    }
    assert.deepEqual([...named].sort(), [
      "lockouts",
      "logins-fail",
      "messages-are-not-delivered",
      "suspicious-refreshes",
      "the-audit-log-is-not-anchored",
      "throttling",
    ]);
    for (const anchor of named)
      assert.ok(anchors.includes(anchor), `docs/runbook.md does not have the section ${anchor}`);
  });

  it("are not raised by missing data", () => {
    for (const alarm of alarms) {
      assert.equal(alarm.TreatMissingData, "notBreaching", alarm.AlarmName);
      assert.equal(alarm.ComparisonOperator, "GreaterThanOrEqualToThreshold");
      assert.ok(alarm.Threshold >= 1, alarm.AlarmName);
      assert.equal(alarm.Metrics, undefined);
    }
  });

  it("are the documented list", () => {
    const each = names.flatMap((name) => {
      const id = name
        .split("-")
        .map((word) => (word[0] as string).toUpperCase() + word.slice(1))
        .join("");
      return [`${id}Errors`, `${id}Throttles`];
    });
    const wanted = [
      ...each,
      "LoginsFailing",
      "RefreshesFailing",
      "SessionChecksFailing",
      "LoginsSlow",
      "RefreshesSlow",
      "ApiFaults",
      "Lockouts",
      "LoginsLimited",
      "TenantBudgetHalfUsed",
      "LoginsMany",
      "RefreshReuse",
      "AuditAltered",
      "Undelivered",
      "Unanchored",
      "DeliveryLate",
      "DeliveriesDeferred",
      "TableReadsThrottled",
      "TableWritesThrottled",
    ];
    assert.deepEqual(
      alarms.map(({ AlarmName }) => AlarmName).sort(),
      wanted.map((name) => `doorward-${name}`).sort(),
    );
  });

  it("notify the address or topic of the settings", () => {
    for (const alarm of alarms) assert.equal(alarm.AlarmActions, undefined);
    const { id } = every.one("AWS::SNS::Topic");
    for (const { Properties } of every.all("AWS::CloudWatch::Alarm")) {
      assert.deepEqual([Properties.AlarmActions, Properties.OKActions], [[{ Ref: id }], [{ Ref: id }]]);
    }
    assert.equal(every.one("AWS::SNS::Subscription").Properties.Endpoint, "ops@example.com");
    const statements = every.one("AWS::SNS::TopicPolicy").Properties.PolicyDocument.Statement as Record<
      string,
      unknown
    >[];
    const letsIn = statements.find(({ Effect }) => Effect === "Allow");
    assert.deepEqual(
      [letsIn?.["Action"], letsIn?.["Principal"]],
      ["sns:Publish", { Service: "cloudwatch.amazonaws.com" }],
    );
    const topic = "arn:aws:sns:eu-central-1:123456789012:ops";
    for (const { Properties } of new Synthesized({ alarmTopicArn: topic }).all("AWS::CloudWatch::Alarm")) {
      assert.deepEqual(Properties.AlarmActions, [topic]);
    }
  });

  // A message that is queued again gets a new record, so that the age of the stream's records starts again.
  it("report messages that wait although the stream is young", () => {
    const deferred = alarms.find(({ AlarmName }) => AlarmName === "doorward-DeliveriesDeferred");
    assert.ok(deferred);
    assert.deepEqual(
      [deferred.Namespace, deferred.MetricName, deferred.Dimensions],
      [NAMESPACE, "Deferred", [{ Name: "function", Value: "deliver-notification" }]],
    );
    assert.deepEqual(
      [deferred.Threshold, deferred.Period, deferred.DatapointsToAlarm, deferred.EvaluationPeriods],
      [1, 300, 3, 3],
    );
  });

  it("know how many logins are usual", () => {
    const from = (stack: Synthesized) =>
      stack
        .all("AWS::CloudWatch::Alarm")
        .find(({ Properties }) => Properties.AlarmName.endsWith("-LoginsMany"))?.Properties.Threshold;
    assert.equal(from(plain), 3000);
    assert.equal(from(new Synthesized({ loginsAMinute: 50 })), 250);
  });
});

describe("the dashboard", () => {
  const { Properties } = plain.one("AWS::CloudWatch::Dashboard");
  // References are of no interest here, but that they are some.
  const text: string = Properties.DashboardBody["Fn::Join"][1]
    .map((part: Json) => (typeof part === "string" ? part : (part.Ref ?? part["Fn::GetAtt"]?.[0])))
    .join("");
  const body = JSON.parse(text);

  it("has one section per question", () => {
    const headings = body.widgets
      .filter(({ type }: Json) => type === "text")
      .map(({ properties }: Json) => properties.markdown);
    assert.deepEqual(headings, ["# Is login working?", "# Is someone attacking?", "# What does it cost?"]);
  });

  it("uses existing metrics", () => {
    let seen = 0;
    for (const { properties } of body.widgets) {
      const before: Json[] = [];
      for (const metric of properties.metrics ?? []) {
        if (typeof metric[0] !== "string") continue;
        const row = metric.map((part: Json, index: number) => (part === "." ? before[index] : part));
        before.splice(0, before.length, ...row);
        const [namespace, name, ...rest] = row.filter((part: Json) => typeof part !== "object");
        const dimensions: [string, Json][] = [];
        for (let index = 0; index < rest.length; index += 2) dimensions.push([rest[index], rest[index + 1]]);
        exists(plain, namespace, name, dimensions);
        seen += 1;
      }
    }
    assert.ok(seen > 80, `only ${seen}`);
  });

  it("computes the cost of every function without exponents", () => {
    const expressions = body.widgets
      .flatMap(({ properties }: Json) => properties.metrics ?? [])
      .map((metric: Json) => metric[0]?.expression)
      .filter((expression: Json) => typeof expression === "string" && !expression.startsWith("SUM"));
    const lambda = expressions.find(
      (expression: string) => expression.includes("busy0") && !expression.includes("requests"),
    );
    names.forEach((_, index) =>
      assert.ok(lambda.includes(`busy${index}`) && lambda.includes(`calls${index}`)),
    );
    for (const expression of expressions) assert.doesNotMatch(expression, /\de[-+]?\d/i);
  });

  it("queries every log with audit events", () => {
    const query = body.widgets.find(({ type }: Json) => type === "log").properties.query as string;
    assert.equal(query.match(/SOURCE/g)?.length, names.length - 1);
    assert.match(query, /filter audit = 1/);
  });
});
