export { DoorwardAuthorizer, type DoorwardAuthorizerProps } from "./authorizer";
export { parseSettings, readSettings, type Settings, SettingsError } from "./settings";
export { DoorwardStack, type DoorwardStackProps } from "./stack";
