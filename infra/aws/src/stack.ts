// Doorward in one Region of one account.

import { Annotations, CfnOutput, Duration, RemovalPolicy, Stack, type StackProps } from "aws-cdk-lib";
import { ServicePrincipal } from "aws-cdk-lib/aws-iam";
import {
  Architecture,
  type Code,
  EventSourceMapping,
  FilterCriteria,
  Function,
  LoggingFormat,
  Runtime,
  StartingPosition,
  Tracing,
} from "aws-cdk-lib/aws-lambda";
import { SqsDestination } from "aws-cdk-lib/aws-lambda-destinations";
import { SqsDlq } from "aws-cdk-lib/aws-lambda-event-sources";
import { FilterPattern, LogGroup, SubscriptionFilter } from "aws-cdk-lib/aws-logs";
import { LambdaDestination } from "aws-cdk-lib/aws-logs-destinations";
import { Queue, QueueEncryption } from "aws-cdk-lib/aws-sqs";
import type { Construct } from "constructs";
import { Api } from "./api";
import { FUNCTIONS, TIMEOUTS } from "./functions";
import { acknowledge, role, statements } from "./permissions";
import type { Settings } from "./settings";
import { deliverySpec, routeTable, type Trigger } from "./source";
import { removalPolicy, table, tableKey } from "./table";
import { watch } from "./watch";

/** What a stack is made of. */
export interface DoorwardStackProps extends StackProps {
  readonly settings: Settings;
  /** A function's code, by its name. */
  readonly code: (name: string) => Code;
}

/** Lambda leaves this many unreserved, always (Lambda, "Configuring reserved concurrency"). */
const UNRESERVED = 100;
/** What dead letters are kept for: as long as SQS keeps anything. */
const KEPT = Duration.days(14);

/** Table, functions, HTTP API, and what watches them. */
export class DoorwardStack extends Stack {
  /** The function that answers an API Gateway authorizer: see {@link DoorwardAuthorizer}. */
  readonly authorizer: Function;

  constructor(scope: Construct, id: string, props: DoorwardStackProps) {
    super(scope, id, { description: "Doorward: sessions and credentials", ...props });
    const { settings, code } = props;
    const key = tableKey(this, settings);
    const items = table(this, settings, key);
    const keyArns = [key?.keyArn, settings.existingTable?.keyArn].filter((arn) => arn !== undefined);
    const api = new Api(this, settings);
    const undelivered = this.deadLetters("Undelivered");
    const unanchored = this.deadLetters("Unanchored");

    const reserves = mayReserve(settings.concurrency);
    if (!reserves) {
      Annotations.of(this).addWarningV2(
        "doorward:no-reserved-concurrency",
        `concurrency is ${settings.concurrency}: too little to reserve any of it, so that a flood of logins may keep ` +
          "refreshes out. Ask for more (Service Quotas, Lambda, concurrent executions), then raise the setting",
      );
    }
    const make = (name: string, trigger: Trigger): [Function, LogGroup] => {
      const spec = FUNCTIONS[name];
      if (spec === undefined) throw new Error(`src/functions.ts does not say what ${name} needs`);
      const functionName = `${settings.stackName}-${name}`;
      const logGroup = new LogGroup(this, `${pascal(name)}Log`, {
        logGroupName: `/aws/lambda/${functionName}`,
        retention: settings.auditRetentionDays,
        removalPolicy: removalPolicy(settings),
      });
      const needs = statements(
        this,
        spec,
        {
          table: items,
          keyArns,
          logGroup,
          deadLetters: { stream: undelivered, log: unanchored }[trigger as string],
          readsStream: trigger === "stream",
        },
        settings,
      );
      const made = new Function(this, pascal(name), {
        functionName,
        runtime: Runtime.PROVIDED_AL2023,
        architecture: settings.architecture === "arm64" ? Architecture.ARM_64 : Architecture.X86_64,
        handler: "bootstrap",
        code: code(name),
        memorySize: spec.memory,
        timeout: Duration.seconds(TIMEOUTS[trigger]),
        // Nothing but its own needs: constructs would add policies of their own to what they are given.
        role: role(this, `${pascal(name)}Role`, needs).withoutPolicyUpdates(),
        logGroup,
        // JSON would be Lambda's own form, and the audit log's hashes are over its lines as they were written.
        loggingFormat: LoggingFormat.TEXT,
        tracing: settings.tracing === "xray" ? Tracing.ACTIVE : Tracing.DISABLED,
        ...(reserves && spec.reserved !== undefined && {
          reservedConcurrentExecutions: Math.floor((settings.concurrency * spec.reserved) / 100),
        }),
        environment: {
          DOORWARD_LOG: settings.logLevel,
          // Elsewhere they would not start: one Region alone serves a table (docs/regions.md).
          ...(spec.table.length > 0 && { DOORWARD_TABLE: items.tableName, DOORWARD_HOME_REGION: this.region }),
          ...(spec.secrets.length > 0 && { DOORWARD_SECRET_PREFIX: settings.secretPrefix }),
          ...(spec.publicUrl && { DOORWARD_PUBLIC_URL: api.publicUrl }),
          ...(spec.sends && { DOORWARD_MAIL_FROM: settings.mailFrom }),
        },
      });
      return [made, logGroup];
    };

    const functions = new Map<string, Function>();
    const logs = new Map<string, LogGroup>();
    const of = (wanted: Trigger) => {
      const found = routeTable.functions.find(({ trigger }) => trigger === wanted);
      const made = found && functions.get(found.name);
      if (made === undefined) throw new Error(`infra/routes.json has no function for ${wanted}`);
      return made;
    };
    for (const { name, trigger } of routeTable.functions) {
      const [made, logGroup] = make(name, trigger);
      functions.set(name, made);
      logs.set(name, logGroup);
    }
    api.addRoutes(functions);
    this.deliver(of("stream"), items.tableStreamArn, undelivered);
    this.anchor(of("log"), logs, unanchored);
    this.authorizer = of("authorizer");
    const rotation = of("rotation");
    rotation.addPermission("SecretsManager", {
      principal: new ServicePrincipal("secretsmanager.amazonaws.com"),
      sourceAccount: this.account,
    });
    watch(this, { settings, table: items, api: api.api, functions, logs, undelivered, unanchored });

    const output = (name: string, description: string, value: string) => new CfnOutput(this, name, { description, value });
    if (settings.domain === undefined) output("ApiUrl", "The API's own address", api.api.apiEndpoint);
    output("PublicUrl", "Where people reach the routes", api.publicUrl);
    output("TableName", "For doorwardctl: DOORWARD_TABLE", items.tableName);
    output("SecretPrefix", "For doorwardctl: DOORWARD_SECRET_PREFIX", settings.secretPrefix);
    output("AuthorizerArn", "For DoorwardAuthorizer, in the stacks of your own APIs", this.authorizer.functionArn);
    output("RotationFunctionArn", "For `aws secretsmanager rotate-secret`", rotation.functionArn);
    if (key !== undefined) output("KeyArn", "The key that encrypts the table", key.keyArn);
  }

  /** The table's stream feeds the sender, as infra/delivery.json says. */
  private deliver(target: Function, eventSourceArn: string | undefined, undelivered: Queue): void {
    if (eventSourceArn === undefined) throw new Error("the table has no stream");
    new EventSourceMapping(this, "Delivery", {
      target,
      eventSourceArn,
      filters: [FilterCriteria.filter(deliverySpec.filter)],
      startingPosition: StartingPosition[deliverySpec.startingPosition],
      batchSize: deliverySpec.batchSize,
      maxBatchingWindow: Duration.seconds(deliverySpec.maximumBatchingWindowSeconds),
      parallelizationFactor: deliverySpec.parallelizationFactor,
      retryAttempts: deliverySpec.maximumRetryAttempts,
      maxRecordAge: Duration.seconds(deliverySpec.maximumRecordAgeSeconds),
      bisectBatchOnError: deliverySpec.bisectBatchOnFunctionError,
      reportBatchItemFailures: deliverySpec.reportBatchItemFailures,
      onFailure: new SqsDlq(undelivered),
    });
  }

  /** Every log but its own feeds the function that anchors the audit log: its own would feed it without end. */
  private anchor(target: Function, logs: ReadonlyMap<string, LogGroup>, unanchored: Queue): void {
    target.configureAsyncInvoke({
      onFailure: new SqsDestination(unanchored),
      retryAttempts: 2,
      maxEventAge: Duration.hours(6),
    });
    for (const { name, trigger } of routeTable.functions) {
      const logGroup = logs.get(name);
      if (trigger === "log" || logGroup === undefined) continue;
      new SubscriptionFilter(this, `${pascal(name)}Anchoring`, {
        logGroup,
        filterName: "doorward-audit",
        filterPattern: FilterPattern.literal("{ $.audit = 1 }"),
        destination: new LambdaDestination(target),
      });
    }
  }

  private deadLetters(id: string): Queue {
    const queue = new Queue(this, id, {
      encryption: QueueEncryption.SQS_MANAGED,
      enforceSSL: true,
      retentionPeriod: KEPT,
      removalPolicy: RemovalPolicy.DESTROY,
    });
    acknowledge(queue, "AwsSolutions-SQS3", "it is a dead-letter queue itself, of Lambda and not of a queue; an alarm watches it");
    return queue;
  }
}

/** Whether what the functions' shares come to can be reserved, and Lambda still has what it wants unreserved. */
export function mayReserve(concurrency: number): boolean {
  const shares = Object.values(FUNCTIONS).reduce((sum, { reserved }) => sum + (reserved ?? 0), 0);
  return concurrency * (1 - shares / 100) >= UNRESERVED;
}

const pascal = (name: string) => name.replace(/(^|-)(.)/g, (_all, _dash, letter: string) => letter.toUpperCase());
