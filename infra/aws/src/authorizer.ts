// A construct for your own HTTP APIs: accepts only callers with a live session.

import { Duration } from "aws-cdk-lib";
import {
  type HttpRouteAuthorizerBindOptions,
  type HttpRouteAuthorizerConfig,
  type IHttpRouteAuthorizer,
} from "aws-cdk-lib/aws-apigatewayv2";
import { HttpLambdaAuthorizer, HttpLambdaResponseType } from "aws-cdk-lib/aws-apigatewayv2-authorizers";
import { Function } from "aws-cdk-lib/aws-lambda";
import { Construct } from "constructs";

/** Properties of {@link DoorwardAuthorizer}. */
export interface DoorwardAuthorizerProps {
  /** ARN of the function `authorize`, in the same account and Region: the output `AuthorizerArn` of Doorward's stack. */
  readonly functionArn: string;
  /**
   * Time for which API Gateway caches a result for the same token, at most 1 hour. A logout, a new password or a
   * disabled user takes effect after at most `cacheTtl`, a suspended tenant after at most `cacheTtl` plus 5 s.
   *
   * Cached results cost no invocation. API Gateway looks only at identity sources before it uses a cached result, so
   * that `X-Tenant-ID` is not compared with the token. With a cache, read the tenant only from the authorizer's
   * `tenantId`, never from that header.
   *
   * @default - 0 s: the function checks every call, so that an ended session is rejected at once
   */
  readonly cacheTtl?: Duration;
  /**
   * Whether a tenant's policy has `trusted_proxies`; required with a cache. The client address is then in
   * `X-Forwarded-For`, which becomes a part of the cache key. API Gateway returns 401 for a request without it.
   * Otherwise a result for one client would count for all clients of the proxy.
   */
  readonly trustedProxies?: boolean;
  /**
   * The cache key. If one of these values is missing, API Gateway itself returns 401. With a cache, it must contain the
   * values of the default.
   *
   * @default - the `Authorization` header; with a cache, also the client address
   */
  readonly identitySource?: string[];
}

/**
 * An authorizer for routes of an HTTP API. It verifies the access token (`Authorization: Bearer …`) and reads its
 * session and user. The integration of the route receives the caller in `requestContext.authorizer.lambda`
 * (docs/authorizer.md).
 */
export class DoorwardAuthorizer extends Construct implements IHttpRouteAuthorizer {
  readonly authorizationType: string;
  private readonly authorizer: HttpLambdaAuthorizer;

  constructor(scope: Construct, id: string, props: DoorwardAuthorizerProps) {
    super(scope, id);
    const cacheTtl = props.cacheTtl ?? Duration.seconds(0);
    const token = "$request.header.Authorization";
    const cacheKey = [
      token,
      "$context.identity.sourceIp",
      ...(props.trustedProxies ? ["$request.header.X-Forwarded-For"] : []),
    ];
    const isCached = cacheTtl.toSeconds() > 0;
    const identitySource = props.identitySource ?? (isCached ? cacheKey : [token]);
    if (isCached && props.trustedProxies === undefined)
      throw new Error(
        "cacheTtl needs trustedProxies: pass true if a tenant's policy has trusted_proxies, otherwise false",
      );
    const missing = cacheKey.filter((source) => !identitySource.includes(source));
    if (isCached && missing.length > 0)
      throw new Error(`identitySource lacks ${missing.join(", ")}; add them, or set cacheTtl to 0`);
    // `sameEnvironment` lets CDK add the permission to invoke the function.
    const authorize = Function.fromFunctionAttributes(this, "Authorize", {
      functionArn: props.functionArn,
      sameEnvironment: true,
    });
    this.authorizer = new HttpLambdaAuthorizer("DoorwardAuthorizer", authorize, {
      authorizerName: "doorward",
      responseTypes: [HttpLambdaResponseType.SIMPLE],
      identitySource,
      resultsCacheTtl: cacheTtl,
    });
    this.authorizationType = this.authorizer.authorizationType;
  }

  get authorizerId(): string {
    return this.authorizer.authorizerId;
  }

  bind(options: HttpRouteAuthorizerBindOptions): HttpRouteAuthorizerConfig {
    return this.authorizer.bind(options);
  }
}
