import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Duration, Stack } from "aws-cdk-lib";
import { HttpApi, HttpMethod } from "aws-cdk-lib/aws-apigatewayv2";
import { HttpUrlIntegration } from "aws-cdk-lib/aws-apigatewayv2-integrations";
import { Template } from "aws-cdk-lib/assertions";
import { ExampleStack } from "../example/stack";
import { DoorwardAuthorizer, type DoorwardAuthorizerProps } from "../src";
import { newApp } from "../src/app";
import type { Json } from "./synth";

const functionArn = "arn:aws:lambda:eu-central-1:123456789012:function:doorward-authorize";

function resources(props: Partial<DoorwardAuthorizerProps> = {}): Json[] {
  const stack = new Stack(newApp(), "orders");
  const api = new HttpApi(stack, "Api");
  const authorizer = new DoorwardAuthorizer(stack, "Authorizer", { functionArn, ...props });
  for (const path of ["/orders", "/orders/{id}"]) {
    api.addRoutes({
      path,
      methods: [HttpMethod.GET],
      integration: new HttpUrlIntegration(path, "https://a.example"),
      authorizer,
    });
  }
  return Object.entries<Json>(Template.fromStack(stack).toJSON()["Resources"]).map(([id, resource]) => ({
    id,
    ...resource,
  }));
}

const of = (all: Json[], type: string) => all.filter(({ Type }) => Type === type);

describe("the authorizer", () => {
  it("checks every call and uses only the token as identity source by default", () => {
    const all = resources();
    const [made, ...others] = of(all, "AWS::ApiGatewayV2::Authorizer");
    assert.deepEqual(others, []);
    const { AuthorizerUri, ApiId, ...rest } = made.Properties;
    assert.deepEqual(rest, {
      AuthorizerType: "REQUEST",
      AuthorizerPayloadFormatVersion: "2.0",
      AuthorizerResultTtlInSeconds: 0,
      EnableSimpleResponses: true,
      IdentitySource: ["$request.header.Authorization"],
      Name: "doorward",
    });
    assert.ok(JSON.stringify(AuthorizerUri).includes(functionArn));
    const routes = of(all, "AWS::ApiGatewayV2::Route");
    assert.equal(routes.length, 2);
    for (const { Properties } of routes) {
      assert.deepEqual([Properties.AuthorizationType, Properties.AuthorizerId], ["CUSTOM", { Ref: made.id }]);
    }
  });

  it("can be invoked only by the authorizer of that API", () => {
    const all = resources();
    const [allowed, ...others] = of(all, "AWS::Lambda::Permission");
    assert.deepEqual(others, []);
    assert.deepEqual(
      [allowed.Properties.FunctionName, allowed.Properties.Principal],
      [functionArn, "apigateway.amazonaws.com"],
    );
    const [made] = of(all, "AWS::ApiGatewayV2::Authorizer");
    const source = JSON.stringify(allowed.Properties.SourceArn);
    assert.ok(
      source.includes(`/authorizers/",{"Ref":"${made.id}"}`) && source.includes(made.Properties.ApiId.Ref),
    );
  });

  it("caches by token and client address if cacheTtl is set", () => {
    const [{ Properties }] = of(
      resources({ cacheTtl: Duration.seconds(30), trustedProxies: false }),
      "AWS::ApiGatewayV2::Authorizer",
    ) as [Json];
    assert.equal(Properties.AuthorizerResultTtlInSeconds, 30);
    assert.deepEqual(Properties.IdentitySource, [
      "$request.header.Authorization",
      "$context.identity.sourceIp",
    ]);
  });

  it("caches by the forwarded address too if tenants have trusted proxies", () => {
    const [{ Properties }] = of(
      resources({ cacheTtl: Duration.seconds(30), trustedProxies: true }),
      "AWS::ApiGatewayV2::Authorizer",
    ) as [Json];
    assert.deepEqual(Properties.IdentitySource, [
      "$request.header.Authorization",
      "$context.identity.sourceIp",
      "$request.header.X-Forwarded-For",
    ]);
  });

  it("rejects a cache whose key may lack the client address", () => {
    const cacheTtl = Duration.seconds(30);
    assert.throws(() => resources({ cacheTtl }), /cacheTtl needs trustedProxies/);
    const identitySource = ["$request.header.Authorization", "$context.identity.sourceIp"];
    assert.throws(
      () => resources({ cacheTtl, trustedProxies: true, identitySource }),
      /identitySource lacks \$request\.header\.X-Forwarded-For/,
    );
  });
});

describe("the examples", () => {
  const stack = new ExampleStack(newApp(), "example", {
    authorizerArn: functionArn,
    publicUrl: "https://login.example.com",
    tenant: "acme",
  });
  const all = Object.values<Json>(Template.fromStack(stack).toJSON()["Resources"]);

  it("require a session in one API and a token in the other", () => {
    const authorizers = of(all, "AWS::ApiGatewayV2::Authorizer").map(({ Properties }) => Properties);
    const [session, token] = [...authorizers].sort((a, b) => (a.AuthorizerType > b.AuthorizerType ? -1 : 1));
    assert.equal(session.AuthorizerType, "REQUEST");
    assert.deepEqual(token.JwtConfiguration, {
      Audience: ["bff-clients"],
      Issuer: "https://login.example.com/tenants/acme",
    });
    for (const { Properties } of of(all, "AWS::ApiGatewayV2::Route"))
      assert.notEqual(Properties.AuthorizationType, "NONE");
  });
});
