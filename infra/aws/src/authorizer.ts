// For a team's own HTTP APIs: lets through who is logged in.

import { Duration } from "aws-cdk-lib";
import {
  type HttpRouteAuthorizerBindOptions,
  type HttpRouteAuthorizerConfig,
  type IHttpRouteAuthorizer,
} from "aws-cdk-lib/aws-apigatewayv2";
import { HttpLambdaAuthorizer, HttpLambdaResponseType } from "aws-cdk-lib/aws-apigatewayv2-authorizers";
import { Function } from "aws-cdk-lib/aws-lambda";
import { Construct } from "constructs";

/** What a {@link DoorwardAuthorizer} needs. */
export interface DoorwardAuthorizerProps {
  /** ARN of the function `authorize`, in the same account and Region: the output `AuthorizerArn` of Doorward's stack. */
  readonly functionArn: string;
  /**
   * How long API Gateway takes an answer for granted, for the same token: up to an hour. A token whose session ended
   * opens the API that much longer: a logout, a new password, a disabled user all take up to `cacheTtl`, a suspended
   * tenant up to `cacheTtl` and 5 s.
   *
   * With a cache, a look at the session costs nothing for repeated calls, and what is no identity source is looked at
   * only when the answer is not cached: so `X-Tenant-ID`, which must agree with the token. Behind a cache, take the
   * tenant from the authorizer's `tenantId` alone, never from that header.
   *
   * @default - 0 s: every call is looked at, and nothing that ended opens anything
   */
  readonly cacheTtl?: Duration;
  /**
   * What API Gateway caches by, and without which it answers 401 by itself.
   *
   * @default - the `Authorization` header, and with a cache the client's address, too
   */
  readonly identitySource?: string[];
}

/**
 * An authorizer for routes of an HTTP API: it takes the access token (`Authorization: Bearer …`), verifies it and reads
 * its session and user. What it knows of the caller reaches the API's integration as
 * `requestContext.authorizer.lambda` (docs/authorizer.md).
 */
export class DoorwardAuthorizer extends Construct implements IHttpRouteAuthorizer {
  readonly authorizationType: string;
  private readonly authorizer: HttpLambdaAuthorizer;

  constructor(scope: Construct, id: string, props: DoorwardAuthorizerProps) {
    super(scope, id);
    const cacheTtl = props.cacheTtl ?? Duration.seconds(0);
    const token = "$request.header.Authorization";
    const address = "$context.identity.sourceIp";
    // Told that it is of this account and Region, the function takes the permission to be called.
    const authorize = Function.fromFunctionAttributes(this, "Authorize", {
      functionArn: props.functionArn,
      sameEnvironment: true,
    });
    this.authorizer = new HttpLambdaAuthorizer("DoorwardAuthorizer", authorize, {
      authorizerName: "doorward",
      responseTypes: [HttpLambdaResponseType.SIMPLE],
      identitySource: props.identitySource ?? (cacheTtl.toSeconds() === 0 ? [token] : [token, address]),
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
