// Two APIs that let in who is logged in: one that looks at the session, one that looks at the token alone.

import { CfnOutput, Fn, Stack, type StackProps } from "aws-cdk-lib";
import { HttpApi, HttpMethod, type IHttpRouteAuthorizer } from "aws-cdk-lib/aws-apigatewayv2";
import { HttpJwtAuthorizer } from "aws-cdk-lib/aws-apigatewayv2-authorizers";
import { HttpLambdaIntegration } from "aws-cdk-lib/aws-apigatewayv2-integrations";
import { Code, Function, Runtime } from "aws-cdk-lib/aws-lambda";
import type { Construct } from "constructs";
import { DoorwardAuthorizer } from "../src";

/** Where Doorward is, and whose users the second API is for. */
export interface ExampleStackProps extends StackProps {
  /** Output `AuthorizerArn` of Doorward's stack. */
  readonly authorizerArn: string;
  /** Output `PublicUrl` of Doorward's stack. */
  readonly publicUrl: string;
  /** The tenant whose tokens API Gateway's own authorizer takes: one that signs with RS256, the only algorithm it knows. */
  readonly tenant: string;
}

/** The examples. */
export class ExampleStack extends Stack {
  constructor(scope: Construct, id: string, props: ExampleStackProps) {
    super(scope, id, props);

    // The team's own function. It answers with what it was told of the caller.
    const hello = new Function(this, "Hello", {
      runtime: Runtime.NODEJS_22_X,
      handler: "index.handler",
      code: Code.fromInline(
        "exports.handler = async ({ requestContext: { authorizer } }) => ({ hello: authorizer.lambda ?? authorizer.jwt.claims });",
      ),
    });

    // Sees logouts: after one, the token opens nothing any more. Costs a call and one read for each request.
    this.api(
      "Sessions",
      hello,
      new DoorwardAuthorizer(this, "Authorizer", { functionArn: props.authorizerArn }),
    );

    // Does not see logouts: a token opens this API until it expires, whatever became of its session, its user, its
    // password or its tenant. Costs nothing, and keeps working while Doorward does not.
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
