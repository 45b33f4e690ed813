// Alarms that say what to do, and one dashboard: is login working, is someone attacking, what does it cost.

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

/** What is watched. */
export interface Watched {
  readonly settings: Settings;
  readonly table: ITableV2;
  readonly api: HttpApi;
  readonly functions: ReadonlyMap<string, IFunction>;
  readonly logs: ReadonlyMap<string, ILogGroup>;
  readonly undelivered: Queue;
  readonly unanchored: Queue;
}

/** Namespace and names of the metrics in the audit log's lines (shared/src/audit/metrics.rs, docs/audit.md). */
export const NAMESPACE = "Doorward";
export const METRICS = [
  "Requests",
  "Latency",
  "Succeeded",
  "Refused",
  "Failed",
  "LockedOut",
  "RateLimited",
  "RefreshReuse",
  "ColdStart",
] as const;
type MetricName = (typeof METRICS)[number];
/** Of a log filter of this stack: lines of the audit log that are not as they were written. */
export const ALTERED = "AuditAltered";

const PERIOD = Duration.minutes(5);
const RUNBOOK = "docs/runbook.md";

/**
 * List prices in us-east-1, USD, of November 2026; other Regions differ by some tenths. Sources: the services' own
 * pricing pages, first tiers, without free ones.
 */
export const PRICES = {
  apiRequest: 1.0 / 1e6,
  lambdaRequest: 0.2 / 1e6,
  lambdaGibSecond: { arm64: 0.0000133334, x86_64: 0.0000166667 },
  readUnit: 0.125 / 1e6,
  writeUnit: 0.625 / 1e6,
  logByte: 0.5 / 2 ** 30,
} as const;

/** A metric of the audit log's lines; their one dimension is the function. */
const told = (metricName: MetricName, of: string, statistic: string = Stats.SUM) =>
  new Metric({
    namespace: NAMESPACE,
    metricName,
    dimensionsMap: { function: of },
    statistic,
    period: PERIOD,
  });
/** The same under its own name: for graphs. An alarm on a metric with a label is one on an expression. */
const shown = (
  metricName: MetricName,
  of: string,
  label: string = metricName,
  statistic: string = Stats.SUM,
) => told(metricName, of, statistic).with({ label });

/** Alarms and the dashboard. */
export function watch(stack: Stack, watched: Watched): void {
  const topic = alarmTopic(stack, watched.settings);
  alarms(stack, watched, topic);
  dashboard(stack, watched);
}

function alarmTopic(stack: Stack, { alarmEmail, alarmTopicArn }: Settings): ITopic | undefined {
  if (alarmTopicArn !== undefined) return Topic.fromTopicArn(stack, "Alarms", alarmTopicArn);
  if (alarmEmail === undefined) return undefined;
  const topic = new Topic(stack, "Alarms", { displayName: "Doorward's alarms", enforceSSL: true });
  topic.addSubscription(new EmailSubscription(alarmEmail));
  // A policy of its own, which enforceSSL makes, takes the place of SNS's default: then alarms need to be let in.
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
  /** From here on it is alarming. */
  readonly from: number;
  /** How many of how many periods of five minutes. */
  readonly periods?: readonly [number, number];
  /** What it means and what to do. */
  readonly what: string;
}

function alarms(stack: Stack, watched: Watched, topic: ITopic | undefined): void {
  const { settings, table, api, functions, logs, undelivered, unanchored } = watched;
  const raise = (id: string, { metric, from, periods: [bad, seen] = [1, 1], what }: Rule) => {
    const alarm = new Alarm(stack, `${id}Alarm`, {
      alarmName: `${settings.stackName}-${id}`,
      alarmDescription: what,
      metric,
      threshold: from,
      comparisonOperator: ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
      datapointsToAlarm: bad,
      evaluationPeriods: seen,
      // What did not occur is missing, not 0: nobody logs in at night.
      treatMissingData: TreatMissingData.NOT_BREACHING,
    });
    if (topic !== undefined) {
      alarm.addAlarmAction(new SnsAction(topic));
      alarm.addOkAction(new SnsAction(topic));
    }
  };

  // Is login working?
  for (const [of, verb] of [
    ["create-session", "Logins"],
    ["refresh-session", "Refreshes"],
    ["authorize", "Session checks"],
  ] as const) {
    raise(`${verb.replace(" c", "C")}Failing`, {
      metric: told("Failed", of),
      from: 5,
      periods: [2, 3],
      what:
        `${verb} fail by a fault of Doorward's or of AWS. The log of ${of} has the causes, in lines "request.failed": ` +
        `${RUNBOOK}#logins-fail.`,
    });
  }
  raise("LoginsSlow", {
    metric: told("Latency", "create-session", "p99"),
    from: 3000,
    periods: [3, 3],
    what: `One login in a hundred takes 3 s or more. Many at one user wait for one another: ${RUNBOOK}#lockouts. Else ${RUNBOOK}#throttling.`,
  });
  raise("RefreshesSlow", {
    metric: told("Latency", "refresh-session", "p99"),
    from: 2000,
    periods: [3, 3],
    what: `One refresh in a hundred takes 2 s or more: ${RUNBOOK}#throttling.`,
  });
  raise("ApiFaults", {
    metric: api.metricServerError({ period: PERIOD, statistic: Stats.SUM }),
    from: 10,
    periods: [2, 3],
    what: "The HTTP API answers 5xx. The access log says on which routes (status, integrationError); the functions' logs say why: docs/runbook.md#logins-fail.",
  });
  for (const { name, trigger } of routeTable.functions) {
    const target = functions.get(name);
    if (target === undefined) continue;
    const id = name.replace(/(^|-)(.)/g, (_all, _dash, letter: string) => letter.toUpperCase());
    raise(`${id}Errors`, {
      metric: target.metricErrors({ period: PERIOD }),
      from: 1,
      periods: [2, 3],
      what:
        `${name} ends without an answer: it does not start (a variable or a permission is missing), runs out of its ` +
        `${TIMEOUTS[trigger]} s, or dies. Its log has the reason. After a deployment: roll it back.`,
    });
    raise(`${id}Throttles`, {
      metric: target.metricThrottles({ period: PERIOD }),
      from: 1,
      periods: [2, 3],
      what: `Lambda turns calls of ${name} away: its reserved concurrency, or the account's, is used up. ${RUNBOOK}#throttling.`,
    });
  }

  // Is someone attacking?
  raise("Lockouts", {
    metric: told("LockedOut", "create-session"),
    from: 20,
    what: `Locked users, or users without a password, are being logged in to: someone guesses. ${RUNBOOK}#lockouts.`,
  });
  raise("LoginsLimited", {
    metric: told("RateLimited", "create-session"),
    from: 20,
    what: `Limits of wrong passwords are met, of users, addresses or tenants: someone guesses widely. ${RUNBOOK}#lockouts.`,
  });
  raise("LoginsMany", {
    metric: told("Requests", "create-session"),
    from: settings.loginsAMinute * PERIOD.toMinutes(),
    what: `More logins than loginsAMinute (${settings.loginsAMinute}) expects: an attack, which costs money too, or growth: then raise the setting. ${RUNBOOK}#lockouts.`,
  });
  raise("RefreshReuse", {
    metric: told("RefreshReuse", "refresh-session"),
    from: 3,
    what: `Retired refresh tokens were used, and their sessions ended: tokens were stolen, or a client keeps old ones. ${RUNBOOK}#suspicious-refreshes.`,
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
      what: "A line of the audit log is not as it was written: somebody writes to the log groups. docs/runbook.md#the-audit-log-is-not-anchored.",
    });
  }

  // Is anything left behind?
  const waiting = (queue: Queue) =>
    queue.metricApproximateNumberOfMessagesVisible({ period: PERIOD, statistic: Stats.MAXIMUM });
  raise("Undelivered", {
    metric: waiting(undelivered),
    from: 1,
    what: "Messages to users were given up on after a day or twenty tries. The log of deliver-notification says why: SES in its sandbox, a sender that is not verified, a permission. docs/runbook.md#messages-are-not-delivered.",
  });
  raise("Unanchored", {
    metric: waiting(unanchored),
    from: 1,
    what: "Batches of the audit log were not anchored. See the log of anchor-audit; then call it with the queue's requestPayload: docs/runbook.md#the-audit-log-is-not-anchored.",
  });
  const deliver = functions.get("deliver-notification");
  if (deliver !== undefined) {
    raise("DeliveryLate", {
      metric: deliver.metric("IteratorAge", { period: PERIOD, statistic: Stats.MAXIMUM }),
      from: Duration.minutes(5).toMilliseconds(),
      periods: [2, 2],
      what: "Messages wait for five minutes or more, and codes run out. The log of deliver-notification says what it waits for: docs/runbook.md#messages-are-not-delivered.",
    });
  }
  for (const [kind, metricName] of [
    ["Reads", "ReadThrottleEvents"],
    ["Writes", "WriteThrottleEvents"],
  ] as const) {
    raise(`Table${kind}Throttled`, {
      metric: table.metric(metricName, { period: PERIOD, statistic: Stats.SUM }),
      from: 10,
      periods: [2, 3],
      what: `DynamoDB turns ${kind.toLowerCase()} away: one tenant or user brings more than a partition takes. ${RUNBOOK}#throttling.`,
    });
  }
}

function dashboard(stack: Stack, watched: Watched): void {
  const { settings, table, api, functions, logs, undelivered, unanchored } = watched;
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
      "How long they take",
      [...latency("create-session", "login"), ...latency("refresh-session", "refresh")],
      [],
      "ms",
    ),
  );
  view.addWidgets(
    graph("Answers of the API", [
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
      [...outcome("deliver-notification")],
      [
        find("deliver-notification").metric("IteratorAge", {
          period: PERIOD,
          statistic: Stats.MAXIMUM,
          label: "oldest, ms",
        }),
      ],
    ),
  );
  view.addWidgets(heading("Is someone attacking?"));
  view.addWidgets(
    graph("Wrong logins, limits and lockouts", [
      shown("Refused", "create-session"),
      shown("RateLimited", "create-session"),
      shown("LockedOut", "create-session"),
    ]),
    graph(
      "Retired refresh tokens, and other refusals",
      [shown("Refused", "refresh-session")],
      [shown("RefreshReuse", "refresh-session")],
    ),
    graph("Resets and new passwords", [
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
      title: "Refusals by tenant and reason",
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
      title: "Left behind",
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
  const { cost, parts } = expenses(watched);
  view.addWidgets(
    new GraphWidget({
      title: "USD an hour, by list prices of us-east-1",
      width: 16,
      height: 6,
      stacked: true,
      left: parts,
      leftYAxis: { min: 0 },
    }),
    new SingleValueWidget({ title: "USD in this hour", width: 8, height: 6, metrics: [cost] }),
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
      "Cold starts, and functions at once",
      each((name) => shown("ColdStart", name, name)),
      [
        find("create-session").metric("ConcurrentExecutions", {
          period: PERIOD,
          statistic: Stats.MAXIMUM,
          label: "create-session at once",
        }),
        find("refresh-session").metric("ConcurrentExecutions", {
          period: PERIOD,
          statistic: Stats.MAXIMUM,
          label: "refresh-session at once",
        }),
      ],
    ),
  );
}

/** What the last hour would cost; of what grows with use: storage, alarms, metrics and the key come on top. */
function expenses({ settings, table, api, functions, logs }: Watched): { cost: IMetric; parts: IMetric[] } {
  const period = Duration.hours(1);
  const sum = { period, statistic: Stats.SUM };
  const using: Record<string, IMetric> = {
    requests: api.metricCount({ period, statistic: Stats.SAMPLE_COUNT }),
    reads: table.metricConsumedReadCapacityUnits(sum),
    writes: table.metricConsumedWriteCapacityUnits(sum),
  };
  // Metric math knows no exponents.
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
