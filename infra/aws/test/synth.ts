// Synthesizes stacks for tests: from settings, with placeholder code, without AWS.

import { join } from "node:path";
import { Template } from "aws-cdk-lib/assertions";
import { Code } from "aws-cdk-lib/aws-lambda";
import type { App } from "aws-cdk-lib";
import { newApp } from "../src/app";
import { DoorwardStack, parseSettings } from "../src";
import { repository } from "../src/source";

// Untyped CloudFormation JSON.
export type Json = any;

/** One resource of a template. */
export interface Resource {
  readonly id: string;
  readonly Type: string;
  readonly Properties: Json;
  readonly DeletionPolicy?: string;
  readonly DependsOn?: string[];
}

/** Settings with as many non-default values as possible, to cover most of the code. */
export const EVERYTHING = {
  stackName: "login",
  architecture: "x86_64",
  domain: {
    name: "login.example.com",
    certificateArn: "arn:aws:acm:eu-central-1:123456789012:certificate/1",
    hostedZone: { id: "Z0123456789ABC", name: "example.com" },
  },
  secretPrefix: "login/tenants/",
  mailIdentities: ["acme.example"],
  textMessages: true,
  eventBusArns: ["arn:aws:events:eu-central-1:123456789012:event-bus/acme"],
  alarmEmail: "ops@example.com",
  tracing: "xray",
  encryption: "aws-managed",
  replicas: ["eu-west-1"],
} as const;

/** A synthesized stack. */
export class Synthesized {
  readonly app: App;
  readonly stack: DoorwardStack;
  private readonly template: Json;

  constructor(settings: object = {}) {
    this.app = newApp();
    this.stack = new DoorwardStack(this.app, "doorward", {
      settings: parseSettings({ mailFrom: "login@example.com", ...settings }),
      code: () => Code.fromAsset(join(repository, "infra", "aws", "test", "placeholder")),
      env: { region: "eu-central-1" },
    });
    this.template = Template.fromStack(this.stack).toJSON();
  }

  /** Returns the resources of a type. */
  all(type: string): Resource[] {
    return Object.entries<Json>(this.template.Resources)
      .filter(([, resource]) => resource.Type === type)
      .map(([id, resource]) => ({ id, ...resource }));
  }

  /** Returns the only resource of a type. Throws if there is not exactly one. */
  one(type: string): Resource {
    const [found, ...others] = this.all(type);
    if (found === undefined || others.length > 0)
      throw new Error(`expected one ${type}, found ${others.length + (found ? 1 : 0)}`);
    return found;
  }

  resource(id: string): Resource {
    return { id, ...this.template.Resources[id] };
  }

  get outputs(): Record<string, Json> {
    return this.template.Outputs;
  }

  get text(): string {
    return JSON.stringify(this.template);
  }

  /** Returns the functions by their names in the route table. */
  functions(): Map<string, Resource> {
    const prefix = `${this.one("AWS::ApiGatewayV2::Api").Properties.Name}-`;
    return new Map(
      this.all("AWS::Lambda::Function").map((made) => [
        String(made.Properties.FunctionName).slice(prefix.length),
        made,
      ]),
    );
  }

  /** Returns the route table name of the function that a reference points to. */
  functionOf(reference: Json): string {
    const id = reference["Fn::GetAtt"]?.[0] ?? reference.Ref;
    for (const [name, made] of this.functions()) if (made.id === id) return name;
    throw new Error(`${JSON.stringify(reference)} does not refer to a function`);
  }
}
