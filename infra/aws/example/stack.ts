// Two example APIs that require a login: one checks the session, the other checks only the token.

import { CfnOutput, Fn, Stack, type StackProps } from "aws-cdk-lib";
import { HttpApi, HttpMethod, type IHttpRouteAuthorizer } from "aws-cdk-lib/aws-apigatewayv2";
import { HttpJwtAuthorizer } from "aws-cdk-lib/aws-apigatewayv2-authorizers";
import { HttpLambdaIntegration } from "aws-cdk-lib/aws-apigatewayv2-integrations";
import { Code, Function, Runtime } from "aws-cdk-lib/aws-lambda";
import type { Construct } from "constructs";
import { DoorwardAuthorizer } from "../src";

/** Properties of {@link ExampleStack}. */
export interface ExampleStackProps extends StackProps {
  /** The output `AuthorizerArn` of the Doorward stack. */
  readonly authorizerArn: string;
  /** The output `PublicUrl` of the Doorward stack. */
  readonly publicUrl: string;
  /** The tenant whose tokens API Gateway's JWT authorizer accepts. It must sign with RS256, the only supported algorithm. */
  readonly tenant: string;
}

/** The stack with both examples. */
export class ExampleStack extends Stack {
  constructor(scope: Construct, id: string, props: ExampleStackProps) {
    super(scope, id, props);

    // An example function. It returns the caller that the authorizer reported.
    const hello = new Function(this, "Hello", {
      runtime: Runtime.NODEJS_22_X,
      handler: "index.handler",
      code: Code.fromInline(
        "exports.handler = async ({ requestContext: { authorizer } }) => ({ hello: authorizer.lambda ?? authorizer.jwt.claims });",
      ),
    });

    // Checks the session: after a logout, the token is rejected. Costs one invocation and one read per request.
    this.api(
      "Sessions",
      hello,
      new DoorwardAuthorizer(this, "Authorizer", { functionArn: props.authorizerArn }),
    );

    // Checks only the token: it is accepted until it expires, even after a logout, a new password, or a disabled user
    // or tenant. Costs nothing and works while Doorward is unavailable.
    const issuer = Fn.join("/", [props.publicUrl, "tenants", props.tenant]);
    this.api("Tokens", hello, new HttpJwtAuthorizer("Tokens", issuer, { jwtAudience: ["bff-clients"] }));
  }

  private api(id: string, hello: Function, authorizer: IHttpRouteAuthorizer): void {
    const api = new HttpApi(this, id);
    api.addRoutes({
      path: "/hello",
      methods: [HttpMethod.GET],
      integration: new HttpLambdaIntegration(`${id}Hello`, hello),
      authorizer,
    });
    new CfnOutput(this, `${id}Url`, { value: `${api.apiEndpoint}/hello` });
  }
}
