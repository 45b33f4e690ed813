import { CfnOutput, Duration, RemovalPolicy, Stack, type StackProps } from "aws-cdk-lib";
import { HttpApi, HttpMethod, HttpStage } from "aws-cdk-lib/aws-apigatewayv2";
import { HttpLambdaIntegration } from "aws-cdk-lib/aws-apigatewayv2-integrations";
import { AttributeType, Billing, StreamViewType, TableEncryptionV2, TableV2 } from "aws-cdk-lib/aws-dynamodb";
import { Effect, PolicyDocument, PolicyStatement, Role, ServicePrincipal } from "aws-cdk-lib/aws-iam";
import { Architecture, Code, EventSourceMapping, FilterCriteria, Function, LoggingFormat, Runtime, StartingPosition } from "aws-cdk-lib/aws-lambda";
import { SqsDlq } from "aws-cdk-lib/aws-lambda-event-sources";
import { LogGroup } from "aws-cdk-lib/aws-logs";
import { Queue, QueueEncryption } from "aws-cdk-lib/aws-sqs";
import type { Construct } from "constructs";
import { FUNCTIONS, TIMEOUTS } from "./functions";
import type { Settings } from "./settings";
import { deliverySpec, routeTable, tableSpec } from "./source";

export interface DoorwardStackProps extends StackProps {
  readonly settings: Settings;
  readonly code: (name: string) => Code;
}

export class DoorwardStack extends Stack {
  constructor(scope: Construct, id: string, props: DoorwardStackProps) {
    super(scope, id, props);
    const { settings, code } = props;
    const removalPolicy = settings.removal === "destroy" ? RemovalPolicy.DESTROY : RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE;
    const { partitionKey, sortKey } = tableSpec.keySchema;
    const table = new TableV2(this, "Table", {
      partitionKey: { name: partitionKey.name, type: AttributeType.STRING },
      sortKey: { name: sortKey.name, type: AttributeType.STRING },
      billing: Billing.onDemand(),
      timeToLiveAttribute: tableSpec.ttlAttribute,
      dynamoStream: StreamViewType[tableSpec.stream],
      pointInTimeRecoverySpecification: { pointInTimeRecoveryEnabled: tableSpec.pointInTimeRecovery },
      deletionProtection: settings.removal === "retain" && tableSpec.deletionProtection,
      encryption: TableEncryptionV2.awsManagedKey(),
      removalPolicy,
    });
    const api = new HttpApi(this, "Api", { apiName: settings.stackName, createDefaultStage: false });
    new HttpStage(this, "Stage", { httpApi: api, stageName: "$default", autoDeploy: true });
    const publicUrl = settings.publicUrl ?? api.apiEndpoint;
    const functions = new Map<string, Function>();
    for (const { name, trigger } of routeTable.functions) {
      const spec = FUNCTIONS[name];
      if (spec === undefined) throw new Error(`src/functions.ts does not say what ${name} needs`);
      const logGroup = new LogGroup(this, `${name}-log`, {
        logGroupName: `/aws/lambda/${settings.stackName}-${name}`,
        retention: settings.auditRetentionDays,
        removalPolicy,
      });
      const role = new Role(this, `${name}-role`, {
        assumedBy: new ServicePrincipal("lambda.amazonaws.com"),
        inlinePolicies: {
          own: new PolicyDocument({
            statements: [
              new PolicyStatement({ effect: Effect.ALLOW, actions: ["logs:CreateLogStream", "logs:PutLogEvents"], resources: [logGroup.logGroupArn] }),
              new PolicyStatement({ effect: Effect.ALLOW, actions: spec.table.map((action) => `dynamodb:${action}`), resources: [table.tableArn] }),
            ],
          }),
        },
      });
      functions.set(
        name,
        new Function(this, name, {
          functionName: `${settings.stackName}-${name}`,
          runtime: Runtime.PROVIDED_AL2023,
          architecture: settings.architecture === "arm64" ? Architecture.ARM_64 : Architecture.X86_64,
          handler: "bootstrap",
          code: code(name),
          memorySize: spec.memory,
          timeout: Duration.seconds(spec.timeout ?? TIMEOUTS[trigger]),
          role,
          logGroup,
          loggingFormat: LoggingFormat.TEXT,
          environment: {
            DOORWARD_TABLE: table.tableName,
            DOORWARD_SECRET_PREFIX: settings.secretPrefix,
            DOORWARD_LOG: settings.logLevel,
            ...(spec.publicUrl ? { DOORWARD_PUBLIC_URL: publicUrl } : {}),
            ...(spec.sends ? { DOORWARD_MAIL_FROM: settings.mailFrom } : {}),
          },
        }),
      );
    }
    const integrations = new Map<string, HttpLambdaIntegration>();
    for (const route of routeTable.routes) {
      const target = functions.get(route.function);
      if (target === undefined) throw new Error(`${route.method} ${route.path} goes to ${route.function}, which there is not`);
      const integration = integrations.get(route.function) ?? new HttpLambdaIntegration(`${route.function}-integration`, target);
      integrations.set(route.function, integration);
      api.addRoutes({ path: route.path, methods: [route.method as HttpMethod], integration });
    }
    const undelivered = new Queue(this, "Undelivered", { encryption: QueueEncryption.SQS_MANAGED, enforceSSL: true });
    const deliver = functions.get(deliverySpec.function);
    if (deliver === undefined) throw new Error(`infra/delivery.json names ${deliverySpec.function}, which there is not`);
    table.grantStreamRead(deliver);
    new EventSourceMapping(this, "Delivery", {
      target: deliver,
      eventSourceArn: table.tableStreamArn as string,
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
    new CfnOutput(this, "ApiUrl", { value: api.apiEndpoint });
    new CfnOutput(this, "PublicUrl", { value: publicUrl });
    new CfnOutput(this, "TableName", { value: table.tableName });
    new CfnOutput(this, "SecretPrefix", { value: settings.secretPrefix });
    new CfnOutput(this, "AuthorizerArn", { value: functions.get("authorize")?.functionArn ?? "" });
    new CfnOutput(this, "RotationFunctionArn", { value: functions.get("rotate-secret")?.functionArn ?? "" });
  }
}
