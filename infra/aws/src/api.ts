// The HTTP API: a route for each of the route table, none besides.

import { CfnOutput } from "aws-cdk-lib";
import { AccessLogFormat } from "aws-cdk-lib/aws-apigateway";
import {
  type CfnStage,
  DomainName,
  HttpApi,
  type HttpMethod,
  HttpStage,
  LogGroupLogDestination,
  SecurityPolicy,
} from "aws-cdk-lib/aws-apigatewayv2";
import { HttpLambdaIntegration } from "aws-cdk-lib/aws-apigatewayv2-integrations";
import { Certificate } from "aws-cdk-lib/aws-certificatemanager";
import type { IFunction } from "aws-cdk-lib/aws-lambda";
import { LogGroup } from "aws-cdk-lib/aws-logs";
import { ARecord, HostedZone, RecordTarget } from "aws-cdk-lib/aws-route53";
import { ApiGatewayv2DomainProperties } from "aws-cdk-lib/aws-route53-targets";
import type { Construct } from "constructs";
import { FUNCTIONS } from "./functions";
import { acknowledge } from "./permissions";
import type { Settings } from "./settings";
import { type Route, routeTable } from "./source";
import { removalPolicy } from "./table";

/**
 * One line of the access log. The route stands for the path, whose parameters name users; neither query, headers
 * nor tokens are in it. What was decided is in the audit log, under the same request id.
 */
const ACCESS_LOG = {
  requestId: "$context.requestId",
  time: "$context.requestTimeEpoch",
  ip: "$context.identity.sourceIp",
  method: "$context.httpMethod",
  route: "$context.routeKey",
  status: "$context.status",
  protocol: "$context.protocol",
  responseLength: "$context.responseLength",
  milliseconds: "$context.responseLatency",
  integrationStatus: "$context.integrationStatus",
  integrationMilliseconds: "$context.integrationLatency",
  integrationError: "$context.integrationErrorMessage",
  error: "$context.error.message",
};

/** A route as API Gateway names it. */
export const routeKey = ({ method, path }: Route) => `${method} ${path}`;

/** Whether a route may make a function hash a password: those are throttled apart. */
export const mayHash = (route: Route) => FUNCTIONS[route.function]?.hashes === true && route.method !== "GET";

/** The HTTP API, still without routes: functions need its address, and it needs the functions. */
export class Api {
  readonly api: HttpApi;
  /** Where people reach the routes: the domain, what the settings say, or the API's own address. */
  readonly publicUrl: string;
  readonly stage: HttpStage;

  constructor(
    private readonly scope: Construct,
    private readonly settings: Settings,
  ) {
    const { domain, stackName, throttle } = settings;
    const domainName = domain && this.domainName(domain);
    this.api = new HttpApi(scope, "Api", {
      apiName: stackName,
      description: "Sessions and credentials: Doorward",
      createDefaultStage: false,
      // With a domain, its own address would be a second one past whatever stands before the domain.
      disableExecuteApiEndpoint: domain !== undefined,
    });
    acknowledge(
      this.api,
      "AwsSolutions-APIG4",
      "the functions themselves authorize: by tenant credentials, tokens or codes, in each dialect's own words; what is public (keys, health, the page, preflights) is meant to be",
    );
    this.publicUrl =
      settings.publicUrl ?? (domain === undefined ? this.api.apiEndpoint : `https://${domain.name}`);
    const accessLog = new LogGroup(scope, "AccessLog", {
      // Groups of this prefix need no line in CloudWatch Logs' one, short resource policy.
      logGroupName: `/aws/vendedlogs/apis/${stackName}`,
      retention: settings.logRetentionDays,
      removalPolicy: removalPolicy(settings),
    });
    this.stage = new HttpStage(scope, "Stage", {
      httpApi: this.api,
      stageName: "$default",
      autoDeploy: true,
      throttle: { rateLimit: throttle.rate, burstLimit: throttle.burst },
      accessLogSettings: {
        destination: new LogGroupLogDestination(accessLog),
        format: AccessLogFormat.custom(JSON.stringify(ACCESS_LOG)),
      },
      ...(domainName && { domainMapping: { domainName } }),
    });
  }

  /** Every route of the route table, each to its function. */
  addRoutes(functions: ReadonlyMap<string, IFunction>): void {
    const { loginThrottle } = this.settings;
    const integrations = new Map(
      [...functions].map(([name, target]) => [name, new HttpLambdaIntegration(name, target)] as const),
    );
    const throttled: Record<string, unknown> = {};
    for (const route of routeTable.routes) {
      const integration = integrations.get(route.function);
      if (integration === undefined) {
        throw new Error(`${routeKey(route)} goes to ${route.function}, and there is no such function`);
      }
      const added = this.api.addRoutes({
        path: route.path,
        methods: [route.method as HttpMethod],
        integration,
      });
      if (!mayHash(route)) continue;
      throttled[routeKey(route)] = {
        ThrottlingRateLimit: loginThrottle.rate,
        ThrottlingBurstLimit: loginThrottle.burst,
      };
      // A stage refuses settings of routes that are not there yet.
      this.stage.node.addDependency(...added);
    }
    (this.stage.node.defaultChild as CfnStage).routeSettings = throttled;
  }

  private domainName({ name, certificateArn, hostedZone }: NonNullable<Settings["domain"]>): DomainName {
    const { scope } = this;
    const domainName = new DomainName(scope, "Domain", {
      domainName: name,
      certificate: Certificate.fromCertificateArn(scope, "Certificate", certificateArn),
      securityPolicy: SecurityPolicy.TLS_1_2,
    });
    if (hostedZone === undefined) {
      new CfnOutput(scope, "DomainTarget", {
        description: `Point ${name} here: an alias, or a CNAME`,
        value: domainName.regionalDomainName,
      });
      return domainName;
    }
    const zone = HostedZone.fromHostedZoneAttributes(scope, "Zone", {
      hostedZoneId: hostedZone.id,
      zoneName: hostedZone.name,
    });
    const target = RecordTarget.fromAlias(
      new ApiGatewayv2DomainProperties(domainName.regionalDomainName, domainName.regionalHostedZoneId),
    );
    new ARecord(scope, "Address", { zone, recordName: name, target });
    return domainName;
  }
}
