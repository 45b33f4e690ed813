// The HTTP API. It has exactly the routes of the route table, and HEAD for each GET.

import { CfnOutput } from "aws-cdk-lib";
import { AccessLogFormat } from "aws-cdk-lib/aws-apigateway";
import {
  type CfnStage,
  DomainName,
  HttpApi,
  HttpMethod,
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
 * Format of the access log. It contains the route instead of the path, because path parameters identify users. It does
 * not contain the query, headers or tokens. The audit log has the decision under the same request ID.
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

/** The route key of API Gateway: method and path. */
export const routeKey = ({ method, path }: Route) => `${method} ${path}`;

/** The methods of a route. The functions answer HEAD wherever they answer GET. */
export const methods = ({ method }: Route): HttpMethod[] =>
  method === "GET" ? [HttpMethod.GET, HttpMethod.HEAD] : [method as HttpMethod];

/** Returns true if the route can hash a password. These routes have their own throttle. */
export const mayHash = (route: Route) => FUNCTIONS[route.function]?.hashes === true && route.method !== "GET";

/**
 * The HTTP API. The constructor creates it without routes, because functions need its address. `addRoutes` adds the
 * routes after the functions exist.
 */
export class Api {
  readonly api: HttpApi;
  /** The public address: `publicUrl` of the settings, the domain, or the address of the API. */
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
      description: "Doorward: session and credential service",
      createDefaultStage: false,
      // With a domain, the execute-api address would bypass everything in front of the domain.
      disableExecuteApiEndpoint: domain !== undefined,
    });
    acknowledge(
      this.api,
      "AwsSolutions-APIG4",
      "the functions authorize requests themselves, by tenant credentials, tokens or codes, because each dialect has its own errors; keys, health check, password page and preflights are public on purpose",
    );
    this.publicUrl =
      settings.publicUrl ?? (domain === undefined ? this.api.apiEndpoint : `https://${domain.name}`);
    const accessLog = new LogGroup(scope, "AccessLog", {
      // Log groups with this prefix need no entry in the resource policy of CloudWatch Logs, whose size is limited.
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

  /** Adds every route of the route table and connects it to its function. */
  addRoutes(functions: ReadonlyMap<string, IFunction>): void {
    const { loginThrottle } = this.settings;
    const integrations = new Map(
      [...functions].map(([name, target]) => [name, new HttpLambdaIntegration(name, target)] as const),
    );
    const throttled: Record<string, unknown> = {};
    for (const route of routeTable.routes) {
      const integration = integrations.get(route.function);
      if (integration === undefined) {
        throw new Error(
          `${routeKey(route)} names the function ${route.function}, which does not exist: regenerate infra/routes.json`,
        );
      }
      const added = this.api.addRoutes({
        path: route.path,
        methods: methods(route),
        integration,
      });
      if (!mayHash(route)) continue;
      throttled[routeKey(route)] = {
        ThrottlingRateLimit: loginThrottle.rate,
        ThrottlingBurstLimit: loginThrottle.burst,
      };
      // API Gateway rejects a stage with settings of routes that do not exist yet.
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
        description: `Target of the DNS record of ${name} (alias or CNAME)`,
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
