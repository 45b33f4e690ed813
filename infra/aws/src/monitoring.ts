// Alarms and the dashboard. Each alarm description states the problem and what to do.

import { Duration, Stack } from "aws-cdk-lib";
import type { HttpApi } from "aws-cdk-lib/aws-apigatewayv2";
import {
  Alarm,
  ComparisonOperator,
  Dashboard,
  GraphWidget,
  type IMetric,
  type IWidget,
  LogQueryVisualizationType,
  LogQueryWidget,
  MathExpression,
  Metric,
  SingleValueWidget,
  Stats,
  TextWidget,
  TreatMissingData,
} from "aws-cdk-lib/aws-cloudwatch";
import { SnsAction } from "aws-cdk-lib/aws-cloudwatch-actions";
import type { ITableV2 } from "aws-cdk-lib/aws-dynamodb";
import { PolicyStatement, ServicePrincipal } from "aws-cdk-lib/aws-iam";
import type { IFunction } from "aws-cdk-lib/aws-lambda";
import { FilterPattern, type ILogGroup, MetricFilter } from "aws-cdk-lib/aws-logs";
import { type ITopic, Topic } from "aws-cdk-lib/aws-sns";
import { EmailSubscription } from "aws-cdk-lib/aws-sns-subscriptions";
import type { Queue } from "aws-cdk-lib/aws-sqs";
import { FUNCTIONS, TIMEOUTS } from "./functions";
import type { Settings } from "./settings";
import { routeTable } from "./source";

/** The resources that alarms and the dashboard read. */
export interface Monitored {
  readonly settings: Settings;
  readonly table: ITableV2;
  readonly api: HttpApi;
  readonly functions: ReadonlyMap<string, IFunction>;
  readonly logs: ReadonlyMap<string, ILogGroup>;
  readonly undelivered: Queue;
  readonly unanchored: Queue;
}

/** Namespace and names of the metrics in audit events (shared/src/audit/event.rs, docs/audit.md). */
export const NAMESPACE = "Doorward";
export const METRICS = [
  "Requests",
  "Latency",
  "Succeeded",
  "Refused",
  "Failed",
  "Deferred",
  "LockedOut",
  "RateLimited",
  "TenantBudgetHalfUsed",
  "RefreshReuse",
  "ColdStart",
] as const;
type MetricName = (typeof METRICS)[number];
/** Metric of a log filter of this stack: counts audit events that were changed after they were written. */
export const ALTERED = "AuditAltered";

const PERIOD = Duration.minutes(5);
const RUNBOOK = "docs/runbook.md";

/**
 * List prices in USD for us-east-1, November 2026: first tiers without free tiers. Sources: the pricing pages of the
 * services. Prices in other Regions differ.
 */
export const PRICES = {
  apiRequest: 1.0 / 1e6,
  lambdaRequest: 0.2 / 1e6,
  lambdaGibSecond: { arm64: 0.0000133334, x86_64: 0.0000166667 },
  readUnit: 0.125 / 1e6,
  writeUnit: 0.625 / 1e6,
  logByte: 0.5 / 2 ** 30,
} as const;

/** A metric of the audit events. Its only dimension is the function. */
const auditMetric = (metricName: MetricName, of: string, statistic: string = Stats.SUM) =>
  new Metric({
    namespace: NAMESPACE,
    metricName,
    dimensionsMap: { function: of },
    statistic,
    period: PERIOD,
  });
/**
 * The same metric with a label, for graphs. Alarms use metrics without a label, because CDK turns a labelled metric
 * into an expression.
 */
const shown = (
  metricName: MetricName,
  of: string,
  label: string = metricName,
  statistic: string = Stats.SUM,
) => auditMetric(metricName, of, statistic).with({ label });

/** Creates the alarms and the dashboard. */
export function monitor(stack: Stack, monitored: Monitored): void {
  const topic = alarmTopic(stack, monitored.settings);
  alarms(stack, monitored, topic);
  dashboard(stack, monitored);
}

function alarmTopic(stack: Stack, { alarmEmail, alarmTopicArn }: Settings): ITopic | undefined {
  if (alarmTopicArn !== undefined) return Topic.fromTopicArn(stack, "Alarms", alarmTopicArn);
  if (alarmEmail === undefined) return undefined;
  const topic = new Topic(stack, "Alarms", { displayName: "Doorward alarms", enforceSSL: true });
  topic.addSubscription(new EmailSubscription(alarmEmail));
  // enforceSSL creates a topic policy, which replaces the SNS default. CloudWatch therefore needs its own statement.
  topic.addToResourcePolicy(
    new PolicyStatement({
      principals: [new ServicePrincipal("cloudwatch.amazonaws.com")],
      actions: ["sns:Publish"],
      resources: [topic.topicArn],
      conditions: { StringEquals: { "aws:SourceAccount": stack.account } },
    }),
  );
  return topic;
}

interface Rule {
  readonly metric: Metric;
  /** Threshold: the alarm is raised at this value or above. */
  readonly from: number;
  /** Number of breaching periods, and number of evaluated periods, of 5 minutes each. */
  readonly periods?: readonly [number, number];
  /** Alarm description: the problem and what to do. */
  readonly description: string;
}

function alarms(stack: Stack, monitored: Monitored, topic: ITopic | undefined): void {
  const { settings, table, api, functions, logs, undelivered, unanchored } = monitored;
  const raise = (id: string, { metric, from, periods: [bad, seen] = [1, 1], description }: Rule) => {
    const alarm = new Alarm(stack, `${id}Alarm`, {
      alarmName: `${settings.stackName}-${id}`,
      alarmDescription: description,
      metric,
      threshold: from,
      comparisonOperator: ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
      datapointsToAlarm: bad,
      evaluationPeriods: seen,
      // While there are no requests, for example at night, a metric has no data points. They are missing, not 0.
      treatMissingData: TreatMissingData.NOT_BREACHING,
    });
    if (topic !== undefined) {
      alarm.addAlarmAction(new SnsAction(topic));
      alarm.addOkAction(new SnsAction(topic));
    }
  };

  // Logins, refreshes and functions
  for (const [of, verb] of [
    ["create-session", "Logins"],
    ["refresh-session", "Refreshes"],
    ["authorize", "Session checks"],
  ] as const) {
    raise(`${verb.replace(" c", "C")}Failing`, {
      metric: auditMetric("Failed", of),
      from: 5,
      periods: [2, 3],
      description:
        `${verb} fail because of an error in Doorward or AWS. Read the lines "request.failed" in the log of ${of} ` +
        `for the causes. See ${RUNBOOK}#logins-fail.`,
    });
  }
  raise("LoginsSlow", {
    metric: auditMetric("Latency", "create-session", "p99"),
    from: 3000,
    periods: [3, 3],
    description: `1 % of the logins take 3 s or more. Parallel logins of one user wait for each other: see ${RUNBOOK}#lockouts. For other causes see ${RUNBOOK}#throttling.`,
  });
  raise("RefreshesSlow", {
    metric: auditMetric("Latency", "refresh-session", "p99"),
    from: 2000,
    periods: [3, 3],
    description: `1 % of the refreshes take 2 s or more. See ${RUNBOOK}#throttling.`,
  });
  raise("ApiFaults", {
    metric: api.metricServerError({ period: PERIOD, statistic: Stats.SUM }),
    from: 10,
    periods: [2, 3],
    description:
      "The HTTP API returns 5xx. Find the routes in the access log (status, integrationError) and the causes in the logs of the functions. See docs/runbook.md#logins-fail.",
  });
  for (const { name, trigger } of routeTable.functions) {
    const target = functions.get(name);
    if (target === undefined) continue;
    const id = name.replace(/(^|-)(.)/g, (_all, _dash, letter: string) => letter.toUpperCase());
    raise(`${id}Errors`, {
      metric: target.metricErrors({ period: PERIOD }),
      from: 1,
      periods: [2, 3],
      description:
        `Invocations of ${name} fail: it does not start (a variable or permission is missing), exceeds its timeout of ` +
        `${TIMEOUTS[trigger]} s, or crashes. Read its log for the cause. If it began with a deployment, roll back.`,
    });
    raise(`${id}Throttles`, {
      metric: target.metricThrottles({ period: PERIOD }),
      from: 1,
      periods: [2, 3],
      description: `Lambda throttles ${name} because its reserved concurrency or the concurrency of the account is used up. See ${RUNBOOK}#throttling.`,
    });
  }

  // Attacks
  raise("Lockouts", {
    metric: auditMetric("LockedOut", "create-session"),
    from: 20,
    description: `Many logins name users that are locked or whose password is disabled. An attacker may be trying passwords. See ${RUNBOOK}#lockouts.`,
  });
  raise("LoginsLimited", {
    metric: auditMetric("RateLimited", "create-session"),
    from: 20,
    description: `Users, client addresses or tenants reach their limits of wrong passwords. An attacker may be trying passwords of many users. See ${RUNBOOK}#lockouts.`,
  });
  raise("TenantBudgetHalfUsed", {
    metric: auditMetric("TenantBudgetHalfUsed", "create-session"),
    from: 1,
    description: `Wrong passwords used half of the hourly limit failures_per_tenant of a tenant, or of one of its parts. When all is used, unknown devices cannot log in until the hour ends. See ${RUNBOOK}#lockouts.`,
  });
  raise("LoginsMany", {
    metric: auditMetric("Requests", "create-session"),
    from: settings.loginsAMinute * PERIOD.toMinutes(),
    description: `There are more logins per minute than the setting loginsAMinute (${settings.loginsAMinute}). The cause is an attack, which also costs money, or growth. For growth, raise the setting. For an attack, see ${RUNBOOK}#lockouts.`,
  });
  raise("RefreshReuse", {
    metric: auditMetric("RefreshReuse", "refresh-session"),
    from: 3,
    description: `Retired refresh tokens were used, and Doorward ended their sessions. Tokens were stolen, or a client stores old tokens. See ${RUNBOOK}#suspicious-refreshes.`,
  });
  const anchoring = logs.get("anchor-audit");
  if (anchoring !== undefined) {
    const altered = new MetricFilter(stack, "AuditAlteredLines", {
      logGroup: anchoring,
      filterPattern: FilterPattern.literal(
        '{ ($.message = "audit.altered") || ($.message = "audit.forked") }',
      ),
      metricNamespace: NAMESPACE,
      metricName: ALTERED,
      metricValue: "1",
    });
    raise("AuditAltered", {
      metric: altered.metric({ statistic: Stats.SUM, period: PERIOD }),
      from: 1,
      description:
        "Audit events were changed after they were written, or forged. Find out who writes to the log groups. See docs/runbook.md#the-audit-log-is-not-anchored.",
    });
  }

  // Dead letters, delays and throttling
  const waiting = (queue: Queue) =>
    queue.metricApproximateNumberOfMessagesVisible({ period: PERIOD, statistic: Stats.MAXIMUM });
  raise("Undelivered", {
    metric: waiting(undelivered),
    from: 1,
    description:
      "Messages to users were not delivered within 24 hours or 20 retries. Read the log of deliver-notification for the cause, for example the SES sandbox, an unverified sender or a missing permission. See docs/runbook.md#messages-are-not-delivered.",
  });
  raise("Unanchored", {
    metric: waiting(unanchored),
    from: 1,
    description:
      "Batches of the audit log were not anchored. Read the log of anchor-audit, then invoke it with the requestPayload from the queue. See docs/runbook.md#the-audit-log-is-not-anchored.",
  });
  const deliver = functions.get("deliver-notification");
  if (deliver !== undefined) {
    raise("DeliveryLate", {
      metric: deliver.metric("IteratorAge", { period: PERIOD, statistic: Stats.MAXIMUM }),
      from: Duration.minutes(5).toMilliseconds(),
      periods: [2, 2],
      description:
        "Messages wait for 5 minutes or more, so that codes may expire before they arrive. Read the log of deliver-notification for the cause. See docs/runbook.md#messages-are-not-delivered.",
    });
  }
  // Each time a message is queued again, the stream reports it with a new age, so that DeliveryLate stays quiet.
  raise("DeliveriesDeferred", {
    metric: auditMetric("Deferred", "deliver-notification"),
    from: 1,
    periods: [3, 3],
    description: `Messages have been queued again for 15 minutes, for example because SES or SNS throttles, so that codes may expire before they arrive. See ${RUNBOOK}#messages-are-not-delivered.`,
  });
  for (const [kind, metricName] of [
    ["Reads", "ReadThrottleEvents"],
    ["Writes", "WriteThrottleEvents"],
  ] as const) {
    raise(`Table${kind}Throttled`, {
      metric: table.metric(metricName, { period: PERIOD, statistic: Stats.SUM }),
      from: 10,
      periods: [2, 3],
      description: `DynamoDB throttles ${kind.toLowerCase()}: one tenant or user exceeds the throughput of a partition. See ${RUNBOOK}#throttling.`,
    });
  }
}

function dashboard(stack: Stack, monitored: Monitored): void {
  const { settings, table, api, functions, logs, undelivered, unanchored } = monitored;
  const graph = (title: string, left: IMetric[], right: IMetric[] = [], leftUnit?: string): IWidget =>
    new GraphWidget({
      title,
      width: 8,
      height: 6,
      left,
      right,
      leftYAxis: { min: 0, showUnits: false, ...(leftUnit !== undefined && { label: leftUnit }) },
      rightYAxis: { min: 0, showUnits: false },
    });
  const heading = (text: string): IWidget => new TextWidget({ markdown: `# ${text}`, width: 24, height: 1 });
  const outcome = (of: string) =>
    (["Succeeded", "Refused", "Failed"] as const).map((name) => shown(name, of));
  const latency = (of: string, label: string) =>
    ["p50", "p99"].map((statistic) => shown("Latency", of, `${label} ${statistic}`, statistic));
  const each = (label: (name: string) => Metric) => routeTable.functions.map(({ name }) => label(name));
  const find = (name: string) => functions.get(name) as IFunction;

  const view = new Dashboard(stack, "Dashboard", {
    dashboardName: settings.stackName,
    defaultInterval: Duration.hours(3),
  });
  view.addWidgets(heading("Is login working?"));
  view.addWidgets(
    graph("Logins", outcome("create-session")),
    graph("Refreshes", outcome("refresh-session")),
    graph(
      "Latency of logins and refreshes",
      [...latency("create-session", "login"), ...latency("refresh-session", "refresh")],
      [],
      "ms",
    ),
  );
  view.addWidgets(
    graph("Error responses of the API", [
      api.metricServerError({ period: PERIOD, statistic: Stats.SUM, label: "5xx" }),
      api.metricClientError({ period: PERIOD, statistic: Stats.SUM, label: "4xx" }),
    ]),
    graph(
      "Errors and throttles of functions",
      each((name) => find(name).metricErrors({ period: PERIOD, label: `${name} errors` })),
      each((name) => find(name).metricThrottles({ period: PERIOD, label: `${name} throttles` })),
    ),
    graph(
      "Messages",
      [...outcome("deliver-notification"), shown("Deferred", "deliver-notification")],
      [
        find("deliver-notification").metric("IteratorAge", {
          period: PERIOD,
          statistic: Stats.MAXIMUM,
          label: "age of oldest, ms",
        }),
      ],
    ),
  );
  view.addWidgets(heading("Is someone attacking?"));
  view.addWidgets(
    graph("Rejected logins, limits and lockouts", [
      shown("Refused", "create-session"),
      shown("RateLimited", "create-session"),
      shown("TenantBudgetHalfUsed", "create-session"),
      shown("LockedOut", "create-session"),
    ]),
    graph(
      "Rejected refreshes and refresh token reuse",
      [shown("Refused", "refresh-session")],
      [shown("RefreshReuse", "refresh-session")],
    ),
    graph("Login resets and password changes", [
      ...(["reset-login", "update-credentials", "password-page"] as const).map((name) =>
        shown("Requests", name, name),
      ),
      shown("Refused", "password-page", "password-page refused"),
    ]),
  );
  const audited = [...logs]
    .filter(([name]) => name !== "anchor-audit")
    .map(([, group]) => group.logGroupName);
  view.addWidgets(
    new LogQueryWidget({
      title: "Rejections by tenant and reason",
      width: 16,
      height: 6,
      view: LogQueryVisualizationType.TABLE,
      logGroupNames: audited,
      queryLines: [
        'filter audit = 1 and outcome != "SUCCESS"',
        "stats count() as refusals, count_distinct(ip) as addresses, count_distinct(user) as users by tenant, function, outcome, reason",
        "sort refusals desc",
        "limit 20",
      ],
    }),
    new SingleValueWidget({
      title: "Undelivered and unanchored",
      width: 8,
      height: 6,
      metrics: [
        undelivered.metricApproximateNumberOfMessagesVisible({
          statistic: Stats.MAXIMUM,
          label: "undelivered messages",
        }),
        unanchored.metricApproximateNumberOfMessagesVisible({
          statistic: Stats.MAXIMUM,
          label: "unanchored batches",
        }),
        new Metric({
          namespace: NAMESPACE,
          metricName: ALTERED,
          statistic: Stats.SUM,
          label: "altered lines",
        }),
      ],
    }),
  );
  view.addWidgets(heading("What does it cost?"));
  const { cost, parts } = expenses(monitored);
  view.addWidgets(
    new GraphWidget({
      title: "USD per hour, at list prices of us-east-1",
      width: 16,
      height: 6,
      stacked: true,
      left: parts,
      leftYAxis: { min: 0 },
    }),
    new SingleValueWidget({ title: "USD in the last hour", width: 8, height: 6, metrics: [cost] }),
  );
  view.addWidgets(
    graph(
      "Requests",
      [api.metricCount({ period: PERIOD, statistic: Stats.SAMPLE_COUNT, label: "API" })],
      each((name) => find(name).metricInvocations({ period: PERIOD, label: name })),
    ),
    graph(
      "DynamoDB",
      [
        table.metricConsumedReadCapacityUnits({ period: PERIOD, statistic: Stats.SUM, label: "read units" }),
        table.metricConsumedWriteCapacityUnits({
          period: PERIOD,
          statistic: Stats.SUM,
          label: "write units",
        }),
      ],
      [
        table.metric("ReadThrottleEvents", {
          period: PERIOD,
          statistic: Stats.SUM,
          label: "reads throttled",
        }),
        table.metric("WriteThrottleEvents", {
          period: PERIOD,
          statistic: Stats.SUM,
          label: "writes throttled",
        }),
      ],
    ),
    graph(
      "Cold starts and concurrency",
      each((name) => shown("ColdStart", name, name)),
      [
        find("create-session").metric("ConcurrentExecutions", {
          period: PERIOD,
          statistic: Stats.MAXIMUM,
          label: "create-session concurrency",
        }),
        find("refresh-session").metric("ConcurrentExecutions", {
          period: PERIOD,
          statistic: Stats.MAXIMUM,
          label: "refresh-session concurrency",
        }),
      ],
    ),
  );
}

/**
 * The cost of the last hour for everything that grows with use. Storage, alarms, metrics and the KMS key are not
 * included.
 */
function expenses({ settings, table, api, functions, logs }: Monitored): { cost: IMetric; parts: IMetric[] } {
  const period = Duration.hours(1);
  const sum = { period, statistic: Stats.SUM };
  const using: Record<string, IMetric> = {
    requests: api.metricCount({ period, statistic: Stats.SAMPLE_COUNT }),
    reads: table.metricConsumedReadCapacityUnits(sum),
    writes: table.metricConsumedWriteCapacityUnits(sum),
  };
  // CloudWatch metric math does not support exponents.
  const usd = (price: number) => price.toFixed(15);
  const lambda: string[] = [];
  const logged: string[] = [];
  [...functions].forEach(([name, target], index) => {
    const gib = (FUNCTIONS[name]?.memory ?? 0) / 1024;
    using[`calls${index}`] = target.metricInvocations(sum);
    using[`busy${index}`] = target.metricDuration(sum);
    const second = (gib * PRICES.lambdaGibSecond[settings.architecture]) / 1000;
    lambda.push(`FILL(calls${index},0)*${usd(PRICES.lambdaRequest)}+FILL(busy${index},0)*${usd(second)}`);
    const group = logs.get(name);
    if (group === undefined) return;
    using[`log${index}`] = new Metric({
      namespace: "AWS/Logs",
      metricName: "IncomingBytes",
      dimensionsMap: { LogGroupName: group.logGroupName },
      ...sum,
    });
    logged.push(`FILL(log${index},0)`);
  });
  const priced = {
    "API Gateway": `FILL(requests,0)*${usd(PRICES.apiRequest)}`,
    Lambda: lambda.join("+"),
    DynamoDB: `FILL(reads,0)*${usd(PRICES.readUnit)}+FILL(writes,0)*${usd(PRICES.writeUnit)}`,
    Logs: `(${logged.join("+")})*${usd(PRICES.logByte)}`,
  };
  const used = (expression: string) =>
    Object.fromEntries(
      Object.entries(using).filter(([name]) => new RegExp(`\\b${name}\\b`).test(expression)),
    );
  const price = (label: string, expression: string) =>
    new MathExpression({ expression, label, period, usingMetrics: used(expression) });
  const all = Object.values(priced).join("+");
  return {
    cost: price("all", all),
    parts: Object.entries(priced).map(([label, expression]) => price(label, expression)),
  };
}
