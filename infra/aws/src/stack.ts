// The CDK stack: Doorward in one Region of one AWS account.

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
import { monitor } from "./monitoring";

/** Properties of {@link DoorwardStack}. */
export interface DoorwardStackProps extends StackProps {
  readonly settings: Settings;
  /** Returns the code of a function by its name. */
  readonly code: (name: string) => Code;
}

/** Concurrency that Lambda always leaves unreserved (Lambda, "Configuring reserved concurrency"). */
const UNRESERVED = 100;
/** Retention of dead letters: the maximum of SQS. */
const KEPT = Duration.days(14);

/** The table, the functions, the HTTP API, and their alarms and dashboard. */
export class DoorwardStack extends Stack {
  /** The authorizer function for other APIs: see `DoorwardAuthorizer`. */
  readonly authorizer: Function;

  constructor(scope: Construct, id: string, props: DoorwardStackProps) {
    super(scope, id, { description: "Doorward: session and credential service", ...props });
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
        `concurrency is ${settings.concurrency}, which is too low for reserved concurrency, so that many logins can ` +
          "block refreshes. Request a higher quota (Service Quotas, Lambda, concurrent executions), then raise the setting",
      );
    }
    const make = (name: string, trigger: Trigger): [Function, LogGroup] => {
      const spec = FUNCTIONS[name];
      if (spec === undefined) throw new Error(`src/functions.ts has no entry for ${name}: add one`);
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
        // Prevents constructs from adding policies to the role.
        role: role(this, `${pascal(name)}Role`, needs).withoutPolicyUpdates(),
        logGroup,
        // The JSON format of Lambda would rewrite audit events, whose hashes cover the original text.
        loggingFormat: LoggingFormat.TEXT,
        tracing: settings.tracing === "xray" ? Tracing.ACTIVE : Tracing.DISABLED,
        ...(reserves &&
          spec.reserved !== undefined && {
            reservedConcurrentExecutions: Math.floor((settings.concurrency * spec.reserved) / 100),
          }),
        environment: {
          DOORWARD_LOG: settings.logLevel,
          // Functions do not start in another Region, because only one Region serves a table (docs/regions.md).
          ...(spec.table.length > 0 && {
            DOORWARD_TABLE: items.tableName,
            DOORWARD_HOME_REGION: this.region,
          }),
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
      if (made === undefined)
        throw new Error(`infra/routes.json has no function with the trigger ${wanted}: regenerate it`);
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
    monitor(this, { settings, table: items, api: api.api, functions, logs, undelivered, unanchored });

    const output = (name: string, description: string, value: string) =>
      new CfnOutput(this, name, { description, value });
    if (settings.domain === undefined) output("ApiUrl", "Address of the API", api.api.apiEndpoint);
    output("PublicUrl", "Public address of the routes", api.publicUrl);
    output("TableName", "Name of the table: DOORWARD_TABLE for doorwardctl", items.tableName);
    output(
      "SecretPrefix",
      "Prefix of secret names: DOORWARD_SECRET_PREFIX for doorwardctl",
      settings.secretPrefix,
    );
    output(
      "AuthorizerArn",
      "ARN of the authorizer function, for DoorwardAuthorizer in stacks of your own APIs",
      this.authorizer.functionArn,
    );
    output(
      "RotationFunctionArn",
      "ARN of the rotation function, for `aws secretsmanager rotate-secret`",
      rotation.functionArn,
    );
    if (key !== undefined) output("KeyArn", "ARN of the key that encrypts the table", key.keyArn);
  }

  /** Connects the stream of the table to the delivery function, as described in infra/delivery.json. */
  private deliver(target: Function, eventSourceArn: string | undefined, undelivered: Queue): void {
    if (eventSourceArn === undefined)
      throw new Error("the table has no stream: set existingTable.streamArn to the ARN of its stream");
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

  /** Subscribes the anchoring function to every log except its own, which would cause an endless loop. */
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
    acknowledge(
      queue,
      "AwsSolutions-SQS3",
      "this queue is a dead-letter queue of a Lambda function, and an alarm reports its messages",
    );
    return queue;
  }
}

/** Returns true if the reserved shares of all functions leave the unreserved concurrency that Lambda requires. */
export function mayReserve(concurrency: number): boolean {
  const shares = Object.values(FUNCTIONS).reduce((sum, { reserved }) => sum + (reserved ?? 0), 0);
  return concurrency * (1 - shares / 100) >= UNRESERVED;
}

const pascal = (name: string) =>
  name.replace(/(^|-)(.)/g, (_all, _dash, letter: string) => letter.toUpperCase());
